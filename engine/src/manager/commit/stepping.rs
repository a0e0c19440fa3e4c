//! Who steps the writer of the journal: its thread, a thread that would only wait for its append, or the host.
//!
//! A thread that waits and finds the journal idle takes its append to the disk itself, which saves two wake-ups. It tells
//! nobody else of anything: with news for others, or work left, it lets go, and the journal's thread goes on. That thread lets
//! go only where appends come one by one, so with many at once it has every turn.

use super::Committer;
use crate::manager::waiting::{Mover, Sleeper, Work};
use std::sync::{Arc, PoisonError};

impl Committer {
    /// What the journal's thread does, until the work is to end; what was begun by then is ended.
    pub(in crate::manager) fn work_on_journal(&self) {
        self.turns.run(
            || self.is_stopping(),
            |writer| {
                while !self.is_stopping() && !writer.may_rest() {
                    self.step_journal(writer, true);
                }
            },
        );
        if let Some(mut writer) = self.turns.take() {
            let mut wait = false; // somebody may have left news
            while self.step_journal(&mut writer, wait) || !writer.is_idle() {
                wait = true;
            }
        }
    }

    /// What wakes that thread.
    pub(in crate::manager) fn sleeper(&self) -> Arc<Sleeper> {
        Arc::clone(self.turns.sleeper())
    }

    /// Ends that.
    pub(super) fn stop_stepping(&self) {
        if let Some(journal) = self.journal.get() {
            journal.end();
        }
        self.turns.sleeper().wake();
    }

    /// Takes blocks and pieces to the disk on the host's thread; whether anything was done.
    pub(super) fn poll_journal(&self) -> bool {
        let steps = self.turns.try_turn(|writer| {
            let mut is_busy = false;
            while self.step_journal(writer, false) {
                is_busy = true;
            }
            is_busy
        });
        steps == Some(true)
    }

    fn has_pieces(&self) -> bool {
        self.pieces.get().is_some_and(|pieces| !pieces.lock().unwrap_or_else(PoisonError::into_inner).is_empty())
    }
}

impl Mover for Committer {
    fn move_on(&self, is_done: &dyn Fn() -> bool) {
        let Some(journal) = self.journal.get().filter(|_| !self.is_polled) else { return };
        self.turns.help(
            |writer| {
                writer.step_until(is_done);
                self.ask_for_room();
            },
            || journal.wants_writer() || self.has_pieces(),
        );
        if self.gate.is_asked() {
            self.request(|requests| requests.room = true);
        }
    }
}
