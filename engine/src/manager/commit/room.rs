//! Who waits until the directory takes appends again.
//!
//! Two things are wanted: room among the bytes that wait for the journal, which comes as it takes them, and memory to gather
//! in. Memory comes as pieces are written, as a checkpoint lets partitions rest, and as readers let go of buffers; of the last
//! two, which happen under locks, the syncing thread is told, and tells those who wait. Keeps: whoever lacks memory has asked
//! for what frees it, and asks again whenever the journal got on, and at every tick.

use super::Committer;
use crate::manager::{
    partition::PartitionError,
    waiting::{Ticket, WaitError},
};
use std::{
    sync::{Arc, Weak},
    task::{Wake, Waker},
};

/// Tells a directory's syncing thread that memory came back.
struct MemoryReturned(Weak<Committer>);

impl Wake for MemoryReturned {
    fn wake(self: Arc<Self>) {
        if let Some(committer) = self.0.upgrade() {
            committer.request(|requests| requests.room = true);
        }
    }
}

/// For the pool of a committer.
pub(super) fn memory_waker(committer: &Weak<Committer>) -> Waker {
    Arc::new(MemoryReturned(Weak::clone(committer))).into()
}

impl Committer {
    /// A ticket for an append of so many bytes being worth a try.
    pub(in crate::manager) fn room(&self, bytes: usize) -> Result<Ticket, PartitionError> {
        self.check()?;
        let ticket = self.gate.ticket(bytes, || self.is_open(bytes));
        if !ticket.is_done() && !self.has_memory(bytes) {
            self.request(|requests| requests.checkpoint_anyway = true);
        }
        Ok(ticket)
    }

    /// Waits until an append of so many bytes is worth a try. Where the host moves the work on, this thread does.
    pub(in crate::manager) fn wait_for_room(&self, bytes: usize) -> Result<(), PartitionError> {
        let ticket = self.room(bytes)?;
        if self.is_polled && !ticket.is_done() {
            self.poll();
            return Ok(());
        }
        match ticket.wait(None) {
            Err(WaitError::Closed) => Err(PartitionError::Closed),
            Err(_) => Err(self.failure()),
            Ok(()) => Ok(()),
        }
    }

    /// Whether an append would be made, or fail: anything but have to wait.
    fn is_open(&self, bytes: usize) -> bool {
        self.check().is_err() || (self.journal_room() > 0 && self.has_memory(bytes))
    }

    /// Bytes that may be added to those which wait for the journal.
    fn journal_room(&self) -> usize {
        let pending = self.journal.get().map_or(0, |journal| journal.pending_bytes());
        self.options.pending_bytes.saturating_sub(pending)
    }

    /// Whether there is memory for an append of so many bytes, if need be after letting go of what is kept for readers alone.
    /// If there is none, the syncing thread hears of the next that comes back.
    fn has_memory(&self, bytes: usize) -> bool {
        let is_gathered = self.journal.get().is_some_and(|journal| self.is_gathered(journal, bytes));
        let needed = self.needed(bytes);
        let is_there = || !is_gathered || self.pool.in_use().saturating_add(needed) <= self.pool.limit();
        if is_there() {
            return true;
        }
        self.pool.wake_when_returned(&self.memory_waker);
        self.free_kept(needed.max(self.pool.limit() / 4));
        is_there()
    }

    /// Lets those who wait go on, as many as there is room for. If they lack memory, and the work `got_on`, it is asked for
    /// again. Call it with no lock held.
    pub(super) fn tell_of_room(&self, got_on: bool) {
        if !self.gate.is_asked() || self.failed.get().is_some() {
            return;
        }
        let room = self.journal_room();
        let may_fail = self.check().is_err();
        if !may_fail && !self.has_memory(self.gate.least()) {
            if got_on {
                self.request(|requests| requests.checkpoint_anyway = true);
            }
            return;
        }
        // With as much as this there may be nobody left to come again: those who get it may be gone.
        let is_plenty = may_fail || room >= self.options.pending_bytes / 2;
        if room > 0 || may_fail {
            self.gate.grant(if is_plenty { usize::MAX } else { room }).fire();
        }
    }

    /// As [`Committer::tell_of_room`], on a thread of the directory's; where the host polls, the poll does it.
    pub(super) fn tell_of_room_by_thread(&self, got_on: bool) {
        if !self.is_polled {
            self.tell_of_room(got_on);
        }
    }

    /// Nobody need wait any more.
    pub(in crate::manager) fn close_gate(&self) {
        self.gate.end(WaitError::Closed).fire();
    }
}
