//! The engine: a log manager whose appends are durable by its journal, alone or with what a host has beside appends.

use super::{
    drive::Window,
    subject::{Beside, DurableLog, InFlightLog, Setup, SharedLog},
    tail::Tail,
    upkeep::{self, Upkeep},
};
use crate::{Failure, machine, workloads::shapes};
use duramen::{
    Append, AppendAsLeader, Completion, CompletionQueue, Durability, HighWatermarkPolicy, LogConfig, LogManager,
    ManagerOptions, Partition, TopicPartition, ValidationPolicy, validate,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The timestamp of the batches that are appended.
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

/// What there is beside the appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    /// Retention, if the run would fill the disk.
    Nothing,
    /// A tail consumer for each partition, too.
    Consumers,
    /// Small segments, retention and compaction.
    Upkeep,
    /// Memory and a journal so large that nothing goes to the segments in the measured time.
    JournalOnly,
}

/// Bytes of memory, and of the journal, where nothing goes to the segments.
const JOURNAL_ONLY_BYTES: u64 = 4 << 30;
/// Passes over all partitions to make their memory, at most, and the time of one that made none.
const MOST_PASSES: usize = 5;
const QUICK_PASS: Duration = Duration::from_millis(200);

/// As much again stays for everybody else.
fn journal_only(options: ManagerOptions, partitions: usize) -> Result<ManagerOptions, Failure> {
    let available = machine::available_memory()?;
    if available < 2 * JOURNAL_ONLY_BYTES {
        return Err(format!("{available} bytes of memory are available, of {} needed", 2 * JOURNAL_ONLY_BYTES).into());
    }
    let gather_bytes = usize::try_from(JOURNAL_ONLY_BYTES)?;
    let piece_bytes = (gather_bytes / 2 / partitions).next_power_of_two() / 2;
    Ok(ManagerOptions { journal_bytes: JOURNAL_ONLY_BYTES, gather_bytes, piece_bytes, ..options })
}

/// Every append is validated, as a broker would.
struct Engine {
    manager: LogManager,
    partitions: Vec<Arc<Partition>>,
    policy: ValidationPolicy,
    tail: Option<Tail>,
    upkeep: Option<Upkeep>,
}

impl Engine {
    /// Opens the partitions, and makes durable what a new leader makes durable before it appends: its epoch.
    fn open(setup: &Setup<'_>, with: With) -> Result<Self, Failure> {
        let count = setup.case.partitions;
        let options = ManagerOptions { high_watermark: HighWatermarkPolicy::LogEnd, ..ManagerOptions::default() };
        let options = if with == With::JournalOnly { journal_only(options, count)? } else { options };
        let manager = LogManager::open(&[setup.dir], options)?;
        let open = |number: usize| -> Result<Arc<Partition>, Failure> {
            let config = match (with, setup.segment_bytes) {
                (With::Upkeep, _) => upkeep::busy_config(number, count),
                (_, Some(bytes)) => upkeep::retained_config(bytes),
                (_, None) => LogConfig::default(),
            };
            Ok(manager.get_or_create(&TopicPartition::new("bench", i32::try_from(number)?)?, &config)?)
        };
        let partitions = (0..count).map(open).collect::<Result<Vec<_>, _>>()?;
        for partition in &partitions {
            partition.with(|log| log.assign_epoch_start_offset(0, 0))??;
        }
        manager.prepare()?;
        let tail = (with == With::Consumers)
            .then(|| Tail::start(&partitions, setup.consumer_threads, setup.case.batch_bytes))
            .transpose()?;
        let is_kept_up = with == With::Upkeep || setup.segment_bytes.is_some();
        let upkeep = is_kept_up.then(|| Upkeep::start(&partitions)).transpose()?;
        let policy = ValidationPolicy::from_config(&LogConfig::default());
        let engine = Self { manager, partitions, policy, tail, upkeep };
        if with == With::JournalOnly {
            engine.touch(&shapes::batch_of(setup.case.batch_bytes)?)?;
        }
        Ok(engine)
    }

    /// Makes the memory of each partition's first piece, which is large here, before it is measured. That takes so long that
    /// partitions come to rest meanwhile and give theirs back: they take it again in the next pass, which is quick.
    fn touch(&self, batch: &[u8]) -> Result<(), Failure> {
        for _ in 0..MOST_PASSES {
            let begun = Instant::now();
            let append = |number| self.append(number, &mut batch.to_vec());
            let appends = (0..self.partitions.len()).map(append).collect::<Result<Vec<_>, _>>()?;
            appends.iter().try_for_each(|append| append.wait(None).map(drop))?;
            if begun.elapsed() < QUICK_PASS {
                break;
            }
        }
        Ok(())
    }

    /// The bytes are the host's, as those of a request that came in.
    fn append(&self, number: usize, bytes: &mut [u8]) -> Result<Append, Failure> {
        let batch = validate(bytes, &self.policy, NOW_MS)?;
        let partition = self.partitions.get(number).ok_or("no such partition")?;
        if let Some(tail) = &self.tail {
            tail.note_append(number);
        }
        Ok(partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Flushed)?)
    }

    fn count_in(&self, window: Window) {
        if let Some(tail) = &self.tail {
            tail.count_in(window);
        }
    }

    fn end(&mut self) -> Result<Beside, Failure> {
        let upkeep = self.upkeep.as_mut().map(Upkeep::end).transpose()?;
        Ok(Beside { consumed: self.tail.as_mut().map(Tail::end).transpose()?, upkeep })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.upkeep = None;
        self.partitions.clear();
        if let Err(error) = self.manager.close() {
            eprintln!("the engine was not closed in order: {error}");
        }
    }
}

impl DurableLog for Engine {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        self.append(partition, &mut batch.to_vec())?.wait(None)?;
        Ok(())
    }

    fn count_in(&self, window: Window) {
        self.count_in(window);
    }

    fn end(&mut self) -> Result<Beside, Failure> {
        self.end()
    }
}

/// The answers of appends, in a queue, and where requests come in.
struct Queue {
    queue: Arc<CompletionQueue>,
    done: Vec<Completion>,
    request: Vec<u8>,
}

impl Queue {
    fn new() -> Result<Self, Failure> {
        Ok(Self { queue: CompletionQueue::new()?, done: Vec::new(), request: Vec::new() })
    }

    fn submit(&mut self, engine: &Engine, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        self.request.clear();
        self.request.extend_from_slice(batch);
        engine.append(partition, &mut self.request)?.into_ticket().enqueue(&self.queue, u64::from(tag));
        Ok(())
    }

    fn drain(&mut self, acked: &mut Vec<u32>, wait: bool) -> Result<(), Failure> {
        if wait {
            self.queue.wait(None);
        }
        self.queue.drain(&mut self.done);
        for completion in self.done.drain(..) {
            completion.result?;
            acked.push(u32::try_from(completion.user_data)?);
        }
        Ok(())
    }
}

/// The engine for one thread.
struct Queued {
    engine: Engine,
    queue: Queue,
}

impl InFlightLog for Queued {
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        self.queue.submit(&self.engine, partition, batch, tag)
    }

    fn drain(&mut self, acked: &mut Vec<u32>, wait: bool) -> Result<(), Failure> {
        self.queue.drain(acked, wait)
    }

    fn count_in(&self, window: Window) {
        self.engine.count_in(window);
    }

    fn end(&mut self) -> Result<Beside, Failure> {
        self.engine.end()
    }
}

/// One of several threads that share the engine.
struct Handle<'a> {
    engine: &'a Engine,
    queue: Queue,
}

impl InFlightLog for Handle<'_> {
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        self.queue.submit(self.engine, partition, batch, tag)
    }

    fn drain(&mut self, acked: &mut Vec<u32>, wait: bool) -> Result<(), Failure> {
        self.queue.drain(acked, wait)
    }
}

impl SharedLog for Engine {
    fn handle(&self) -> Result<Box<dyn InFlightLog + '_>, Failure> {
        Ok(Box::new(Handle { engine: self, queue: Queue::new()? }))
    }

    fn count_in(&self, window: Window) {
        self.count_in(window);
    }

    fn end(&mut self) -> Result<Beside, Failure> {
        self.end()
    }
}

fn threads(setup: &Setup<'_>, with: With) -> Result<Box<dyn DurableLog>, Failure> {
    Ok(Box::new(Engine::open(setup, with)?))
}

fn in_flight(setup: &Setup<'_>, with: With) -> Result<Box<dyn InFlightLog>, Failure> {
    Ok(Box::new(Queued { engine: Engine::open(setup, with)?, queue: Queue::new()? }))
}

pub(crate) fn open_threads(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    threads(setup, With::Nothing)
}

pub(crate) fn open_shared(setup: &Setup<'_>) -> Result<Box<dyn SharedLog>, Failure> {
    Ok(Box::new(Engine::open(setup, With::Nothing)?))
}

pub(crate) fn open_in_flight(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    in_flight(setup, With::Nothing)
}

pub(crate) fn open_threads_read(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    threads(setup, With::Consumers)
}

pub(crate) fn open_in_flight_read(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    in_flight(setup, With::Consumers)
}

pub(crate) fn open_threads_kept_up(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    threads(setup, With::Upkeep)
}

pub(crate) fn open_in_flight_kept_up(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    in_flight(setup, With::Upkeep)
}

pub(crate) fn open_in_flight_journal(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    in_flight(setup, With::JournalOnly)
}
