//! Floor 5: a log directory: its lock, its marker, its checkpoints and the logs in it; their upkeep and their end.
//!
//! The clock is read here and nowhere below. Knows nothing of any wire protocol. Keeps: one owner at a time; the marker
//! of an orderly close is gone before any log is opened, and comes back only when every log was closed in order.

mod cleaning;
mod deletion;
mod directory;
mod error;
mod waiting;

pub use cleaning::Retention;
pub use directory::{DirectoryOptions, DirectoryReport, LogDirectory};
pub use error::OpenError;

use crate::{log::LogOffsets, replica::LocalOffsets};

impl From<LogOffsets> for LocalOffsets {
    fn from(offsets: LogOffsets) -> Self {
        Self { log_start: offsets.log_start, high_watermark: offsets.high_watermark, log_end: offsets.log_end }
    }
}
