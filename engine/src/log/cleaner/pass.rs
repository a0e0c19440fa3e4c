//! The long part of a cleaning, beside the log: reading sealed segments and writing outputs that nobody knows yet.
//!
//! Owns nothing of the log but what it took at the beginning, so it may run on any thread while the log goes on. Sealed
//! segments never change; if the log loses one of them meanwhile, the outputs are thrown away.

use super::{
    claim::Claim,
    group::{self, GroupLimits, SegmentSize},
    meter::Meter,
    offset_map::{KeyHash, OffsetMap, WARM_KEYS},
    options::{CleanerControl, CleanerOptions, CleanerProgress, CleanerStats},
    output::Output,
    rewriting::Filter,
    transactions::Transactions,
};
use crate::{
    config::LogConfig,
    format::{
        FormatError,
        batch::Batch,
        control::ControlType,
        index_entry::{AbortedTxn, OffsetIndexEntry, TimeIndexEntry},
        record::{Record, Records},
    },
    log::{LogError, producers::LastRecord, state::Segments},
    segment::{MAX_RELATIVE_OFFSET, Segment, SegmentError, Step},
    storage::{Storage, StorageError},
    types::{Offset, ProducerId, Timestamp},
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// A cleaning that was begun: everything that it needs of the log. See [`crate::Log::begin_cleaning`].
#[derive(Debug)]
pub struct Cleaning {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: Arc<Path>,
    pub(super) config: Arc<LogConfig>,
    /// The log as it was, with the active segment.
    pub(super) segments: Segments,
    pub(super) log_start: Offset,
    pub(super) first_dirty: Offset,
    pub(super) first_uncleanable: Offset,
    pub(super) last_records: HashMap<ProducerId, LastRecord>,
    pub(super) now_ms: Timestamp,
    pub(super) claim: Arc<Claim>,
}

/// Outputs of a cleaning, written and durable, to be put in the place of their sources by
/// [`crate::Log::finish_cleaning`]. Dropped, they are files that the next cleaning or open removes.
#[derive(Debug)]
pub struct Cleaned {
    pub(super) outputs: Vec<Output>,
    pub(super) stats: CleanerStats,
    pub(super) claim: Arc<Claim>,
}

impl Cleaned {
    /// What the cleaning did.
    #[must_use]
    pub fn stats(&self) -> &CleanerStats {
        &self.stats
    }
}

/// Whether the walk over a segment goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    On,
    Stop,
}

impl Cleaning {
    /// Reads the dirty part, then everything up to its end, and writes what stays into new segments. Takes the memory of
    /// the options, one batch decompressed and rebuilt, and until [`crate::Log::finish_cleaning`] disk space for
    /// everything that stays: unlike Kafka, which puts each group of segments in place before it writes the next.
    ///
    /// # Errors
    /// [`LogError::CleaningAborted`]; [`LogError::Segment`] when a batch is damaged, which unlike in Kafka never gets a
    /// right checksum by being rewritten; [`LogError::Storage`] and [`LogError::DiskFull`]. In every case the outputs
    /// are removed and the log is as it was.
    pub fn run(
        self,
        options: &CleanerOptions,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
    ) -> Result<Cleaned, LogError> {
        let mut outputs = Vec::new();
        let mut stats = CleanerStats::default();
        let mut meter = Meter::new(control, &self.claim, options.io_buffer_bytes);
        if let Err(error) = self.write_outputs(options, &mut meter, &mut stats, &mut outputs) {
            self.discard(&outputs);
            return Err(self.or_aborted(error));
        }
        Ok(Cleaned { outputs, stats, claim: self.claim })
    }

    /// A file that is not found because its segment left the log ends the cleaning as a change of the log does.
    fn or_aborted(&self, error: LogError) -> LogError {
        let not_found = match &error {
            LogError::Storage(error) | LogError::Segment(SegmentError::Storage(error)) => error.is_not_found(),
            _ => false,
        };
        if not_found && self.segments.iter().any(|segment| segment.is_detached()) {
            return LogError::CleaningAborted { why: "a segment has left the log" };
        }
        error
    }

    /// The first error is the one to report; what cannot be removed now is removed by the next cleaning.
    fn discard(&self, outputs: &[Output]) {
        let removed = self.claim.while_held(|| outputs.iter().try_for_each(|output| output.remove(&*self.storage)));
        drop(removed);
    }

    fn write_outputs(
        &self,
        options: &CleanerOptions,
        meter: &mut Meter<'_>,
        stats: &mut CleanerStats,
        outputs: &mut Vec<Output>,
    ) -> Result<(), LogError> {
        meter.report()?;
        let map = self.build_map(options, meter, stats)?;
        let end_offset = map.latest_offset().map_or(0, |latest| latest.saturating_add(1));
        stats.end_offset = end_offset;
        stats.map_entries = u64::try_from(map.len()).unwrap_or(u64::MAX);
        let sources = self.segments_between(Offset::MIN, end_offset);
        let sizes = sources.iter().map(|segment| size_of(segment)).collect::<Result<Vec<_>, LogError>>()?;
        let limits = GroupLimits {
            log_bytes: u64::from(self.config.segment_bytes),
            index_bytes: u64::from(self.config.segment_index_bytes),
            relative_offset: MAX_RELATIVE_OFFSET,
        };
        let mut filter = Filter::new(self, &map, options);
        let mut rest = sources.as_slice();
        for count in group::group(&sizes, limits, self.first_uncleanable) {
            let (group, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            rest = behind;
            filter.rewrite(group, meter, stats, outputs)?;
        }
        filter.sync()?;
        stats.segments_read = sources.len();
        stats.segments_written = outputs.len();
        meter.report()?;
        Ok(self.storage.sync_dir(&self.dir)?)
    }

    /// Sealed segments from the one that holds `from` to the last that begins below `to`.
    fn segments_between(&self, from: Offset, to: Offset) -> Vec<Arc<Segment>> {
        let first = self.segments.floor(from).or(self.segments.first()).map_or(0, |segment| segment.base_offset());
        self.segments.from(first).take_while(|segment| segment.base_offset() < to).map(Arc::clone).collect()
    }

    /// The aborted transactions that matter from a segment's base up to an offset
    /// (`LocalLog.collectAbortedTransactions`, which looks from the log start on).
    pub(super) fn aborted_txns(&self, base_offset: Offset, end: Offset) -> Result<Vec<AbortedTxn>, LogError> {
        let mut found = Vec::new();
        for segment in self.segments.from(base_offset) {
            if segment.txns()?.collect(self.log_start, end, &mut found) {
                break;
            }
        }
        Ok(found)
    }

    /// The last offsets of the keys in the dirty part, as far as they fit (`Cleaner.buildOffsetMap`).
    fn build_map(
        &self,
        options: &CleanerOptions,
        meter: &mut Meter<'_>,
        stats: &mut CleanerStats,
    ) -> Result<OffsetMap, LogError> {
        let records = u64::try_from(self.first_uncleanable.saturating_sub(self.first_dirty)).unwrap_or(0);
        let mut map = OffsetMap::new(options.dedupe_buffer_bytes, records, options.hash_seed)?;
        let dirty = self.segments_between(self.first_dirty, self.first_uncleanable);
        let mut transactions = Transactions::default();
        if let Some(first) = dirty.first() {
            transactions.add(self.aborted_txns(first.base_offset(), self.first_uncleanable)?);
        }
        let mut decompressed = Vec::new();
        for (index, segment) in dirty.iter().enumerate() {
            let _held = segment.hold()?;
            let end = dirty.get(index + 1).map_or(self.first_uncleanable, |next| next.base_offset());
            let start = segment.lookup_entry(self.first_dirty)?.map_or(0, |entry| u64::from(entry.position));
            let walked = self.walk(segment, start, options, &mut |position, batch| {
                let size = batch.header().size();
                meter.read(size)?;
                let corrupt = |error| corrupt(segment, position, error);
                let full = self
                    .map_batch(batch, &mut map, &mut transactions, (options, &mut decompressed), stats)
                    .map_err(corrupt)?;
                if full == Walk::On {
                    stats.map_bytes_read = stats.map_bytes_read.saturating_add(u64::try_from(size).unwrap_or(u64::MAX));
                }
                Ok(full)
            })?;
            if walked == Walk::Stop {
                return Ok(map);
            }
            // Offsets without a record at the end of a segment must not hold the next cleaning back.
            map.cover(end.saturating_sub(1));
        }
        Ok(map)
    }

    /// Puts the keys of one batch into the map; stops when it is full.
    fn map_batch(
        &self,
        batch: &Batch<'_>,
        map: &mut OffsetMap,
        transactions: &mut Transactions,
        (options, decompressed): (&CleanerOptions, &mut Vec<u8>),
        stats: &mut CleanerStats,
    ) -> Result<Walk, FormatError> {
        let header = batch.header();
        if header.attributes().is_control() {
            transactions.on_control_batch(header, control_type(batch, options, decompressed)?);
            stats.map_messages_read += 1;
        } else if transactions.on_batch(header) {
            stats.map_messages_read += count_of(batch);
        } else {
            let records = hashed(map, batch.records(decompressed, options.max_decompressed_bytes)?)?;
            for records in records.chunks(WARM_KEYS) {
                map.warm(records.iter().filter_map(|(_, key)| *key));
                for (record, key) in records {
                    if let Some(key) = *key
                        && record.offset() >= self.first_dirty
                        && !map.put(key, record.offset())
                    {
                        return Ok(Walk::Stop);
                    }
                    stats.map_messages_read += 1;
                }
            }
        }
        if header.last_offset() >= self.first_dirty {
            map.cover(header.last_offset());
        }
        Ok(Walk::On)
    }

    /// Shows every batch of a segment from a position on.
    pub(super) fn walk(
        &self,
        segment: &Segment,
        from: u64,
        options: &CleanerOptions,
        see: &mut dyn FnMut(u64, &Batch<'_>) -> Result<Walk, LogError>,
    ) -> Result<Walk, LogError> {
        let log = segment.log()?;
        let failed =
            |error| LogError::from(SegmentError::from(StorageError::new("read", &segment.files().log(), error)));
        let mut scanner = segment.scanner(&log, from, segment.size(), options.io_buffer_bytes.max(1));
        loop {
            match scanner.step().map_err(failed)? {
                Step::End => return Ok(Walk::On),
                Step::Damaged(damage) => return Err(segment.corrupt(scanner.position(), damage).into()),
                Step::Batch(position, header) => {
                    let batch = scanner.batch(position, &header).map_err(failed)?;
                    let batch = batch.map_err(|error| corrupt(segment, position, error))?;
                    if see(position, &batch)? == Walk::Stop {
                        return Ok(Walk::Stop);
                    }
                }
            }
        }
    }
}

/// Records with the hashes of their keys.
pub(super) fn hashed<'a>(
    map: &OffsetMap,
    records: Records<'a>,
) -> Result<Vec<(Record<'a>, Option<KeyHash>)>, FormatError> {
    let hashed = |record: Record<'a>| {
        let key = record.key().map(|key| map.hash(key));
        (record, key)
    };
    records.map(|record| record.map(hashed)).collect()
}

pub(super) fn corrupt(segment: &Segment, position: u64, error: FormatError) -> LogError {
    segment.corrupt(position, error.into()).into()
}

/// Type of the record in a control batch; `None` when it was cleaned away.
pub(super) fn control_type(
    batch: &Batch<'_>,
    options: &CleanerOptions,
    decompressed: &mut Vec<u8>,
) -> Result<Option<ControlType>, FormatError> {
    let Some(record) = batch.records(decompressed, options.max_decompressed_bytes)?.next() else {
        return Ok(None);
    };
    ControlType::decode(record?.key().unwrap_or_default()).map(Some)
}

pub(super) fn count_of(batch: &Batch<'_>) -> u64 {
    u64::try_from(batch.header().records_count()).unwrap_or(0)
}

fn size_of(segment: &Segment) -> Result<SegmentSize, LogError> {
    let _held = segment.hold()?;
    let (offsets, times, _) = segment.index_entries()?;
    let bytes = |entries: usize, size: usize| u64::try_from(entries.saturating_mul(size)).unwrap_or(u64::MAX);
    Ok(SegmentSize {
        base_offset: segment.base_offset(),
        log_bytes: segment.size(),
        offset_index_bytes: bytes(offsets, OffsetIndexEntry::SIZE),
        time_index_bytes: bytes(times, TimeIndexEntry::SIZE),
    })
}
