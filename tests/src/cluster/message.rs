//! What travels between brokers, and between a broker and the controller.

use duramen::{
    KafkaErrorCode, LeaderEpoch, Offset,
    replica::{AlterPartition, BrokerId, EpochEndOffset, FollowerFetch, PartitionAltered},
};
use std::ops::Range;

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// A broker; `None` is the controller.
    pub(super) from: Option<BrokerId>,
    /// A broker; `None` is the controller.
    pub(super) to: Option<BrokerId>,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    /// `id` is the follower's correlation id.
    Fetch {
        id: u64,
        fetch: FollowerFetch,
    },
    Fetched {
        id: u64,
        fetch: FollowerFetch,
        answer: FetchAnswer,
    },
    AskEpochEnd {
        leader_epoch: LeaderEpoch,
        epoch: LeaderEpoch,
    },
    EpochEnd {
        leader_epoch: LeaderEpoch,
        epoch: LeaderEpoch,
        end: EpochEndOffset,
    },
    Alter(AlterPartition),
    Altered(AlterPartition, Result<PartitionAltered, KafkaErrorCode>),
}

#[derive(Debug, Clone)]
pub(super) enum FetchAnswer {
    Records {
        bytes: Vec<u8>,
        high_watermark: Offset,
        log_start: Offset,
    },
    Diverging(EpochEndOffset),
    /// With what `ListOffsets` would say of the leader's log.
    OutOfRange(Range<Offset>),
    /// Any error that means: try again later.
    Refused,
}
