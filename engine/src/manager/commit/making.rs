//! Making the journal, in the background or when the host asks.
//!
//! Keeps: a disk that has no space for it is not filled by the attempt; one that was refused is not tried again and again.

use super::Committer;
use crate::{
    format::names::JOURNAL_DIRECTORY,
    manager::{
        deletion::unique_id,
        events::Event,
        journal::{Journal, JournalOptions},
    },
    storage::StorageError,
};
use std::{
    io,
    path::Path,
    sync::PoisonError,
    time::{Duration, Instant},
};

/// Writes to the journal in flight, at most.
const MAX_JOURNAL_WRITES: usize = 4;
/// How long appends that ask for a journal are not heard after it was refused.
const REST: Duration = Duration::from_secs(10);

/// How the last attempt ended, if it failed.
#[derive(Debug)]
pub(super) struct Refused {
    at: Instant,
    cause: String,
}

impl Committer {
    /// Makes the journal for appends that ask, unless it was refused a moment ago. Nothing depends on it yet: group commits go
    /// on, and later appends ask again.
    pub(super) fn make_journal_for_appends(&self) {
        let is_resting = |refused: &Refused| refused.at.elapsed() < REST;
        if !self.making.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_resting) {
            let _ = self.make_journal();
        }
    }

    /// Makes the journal, if there is none and there is to be one.
    pub(in crate::manager) fn make_journal(&self) -> Result<(), StorageError> {
        let mut refused = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.journal.get().is_some() || self.options.journal_bytes == 0 {
            return Ok(());
        }
        let made = self.check_space().and_then(|()| self.begin_journal());
        if let Err(error) = &made {
            let cause = error.to_string();
            let is_known = refused.as_ref().is_some_and(|refused| refused.cause == cause);
            *refused = Some(Refused { at: Instant::now(), cause: cause.clone() });
            if !is_known {
                self.events.note(Event::JournalRefused { cause });
            }
        }
        made
    }

    fn begin_journal(&self) -> Result<(), StorageError> {
        let options = JournalOptions {
            bytes: self.options.journal_bytes,
            block_bytes: self.options.journal_block_bytes,
            in_flight: self.options.journal_writes.clamp(1, MAX_JOURNAL_WRITES),
        };
        let made = Journal::create(&self.storage, unique_id(), options, &self.metrics, self.turns.sleeper());
        // What is left of one that failed is removed by the next open, too.
        let (journal, writer) = made.inspect_err(|_| drop(Journal::remove(&*self.storage)))?;
        let is_first = self.pieces.set(writer.pieces()).is_ok() && self.journal.set(journal).is_ok();
        debug_assert!(is_first, "it is made once");
        self.turns.put(writer);
        self.events.note(Event::JournalMade { bytes: self.options.journal_bytes });
        if let Some(cause) = self.storage.ring_refused() {
            self.events.note(Event::RingRefused { cause });
        }
        Ok(())
    }

    /// Whether the disk has the space, as far as it tells: an attempt without would take all that others need meanwhile.
    fn check_space(&self) -> Result<(), StorageError> {
        let wanted = self.options.journal_bytes;
        match self.storage.free_bytes() {
            Some(free) if free < wanted => {
                // The number changes all the time, the cause does not.
                let cause = format!("it takes {wanted} bytes, and the disk has less");
                let cause = io::Error::new(io::ErrorKind::StorageFull, cause);
                Err(StorageError::new("make", Path::new(JOURNAL_DIRECTORY), cause))
            }
            _ => Ok(()),
        }
    }
}
