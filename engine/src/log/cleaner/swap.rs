//! Putting the outputs of a cleaning in the place of their sources, one group of segments after the other, from the
//! oldest on.
//!
//! Everything in the outputs is durable, and so are their names. A directory entry is not durable before its directory
//! is synced, and until then changes of names survive power loss in any combination. So each step but the first begins
//! with the one before it on the disk. What recovery finds after each, and does:
//!
//! | step | found | done |
//! |---|---|---|
//! | none | some `.cleaned` | all of them are removed: the log from before, as after step 1 |
//! | 1. every file of the output renamed to `.swap`, the log first | some of each | the output is removed, `.swap` first |
//! | 2. the directory synced | `.swap`; `.cleaned` of later groups | sources inside the output's offsets go, then as after 5 |
//! | 3. the sources and the snapshots of vanished bases renamed to `.deleted` | some of each | as after step 2 |
//! | 4. the directory synced | no source | as after step 5 |
//! | 5. the log renamed from `.swap` to its place, the directory synced | the log, `.swap` of its indexes | they are renamed: the cleaned log |
//! | 6. the indexes renamed, the directory synced | the cleaned log | nothing |
//!
//! After step 2 a source may be left that begins behind the last offset of its group's output, if everything in it went.
//! It then stays in the log until the next cleaning: its records are older than those that made them superfluous, and in
//! their right place. The log is renamed before its indexes because recovery takes a log under `.swap` for an output
//! whose place has to be cleared, indexes included.
//!
//! Readers keep what they have: before step 1 every source has opened all its files, and the new segments appear in the
//! log together after step 6.

use super::{super::Log, output::Output};
use crate::{
    format::names::{self, Suffix},
    log::LogError,
    segment::{IndexLimits, SCAN_BYTES, Scanner, Segment, Step},
    storage::{Access, Storage, StorageError},
    types::{Offset, Timestamp},
};
use std::{path::Path, sync::Arc};

impl Log {
    /// Puts one output in the place of its sources; on the first error nobody knows which files there are.
    pub(super) fn swap(&mut self, output: &Output, now_ms: Timestamp) -> Result<(), LogError> {
        // Retired, they keep what they have open.
        let _held = output.sources.iter().map(|source| source.hold()).collect::<Result<Vec<_>, _>>()?;
        for path in output.files.all() {
            if output.has_txns || path != output.files.txn_index() {
                let (from, to) = (output.named(&path, Suffix::Cleaned), output.named(&path, Suffix::Swap));
                self.storage().rename(&from, &to)?;
            }
        }
        self.storage().sync_dir(&self.dir)?;
        for source in &output.sources {
            self.retire_segment(source, source.base_offset() == output.base_offset, now_ms)?;
        }
        self.storage().sync_dir(&self.dir)?;
        let names = names_of(output);
        finish_renames(self.storage(), &self.dir, &names)?;
        let limits = IndexLimits::from_config(&self.config());
        let segment =
            Segment::open(&self.shared.storage, Arc::clone(&self.dir), output.base_offset, limits, output.size);
        let mut view = self.shared.write();
        let mut segments = view.segments().clone();
        segments.remove_all(&output.sources);
        segments.insert(Arc::new(segment));
        view.set_segments(segments);
        Ok(())
    }
}

fn names_of(output: &Output) -> Vec<String> {
    let base_offset = output.base_offset;
    let mut names = vec![names::log(base_offset), names::offset_index(base_offset), names::time_index(base_offset)];
    if output.has_txns {
        names.push(names::txn_index(base_offset));
    }
    names
}

/// The offsets that the outputs of a swap stand for, and so replace: first and, exclusive, end.
pub(in crate::log) fn replaced_offsets(
    storage: &dyn Storage,
    dir: &Path,
    swapped_logs: impl IntoIterator<Item = Offset>,
) -> Result<(Offset, Offset), StorageError> {
    let mut range = (Offset::MAX, Offset::MIN);
    for base_offset in swapped_logs {
        let path = dir.join(format!("{}{}", names::log(base_offset), Suffix::Swap.text()));
        let failed = |error| StorageError::new("read", &path, error);
        let file = storage.open(&path, Access::Read)?;
        let len = storage.len(&file).map_err(failed)?;
        let mut scanner = Scanner::new(storage, &file, 0, len, SCAN_BYTES);
        let mut end = base_offset.saturating_add(1);
        while let Step::Batch(_, header) = scanner.step().map_err(failed)? {
            end = header.next_offset();
        }
        range = (range.0.min(base_offset), range.1.max(end));
    }
    Ok(range)
}

/// Gives files under `.swap` their final names: logs first, in order and each durably, then the others. So the logs that
/// still end in `.swap` are neighbours, and nothing lies between them that recovery could take for their source.
pub(in crate::log) fn finish_renames(storage: &dyn Storage, dir: &Path, names: &[String]) -> Result<(), StorageError> {
    let (mut logs, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.ends_with(".log"));
    logs.sort();
    for group in logs.chunks(1).chain((!others.is_empty()).then_some(others.as_slice())) {
        for name in group {
            let from = dir.join(format!("{name}{}", Suffix::Swap.text()));
            storage.rename(&from, &dir.join(name))?;
        }
        storage.sync_dir(dir)?;
    }
    Ok(())
}

/// Removes leftovers: those of a swap that is undone first, durably, because as long as one of its outputs ends in
/// `.cleaned` nobody takes the others for complete.
pub(in crate::log) fn remove_leftovers(storage: &dyn Storage, dir: &Path, names: &[&str]) -> Result<(), StorageError> {
    let (swaps, others): (Vec<_>, Vec<_>) = names.iter().copied().partition(|name| name.ends_with(Suffix::Swap.text()));
    for group in [swaps, others] {
        for name in &group {
            storage.unlink(&dir.join(name))?;
        }
        if !group.is_empty() {
            storage.sync_dir(dir)?;
        }
    }
    Ok(())
}
