//! Whether the disk has space, as far as its answers tell, and telling the host when that changes.
//!
//! Nobody asks the disk how much is free: what counts is whether it takes what is written. Keeps: the host is told of a full
//! disk once, and of space once something was written and nothing refused between two ticks.

use crate::{
    manager::events::{Event, Events},
    storage::StorageError,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the disk's answers tell.
#[derive(Debug, Default)]
pub(in crate::manager) struct Space {
    /// Whether nothing more may be gathered, since what was cannot be written. Sequentially consistent, for those who wait for
    /// room (`room.rs`).
    is_full: AtomicBool,
    /// The file that was the last to be refused gathered bytes.
    refused: Mutex<PathBuf>,
    /// Whether the host was told that the disk is full, and nothing else since.
    is_told: AtomicBool,
    /// Whether a write was refused since the last tick.
    was_refused: AtomicBool,
    /// Whether a write came through since the last tick; noted only while the host takes the disk for full.
    was_written: AtomicBool,
}

impl Space {
    /// Whether nothing more may be gathered.
    fn is_full(&self) -> bool {
        self.is_full.load(Ordering::SeqCst)
    }

    /// Nothing more may be gathered once something was refused: the refusal.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        if !self.is_full() {
            return Ok(());
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        Err(StorageError::new("append to", &refused, io::ErrorKind::StorageFull.into()))
    }

    /// What was gathered for a file could not be written.
    pub(super) fn note_full(&self, file: &Path, events: &Events) {
        file.clone_into(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_full.store(true, Ordering::SeqCst);
        self.note_refusal(events);
    }

    /// The disk had no space for a write.
    pub(super) fn note_refusal(&self, events: &Events) {
        self.was_refused.store(true, Ordering::Relaxed);
        if !self.is_told.swap(true, Ordering::Relaxed) {
            events.note(Event::DiskFull);
        }
    }

    /// Something was written to a segment. Costs one load while the disk has space.
    pub(super) fn note_written(&self) {
        if self.is_told.load(Ordering::Relaxed) {
            self.was_written.store(true, Ordering::Relaxed);
        }
    }

    /// What was gathered may be written again: it is tried.
    pub(super) fn retry(&self) {
        self.is_full.store(false, Ordering::SeqCst);
    }

    /// Tells of space, if that is what the answers since the last tick say.
    pub(super) fn tick(&self, events: &Events) {
        let was_refused = self.was_refused.swap(false, Ordering::Relaxed);
        let was_written = self.was_written.swap(false, Ordering::Relaxed);
        if was_written && !was_refused && !self.is_full() && self.is_told.swap(false, Ordering::Relaxed) {
            events.note(Event::DiskHasSpace);
        }
    }
}
