//! The second phase of a cleaning: every batch is read again, and what stays of it is written.

use super::{
    filter::{self, Emptied, RecordDecision, RecordFacts},
    meter::Meter,
    offset_map::{KeyHash, OffsetMap, WARM_KEYS},
    options::{CleanerOptions, CleanerStats},
    output::{Output, OutputWriter},
    pass::{Cleaning, Walk, control_type, corrupt, count_of, hashed},
    transactions::Transactions,
    unsynced::Unsynced,
};
use crate::{
    format::{FormatError, batch::Batch, record::Record, rewrite::KeptRecord},
    log::LogError,
    segment::Segment,
    storage::StorageError,
    types::{Offset, Timestamp},
};
use std::sync::Arc;

/// The second phase: what stays of each batch.
pub(super) struct Filter<'a> {
    pass: &'a Cleaning,
    map: &'a OffsetMap,
    options: &'a CleanerOptions,
    transactions: Transactions,
    decompressed: Vec<u8>,
    unsynced: Unsynced,
}

impl<'a> Filter<'a> {
    pub(super) fn new(pass: &'a Cleaning, map: &'a OffsetMap, options: &'a CleanerOptions) -> Self {
        let (transactions, unsynced) = (Transactions::default(), Unsynced::default());
        Self { pass, map, options, transactions, decompressed: Vec::new(), unsynced }
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        self.unsynced.sync(&*self.pass.storage)
    }

    /// Writes what stays of neighbouring segments into one new segment (`Cleaner.cleanSegments`).
    pub(super) fn rewrite(
        &mut self,
        sources: &[Arc<Segment>],
        meter: &mut Meter<'_>,
        stats: &mut CleanerStats,
        outputs: &mut Vec<Output>,
    ) -> Result<(), LogError> {
        let Some((first, last)) = sources.first().zip(sources.last()) else {
            return Ok(());
        };
        let pass = self.pass;
        let (mut writer, output) = pass.claim.while_held(|| {
            OutputWriter::create(
                &pass.storage,
                &pass.dir,
                first.base_offset(),
                &pass.config,
                self.options.io_buffer_bytes,
            )
        })?;
        outputs.push(Output { sources: sources.to_vec(), ..output });
        for (index, segment) in sources.iter().enumerate() {
            let _held = segment.hold()?;
            let end = match sources.get(index + 1) {
                Some(next) => next.base_offset(),
                None => next_offset(segment)?,
            };
            self.transactions.add(pass.aborted_txns(segment.base_offset(), end)?);
            pass.walk(segment, 0, self.options, &mut |position, batch| {
                meter.read(batch.header().size())?;
                batch.check_crc().map_err(|error| corrupt(segment, position, error))?;
                let before = writer.size();
                self.filter_batch(batch, &mut writer, stats).map_err(|failure| failure.at(segment, position))?;
                meter.wrote(writer.size().saturating_sub(before))?;
                Ok(Walk::On)
            })?;
        }
        let failed = |error| StorageError::new("read", &last.files().log(), error);
        let modified_ms = pass.storage.modified_ms(&*last.log()?).map_err(failed)?;
        let written = writer.finish(&pass.claim, self.transactions.take_retained(), modified_ms)?;
        if let Some(output) = outputs.last_mut() {
            (output.size, output.has_txns) = (written.size, written.has_txns);
        }
        self.unsynced.add(&*pass.storage, written.files)
    }

    fn filter_batch(
        &mut self,
        batch: &Batch<'_>,
        writer: &mut OutputWriter,
        stats: &mut CleanerStats,
    ) -> Result<(), Failure> {
        let header = batch.header();
        let size = u64::try_from(header.size()).unwrap_or(u64::MAX);
        let is_control = header.attributes().is_control();
        let discardable = if is_control {
            let control = control_type(batch, self.options, &mut self.decompressed)?;
            self.transactions.on_control_batch(header, control)
        } else {
            self.transactions.on_batch(header)
        };
        let last = header.producer().and_then(|producer| self.pass.last_records.get(&producer.id)).copied();
        let decision = filter::decide_batch(header, discardable, last, self.pass.first_uncleanable, self.pass.now_ms);
        stats.bytes_read += size;
        if decision.discard_records {
            let removed = if is_control { &mut stats.removed.markers } else { &mut stats.removed.aborted };
            removed.add(count_of(batch), header.size());
            if decision.emptied == Emptied::Retain {
                stats.messages_read += count_of(batch);
                stats.bytes_written += writer.write_empty(batch)?;
            }
            return Ok(());
        }
        let (map, now_ms) = (self.map, self.pass.now_ms);
        let mut kept = Vec::new();
        let (mut read, mut has_tombstone) = (0_u64, false);
        let records = hashed(map, batch.records(&mut self.decompressed, self.options.max_decompressed_bytes)?)?;
        for records in records.chunks(WARM_KEYS) {
            map.warm(records.iter().filter_map(|(_, key)| *key));
            for (record, key) in records {
                read += 1;
                if is_control || keeps(map, (record, *key), header.delete_horizon_ms(), now_ms, stats) {
                    has_tombstone |= record.value().is_none();
                    kept.push(KeptRecord::new(record));
                }
            }
        }
        stats.messages_read += read;
        let written = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        stats.messages_written += written;
        if kept.is_empty() {
            if decision.emptied == Emptied::Retain {
                stats.bytes_written += writer.write_empty(batch)?;
            }
            return Ok(());
        }
        let new_horizon = header.delete_horizon_ms().is_none() && (has_tombstone || decision.is_idle_marker);
        stats.bytes_written += if written == read && !new_horizon {
            writer.copy(batch)?
        } else {
            let retention_ms = i64::try_from(self.pass.config.delete_retention_ms).unwrap_or(i64::MAX);
            let horizon = header
                .delete_horizon_ms()
                .or_else(|| new_horizon.then(|| self.pass.now_ms.saturating_add(retention_ms)));
            writer.rebuild(batch, &kept, horizon)?
        };
        Ok(())
    }
}

/// Whether a record stays; records above what the map covers do.
fn keeps(
    map: &OffsetMap,
    (record, key): (&Record<'_>, Option<KeyHash>),
    delete_horizon_ms: Option<Timestamp>,
    now_ms: Timestamp,
    stats: &mut CleanerStats,
) -> bool {
    if map.latest_offset().is_none_or(|latest| record.offset() > latest) {
        return true;
    }
    let facts = RecordFacts {
        offset: record.offset(),
        last_of_key: key.map(|key| map.get(key)),
        is_tombstone: record.value().is_none(),
        delete_horizon_ms,
    };
    let decision = filter::decide_record(&facts, now_ms);
    let removed = &mut stats.removed;
    let removed = match decision {
        RecordDecision::Keep => return true,
        RecordDecision::Superseded => &mut removed.superseded,
        RecordDecision::ExpiredTombstone => &mut removed.tombstones,
        RecordDecision::Keyless => {
            stats.invalid_messages += 1;
            &mut removed.keyless
        }
    };
    removed.add(1, record.body().len());
    false
}

/// Why a batch could not be filtered: its bytes, or the disk.
#[derive(Debug)]
pub(super) enum Failure {
    Batch(FormatError),
    Log(LogError),
}

impl Failure {
    fn at(self, segment: &Segment, position: u64) -> LogError {
        match self {
            Self::Batch(error) => corrupt(segment, position, error),
            Self::Log(error) => error,
        }
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::Batch(error)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// The offset after the segment's last batch (`LogSegment.readNextOffset`).
fn next_offset(segment: &Segment) -> Result<Offset, LogError> {
    let log = segment.log()?;
    let from = segment.lookup_entry(Offset::MAX)?.map_or(0, |entry| u64::from(entry.position));
    let mut next = segment.base_offset();
    segment.scan_for(&log, from, |header| {
        next = header.next_offset();
        false
    })?;
    Ok(next)
}
