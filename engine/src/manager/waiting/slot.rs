//! Where one answer is put for one thread or one task.
//!
//! Knows nothing of who answers. Keeps: the first answer stays; whoever looks after it has it at once; one that looked
//! before is woken once.

use super::{
    error::WaitError,
    sync::{Condvar, Mutex, is_over, lock, wait},
};
use std::{
    task::{Poll, Waker},
    time::Instant,
};

/// Room for one answer.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Guards the answer and who is to be woken for it.
    state: Mutex<State>,
    /// Notified when the answer comes.
    answered: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answer: Option<Result<(), WaitError>>,
    waker: Option<Waker>,
}

impl Slot {
    /// Puts the answer and wakes who waits for it.
    pub(super) fn fill(&self, answer: Result<(), WaitError>) {
        let mut state = lock(&self.state);
        state.answer.get_or_insert(answer);
        let waker = state.waker.take();
        drop(state);
        self.answered.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The answer, or else `waker` is woken when it comes, and no earlier one.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Result<(), WaitError>> {
        let waker = waker.clone();
        let mut state = lock(&self.state);
        if let Some(answer) = &state.answer {
            return Poll::Ready(answer.clone());
        }
        let earlier = state.waker.replace(waker);
        drop(state);
        drop(earlier);
        Poll::Pending
    }

    /// Blocks until the answer comes or the deadline passes.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<Result<(), WaitError>> {
        let mut state = lock(&self.state);
        while state.answer.is_none() && !is_over(deadline) {
            state = wait(&self.answered, state, deadline);
        }
        state.answer.clone()
    }
}
