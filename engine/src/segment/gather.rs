//! A segment whose newest bytes gather in memory: how they get into its file.

use super::Segment;
use crate::storage::{QueuedWrite, StorageError};
use std::{io, thread, time::Duration};

/// How long apart a sync that is under way is looked at.
const SYNC_PAUSE: Duration = Duration::from_micros(200);

impl Segment {
    /// Claims a full piece of what was gathered, to be written by the caller; `None` if that is not needed any more.
    pub(crate) fn begin_write(&self, start: u64) -> Result<Option<QueuedWrite>, StorageError> {
        let opened = || {
            let cached = self.log_to_write()?;
            Ok((cached, self.opened(|path| self.handles.direct(&*self.storage, path))?))
        };
        Ok(self.unless_discarded(opened)?.and_then(|(cached, direct)| self.tail.begin_write(start, &direct, &cached)))
    }

    /// The file is about to lose its name, and nobody wants what it lacks: nothing is written to it any more.
    pub(crate) fn discard(&self) {
        self.tail.discard();
    }

    /// Opens what is to be written to, unless it is about to go.
    fn unless_discarded<T>(&self, open: impl FnOnce() -> Result<T, StorageError>) -> Result<Option<T>, StorageError> {
        if self.tail.is_discarded() {
            return Ok(None);
        }
        match open() {
            // It has gone meanwhile.
            Err(_) if self.tail.is_discarded() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Ends a write that was claimed.
    pub(crate) fn end_write(&self, start: u64, result: &io::Result<()>) {
        self.handles.note_write();
        self.tail.end_write(start, result);
    }

    /// Writes what was gathered to the file and lets go of its memory. Not durable by itself. For the log's writer; costs
    /// nothing when nothing was gathered.
    pub(crate) fn spill(&self) -> Result<(), StorageError> {
        if !self.tail.is_in_file() {
            self.spill_before(u64::MAX, u64::MAX)?;
        }
        self.tail.release();
        self.handles.close_direct();
        Ok(())
    }

    /// Writes the gathered pieces whose mark is below `mark` to the file, and gives what is appended to them from now on
    /// the mark `now`. Beside the log's writer, on any thread. Not durable by itself.
    pub(crate) fn spill_before(&self, mark: u64, now: u64) -> Result<(), StorageError> {
        let Some(log) = self.unless_discarded(|| self.log_to_write())? else { return Ok(()) };
        let spilled = self.tail.spill_before(&*self.storage, &log, mark, now);
        self.handles.note_write();
        spilled.map_err(|error| self.log_error("append to", error))
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

    /// Somebody syncs the log file, which is open.
    ///
    /// # Errors
    /// When a sync has failed before.
    pub(crate) fn note_sync(&self) -> Result<(), StorageError> {
        self.handles.note_sync().map_err(|error| self.log_error("sync", error))
    }

    /// Whether what was written to the file can still become durable: no sync of it has failed. Waits for one that is under
    /// way. Takes no lock.
    pub(crate) fn is_sound(&self) -> bool {
        loop {
            match self.handles.soundness() {
                Some(is_sound) => return is_sound,
                None => thread::sleep(SYNC_PAUSE),
            }
        }
    }
}
