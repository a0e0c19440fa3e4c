//! What can go wrong in a segment.

use super::scan::Damage;
use crate::{format::FormatError, storage::StorageError, types::Offset};

/// An operation on one segment failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bytes at a position that the log relies on are not a batch.
    #[error("segment {base_offset} at byte {position}: {damage}")]
    Corrupt {
        /// Base offset of the segment.
        base_offset: Offset,
        /// Where in its log file.
        position: u64,
        /// What was found there.
        damage: Damage,
    },
    /// The log was cut while it was read; a reader looks again.
    #[error("segment {base_offset} was cut while it was read")]
    Replaced {
        /// Base offset of the segment.
        base_offset: Offset,
    },
    /// A derived file cannot be used, nor may it be replaced: it is of a newer version.
    #[error("{file} of segment {base_offset}: {source}")]
    Derived {
        /// The kind of file.
        file: &'static str,
        /// Base offset of the segment.
        base_offset: Offset,
        /// What is wrong.
        source: FormatError,
    },
}
