//! How a log manager makes appends durable, and with how much memory.

use super::{DirectoryOptions, EventHandler, Maintenance, OpenError};
use crate::{storage::DIRECT_BYTES, types::Timestamp};
use std::time::Duration;

/// More than what a recovery should have to replay.
const MAX_JOURNAL_BYTES: u64 = 64 << 30;
/// More than what a write to the journal gains by.
const MAX_BLOCK_BYTES: usize = 64 << 20;
/// The kernel writes less than two at once.
const MAX_PIECE_BYTES: usize = 1 << 30;

/// What a log manager does with the high watermark of its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HighWatermarkPolicy {
    /// The host moves it, as its replicas get on.
    #[default]
    Host,
    /// There are no other replicas: what is written is committed, as in Kafka where a partition has one replica. With
    /// [`Durability::Flushed`](crate::Durability::Flushed) a consumer may see what a crash takes away again, until the append
    /// that waits for it is acknowledged.
    LogEnd,
    /// There are no other replicas, and what is flushed is committed: a consumer sees nothing that a crash could take away.
    /// What was appended as [`Durability::Written`](crate::Durability::Written) is seen once it is flushed, by a later append or
    /// by [`Partition::flush`](crate::Partition::flush).
    Flushed,
}

/// Who moves a log manager's work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Two named threads for each log directory. The kernel adds workers of its own to the ring while there is much to write.
    #[default]
    Threads,
    /// The host, by calling [`crate::LogManager::poll`]: for one thread per core, and for tests that leave nothing to
    /// chance. A thread that waits for a ticket must not be the one that polls.
    Host,
}

/// How a [`crate::LogManager`] works.
///
/// ```
/// use duramen::{HighWatermarkPolicy, ManagerOptions};
/// let options = ManagerOptions { high_watermark: HighWatermarkPolicy::LogEnd, ..ManagerOptions::default() };
/// assert_eq!(options.journal_bytes, 512 << 20);
/// ```
#[derive(Debug, Clone)]
pub struct ManagerOptions {
    /// How each log directory is opened.
    pub directory: DirectoryOptions,
    /// Who moves the high watermark.
    pub high_watermark: HighWatermarkPolicy,
    /// Who moves the work on.
    pub background: Background,
    /// Bytes of the commit journal of a directory; 0 goes without, and flushed appends are made durable by group commit:
    /// one sync of each segment concerned, all at once. So it is on a disk that has less space. It bounds what a recovery has to
    /// replay. At most 64 GiB; a small one is made as large as a few writes.
    pub journal_bytes: u64,
    /// Bytes that one write to the journal has at most, unless a single append is larger. At most 64 MiB, and a quarter of the
    /// journal counts where that is less.
    pub journal_block_bytes: usize,
    /// Writes to the journal in flight at once, 1 to 4.
    pub journal_writes: usize,
    /// Memory in which a directory's appends gather until they are written to their segments, in bytes. Also what readers
    /// close behind the end are served from. An append larger than half of it goes to its segment at once, as do all where it is
    /// less than 32 KiB, or than two pieces that are smaller than 16 KiB.
    pub gather_bytes: usize,
    /// A partition's appends are written to its segment in pieces of at most this many bytes, a multiple of 4,096 up to 1 GiB; with many
    /// partitions the pieces are smaller, so that all fit into the memory.
    pub piece_bytes: usize,
    /// Bytes of appends that may wait for the journal before further ones have to wait themselves, above 0; see
    /// [`Partition::room`](crate::Partition::room) for those who must not be blocked.
    pub pending_bytes: usize,
    /// Retention, compaction and checkpoints by themselves; `None`, the default, leaves them to the host, as
    /// [`Background::Host`] always does.
    pub maintenance: Option<Maintenance>,
    /// The time to go by, in ms; `None` is the machine's.
    pub now_ms: Option<Timestamp>,
    /// Who is told of failures and of what else happens; nobody by default.
    pub events: EventHandler,
    /// A sync that takes longer is an [`Event::SlowSync`](crate::Event::SlowSync).
    pub slow_sync: Duration,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            directory: DirectoryOptions::default(),
            high_watermark: HighWatermarkPolicy::default(),
            background: Background::default(),
            journal_bytes: 512 << 20,
            journal_block_bytes: 256 << 10,
            journal_writes: 4,
            gather_bytes: 256 << 20,
            piece_bytes: 128 << 10,
            pending_bytes: 16 << 20,
            maintenance: None,
            now_ms: None,
            events: EventHandler::default(),
            slow_sync: Duration::from_secs(1),
        }
    }
}

impl ManagerOptions {
    /// Whether a manager can work like that.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let (block, writes, piece) = (self.journal_block_bytes, self.journal_writes, self.piece_bytes);
        let is_piece = (DIRECT_BYTES..=MAX_PIECE_BYTES).contains(&piece) && piece.is_multiple_of(DIRECT_BYTES);
        let journal_fits = self.journal_bytes <= MAX_JOURNAL_BYTES;
        let checks = [
            ("journal_bytes", self.journal_bytes, journal_fits, "a journal has at most 64 GiB"),
            ("journal_block_bytes", number(block), block <= MAX_BLOCK_BYTES, "a write has at most 64 MiB"),
            ("journal_writes", number(writes), (1..=4).contains(&writes), "there are 1 to 4 writes in flight"),
            ("piece_bytes", number(piece), is_piece, "a piece is a multiple of 4096 bytes, up to 1 GiB"),
            ("pending_bytes", 0, self.pending_bytes > 0, "nothing could ever be appended"),
        ];
        match checks.into_iter().find(|(_, _, is_right, _)| !is_right) {
            Some((option, value, _, why)) => Err(OpenError::InvalidOption { option, value, why }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_which_nothing_works_are_named() {
        let wrong = |change: fn(&mut ManagerOptions)| {
            let mut options = ManagerOptions::default();
            change(&mut options);
            match options.check() {
                Err(OpenError::InvalidOption { option, value, .. }) => Some((option, value)),
                _ => None,
            }
        };
        assert_eq!(wrong(|_| {}), None);
        assert_eq!(wrong(|options| options.journal_bytes = 0), None);
        assert_eq!(wrong(|options| options.journal_bytes = u64::MAX), Some(("journal_bytes", u64::MAX)));
        assert_eq!(wrong(|options| options.journal_block_bytes = 65 << 20), Some(("journal_block_bytes", 65 << 20)));
        assert_eq!(wrong(|options| options.journal_writes = 0), Some(("journal_writes", 0)));
        assert_eq!(wrong(|options| options.journal_writes = 5), Some(("journal_writes", 5)));
        assert_eq!(wrong(|options| options.piece_bytes = 0), Some(("piece_bytes", 0)));
        assert_eq!(wrong(|options| options.piece_bytes = 5000), Some(("piece_bytes", 5000)));
        assert_eq!(wrong(|options| options.piece_bytes = 2 << 30), Some(("piece_bytes", 2 << 30)));
        assert_eq!(wrong(|options| options.piece_bytes = 4096), None);
        assert_eq!(wrong(|options| options.pending_bytes = 0), Some(("pending_bytes", 0)));
    }
}
