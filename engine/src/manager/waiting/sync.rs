//! The locks, atomics and condition variables of waiting: the standard library's, or those of shuttle, which runs every
//! thread of a test in an order of its own choice.

#[cfg(not(all(test, shuttle)))]
pub(super) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU64, fence},
};

#[cfg(all(test, shuttle))]
pub(super) use shuttle::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU64, fence},
};

use std::{
    sync::{PoisonError, TryLockError},
    time::{Duration, Instant},
};

/// Locks; nothing here panics under a lock, so a poisoned one holds what it should.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, unless somebody else has it.
pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits once, until notified, until the deadline, or for no reason at all.
pub(super) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, deadline: Option<Instant>) -> MutexGuard<'a, T> {
    match deadline {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            condvar.wait_timeout(guard, left(deadline)).map_or_else(|poison| poison.into_inner().0, |(guard, _)| guard)
        }
    }
}

/// Waits once, until notified, for so long, or for no reason at all.
pub(super) fn doze<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    // Shuttle has no clock: there it is over at once, which may as well be.
    if cfg!(all(test, shuttle)) {
        return guard;
    }
    condvar.wait_timeout(guard, time).map_or_else(|poison| poison.into_inner().0, |(guard, _)| guard)
}

/// Whether the deadline has passed.
pub(super) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| left(deadline).is_zero())
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Stands where a system call is about to be made, of which shuttle sees nothing: other threads may run before it.
pub(super) fn before_system_call() {
    #[cfg(all(test, shuttle))]
    shuttle::thread::yield_now();
}
