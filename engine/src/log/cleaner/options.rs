//! What a host says to a cleaning, and what a cleaning says to its host. Plain values.

use crate::types::Offset;

/// How a cleaning works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanerOptions {
    /// Memory of the offset map, in bytes: 24 for a slot, of which nine tenths are used. A cleaning takes as many dirty
    /// records as have their keys in the map (`log.cleaner.dedupe.buffer.size` by thread).
    pub dedupe_buffer_bytes: usize,
    /// Bytes read, and gathered for writing, at once. A larger batch is read whole all the same.
    pub io_buffer_bytes: usize,
    /// Makes the hashes of keys unpredictable: draw it anew for each cleaning.
    pub hash_seed: u64,
    /// Most bytes that the records of one batch may decompress to.
    pub max_decompressed_bytes: u64,
}

impl Default for CleanerOptions {
    fn default() -> Self {
        Self { dedupe_buffer_bytes: 128 << 20, io_buffer_bytes: 1 << 20, hash_seed: 0, max_decompressed_bytes: 1 << 30 }
    }
}

/// How far a cleaning has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanerProgress {
    /// Bytes read so far, in both phases.
    pub bytes_read: u64,
    /// Bytes written so far.
    pub bytes_written: u64,
}

/// The host's answer to a progress report. Before it gives it, it may wait as long as its limit of I/O demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanerControl {
    /// Go on.
    Continue,
    /// Give up: outputs are removed, the log stays as it is.
    Abort,
}

/// What a cleaning did, counted as Kafka's `CleanerStats` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanerStats {
    /// Where the next cleaning begins, exclusive end of this one: the log's new cleaner checkpoint.
    pub end_offset: Offset,
    /// Records and markers read for the offset map.
    pub map_messages_read: u64,
    /// Bytes read for the offset map.
    pub map_bytes_read: u64,
    /// Keys in the offset map at the end.
    pub map_entries: u64,
    /// Records and markers of batches that were not dropped as a whole without a look.
    pub messages_read: u64,
    /// Records and markers that stayed.
    pub messages_written: u64,
    /// Records without a key, which were dropped.
    pub invalid_messages: u64,
    /// Bytes of all batches read for rewriting.
    pub bytes_read: u64,
    /// Bytes of all batches that stayed.
    pub bytes_written: u64,
    /// What did not stay, by the reason.
    pub removed: RemovedRecords,
    /// Segments that went in.
    pub segments_read: usize,
    /// Segments that came out.
    pub segments_written: usize,
}

/// What a cleaning leaves out, each record by the first reason that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovedRecords {
    /// Data of aborted transactions; bytes of whole batches.
    pub aborted: Removed,
    /// Markers of transactions whose data is gone and whose delete horizon has passed; bytes of whole batches.
    pub markers: Removed,
    /// Records without a key.
    pub keyless: Removed,
    /// Records whose key was written again later.
    pub superseded: Removed,
    /// Tombstones whose delete horizon has passed.
    pub tombstones: Removed,
}

/// Records that go, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// How many.
    pub records: u64,
    /// Of key, value and headers, decompressed, unless a whole batch goes.
    pub bytes: u64,
}

impl Removed {
    pub(super) fn add(&mut self, records: u64, bytes: usize) {
        self.records = self.records.saturating_add(records);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}
