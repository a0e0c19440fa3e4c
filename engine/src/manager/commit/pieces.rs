//! Taking blocks and pieces to the disk, and letting go of memory.

use super::Committer;
use crate::manager::journal::Writer;
use std::sync::{PoisonError, atomic::Ordering};

/// Part of the journal, in thousandths, from which on room is freed ahead of need.
const FREE_FROM: u64 = 400;

impl Committer {
    /// Moves on what can be moved; whether anything was. With `wait`, waits first for something to do.
    pub(in crate::manager) fn step_journal(&self, writer: &mut Writer, wait: bool) -> bool {
        let stepped = writer.step(wait);
        if let Some(error) = stepped.failed {
            self.fail(&error.to_string());
        }
        if !stepped.stalled.is_empty() {
            self.is_disk_full.store(true, Ordering::Release);
            self.stalled.lock().unwrap_or_else(PoisonError::into_inner).extend(stepped.stalled);
        }
        if !stepped.written.is_empty() {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(stepped.written);
            self.free_kept(self.pool.in_use().saturating_sub(self.pool.limit() / 4 * 3));
        }
        let journal_fills = self.journal.get().is_some_and(|journal| journal.fill_per_mille() >= FREE_FROM);
        if stepped.is_busy && journal_fills {
            self.request(|requests| requests.checkpoint = true);
        }
        stepped.is_busy
    }

    /// Lets go of written pieces, the oldest first, until so many bytes are free; how many are.
    pub(super) fn free_kept(&self, wanted: usize) -> usize {
        let mut freed = 0;
        while freed < wanted {
            let oldest = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(piece) = oldest else { break };
            freed += piece.segment.release_oldest_piece();
        }
        if freed > 0 {
            self.memory_freed.notify_all();
        }
        freed
    }
}
