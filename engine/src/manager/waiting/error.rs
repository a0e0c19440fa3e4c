//! Why waiting ended without what was waited for.

use crate::error::KafkaErrorCode;
use std::sync::Arc;

/// Waiting ended, and the position was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline passed first. It may be reached later: the ticket is still good.
    #[error("the deadline passed")]
    TimedOut,
    /// The log was cut below the offset that was waited for; what stood there is gone, and its offsets may be given anew.
    #[error("the log was truncated below what was waited for")]
    Truncated,
    /// The log or its directory failed; whether what was written since the last flush is durable is not known.
    #[error("the log failed: {cause}")]
    Failed {
        /// What happened, for people.
        cause: Arc<str>,
    },
    /// The log was closed or deleted.
    #[error("the log was closed")]
    Closed,
}

impl WaitError {
    /// Kafka's code for this error.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        match self {
            Self::TimedOut => KafkaErrorCode::RequestTimedOut,
            Self::Truncated | Self::Closed => KafkaErrorCode::NotLeaderOrFollower,
            Self::Failed { .. } => KafkaErrorCode::KafkaStorageError,
        }
    }
}
