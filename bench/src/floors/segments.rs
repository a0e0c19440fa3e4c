//! The segment files of the model: the bytes of each partition gathered in recycled buffers, and written in large
//! chunks by direct I/O.
//!
//! A partition owns several files, which it fills one after the other and then from the first again. Written-before
//! files are simply overwritten; fresh ones are given new extents by a second thread after each turn.

use super::{
    background::{Background, Job},
    buffer::Buffer,
    files::SegmentFiles,
    ring::{Ring, Write},
};
use crate::Failure;
use std::{collections::VecDeque, io, sync::Arc};

/// Chunks in flight at once, and as many may wait.
pub(super) const CHUNKS_IN_FLIGHT: usize = 64;

struct Partition {
    chunk: Option<Buffer>,
    filled: usize,
    /// Which of its files is written, and where.
    turn: usize,
    at: u64,
}

struct Waiting {
    file: usize,
    at: u64,
    buffer: Buffer,
}

#[derive(Debug, Clone, Copy, Default)]
struct FileState {
    /// Chunks that have a place in it and are not written yet.
    unwritten: u32,
    /// Whether its turn is over and it is not renewed yet.
    ended: bool,
}

/// All the partitions' ends.
pub(super) struct Segments {
    files: SegmentFiles,
    chunk_bytes: usize,
    partitions: Vec<Partition>,
    waiting: VecDeque<Waiting>,
    spare: Vec<Buffer>,
    /// The file of each chunk in flight, by token less `first_token`.
    flying: Vec<Option<usize>>,
    /// By file.
    states: Vec<FileState>,
    first_token: usize,
    renewer: Option<Background>,
}

impl Segments {
    /// As after a while: every partition has gathered some of its chunk, and no two the same.
    pub(super) fn new(files: SegmentFiles, partitions: usize, chunk_bytes: usize, first_token: usize) -> Self {
        let begun = |index: usize| {
            let filled = index * chunk_bytes / partitions;
            Partition { chunk: Some(Buffer::new(chunk_bytes)), filled, turn: 0, at: 0 }
        };
        let renewer = (!files.recycled).then(|| Background::start(files.all.clone()));
        Self {
            states: vec![FileState::default(); files.all.len()],
            chunk_bytes,
            partitions: (0..partitions).map(begun).collect(),
            waiting: VecDeque::new(),
            spare: Vec::new(),
            flying: vec![None; CHUNKS_IN_FLIGHT],
            first_token,
            renewer,
            files,
        }
    }

    /// Whether so much waits that no more may be gathered.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= CHUNKS_IN_FLIGHT
    }

    /// Copies bytes to the end of a partition.
    pub(super) fn push(&mut self, ring: &mut Ring, partition: usize, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let Some(end) = self.partitions.get_mut(partition) else {
                return Err(format!("there is no partition {partition}").into());
            };
            let mut chunk =
                end.chunk.take().or_else(|| self.spare.pop()).unwrap_or_else(|| Buffer::new(self.chunk_bytes));
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk_bytes - end.filled));
            chunk.put(end.filled, now);
            end.filled += now.len();
            bytes = later;
            if end.filled < self.chunk_bytes {
                end.chunk = Some(chunk);
                continue;
            }
            end.filled = 0;
            self.finish(partition, chunk)?;
            self.send(ring)?;
        }
        Ok(())
    }

    /// A full chunk gets its place.
    fn finish(&mut self, partition: usize, buffer: Buffer) -> Result<(), Failure> {
        let count = self.partitions.len();
        let Some(end) = self.partitions.get_mut(partition) else {
            return Ok(());
        };
        let file = partition + end.turn * count;
        let Some(state) = self.states.get_mut(file) else {
            return Err(format!("there is no file {file}").into());
        };
        if end.at == 0 {
            // Should chunks of its turn before still be on their way, it is not renewed this time.
            state.ended = false;
            if let Some(renewer) = &mut self.renewer {
                renewer.wait_until_renewed(file)?;
            }
        }
        let at = end.at;
        end.at += self.chunk_bytes as u64;
        state.unwritten += 1;
        if end.at + self.chunk_bytes as u64 > self.files.bytes {
            end.at = 0;
            end.turn = (end.turn + 1) % (self.files.all.len() / count).max(1);
            state.ended = true;
        }
        self.waiting.push_back(Waiting { file, at, buffer });
        Ok(())
    }

    fn send(&mut self, ring: &mut Ring) -> io::Result<()> {
        while let Some(slot) = self.flying.iter().position(Option::is_none) {
            let Some(Waiting { file: index, at, buffer }) = self.waiting.pop_front() else {
                break;
            };
            let Some(file) = self.files.all.get(index).map(Arc::clone) else {
                continue;
            };
            let (len, token) = (buffer.len(), self.first_token + slot);
            ring.write(Write { file, buffer, len, at, durable: false, token })?;
            if let Some(flying) = self.flying.get_mut(slot) {
                *flying = Some(index);
            }
        }
        Ok(())
    }

    /// A chunk is written: its memory is used again, and a fresh file whose turn is over is renewed.
    pub(super) fn landed(&mut self, ring: &mut Ring, token: usize, buffer: Option<Buffer>) -> Result<(), Failure> {
        let file = self.flying.get_mut(token - self.first_token).and_then(Option::take);
        self.spare.extend(buffer);
        if let Some(file) = file {
            self.written(file)?;
        }
        Ok(self.send(ring)?)
    }

    fn written(&mut self, file: usize) -> Result<(), Failure> {
        let Some(state) = self.states.get_mut(file) else {
            return Ok(());
        };
        state.unwritten -= 1;
        if state.unwritten == 0 && state.ended {
            state.ended = false;
            if let Some(renewer) = &mut self.renewer {
                renewer.begin(Job::Renew { file, bytes: self.files.bytes })?;
            }
        }
        Ok(())
    }
}
