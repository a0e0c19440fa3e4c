//! commitlog: a log for each partition. Its `flush` leaves what was appended in the page cache.

use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
use commitlog::{CommitLog, LogOptions};
use std::sync::{Mutex, PoisonError};

struct CommitLogs(Vec<Mutex<CommitLog>>);

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    let logs: Result<Vec<_>, std::io::Error> = (0..setup.case.partitions)
        .map(|index| Ok(Mutex::new(CommitLog::new(LogOptions::new(setup.dir.join(index.to_string())))?)))
        .collect();
    Ok(Box::new(CommitLogs(logs?)))
}

impl DurableLog for CommitLogs {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        let log = self.0.get(partition).ok_or("there is no such log")?;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.append_msg(batch)?;
        Ok(log.flush()?)
    }
}
