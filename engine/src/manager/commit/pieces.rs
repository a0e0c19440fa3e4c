//! Taking blocks and pieces to the disk, and letting go of memory.

use super::Committer;
use crate::manager::journal::Writer;
use std::sync::{Arc, PoisonError, atomic::Ordering};

/// How much further the journal fills, in thousandths, before a checkpoint is tried again.
const FREE_STEP: u64 = 30;

impl Committer {
    /// Moves on what can be moved; whether anything was. With `wait`, waits first for something to do.
    pub(super) fn step_journal(&self, writer: &mut Writer, wait: bool) -> bool {
        let stepped = writer.step(wait, self.is_polled);
        if let Some(error) = stepped.failed {
            self.fail(&error.to_string());
        }
        if let Some(piece) = stepped.stalled.first() {
            self.space.note_full(&piece.segment.files().log(), &self.events);
            self.stalled.lock().unwrap_or_else(PoisonError::into_inner).extend(stepped.stalled);
        }
        if !stepped.written.is_empty() {
            self.space.note_written();
            self.kept
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(stepped.written.iter().map(|piece| Arc::downgrade(&piece.segment)));
            self.trim_kept();
        }
        if stepped.is_journal_full {
            self.request(|requests| requests.checkpoint_anyway = true);
        } else if stepped.is_busy {
            self.ask_for_room();
        }
        stepped.wakes.fire();
        self.tell_of_room_by_thread(stepped.is_busy);
        stepped.is_busy
    }

    /// Asks for a checkpoint if the journal has filled up to where room should be freed: again only when it has filled
    /// further, so that a checkpoint that could free little is not followed by the next at once.
    pub(super) fn ask_for_room(&self) {
        let fill = self.journal.get().map_or(0, |journal| journal.fill_per_mille());
        if fill >= self.free_from.load(Ordering::Relaxed) {
            self.free_from.store(fill + FREE_STEP, Ordering::Relaxed);
            self.request(|requests| requests.checkpoint = true);
        }
    }

    /// Forgets segments that let go of their pieces themselves: rolled, cut, at rest or gone.
    pub(super) fn forget_released(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|segment| segment.upgrade().is_some_and(|segment| segment.is_gathering()));
    }

    /// Lets go of written pieces where memory is short: for those who wait for it, or for whoever comes next; by how many bytes it
    /// is short still.
    pub(super) fn trim_kept(&self) -> usize {
        let limit = self.pool.limit();
        let waited_for = if self.gate.is_asked() { self.needed(self.gate.least().min(limit / 2)) } else { 0 };
        let excess = || self.pool.in_use().saturating_sub(limit.saturating_sub(waited_for.max(limit / 4)));
        self.free_kept(excess());
        excess()
    }

    /// Lets go of written pieces, the oldest first, until so many bytes are free; how many are.
    pub(super) fn free_kept(&self, wanted: usize) -> usize {
        let mut freed = 0;
        while freed < wanted {
            let oldest = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(segment) = oldest else { break };
            freed += segment.upgrade().map_or(0, |segment| segment.release_oldest_piece());
        }
        freed
    }
}
