//! What a request to a replicated partition is refused with.

use super::BrokerId;
use crate::{
    error::KafkaErrorCode,
    types::{LeaderEpoch, Offset},
};

/// A replica refuses a request. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeaderOrFollower,
    /// The request is of an older leader epoch: who sent it has missed an election.
    #[error("leader epoch {requested} is older than {current}")]
    FencedLeaderEpoch {
        /// The epoch of the request.
        requested: LeaderEpoch,
        /// The epoch of this replica.
        current: LeaderEpoch,
    },
    /// The request is of a newer leader epoch: this broker has missed an election.
    #[error("leader epoch {requested} is newer than {current}")]
    UnknownLeaderEpoch {
        /// The epoch of the request.
        requested: LeaderEpoch,
        /// The epoch of this replica.
        current: LeaderEpoch,
    },
    /// The fetch is of a broker that is not an assigned replica, as far as this leader knows.
    #[error("broker {broker} is not a replica of the partition")]
    UnknownReplica {
        /// The broker that fetched.
        broker: BrokerId,
        /// Whether the request carried the right leader epoch, so that this leader must be the one that is behind.
        epoch_matched: bool,
    },
    /// The fetch is of an incarnation of the follower that has ended.
    #[error("the fetch is of an earlier incarnation of broker {broker}")]
    StaleBrokerEpoch {
        /// The broker that fetched.
        broker: BrokerId,
    },
    /// The offset is outside the log, or of an epoch that the log does not know.
    #[error("offset {offset} is outside the log, which holds {log_start} to {log_end} (exclusive)")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// Next offset to be assigned.
        log_end: Offset,
    },
    /// An append with acks=all needs more in-sync replicas. It was not written.
    #[error("{in_sync} replicas are in sync, and acks=all needs {needed}")]
    NotEnoughReplicas {
        /// Size of the committed ISR.
        in_sync: usize,
        /// Effective `min.insync.replicas`.
        needed: usize,
    },
    /// An append with acks=all was written and committed, but by now too few replicas are in sync.
    #[error("{in_sync} replicas are in sync after the append, and acks=all needs {needed}")]
    NotEnoughReplicasAfterAppend {
        /// Size of the maximal ISR.
        in_sync: usize,
        /// Effective `min.insync.replicas`.
        needed: usize,
    },
    /// The records are in the leader's log, but were not committed in time.
    #[error("the records were not committed in time")]
    RequestTimedOut,
    /// An acks that is not 0, 1 or -1.
    #[error("acks {0} is not 0, 1 or -1")]
    InvalidRequiredAcks(i16),
    /// Shortly after an election the new leader does not know yet how far its predecessor had committed.
    #[error("the high watermark has not reached offset {epoch_start}, at which this leader began")]
    OffsetNotAvailable {
        /// The log end at the election.
        epoch_start: Offset,
    },
}

impl ReplicaError {
    /// Kafka's code for this error, as a broker would answer.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        match self {
            Self::NotLeaderOrFollower
            | Self::StaleBrokerEpoch { .. }
            | Self::UnknownReplica { epoch_matched: false, .. } => KafkaErrorCode::NotLeaderOrFollower,
            Self::FencedLeaderEpoch { .. } => KafkaErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } | Self::UnknownReplica { epoch_matched: true, .. } => {
                KafkaErrorCode::UnknownLeaderEpoch
            }
            Self::OffsetOutOfRange { .. } => KafkaErrorCode::OffsetOutOfRange,
            Self::NotEnoughReplicas { .. } => KafkaErrorCode::NotEnoughReplicas,
            Self::NotEnoughReplicasAfterAppend { .. } => KafkaErrorCode::NotEnoughReplicasAfterAppend,
            Self::RequestTimedOut => KafkaErrorCode::RequestTimedOut,
            Self::InvalidRequiredAcks(_) => KafkaErrorCode::InvalidRequiredAcks,
            Self::OffsetNotAvailable { .. } => KafkaErrorCode::OffsetNotAvailable,
        }
    }
}
