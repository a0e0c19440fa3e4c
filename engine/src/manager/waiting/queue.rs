//! Completions for a thread with an event loop of its own.
//!
//! Owns the completions that were not drained yet, and the eventfd that says so. Knows nothing of positions. Keeps: nothing
//! enqueued is lost or seen twice; while there are completions the eventfd is readable, or is about to be made so by the
//! thread that enqueued the first of them.

use super::{
    error::WaitError,
    sync::{Condvar, Mutex, before_system_call, is_over, lock, wait},
};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::{
    fmt, io, mem,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

/// The answer to one ticket or long poll that was enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// What was given when it was enqueued.
    pub user_data: u64,
    /// The answer.
    pub result: Result<(), WaitError>,
}

/// Where answers are put for a host with an event loop of its own: it polls the file descriptor ([`AsFd`]) among its
/// sockets, and drains the queue when that is readable.
///
/// Any number of partitions may complete into one queue. It holds at most one completion for each ticket or long poll that
/// was enqueued. Many completions at once cost one lock, and one write to the eventfd if the queue was empty.
///
/// ```
/// use duramen::{CompletionQueue, LogConfig, LogManager, ManagerOptions, Position, TopicPartition};
/// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
/// use std::os::fd::AsFd;
///
/// # let dir = tempfile::tempdir()?;
/// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
/// let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;
/// let queue = CompletionQueue::new()?;
/// orders.wait_for(Position::LogEnd, 0).enqueue(&queue, 17);
/// let mut completions = Vec::new();
/// while completions.is_empty() {
///     poll(&mut [PollFd::new(queue.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
///     queue.drain(&mut completions);
/// }
/// assert_eq!(completions[0].user_data, 17);
/// # manager.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CompletionQueue {
    /// Guards the completions that nobody drained.
    completions: Mutex<Vec<Completion>>,
    /// Notified when the first completion comes.
    filled: Condvar,
    event: EventFd,
}

impl CompletionQueue {
    /// An empty queue. It holds one file descriptor, of the kind `eventfd`, nonblocking and closed on exec.
    ///
    /// # Errors
    /// What `eventfd(2)` says: no descriptor (`EMFILE`, `ENFILE`) or no memory is left.
    pub fn new() -> io::Result<Arc<Self>> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Arc::new(Self { completions: Mutex::default(), filled: Condvar::new(), event }))
    }

    /// Moves every completion to the end of `out`; how many there were. Never blocks. Makes the file descriptor unreadable
    /// until the next completion comes; one that comes meanwhile is in `out`, or makes it readable again.
    pub fn drain(&self, out: &mut Vec<Completion>) -> usize {
        self.reset();
        let drained = mem::take(&mut *lock(&self.completions));
        let count = drained.len();
        out.extend(drained);
        count
    }

    /// Blocks until there are completions or the deadline passes (`None`: never); whether there are some. For a thread
    /// without an event loop; several may wait, and all are woken.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut completions = lock(&self.completions);
        while completions.is_empty() && !is_over(deadline) {
            completions = wait(&self.filled, completions, deadline);
        }
        !completions.is_empty()
    }

    /// Adds completions; takes them out of `more`, which keeps its room.
    pub(super) fn push(&self, more: &mut Vec<Completion>) {
        let mut completions = lock(&self.completions);
        let was_empty = completions.is_empty();
        if was_empty {
            mem::swap(&mut *completions, more);
        } else {
            completions.append(more);
        }
        let is_empty = completions.is_empty();
        drop(completions);
        if was_empty && !is_empty {
            self.signal();
        }
    }

    fn signal(&self) {
        before_system_call();
        // It fails only when the counter is full, and then it is readable as it should be.
        let _ = self.event.write(1);
        self.filled.notify_all();
    }

    fn reset(&self) {
        before_system_call();
        // It fails only when the counter is 0, which is what is wanted.
        let _ = self.event.read();
    }
}

impl AsFd for CompletionQueue {
    /// Readable while there are completions. It may be readable, for a moment, with none: a drain by another thread, or one
    /// that overtook the write, has taken them. Read or write it never; only poll it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionQueue").field("completions", &lock(&self.completions).len()).finish_non_exhaustive()
    }
}

/// Whether an event loop would see it as readable.
#[cfg(test)]
pub(super) fn is_readable(queue: &CompletionQueue) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(queue.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn push(queue: &CompletionQueue, users: &[u64]) {
        let mut more = users.iter().map(|user_data| Completion { user_data: *user_data, result: Ok(()) }).collect();
        queue.push(&mut more);
        assert!(more.is_empty());
    }

    fn drained(queue: &CompletionQueue) -> Vec<u64> {
        let mut out = Vec::new();
        assert_eq!(queue.drain(&mut out), out.len());
        out.iter().map(|completion| completion.user_data).collect()
    }

    #[test]
    fn completions_leave_in_order_and_the_descriptor_follows() {
        let queue = CompletionQueue::new().unwrap();
        assert!(!is_readable(&queue));
        push(&queue, &[]);
        assert!(!is_readable(&queue));
        push(&queue, &[1, 2]);
        push(&queue, &[3]);
        assert!(is_readable(&queue));
        assert_eq!(drained(&queue), [1, 2, 3]);
        assert!(!is_readable(&queue));
        push(&queue, &[4]);
        assert!(is_readable(&queue));
        assert_eq!(drained(&queue), [4]);
        assert_eq!(drained(&queue), []);
    }

    #[test]
    fn waiting_ends_with_a_completion_or_the_deadline() {
        let queue = CompletionQueue::new().unwrap();
        assert!(!queue.wait(Some(Instant::now())));
        let waits = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.wait(None)
        });
        push(&queue, &[1]);
        assert!(waits.join().unwrap());
    }
}
