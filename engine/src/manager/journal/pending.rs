//! Blocks that wait to be written, and the one that is being filled.

use crate::{
    format::journal::BLOCK_HEADER_SIZE,
    manager::waiting::{Mark, Position, Ticket, Watch},
    storage::BufferWriter,
};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Whom to tell when a frame is durable.
#[derive(Debug)]
pub(in crate::manager) struct Ack {
    pub(in crate::manager) watch: Arc<Watch>,
    /// Up to where the partition is durable then.
    pub(in crate::manager) flushed: Mark,
}

impl Ack {
    /// For a frame of which no partition is to be told: a ticket for its being durable.
    pub(in crate::manager) fn alone() -> (Ticket, Self) {
        let watch = Arc::new(Watch::new([Mark::default(); 4]));
        let flushed = Mark { offset: 1, bytes: 0 };
        (watch.ticket(Position::Flushed, flushed.offset), Self { watch, flushed })
    }
}

/// A block's bytes so far, its header yet to be filled in.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) buffer: BufferWriter,
    pub(super) frames: u32,
    pub(super) acks: Vec<Ack>,
    /// When its first frame came.
    pub(super) begun: Instant,
}

impl Block {
    /// An empty block in memory that has room for the header.
    pub(super) fn new(mut buffer: BufferWriter) -> Self {
        let fits = buffer.append(&[0; BLOCK_HEADER_SIZE]);
        debug_assert!(fits, "a buffer holds a page at least");
        Self { buffer, frames: 0, acks: Vec::new(), begun: Instant::now() }
    }

    /// Bytes of its frames.
    pub(super) fn frame_bytes(&self) -> usize {
        self.buffer.len() - BLOCK_HEADER_SIZE
    }

    fn add(&mut self, parts: &[&[u8]], ack: Ack) {
        let fits = parts.iter().all(|part| self.buffer.append(part));
        debug_assert!(fits, "the block was chosen for its room");
        self.frames += 1;
        self.acks.push(ack);
    }
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    full: VecDeque<Block>,
    filling: Option<Block>,
    failed: bool,
}

impl Pending {
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Adds a frame; whether that closed a block.
    pub(super) fn add(&mut self, parts: &[&[u8]], ack: Ack, new_block: impl FnOnce() -> Option<Block>) -> bool {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let full = self.filling.take_if(|block| block.buffer.room() < len);
        let closed = full.is_some();
        self.full.extend(full);
        // The machine has no memory left: as where a `Vec` cannot grow, there is no going on.
        #[allow(clippy::expect_used)]
        let new_block = || new_block().expect("memory for a block of the commit journal");
        self.filling.get_or_insert_with(new_block).add(parts, ack);
        closed
    }

    /// The oldest block, and whether it was the one being filled, which that closes.
    pub(super) fn take(&mut self) -> Option<(Block, bool)> {
        let full = self.full.pop_front().map(|block| (block, false));
        full.or_else(|| self.filling.take().map(|block| (block, true)))
    }

    /// Puts a block back that found no place.
    pub(super) fn put_back(&mut self, block: Block) {
        self.full.push_front(block);
    }

    /// Takes nothing any more; the blocks are given up.
    pub(super) fn fail(&mut self) -> Vec<Block> {
        self.failed = true;
        self.full.drain(..).chain(self.filling.take()).collect()
    }
}
