//! Tail consumers: one for each partition, which reads everything by fetch as it comes.
//!
//! A consumer is a long poll for one byte that is answered into a queue, and a fetch; a few threads serve all of them.
//! Every byte is compared with what was appended. A batch's end-to-end latency is from before its append was called to
//! when its bytes have been copied and compared. The high watermark follows the log end, as in Kafka where a partition has
//! one replica, so a batch can be read before it survives power loss.

use super::{
    drive::{Window, latencies, nanoseconds},
    subject::Consumed,
};
use crate::Failure;
use duramen::{Completion, CompletionQueue, Fetch, LongPoll, Offset, Partition, WaitError, format::batch::MAGIC_AT};
use hdrhistogram::Histogram;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a thread without work looks whether it may end.
const TICK: Duration = Duration::from_millis(20);
/// A consumer with something to read has to be told by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// What producers and consumers share.
struct Shared {
    batch_bytes: usize,
    /// By partition: when the appends that were not read yet were called. Threads that append to a partition at once may
    /// come in another order than their batches, which changes who waited and not how long.
    begun: Vec<Mutex<VecDeque<Instant>>>,
    window: OnceLock<Window>,
    /// The producers have ended: what is left is read to its end.
    is_ended: AtomicBool,
}

/// The consumers, and the threads that serve them.
pub(super) struct Tail {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Consumed, Failure>>>,
}

impl Tail {
    pub(super) fn start(partitions: &[Arc<Partition>], threads: usize, batch_bytes: usize) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            batch_bytes,
            begun: partitions.iter().map(|_| Mutex::default()).collect(),
            window: OnceLock::new(),
            is_ended: AtomicBool::new(false),
        });
        let start = |first: usize| -> Result<_, Failure> {
            let queue = CompletionQueue::new()?;
            let chosen = partitions.iter().enumerate().skip(first).step_by(threads);
            let consumers = chosen.map(|(number, partition)| Consumer {
                number,
                partition: Arc::clone(partition),
                offset: 0,
                poll: LongPoll::new(1),
            });
            let mut reader = Reader::new(Arc::clone(&shared), queue, consumers.collect())?;
            Ok(thread::Builder::new().name(format!("consumer-{first}")).spawn(move || reader.run())?)
        };
        let threads = (0..threads.min(partitions.len())).map(start).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Notes that an append to a partition is called.
    pub(super) fn note_append(&self, partition: usize) {
        if let Some(begun) = self.shared.begun.get(partition) {
            begun.lock().unwrap_or_else(PoisonError::into_inner).push_back(Instant::now());
        }
    }

    /// What is read in this window counts.
    pub(super) fn count_in(&self, window: Window) {
        // There is one window for each run.
        let _ = self.shared.window.set(window);
    }

    /// Lets the consumers read to the end; what they read in the window.
    pub(super) fn end(&mut self) -> Result<Consumed, Failure> {
        self.shared.is_ended.store(true, Ordering::Release);
        let mut sum = Consumed { bytes: 0, latencies: latencies()? };
        for thread in self.threads.drain(..) {
            let consumed = thread.join().map_err(|_| "a consumer panicked")??;
            sum.bytes += consumed.bytes;
            sum.latencies.add(&consumed.latencies)?;
        }
        Ok(sum)
    }
}

impl Drop for Tail {
    /// Where a run failed nobody asked for the end.
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // Its failure follows from the one that is told.
            let _ = thread.join();
        }
    }
}

/// One tail consumer.
struct Consumer {
    number: usize,
    partition: Arc<Partition>,
    /// The next to read.
    offset: Offset,
    poll: LongPoll,
}

impl Consumer {
    fn is_at_end(&self) -> bool {
        self.offset >= self.partition.offsets().high_watermark
    }
}

/// A thread with its consumers.
struct Reader {
    shared: Arc<Shared>,
    queue: Arc<CompletionQueue>,
    consumers: Vec<Consumer>,
    /// What a batch has from its magic byte on: before that is what the log assigns.
    expected: Vec<u8>,
    buffer: Vec<u8>,
    bytes: u64,
    latencies: Histogram<u64>,
}

impl Reader {
    fn new(shared: Arc<Shared>, queue: Arc<CompletionQueue>, consumers: Vec<Consumer>) -> Result<Self, Failure> {
        let expected = crate::workloads::shapes::batch_of(shared.batch_bytes)?.split_off(MAGIC_AT);
        let latencies = latencies()?;
        Ok(Self { shared, queue, consumers, expected, buffer: Vec::new(), bytes: 0, latencies })
    }

    fn run(&mut self) -> Result<Consumed, Failure> {
        for at in 0..self.consumers.len() {
            self.fetch(at)?;
        }
        let mut done: Vec<Completion> = Vec::new();
        let mut last_read = Instant::now();
        loop {
            self.queue.wait(Some(Instant::now() + TICK));
            self.queue.drain(&mut done);
            if !done.is_empty() {
                last_read = Instant::now();
            } else if self.shared.is_ended.load(Ordering::Acquire) {
                if self.consumers.iter().all(Consumer::is_at_end) {
                    return Ok(Consumed { bytes: self.bytes, latencies: self.latencies.clone() });
                }
                if last_read.elapsed() > PATIENCE {
                    return Err("a consumer was not told of what it can read".into());
                }
            }
            for completion in done.drain(..) {
                match completion.result {
                    Ok(()) | Err(WaitError::Truncated) => self.fetch(usize::try_from(completion.user_data)?)?,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Reads what a partition has, at most 1 MiB, and polls for more: if there is more already, that is answered at once.
    fn fetch(&mut self, at: usize) -> Result<(), Failure> {
        let consumer = self.consumers.get_mut(at).ok_or("no such consumer")?;
        let read = |consumer: &Consumer, poll: &mut LongPoll| {
            consumer.partition.read_or_watch(Fetch::from(consumer.offset), poll)
        };
        let mut poll = LongPoll::new(1);
        let fetched = read(consumer, &mut poll)?;
        let Some(records) = fetched.records.filter(|records| !records.is_empty()) else {
            poll.enqueue(&self.queue, at as u64);
            consumer.poll = poll;
            return Ok(());
        };
        self.buffer.resize(usize::try_from(records.len())?, 0);
        records.read_at(&mut self.buffer, 0)?;
        let first = consumer.offset;
        for batch in self.buffer.chunks_exact(self.shared.batch_bytes) {
            let base = batch.first_chunk().map(|bytes| Offset::from_be_bytes(*bytes));
            if base != Some(consumer.offset) || batch.get(MAGIC_AT..) != Some(self.expected.as_slice()) {
                let name = consumer.partition.name();
                return Err(format!("{name}: offset {} reads as something else", consumer.offset).into());
            }
            consumer.offset += 1;
        }
        poll.enqueue(&self.queue, at as u64);
        consumer.poll = poll;
        let count = usize::try_from(consumer.offset - first)?;
        self.note_read(self.consumers.get(at).map_or(0, |consumer| consumer.number), count);
        Ok(())
    }

    fn note_read(&mut self, number: usize, count: usize) {
        let Some(begun) = self.shared.begun.get(number) else { return };
        let now = Instant::now();
        let counts = self.shared.window.get().is_some_and(|window| window.holds(now));
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        let read = count.min(begun.len());
        for begun in begun.drain(..read).filter(|_| counts) {
            self.latencies.saturating_record(nanoseconds(begun, now));
        }
        drop(begun);
        if counts {
            self.bytes += (count * self.shared.batch_bytes) as u64;
        }
    }
}
