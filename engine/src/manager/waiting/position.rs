//! The positions of a partition that can be waited for.

use crate::types::Offset;

/// A position of a partition, exclusive: everything below it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// What was written; a follower reads up to here.
    LogEnd,
    /// What is committed; a consumer reads up to here.
    HighWatermark,
    /// What is committed and of a decided transaction, or of none; a read-committed consumer reads up to here.
    LastStable,
    /// What survives a loss of power.
    Flushed,
}

impl Position {
    pub(crate) const ALL: [Self; 4] = [Self::LogEnd, Self::HighWatermark, Self::LastStable, Self::Flushed];

    /// Whether it only ever moves up, but for a truncation.
    pub(super) fn only_rises(self) -> bool {
        self == Self::Flushed
    }
}

/// Where a position stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The offset, exclusive.
    pub(crate) offset: Offset,
    /// Bytes of batches below the offset, counted from any place of the log that stays the same while it is open.
    pub(crate) bytes: u64,
}
