//! The offset and time index of one segment in memory, as they grow batch by batch.
//!
//! Decides where entries go (the same rule for appending, recovery and rebuilding, so a rebuilt index equals the live
//! one). Knows nothing of files.

use crate::{
    config::LogConfig,
    format::{
        FormatError,
        batch::BatchHeader,
        index_entry::{OffsetIndexEntry, TimeIndexEntry},
    },
    types::{Offset, Timestamp},
};

/// How often entries are made and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexLimits {
    interval_bytes: u64,
    offset_entries: usize,
    time_entries: usize,
}

impl IndexLimits {
    pub(crate) fn from_config(config: &LogConfig) -> Self {
        let bytes = usize::try_from(config.segment_index_bytes).unwrap_or(usize::MAX);
        Self {
            interval_bytes: u64::from(config.index_interval_bytes),
            offset_entries: bytes / OffsetIndexEntry::SIZE,
            time_entries: bytes / TimeIndexEntry::SIZE,
        }
    }
}

/// Both indexes of one segment.
#[derive(Debug, Clone)]
pub(crate) struct LiveIndex {
    base_offset: Offset,
    limits: IndexLimits,
    bytes_since_entry: u64,
    /// The greatest timestamp so far, with the last offset of the earliest batch that has it.
    greatest: Option<TimeIndexEntry>,
    offsets: Vec<OffsetIndexEntry>,
    times: Vec<TimeIndexEntry>,
}

impl LiveIndex {
    pub(crate) fn new(base_offset: Offset, limits: IndexLimits) -> Self {
        Self { base_offset, limits, bytes_since_entry: 0, greatest: None, offsets: Vec::new(), times: Vec::new() }
    }

    /// Entries that a clean close left behind, in order and within the segment, or `None` if they cannot be trusted.
    pub(crate) fn restore(
        base_offset: Offset,
        limits: IndexLimits,
        offsets: Vec<OffsetIndexEntry>,
        times: Vec<TimeIndexEntry>,
    ) -> Option<Self> {
        let ascending = offsets.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position)
            && times.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.offset <= b.offset);
        let greatest = times.last().copied();
        ascending.then_some(Self { base_offset, limits, bytes_since_entry: 0, greatest, offsets, times })
    }

    /// Takes note of the batch that starts at `position` (`LogSegment.append`): an entry is made when more than the
    /// interval lies between this batch and the last one with an entry, so the first batch never has one.
    pub(crate) fn observe(&mut self, batch: &BatchHeader, position: u32) {
        if let Some(timestamp) = batch.max_timestamp()
            && self.greatest.is_none_or(|greatest| timestamp > greatest.timestamp)
        {
            self.greatest = Some(TimeIndexEntry { timestamp, offset: batch.last_offset() });
        }
        if self.bytes_since_entry > self.limits.interval_bytes {
            if self.offsets.len() < self.limits.offset_entries {
                self.offsets.push(OffsetIndexEntry { offset: batch.last_offset(), position });
            }
            if !self.is_time_index_full() {
                self.push_time_entry();
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += u64::try_from(batch.size()).unwrap_or(u64::MAX);
    }

    /// Adds the last entry of the time index, for which a slot is reserved.
    pub(crate) fn seal(&mut self) {
        self.push_time_entry();
    }

    fn push_time_entry(&mut self) {
        if let Some(greatest) = self.greatest
            && self.times.last().is_none_or(|last| greatest.timestamp > last.timestamp)
        {
            self.times.push(greatest);
        }
    }

    fn is_time_index_full(&self) -> bool {
        self.times.len() + 1 >= self.limits.time_entries
    }

    /// Whether the segment has to be rolled because no further entry fits.
    pub(crate) fn is_full(&self) -> bool {
        self.offsets.len() >= self.limits.offset_entries || self.is_time_index_full()
    }

    pub(crate) fn greatest_timestamp(&self) -> Option<TimeIndexEntry> {
        self.greatest
    }

    /// Raises the greatest timestamp to what a scan behind the last entry found.
    pub(crate) fn raise_greatest_timestamp(&mut self, seen: TimeIndexEntry) {
        if self.greatest.is_none_or(|greatest| seen.timestamp > greatest.timestamp) {
            self.greatest = Some(seen);
        }
    }

    /// The entry with the largest offset at or below `target`.
    pub(crate) fn lookup(&self, target: Offset) -> Option<OffsetIndexEntry> {
        let behind = self.offsets.partition_point(|entry| entry.offset <= target);
        self.offsets.get(behind.checked_sub(1)?).copied()
    }

    /// The first entry whose position is at or above `position`; behind the first of all entries if that one's is equal,
    /// as in Kafka's binary search (`OffsetIndex.fetchUpperBoundOffset`).
    pub(crate) fn upper_bound(&self, position: u64) -> Option<OffsetIndexEntry> {
        let at = self.offsets.partition_point(|entry| u64::from(entry.position) < position);
        let is_first = at == 0 && self.offsets.first().is_some_and(|entry| u64::from(entry.position) == position);
        self.offsets.get(at + usize::from(is_first)).copied()
    }

    /// The entry with the largest timestamp at or below `timestamp`.
    pub(crate) fn lookup_time(&self, timestamp: Timestamp) -> Option<TimeIndexEntry> {
        let behind = self.times.partition_point(|entry| entry.timestamp <= timestamp);
        self.times.get(behind.checked_sub(1)?).copied()
    }

    pub(crate) fn last_entry(&self) -> Option<OffsetIndexEntry> {
        self.offsets.last().copied()
    }

    pub(crate) fn last_time_entry(&self) -> Option<TimeIndexEntry> {
        self.times.last().copied()
    }

    /// Entries of the offset and of the time index.
    pub(crate) fn entries(&self) -> (usize, usize) {
        (self.offsets.len(), self.times.len())
    }

    /// Starts counting towards the next entry anew, as Kafka does when it opens a log.
    pub(crate) fn restart_interval(&mut self) {
        self.bytes_since_entry = 0;
    }

    /// Drops every entry at or above `offset`; the greatest timestamp falls back to the last entry left.
    pub(crate) fn truncate(&mut self, offset: Offset) {
        self.offsets.truncate(self.offsets.partition_point(|entry| entry.offset < offset));
        self.times.truncate(self.times.partition_point(|entry| entry.offset < offset));
        self.greatest = self.times.last().copied();
        self.bytes_since_entry = 0;
    }

    /// The bytes of the `.index` file.
    pub(crate) fn encode_offsets(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::with_capacity(self.offsets.len() * OffsetIndexEntry::SIZE);
        for entry in &self.offsets {
            entry.encode(self.base_offset, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The bytes of the `.timeindex` file.
    pub(crate) fn encode_times(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::with_capacity(self.times.len() * TimeIndexEntry::SIZE);
        for entry in &self.times {
            entry.encode(self.base_offset, &mut bytes)?;
        }
        Ok(bytes)
    }
}
