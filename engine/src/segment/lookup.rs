//! Finding batches and records in one segment by offset and by time.

use super::{LOOKUP_BYTES, Segment, SegmentError, Step, lock};
use crate::{
    format::{
        batch::BatchHeader,
        index_entry::{OffsetIndexEntry, TimeIndexEntry},
    },
    storage::File,
    types::{LeaderEpoch, Offset, Timestamp},
};

/// Most bytes that the records of one batch may decompress to during a look-up by time.
const DECOMPRESSED_BYTES: u64 = 256 << 20;

/// A batch found.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTime {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp in ms.
    pub timestamp: Timestamp,
    /// The epoch of the leader that wrote its batch.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl Segment {
    /// The first batch whose last offset is at or above `target`; `None` if all lie below
    /// (`LogSegment.translateOffset`).
    pub(crate) fn locate(&self, target: Offset) -> Result<Option<Located>, SegmentError> {
        let log = self.log()?;
        if let Some(entry) = self.lookup_entry(target)? {
            match self.first_batch(&log, u64::from(entry.position), |header| header.last_offset() >= target)? {
                Landing::At(entry_offset, found) if entry_offset == entry.offset => return Ok(found),
                _ => {
                    self.distrust_index()?;
                    return self.locate_trusted(&log, target);
                }
            }
        }
        self.scan_for(&log, 0, |header| header.last_offset() >= target)
    }

    /// As `locate`, by indexes that were just made from the log.
    fn locate_trusted(&self, log: &File, target: Offset) -> Result<Option<Located>, SegmentError> {
        let from = self.lookup_entry(target)?.map_or(0, |entry| u64::from(entry.position));
        self.scan_for(log, from, |header| header.last_offset() >= target)
    }

    /// Looks from an index entry's position on; tells the last offset of the batch that the entry points at.
    fn first_batch(
        &self,
        log: &File,
        from: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Landing, SegmentError> {
        let mut scanner = self.scanner(log, from, self.size(), LOOKUP_BYTES);
        let mut landed_at = None;
        loop {
            match scanner.step().map_err(|error| self.log_error("read", error))? {
                Step::Batch(position, header) => {
                    let landed_at = *landed_at.get_or_insert(header.last_offset());
                    if wanted(&header) {
                        return Ok(Landing::At(landed_at, Some(Located { position, header })));
                    }
                }
                Step::End => return Ok(landed_at.map_or(Landing::Nowhere, |offset| Landing::At(offset, None))),
                Step::Damaged(_) if landed_at.is_none() => return Ok(Landing::Nowhere),
                Step::Damaged(damage) => return Err(self.corrupt(scanner.position(), damage)),
            }
        }
    }

    /// The first batch from byte `from` on, where a batch begins, that is `wanted`.
    pub(crate) fn scan_for(
        &self,
        log: &File,
        from: u64,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<Located>, SegmentError> {
        let mut scanner = self.scanner(log, from, self.size(), LOOKUP_BYTES);
        loop {
            match scanner.step().map_err(|error| self.log_error("read", error))? {
                Step::Batch(position, header) if wanted(&header) => return Ok(Some(Located { position, header })),
                Step::Batch(..) => {}
                Step::End => return Ok(None),
                Step::Damaged(damage) => return Err(self.corrupt(scanner.position(), damage)),
            }
        }
    }

    pub(crate) fn corrupt(&self, position: u64, damage: super::Damage) -> SegmentError {
        SegmentError::Corrupt { base_offset: self.base_offset(), position, damage }
    }

    /// The greatest timestamp in the segment, with the last offset of the earliest batch that has it.
    pub(crate) fn greatest_timestamp(&self) -> Result<Option<TimeIndexEntry>, SegmentError> {
        if let Some(known) = *lock(&self.greatest) {
            return Ok(Some(known));
        }
        let last = self.with_index(|live| Err(live.greatest_timestamp()), |sealed| Ok(sealed.last_time_entry()))?;
        let last = match last {
            Err(known) => return Ok(known),
            Ok(Some(last)) => last,
            Ok(None) => return Ok(None),
        };
        // A stale index lacks its end: look at what follows the batch of the last entry.
        match self.locate(last.offset)? {
            Some(found) if is_batch_of(&found, last) => {
                let log = self.log()?;
                let mut greatest = last;
                self.scan_for(&log, found.position, |header| {
                    if let Some(timestamp) = header.max_timestamp()
                        && timestamp > greatest.timestamp
                    {
                        greatest = TimeIndexEntry { timestamp, offset: header.last_offset() };
                    }
                    false
                })?;
                *lock(&self.greatest) = Some(greatest);
                Ok(Some(greatest))
            }
            _ => {
                self.distrust_index()?;
                self.with_index(|live| live.greatest_timestamp(), |sealed| sealed.last_time_entry())
            }
        }
    }

    /// The first record at or above `starting_offset` whose timestamp is at or above `timestamp`
    /// (`LogSegment.findOffsetByTimestamp`).
    pub(crate) fn find_by_timestamp(
        &self,
        timestamp: Timestamp,
        starting_offset: Offset,
    ) -> Result<Option<RecordTime>, SegmentError> {
        let from = self.time_floor(timestamp)?.map_or(starting_offset, |entry| entry.offset.max(starting_offset));
        self.first_wanted(
            from,
            |header| header.max_timestamp() >= Some(timestamp),
            |record| record.timestamp >= timestamp && record.offset >= starting_offset,
        )
    }

    /// The first record that carries the segment's greatest timestamp, in the first batch that does; `None` when
    /// compaction left that batch without it.
    pub(crate) fn find_greatest(&self, greatest: TimeIndexEntry) -> Result<Option<RecordTime>, SegmentError> {
        let log = self.log()?;
        let Some(found) = self.locate(greatest.offset)? else {
            return Ok(None);
        };
        self.record_in(&log, &found, |record| record.timestamp == greatest.timestamp, &mut Vec::new())
    }

    /// The first record, and the epoch of the leader that wrote it.
    pub(crate) fn first_record(&self) -> Result<Option<(Offset, Option<LeaderEpoch>)>, SegmentError> {
        let log = self.log()?;
        let Some(found) = self.scan_for(&log, 0, |header| header.records_count() > 0)? else {
            return Ok(None);
        };
        let corrupt = |error: crate::format::FormatError| self.corrupt(found.position, error.into());
        let mut scanner = self.scanner(&log, found.position, self.size(), LOOKUP_BYTES);
        let batch = scanner
            .batch(found.position, &found.header)
            .map_err(|error| self.log_error("read", error))?
            .map_err(corrupt)?;
        let mut scratch = Vec::new();
        let first =
            batch.records(&mut scratch, DECOMPRESSED_BYTES).map_err(corrupt)?.next().transpose().map_err(corrupt)?;
        Ok(first.map(|record| (record.offset(), found.header.leader_epoch())))
    }

    /// The time index entry below `timestamp`, checked against the batch that it names.
    fn time_floor(&self, timestamp: Timestamp) -> Result<Option<TimeIndexEntry>, SegmentError> {
        let Some(entry) = self.lookup_time_entry(timestamp)? else {
            return Ok(None);
        };
        if self.locate(entry.offset)?.is_some_and(|found| is_batch_of(&found, entry)) {
            return Ok(Some(entry));
        }
        self.distrust_index()?;
        self.lookup_time_entry(timestamp)
    }

    /// The first wanted record in the wanted batches from the batch of `from` on.
    fn first_wanted(
        &self,
        from: Offset,
        wanted_batch: impl Fn(&BatchHeader) -> bool,
        wanted: impl Fn(&RecordTime) -> bool,
    ) -> Result<Option<RecordTime>, SegmentError> {
        let log = self.log()?;
        let Some(start) = self.locate(from)? else {
            return Ok(None);
        };
        let mut position = start.position;
        let mut scratch = Vec::new();
        while let Some(found) = self.scan_for(&log, position, &wanted_batch)? {
            if let Some(record) = self.record_in(&log, &found, &wanted, &mut scratch)? {
                return Ok(Some(record));
            }
            position = found.position + u64::try_from(found.header.size()).unwrap_or(u64::MAX);
        }
        Ok(None)
    }

    fn record_in(
        &self,
        log: &File,
        found: &Located,
        wanted: impl Fn(&RecordTime) -> bool,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<RecordTime>, SegmentError> {
        let corrupt = |error: crate::format::FormatError| self.corrupt(found.position, error.into());
        let mut scanner = self.scanner(log, found.position, self.size(), LOOKUP_BYTES);
        let batch = scanner
            .batch(found.position, &found.header)
            .map_err(|error| self.log_error("read", error))?
            .map_err(corrupt)?;
        for record in batch.records(scratch, DECOMPRESSED_BYTES).map_err(corrupt)? {
            let record = record.map_err(corrupt)?;
            let Some(timestamp) = record.timestamp() else {
                continue;
            };
            let record = RecordTime { offset: record.offset(), timestamp, leader_epoch: found.header.leader_epoch() };
            if wanted(&record) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Prepares the segment for appending after a clean close: its index entries, if they fit the log, or new ones; and
    /// what lies behind the last of them. The result is where the last whole batch ends, and what follows it.
    pub(crate) fn activate(&self) -> Result<Tail, SegmentError> {
        let restored = self.restored_index()?;
        let (mut live, from) = match restored {
            Some((live, entry)) => (live, entry.map_or(0, |entry| u64::from(entry.position))),
            None => (self.empty_index(), 0),
        };
        let rebuilding = live.entries() == (0, 0);
        let log = self.log()?;
        let mut scanner =
            self.scanner(&log, from, self.size(), if rebuilding { super::SCAN_BYTES } else { LOOKUP_BYTES });
        let mut tail = Tail { position: from, next_offset: None, damage: None };
        loop {
            match scanner.step().map_err(|error| self.log_error("read", error))? {
                Step::Batch(position, header) => {
                    if rebuilding {
                        live.observe(&header, u32::try_from(position).unwrap_or(u32::MAX));
                    } else if let Some(timestamp) = header.max_timestamp() {
                        live.raise_greatest_timestamp(TimeIndexEntry { timestamp, offset: header.last_offset() });
                    }
                    tail.next_offset = Some(header.next_offset());
                    tail.position = scanner.position();
                }
                Step::End => break,
                Step::Damaged(damage) => {
                    tail.damage = Some(damage);
                    break;
                }
            }
        }
        if rebuilding {
            live.seal();
        }
        live.restart_interval();
        self.set_live_index(live);
        Ok(tail)
    }

    /// The index entries in the files, if the last of them points at its batch.
    fn restored_index(&self) -> Result<Option<Restored>, SegmentError> {
        let Some(live) = self.read_index_entries()? else {
            return Ok(None);
        };
        let Some(entry) = live.last_entry() else {
            return Ok((self.size() == 0 || live.last_time_entry().is_some()).then_some((live, None)));
        };
        let log = self.log()?;
        let landing = self.first_batch(&log, u64::from(entry.position), |_| true)?;
        let trusted = matches!(landing, Landing::At(offset, _) if offset == entry.offset);
        Ok(trusted.then_some((live, Some(entry))))
    }

    /// Raises the greatest timestamp of `live` to that of the batches behind its last entry, after a truncation.
    pub(crate) fn raise_from_tail(&self, live: &mut super::LiveIndex) -> Result<(), SegmentError> {
        let from = live.last_entry().map_or(0, |entry| u64::from(entry.position));
        let log = self.log()?;
        self.scan_for(&log, from, |header| {
            if let Some(timestamp) = header.max_timestamp() {
                live.raise_greatest_timestamp(TimeIndexEntry { timestamp, offset: header.last_offset() });
            }
            false
        })?;
        Ok(())
    }
}

type Restored = (super::LiveIndex, Option<OffsetIndexEntry>);

/// Where the log of a cleanly closed segment ends.
#[derive(Debug)]
pub(crate) struct Tail {
    /// End of the last whole batch.
    pub(crate) position: u64,
    /// The offset after it; `None` if there was no batch.
    pub(crate) next_offset: Option<Offset>,
    /// What follows, if not the end.
    pub(crate) damage: Option<super::Damage>,
}

/// What an index entry's position turned out to be.
enum Landing {
    /// A batch with this last offset; from it on, the batch that was wanted.
    At(Offset, Option<Located>),
    /// No batch begins there.
    Nowhere,
}

fn is_batch_of(found: &Located, entry: TimeIndexEntry) -> bool {
    found.header.last_offset() == entry.offset && found.header.max_timestamp() == Some(entry.timestamp)
}
