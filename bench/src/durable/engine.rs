//! The engine: a log manager whose appends are durable by its journal.

use super::subject::{DurableLog, InFlightLog, Setup};
use crate::Failure;
use duramen::{
    Append, AppendAsLeader, Completion, CompletionQueue, Durability, HighWatermarkPolicy, LogConfig, LogManager,
    ManagerOptions, Partition, TopicPartition, ValidationPolicy, validate,
};
use std::sync::Arc;

/// The timestamp of the batches that are appended.
const NOW_MS: i64 = 1_700_000_000_000;

/// Every append is validated, as a broker would.
struct Engine {
    manager: LogManager,
    partitions: Vec<Arc<Partition>>,
    policy: ValidationPolicy,
}

impl Engine {
    /// Opens the partitions, and makes durable what a new leader makes durable before it appends: its epoch.
    fn open(setup: &Setup<'_>) -> Result<Self, Failure> {
        let options = ManagerOptions { high_watermark: HighWatermarkPolicy::LogEnd, ..ManagerOptions::default() };
        let manager = LogManager::open(&[setup.dir], options)?;
        let config = LogConfig::default();
        let open = |number: usize| -> Result<Arc<Partition>, Failure> {
            Ok(manager.get_or_create(&TopicPartition::new("bench", i32::try_from(number)?)?, &config)?)
        };
        let partitions = (0..setup.case.partitions).map(open).collect::<Result<Vec<_>, _>>()?;
        for partition in &partitions {
            partition.with(|log| log.assign_epoch_start_offset(0, 0))??;
        }
        manager.prepare()?;
        Ok(Self { manager, partitions, policy: ValidationPolicy::from_config(&config) })
    }

    fn append(&self, partition: usize, batch: &[u8]) -> Result<Append, Failure> {
        let batch = validate(batch.to_vec(), &self.policy, NOW_MS)?;
        let partition = self.partitions.get(partition).ok_or("no such partition")?;
        Ok(partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Flushed)?)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.partitions.clear();
        if let Err(error) = self.manager.close() {
            eprintln!("the engine was not closed in order: {error}");
        }
    }
}

impl DurableLog for Engine {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        self.append(partition, batch)?.wait(None)?;
        Ok(())
    }
}

/// The engine with its answers in a queue.
struct Queued {
    engine: Engine,
    queue: Arc<CompletionQueue>,
    done: Vec<Completion>,
}

impl InFlightLog for Queued {
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        self.engine.append(partition, batch)?.into_ticket().enqueue(&self.queue, u64::from(tag));
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

pub(crate) fn open_threads(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    Ok(Box::new(Engine::open(setup)?))
}

pub(crate) fn open_in_flight(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    Ok(Box::new(Queued { engine: Engine::open(setup)?, queue: CompletionQueue::new()?, done: Vec::new() }))
}
