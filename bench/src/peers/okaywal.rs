//! okaywal: one log for all, whose threads share their syncs.

use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
use okaywal::{Configuration, LogVoid, WriteAheadLog};

/// Its default of 1 MiB is for little data; it advises to make a segment hold many entries.
const SEGMENT_BYTES: u32 = 64 << 20;

struct OkayWal(WriteAheadLog);

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    let configuration = Configuration::default_for(setup.dir)
        .preallocate_bytes(SEGMENT_BYTES)
        .checkpoint_after_bytes(u64::from(SEGMENT_BYTES) / 4 * 3);
    Ok(Box::new(OkayWal(configuration.open(LogVoid)?)))
}

impl DurableLog for OkayWal {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(&(partition as u64).to_be_bytes())?;
        entry.write_chunk(batch)?;
        entry.commit()?;
        Ok(())
    }
}

impl Drop for OkayWal {
    fn drop(&mut self) {
        // Its thread would go on in a directory that is deleted.
        if let Err(error) = self.0.clone().shutdown() {
            eprintln!("duramen-bench: okaywal: {error}");
        }
    }
}
