//! The journal of the floors: one preallocated file, written round and round by direct synchronous writes of blocks.
//!
//! Owns the blocks and which appends are in each. Frames are never read back: a floor has no recovery.

use super::{
    buffer::{ALIGNMENT, Buffer},
    ring::{Ring, Write},
};
use std::{collections::VecDeque, fs::File, io, sync::Arc};

/// Bytes of a block, at most.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks in flight at once.
const BLOCKS_IN_FLIGHT: usize = 4;
/// Bytes before each append: its partition, length and checksum.
const FRAME_BYTES: usize = 16;

/// A block that is being filled or waits.
struct Block {
    buffer: Buffer,
    filled: usize,
    tags: Vec<u32>,
}

/// The end of the journal that is written.
pub(crate) struct Journal {
    file: Arc<File>,
    /// Bytes of the file, a multiple of the block size.
    bytes: u64,
    at: u64,
    open: Block,
    sealed: VecDeque<Block>,
    spare: Vec<(Buffer, Vec<u32>)>,
    /// The tags of the blocks in flight, by token.
    flying: [Option<Vec<u32>>; BLOCKS_IN_FLIGHT],
}

impl Journal {
    pub(crate) fn new(file: File, bytes: u64) -> Self {
        Self {
            file: Arc::new(file),
            bytes: bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64,
            at: 0,
            open: Block { buffer: Buffer::new(BLOCK_BYTES), filled: 0, tags: Vec::new() },
            sealed: VecDeque::new(),
            spare: Vec::new(),
            flying: [const { None }; BLOCKS_IN_FLIGHT],
        }
    }

    /// Tokens of the ring below this are the journal's.
    pub(crate) const TOKENS: usize = BLOCKS_IN_FLIGHT;

    /// Copies an append into a frame of the open block; what fills a block sends it, if not too many are in flight.
    pub(crate) fn push(&mut self, ring: &mut Ring, batch: &[u8], header: (u32, u32), tag: u32) -> io::Result<()> {
        if self.open.filled + FRAME_BYTES + batch.len() > BLOCK_BYTES {
            self.seal();
            self.send_sealed(ring)?;
        }
        let at = self.open.filled;
        let len = u32::try_from(batch.len()).map_err(io::Error::other)?;
        let mut frame = [0; FRAME_BYTES];
        for (place, word) in frame.chunks_mut(4).zip([header.0, len, header.1, tag]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        self.open.buffer.put(at, &frame);
        self.open.buffer.put(at + FRAME_BYTES, batch);
        self.open.filled = at + FRAME_BYTES + batch.len();
        self.open.tags.push(tag);
        Ok(())
    }

    /// Sends whatever there is, also a block that is not full, if not too many are in flight.
    pub(crate) fn send(&mut self, ring: &mut Ring) -> io::Result<()> {
        self.send_sealed(ring)?;
        if self.open.filled > 0 && self.flying.iter().any(Option::is_none) {
            self.seal();
            self.send_sealed(ring)?;
        }
        Ok(())
    }

    fn seal(&mut self) {
        let (buffer, tags) = self.spare.pop().unwrap_or_else(|| (Buffer::new(BLOCK_BYTES), Vec::new()));
        self.sealed.push_back(std::mem::replace(&mut self.open, Block { buffer, filled: 0, tags }));
    }

    fn send_sealed(&mut self, ring: &mut Ring) -> io::Result<()> {
        while let Some(token) = self.flying.iter().position(Option::is_none) {
            let Some(block) = self.sealed.pop_front() else {
                return Ok(());
            };
            let len = block.filled.next_multiple_of(ALIGNMENT);
            if self.at + len as u64 > self.bytes {
                self.at = 0;
            }
            let file = Arc::clone(&self.file);
            ring.write(Write { file, buffer: block.buffer, len, at: self.at, durable: true, token })?;
            ring.submit(0)?;
            self.at += len as u64;
            if let Some(flying) = self.flying.get_mut(token) {
                *flying = Some(block.tags);
            }
        }
        Ok(())
    }

    /// A block is on the disk: its tags go to `acked`, its memory back to the others.
    pub(crate) fn landed(&mut self, token: usize, buffer: Option<Buffer>, acked: &mut Vec<u32>) {
        let tags = self.flying.get_mut(token).and_then(Option::take);
        if let (Some(mut tags), Some(buffer)) = (tags, buffer) {
            acked.append(&mut tags);
            self.spare.push((buffer, tags));
        }
    }
}
