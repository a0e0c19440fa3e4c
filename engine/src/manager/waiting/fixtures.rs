//! What the tests of waiting have in common: a watch, marks, and hosts that count what reaches them.

use super::{
    error::WaitError,
    position::{Mark, Position},
    watch::Watch,
};
use crate::types::Offset;
use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    task::{Wake, Waker},
};

/// A hundred bytes a record.
pub(super) fn mark(offset: Offset) -> Mark {
    Mark { offset, bytes: u64::try_from(offset).unwrap_or(0) * 100 }
}

/// A watch with everything at 0.
pub(super) fn watch() -> Arc<Watch> {
    Arc::new(Watch::new(Position::ALL.map(|_| mark(0))))
}

/// Whether nobody waits, so that a move takes no lock.
pub(super) fn is_idle(watch: &Watch) -> bool {
    watch.waiters() == 0 && watch.is_fast()
}

/// The answers that a callback got.
#[derive(Debug, Default, Clone)]
pub(super) struct Answers(Arc<Mutex<Vec<Result<(), WaitError>>>>);

impl Answers {
    pub(super) fn callback(&self) -> impl FnOnce(Result<(), WaitError>) + Send + 'static {
        let answers = Arc::clone(&self.0);
        move |answer| answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer)
    }

    pub(super) fn taken(&self) -> Vec<Result<(), WaitError>> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How often a waker was woken.
#[derive(Debug, Default, Clone)]
pub(super) struct Wakings(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter(Mutex<usize>);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

impl Wakings {
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.0))
    }

    pub(super) fn count(&self) -> usize {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
