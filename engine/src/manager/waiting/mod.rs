//! Waiting until a position of a partition is reached: by a thread, a future, a callback, or a queue with an eventfd.
//!
//! Owns who waits for what. Knows nothing of logs, files or the network: whoever moves a position tells the partition's
//! [`Watch`], and fires the [`Wakes`] that it gets back once its own locks are released. Keeps:
//!
//! * no lost wake-up: a waiter registers, and then looks at the position again; a position is moved, and then the waiters
//!   are looked at;
//! * one answer: a registered waiter is taken out under the lock by whoever answers it, so it is answered once or, if it
//!   deregisters first, never;
//! * nobody is woken for nothing: waiters lie in the order of their thresholds, and only those reached are touched;
//! * nothing of anybody else (waker, callback, system call, destructor of either) runs under a lock of this module.
//!
//! Order of locks: a long poll's before a watch's; a slot's and a completion queue's are taken with no other one held.

mod allotment;
mod committed;
mod contained;
mod cuts;
mod error;
#[cfg(test)]
mod fixtures;
mod gate;
#[cfg(all(test, shuttle))]
mod interleavings;
mod long_poll;
mod poll;
mod position;
mod queue;
mod slot;
mod sync;
mod thresholds;
mod ticket;
mod turns;
mod waiters;
mod wakes;
mod watch;

pub use error::WaitError;
pub use long_poll::LongPoll;
pub use position::Position;
pub use queue::{Completion, CompletionQueue};
pub use ticket::Ticket;

pub(super) use contained::contained;
pub(crate) use gate::Gate;
pub(crate) use long_poll::Readable;
pub(crate) use position::Mark;
pub(crate) use turns::{Sleeper, Turns, Work};
pub(crate) use wakes::Wakes;
pub(crate) use watch::{Mover, Watch};
