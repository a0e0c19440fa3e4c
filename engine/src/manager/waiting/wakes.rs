//! Who is to be woken, once the locks are released.
//!
//! Owns waiters that were taken out of a watch or a poll with their answers. Keeps: each is answered once, whatever
//! happens; completions of one queue go in with one lock.

use super::{
    contained::contained,
    error::WaitError,
    poll::{Due, Poll},
    queue::{Completion, CompletionQueue},
    slot::Slot,
};
use std::{collections::VecDeque, fmt, sync::Arc};

/// Whom an answer is for.
pub(super) enum Waiter {
    /// A blocked thread or a task.
    Slot(Arc<Slot>),
    /// A function of the host.
    Callback(Box<dyn FnOnce(Result<(), WaitError>) + Send>),
    /// An event loop of the host.
    Queue(Arc<CompletionQueue>, u64),
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot(_) => "Slot",
            Self::Callback(_) => "Callback",
            Self::Queue(..) => "Queue",
        })
    }
}

#[derive(Debug)]
enum Wake {
    Answer(Waiter, Result<(), WaitError>),
    /// The partition of this index has grown by what the poll allotted to it.
    Grown(Arc<Poll>, usize),
    EndPoll(Arc<Poll>, WaitError),
}

/// Everybody whom a change of positions concerns. They are woken by [`Wakes::fire`], or when this is dropped: hold it until
/// your locks are released. The empty one costs nothing.
#[must_use = "dropped here, it would wake its waiters under the locks that you hold"]
#[derive(Debug, Default)]
pub(crate) struct Wakes(Option<Box<Pending>>);

/// Those who are not woken yet, and completions that are not in their queues yet.
#[derive(Debug, Default)]
struct Pending {
    wakes: VecDeque<Wake>,
    completions: Vec<(Arc<CompletionQueue>, Vec<Completion>)>,
}

impl Wakes {
    /// Whether nobody is to be woken.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Wakes everybody, on this thread: callbacks run here, and if one panics, that ends there.
    #[inline]
    pub(crate) fn fire(self) {
        drop(self);
    }

    /// Adds those of another one, for one firing: a group commit fires once for all of its partitions.
    pub(crate) fn append(&mut self, mut other: Self) {
        match (&mut self.0, other.0.take()) {
            (_, None) => {}
            (Some(pending), Some(mut more)) => pending.wakes.append(&mut more.wakes),
            (none, more) => *none = more,
        }
    }

    pub(super) fn answer(&mut self, waiter: Waiter, answer: Result<(), WaitError>) {
        self.push(Wake::Answer(waiter, answer));
    }

    pub(super) fn grown(&mut self, poll: Arc<Poll>, part: usize) {
        self.push(Wake::Grown(poll, part));
    }

    pub(super) fn end_poll(&mut self, poll: Arc<Poll>, why: WaitError) {
        self.push(Wake::EndPoll(poll, why));
    }

    fn push(&mut self, wake: Wake) {
        self.0.get_or_insert_default().wakes.push_back(wake);
    }
}

impl Pending {
    fn wake_all(&mut self) {
        while let Some(wake) = self.wakes.pop_front() {
            match wake {
                Wake::Answer(waiter, answer) => self.deliver(waiter, answer),
                Wake::Grown(poll, part) => self.deliver_of(poll.grown(part)),
                Wake::EndPoll(poll, why) => self.deliver_of(poll.end(why)),
            }
        }
        for (queue, mut completions) in self.completions.drain(..) {
            queue.push(&mut completions);
        }
    }

    fn deliver_of(&mut self, due: Option<Due>) {
        if let Some((waiter, answer)) = due {
            self.deliver(waiter, answer);
        }
    }

    fn deliver(&mut self, waiter: Waiter, answer: Result<(), WaitError>) {
        match waiter {
            Waiter::Slot(slot) => contained(|| slot.fill(answer)),
            Waiter::Callback(callback) => contained(|| callback(answer)),
            Waiter::Queue(queue, user_data) => self.collect(queue, Completion { user_data, result: answer }),
        }
    }

    fn collect(&mut self, queue: Arc<CompletionQueue>, completion: Completion) {
        match self.completions.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &queue)) {
            Some((_, completions)) => completions.push(completion),
            None => self.completions.push((queue, vec![completion])),
        }
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        if let Some(mut pending) = self.0.take() {
            pending.wake_all();
        }
    }
}
