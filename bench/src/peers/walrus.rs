//! walrus-rust: a topic for each partition, in files of 1 GiB that it opens with `O_SYNC`.

use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
use std::{env, path::PathBuf};
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

struct OneWalrus {
    walrus: Walrus,
    topics: Vec<String>,
    directory_before: PathBuf,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    // It works in the current directory, or where the environment says, which cannot be changed safely by now.
    let directory_before = env::current_dir()?;
    env::set_current_dir(setup.dir)?;
    let consistency = ReadConsistency::StrictlyAtOnce;
    let walrus = Walrus::with_consistency_and_schedule(consistency, FsyncSchedule::SyncEach)?;
    let topics = (0..setup.case.partitions).map(|index| format!("partition-{index}")).collect();
    Ok(Box::new(OneWalrus { walrus, topics, directory_before }))
}

impl DurableLog for OneWalrus {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        let topic = self.topics.get(partition).ok_or("there is no such topic")?;
        Ok(self.walrus.append_for_topic(topic, batch)?)
    }
}

impl Drop for OneWalrus {
    fn drop(&mut self) {
        if let Err(error) = env::set_current_dir(&self.directory_before) {
            eprintln!("duramen-bench: back to {}: {error}", self.directory_before.display());
        }
    }
}
