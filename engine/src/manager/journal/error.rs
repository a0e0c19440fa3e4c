//! Why a commit journal cannot be replayed.

use crate::{
    format::FormatError,
    storage::StorageError,
    types::{Offset, TopicPartition},
};

/// What a commit journal holds cannot be brought into the segments. Nothing was changed but what was brought there already,
/// and the journal is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Neither of its anchors can be read, or it is of another version.
    #[error("the commit journal has no anchor that can be read: {source}")]
    Unreadable {
        /// What is wrong with one of them.
        source: FormatError,
    },
    /// A block with a right checksum holds what cannot be understood.
    #[error("block {sequence} of the commit journal at byte {position}: {source}")]
    Block {
        /// Number of the block.
        sequence: u64,
        /// Where it begins in the journal's file.
        position: u64,
        /// What is wrong.
        source: FormatError,
    },
    /// The bytes before those in the journal are missing from the segment.
    #[error("segment {segment_base_offset} of {partition} has {len} bytes, and the journal goes on at {position}")]
    Gap {
        /// The partition.
        partition: TopicPartition,
        /// Base offset of the segment.
        segment_base_offset: Offset,
        /// Bytes of its log file.
        len: u64,
        /// Where the journal's bytes belong.
        position: u64,
    },
    /// The segment that the journal speaks of is not there, nor a later one.
    #[error("the commit journal has batches for segment {segment_base_offset} of {partition}, which is missing")]
    SegmentMissing {
        /// The partition.
        partition: TopicPartition,
        /// Base offset of the segment.
        segment_base_offset: Offset,
    },
}
