//! What a log directory counts: plain numbers that a host reads and exports as it likes.

use super::histogram::{Histogram, Recorder};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one directory.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) journal_blocks: Counter,
    pub(crate) journal_frames: Counter,
    pub(crate) journal_bytes: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) piece_writes: Counter,
    pub(crate) piece_bytes: Counter,
    pub(crate) group_commits: Counter,
    pub(crate) group_commit_files: Counter,
    pub(crate) sync_all: Counter,
    pub(crate) append_to_flushed_us: Recorder,
    pub(crate) journal_write_us: Recorder,
    pub(crate) journal_write_frames: Recorder,
    pub(crate) group_commit_us: Recorder,
    pub(crate) group_commit_sizes: Recorder,
    pub(crate) sync_all_us: Recorder,
}

/// What a log directory has done since it was opened, and how it stands. All counts are of events or bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryMetrics {
    /// Blocks written to the commit journal; each is one synchronous write.
    pub journal_blocks: u64,
    /// Appends in them.
    pub journal_frames: u64,
    /// Bytes of them, with what fills their last pages.
    pub journal_bytes: u64,
    /// Part of the journal that is in use, from 0 to 1000.
    pub journal_fill_per_mille: u64,
    /// How often room in the journal was freed.
    pub checkpoints: u64,
    /// Gathered pieces written to segments.
    pub piece_writes: u64,
    /// Bytes of them.
    pub piece_bytes: u64,
    /// Rounds of syncs of segments for tickets that wait.
    pub group_commits: u64,
    /// Segments synced in them.
    pub group_commit_files: u64,
    /// Syncs of the whole file system, for checkpoints.
    pub sync_all: u64,
    /// Bytes gathered in memory, the newest of them not in their segments yet.
    pub gathered_bytes: u64,
    /// Segment files and maps of indexes that are kept open, as far as the storage counts them.
    pub open_files: u64,
    /// Bytes that wait to be written to the journal.
    pub journal_pending_bytes: u64,
    /// Microseconds from the first append of a block to its tickets' having their answer: what the slowest append of each
    /// block waited. Of appends that the journal makes durable.
    pub append_to_flushed_us: Histogram,
    /// Microseconds that a write to the journal took.
    pub journal_write_us: Histogram,
    /// Appends in a block of the journal.
    pub journal_write_frames: Histogram,
    /// Microseconds that a round of syncs of segments took.
    pub group_commit_us: Histogram,
    /// Segments in a round.
    pub group_commit_sizes: Histogram,
    /// Microseconds that a sync of the whole file system took.
    pub sync_all_us: Histogram,
}

impl Metrics {
    /// The counters now; the gauges are the caller's to fill in.
    pub(crate) fn snapshot(&self) -> DirectoryMetrics {
        DirectoryMetrics {
            journal_blocks: self.journal_blocks.get(),
            journal_frames: self.journal_frames.get(),
            journal_bytes: self.journal_bytes.get(),
            checkpoints: self.checkpoints.get(),
            piece_writes: self.piece_writes.get(),
            piece_bytes: self.piece_bytes.get(),
            group_commits: self.group_commits.get(),
            group_commit_files: self.group_commit_files.get(),
            sync_all: self.sync_all.get(),
            append_to_flushed_us: self.append_to_flushed_us.snapshot(),
            journal_write_us: self.journal_write_us.snapshot(),
            journal_write_frames: self.journal_write_frames.snapshot(),
            group_commit_us: self.group_commit_us.snapshot(),
            group_commit_sizes: self.group_commit_sizes.snapshot(),
            sync_all_us: self.sync_all_us.snapshot(),
            ..DirectoryMetrics::default()
        }
    }
}
