//! A segment whose newest bytes gather in memory: how they get into its file.

use super::{Segment, lock};
use crate::storage::{File, QueuedWrite, StorageError};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

impl Segment {
    /// Claims a full piece of what was gathered, to be written by the caller; `None` if that is not needed any more.
    pub(crate) fn begin_write(&self, start: u64) -> Result<Option<QueuedWrite>, StorageError> {
        let cached = self.log()?;
        let direct = self.direct()?;
        Ok(self.tail.begin_write(start, &direct, &cached))
    }

    /// Ends a write that was claimed.
    pub(crate) fn end_write(&self, start: u64, result: &io::Result<()>) {
        self.tail.end_write(start, result);
    }

    fn direct(&self) -> Result<Arc<File>, StorageError> {
        let mut direct = lock(&self.direct);
        if let Some(file) = &*direct {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.storage.open_direct(&self.files.log())?);
        *direct = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Writes what was gathered to the file and lets go of its memory. Not durable by itself. For the log's writer; costs
    /// nothing when nothing was gathered.
    pub(crate) fn spill(&self) -> Result<(), StorageError> {
        if !self.tail.is_in_file() {
            self.spill_before(u64::MAX, u64::MAX)?;
        }
        self.tail.release();
        *lock(&self.direct) = None;
        Ok(())
    }

    /// Writes the gathered pieces whose mark is below `mark` to the file, and gives what is appended to them from now on
    /// the mark `now`. Beside the log's writer, on any thread. Not durable by itself.
    pub(crate) fn spill_before(&self, mark: u64, now: u64) -> Result<(), StorageError> {
        let log = self.log()?;
        self.tail.spill_before(&*self.storage, &log, mark, now).map_err(|error| self.log_error("append to", error))
    }

    /// Whether it holds memory for gathered bytes.
    pub(crate) fn is_gathering(&self) -> bool {
        self.tail.is_gathering()
    }

    /// The lowest mark of gathered bytes that are not in the file.
    pub(crate) fn oldest_mark(&self) -> Option<u64> {
        self.tail.oldest_mark()
    }

    /// Lets go of the oldest gathered piece that is in the file and kept for readers only; how many bytes that frees.
    pub(crate) fn release_oldest_piece(&self) -> usize {
        self.tail.release_oldest()
    }

    /// Runs a sync, and leaves word of it for [`Segment::soundness`].
    pub(super) fn watched_sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let synced = sync();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::SeqCst);
        }
        self.syncs.fetch_sub(1, Ordering::SeqCst);
        synced
    }

    /// Whether what was written to the file can still become durable: `Some(false)` once a sync failed, `None` while one is
    /// under way. Takes no lock.
    pub(crate) fn soundness(&self) -> Option<bool> {
        let under_way = self.syncs.load(Ordering::SeqCst) > 0;
        (!under_way).then(|| !self.sync_failed.load(Ordering::SeqCst))
    }
}
