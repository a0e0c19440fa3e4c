//! Waiting for bytes over many partitions, as a fetch does that has found too few.
//!
//! The host's half; `poll.rs` is the half that partitions know. Keeps: dropping it takes every registration back.

use super::{
    error::WaitError,
    poll::{Part, Poll},
    queue::CompletionQueue,
    slot::Slot,
    wakes::Waiter,
    watch::{Seen, Watch},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Context},
    time::Instant,
};

/// What a read of a partition found, for a long poll to go on from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readable {
    /// Where the position stood before the read.
    pub(crate) seen: Seen,
    /// Bytes that the read found. If the position moved between the two, what came meanwhile counts twice, and the poll may
    /// end early by that much.
    pub(crate) available: u64,
    /// Bytes that the host would read of this partition at most; more do not count.
    pub(crate) max_bytes: u64,
}

/// Waits until the bytes that can be read, over all partitions added to it, come to a minimum (`fetch.min.bytes`).
///
/// It is not woken on each append, but once, when the sum suffices; a partition with many idle polls does little more at an
/// append than one with none. It registers at each partition when it is first waited for, and takes all registrations back
/// when it is dropped, each at the cost of a short lock for each partition: keep it until its answer has come, or the host
/// has answered for another reason, as its own deadline.
///
/// A poll over no partition has no answer, unless it is for 0 bytes. Otherwise it is `Ok(())`: read again; or
/// * [`WaitError::Truncated`]: one of the partitions was cut below what could be read: read again;
/// * [`WaitError::Failed`] or [`WaitError::Closed`]: one of the partitions came to its end.
///
/// With several ways used one after the other, the last one gets the answer.
///
/// ```
/// use duramen::{Fetch, LogConfig, LogManager, LongPoll, ManagerOptions, TopicPartition, WaitError};
/// use std::time::{Duration, Instant};
///
/// # let dir = tempfile::tempdir()?;
/// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
/// let mut poll = LongPoll::new(1 << 20);
/// for number in 0..3 {
///     let partition = manager.get_or_create(&TopicPartition::new("orders", number)?, &LogConfig::default())?;
///     partition.read_or_watch(Fetch::from(0), &mut poll)?;
/// }
/// let max_wait = Instant::now() + Duration::from_millis(1);
/// assert_eq!(poll.wait(Some(max_wait)), Err(WaitError::TimedOut)); // nobody wrote: answer with what there is
/// # manager.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropped, it waits for nothing"]
#[derive(Debug)]
pub struct LongPoll {
    shared: Arc<Poll>,
    /// Where the answer comes for a thread or a task.
    slot: Option<Arc<Slot>>,
}

impl LongPoll {
    /// A poll that ends when `min_bytes` can be read; with 0, at once.
    pub fn new(min_bytes: u64) -> Self {
        Self { shared: Arc::new(Poll::new(min_bytes)), slot: None }
    }

    /// Adds a partition.
    pub(crate) fn watch(&mut self, watch: &Arc<Watch>, readable: Readable) {
        let Readable { seen, available, max_bytes } = readable;
        self.shared.add(Part { watch: Arc::clone(watch), seen, available, max_bytes, growth: 0, armed: None });
    }

    /// Blocks the thread until there is an answer or the deadline passes (`None`: never). The thread is woken once. After
    /// [`WaitError::TimedOut`] the poll is as good as before.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] when the deadline passes first; the others as [`LongPoll`] says.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<(), WaitError> {
        let slot = self.slot();
        slot.wait(deadline).unwrap_or(Err(WaitError::TimedOut))
    }

    /// Calls `callback` with the answer, once: at once on this thread if it is there already, otherwise on the thread that
    /// moves a partition's position, which holds no lock then. It may do what [`Ticket::on_done`](crate::Ticket::on_done) says;
    /// a panic ends in it. Dropping the poll before that drops the callback.
    pub fn on_done(&mut self, callback: impl FnOnce(Result<(), WaitError>) + Send + 'static) {
        self.give_to(Waiter::Callback(Box::new(callback)));
    }

    /// Puts the answer into `queue`, marked with `user_data`: at once if it is there already. If the poll is dropped before,
    /// no answer comes, unless it is under way.
    pub fn enqueue(&mut self, queue: &Arc<CompletionQueue>, user_data: u64) {
        self.give_to(Waiter::Queue(Arc::clone(queue), user_data));
    }

    fn give_to(&mut self, waiter: Waiter) {
        self.slot = None;
        self.shared.give_to(waiter);
    }

    fn slot(&mut self) -> &Arc<Slot> {
        let shared = &self.shared;
        self.slot.get_or_insert_with(|| {
            let slot = Arc::new(Slot::default());
            shared.give_to(Waiter::Slot(Arc::clone(&slot)));
            slot
        })
    }
}

impl Future for LongPoll {
    type Output = Result<(), WaitError>;

    /// As [`LongPoll`] says; never [`WaitError::TimedOut`]. Wakes the waker of the last poll only.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> task::Poll<Self::Output> {
        self.slot().poll(context.waker())
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manager::waiting::{
        fixtures::{Answers, is_idle, mark, watch},
        position::{Mark, Position},
    };

    /// From the position's present end on, with nothing found there.
    fn nothing(watch: &Watch) -> Readable {
        found(watch, 0, u64::MAX)
    }

    fn found(watch: &Watch, available: u64, max_bytes: u64) -> Readable {
        Readable { seen: watch.seen(Position::HighWatermark), available, max_bytes }
    }

    fn add_bytes(watch: &Watch, bytes: u64) {
        let now = watch.seen(Position::HighWatermark).mark;
        let moved = Mark { offset: now.offset + 1, bytes: now.bytes + bytes };
        watch.advance(&[(Position::HighWatermark, moved)]).fire();
    }

    fn poll_of(min_bytes: u64, watches: &[Arc<Watch>]) -> (LongPoll, Answers) {
        let mut poll = LongPoll::new(min_bytes);
        for watch in watches {
            poll.watch(watch, nothing(watch));
        }
        let answers = Answers::default();
        poll.on_done(answers.callback());
        (poll, answers)
    }

    #[test]
    fn idle_poll_over_many_partitions_is_answered_when_the_sum_suffices() {
        let watches: Vec<_> = (0..1000).map(|_| watch()).collect();
        let (poll, answers) = poll_of(1 << 20, &watches);
        for append in 0..1023 {
            add_bytes(&watches[append * 7 % 1000], 1024);
        }
        assert_eq!(answers.taken(), []);
        add_bytes(&watches[5], 1023);
        assert_eq!(answers.taken(), []);
        add_bytes(&watches[6], 1);
        assert_eq!(answers.taken(), [Ok(())]);
        drop(poll);
        assert!(watches.iter().all(|watch| is_idle(watch)));
    }

    #[test]
    fn busy_partition_touches_idle_polls_seldom() {
        let watches: Vec<_> = (0..1000).map(|_| watch()).collect();
        let (poll, answers) = poll_of(1 << 20, &watches);
        let mut touches = 0;
        for _ in 0..1023 {
            let now = watches[0].seen(Position::HighWatermark).mark;
            let moved = Mark { offset: now.offset + 1, bytes: now.bytes + 1024 };
            touches += usize::from(!watches[0].advance(&[(Position::HighWatermark, moved)]).is_empty());
        }
        assert_eq!(answers.taken(), []);
        assert!(touches < 80, "{touches} touches");
        add_bytes(&watches[0], 1024);
        assert_eq!(answers.taken(), [Ok(())]);
        drop(poll);
    }

    #[test]
    fn any_byte_of_any_partition_ends_a_poll_for_one() {
        let watches = [watch(), watch(), watch()];
        for at in 0..3 {
            let (_poll, answers) = poll_of(1, &watches);
            add_bytes(&watches[at], 1);
            assert_eq!(answers.taken(), [Ok(())]);
        }
    }

    #[test]
    fn what_was_found_and_what_came_since_counts() {
        let watch = watch();
        add_bytes(&watch, 500);
        let readable = found(&watch, 60, u64::MAX);
        add_bytes(&watch, 40);
        let mut poll = LongPoll::new(100);
        poll.watch(&watch, readable);
        assert_eq!(poll.wait(Some(Instant::now())), Ok(()));
    }

    #[test]
    fn bytes_above_what_a_partition_may_give_do_not_count() {
        let (small, other) = (watch(), watch());
        let mut poll = LongPoll::new(100);
        poll.watch(&small, found(&small, 10, 30));
        poll.watch(&other, found(&other, 0, 1000));
        assert_eq!(poll.wait(Some(Instant::now())), Err(WaitError::TimedOut));
        add_bytes(&small, 1000);
        add_bytes(&other, 69);
        assert_eq!(poll.wait(Some(Instant::now())), Err(WaitError::TimedOut));
        add_bytes(&other, 1);
        assert_eq!(poll.wait(None), Ok(()));
    }

    #[test]
    fn other_positions_do_not_count() {
        let watch = watch();
        let (_poll, answers) = poll_of(1, std::slice::from_ref(&watch));
        watch.advance(&[(Position::LogEnd, mark(10)), (Position::Flushed, mark(10))]).fire();
        assert_eq!(answers.taken(), []);
    }

    #[test]
    fn position_that_moved_down_and_up_again_counts_once() {
        let watch = watch();
        watch.advance(&[(Position::HighWatermark, Mark { offset: 10, bytes: 100 })]).fire();
        let (_poll, answers) = poll_of(50, std::slice::from_ref(&watch));
        for bytes in [40, 149, 100, 149] {
            watch.advance(&[(Position::HighWatermark, Mark { offset: 10, bytes })]).fire();
        }
        assert_eq!(answers.taken(), []);
        watch.advance(&[(Position::HighWatermark, Mark { offset: 11, bytes: 150 })]).fire();
        assert_eq!(answers.taken(), [Ok(())]);
    }

    #[test]
    fn truncation_failure_and_close_of_one_partition_end_a_poll() {
        type End = fn(&Watch);
        let ends: [(End, WaitError); 3] = [
            (|watch| watch.truncate(mark(5)).fire(), WaitError::Truncated),
            (|watch| watch.fail("disk".into()).fire(), WaitError::Failed { cause: "disk".into() }),
            (|watch| watch.close().fire(), WaitError::Closed),
        ];
        for (end, why) in ends {
            let watches = [watch(), watch()];
            watches[1].advance(&[(Position::HighWatermark, mark(10))]).fire();
            let (_poll, answers) = poll_of(1 << 20, &watches);
            let seen = nothing(&watches[1]);
            end(&watches[1]);
            assert_eq!(answers.taken(), [Err(why.clone())]);
            let mut late = LongPoll::new(1);
            late.watch(&watches[1], seen);
            assert_eq!(late.wait(None), Err(why), "of a poll that had not registered yet");
        }
    }

    #[test]
    fn truncation_above_the_position_does_not_end_a_poll() {
        let watch = watch();
        watch.advance(&[(Position::LogEnd, mark(10)), (Position::HighWatermark, mark(5))]).fire();
        let (_poll, answers) = poll_of(1, std::slice::from_ref(&watch));
        watch.truncate(mark(5)).fire();
        assert_eq!(answers.taken(), []);
    }

    #[test]
    fn queue_and_future_are_answered_too() {
        let watch = watch();
        let queue = CompletionQueue::new().unwrap();
        let mut poll = LongPoll::new(1);
        poll.watch(&watch, nothing(&watch));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut poll).poll(&mut context).is_pending());
        poll.enqueue(&queue, 9);
        add_bytes(&watch, 1);
        let mut out = Vec::new();
        queue.drain(&mut out);
        assert_eq!((out.len(), out[0].user_data), (1, 9));
        assert!(Pin::new(&mut poll).poll(&mut context).is_ready());
    }

    #[test]
    fn dropped_poll_is_not_answered() {
        let watch = watch();
        let (poll, answers) = poll_of(1, std::slice::from_ref(&watch));
        drop(poll);
        assert!(is_idle(&watch));
        add_bytes(&watch, 1);
        assert_eq!(answers.taken(), []);
    }
}
