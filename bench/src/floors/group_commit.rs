//! Group commit over files: what waits is written to all its files at once, then all of them are synced at once.

use super::{
    buffer::Buffer,
    ring::{Done, Ring, Write},
};
use crate::{
    Failure,
    durable::subject::{InFlightLog, Setup},
};
use std::{fs::File, mem, sync::Arc};

/// Operations in flight at once.
const RING_ENTRIES: u32 = 256;

struct Partition {
    file: Arc<File>,
    at: u64,
    waiting: Vec<u8>,
}

struct GroupCommit {
    ring: Ring,
    partitions: Vec<Partition>,
    /// Partitions with something waiting, and the tags of it.
    dirty: Vec<usize>,
    tags: Vec<u32>,
    done: Vec<Done>,
    /// Buffers by length in multiples of the batch's, to be used again.
    spare: Vec<Buffer>,
}

/// A file for each partition, which grows.
pub(crate) fn open(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    let partitions: Result<Vec<_>, std::io::Error> = (0..setup.case.partitions)
        .map(|index| {
            let file = Arc::new(File::create_new(setup.dir.join(index.to_string()))?);
            Ok(Partition { file, at: 0, waiting: Vec::new() })
        })
        .collect();
    Ok(Box::new(GroupCommit {
        ring: Ring::new(RING_ENTRIES)?,
        partitions: partitions?,
        dirty: Vec::new(),
        tags: Vec::new(),
        done: Vec::new(),
        spare: Vec::new(),
    }))
}

impl GroupCommit {
    fn buffer(&mut self, len: usize) -> Buffer {
        match self.spare.iter().position(|buffer| buffer.len() >= len) {
            Some(found) => self.spare.swap_remove(found),
            None => Buffer::new(len.next_power_of_two()),
        }
    }

    fn reap(&mut self, until_in_flight: usize) -> Result<(), Failure> {
        while self.ring.in_flight() > until_in_flight {
            self.ring.submit(1)?;
            self.ring.take(&mut self.done)?;
            self.spare.extend(self.done.drain(..).filter_map(|done| done.buffer));
        }
        Ok(())
    }

    fn write_all(&mut self, dirty: &[usize]) -> Result<(), Failure> {
        for &index in dirty {
            self.reap(RING_ENTRIES as usize - 1)?;
            let Some(partition) = self.partitions.get_mut(index) else {
                continue;
            };
            let (bytes, at, file) = (mem::take(&mut partition.waiting), partition.at, Arc::clone(&partition.file));
            partition.at += bytes.len() as u64;
            let mut buffer = self.buffer(bytes.len());
            buffer.put(0, &bytes);
            self.ring.write(Write { file, buffer, len: bytes.len(), at, durable: false, token: 0 })?;
        }
        self.reap(0)
    }

    fn sync_all(&mut self, dirty: &[usize]) -> Result<(), Failure> {
        for &index in dirty {
            self.reap(RING_ENTRIES as usize - 1)?;
            if let Some(partition) = self.partitions.get(index) {
                self.ring.sync_data(Arc::clone(&partition.file), 0)?;
            }
        }
        self.reap(0)
    }
}

impl InFlightLog for GroupCommit {
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        if let Some(found) = self.partitions.get_mut(partition) {
            if found.waiting.is_empty() {
                self.dirty.push(partition);
            }
            found.waiting.extend_from_slice(batch);
        }
        self.tags.push(tag);
        Ok(())
    }

    fn drain(&mut self, acked: &mut Vec<u32>, _: bool) -> Result<(), Failure> {
        let dirty = mem::take(&mut self.dirty);
        self.write_all(&dirty)?;
        self.sync_all(&dirty)?;
        acked.append(&mut self.tags);
        Ok(())
    }
}
