//! How the memory in which appends gather is shared out.
//!
//! Keeps: what may gather can get all the pieces that it needs once nobody else has any, so that whoever waits for memory
//! does not wait for ever; a piece ends where direct I/O may end.

use super::Committer;
use crate::{
    manager::{journal::Journal, partition::Partition},
    storage::DIRECT_BYTES,
};
use std::sync::{Arc, atomic::Ordering};

/// Smaller pieces are not worth a write.
const MIN_PIECE_BYTES: usize = 16 << 10;

/// Bytes of a piece, at most `largest`: as many that one for each of the partitions that are `gathering` fits into half of the
/// memory.
pub(super) fn piece_bytes(largest: usize, limit: usize, gathering: usize) -> usize {
    let share = limit / 2 / gathering.max(1);
    let wanted = share.clamp(MIN_PIECE_BYTES.min(largest), largest);
    let part = largest >> largest.div_ceil(wanted).next_power_of_two().trailing_zeros();
    part.next_multiple_of(DIRECT_BYTES)
}

fn needed(bytes: usize, piece_bytes: usize) -> usize {
    let piece_bytes = piece_bytes.max(1);
    bytes.div_ceil(piece_bytes).saturating_add(1).saturating_mul(piece_bytes)
}

impl Committer {
    /// Memory for an append of so many bytes, begun anywhere in a piece.
    pub(super) fn needed(&self, bytes: usize) -> usize {
        needed(bytes, self.piece_bytes.load(Ordering::Relaxed))
    }

    /// Whether an append of `len` bytes may gather. Where it needs too much of the memory it might wait for ever.
    pub(super) fn is_gathered(&self, journal: &Journal, len: usize) -> bool {
        let limit = self.pool.limit();
        let has_place = len <= limit / 2 && self.needed(len) <= limit;
        has_place && len <= journal.max_frame_bytes()
    }

    /// With many partitions the pieces are smaller.
    pub(super) fn choose_piece_bytes(&self, partitions: &[Arc<Partition>]) {
        let gathering = partitions.iter().filter(|partition| partition.is_gathering()).count();
        let bytes = piece_bytes(self.options.piece_bytes, self.pool.limit(), gathering);
        self.piece_bytes.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_of_whole_pages_up_to_the_largest() {
        for largest in (1..80).map(|pages| pages * DIRECT_BYTES) {
            for limit in [0, 1, 4096, 50_000, 1 << 20, 256 << 20] {
                for gathering in [0, 1, 7, 1000, 100_000] {
                    let bytes = piece_bytes(largest, limit, gathering);
                    let is_right = bytes.is_multiple_of(DIRECT_BYTES) && bytes <= largest && bytes >= DIRECT_BYTES;
                    assert!(is_right, "{bytes} of {largest}, {limit} for {gathering}");
                }
            }
        }
        assert_eq!(piece_bytes(128 << 10, 256 << 20, 1000), 128 << 10);
        assert_eq!(piece_bytes(128 << 10, 256 << 20, 2000), 64 << 10);
        assert_eq!(piece_bytes(128 << 10, 256 << 20, 1_000_000), 16 << 10);
    }

    #[test]
    fn append_begun_at_the_end_of_a_piece_needs_one_more() {
        assert_eq!([needed(1, 4096), needed(4096, 4096), needed(4097, 4096)], [8192, 8192, 12_288]);
    }
}
