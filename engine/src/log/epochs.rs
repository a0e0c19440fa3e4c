//! Which leader epoch begins at which offset.
//!
//! Pure: the log writes the checkpoint file. Keeps: epochs and start offsets both strictly ascend.

use crate::{
    format::{batch::BatchHeader, checkpoint::EpochEntry},
    types::{LeaderEpoch, Offset},
};
use std::sync::Arc;

/// The epochs of one partition (`LeaderEpochFileCache`). A clone costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EpochCache {
    entries: Arc<[EpochEntry]>,
}

impl EpochCache {
    /// Takes entries as a checkpoint holds them; those that conflict with later ones go.
    pub(crate) fn new(entries: impl IntoIterator<Item = EpochEntry>) -> Self {
        let mut kept: Vec<EpochEntry> = Vec::new();
        for entry in entries {
            if !last_covers(&kept, &entry) {
                kept.retain(|earlier| is_before(earlier, &entry));
                kept.push(entry);
            }
        }
        Self { entries: kept.into() }
    }

    pub(crate) fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Records that `epoch` begins at `start_offset`, and forgets what contradicts it; whether anything changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        let entry = EpochEntry { epoch, start_offset };
        if last_covers(&self.entries, &entry) {
            return false;
        }
        self.entries =
            self.entries.iter().filter(|earlier| is_before(earlier, &entry)).chain([&entry]).copied().collect();
        true
    }

    /// Takes note of a batch that recovery found: its epoch counts only if it is newer than the latest known
    /// (`LogSegment.recover`).
    pub(crate) fn observe(&mut self, header: &BatchHeader) {
        if let Some(epoch) = header.leader_epoch()
            && self.latest().is_none_or(|latest| epoch > latest)
        {
            self.assign(epoch, header.base_offset());
        }
    }

    /// These epochs, and of others those that are newer than the latest and do not begin before it.
    pub(crate) fn extended_by(mut self, others: &Self) -> Self {
        for entry in others.entries() {
            let is_later = |last: &EpochEntry| entry.epoch > last.epoch && entry.start_offset >= last.start_offset;
            if self.entries.last().is_none_or(is_later) {
                self.assign(entry.epoch, entry.start_offset);
            }
        }
        self
    }

    /// The largest epoch at or below the one asked for and where it ends, exclusive (`endOffsetFor`).
    pub(crate) fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest().filter(|_| epoch >= 0)?;
        if epoch == latest {
            return Some((epoch, log_end));
        }
        let next = self.entries.get(self.entries.partition_point(|entry| entry.epoch <= epoch))?;
        let floor = self.floor(epoch).map_or(epoch, |entry| entry.epoch);
        Some((floor, next.start_offset))
    }

    fn floor(&self, epoch: LeaderEpoch) -> Option<&EpochEntry> {
        self.entries.get(self.entries.partition_point(|entry| entry.epoch <= epoch).checked_sub(1)?)
    }

    /// The epoch that an offset belongs to; offsets past the end belong to the latest.
    pub(crate) fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let behind = self.entries.partition_point(|entry| entry.start_offset <= offset);
        self.entries.get(behind.checked_sub(1)?).map(|entry| entry.epoch)
    }

    /// The epoch of the first offset, if it is known to cover `log_start`.
    pub(crate) fn earliest_covering(&self, log_start: Offset) -> Option<LeaderEpoch> {
        self.entries.first().filter(|entry| entry.start_offset <= log_start).map(|entry| entry.epoch)
    }

    /// Forgets the epochs that begin at or above `end_offset`; whether there were any.
    pub(crate) fn truncate_from_end(&mut self, end_offset: Offset) -> bool {
        let is_below = |entry: &EpochEntry| entry.start_offset < end_offset;
        let changed = !self.entries.iter().all(is_below);
        if changed {
            self.entries = self.entries.iter().copied().filter(is_below).collect();
        }
        changed
    }

    /// Forgets the epochs that end at or below `start_offset`; the one that covers it begins there from now on.
    pub(crate) fn truncate_from_start(&mut self, start_offset: Offset) -> bool {
        let behind = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(covering) = behind.checked_sub(1) else {
            return false;
        };
        let changed = covering > 0 || self.entries.first().is_some_and(|entry| entry.start_offset != start_offset);
        if changed {
            let moved =
                |entry: &EpochEntry| EpochEntry { start_offset: entry.start_offset.max(start_offset), ..*entry };
            self.entries = self.entries.iter().skip(covering).map(moved).collect();
        }
        changed
    }
}

/// Whether the last of these is the entry's epoch, from where the entry begins or before.
fn last_covers(entries: &[EpochEntry], entry: &EpochEntry) -> bool {
    entries.last().is_some_and(|last| last.epoch == entry.epoch && entry.start_offset >= last.start_offset)
}

/// Whether an entry does not contradict a later one.
fn is_before(entry: &EpochEntry, later: &EpochEntry) -> bool {
    entry.epoch < later.epoch && entry.start_offset < later.start_offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(LeaderEpoch, Offset)]) -> EpochCache {
        EpochCache::new(entries.iter().map(|&(epoch, start_offset)| EpochEntry { epoch, start_offset }))
    }

    fn pairs(cache: &EpochCache) -> Vec<(LeaderEpoch, Offset)> {
        cache.entries().iter().map(|entry| (entry.epoch, entry.start_offset)).collect()
    }

    // M 160, 163, 164
    #[test]
    fn assign_forgets_what_contradicts_the_new_epoch() {
        assert_eq!(pairs(&cache(&[(2, 9), (3, 9)])), [(3, 9)]);
        assert_eq!(pairs(&cache(&[(1, 5), (2, 6), (1, 7)])), [(1, 7)]);
        assert_eq!(pairs(&cache(&[(2, 6), (3, 5)])), [(3, 5)]);
        let mut same = cache(&[(2, 6)]);
        assert!(!same.assign(2, 10) && !same.assign(2, 6));
        assert_eq!(pairs(&same), [(2, 6)]);
    }

    // M 159, 161, 162
    #[test]
    fn end_offset_is_the_start_of_the_next_epoch() {
        let epochs = cache(&[(0, 10), (2, 13), (4, 17)]);
        assert_eq!(epochs.end_offset_for(0, 20), Some((0, 13)));
        assert_eq!(epochs.end_offset_for(1, 20), Some((0, 13)));
        assert_eq!(epochs.end_offset_for(2, 20), Some((2, 17)));
        assert_eq!(epochs.end_offset_for(3, 20), Some((2, 17)));
        assert_eq!(epochs.end_offset_for(4, 20), Some((4, 20)));
        assert_eq!(epochs.end_offset_for(5, 20), None);
        assert_eq!(epochs.end_offset_for(-1, 20), None);
        assert_eq!(cache(&[]).end_offset_for(0, 20), None);
        let mut epochs = cache(&[(5, 11), (6, 12), (7, 13)]);
        assert_eq!(epochs.end_offset_for(4, 20), Some((4, 11)));
        assert!(epochs.assign(7, 12));
        assert_eq!(epochs.end_offset_for(5, 20), Some((5, 12)));
        assert_eq!(epochs.end_offset_for(6, 20), Some((5, 12)));
    }

    // M 165
    #[test]
    fn truncation_keeps_an_entry_over_the_log_start() {
        let full = cache(&[(2, 6), (3, 8), (4, 11)]);
        let end = |offset| {
            let mut copy = full.clone();
            let changed = copy.truncate_from_end(offset);
            assert_eq!(changed, copy != full);
            pairs(&copy)
        };
        let start = |offset| {
            let mut copy = full.clone();
            let changed = copy.truncate_from_start(offset);
            assert_eq!(changed, copy != full);
            pairs(&copy)
        };
        let all = [(2, 6), (3, 8), (4, 11)];
        assert_eq!(end(8), [(2, 6)]);
        assert_eq!(end(9), [(2, 6), (3, 8)]);
        assert_eq!(end(12), all);
        assert_eq!(start(8), [(3, 8), (4, 11)]);
        assert_eq!(start(9), [(3, 9), (4, 11)]);
        assert_eq!(start(15), [(4, 15)]);
        for unchanged in [6, 5, 0, -1] {
            assert_eq!(start(unchanged), all);
        }
    }

    // M 167: nobody asks for the epoch before or behind one.
    #[test]
    fn epoch_of_an_offset_is_the_last_that_began() {
        let epochs = cache(&[(0, 10), (1, 20), (5, 30)]);
        let found = [5, 10, 25, 20, 30, 50].map(|offset| epochs.epoch_for_offset(offset));
        assert_eq!(found, [None, Some(0), Some(1), Some(1), Some(5), Some(5)]);
    }
}
