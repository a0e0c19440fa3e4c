//! What a producer waits for.

use super::{Partition, ReplicaError};
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// The acks of a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAcks {
    /// 0: no answer is sent.
    None,
    /// 1: the answer follows the append at the leader.
    Leader,
    /// -1 or "all": the answer waits until the records are below the high watermark.
    All,
}

impl TryFrom<i16> for RequiredAcks {
    type Error = ReplicaError;

    /// Reads the number of the request (`ReplicaManager.isValidRequiredAcks`).
    fn try_from(acks: i16) -> Result<Self, ReplicaError> {
        match acks {
            0 => Ok(Self::None),
            1 => Ok(Self::Leader),
            -1 => Ok(Self::All),
            other => Err(ReplicaError::InvalidRequiredAcks(other)),
        }
    }
}

/// Where a produce request with acks=all stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProduceStatus {
    /// Ask again when the high watermark or the leadership changed, or the deadline passed.
    Waiting,
    /// The records are committed.
    Acknowledged,
    /// The producer must be told that the records may be lost, or may not.
    Failed(ReplicaError),
}

/// A produce request with acks=all whose records are in the leader's log (`DelayedProduce`).
///
/// ```
/// use duramen::replica::{DelayedProduce, LocalOffsets, Partition, PartitionRegistration, ProduceStatus, ReplicaConfig};
/// let mut partition = Partition::new(1, ReplicaConfig::default());
/// let log = LocalOffsets { log_start: 0, high_watermark: 0, log_end: 0 };
/// partition.apply(&PartitionRegistration::new(vec![1, 2]), &log, 0);
/// let produce = DelayedProduce { leader_epoch: 0, required_offset: 10, deadline_ms: 30_000 };
/// assert_eq!(produce.status(&partition, 9, 100), ProduceStatus::Waiting);
/// assert_eq!(produce.status(&partition, 10, 100), ProduceStatus::Acknowledged);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayedProduce {
    /// Epoch in which the leader appended the records.
    pub leader_epoch: LeaderEpoch,
    /// Offset behind the last record: the high watermark that acknowledges it.
    pub required_offset: Offset,
    /// When to give up, in ms, inclusive.
    pub deadline_ms: Timestamp,
}

impl DelayedProduce {
    /// Where the request stands (`DelayedProduce.tryComplete`, `Partition.checkEnoughReplicasReachOffset`).
    ///
    /// A broker that lost the leadership and won it back may have cut the records in between, so the request fails then
    /// even if nobody asked meanwhile. Kafka relies on being asked at every change.
    #[must_use]
    pub fn status(&self, partition: &Partition, high_watermark: Offset, now_ms: Timestamp) -> ProduceStatus {
        let leader = match partition.leader() {
            Ok(leader) if leader.leads_since() <= self.leader_epoch => leader,
            _ => return ProduceStatus::Failed(ReplicaError::NotLeaderOrFollower),
        };
        if high_watermark >= self.required_offset {
            let (in_sync, needed) = (leader.in_sync_replicas().maximal().len(), leader.effective_min_isr());
            return if in_sync >= needed {
                ProduceStatus::Acknowledged
            } else {
                ProduceStatus::Failed(ReplicaError::NotEnoughReplicasAfterAppend { in_sync, needed })
            };
        }
        if now_ms >= self.deadline_ms {
            return ProduceStatus::Failed(ReplicaError::RequestTimedOut);
        }
        ProduceStatus::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{LocalOffsets, PartitionRegistration, ReplicaConfig};

    const LOG: LocalOffsets = LocalOffsets { log_start: 0, high_watermark: 0, log_end: 5 };

    fn leader(isr: &[i32], min_insync_replicas: u32) -> Partition {
        let mut partition = Partition::new(1, ReplicaConfig { min_insync_replicas, ..ReplicaConfig::default() });
        let isr = isr.iter().copied().collect();
        partition.apply(&PartitionRegistration { isr, ..PartitionRegistration::new(vec![1, 2, 3]) }, &LOG, 0);
        partition
    }

    #[test]
    fn acks_are_0_1_or_all() {
        for (number, acks) in [
            (0, Ok(RequiredAcks::None)),
            (1, Ok(RequiredAcks::Leader)),
            (-1, Ok(RequiredAcks::All)),
            (2, Err(ReplicaError::InvalidRequiredAcks(2))),
            (-2, Err(ReplicaError::InvalidRequiredAcks(-2))),
        ] {
            assert_eq!(RequiredAcks::try_from(number), acks);
        }
    }

    // M 248
    #[test]
    fn produce_completes_at_the_high_watermark_if_enough_are_still_in_sync() {
        let produce = DelayedProduce { leader_epoch: 0, required_offset: 5, deadline_ms: 100 };
        let too_few = ReplicaError::NotEnoughReplicasAfterAppend { in_sync: 1, needed: 2 };
        for (isr, high_watermark, now_ms, status) in [
            (&[1, 2][..], 4, 99, ProduceStatus::Waiting),
            (&[1, 2], 5, 99, ProduceStatus::Acknowledged),
            (&[1, 2], 5, 200, ProduceStatus::Acknowledged),
            (&[1, 2], 4, 100, ProduceStatus::Failed(ReplicaError::RequestTimedOut)),
            (&[1], 5, 99, ProduceStatus::Failed(too_few)),
        ] {
            assert_eq!(produce.status(&leader(isr, 2), high_watermark, now_ms), status, "{isr:?} {high_watermark}");
        }
    }

    #[test]
    fn produce_fails_when_leadership_was_lost_even_if_won_back() {
        let produce = DelayedProduce { leader_epoch: 0, required_offset: 5, deadline_ms: 100 };
        let lost = ProduceStatus::Failed(ReplicaError::NotLeaderOrFollower);
        let mut partition = leader(&[1, 2, 3], 1);
        let registration = |epoch, leader| PartitionRegistration {
            leader_epoch: epoch,
            partition_epoch: epoch,
            leader: Some(leader),
            ..PartitionRegistration::new(vec![1, 2, 3])
        };
        partition.apply(&registration(1, 1), &LOG, 0);
        assert_eq!(produce.status(&partition, 5, 0), ProduceStatus::Acknowledged, "it led without a break");
        partition.apply(&registration(2, 2), &LOG, 0);
        assert_eq!(produce.status(&partition, 5, 0), lost);
        partition.apply(&registration(3, 1), &LOG, 0);
        assert_eq!(produce.status(&partition, 5, 0), lost);
    }
}
