//! Whose turn it is to move a piece of work on: a thread of its own, or one that would only wait for it.
//!
//! Owns the work and the sleep of its own thread. Knows nothing of what the work is. Keeps:
//!
//! * one at a time: whoever has a turn holds the lock;
//! * no lost wake-up: the own thread announces its sleep, then tries to get a turn, and sleeps only if it gets none or there
//!   is nothing to do; who makes work puts it where a look finds it, and then wakes; who lets go looks once more, and wakes.
//!   So the own thread may find somebody else at work, and sleeps: that one wakes it if anything is left.

use super::sync::{AtomicBool, Condvar, Mutex, doze, lock, try_lock};
use std::{
    sync::{
        Arc, PoisonError,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

/// How long the own thread sleeps, after somebody helped, before it looks by itself: so long may work wait that is left with
/// [`Sleeper::mention`].
const DOZE: Duration = Duration::from_millis(1);

/// Work that is moved on by turns.
pub(crate) trait Work {
    /// Whether it can be left alone until somebody wakes its own thread. From then on whoever makes work wakes.
    fn may_rest(&mut self) -> bool;
}

/// A piece of work, once there is one, and the threads that move it on.
#[derive(Debug)]
pub(crate) struct Turns<W> {
    /// Guards the work, for the thread that moves it on; held while that waits for it.
    work: Mutex<Option<W>>,
    sleeper: Arc<Sleeper>,
    /// Whether somebody helped since the own thread looked last.
    is_helped: AtomicBool,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Self { work: Mutex::new(None), sleeper: Arc::default(), is_helped: AtomicBool::new(false) }
    }
}

impl<W: Work> Turns<W> {
    /// What wakes the own thread.
    pub(crate) fn sleeper(&self) -> &Arc<Sleeper> {
        &self.sleeper
    }

    /// Gives the work away.
    pub(crate) fn put(&self, work: W) {
        *lock(&self.work) = Some(work);
        self.sleeper.wake();
    }

    /// Takes the work back, after the turn that somebody has.
    pub(crate) fn take(&self) -> Option<W> {
        lock(&self.work).take()
    }

    /// Has a turn, if nobody else has one.
    pub(crate) fn try_turn<T>(&self, turn: impl FnOnce(&mut W) -> T) -> Option<T> {
        try_lock(&self.work)?.as_mut().map(turn)
    }

    /// Has a turn if nobody else has one, on a thread that would only wait. `has_work` tells of work that came meanwhile.
    pub(crate) fn help(&self, turn: impl FnOnce(&mut W), has_work: impl FnOnce() -> bool) {
        let rests = self.try_turn(|work| {
            turn(work);
            work.may_rest()
        });
        if rests.is_some() {
            self.is_helped.store(true, Relaxed);
        }
        // Behind the turn: the own thread may have been woken for it, and have found the turn taken.
        if rests.is_some_and(|rests| !rests || has_work()) {
            self.sleeper.wake();
        }
    }

    /// What the own thread does: has turns while there is work, and sleeps.
    pub(crate) fn run(&self, is_over: impl Fn() -> bool, mut turn: impl FnMut(&mut W)) {
        let mut has_worked = false;
        loop {
            let soon = self.is_helped.swap(false, Relaxed) || has_worked;
            self.sleeper.prepare(soon);
            if is_over() {
                return;
            }
            let had_turn = self.try_turn(|work| {
                let has_work = !work.may_rest();
                if has_work {
                    self.sleeper.stay_awake();
                    turn(work);
                }
                has_work
            });
            has_worked = had_turn == Some(true);
            if !has_worked {
                self.sleeper.sleep(soon);
            }
        }
    }
}

/// The sleep of one thread.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    /// Whether it is about to sleep or sleeps.
    is_asleep: AtomicBool,
    /// Whether it will look by itself soon.
    is_dozing: AtomicBool,
    /// Guards whether it was woken.
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Sleeper {
    /// Ends a sleep that is announced or under way. Costs a look if there is none.
    pub(crate) fn wake(&self) {
        if self.is_asleep.load(SeqCst) && self.is_asleep.swap(false, SeqCst) {
            *lock(&self.is_woken) = true;
            self.woken.notify_one();
        }
    }

    /// As [`Sleeper::wake`], unless the thread looks soon by itself: for work that somebody is about to wait for, and so to
    /// help with, or else to wake for.
    pub(crate) fn mention(&self) {
        if !self.is_dozing.load(SeqCst) {
            self.wake();
        }
    }

    /// Announces a sleep, maybe a short one. The look that follows finds what was mentioned before.
    fn prepare(&self, soon: bool) {
        self.is_dozing.store(soon, SeqCst);
        self.is_asleep.store(true, SeqCst);
    }

    fn stay_awake(&self) {
        self.is_asleep.store(false, SeqCst);
    }

    fn sleep(&self, soon: bool) {
        let mut is_woken = lock(&self.is_woken);
        if soon && !*is_woken {
            is_woken = doze(&self.woken, is_woken, DOZE);
        }
        if soon {
            *is_woken = false;
            return;
        }
        while !*is_woken {
            is_woken = self.woken.wait(is_woken).unwrap_or_else(PoisonError::into_inner);
        }
        *is_woken = false;
    }
}
