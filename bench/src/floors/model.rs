//! The model, which is the bar of the engine: what a durable append over many partitions costs at the least.
//!
//! Each append is checksummed and copied into a frame of the journal, and copied once more behind the bytes of its
//! partition. The journal is written by direct synchronous writes, which acknowledge; the partitions' bytes by direct
//! writes of whole chunks, on the same ring, and synced lazily by a second thread. Every byte is written twice. There
//! are no offsets, no indexes, no readers and no recovery.

use super::{
    background::{Background, Job},
    files,
    journal::Journal,
    ring::{Done, Ring},
    segments::{CHUNKS_IN_FLIGHT, Segments},
};
use crate::{
    Failure,
    durable::subject::{InFlightLog, Setup},
};
use std::fs::File;

/// The file system is synced whenever so much was appended.
const SYNC_EVERY_BYTES: u64 = 384 << 20;

struct Model {
    ring: Ring,
    journal: Journal,
    segments: Segments,
    syncer: Background,
    unsynced_bytes: u64,
    done: Vec<Done>,
    /// Acknowledged while there was no room, and not told yet.
    acked: Vec<u32>,
}

/// With chunks of so many KiB, and files whose extents were written before or not.
pub(crate) fn open<const CHUNK_KIB: usize, const RECYCLED: bool>(
    setup: &Setup<'_>,
) -> Result<Box<dyn InFlightLog>, Failure> {
    let (file, bytes) = files::journal(setup)?;
    let files = if RECYCLED { files::recycled(setup)? } else { files::fresh(setup)? };
    Ok(Box::new(Model {
        ring: Ring::new((2 * CHUNKS_IN_FLIGHT) as u32)?,
        journal: Journal::new(file, bytes),
        segments: Segments::new(files, setup.case.partitions, CHUNK_KIB << 10, Journal::TOKENS),
        syncer: Background::start(vec![File::open(setup.dir)?.into()]),
        unsynced_bytes: 0,
        done: Vec::new(),
        acked: Vec::new(),
    }))
}

impl Model {
    fn take(&mut self) -> Result<(), Failure> {
        self.ring.take(&mut self.done)?;
        for done in self.done.drain(..) {
            if done.token < Journal::TOKENS {
                self.journal.landed(done.token, done.buffer, &mut self.acked);
            } else {
                self.segments.landed(&mut self.ring, done.token, done.buffer)?;
            }
        }
        Ok(())
    }

    /// Syncs when it is time; waits for the sync before if that has fallen behind, as the journal would be full.
    fn sync_lazily(&mut self) -> Result<(), Failure> {
        if self.unsynced_bytes >= 2 * SYNC_EVERY_BYTES {
            self.syncer.wait_for_sync()?;
        }
        if self.unsynced_bytes >= SYNC_EVERY_BYTES && !self.syncer.is_syncing()? {
            self.syncer.begin(Job::SyncFileSystem)?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }
}

impl InFlightLog for Model {
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        while self.segments.is_full() {
            self.ring.submit(1)?;
            self.take()?;
        }
        let checksum = crc32c::crc32c(batch);
        self.journal.push(&mut self.ring, batch, (partition as u32, checksum), tag)?;
        self.segments.push(&mut self.ring, partition, batch)?;
        self.unsynced_bytes += batch.len() as u64;
        self.sync_lazily()
    }

    fn drain(&mut self, acked: &mut Vec<u32>, wait: bool) -> Result<(), Failure> {
        self.journal.send(&mut self.ring)?;
        let wait = wait && self.acked.is_empty() && self.ring.in_flight() > 0;
        self.ring.submit(usize::from(wait))?;
        self.take()?;
        acked.append(&mut self.acked);
        Ok(())
    }
}
