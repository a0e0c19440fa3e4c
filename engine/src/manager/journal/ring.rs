//! Which bytes of the journal's file hold which block. Pure.
//!
//! Keeps: blocks that are still needed never overlap; a new one follows the one before or, where it does not fit, lies at
//! the ring's begin.

use crate::format::journal::BLOCKS_AT;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    sequence: u64,
    position: u64,
    len: u64,
}

/// The ring of blocks.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where the file ends, exclusive.
    end: u64,
    /// Behind the newest block.
    next: u64,
    next_sequence: u64,
    /// Blocks that are still needed, the oldest first.
    blocks: VecDeque<Placed>,
    used: u64,
}

impl Ring {
    /// An empty ring in a file of `end` bytes whose first block will have number `sequence`.
    pub(super) fn new(end: u64, sequence: u64) -> Self {
        Self { end, next: BLOCKS_AT, next_sequence: sequence, blocks: VecDeque::new(), used: 0 }
    }

    /// A place for the next block, of `len` bytes: its number and position. `None` until older blocks are freed.
    pub(super) fn place(&mut self, len: u64) -> Option<(u64, u64)> {
        let position = self.find(len)?;
        let sequence = self.next_sequence;
        self.blocks.push_back(Placed { sequence, position, len });
        self.next = position + len;
        self.next_sequence += 1;
        self.used += len;
        Some((sequence, position))
    }

    fn find(&self, len: u64) -> Option<u64> {
        let Some(oldest) = self.blocks.front() else {
            let fits_behind = self.next + len <= self.end;
            let position = if fits_behind { self.next } else { BLOCKS_AT };
            return (position + len <= self.end).then_some(position);
        };
        if self.next <= oldest.position {
            return (self.next + len <= oldest.position).then_some(self.next);
        }
        if self.next + len <= self.end {
            return Some(self.next);
        }
        (BLOCKS_AT + len <= oldest.position).then_some(BLOCKS_AT)
    }

    /// Forgets blocks with a number below `sequence`.
    pub(super) fn free_before(&mut self, sequence: u64) {
        while let Some(oldest) = self.blocks.front().filter(|oldest| oldest.sequence < sequence) {
            self.used -= oldest.len;
            self.blocks.pop_front();
        }
    }

    /// Where replay begins if blocks below `sequence` are not needed: the number and position of the first that is.
    pub(super) fn start_at(&self, sequence: u64) -> (u64, u64) {
        match self.blocks.iter().find(|block| block.sequence >= sequence) {
            Some(block) => (block.sequence, block.position),
            None => (self.next_sequence, self.next),
        }
    }

    /// The number of the block with which `bytes` of the oldest blocks are passed.
    pub(super) fn sequence_after(&self, bytes: u64) -> u64 {
        let mut passed = 0;
        for block in &self.blocks {
            if passed >= bytes {
                return block.sequence;
            }
            passed += block.len;
        }
        self.next_sequence
    }

    /// Bytes of blocks with a number below `sequence`.
    pub(super) fn used_below(&self, sequence: u64) -> u64 {
        self.blocks.iter().take_while(|block| block.sequence < sequence).map(|block| block.len).sum()
    }

    /// Bytes of blocks that are still needed.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that blocks may have together.
    pub(super) fn capacity(&self) -> u64 {
        self.end - BLOCKS_AT
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn ring(pages: u64) -> Ring {
        Ring::new(BLOCKS_AT + pages * PAGE, 1)
    }

    #[test]
    fn blocks_follow_each_other_and_begin_again_where_they_do_not_fit() {
        let mut ring = ring(8);
        assert_eq!(ring.place(3 * PAGE), Some((1, BLOCKS_AT)));
        assert_eq!(ring.place(3 * PAGE), Some((2, BLOCKS_AT + 3 * PAGE)));
        assert_eq!(ring.place(3 * PAGE), None, "it fits neither behind nor before");
        ring.free_before(2);
        assert_eq!(ring.place(3 * PAGE), Some((3, BLOCKS_AT)), "it takes the first one's place");
        assert_eq!(ring.place(PAGE), None, "the second one is next");
        assert_eq!((ring.used(), ring.start_at(0)), (6 * PAGE, (2, BLOCKS_AT + 3 * PAGE)));
        ring.free_before(3);
        assert_eq!(ring.place(5 * PAGE), Some((4, BLOCKS_AT + 3 * PAGE)));
        assert_eq!(ring.place(PAGE), None);
    }

    #[test]
    fn block_larger_than_the_ring_never_fits() {
        let mut ring = ring(8);
        assert_eq!(ring.place(9 * PAGE), None);
        assert_eq!(ring.place(8 * PAGE), Some((1, BLOCKS_AT)));
        ring.free_before(2);
        assert_eq!(ring.place(8 * PAGE), Some((2, BLOCKS_AT)));
    }

    #[test]
    fn emptied_ring_goes_on_where_it_was() {
        let mut ring = ring(8);
        ring.place(3 * PAGE).unwrap();
        ring.free_before(2);
        assert_eq!((ring.start_at(2), ring.used()), ((2, BLOCKS_AT + 3 * PAGE), 0));
        assert_eq!(ring.place(6 * PAGE), Some((2, BLOCKS_AT)), "it did not fit behind");
    }

    #[test]
    fn random_blocks_never_overlap() {
        let mut ring = ring(64);
        let mut seed = 88_172_645_463_325_252_u64;
        let mut oldest = 1;
        for _ in 0..100_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if ring.place((seed % 20 + 1) * PAGE).is_none() {
                oldest += 1;
                ring.free_before(oldest);
            }
            let mut places: Vec<_> =
                ring.blocks.iter().map(|block| (block.position, block.position + block.len)).collect();
            places.sort_unstable();
            assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{places:?}");
            assert!(places.iter().all(|(from, to)| *from >= BLOCKS_AT && *to <= ring.end));
            assert_eq!(ring.used(), places.iter().map(|(from, to)| to - from).sum::<u64>());
        }
    }

    #[test]
    fn sequence_after_bytes_counts_from_the_oldest() {
        let mut ring = ring(8);
        for _ in 0..3 {
            ring.place(2 * PAGE).unwrap();
        }
        assert_eq!([0, 1, 2 * PAGE, 2 * PAGE + 1, 99 * PAGE].map(|bytes| ring.sequence_after(bytes)), [1, 2, 2, 3, 4]);
    }
}
