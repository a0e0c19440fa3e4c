//! What the files of a partition directory mean before any of them is read.
//!
//! Pure: from a listing to what is removed, what is renamed, and which segments there are. Follows
//! `LogLoader.removeTempFilesAndCollectSwapFiles` and what it is called from.

use crate::{
    format::names::{self, FileName, SegmentFile, Suffix},
    storage::{Entry, EntryKind},
    types::Offset,
};
use std::collections::{BTreeMap, BTreeSet};

/// A segment that has a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SegmentFound {
    pub(super) log_bytes: u64,
    pub(super) has_offset_index: bool,
    pub(super) has_time_index: bool,
    pub(super) has_txn_index: bool,
}

/// What a directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// Leftovers that are removed: retired files, unfinished outputs, indexes without a log.
    pub(super) remove: Vec<String>,
    /// Complete outputs of a swap that has to be finished: their base offsets, and bytes.
    pub(super) swapped_logs: BTreeMap<Offset, u64>,
    /// All files of a swap, by their final names.
    pub(super) swapped_files: Vec<String>,
    /// Segments by base offset.
    pub(super) segments: BTreeMap<Offset, SegmentFound>,
    /// Producer snapshots.
    pub(super) snapshots: BTreeSet<Offset>,
    pub(super) has_epochs: bool,
    pub(super) has_metadata: bool,
    /// What is not ours.
    pub(super) foreign: Vec<String>,
}

/// Sorts out a listing.
pub(super) fn sort_out(entries: &[Entry]) -> Listing {
    let mut listing = Listing::default();
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.name.to_string_lossy().into_owned();
        match (entry.kind, FileName::parse(&name)) {
            (EntryKind::File, FileName::Segment { file, offset, suffix }) => {
                found.push((name, file, offset, suffix, entry.len));
            }
            (EntryKind::File, FileName::LeaderEpochCheckpoint) => listing.has_epochs = true,
            (EntryKind::File, FileName::PartitionMetadata) => listing.has_metadata = true,
            (EntryKind::File, FileName::Temporary) => listing.remove.push(name),
            _ => listing.foreign.push(name),
        }
    }
    // While an unfinished output is left, outputs at or above it are not complete: the originals still are.
    let unfinished = found.iter().filter(|file| file.3 == Suffix::Cleaned).map(|file| file.2).min();
    for (name, file, offset, suffix, len) in found {
        match suffix {
            Suffix::Deleted | Suffix::Cleaned => listing.remove.push(name),
            Suffix::Swap if unfinished.is_some_and(|unfinished| offset >= unfinished) => listing.remove.push(name),
            Suffix::Swap => {
                if file == SegmentFile::Log {
                    listing.swapped_logs.insert(offset, len);
                }
                listing.swapped_files.push(name.trim_end_matches(Suffix::Swap.text()).to_owned());
            }
            Suffix::None => listing.take(file, offset, len),
        }
    }
    listing.remove_orphans();
    listing
}

impl Listing {
    fn take(&mut self, file: SegmentFile, offset: Offset, len: u64) {
        if file == SegmentFile::Snapshot {
            self.snapshots.insert(offset);
            return;
        }
        let segment = self.segments.entry(offset).or_insert(SegmentFound { log_bytes: u64::MAX, ..Default::default() });
        match file {
            SegmentFile::Log => segment.log_bytes = len,
            SegmentFile::OffsetIndex => segment.has_offset_index = true,
            SegmentFile::TimeIndex => segment.has_time_index = true,
            SegmentFile::TxnIndex => segment.has_txn_index = true,
            SegmentFile::Snapshot => {}
        }
    }

    /// Indexes without a log belong to nothing, unless a swap is about to bring the log.
    fn remove_orphans(&mut self) {
        let orphans: Vec<_> = self.segments.iter().filter(|(_, found)| found.log_bytes == u64::MAX).collect();
        let mut bases = Vec::new();
        for (base_offset, found) in orphans {
            bases.push(*base_offset);
            let kinds = [
                (found.has_offset_index, SegmentFile::OffsetIndex),
                (found.has_time_index, SegmentFile::TimeIndex),
                (found.has_txn_index, SegmentFile::TxnIndex),
            ];
            for (_, file) in kinds.into_iter().filter(|(present, _)| *present) {
                self.remove.push(names::segment_file(file, *base_offset));
            }
        }
        for base_offset in bases {
            self.segments.remove(&base_offset);
        }
    }

    /// Name of an output that takes no place: the first part of a split segment, if no batch is in it. It stands for the
    /// offsets of its source, and goes after it.
    pub(super) fn empty_part(&self) -> Option<String> {
        let (base_offset, bytes) = self.swapped_logs.first_key_value()?;
        let is_part =
            |name: &String| matches!(FileName::parse(name), FileName::Segment { offset, .. } if offset == *base_offset);
        let is_alone = self.swapped_files.iter().filter(|name| is_part(name)).count() == 1;
        (*bytes == 0 && is_alone && self.swapped_logs.len() > 1).then(|| names::log(*base_offset))
    }

    /// Names of the files that a finished swap replaces: those whose number lies in the offsets of its outputs, `first`
    /// inclusive to `end` exclusive.
    pub(super) fn replaced_by_swap(&self, entries: &[Entry], first: Offset, end: Offset) -> Vec<String> {
        let names = entries.iter().map(|entry| entry.name.to_string_lossy().into_owned());
        names
            .filter(|name| match FileName::parse(name) {
                FileName::Segment { offset, suffix: Suffix::None, .. } => (first..end).contains(&offset),
                _ => false,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn entries(names: &[&str]) -> Vec<Entry> {
        let entry = |name: &&str| Entry { name: OsString::from(name), kind: EntryKind::File, len: 1, modified_ms: 0 };
        names.iter().map(entry).collect()
    }

    // M 201
    #[test]
    fn unfinished_output_undoes_the_swaps_above_it() {
        let listing = sort_out(&entries(&[
            "00000000000000000000.log",
            "00000000000000000005.log.cleaned",
            "00000000000000000005.log.swap",
            "00000000000000000009.index.swap",
            "00000000000000000000.log.swap",
        ]));
        assert!(listing.swapped_logs.keys().eq(&[0]));
        assert_eq!(listing.remove.len(), 3);
    }

    // M 96
    #[test]
    fn empty_output_before_another_takes_no_place_unless_it_has_an_index() {
        let listed = |names: &[&str], bytes: u64| {
            let mut entries = entries(names);
            if let Some(first) = entries.first_mut() {
                first.len = bytes;
            }
            sort_out(&entries).empty_part()
        };
        let (empty, index) = ("00000000000000000000.log.swap", "00000000000000000000.index.swap");
        let other = "00000000000000000009.log.swap";
        assert_eq!(listed(&[empty, other], 0).as_deref(), Some("00000000000000000000.log"));
        assert_eq!(listed(&[empty, other], 1), None);
        assert_eq!(listed(&[empty, other, index], 0), None);
        assert_eq!(listed(&[empty], 0), None);
    }

    #[test]
    fn foreign_files_are_left_alone_and_orphan_indexes_go() {
        let listing = sort_out(&entries(&["notes.txt", "abc.log", "00000000000000000007.index"]));
        assert_eq!(listing.foreign, ["notes.txt", "abc.log"]);
        assert_eq!(listing.remove, ["00000000000000000007.index"]);
        assert!(listing.segments.is_empty());
    }

    #[test]
    fn links_and_directories_with_our_names_are_foreign() {
        let mut entries = entries(&["00000000000000000000.log"]);
        if let Some(entry) = entries.first_mut() {
            entry.kind = EntryKind::Other;
        }
        assert_eq!(sort_out(&entries).foreign.len(), 1);
    }
}
