//! The in-sync replicas of a leader, and the one change of them that may be on its way to the controller.
//!
//! Keeps: at most one change is pending; the maximal ISR holds the committed one, whatever becomes of the change.

use super::{BrokerEpoch, BrokerId, PartitionEpoch, PartitionRegistration};
use crate::{error::KafkaErrorCode, types::LeaderEpoch};
use std::collections::{BTreeMap, BTreeSet};

/// A change of the ISR that a leader asks of the controller: the host sends it (`AlterPartition` request).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterPartition {
    /// The leader that asks.
    pub leader: BrokerId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// The registration that it would change.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR, with the incarnation of each member as far as the leader knows it.
    pub isr: BTreeMap<BrokerId, Option<BrokerEpoch>>,
}

/// The partition as the controller says it is after an [`AlterPartition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionAltered {
    /// Leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Partition epoch; the same as before if there was nothing to change.
    pub partition_epoch: PartitionEpoch,
    /// The committed ISR.
    pub isr: BTreeSet<BrokerId>,
}

impl From<&PartitionRegistration> for PartitionAltered {
    fn from(partition: &PartitionRegistration) -> Self {
        Self {
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.clone(),
        }
    }
}

/// What became of an [`AlterPartition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAlterPartition {
    /// The ISR is committed; the high watermark may move.
    Committed,
    /// The controller refused it and changed nothing: the last committed ISR stands, and a new change may be asked for.
    Reverted,
    /// Whether it was done is not known, and it will not help to ask again: the change stays pending until the
    /// controller publishes a newer registration.
    AwaitMetadata,
    /// Send the same request again.
    Retry,
    /// The answer is to a change that no longer matters.
    Ignored,
}

/// The ISR as a leader has it (`PartitionState`): the committed set, and the change that is pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSyncReplicas {
    committed: BTreeSet<BrokerId>,
    pending: Option<AlterPartition>,
}

impl InSyncReplicas {
    pub(super) fn new(committed: BTreeSet<BrokerId>) -> Self {
        Self { committed, pending: None }
    }

    /// The set that the controller has committed.
    #[must_use]
    pub fn committed(&self) -> &BTreeSet<BrokerId> {
        &self.committed
    }

    /// The change that is pending.
    #[must_use]
    pub fn pending(&self) -> Option<&AlterPartition> {
        self.pending.as_ref()
    }

    /// Whether a replica is in the maximal ISR: committed, or about to be. One that is about to be removed still counts,
    /// since the controller may refuse; one that is about to be added counts already, since the controller may have
    /// done it before the answer is here (KIP-497).
    #[must_use]
    pub fn maximal_contains(&self, broker: BrokerId) -> bool {
        self.committed.contains(&broker) || self.pending.as_ref().is_some_and(|change| change.isr.contains_key(&broker))
    }

    /// The maximal ISR.
    #[must_use]
    pub fn maximal(&self) -> BTreeSet<BrokerId> {
        let pending = self.pending.iter().flat_map(|change| change.isr.keys());
        self.committed.iter().chain(pending).copied().collect()
    }

    pub(super) fn propose(&mut self, change: &AlterPartition) {
        debug_assert!(self.pending.is_none(), "one change at a time");
        self.pending = Some(change.clone());
    }

    /// Takes the controller's refusal (`Partition.handleAlterPartitionError`).
    pub(super) fn refuse(&mut self, error: KafkaErrorCode) -> AfterAlterPartition {
        match error {
            // Both say that the partition epoch was right and nothing was done, now or later.
            KafkaErrorCode::OperationNotAttempted | KafkaErrorCode::IneligibleReplica => {
                self.pending = None;
                AfterAlterPartition::Reverted
            }
            KafkaErrorCode::UnknownTopicOrPartition
            | KafkaErrorCode::UnknownTopicId
            | KafkaErrorCode::FencedLeaderEpoch
            | KafkaErrorCode::InvalidUpdateVersion
            | KafkaErrorCode::InvalidRequest
            | KafkaErrorCode::NewLeaderElected => AfterAlterPartition::AwaitMetadata,
            _ => AfterAlterPartition::Retry,
        }
    }

    pub(super) fn commit(&mut self, isr: BTreeSet<BrokerId>) {
        *self = Self::new(isr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(isr: &[BrokerId]) -> AlterPartition {
        let isr = isr.iter().map(|broker| (*broker, None)).collect();
        AlterPartition { leader: 1, leader_epoch: 3, partition_epoch: 5, isr }
    }

    // M 240
    #[test]
    fn expansion_counts_at_once_and_shrink_only_when_confirmed() {
        let mut isr = InSyncReplicas::new([1, 2].into());
        isr.propose(&change(&[1, 2, 3]));
        assert_eq!((isr.committed(), isr.maximal()), (&[1, 2].into(), [1, 2, 3].into()));
        let mut isr = InSyncReplicas::new([1, 2].into());
        isr.propose(&change(&[1]));
        assert_eq!((isr.committed(), isr.maximal()), (&[1, 2].into(), [1, 2].into()));
        isr.commit([1].into());
        assert_eq!((isr.maximal(), isr.pending()), ([1].into(), None));
    }

    // M 240
    #[test]
    fn refusals_revert_wait_or_repeat() {
        use AfterAlterPartition::{AwaitMetadata, Retry, Reverted};
        for (error, after) in [
            (KafkaErrorCode::OperationNotAttempted, Reverted),
            (KafkaErrorCode::IneligibleReplica, Reverted),
            (KafkaErrorCode::UnknownTopicOrPartition, AwaitMetadata),
            (KafkaErrorCode::UnknownTopicId, AwaitMetadata),
            (KafkaErrorCode::FencedLeaderEpoch, AwaitMetadata),
            (KafkaErrorCode::InvalidUpdateVersion, AwaitMetadata),
            (KafkaErrorCode::InvalidRequest, AwaitMetadata),
            (KafkaErrorCode::NewLeaderElected, AwaitMetadata),
            (KafkaErrorCode::RequestTimedOut, Retry),
            (KafkaErrorCode::UnknownServerError, Retry),
        ] {
            let mut isr = InSyncReplicas::new([1, 2].into());
            isr.propose(&change(&[1, 2, 3]));
            assert_eq!(isr.refuse(error), after, "{error:?}");
            assert_eq!(isr.pending().is_none(), after == Reverted, "{error:?}");
        }
    }
}
