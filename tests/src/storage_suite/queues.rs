//! Durable and direct writes, and writes in flight.

use super::{bytes_of, create, create_with, path, pattern};
use duramen::storage::{
    Access, BufferPool, DIRECT_BYTES, EndedWrite, File, Op, Queue, QueuedWrite, Storage, Wait, queue, sync, write_at,
};
use std::{io::ErrorKind, sync::Arc, thread};

/// A case: it is given an empty log directory, which it may share.
pub(super) type SharedCase = fn(&Arc<dyn Storage>);

/// Every case by name.
pub(super) const CASES: &[(&str, SharedCase)] = &[
    ("write_durable_gives_the_bytes", write_durable_gives_the_bytes),
    ("write_durable_that_fails_spares_the_others", write_durable_that_fails_spares_the_others),
    ("open_direct_refuses_what_open_refuses", open_direct_refuses_what_open_refuses),
    ("direct_write_is_seen_by_every_open", direct_write_is_seen_by_every_open),
    ("unaligned_direct_write_fails_or_is_whole", unaligned_direct_write_fails_or_is_whole),
    ("sync_all_with_files_open_and_removed_succeeds", sync_all_with_files_open_and_removed_succeeds),
    ("queue_ends_every_write_once", queue_ends_every_write_once),
    ("queue_gives_back_files_and_memory_with_the_answer", queue_gives_back_files_and_memory_with_the_answer),
    ("queue_dropped_waits_for_all_writes", queue_dropped_waits_for_all_writes),
    ("queue_write_that_fails_spares_the_others", queue_write_that_fails_spares_the_others),
    ("queue_without_writes_does_not_wait_unless_told", queue_without_writes_does_not_wait_unless_told),
    ("queue_waker_ends_a_wait", queue_waker_ends_a_wait),
];

/// A write of `bytes`; its buffer is aligned.
fn queued(pool: &Arc<BufferPool>, file: &Arc<File>, at: u64, bytes: &[u8], tag: u64) -> QueuedWrite {
    let mut writer = pool.take(bytes.len().max(1)).unwrap();
    assert!(writer.append(bytes));
    let (buffer, range) = (writer.share(), 0..bytes.len());
    QueuedWrite { file: Arc::clone(file), at, buffer, range, durable: tag % 2 == 1, tag }
}

fn reap_all(queue: &mut dyn Queue, count: usize) -> Vec<EndedWrite> {
    let mut ended = Vec::new();
    while ended.len() < count {
        queue.reap(Wait::UntilWoken, &mut ended);
    }
    assert_eq!((ended.len(), queue.in_flight()), (count, 0));
    ended.sort_by_key(|ended| ended.write.tag);
    assert!((0..).zip(&ended).all(|(tag, ended)| ended.write.tag == tag), "every write ends once");
    ended
}

fn write_durable_gives_the_bytes(disk: &Arc<dyn Storage>) {
    let (first, second) = (create(&**disk, "a"), create(&**disk, "b"));
    let bytes = pattern(10_000);
    for (number, file) in [&first, &second].into_iter().enumerate() {
        // One alone, and several at once.
        let mut ops: Vec<_> =
            (0..=4 * number).map(|i| Op::write_durable(file, 10_000 * u64::try_from(i).unwrap(), &bytes)).collect();
        ops.push(Op::write_durable(file, 7, &[]));
        disk.run(&mut ops[..1]);
        assert_eq!(ops[0].take_result().unwrap(), 10_000);
        disk.run(&mut ops[1..]);
        let lengths: Vec<_> = ops[1..].iter_mut().map(|op| op.take_result().unwrap()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 40_000 * number);
    }
    assert_eq!(bytes_of(&**disk, "a").unwrap(), bytes);
    assert_eq!(bytes_of(&**disk, "b").unwrap(), bytes.repeat(5));
}

fn write_durable_that_fails_spares_the_others(disk: &Arc<dyn Storage>) {
    let file = create(&**disk, "a");
    let read_only = disk.open(path("a"), Access::Read).unwrap();
    let mut ops = [
        Op::write_durable(&read_only, 0, b"x"),
        Op::write_durable(&file, 0, b"y"),
        Op::write_durable(&file, u64::MAX, b"z"),
        Op::write(&file, 1, b"!"),
    ];
    disk.run(&mut ops);
    assert_eq!(ops.each_mut().map(|op| op.take_result().is_ok()), [false, true, false, true]);
    assert_eq!(bytes_of(&**disk, "a").unwrap(), b"y!");
}

fn open_direct_refuses_what_open_refuses(disk: &Arc<dyn Storage>) {
    assert!(disk.open_direct(path("missing")).unwrap_err().is_not_found());
    disk.create_dir(path("d")).unwrap();
    assert_eq!(disk.open_direct(path("d")).unwrap_err().source.kind(), ErrorKind::IsADirectory);
    assert_eq!(disk.open_direct(path("../a")).unwrap_err().source.kind(), ErrorKind::InvalidInput);
}

fn direct_write_is_seen_by_every_open(disk: &Arc<dyn Storage>) {
    let cached = create_with(&**disk, "a", &pattern(3 * DIRECT_BYTES));
    let direct = Arc::new(disk.open_direct(path("a")).unwrap());
    let (pool, mut queue) = (BufferPool::new(1 << 20), queue(disk, 4).unwrap());
    let block = vec![7; DIRECT_BYTES];
    let at = u64::try_from(DIRECT_BYTES).unwrap();
    queue.submit(queued(&pool, &direct, at, &block, 0));
    queue.submit(queued(&pool, &direct, 3 * at, &block, 1));
    assert!(reap_all(&mut *queue, 2).iter().all(|ended| ended.result.is_ok()));
    let mut expected = pattern(3 * DIRECT_BYTES);
    expected[DIRECT_BYTES..2 * DIRECT_BYTES].fill(7);
    expected.extend(&block);
    assert_eq!(bytes_of(&**disk, "a").unwrap(), expected);
    write_at(&**disk, &cached, at, b"cached").unwrap();
    expected[DIRECT_BYTES..DIRECT_BYTES + 6].copy_from_slice(b"cached");
    assert_eq!(bytes_of(&**disk, "a").unwrap(), expected);
}

/// A file system without direct I/O takes it as any other write.
fn unaligned_direct_write_fails_or_is_whole(disk: &Arc<dyn Storage>) {
    create(&**disk, "a");
    let direct = Arc::new(disk.open_direct(path("a")).unwrap());
    let (pool, mut queue) = (BufferPool::new(1 << 20), queue(disk, 4).unwrap());
    queue.submit(queued(&pool, &direct, 1, b"odd", 0));
    let ended = reap_all(&mut *queue, 1).remove(0);
    let expected: &[u8] = match ended.result {
        Ok(()) => b"\0odd",
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            b""
        }
    };
    assert_eq!(bytes_of(&**disk, "a").unwrap(), expected);
}

fn sync_all_with_files_open_and_removed_succeeds(disk: &Arc<dyn Storage>) {
    disk.sync_all().unwrap();
    disk.create_dir(path("d")).unwrap();
    let kept = create_with(&**disk, "d/a", b"kept");
    let gone = create_with(&**disk, "b", b"gone");
    disk.unlink(path("b")).unwrap();
    disk.sync_all().unwrap();
    sync(&**disk, &gone).unwrap();
    assert_eq!(bytes_of(&**disk, "d/a").unwrap(), b"kept");
    assert_eq!(disk.len(&kept).unwrap(), 4);
}

fn queue_ends_every_write_once(disk: &Arc<dyn Storage>) {
    let files = ["a", "b", "c"].map(|name| Arc::new(create(&**disk, name)));
    let (pool, mut queue) = (BufferPool::new(4 << 20), queue(disk, 4).unwrap());
    let bytes = pattern(5000);
    // Far more than the queue is deep.
    for tag in 0..60_u64 {
        let file = &files[usize::try_from(tag % 3).unwrap()];
        queue.submit(queued(&pool, file, tag / 3 * 5000, &bytes, tag));
    }
    assert!(reap_all(&mut *queue, 60).iter().all(|ended| ended.result.is_ok()));
    for name in ["a", "b", "c"] {
        assert_eq!(bytes_of(&**disk, name).unwrap(), bytes.repeat(20), "{name}");
    }
    queue.submit(queued(&pool, &files[0], 0, b"again", 0));
    assert!(reap_all(&mut *queue, 1)[0].result.is_ok());
}

fn queue_gives_back_files_and_memory_with_the_answer(disk: &Arc<dyn Storage>) {
    let file = Arc::new(create(&**disk, "a"));
    let (pool, mut queue) = (BufferPool::new(1 << 20), queue(disk, 8).unwrap());
    (0..8).for_each(|tag| queue.submit(queued(&pool, &file, tag * 10, b"0123456789", tag)));
    let ended = reap_all(&mut *queue, 8);
    assert!(ended.iter().all(|ended| ended.write.bytes() == b"0123456789"));
    drop(ended);
    assert_eq!((Arc::strong_count(&file), pool.in_use()), (1, 0));
}

fn queue_dropped_waits_for_all_writes(disk: &Arc<dyn Storage>) {
    let file = Arc::new(create(&**disk, "a"));
    let (pool, mut queue) = (BufferPool::new(8 << 20), queue(disk, 16).unwrap());
    let bytes = pattern(200_000);
    for tag in 0..16 {
        queue.submit(queued(&pool, &file, tag * 200_000, &bytes, tag));
    }
    drop(queue);
    assert_eq!((Arc::strong_count(&file), pool.in_use()), (1, 0), "nothing of ours is in the kernel's hands");
    assert!(bytes_of(&**disk, "a").unwrap() == bytes.repeat(16), "every write that was given away has ended");
}

fn queue_write_that_fails_spares_the_others(disk: &Arc<dyn Storage>) {
    let file = Arc::new(create(&**disk, "a"));
    let read_only = Arc::new(disk.open(path("a"), Access::Read).unwrap());
    let (pool, mut queue) = (BufferPool::new(1 << 20), queue(disk, 8).unwrap());
    for tag in 0..9 {
        let (file, at) = match tag % 3 {
            0 => (&read_only, tag),
            1 => (&file, tag),
            _ => (&file, u64::MAX - 10 + tag),
        };
        queue.submit(queued(&pool, file, at, b"x", tag));
    }
    let ok: Vec<_> = reap_all(&mut *queue, 9).iter().map(|ended| ended.result.is_ok()).collect();
    assert_eq!(ok, [false, true, false].repeat(3));
    assert_eq!(bytes_of(&**disk, "a").unwrap(), b"\0x\0\0x\0\0x");
}

fn queue_without_writes_does_not_wait_unless_told(disk: &Arc<dyn Storage>) {
    let mut queue = queue(disk, 4).unwrap();
    let mut ended = Vec::new();
    queue.reap(Wait::No, &mut ended);
    assert!(ended.is_empty() && queue.in_flight() == 0);
    let waker = queue.waker();
    waker.prepare();
    waker.wake();
    queue.reap(Wait::UntilWoken, &mut ended);
    assert!(ended.is_empty(), "woken before it waited");
}

fn queue_waker_ends_a_wait(disk: &Arc<dyn Storage>) {
    let mut queue = queue(disk, 4).unwrap();
    let mut ended = Vec::new();
    for _ in 0..50 {
        let waker = queue.waker();
        waker.prepare();
        let waking = thread::spawn(move || waker.wake());
        queue.reap(Wait::UntilWoken, &mut ended);
        waking.join().unwrap();
        // A wake-up that came late is not left for the next wait.
        queue.reap(Wait::No, &mut ended);
    }
    assert!(ended.is_empty());
}
