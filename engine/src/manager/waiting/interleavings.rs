//! The state machines of waiting under every order of their threads that shuttle finds: some thousand at random and as many
//! with few preemptions, from fixed seeds; the smallest of them under all. A lost wake-up is a deadlock here, which shuttle
//! reports with the schedule that leads to it.
#![allow(clippy::unwrap_used)]

mod committed;
mod turns;

use super::{
    fixtures::{Answers, Wakings, is_idle, mark, watch},
    gate::Gate,
    long_poll::{LongPoll, Readable},
    position::Position,
    queue::{Completion, CompletionQueue, is_readable},
    watch::Watch,
    *,
};
use shuttle::{
    Config, Runner,
    future::block_on,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread::{JoinHandle, spawn},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

const SEED: u64 = 5;
const ORDERS: usize = 4000;
/// Preemptions in an order that is not random.
const PREEMPTIONS: usize = 3;

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 0x10000;
    // It warns that it takes every atomic access as sequentially consistent.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(test);
}

fn explore(test: impl Fn() + Send + Sync + Copy + 'static) {
    run(RandomScheduler::new_from_seed(SEED, ORDERS), test);
    run(PctScheduler::new_from_seed(SEED, PREEMPTIONS, ORDERS), test);
}

fn explore_all(test: impl Fn() + Send + Sync + Copy + 'static, at_most: usize) {
    run(DfsScheduler::new(Some(at_most), false), test);
}

fn advance(watch: &Arc<Watch>, position: Position, offsets: &'static [i64]) -> JoinHandle<()> {
    let watch = Arc::clone(watch);
    spawn(move || {
        for offset in offsets {
            watch.advance(&[(position, mark(*offset))]).fire();
        }
    })
}

fn poll_once(future: &mut (impl Future<Output = Result<(), WaitError>> + Unpin), wakings: &Wakings) -> bool {
    match Pin::new(future).poll(&mut Context::from_waker(&wakings.waker())) {
        Poll::Ready(answer) => {
            assert_eq!(answer, Ok(()));
            true
        }
        Poll::Pending => false,
    }
}

fn nothing(watch: &Watch) -> Readable {
    Readable { seen: watch.seen(Position::HighWatermark), available: 0, max_bytes: u64::MAX }
}

fn long_poll(min_bytes: u64, watches: &[Arc<Watch>]) -> LongPoll {
    let mut poll = LongPoll::new(min_bytes);
    watches.iter().for_each(|watch| poll.watch(watch, nothing(watch)));
    poll
}

fn thread_waits_while_the_position_moves() {
    let watch = watch();
    let ticket = watch.ticket(Position::Flushed, 10);
    let moves = advance(&watch, Position::Flushed, &[10]);
    assert_eq!(ticket.wait(None), Ok(()));
    moves.join().unwrap();
    assert!(is_idle(&watch));
}

#[test]
fn thread_is_never_left_waiting() {
    explore(thread_waits_while_the_position_moves);
    explore_all(thread_waits_while_the_position_moves, 20_000);
}

#[test]
fn threads_wait_at_thresholds_of_their_own() {
    explore(|| {
        let watch = watch();
        let waits = [7, 3, 5].map(|offset| {
            let watch = Arc::clone(&watch);
            spawn(move || {
                let answer = watch.ticket(Position::LogEnd, offset).wait(None);
                assert!(watch.get(Position::LogEnd) >= offset, "woken too early");
                assert_eq!(answer, Ok(()));
            })
        });
        let moves = advance(&watch, Position::LogEnd, &[3, 6, 7]);
        waits.into_iter().chain([moves]).for_each(|thread| thread.join().unwrap());
        assert!(is_idle(&watch));
    });
}

#[test]
fn callback_is_called_once_and_not_before_its_threshold() {
    explore(|| {
        let watch = watch();
        let answers = [4, 9].map(|_| Answers::default());
        let moves = [advance(&watch, Position::Flushed, &[5, 8]), advance(&watch, Position::Flushed, &[4])];
        for (answers, offset) in answers.iter().zip([4, 9]) {
            watch.ticket(Position::Flushed, offset).on_done(answers.callback());
        }
        moves.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(answers.each_ref().map(Answers::taken), [vec![Ok(())], vec![]]);
        assert_eq!(watch.get(Position::Flushed), 8, "two threads raise it to the higher value");
    });
}

#[test]
fn future_wakes_the_waker_of_its_last_poll() {
    explore(|| {
        let watch = watch();
        let (first, last) = (Wakings::default(), Wakings::default());
        let mut ticket = watch.ticket(Position::HighWatermark, 1);
        let moves = advance(&watch, Position::HighWatermark, &[1]);
        let is_ready = poll_once(&mut ticket, &first) || poll_once(&mut ticket, &last);
        moves.join().unwrap();
        assert!(is_ready || last.count() == 1, "lost");
        assert!(first.count() + last.count() <= 1, "woken twice");
        assert!(poll_once(&mut ticket, &last));
    });
}

#[test]
fn future_in_an_executor_is_done() {
    explore(|| {
        let watch = watch();
        let ticket = watch.ticket(Position::LastStable, 2);
        let moves = advance(&watch, Position::LastStable, &[1, 2, 3]);
        assert_eq!(block_on(ticket), Ok(()));
        moves.join().unwrap();
        assert!(is_idle(&watch));
    });
}

#[test]
fn future_dropped_while_it_is_woken_leaves_nothing() {
    explore(|| {
        let watch = watch();
        let wakings = Wakings::default();
        let moves = advance(&watch, Position::HighWatermark, &[1]);
        let mut ticket = watch.ticket(Position::HighWatermark, 1);
        poll_once(&mut ticket, &wakings);
        drop(ticket);
        moves.join().unwrap();
        assert!(wakings.count() <= 1);
        assert!(is_idle(&watch));
    });
}

#[test]
fn failure_reaches_who_registers_meanwhile() {
    explore(|| {
        let watch = watch();
        let fails = spawn({
            let watch = Arc::clone(&watch);
            move || watch.fail("disk".into()).fire()
        });
        let moves = advance(&watch, Position::Flushed, &[1]);
        let low = watch.ticket(Position::Flushed, 1).wait(None);
        let high = watch.ticket(Position::Flushed, 2).wait(None);
        let failed = Err(WaitError::Failed { cause: "disk".into() });
        assert!(low == Ok(()) || low == failed);
        assert_eq!(high, failed);
        moves.join().unwrap();
        fails.join().unwrap();
        assert!(is_idle(&watch));
    });
}

#[test]
fn truncated_records_are_never_taken_for_their_successors() {
    explore(|| {
        let watch = watch();
        let ticket = watch.ticket(Position::Flushed, 10);
        let answers = Answers::default();
        watch.ticket(Position::Flushed, 10).on_done(answers.callback());
        let cuts = spawn({
            let watch = Arc::clone(&watch);
            move || {
                watch.truncate(mark(5)).fire();
                watch.advance(&[(Position::Flushed, mark(20))]).fire();
            }
        });
        assert_eq!(ticket.wait(None), Err(WaitError::Truncated));
        cuts.join().unwrap();
        assert_eq!(answers.taken(), [Err(WaitError::Truncated)]);
        assert!(is_idle(&watch));
    });
}

/// What was drained so far; whatever is left must show at the descriptor.
fn drain_rest(queue: &CompletionQueue, out: &mut Vec<Completion>, all: usize) -> Vec<u64> {
    assert!(out.len() == all || is_readable(queue), "{} of {all} were drained, and no more are announced", out.len());
    queue.drain(out);
    let mut users: Vec<u64> = out.iter().map(|completion| completion.user_data).collect();
    users.sort_unstable();
    users
}

#[test]
fn descriptor_announces_what_a_drain_misses() {
    explore(|| {
        let (watch, queue) = (watch(), CompletionQueue::new().unwrap());
        for (offset, user_data) in [(1, 1), (2, 2), (2, 3)] {
            watch.ticket(Position::Flushed, offset).enqueue(&queue, user_data);
        }
        let moves = advance(&watch, Position::Flushed, &[1, 2]);
        let mut out = Vec::new();
        queue.drain(&mut out);
        queue.drain(&mut out);
        moves.join().unwrap();
        assert_eq!(drain_rest(&queue, &mut out, 3), [1, 2, 3]);
    });
}

#[test]
fn ticket_enqueued_while_the_position_moves_completes_once() {
    explore(|| {
        let (watch, queue) = (watch(), CompletionQueue::new().unwrap());
        let moves = advance(&watch, Position::Flushed, &[1, 2]);
        let enqueues = spawn({
            let (watch, queue) = (Arc::clone(&watch), Arc::clone(&queue));
            move || [1, 2].map(|offset| watch.ticket(Position::Flushed, offset).enqueue(&queue, offset as u64))
        });
        let mut out = Vec::new();
        while out.len() < 2 {
            assert!(queue.wait(None));
            queue.drain(&mut out);
        }
        moves.join().unwrap();
        enqueues.join().unwrap();
        assert_eq!(drain_rest(&queue, &mut out, 2), [1, 2]);
    });
}

#[test]
fn long_poll_sums_two_partitions() {
    explore(|| {
        let watches = [watch(), watch()];
        let mut poll = long_poll(500, &watches);
        let moves = [
            advance(&watches[0], Position::HighWatermark, &[1, 2, 3]),
            advance(&watches[1], Position::HighWatermark, &[1, 2]),
        ];
        assert_eq!(poll.wait(None), Ok(()));
        assert!(watches.each_ref().map(|watch| watch.bytes(Position::HighWatermark)).iter().sum::<u64>() == 500);
        moves.into_iter().for_each(|thread| thread.join().unwrap());
        drop(poll);
        assert!(watches.iter().all(|watch| is_idle(watch)));
    });
}

#[test]
fn long_poll_is_silent_one_byte_short_and_answered_once() {
    explore(|| {
        let watches = [watch(), watch()];
        let (mut enough, mut short) = (long_poll(400, &watches), long_poll(401, &watches));
        let (answers, none) = (Answers::default(), Answers::default());
        let moves = watches.each_ref().map(|watch| advance(watch, Position::HighWatermark, &[1, 2]));
        enough.on_done(answers.callback());
        short.on_done(none.callback());
        moves.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((answers.taken(), none.taken()), (vec![Ok(())], vec![]));
    });
}

#[test]
fn long_poll_in_an_executor_is_done_and_in_a_queue_too() {
    explore(|| {
        let (watches, queue) = ([watch(), watch()], CompletionQueue::new().unwrap());
        let mut queued = long_poll(300, &watches);
        let awaited = long_poll(300, &watches);
        let moves = [
            advance(&watches[0], Position::HighWatermark, &[1, 2]),
            advance(&watches[1], Position::HighWatermark, &[1]),
        ];
        queued.enqueue(&queue, 7);
        assert_eq!(block_on(awaited), Ok(()));
        assert!(queue.wait(None));
        moves.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(drain_rest(&queue, &mut Vec::new(), 1), [7]);
    });
}

#[test]
fn long_poll_dropped_while_it_is_woken_leaves_nothing() {
    explore(|| {
        let watches = [watch(), watch()];
        let wakings = Wakings::default();
        let mut poll = long_poll(200, &watches);
        let moves = watches.each_ref().map(|watch| advance(watch, Position::HighWatermark, &[1, 2]));
        poll_once(&mut poll, &wakings);
        drop(poll);
        moves.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(wakings.count() <= 1);
        assert!(watches.iter().all(|watch| is_idle(watch)));
    });
}

#[test]
fn long_poll_hears_of_a_truncation_and_of_an_end_while_it_registers() {
    explore(|| {
        let watches = [watch(), watch()];
        watches[0].advance(&[(Position::HighWatermark, mark(9))]).fire();
        let (mut cut, mut closed) = (long_poll(1000, &watches), long_poll(1000, &watches[1..]));
        let ends = spawn({
            let watches = watches.clone();
            move || {
                watches[0].truncate(mark(5)).fire();
                watches[1].close().fire();
            }
        });
        assert!(matches!(cut.wait(None), Err(WaitError::Truncated | WaitError::Closed)));
        assert_eq!(closed.wait(None), Err(WaitError::Closed));
        ends.join().unwrap();
    });
}

/// Rooms for some: whoever takes away what fills them opens the gate for as many as there is room for then.
fn empty(gate: &Arc<Gate>, filled: &Arc<AtomicUsize>, steps: usize) -> JoinHandle<()> {
    let (gate, filled) = (Arc::clone(gate), Arc::clone(filled));
    spawn(move || {
        for _ in 0..steps {
            let left = filled.fetch_sub(1, SeqCst) - 1;
            if gate.is_asked() {
                gate.grant(if left == 0 { usize::MAX } else { 1 }).fire();
            }
        }
    })
}

fn thread_waits_at_a_gate_that_opens() {
    let (gate, filled) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(1)));
    let opens = empty(&gate, &filled, 1);
    assert_eq!(gate.ticket(1, || filled.load(SeqCst) == 0).wait(None), Ok(()));
    opens.join().unwrap();
}

#[test]
fn nobody_is_left_before_a_gate_that_opened() {
    explore(thread_waits_at_a_gate_that_opens);
    explore_all(thread_waits_at_a_gate_that_opens, 20_000);
}

#[test]
fn nobody_is_left_before_a_gate_because_others_went_away() {
    explore(|| {
        let (gate, filled) = (Arc::new(Gate::default()), Arc::new(AtomicUsize::new(3)));
        let opens = empty(&gate, &filled, 3);
        let waits = [false, true, false].map(|gives_up| {
            let (gate, filled) = (Arc::clone(&gate), Arc::clone(&filled));
            spawn(move || {
                let ticket = gate.ticket(2, || filled.load(SeqCst) < 2);
                if !gives_up {
                    assert_eq!(ticket.wait(None), Ok(()));
                }
            })
        });
        waits.into_iter().chain([opens]).for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn gate_that_ends_leaves_nobody_before_it() {
    explore(|| {
        let gate = Arc::new(Gate::default());
        let ends = spawn({
            let gate = Arc::clone(&gate);
            move || gate.end(WaitError::Closed).fire()
        });
        assert_eq!(block_on(gate.ticket(1, || false)), Err(WaitError::Closed));
        ends.join().unwrap();
    });
}
