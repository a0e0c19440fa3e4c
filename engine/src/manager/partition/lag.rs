//! How far one position of a partition is behind another.

use super::Partition;
use crate::{manager::waiting::Position, types::Offset};

/// How far a partition's positions lie apart, of about one moment.
///
/// ```
/// use duramen::{LogConfig, LogManager, ManagerOptions, TopicPartition};
/// # let dir = tempfile::tempdir()?;
/// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
/// let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;
/// assert_eq!(orders.lag().unflushed_bytes, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Offsets from where the log survives power loss to its end.
    pub unflushed_offsets: u64,
    /// Bytes of the batches there that were appended since the log was opened.
    pub unflushed_bytes: u64,
    /// Offsets that survive power loss in the journal alone, not in their segment: what a crash now would replay, at most.
    pub journal_offsets: u64,
    /// Offsets from the high watermark to the log's end.
    pub uncommitted_offsets: u64,
}

impl Partition {
    /// How far its positions lie apart. Waits for no append.
    #[must_use]
    pub fn lag(&self) -> Lag {
        // The position behind is read first: what is appended meanwhile shows as lag.
        let (flushed, flushed_bytes) = (self.flushed(), self.watch.bytes(Position::Flushed));
        let offsets = self.offsets();
        let end_bytes = self.watch.bytes(Position::LogEnd);
        Lag {
            unflushed_offsets: between(flushed, offsets.log_end),
            unflushed_bytes: end_bytes.saturating_sub(flushed_bytes),
            journal_offsets: between(offsets.recovery_point, flushed),
            uncommitted_offsets: between(offsets.high_watermark, offsets.log_end),
        }
    }
}

fn between(low: Offset, high: Offset) -> u64 {
    u64::try_from(high.saturating_sub(low)).unwrap_or(0)
}
