//! raft-engine: the log of TiKV's regions, in one file with group commit.

use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
// A message of protobuf's own with a number and bytes in it: all that an entry needs.
use protobuf::descriptor::UninterpretedOption as Entry;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::sync::{Mutex, PoisonError};

struct Indexed;

impl MessageExt for Indexed {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

struct RaftEngine {
    engine: Engine,
    /// By partition; held while an entry is written.
    last_indexes: Vec<Mutex<u64>>,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    let config = Config {
        dir: setup.dir.to_string_lossy().into_owned(),
        // Nobody else compresses either.
        batch_compression_threshold: ReadableSize::kb(0),
        ..Config::default()
    };
    let last_indexes = (0..setup.case.partitions).map(|_| Mutex::new(0)).collect();
    Ok(Box::new(RaftEngine { engine: Engine::open(config)?, last_indexes }))
}

impl DurableLog for RaftEngine {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        let last = self.last_indexes.get(partition).ok_or("there is no such region")?;
        let mut entry = Entry::new();
        entry.set_string_value(batch.to_vec());
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        entry.set_positive_int_value(*last);
        let mut writes = LogBatch::with_capacity(1);
        writes.add_entries::<Indexed>(partition as u64, &[entry])?;
        self.engine.write(&mut writes, true)?;
        Ok(())
    }
}
