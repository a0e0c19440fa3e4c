//! Waiting until a directory takes appends again: for room in the journal and for memory, by threads, tasks and a queue.
#![allow(clippy::unwrap_used)]

use duramen::{
    Append, AppendAsLeader, Background, CompletionQueue, DirectoryOptions, Durability, Fetch, Isolation, LogConfig,
    LogError, LogManager, ManagerOptions, Partition, PartitionError, Room, SlicePart, TopicPartition, TryAppendError,
    ValidatedBatch, ValidationPolicy, WaitError, format::builder::BatchBuilder, storage::Storage, validate,
};
use duramen_tests::{
    disk::{Fault, SimDisk},
    fixture::NOW_MS,
};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

/// Little of everything.
fn options() -> ManagerOptions {
    ManagerOptions {
        journal_bytes: 1 << 20,
        gather_bytes: 64 << 10,
        piece_bytes: 4096,
        pending_bytes: 8 << 10,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
        ..ManagerOptions::default()
    }
}

fn polled() -> ManagerOptions {
    ManagerOptions { background: Background::Host, ..options() }
}

fn orders(number: usize) -> TopicPartition {
    TopicPartition::new("orders", i32::try_from(number).unwrap()).unwrap()
}

fn batch(bytes: usize) -> ValidatedBatch {
    let bytes = BatchBuilder::new().record(NOW_MS, None, Some(&vec![7; bytes])).build().unwrap();
    validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap()
}

fn try_append(partition: &Partition, batch: ValidatedBatch) -> Result<Append, TryAppendError> {
    partition.try_append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Flushed)
}

/// The batch, if the directory is busy.
fn is_busy(partition: &Partition, bytes: usize) -> bool {
    match try_append(partition, batch(bytes)) {
        Ok(_) => false,
        Err(TryAppendError::Busy(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

/// A manager whose journal is there, and its partitions.
fn opened(storage: Arc<dyn Storage>, options: ManagerOptions, partitions: usize) -> (LogManager, Vec<Arc<Partition>>) {
    let manager = LogManager::open_on(vec![storage], options).unwrap();
    manager.prepare().unwrap();
    let open = |number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap();
    let partitions = (0..partitions).map(open).collect();
    (manager, partitions)
}

fn real_disk(home: &tempfile::TempDir) -> Arc<dyn Storage> {
    duramen::storage::open_best(home.path()).unwrap().0
}

fn poll_until_idle(manager: &LogManager) {
    let polls = (0..1000).take_while(|_| manager.poll()).count();
    assert!(polls < 1000, "it spins");
}

#[test]
fn threads_that_give_batches_back_wait_and_append_everything() {
    let home = tempfile::tempdir().unwrap();
    let (manager, partitions) = opened(real_disk(&home), options(), 24);
    let busy = AtomicUsize::new(0);
    thread::scope(|scope| {
        for chunk in partitions.chunks(3) {
            let busy = &busy;
            scope.spawn(move || {
                for round in 0..100 {
                    for partition in chunk {
                        let mut batch = batch(500 + round * 50);
                        while let Err(error) = try_append(partition, batch) {
                            let TryAppendError::Busy(again) = error else { panic!("{error}") };
                            busy.fetch_add(1, Ordering::Relaxed);
                            batch = again;
                            let late = Instant::now() + Duration::from_secs(60);
                            partition.room(batch.bytes().len()).unwrap().wait(Some(late)).unwrap();
                        }
                    }
                }
            });
        }
    });
    assert!(partitions.iter().all(|partition| partition.offsets().log_end == 100));
    let busy = busy.into_inner();
    assert!((1..20 * 2400).contains(&busy), "{busy} batches came back");
    manager.close().unwrap();
}

/// An executor for one thread: the tasks that can go on, and how often one was polled.
#[derive(Default)]
struct Executor {
    ready: Mutex<VecDeque<usize>>,
    woken: Condvar,
    polls: AtomicUsize,
}

struct Task(Arc<Executor>, usize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.ready.lock().unwrap().push_back(self.1);
        self.0.woken.notify_one();
    }
}

impl Executor {
    fn run<F: Future<Output = ()>>(self: Arc<Self>, tasks: Vec<F>) {
        let mut tasks: Vec<_> = tasks.into_iter().map(|task| Some(Box::pin(task))).collect();
        self.ready.lock().unwrap().extend(0..tasks.len());
        let mut left = tasks.len();
        while left > 0 {
            let mut ready = self.ready.lock().unwrap();
            let number = loop {
                if let Some(number) = ready.pop_front() {
                    break number;
                }
                let late = Duration::from_secs(60);
                let (guard, timeout) = self.woken.wait_timeout(ready, late).unwrap();
                assert!(!timeout.timed_out(), "{left} tasks are left, and nobody wakes them");
                ready = guard;
            };
            drop(ready);
            let Some(task) = &mut tasks[number] else { continue };
            self.polls.fetch_add(1, Ordering::Relaxed);
            let waker = Waker::from(Arc::new(Task(Arc::clone(&self), number)));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                tasks[number] = None;
                left -= 1;
            }
        }
    }
}

/// A producer that is never blocked.
async fn produce(partition: &Partition, appends: usize, bytes: usize) {
    for _ in 0..appends {
        let mut batch = batch(bytes);
        let append = loop {
            match try_append(partition, batch) {
                Ok(append) => break append,
                Err(TryAppendError::Busy(again)) => batch = again,
                Err(error) => panic!("{error}"),
            }
            partition.room(batch.bytes().len()).unwrap().await.unwrap();
        };
        append.await.unwrap();
    }
}

#[test]
fn tasks_of_one_thread_wait_for_room_and_append_everything() {
    let home = tempfile::tempdir().unwrap();
    let (manager, partitions) = opened(real_disk(&home), options(), 40);
    let executor = Arc::new(Executor::default());
    Arc::clone(&executor).run(partitions.iter().map(|partition| produce(partition, 30, 1500)).collect());
    assert!(partitions.iter().all(|partition| partition.flushed() == 30));
    let polls = executor.polls.load(Ordering::Relaxed);
    assert!(polls < 20 * 1200, "{polls} polls for 1,200 appends: they spin");
    manager.close().unwrap();
}

/// How often its waker was woken.
#[derive(Default)]
struct Wakings(AtomicUsize);

impl Wake for Wakings {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_once(room: &mut Room, wakings: &Arc<Wakings>) -> Poll<Result<(), WaitError>> {
    let waker = Waker::from(Arc::clone(wakings));
    Pin::new(room).poll(&mut Context::from_waker(&waker))
}

#[test]
fn room_in_the_journal_is_told_when_it_took_what_was_pending() {
    let (manager, partitions) = opened(Arc::new(SimDisk::new(1)), polled(), 1);
    let orders = &partitions[0];
    assert!(orders.room(1000).unwrap().is_done(), "there is room");
    let appends = (0..100).take_while(|_| !is_busy(orders, 1000)).count();
    assert!((6..10).contains(&appends), "{appends} appends found room in 8 KiB");
    let (awaits, gone) = (Arc::new(Wakings::default()), Arc::new(Wakings::default()));
    let queue = CompletionQueue::new().unwrap();
    let (mut room, mut dropped) = (orders.room(1000).unwrap(), orders.room(1000).unwrap());
    assert!(poll_once(&mut room, &awaits).is_pending() && poll_once(&mut dropped, &gone).is_pending());
    orders.room(1000).unwrap().enqueue(&queue, 17);
    assert_eq!(orders.room(1000).unwrap().wait(Some(Instant::now())), Err(WaitError::TimedOut));
    drop(dropped);
    poll_until_idle(&manager);
    assert_eq!(poll_once(&mut room, &awaits), Poll::Ready(Ok(())));
    assert_eq!((awaits.0.load(Ordering::Relaxed), gone.0.load(Ordering::Relaxed)), (1, 0));
    let mut done = Vec::new();
    assert_eq!((queue.drain(&mut done), done[0].user_data), (1, 17));
    assert!(!is_busy(orders, 1000));
    manager.close().unwrap();
}

#[test]
fn memory_that_partitions_hold_is_freed_for_who_waits_for_it() {
    let options = ManagerOptions { pending_bytes: 1 << 20, ..polled() };
    let (manager, partitions) = opened(Arc::new(SimDisk::new(2)), options, 40);
    let busy = partitions.iter().position(|partition| is_busy(partition, 100)).unwrap();
    assert_eq!(busy, 16, "each partition begins a piece of 4 KiB, of 64 KiB");
    let room = partitions[busy].room(100).unwrap();
    assert!(!room.is_done());
    poll_until_idle(&manager);
    assert_eq!(room.wait(Some(Instant::now())), Ok(()), "nobody but the host's polls moved it");
    assert!(!is_busy(&partitions[busy], 100));
    manager.close().unwrap();
}

#[test]
fn memory_that_a_reader_lets_go_of_is_told_to_who_waits_for_it() {
    for background in [Background::Host, Background::Threads] {
        let options = ManagerOptions { background, pending_bytes: 1 << 20, ..options() };
        let (manager, partitions) = opened(Arc::new(SimDisk::new(3)), options, 1);
        let orders = &partitions[0];
        let mut held = Vec::new();
        // Everything that is in memory is held as bytes of slices, whatever reaches its segment meanwhile.
        let busy = (0..10_000).find(|_| {
            let is_busy = is_busy(orders, 3000);
            if !is_busy {
                let from = orders.offsets().log_end - 1;
                let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(from) };
                let slice = orders.read(fetch).unwrap().records.unwrap();
                held.extend(slice.parts().filter_map(|part| match part {
                    SlicePart::Memory(bytes) => Some(bytes),
                    SlicePart::File(..) => None,
                }));
            }
            is_busy
        });
        assert!(busy.is_some(), "{background:?}");
        let room = orders.room(3000).unwrap();
        if background == Background::Host {
            poll_until_idle(&manager);
            manager.tick();
            poll_until_idle(&manager);
        }
        let wakings = Arc::new(Wakings::default());
        let mut polled = orders.room(3000).unwrap();
        assert!(poll_once(&mut polled, &wakings).is_pending(), "{background:?}");
        assert_eq!(room.wait(Some(Instant::now())), Err(WaitError::TimedOut), "{background:?}");
        if background == Background::Host {
            poll_until_idle(&manager);
        }
        drop(held);
        if background == Background::Host {
            assert!(manager.poll(), "the poll was told");
            assert_eq!(wakings.0.load(Ordering::Relaxed), 1);
        }
        let begun = Instant::now();
        assert_eq!(room.wait(Some(begun + Duration::from_secs(60))), Ok(()));
        assert!(begun.elapsed() < Duration::from_secs(30), "{background:?}");
        assert!(!is_busy(orders, 3000));
        manager.close().unwrap();
    }
}

#[test]
fn append_that_needs_more_memory_than_others_does_not_keep_them() {
    let options = ManagerOptions { pending_bytes: 1 << 20, ..polled() };
    let (manager, partitions) = opened(Arc::new(SimDisk::new(4)), options, 17);
    assert!((0..16).all(|number| !is_busy(&partitions[number], 100)));
    drop(partitions[16].room(30_000).unwrap());
    let (small, large) = (partitions[16].room(100).unwrap(), partitions[16].room(30_000).unwrap());
    assert!(!small.is_done() && !large.is_done());
    poll_until_idle(&manager);
    assert!(small.is_done());
    manager.close().unwrap();
}

#[test]
fn append_larger_than_half_of_the_memory_does_without() {
    let (manager, partitions) = opened(Arc::new(SimDisk::new(8)), polled(), 1);
    let orders = &partitions[0];
    assert!(!is_busy(orders, 100) && !is_busy(orders, 100_000));
    assert!(orders.room(100_000).unwrap().is_done());
    let append = try_append(orders, batch(70_000)).unwrap();
    poll_until_idle(&manager);
    assert_eq!((append.is_done(), orders.flushed()), (true, 3));
    manager.close().unwrap();
}

#[test]
fn directory_that_fails_or_closes_answers_who_waits() {
    let disk = SimDisk::new(5);
    let (manager, partitions) = opened(Arc::new(disk.clone()), polled(), 2);
    let orders = &partitions[0];
    while !is_busy(orders, 1000) {}
    let (room, awaits) = (orders.room(1000).unwrap(), Arc::new(Wakings::default()));
    let mut polled_once = pin!(orders.room(1000).unwrap());
    assert!(poll_once(&mut polled_once, &awaits).is_pending());
    disk.fail_next("write durably journal/ring", Fault::Error(nix::errno::Errno::EIO));
    poll_until_idle(&manager);
    let failed = |answer: Result<(), WaitError>| matches!(answer, Err(WaitError::Failed { cause }) if cause.contains("journal/ring"));
    assert!(failed(room.wait(None)));
    assert_eq!(awaits.0.load(Ordering::Relaxed), 1);
    assert!(matches!(orders.room(1000), Err(PartitionError::DirectoryFailed { .. })));

    let (manager, partitions) = opened(Arc::new(SimDisk::new(6)), polled(), 2);
    while !is_busy(&partitions[0], 1000) {}
    let room = partitions[0].room(1000).unwrap();
    let waits = thread::spawn(move || room.wait(None));
    manager.close().unwrap();
    assert_eq!(waits.join().unwrap(), Err(WaitError::Closed));
    assert!(matches!(partitions[1].room(1), Err(PartitionError::Closed)));
}

#[test]
fn disk_that_is_full_ends_the_wait_and_the_next_try_says_so() {
    let disk = SimDisk::new(7);
    let (manager, partitions) = opened(Arc::new(disk.clone()), polled(), 20);
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap()));
    let busy = partitions.iter().find(|partition| {
        let is_busy = is_busy(partition, 3900);
        manager.poll();
        is_busy
    });
    let busy = busy.unwrap();
    let room = busy.room(3900).unwrap();
    poll_until_idle(&manager);
    assert_eq!(room.wait(Some(Instant::now())), Ok(()));
    let full = |error: &PartitionError| matches!(error, PartitionError::Log(LogError::DiskFull(_)));
    assert!(matches!(try_append(busy, batch(3900)), Err(TryAppendError::Failed(error)) if full(&error)));
    assert!(full(&busy.room(3900).unwrap_err()));
    disk.heal();
    manager.tick();
    let room = busy.room(3900).unwrap();
    poll_until_idle(&manager);
    assert_eq!(room.wait(Some(Instant::now())), Ok(()));
    assert!(!is_busy(busy, 3900));
    manager.close().unwrap();
}

/// Slices of the newest bytes are held for as long as a slow peer takes: appends go on, and the slices stay what they were.
#[test]
fn readers_that_take_their_time_hold_no_memory() {
    let home = tempfile::tempdir().unwrap();
    let (manager, partitions) = opened(real_disk(&home), options(), 2);
    let mut held = Vec::new();
    for round in 0..400 {
        let partition = &partitions[round % 2];
        let late = Instant::now() + Duration::from_secs(60);
        let append = loop {
            match try_append(partition, batch(900 + round)) {
                Ok(append) => break append,
                Err(TryAppendError::Busy(again)) => {
                    partition.room(again.bytes().len()).unwrap().wait(Some(late)).unwrap()
                }
                Err(error) => panic!("{error}"),
            }
        };
        let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(append.info.first_offset) };
        let slice = partition.read(fetch).unwrap().records.unwrap();
        let bytes = slice.to_vec().unwrap();
        held.push((slice, bytes));
    }
    let total: u64 = held.iter().map(|(slice, _)| slice.len()).sum();
    assert!(total > 256 << 10, "more than fits into memory");
    for (slice, bytes) in &held {
        assert_eq!(slice.to_vec().unwrap(), *bytes);
        let mut parts = Vec::new();
        for part in slice.parts() {
            match part {
                SlicePart::File(_, position, len) => {
                    let from = usize::try_from(position - slice.position()).unwrap();
                    parts.extend_from_slice(&bytes[from..from + usize::try_from(len).unwrap()]);
                }
                SlicePart::Memory(bytes) => parts.extend_from_slice(&bytes),
            }
        }
        assert_eq!(parts, *bytes);
    }
    manager.close().unwrap();
    assert!(held.iter().all(|(slice, bytes)| slice.to_vec().unwrap() == *bytes));
}
