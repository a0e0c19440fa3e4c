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
    interval_bytes: u32,
    offset_entries: u32,
    time_entries: u32,
}

impl IndexLimits {
    pub(crate) fn from_config(config: &LogConfig) -> Self {
        let fitting = |size| config.segment_index_bytes / entries(size);
        Self {
            interval_bytes: config.index_interval_bytes,
            offset_entries: fitting(OffsetIndexEntry::SIZE),
            time_entries: fitting(TimeIndexEntry::SIZE),
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
        mut offsets: Vec<OffsetIndexEntry>,
        mut times: Vec<TimeIndexEntry>,
    ) -> Option<Self> {
        let ascending = offsets.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position)
            && times.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.offset <= b.offset);
        let greatest = times.last().copied();
        // Most partitions rest.
        offsets.shrink_to_fit();
        times.shrink_to_fit();
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
        if self.bytes_since_entry > u64::from(self.limits.interval_bytes) {
            if !self.is_offset_index_full() {
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

    fn is_offset_index_full(&self) -> bool {
        entries(self.offsets.len()) >= self.limits.offset_entries
    }

    fn is_time_index_full(&self) -> bool {
        entries(self.times.len() + 1) >= self.limits.time_entries
    }

    /// Whether the segment has to be rolled because no further entry fits.
    pub(crate) fn is_full(&self) -> bool {
        self.is_offset_index_full() || self.is_time_index_full()
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

/// A number of entries, or of their bytes, as limits are.
fn entries(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::builder::BatchBuilder;

    const LIMITS: IndexLimits = IndexLimits { interval_bytes: 0, offset_entries: 100, time_entries: 100 };

    fn batch(offset: Offset, timestamp: Timestamp) -> BatchHeader {
        BatchHeader::decode(&BatchBuilder::new().base_offset(offset).record(timestamp, None, None).build().unwrap())
            .unwrap()
    }

    /// An index with these entries of offset and position.
    fn offsets(entries: &[(Offset, u32)]) -> LiveIndex {
        let offsets = entries.iter().map(|&(offset, position)| OffsetIndexEntry { offset, position }).collect();
        LiveIndex::restore(0, LIMITS, offsets, Vec::new()).unwrap()
    }

    /// An index with these entries of time and offset, if they can be trusted.
    fn times(entries: &[(Timestamp, Offset)]) -> Option<LiveIndex> {
        let times = entries.iter().map(|&(timestamp, offset)| TimeIndexEntry { timestamp, offset }).collect();
        LiveIndex::restore(0, LIMITS, Vec::new(), times)
    }

    // M 120, 125
    #[test]
    fn look_up_finds_the_greatest_entry_at_or_below() {
        let index = offsets(&[(10, 5), (20, 15), (25, 30)]);
        let found = [0, 9, 10, 11, 19, 20, 24, 25, 900].map(|offset| index.lookup(offset).map(|entry| entry.position));
        let expected = [None, None, Some(5), Some(5), Some(5), Some(15), Some(15), Some(30), Some(30)];
        assert_eq!(found, expected);
        assert_eq!(index.last_entry().map(|entry| entry.offset), Some(25));
        assert_eq!(offsets(&[]).lookup(7), None);
    }

    // M 122
    #[test]
    fn upper_bound_is_the_first_entry_at_or_behind_a_position() {
        let index = offsets(&[(0, 0), (1, 10), (2, 23), (3, 37)]);
        let cases = [(0, 5, Some(1)), (0, 10, Some(1)), (0, 22, Some(2)), (0, 23, Some(2)), (10, 24, Some(3))];
        for (position, size, expected) in cases {
            let found = index.upper_bound(position + size).map(|entry| entry.offset);
            assert_eq!(found, expected, "{size} bytes from {position}");
        }
        assert_eq!(index.upper_bound(38), None);
        assert_eq!(index.upper_bound(200), None);
        assert_eq!(offsets(&[]).upper_bound(1), None);
    }

    // M 123
    #[test]
    fn truncation_drops_what_lies_at_or_above_and_leaves_room() {
        let all: Vec<_> = (1..10).map(|n| (n, u32::try_from(n).unwrap())).collect();
        for (offset, left) in [(12, 9), (10, 9), (9, 8), (5, 4), (1, 0), (0, 0)] {
            let mut index = offsets(&all);
            index.truncate(offset);
            assert_eq!(index.entries().0, left, "to {offset}");
            // The bytes towards the next entry count from the cut.
            index.observe(&batch(20, 1), 100);
            index.observe(&batch(21, 1), 200);
            assert_eq!(index.last_entry(), Some(OffsetIndexEntry { offset: 21, position: 200 }));
        }
    }

    // M 121, 127
    #[test]
    fn full_index_takes_no_entry_but_the_last_time() {
        let limits = IndexLimits { offset_entries: 3, time_entries: 3, ..LIMITS };
        let mut index = LiveIndex::new(0, limits);
        for n in 0..10_u32 {
            assert_eq!(index.is_full(), n > 2, "before batch {n}, as one slot is kept for the last time");
            index.observe(&batch(i64::from(n), i64::from(n)), n * 100);
        }
        assert_eq!(index.entries(), (3, 2));
        index.seal();
        assert_eq!(index.entries(), (3, 3));
        assert_eq!(index.last_time_entry(), Some(TimeIndexEntry { timestamp: 9, offset: 9 }));
        index.seal();
        assert_eq!(index.entries(), (3, 3), "there is nothing newer to tell");
    }

    // M 121, 124, 128
    #[test]
    fn entries_that_do_not_ascend_are_not_trusted() {
        let restored = |entries: &[(Offset, u32)]| {
            let offsets = entries.iter().map(|&(offset, position)| OffsetIndexEntry { offset, position }).collect();
            LiveIndex::restore(5, LIMITS, offsets, Vec::new()).is_some()
        };
        assert!(restored(&[(5, 0)]), "the last offset may be the base");
        assert!(restored(&[(6, 0), (7, 70)]));
        for wrong in [[(7, 0), (7, 70)], [(7, 0), (6, 70)], [(6, 70), (7, 70)], [(6, 70), (7, 0)]] {
            assert!(!restored(&wrong), "{wrong:?}");
        }
        assert!(times(&[(1, 1), (2, 2), (3, 2)]).is_some());
        for wrong in [[(2, 1), (1, 2)], [(1, 2), (2, 1)], [(1, 1), (1, 2)]] {
            assert!(times(&wrong).is_none(), "{wrong:?}");
        }
        assert!(TimeIndexEntry::decode(&[0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff], 45).is_err());
    }

    // M 126
    #[test]
    fn look_up_by_time_finds_the_newest_entry_that_is_not_newer() {
        let index = times(&[(10, 40), (20, 50), (30, 60)]).unwrap();
        let found = [9, 10, 15, 20, 29, 30, 99].map(|time| index.lookup_time(time).map(|entry| entry.offset));
        assert_eq!(found, [None, Some(40), Some(40), Some(50), Some(50), Some(60), Some(60)]);
    }

    // M 127
    #[test]
    fn times_that_do_not_rise_get_no_entry() {
        let mut index = LiveIndex::new(0, LIMITS);
        for (n, timestamp) in [(0, 5), (1, 9), (2, 3), (3, 9), (4, 10), (5, 10)] {
            index.observe(&batch(n, timestamp), u32::try_from(n).unwrap() * 100);
        }
        index.seal();
        let entries: Vec<_> = index.times.iter().map(|entry| (entry.timestamp, entry.offset)).collect();
        assert_eq!(entries, [(9, 1), (10, 4)]);
        assert_eq!(index.greatest_timestamp(), Some(TimeIndexEntry { timestamp: 10, offset: 4 }));
    }
}
