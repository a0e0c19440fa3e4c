//! Floor 5: log directories: lock, marker, checkpoints, and the logs in them; what makes appends durable and who waits for
//! it; upkeep and end.
//!
//! [`LogDirectory`] is one directory for one thread; [`LogManager`] is several for any number, with the commit journal.
//! The clock is read here and nowhere below. Knows nothing of any wire protocol. Keeps: one owner at a time; the marker
//! of an orderly close is gone before any log is opened, and comes back only when every log was closed in order.

mod checkpointing;
mod cleaning;
mod commit;
mod creation;
mod deletion;
mod directory;
mod error;
mod events;
mod histogram;
mod journal;
mod loading;
mod log_manager;
mod maintenance;
mod marks;
mod metrics;
mod opener;
mod options;
mod partition;
mod placing;
mod set_aside;
mod topic_config;
mod waiting;

pub use cleaning::Retention;
pub use directory::{DirectoryOptions, DirectoryReport, LogDirectory};
pub use error::OpenError;
pub use events::{Event, EventHandler};
pub use histogram::Histogram;
pub use journal::{JournalError, JournalReplay};
pub use loading::LoadProgress;
pub use log_manager::LogManager;
pub use maintenance::Maintenance;
pub use metrics::DirectoryMetrics;
pub use options::{Background, HighWatermarkPolicy, ManagerOptions};
pub use partition::{Append, Durability, Lag, Partition, PartitionError, Room, TryAppendError};
pub use waiting::{Completion, CompletionQueue, LongPoll, Position, Ticket, WaitError};

use crate::{log::LogOffsets, replica::LocalOffsets};

impl From<LogOffsets> for LocalOffsets {
    fn from(offsets: LogOffsets) -> Self {
        Self { log_start: offsets.log_start, high_watermark: offsets.high_watermark, log_end: offsets.log_end }
    }
}
