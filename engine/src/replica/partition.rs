//! One broker's replica of a partition: leader or follower, as the controller's last word says.
//!
//! Keeps: the partition epoch never goes back; what is known of followers lives exactly as long as a leadership.

use super::{
    BrokerId, FetchVerdict, FollowerFetch, LeaderState, LocalOffsets, PartitionEpoch, PartitionRegistration,
    ReplicaError,
    fetch::{check_divergence, check_epoch},
};
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// What the host configures of replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// `replica.lag.time.max.ms`: a follower that did not catch up for longer is not in sync. Default 30 s.
    pub replica_lag_time_max_ms: Timestamp,
    /// `min.insync.replicas` of the topic. Default 1.
    pub min_insync_replicas: u32,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { replica_lag_time_max_ms: 30_000, min_insync_replicas: 1 }
    }
}

/// What a new registration means for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It is older than what is known: nothing changed.
    Ignored,
    /// This replica leads. With a new leader epoch, the log must record durably that the epoch begins at this offset,
    /// before it takes an append or answers a fetch ([`crate::Log::assign_epoch_start_offset`]). Then ask
    /// [`LeaderState::maybe_increment_high_watermark`].
    Leader {
        /// Where the new leader epoch begins; `None` if the epoch is the same.
        epoch_starts_at: Option<Offset>,
    },
    /// This replica follows. With a new leader epoch its fetching begins anew, even from the same leader.
    Follower {
        /// Whether the leader epoch is new.
        restart_fetching: bool,
    },
}

/// One broker's replica of a partition (`kafka.cluster.Partition`).
///
/// ```
/// use duramen::replica::{LocalOffsets, Partition, PartitionRegistration, ReplicaConfig, Transition};
/// let mut partition = Partition::new(1, ReplicaConfig::default());
/// let log = LocalOffsets { log_start: 0, high_watermark: 0, log_end: 7 };
/// let registration = PartitionRegistration::new(vec![1, 2, 3]);
/// let transition = partition.apply(&registration, &log, 1_000);
/// assert_eq!(transition, Transition::Leader { epoch_starts_at: Some(7) });
/// # Ok::<(), duramen::replica::ReplicaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    broker: BrokerId,
    config: ReplicaConfig,
    role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// The controller has said nothing yet.
    Unknown,
    Leader(LeaderState),
    Follower {
        leader: Option<BrokerId>,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
    },
}

impl Partition {
    /// The replica on `broker`, before the controller has said anything about it.
    #[must_use]
    pub fn new(broker: BrokerId, config: ReplicaConfig) -> Self {
        Self { broker, config, role: Role::Unknown }
    }

    /// Changes the configuration.
    pub fn set_config(&mut self, config: ReplicaConfig) {
        self.config = config;
        if let Role::Leader(leader) = &mut self.role {
            leader.set_config(config);
        }
    }

    /// Takes the controller's word (`Partition.makeLeader`, `Partition.makeFollower`). One with an older partition
    /// epoch is ignored; one with the same changes nothing at a leader, which learns it from its own request as well.
    pub fn apply(&mut self, registration: &PartitionRegistration, log: &LocalOffsets, now_ms: Timestamp) -> Transition {
        if self.partition_epoch().is_some_and(|known| registration.partition_epoch < known) {
            return Transition::Ignored;
        }
        let is_new_epoch = self.leader_epoch().is_none_or(|known| registration.leader_epoch > known);
        if registration.leader != Some(self.broker) {
            self.role = Role::Follower {
                leader: registration.leader,
                leader_epoch: registration.leader_epoch,
                partition_epoch: registration.partition_epoch,
            };
            return Transition::Follower { restart_fetching: is_new_epoch };
        }
        match &mut self.role {
            Role::Leader(leader) => leader.apply(registration, log, now_ms),
            role => {
                let leader = LeaderState::new(self.broker, self.config, registration, log.log_end, now_ms);
                *role = Role::Leader(leader);
            }
        }
        Transition::Leader { epoch_starts_at: is_new_epoch.then_some(log.log_end) }
    }

    /// The leader epoch; `None` until the controller has said one.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Unknown => None,
            Role::Leader(leader) => Some(leader.leader_epoch()),
            Role::Follower { leader_epoch, .. } => Some(*leader_epoch),
        }
    }

    /// The partition epoch; `None` until the controller has said one.
    #[must_use]
    pub fn partition_epoch(&self) -> Option<PartitionEpoch> {
        match &self.role {
            Role::Unknown => None,
            Role::Leader(leader) => Some(leader.partition_epoch()),
            Role::Follower { partition_epoch, .. } => Some(*partition_epoch),
        }
    }

    /// The broker that leads, if there is one.
    #[must_use]
    pub fn leader_id(&self) -> Option<BrokerId> {
        match &self.role {
            Role::Unknown => None,
            Role::Leader(_) => Some(self.broker),
            Role::Follower { leader, .. } => *leader,
        }
    }

    /// What this replica keeps as leader.
    ///
    /// # Errors
    /// [`ReplicaError::NotLeaderOrFollower`] when it does not lead.
    pub fn leader(&self) -> Result<&LeaderState, ReplicaError> {
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            _ => Err(ReplicaError::NotLeaderOrFollower),
        }
    }

    /// As [`Partition::leader`], to change it.
    ///
    /// # Errors
    /// As [`Partition::leader`].
    pub fn leader_mut(&mut self) -> Result<&mut LeaderState, ReplicaError> {
        match &mut self.role {
            Role::Leader(leader) => Ok(leader),
            _ => Err(ReplicaError::NotLeaderOrFollower),
        }
    }

    /// Compares the leader epoch of a request, if it carries one, with this replica's: for fetches, `ListOffsets` and
    /// `OffsetsForLeaderEpoch`, at leaders and followers (`Partition.checkCurrentLeaderEpoch`).
    ///
    /// # Errors
    /// [`ReplicaError::FencedLeaderEpoch`] when the request's is lower, [`ReplicaError::UnknownLeaderEpoch`] when it is
    /// higher, [`ReplicaError::NotLeaderOrFollower`] when this replica has none.
    pub fn check_leader_epoch(&self, requested: Option<LeaderEpoch>) -> Result<(), ReplicaError> {
        check_epoch(requested, self.leader_epoch().ok_or(ReplicaError::NotLeaderOrFollower)?)
    }

    /// Judges a follower's fetch before the read (`Partition.fetchRecords`). `log` is sampled before the read; `last_fetched_epoch_end` is what
    /// [`crate::LogReader::end_offset_for_epoch`] says of the fetch's last epoch, `None` if it has none.
    ///
    /// # Errors
    /// As [`Partition::check_leader_epoch`]; [`ReplicaError::NotLeaderOrFollower`], [`ReplicaError::UnknownReplica`];
    /// [`ReplicaError::OffsetOutOfRange`] outside the log, or when the fetch's last epoch is newer than any here.
    pub fn check_fetch(
        &self,
        fetch: &FollowerFetch,
        log: &LocalOffsets,
        last_fetched_epoch_end: Option<(LeaderEpoch, Offset)>,
    ) -> Result<FetchVerdict, ReplicaError> {
        self.check_leader_epoch(fetch.current_leader_epoch)?;
        self.leader()?.check_follower(fetch)?;
        check_divergence(fetch, log, last_fetched_epoch_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LocalOffsets = LocalOffsets { log_start: 0, high_watermark: 4, log_end: 7 };

    fn registration(leader: BrokerId, leader_epoch: LeaderEpoch, partition_epoch: i32) -> PartitionRegistration {
        let leader = Some(leader);
        PartitionRegistration { leader, leader_epoch, partition_epoch, ..PartitionRegistration::new(vec![1, 2, 3]) }
    }

    // M 237
    #[test]
    fn an_epoch_start_is_recorded_once_and_older_words_are_ignored() {
        let mut partition = Partition::new(1, ReplicaConfig::default());
        let led_from = |offset| Transition::Leader { epoch_starts_at: offset };
        let later = LocalOffsets { log_end: 9, ..LOG };
        assert_eq!(partition.apply(&registration(1, 3, 10), &LOG, 0), led_from(Some(7)));
        assert_eq!(partition.apply(&registration(2, 4, 9), &LOG, 0), Transition::Ignored);
        assert_eq!(partition.apply(&registration(1, 3, 10), &later, 0), led_from(None));
        assert_eq!(partition.apply(&registration(1, 3, 11), &later, 0), led_from(None));
        assert_eq!(partition.leader().map(LeaderState::leader_epoch_start_offset), Ok(7));
        assert_eq!(partition.apply(&registration(1, 4, 12), &later, 0), led_from(Some(9)));
        assert_eq!(partition.leader().map(LeaderState::leader_epoch_start_offset), Ok(9));
        let following = Transition::Follower { restart_fetching: true };
        assert_eq!(partition.apply(&registration(2, 5, 13), &later, 0), following);
        let following = Transition::Follower { restart_fetching: false };
        assert_eq!(partition.apply(&registration(2, 5, 14), &later, 0), following);
        assert_eq!(partition.apply(&registration(1, 6, 13), &later, 0), Transition::Ignored);
        assert_eq!((partition.leader_id(), partition.leader_epoch()), (Some(2), Some(5)));
    }

    // M 243
    #[test]
    fn epochs_are_checked_at_leader_and_follower() {
        let mut partition = Partition::new(1, ReplicaConfig::default());
        assert_eq!(partition.check_leader_epoch(Some(0)), Err(ReplicaError::NotLeaderOrFollower));
        for leader in [1, 2] {
            partition.apply(&registration(leader, 4 + leader, leader), &LOG, 0);
            let current = 4 + leader;
            assert_eq!(partition.check_leader_epoch(None), Ok(()));
            assert_eq!(partition.check_leader_epoch(Some(current)), Ok(()));
            let fenced = ReplicaError::FencedLeaderEpoch { requested: 4, current };
            assert_eq!(partition.check_leader_epoch(Some(4)), Err(fenced));
            let unknown = ReplicaError::UnknownLeaderEpoch { requested: 9, current };
            assert_eq!(partition.check_leader_epoch(Some(9)), Err(unknown));
        }
    }

    #[test]
    fn a_fetch_of_a_stranger_is_told_to_retry() {
        let mut partition = Partition::new(1, ReplicaConfig::default());
        partition.apply(&registration(1, 3, 0), &LOG, 0);
        for (epoch, epoch_matched) in [(Some(3), true), (None, false)] {
            let fetch = FollowerFetch { current_leader_epoch: epoch, ..FollowerFetch::new(9, 0) };
            let unknown = ReplicaError::UnknownReplica { broker: 9, epoch_matched };
            assert_eq!(partition.check_fetch(&fetch, &LOG, None), Err(unknown));
        }
        partition.apply(&registration(2, 4, 1), &LOG, 0);
        let fetch = FollowerFetch::new(2, 0);
        assert_eq!(partition.check_fetch(&fetch, &LOG, None), Err(ReplicaError::NotLeaderOrFollower));
    }
}
