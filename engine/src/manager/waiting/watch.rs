//! The positions of one partition, and who waits for them.
//!
//! Owns the values, which anybody reads without a lock, and the waiters. Knows nothing of the log that moves them. Keeps:
//!
//! * a move with nobody to wake takes no lock: it stores the value, then looks at the nearest threshold; who registers
//!   stores the nearest threshold, then looks at the value; a full fence lies between the two on both sides, so one of
//!   them sees the other;
//! * a ticket made before a truncation never takes the records that came after it for its own: tickets carry the number
//!   of truncations that they know of.

use super::{
    committed::Committed,
    cuts::Cuts,
    error::WaitError,
    position::{Mark, Position},
    sync::{AtomicBool, AtomicI64, AtomicU64, Mutex, MutexGuard, fence, lock},
    thresholds::Thresholds,
    ticket::Ticket,
    turns::Sleeper,
    waiters::{Part, WaitersByPosition},
    wakes::{Waiter, Wakes},
};
use crate::types::Offset;
use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::Ordering::{Acquire, Relaxed, Release, SeqCst},
    },
};

/// Moves what is flushed, on whichever thread.
pub(crate) trait Mover: fmt::Debug + Send + Sync {
    /// Moves it on, on a thread that would only wait, until `is_done` or for as long as that makes sense. Runs nothing of
    /// anybody else.
    fn move_on(&self, is_done: &dyn Fn() -> bool);
}

/// The positions of one partition and those who wait for them.
#[derive(Debug)]
pub(crate) struct Watch {
    levels: [Level; Position::ALL.len()],
    /// How many truncations there were. Written under the lock.
    cut_count: AtomicU64,
    /// Whether waiting is over. Written under the lock.
    is_over: AtomicBool,
    /// Guards who waits, and what ended or ends waiting; never held while anything of anybody else runs.
    waiting: Mutex<Waiting>,
    /// Who may be helped by a thread that waits for what is flushed, and what wakes it where nobody helps.
    mover: Option<(Weak<dyn Mover>, Arc<Sleeper>)>,
    /// Where only what is flushed is committed.
    committed: Option<Box<Committed>>,
}

/// One position, and how far it may move before somebody is concerned.
#[derive(Debug)]
struct Level {
    offset: AtomicI64,
    bytes: AtomicU64,
    /// Lowest offset that a ticket waits for. Written under the lock.
    nearest_offset: AtomicI64,
    /// Lowest byte count that a long poll waits for. Written under the lock.
    nearest_bytes: AtomicU64,
}

/// Who waits, and what ended or ends waiting.
#[derive(Debug, Default)]
struct Waiting {
    by_position: WaitersByPosition,
    last_id: u64,
    cuts: Cuts,
    over: Option<WaitError>,
}

/// What a ticket waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    pub(super) position: Position,
    pub(super) offset: Offset,
    /// The truncations before it.
    cut_count: u64,
}

/// Where a position stood at a moment. What happens afterwards can be told from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(super) position: Position,
    pub(super) mark: Mark,
    cut_count: u64,
}

/// What became of a waiter.
pub(super) enum Registered {
    /// It is answered later. The id is for [`Watch::deregister`].
    Waiting(u64),
    /// There is an answer already; the waiter comes back.
    Done(Waiter, Result<(), WaitError>),
}

/// What became of a long poll's wish to hear of a partition.
pub(super) enum Armed {
    /// It hears of it. The id is for [`Watch::disarm`].
    Waiting(u64),
    /// It has come so far already.
    Reached,
    /// Nothing is to be waited for any more.
    Over(WaitError),
}

impl Level {
    fn new(mark: Mark) -> Self {
        Self {
            offset: AtomicI64::new(mark.offset),
            bytes: AtomicU64::new(mark.bytes),
            nearest_offset: AtomicI64::new(Offset::MAX),
            nearest_bytes: AtomicU64::new(u64::MAX),
        }
    }

    fn offset(&self) -> Offset {
        self.offset.load(Acquire)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Acquire)
    }

    fn set(&self, mark: Mark) {
        self.bytes.store(mark.bytes, Release);
        self.offset.store(mark.offset, Release);
    }

    fn raise(&self, mark: Mark) {
        self.bytes.fetch_max(mark.bytes, Release);
        self.offset.fetch_max(mark.offset, Release);
    }

    fn lower(&self, mark: Mark) {
        self.bytes.fetch_min(mark.bytes, Release);
        self.offset.fetch_min(mark.offset, Release);
    }

    fn concerns_somebody(&self) -> bool {
        self.offset.load(Relaxed) >= self.nearest_offset.load(Relaxed)
            || self.bytes.load(Relaxed) >= self.nearest_bytes.load(Relaxed)
    }
}

impl Watch {
    /// Values in the order of [`Position::ALL`].
    pub(crate) fn new(marks: [Mark; Position::ALL.len()]) -> Self {
        Self {
            levels: marks.map(Level::new),
            cut_count: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            waiting: Mutex::default(),
            mover: None,
            committed: None,
        }
    }

    /// From now on only what is flushed is committed, for those who wait and, by `committed_end`, for those who read.
    pub(crate) fn committing_flushed(mut self, committed_end: Arc<std::sync::atomic::AtomicI64>) -> Self {
        let [high_watermark, last_stable, flushed] =
            [Position::HighWatermark, Position::LastStable, Position::Flushed].map(|position| self.mark(position));
        self.committed = Some(Box::new(Committed::new(committed_end, high_watermark, last_stable)));
        drop(self.advance(&[(Position::Flushed, flushed)]));
        self
    }

    /// Lets threads that wait for what is flushed help to move it.
    pub(crate) fn moved_by(mut self, mover: Weak<dyn Mover>, sleeper: Arc<Sleeper>) -> Self {
        self.mover = Some((mover, sleeper));
        self
    }

    /// The offset of a position now, exclusive. Takes no lock.
    pub(crate) fn get(&self, position: Position) -> Offset {
        self.level(position).offset()
    }

    /// The bytes below a position now. Takes no lock; may belong to another moment than [`Watch::get`].
    pub(crate) fn bytes(&self, position: Position) -> u64 {
        self.level(position).bytes()
    }

    /// Where a position stands, for a read that follows and a long poll after it: nothing that happens after this moment is
    /// missed then.
    pub(crate) fn seen(&self, position: Position) -> Seen {
        // In this order: a truncation in between is one that the poll hears of.
        let cut_count = self.cut_count.load(Acquire);
        Seen { position, mark: self.mark(position), cut_count }
    }

    fn mark(&self, position: Position) -> Mark {
        Mark { offset: self.get(position), bytes: self.bytes(position) }
    }

    /// A ticket for `position` being at or above `offset`. Make it before releasing the lock under which you learnt the
    /// offset: a truncation before this is none of the ticket's.
    pub(crate) fn ticket(self: &Arc<Self>, position: Position, offset: Offset) -> Ticket {
        Ticket::new(self, Condition { position, offset, cut_count: self.cut_count.load(Acquire) })
    }

    /// Moves positions; who is concerned comes back, to be woken once the caller's locks are released. The log end, the high
    /// watermark and the last stable offset may move down too, [`Position::Flushed`] does not (a lower value is ignored).
    ///
    /// Several threads may move different positions at once. One position is moved by one thread at a time; and what was
    /// flushed before a truncation is not reported after it, or only as far as the truncation left it.
    pub(crate) fn advance(&self, moves: &[(Position, Mark)]) -> Wakes {
        let mut wakes = Wakes::default();
        self.advance_with(moves, &mut wakes);
        wakes
    }

    /// As [`Watch::advance`], for one firing with those of many others.
    pub(crate) fn advance_with(&self, moves: &[(Position, Mark)], wakes: &mut Wakes) {
        match &self.committed {
            None => moves.iter().for_each(|(position, mark)| self.set(*position, *mark)),
            Some(committed) => self.set_within_flushed(committed, moves),
        }
        fence(SeqCst);
        let has_moved = |position| self.committed.is_some() || moves.iter().any(|(moved, _)| *moved == position);
        for position in Position::ALL {
            if has_moved(position) && self.level(position).concerns_somebody() {
                self.take_reached(position, wakes);
            }
        }
    }

    fn set(&self, position: Position, mark: Mark) {
        let level = self.level(position);
        if position.only_rises() { level.raise(mark) } else { level.set(mark) }
    }

    fn set_within_flushed(&self, committed: &Committed, moves: &[(Position, Mark)]) {
        let mut wanted = committed.lock();
        for (position, mark) in moves {
            if !wanted.note(*position, *mark) {
                self.set(*position, *mark);
            }
        }
        let flushed = self.mark(Position::Flushed);
        committed.show(flushed.offset);
        for (position, mark) in wanted.within(flushed) {
            self.set(position, mark);
        }
    }

    /// The log was cut: every position above `to` moves down to it, and whoever waits for one of these above `to`, for
    /// whichever position, is told so; so is every long poll on a position that moved.
    pub(crate) fn truncate(&self, to: Mark) -> Wakes {
        let mut wanted = self.committed.as_ref().map(|committed| committed.lock());
        if let (Some(wanted), Some(committed)) = (&mut wanted, &self.committed) {
            wanted.lower(to);
            committed.show(self.get(Position::Flushed).min(to.offset));
        }
        let mut wakes = Wakes::default();
        let mut waiting = lock(&self.waiting);
        let count = self.cut_count.load(Relaxed).saturating_add(1);
        waiting.cuts.add(count, to.offset);
        self.cut_count.store(count, SeqCst);
        for position in Position::ALL {
            let level = self.level(position);
            if level.offset() > to.offset {
                level.lower(to);
                for (poll, _) in waiting.by_position.polls(position).into_iter().flat_map(Thresholds::take_all) {
                    wakes.end_poll(poll, WaitError::Truncated);
                }
            }
            for waiter in
                waiting.by_position.tickets(position).into_iter().flat_map(|tickets| tickets.take_above(to.offset))
            {
                wakes.answer(waiter, Err(WaitError::Truncated));
            }
            self.note_nearest(&mut waiting, position);
        }
        wakes
    }

    /// The log or its directory failed: who waits for a position that is not reached, now or later, is told so.
    pub(crate) fn fail(&self, cause: Arc<str>) -> Wakes {
        self.end(WaitError::Failed { cause })
    }

    /// The log is closed or deleted: who waits for a position that is not reached, now or later, is told so. To be called
    /// before the last reference is dropped, as long polls hold one too.
    pub(crate) fn close(&self) -> Wakes {
        self.end(WaitError::Closed)
    }

    /// The first end counts.
    fn end(&self, why: WaitError) -> Wakes {
        let mut wakes = Wakes::default();
        let mut waiting = lock(&self.waiting);
        let why = waiting.over.get_or_insert(why).clone();
        self.is_over.store(true, SeqCst);
        for position in Position::ALL {
            self.take_reached_of(&mut waiting, position, &mut wakes);
            for waiter in waiting.by_position.tickets(position).into_iter().flat_map(Thresholds::take_all) {
                wakes.answer(waiter, Err(why.clone()));
            }
            for (poll, _) in waiting.by_position.polls(position).into_iter().flat_map(Thresholds::take_all) {
                wakes.end_poll(poll, why.clone());
            }
            self.note_nearest(&mut waiting, position);
        }
        wakes
    }

    /// The answer for a ticket, if there is one.
    pub(super) fn answer(&self, condition: &Condition) -> Option<Result<(), WaitError>> {
        // In this order: a value from after a truncation shows the truncation too.
        let is_reached = self.get(condition.position) >= condition.offset;
        if self.cut_count.load(Acquire) != condition.cut_count {
            return self.answer_of(&lock(&self.waiting), condition);
        }
        match is_reached {
            true => Some(Ok(())),
            false if self.is_over.load(Acquire) => self.answer_of(&lock(&self.waiting), condition),
            false => None,
        }
    }

    /// Helps to move what a ticket waits for, if that can be done, on its thread.
    pub(super) fn move_on(&self, condition: &Condition) {
        let mover = self.mover.as_ref().filter(|_| condition.position == Position::Flushed);
        if let Some(mover) = mover.and_then(|(mover, _)| mover.upgrade()) {
            mover.move_on(&|| self.answer(condition).is_some());
        }
    }

    /// Registers a ticket's waiter, unless there is an answer.
    pub(super) fn register(&self, condition: &Condition, waiter: Waiter) -> Registered {
        let registered = self.try_register(condition, waiter);
        if condition.position == Position::Flushed
            && let (Registered::Waiting(_), Some((_, sleeper))) = (&registered, &self.mover)
        {
            sleeper.wake();
        }
        registered
    }

    fn try_register(&self, condition: &Condition, waiter: Waiter) -> Registered {
        let mut waiting = lock(&self.waiting);
        if let Some(answer) = self.answer_of(&waiting, condition) {
            return Registered::Done(waiter, answer);
        }
        let (position, offset) = (condition.position, condition.offset);
        let id = waiting.next_id();
        waiting.by_position.tickets_to_fill(position).insert(offset, id, waiter);
        self.note_nearest(&mut waiting, position);
        fence(SeqCst);
        if self.get(position) >= offset
            && let Some(waiter) = waiting.by_position.tickets(position).and_then(|tickets| tickets.remove(offset, id))
        {
            self.note_nearest(&mut waiting, position);
            return Registered::Done(waiter, Ok(()));
        }
        Registered::Waiting(id)
    }

    /// Takes a ticket's waiter out, if nobody answered it. The caller drops it, with no lock held.
    pub(super) fn deregister(&self, condition: &Condition, id: u64) -> Option<Waiter> {
        let mut waiting = lock(&self.waiting);
        let waiter =
            waiting.by_position.tickets(condition.position).and_then(|tickets| tickets.remove(condition.offset, id));
        self.note_nearest(&mut waiting, condition.position);
        waiter
    }

    /// Lets a long poll hear when the bytes below the position come to `threshold`.
    pub(super) fn arm(&self, seen: &Seen, threshold: u64, part: Part) -> Armed {
        let position = seen.position;
        let mut waiting = lock(&self.waiting);
        if waiting.cuts.lowest_since(seen.cut_count).is_some_and(|to| to < seen.mark.offset) {
            return Armed::Over(WaitError::Truncated);
        }
        if let Some(why) = &waiting.over {
            return Armed::Over(why.clone());
        }
        let id = waiting.next_id();
        waiting.by_position.polls_to_fill(position).insert(threshold, id, part);
        self.note_nearest(&mut waiting, position);
        fence(SeqCst);
        if self.bytes(position) < threshold {
            return Armed::Waiting(id);
        }
        let part = waiting.by_position.polls(position).and_then(|polls| polls.remove(threshold, id));
        self.note_nearest(&mut waiting, position);
        drop(waiting);
        drop(part);
        Armed::Reached
    }

    /// Takes a long poll's registration out, if it is still there.
    pub(super) fn disarm(&self, position: Position, threshold: u64, id: u64) {
        let mut waiting = lock(&self.waiting);
        let part = waiting.by_position.polls(position).and_then(|polls| polls.remove(threshold, id));
        self.note_nearest(&mut waiting, position);
        drop(waiting);
        drop(part);
    }

    fn take_reached(&self, position: Position, wakes: &mut Wakes) {
        let mut waiting = lock(&self.waiting);
        self.take_reached_of(&mut waiting, position, wakes);
        self.note_nearest(&mut waiting, position);
    }

    fn take_reached_of(&self, waiting: &mut Waiting, position: Position, wakes: &mut Wakes) {
        let (offset, bytes) = (self.get(position), self.bytes(position));
        while let Some(waiter) = waiting.by_position.tickets(position).and_then(|tickets| tickets.pop_reached(offset)) {
            wakes.answer(waiter, Ok(()));
        }
        while let Some((poll, part)) = waiting.by_position.polls(position).and_then(|polls| polls.pop_reached(bytes)) {
            wakes.grown(poll, part);
        }
    }

    /// Truncation before success before the end: records that were cut are gone, even if their offsets are there again;
    /// what was reached before the end stays reached.
    fn answer_of(&self, waiting: &MutexGuard<'_, Waiting>, condition: &Condition) -> Option<Result<(), WaitError>> {
        if waiting.cuts.lowest_since(condition.cut_count).is_some_and(|to| to < condition.offset) {
            Some(Err(WaitError::Truncated))
        } else if self.get(condition.position) >= condition.offset {
            Some(Ok(()))
        } else {
            waiting.over.clone().map(Err)
        }
    }

    fn note_nearest(&self, waiting: &mut MutexGuard<'_, Waiting>, position: Position) {
        let level = self.level(position);
        let offset = waiting.by_position.tickets(position).and_then(|tickets| tickets.nearest());
        let bytes = waiting.by_position.polls(position).and_then(|polls| polls.nearest());
        level.nearest_offset.store(offset.unwrap_or(Offset::MAX), Relaxed);
        level.nearest_bytes.store(bytes.unwrap_or(u64::MAX), Relaxed);
    }

    fn level(&self, position: Position) -> &Level {
        &self.levels[position as usize]
    }
}

impl Waiting {
    fn next_id(&mut self) -> u64 {
        self.last_id = self.last_id.saturating_add(1);
        self.last_id
    }
}

impl Drop for Watch {
    /// Whoever still waits, with a callback or a queue, is told.
    fn drop(&mut self) {
        self.close().fire();
    }
}

/// How many wait, for tests.
#[cfg(test)]
impl Watch {
    pub(super) fn waiters(&self) -> usize {
        let mut waiting = lock(&self.waiting);
        let mut count = |position| {
            let tickets = waiting.by_position.tickets(position).map_or(0, |tickets| tickets.len());
            tickets + waiting.by_position.polls(position).map_or(0, |polls| polls.len())
        };
        Position::ALL.into_iter().map(&mut count).sum()
    }

    pub(super) fn is_fast(&self) -> bool {
        Position::ALL.iter().all(|position| !self.level(*position).concerns_somebody())
    }
}
