//! Where only what is flushed is committed: the high watermark and the last stable offset that are waited for and read up to
//! are those of the log, or what is flushed, whichever is lower.
//!
//! Owns where the log has them. Knows nothing of who waits. Keeps: what readers may see is moved before those who wait for
//! it are told.

use super::{
    position::{Mark, Position},
    sync::{Mutex, MutexGuard, lock},
};
use crate::types::Offset;
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// The positions that follow what is flushed.
#[derive(Debug)]
pub(super) struct Committed {
    /// What readers see as committed, exclusive.
    committed_end: Arc<AtomicI64>,
    /// Guards where the log has them, and moving them and what is flushed; taken before the lock of those who wait.
    wanted: Mutex<Wanted>,
}

/// Where the log has the positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    high_watermark: Mark,
    last_stable: Mark,
}

impl Committed {
    pub(super) fn new(committed_end: Arc<AtomicI64>, high_watermark: Mark, last_stable: Mark) -> Self {
        Self { committed_end, wanted: Mutex::new(Wanted { high_watermark, last_stable }) }
    }

    /// To move one of the positions, or what is flushed.
    pub(super) fn lock(&self) -> MutexGuard<'_, Wanted> {
        lock(&self.wanted)
    }

    /// Lets readers see as committed what lies below `flushed`, exclusive.
    pub(super) fn show(&self, flushed: Offset) {
        self.committed_end.store(flushed, Ordering::Release);
    }
}

impl Wanted {
    /// Takes note of where the log has a position; whether that is one of those that follow.
    pub(super) fn note(&mut self, position: Position, mark: Mark) -> bool {
        match position {
            Position::HighWatermark => self.high_watermark = mark,
            Position::LastStable => self.last_stable = mark,
            Position::LogEnd | Position::Flushed => return false,
        }
        true
    }

    /// The log was cut.
    pub(super) fn lower(&mut self, to: Mark) {
        self.high_watermark = lower(self.high_watermark, to);
        self.last_stable = lower(self.last_stable, to);
    }

    /// Where the positions are while so much is flushed.
    pub(super) fn within(&self, flushed: Mark) -> [(Position, Mark); 2] {
        [
            (Position::HighWatermark, lower(self.high_watermark, flushed)),
            (Position::LastStable, lower(self.last_stable, flushed)),
        ]
    }
}

fn lower(one: Mark, other: Mark) -> Mark {
    if other.offset < one.offset { other } else { one }
}
