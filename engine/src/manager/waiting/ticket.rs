//! One position of one partition that somebody wants to be reached.
//!
//! Knows nothing of how positions move. Keeps: a ticket that is dropped or gives up leaves nothing in the watch.

use super::{
    error::WaitError,
    position::Position,
    queue::CompletionQueue,
    slot::Slot,
    wakes::{Waiter, Wakes},
    watch::{Condition, Registered, Watch},
};
use crate::types::Offset;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

/// Says when a position of a partition is at or above an offset: everything below the offset was written, committed,
/// decided or flushed.
///
/// Making one is cheap and registers nothing. Use it in one of four ways: block a thread ([`Ticket::wait`]), await it in any
/// runtime (it is a plain future), give it a function ([`Ticket::on_done`]), or have its answer put into a queue with a file
/// descriptor ([`Ticket::enqueue`]). A position that is reached already is answered at once.
///
/// The answer is `Ok(())`, or
/// * [`WaitError::Truncated`]: the log was cut below the offset after the ticket was made, whether or not the offset was
///   reached before or is reached again by other records;
/// * [`WaitError::Failed`]: the log or its directory failed before the offset was reached;
/// * [`WaitError::Closed`]: the log was closed or deleted before the offset was reached.
///
/// ```
/// use duramen::{CompletionQueue, LogConfig, LogManager, ManagerOptions, Position, TopicPartition, WaitError};
/// use std::time::{Duration, Instant};
///
/// # let dir = tempfile::tempdir()?;
/// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
/// let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;
/// let first = || orders.wait_for(Position::Flushed, 1);
/// let soon = Instant::now() + Duration::from_millis(1);
/// assert_eq!(first().wait(Some(soon)), Err(WaitError::TimedOut)); // a thread; nothing was appended
/// let task = async { first().await }; // a task
/// first().on_done(|answer| assert_eq!(answer, Err(WaitError::Closed))); // a function
/// first().enqueue(&CompletionQueue::new()?, 17); // an event loop
/// # drop(task);
/// # manager.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a ticket that nobody waits for tells nobody anything"]
pub struct Ticket {
    watch: Arc<Watch>,
    condition: Condition,
    /// Where the answer comes for the task that polls, and the id of its registration.
    registered: Option<(Arc<Slot>, u64)>,
}

impl Ticket {
    pub(super) fn new(watch: &Arc<Watch>, condition: Condition) -> Self {
        Self { watch: Arc::clone(watch), condition, registered: None }
    }

    /// The position that is waited for.
    #[must_use]
    pub fn position(&self) -> Position {
        self.condition.position
    }

    /// The offset, exclusive: everything below it is waited for.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.condition.offset
    }

    /// Whether there is an answer, good or bad. Takes no lock while all is well.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.watch.answer(&self.condition).is_some()
    }

    /// Blocks the thread until there is an answer or the deadline passes (`None`: never). The thread is woken once. After
    /// [`WaitError::TimedOut`] the ticket is as good as before.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] when the deadline passes first; the others as [`Ticket`] says.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<(), WaitError> {
        if let Some(answer) = self.watch.answer(&self.condition) {
            return answer;
        }
        if deadline.is_none() {
            self.watch.move_on(&self.condition);
        }
        if let Some(answer) = self.watch.answer(&self.condition) {
            return answer;
        }
        let slot = Arc::new(Slot::default());
        let id = match self.watch.register(&self.condition, Waiter::Slot(Arc::clone(&slot))) {
            Registered::Done(_, answer) => return answer,
            Registered::Waiting(id) => id,
        };
        if let Some(answer) = slot.wait(deadline) {
            return answer;
        }
        drop(self.watch.deregister(&self.condition, id));
        self.watch.answer(&self.condition).unwrap_or(Err(WaitError::TimedOut))
    }

    /// Calls `callback` with the answer, once: at once on this thread if it is there already, otherwise on the thread that
    /// moves the position, which holds no lock then. It should be short: others wait for that thread, which makes appends durable.
    /// So it must not wait for a ticket or for room, and not open, delete or close anything: it would wait for itself. It may
    /// drop what it has, the manager included. If it panics, the panic hook tells of it, and everything goes on.
    pub fn on_done(self, callback: impl FnOnce(Result<(), WaitError>) + Send + 'static) {
        self.give_to(Waiter::Callback(Box::new(callback)));
    }

    /// Puts the answer into `queue`, marked with `user_data`: at once if it is there already. It comes in any case, at the
    /// latest when the log is closed.
    pub fn enqueue(self, queue: &Arc<CompletionQueue>, user_data: u64) {
        self.give_to(Waiter::Queue(Arc::clone(queue), user_data));
    }

    fn give_to(self, waiter: Waiter) {
        if let Registered::Done(waiter, answer) = self.watch.register(&self.condition, waiter) {
            let mut wakes = Wakes::default();
            wakes.answer(waiter, answer);
            wakes.fire();
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), WaitError>;

    /// As [`Ticket`] says; never [`WaitError::TimedOut`]. Wakes the waker of the last poll only.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some((slot, _)) = &self.registered {
            return slot.poll(context.waker());
        }
        let slot = Arc::new(Slot::default());
        match self.watch.register(&self.condition, Waiter::Slot(Arc::clone(&slot))) {
            Registered::Done(_, answer) => Poll::Ready(answer),
            Registered::Waiting(id) => {
                let answer = slot.poll(context.waker());
                self.registered = Some((slot, id));
                answer
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((_, id)) = self.registered {
            drop(self.watch.deregister(&self.condition, id));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("position", &self.position())
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manager::waiting::fixtures::{Answers, Wakings, is_idle, mark, watch};
    use std::task::Waker;

    fn answers_of(ticket: Ticket) -> Answers {
        let answers = Answers::default();
        ticket.on_done(answers.callback());
        answers
    }

    #[test]
    fn reached_position_is_answered_at_once_in_every_way() {
        let watch = watch();
        watch.advance(&[(Position::Flushed, mark(10))]).fire();
        let ticket = || watch.ticket(Position::Flushed, 10);
        assert!(ticket().is_done());
        assert_eq!(ticket().wait(None), Ok(()));
        assert_eq!(answers_of(ticket()).taken(), [Ok(())]);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut ticket()).poll(&mut context), Poll::Ready(Ok(())));
        let queue = CompletionQueue::new().unwrap();
        ticket().enqueue(&queue, 3);
        let mut out = Vec::new();
        assert_eq!((queue.drain(&mut out), out[0].user_data), (1, 3));
        assert!(is_idle(&watch));
    }

    #[test]
    fn only_those_whose_offset_is_reached_are_answered() {
        let watch = watch();
        let waiting: Vec<_> =
            [12, 10, 11, 10].map(|offset| answers_of(watch.ticket(Position::LogEnd, offset))).into_iter().collect();
        let answered = || waiting.iter().map(|answers| answers.taken().len()).collect::<Vec<_>>();
        watch.advance(&[(Position::LogEnd, mark(9)), (Position::Flushed, mark(20))]).fire();
        assert_eq!(answered(), [0, 0, 0, 0]);
        watch.advance(&[(Position::LogEnd, mark(10))]).fire();
        assert_eq!(answered(), [0, 1, 0, 1]);
        watch.advance(&[(Position::LogEnd, mark(99))]).fire();
        assert_eq!(answered(), [1, 0, 1, 0]);
        assert!(is_idle(&watch));
    }

    #[test]
    fn nobody_is_called_before_the_wakes_are_fired() {
        let watch = watch();
        let answers = answers_of(watch.ticket(Position::LogEnd, 1));
        let wakes = watch.advance(&[(Position::LogEnd, mark(1))]);
        assert_eq!(answers.taken(), []);
        drop(wakes);
        assert_eq!(answers.taken(), [Ok(())]);
    }

    #[test]
    fn callback_may_use_the_watch_that_calls_it() {
        let watch = watch();
        let again = Answers::default();
        watch.ticket(Position::LogEnd, 1).on_done({
            let (watch, again) = (Arc::clone(&watch), again.callback());
            move |_| {
                watch.ticket(Position::LogEnd, 2).on_done(again);
                watch.advance(&[(Position::LogEnd, mark(2))]).fire();
            }
        });
        watch.advance(&[(Position::LogEnd, mark(1))]).fire();
        assert_eq!(again.taken(), [Ok(())]);
    }

    #[test]
    fn callback_that_panics_does_not_keep_others_from_their_answers() {
        let watch = watch();
        let queue = CompletionQueue::new().unwrap();
        watch.ticket(Position::LogEnd, 1).enqueue(&queue, 1);
        watch.ticket(Position::LogEnd, 1).on_done(|_| panic!("a mistake of the host"));
        let last = answers_of(watch.ticket(Position::LogEnd, 1));
        watch.advance(&[(Position::LogEnd, mark(1))]).fire();
        assert_eq!(last.taken(), [Ok(())]);
        assert_eq!(queue.drain(&mut Vec::new()), 1);
    }

    #[test]
    fn thread_is_woken_and_one_whose_deadline_passes_leaves_nothing() {
        let watch = watch();
        let ticket = watch.ticket(Position::HighWatermark, 5);
        assert_eq!(ticket.wait(Some(Instant::now())), Err(WaitError::TimedOut));
        assert!(is_idle(&watch));
        let waits = std::thread::spawn(move || ticket.wait(None));
        watch.advance(&[(Position::HighWatermark, mark(5))]).fire();
        assert_eq!(waits.join().unwrap(), Ok(()));
    }

    #[test]
    fn last_waker_is_woken_and_a_dropped_future_leaves_nothing() {
        let watch = watch();
        let (first, last, gone) = (Wakings::default(), Wakings::default(), Wakings::default());
        let mut ticket = watch.ticket(Position::HighWatermark, 5);
        assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&first.waker())).is_pending());
        assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&last.waker())).is_pending());
        let mut dropped = watch.ticket(Position::HighWatermark, 5);
        assert!(Pin::new(&mut dropped).poll(&mut Context::from_waker(&gone.waker())).is_pending());
        drop(dropped);
        watch.advance(&[(Position::HighWatermark, mark(5))]).fire();
        assert_eq!((first.count(), last.count(), gone.count()), (0, 1, 0));
        assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn truncation_ends_who_waits_above_it_for_any_position() {
        let watch = watch();
        watch.advance(&Position::ALL.map(|position| (position, mark(10)))).fire();
        let early = watch.ticket(Position::Flushed, 8);
        for position in Position::ALL {
            let (above, below) = (answers_of(watch.ticket(position, 20)), watch.ticket(position, 5));
            watch.truncate(mark(7)).fire();
            assert_eq!(above.taken(), [Err(WaitError::Truncated)]);
            assert_eq!((watch.get(position), below.wait(None)), (7, Ok(())));
        }
        watch.advance(&[(Position::Flushed, mark(30))]).fire();
        assert_eq!(early.wait(None), Err(WaitError::Truncated), "other records have its offset now");
        assert_eq!(watch.ticket(Position::Flushed, 8).wait(None), Ok(()));
        assert!(is_idle(&watch));
    }

    #[test]
    fn failure_ends_who_waits_above_what_is_reached_now_and_later() {
        let watch = watch();
        watch.advance(&[(Position::Flushed, mark(10))]).fire();
        let before = answers_of(watch.ticket(Position::Flushed, 11));
        watch.fail("no space".into()).fire();
        watch.close().fire();
        let failed = Err(WaitError::Failed { cause: "no space".into() });
        assert_eq!(before.taken(), vec![failed.clone()]);
        assert!(watch.ticket(Position::Flushed, 11).is_done());
        assert_eq!(watch.ticket(Position::Flushed, 11).wait(None), failed);
        assert_eq!(watch.ticket(Position::Flushed, 10).wait(None), Ok(()));
    }

    #[test]
    fn watch_that_goes_away_answers_its_last_waiters() {
        let watch = watch();
        let answers = answers_of(watch.ticket(Position::Flushed, 1));
        drop(watch);
        assert_eq!(answers.taken(), [Err(WaitError::Closed)]);
    }

    #[test]
    fn flushed_ignores_a_lower_value_and_others_follow_it() {
        let watch = watch();
        let all = |offset| Position::ALL.map(|position| (position, mark(offset)));
        watch.advance(&all(10)).fire();
        watch.advance(&all(5)).fire();
        assert_eq!(Position::ALL.map(|position| watch.get(position)), [5, 5, 5, 10]);
    }
}
