//! What a leader keeps of its followers, and what follows from it: who is in sync, what is committed.
//!
//! Keeps: AR = ISR + OSR; the high watermark it proposes is at or below the log end of every member of the maximal ISR
//! and above the old one; one change of the ISR at a time.

use super::{
    AdmittedFetch, AfterAlterPartition, AlterPartition, BrokerEpoch, BrokerId, Brokers, FollowerFetch, InSyncReplicas,
    LocalOffsets, PartitionAltered, PartitionEpoch, PartitionRegistration, ReplicaConfig, ReplicaError, ReplicaState,
    RequiredAcks, fetch::check_epoch,
};
use crate::{
    error::KafkaErrorCode,
    types::{LeaderEpoch, Offset, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// A partition's leader (`kafka.cluster.Partition` while it leads). Made and kept by [`super::Partition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderState {
    broker: BrokerId,
    config: ReplicaConfig,
    leads_since: LeaderEpoch,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    leader_epoch_start_offset: Offset,
    followers: BTreeMap<BrokerId, ReplicaState>,
    in_sync: InSyncReplicas,
}

/// What a follower's fetch brought about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchEffects {
    /// The log's new high watermark, if it moves.
    pub high_watermark: Option<Offset>,
    /// A request to send to the controller: the follower is in sync.
    pub alter_partition: Option<AlterPartition>,
}

impl LeaderState {
    pub(super) fn new(
        broker: BrokerId,
        config: ReplicaConfig,
        registration: &PartitionRegistration,
        log_end: Offset,
        now_ms: Timestamp,
    ) -> Self {
        let followers = registration.replicas.iter().filter(|replica| **replica != broker);
        let followers = followers
            .map(|replica| (*replica, ReplicaState::new(registration.isr.contains(replica), now_ms)))
            .collect();
        Self {
            broker,
            config,
            leads_since: registration.leader_epoch,
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            leader_epoch_start_offset: log_end,
            followers,
            in_sync: InSyncReplicas::new(registration.isr.clone()),
        }
    }

    /// Takes a newer registration under which this replica still leads. What is known of the followers stays, but they
    /// must show in a new leader epoch that they keep up.
    ///
    /// The registration that it knows already, from the controller's answer, says nothing of a change that was asked for
    /// since: that one stays pending. Kafka drops it, and its high watermark may then pass a member that the controller
    /// has let in.
    pub(super) fn apply(&mut self, registration: &PartitionRegistration, log: &LocalOffsets, now_ms: Timestamp) {
        if registration.partition_epoch == self.partition_epoch {
            return;
        }
        self.followers.retain(|follower, _| registration.replicas.contains(follower));
        for replica in registration.replicas.iter().filter(|replica| **replica != self.broker) {
            self.followers.entry(*replica).or_default();
        }
        self.in_sync = InSyncReplicas::new(registration.isr.clone());
        self.partition_epoch = registration.partition_epoch;
        if registration.leader_epoch > self.leader_epoch {
            for (follower, state) in &mut self.followers {
                *state = state.re_elected(registration.isr.contains(follower), now_ms, log.log_end);
            }
            self.leader_epoch = registration.leader_epoch;
            self.leader_epoch_start_offset = log.log_end;
        }
    }

    pub(super) fn set_config(&mut self, config: ReplicaConfig) {
        self.config = config;
    }

    /// Its epoch.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The epoch since which it leads without a break, inclusive.
    #[must_use]
    pub fn leads_since(&self) -> LeaderEpoch {
        self.leads_since
    }

    /// The registration it goes by.
    #[must_use]
    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// Where its epoch began: its log end at the election.
    #[must_use]
    pub fn leader_epoch_start_offset(&self) -> Offset {
        self.leader_epoch_start_offset
    }

    /// The in-sync replicas, this one among them.
    #[must_use]
    pub fn in_sync_replicas(&self) -> &InSyncReplicas {
        &self.in_sync
    }

    /// The assigned replicas that are not in the committed ISR.
    #[must_use]
    pub fn out_of_sync_replicas(&self) -> BTreeSet<BrokerId> {
        self.followers.keys().copied().filter(|follower| !self.in_sync.committed().contains(follower)).collect()
    }

    /// What it knows of its followers.
    pub fn followers(&self) -> impl Iterator<Item = (BrokerId, &ReplicaState)> {
        self.followers.iter().map(|(broker, state)| (*broker, state))
    }

    /// The in-sync replicas that acks=all needs: `min.insync.replicas`, but no more than there are replicas
    /// (`Partition.effectiveMinIsr`).
    #[must_use]
    pub fn effective_min_isr(&self) -> usize {
        let wanted = usize::try_from(self.config.min_insync_replicas).unwrap_or(usize::MAX);
        wanted.min(self.followers.len().saturating_add(1))
    }

    fn is_under_min_isr(&self) -> bool {
        self.in_sync.committed().len() < self.effective_min_isr()
    }

    /// Whether an append with these acks may be tried (`Partition.appendRecordsToLeader`).
    ///
    /// # Errors
    /// [`ReplicaError::NotEnoughReplicas`] for acks=all when the committed ISR is too small.
    pub fn check_acks(&self, acks: RequiredAcks) -> Result<(), ReplicaError> {
        if acks == RequiredAcks::All && self.is_under_min_isr() {
            let (in_sync, needed) = (self.in_sync.committed().len(), self.effective_min_isr());
            return Err(ReplicaError::NotEnoughReplicas { in_sync, needed });
        }
        Ok(())
    }

    /// Whether the latest offset can be told to a consumer that sees up to `visible_end` (exclusive): until the high
    /// watermark has passed the start of this leader's epoch, its predecessor may have shown more
    /// (`Partition.fetchOffsetForTimestamp`).
    ///
    /// # Errors
    /// [`ReplicaError::OffsetNotAvailable`] while it may have.
    pub fn check_latest_offset(&self, visible_end: Offset) -> Result<(), ReplicaError> {
        let epoch_start = self.leader_epoch_start_offset;
        if epoch_start > visible_end { Err(ReplicaError::OffsetNotAvailable { epoch_start }) } else { Ok(()) }
    }

    pub(super) fn check_follower(&self, fetch: &FollowerFetch) -> Result<(), ReplicaError> {
        if self.followers.contains_key(&fetch.replica) {
            return Ok(());
        }
        let epoch_matched = fetch.current_leader_epoch.is_some();
        Err(ReplicaError::UnknownReplica { broker: fetch.replica, epoch_matched })
    }

    /// Takes note of a fetch that was read for (`Partition.updateFollowerFetchState`): the follower has everything below
    /// its fetch offset. `log` is as it is now. The host sets the high watermark and sends the request.
    ///
    /// # Errors
    /// [`ReplicaError::StaleBrokerEpoch`] for a fetch of an earlier incarnation of the follower; and, if the leadership
    /// changed since [`super::Partition::check_fetch`], as that.
    pub fn on_follower_fetch(
        &mut self,
        admitted: &AdmittedFetch,
        log: &LocalOffsets,
        brokers: &Brokers,
        now_ms: Timestamp,
    ) -> Result<FetchEffects, ReplicaError> {
        let AdmittedFetch { fetch, leader_log_end } = admitted;
        check_epoch(fetch.current_leader_epoch, self.leader_epoch)?;
        self.check_follower(fetch)?;
        let broker = fetch.replica;
        if let (Some(fetched_with), Some(registered)) = (fetch.broker_epoch, brokers.alive_epoch(broker))
            && fetched_with < registered
        {
            return Err(ReplicaError::StaleBrokerEpoch { broker });
        }
        self.followers.entry(broker).or_default().on_fetch(fetch, *leader_log_end, now_ms);
        let alter_partition = self.maybe_expand_isr(broker, log, brokers);
        let high_watermark = self.maybe_increment_high_watermark(log, brokers, now_ms);
        Ok(FetchEffects { high_watermark, alter_partition })
    }

    fn is_isr_eligible(&self, broker: BrokerId, state: &ReplicaState, brokers: &Brokers) -> bool {
        state.broker_epoch().is_some_and(|fetched_with| brokers.is_isr_eligible(broker, fetched_with))
    }

    /// A follower joins at the high watermark, and not below the start of this leader's epoch: between the two lies what
    /// the leader before may have committed, and a member of the ISR must have it
    /// (`Partition.maybeExpandIsr`).
    fn maybe_expand_isr(&mut self, broker: BrokerId, log: &LocalOffsets, brokers: &Brokers) -> Option<AlterPartition> {
        let state = self.followers.get(&broker)?;
        let joins_at = log.high_watermark.max(self.leader_epoch_start_offset);
        let is_in_sync = state.log_end().is_some_and(|log_end| log_end >= joins_at);
        let is_member = self.in_sync.committed().contains(&broker);
        if self.in_sync.pending().is_some() || is_member || !is_in_sync || !self.is_isr_eligible(broker, state, brokers)
        {
            return None;
        }
        let isr = self.in_sync.committed().iter().copied().chain([broker]).collect();
        Some(self.propose(isr, brokers))
    }

    /// Asks for an ISR without the followers that do not keep up, if there are any and no other change is pending
    /// (`Partition.maybeShrinkIsr`). Call it every half `replica.lag.time.max.ms`.
    pub fn maybe_shrink_isr(
        &mut self,
        log: &LocalOffsets,
        brokers: &Brokers,
        now_ms: Timestamp,
    ) -> Option<AlterPartition> {
        if self.in_sync.pending().is_some() {
            return None;
        }
        let keeps_up = |broker: &BrokerId| {
            *broker == self.broker
                || self
                    .followers
                    .get(broker)
                    .is_some_and(|state| state.is_caught_up(log.log_end, now_ms, self.config.replica_lag_time_max_ms))
        };
        let isr: BTreeSet<_> = self.in_sync.committed().iter().copied().filter(keeps_up).collect();
        (isr.len() < self.in_sync.committed().len()).then(|| self.propose(isr, brokers))
    }

    fn propose(&mut self, isr: BTreeSet<BrokerId>, brokers: &Brokers) -> AlterPartition {
        let with_epoch = |broker: BrokerId| -> (BrokerId, Option<BrokerEpoch>) {
            if broker == self.broker {
                return (broker, brokers.alive_epoch(broker));
            }
            (broker, self.followers.get(&broker).and_then(ReplicaState::broker_epoch).flatten())
        };
        let change = AlterPartition {
            leader: self.broker,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            isr: isr.into_iter().map(with_epoch).collect(),
        };
        self.in_sync.propose(&change);
        change
    }

    /// Takes the controller's answer to a change (`Partition.submitAlterPartition`). After
    /// [`AfterAlterPartition::Committed`] ask [`LeaderState::maybe_increment_high_watermark`]; after
    /// [`AfterAlterPartition::Retry`] send the same change again. At most one copy may be on its way: a refusal of one
    /// copy says nothing of another that the controller has yet to see.
    pub fn on_alter_partition(
        &mut self,
        sent: &AlterPartition,
        answer: Result<PartitionAltered, KafkaErrorCode>,
    ) -> AfterAlterPartition {
        if self.in_sync.pending() != Some(sent) {
            return AfterAlterPartition::Ignored;
        }
        match answer {
            Err(error) => self.in_sync.refuse(error),
            Ok(altered)
                if altered.leader_epoch != self.leader_epoch || altered.partition_epoch < self.partition_epoch =>
            {
                AfterAlterPartition::Ignored
            }
            Ok(altered) => {
                self.partition_epoch = altered.partition_epoch;
                self.in_sync.commit(altered.isr);
                AfterAlterPartition::Committed
            }
        }
    }

    /// The log's new high watermark, if it moves (`Partition.maybeIncrementLeaderHW`); the host sets it by
    /// [`crate::Log::update_high_watermark`]. Ask after each append, and whenever the ISR changed.
    ///
    /// It is the smallest log end of the maximal ISR and of those followers that are about to join: caught up within
    /// the lag, and eligible. Without waiting for the latter a busy leader alone in its ISR would always stay ahead of
    /// them. It does not move below `min.insync.replicas`, and waits for members that have not fetched yet.
    #[must_use]
    pub fn maybe_increment_high_watermark(
        &self,
        log: &LocalOffsets,
        brokers: &Brokers,
        now_ms: Timestamp,
    ) -> Option<Offset> {
        if self.is_under_min_isr() {
            return None;
        }
        let mut high_watermark = log.log_end;
        for (broker, state) in self.followers() {
            let is_joining = || {
                state.is_caught_up(log.log_end, now_ms, self.config.replica_lag_time_max_ms)
                    && self.is_isr_eligible(broker, state, brokers)
            };
            if self.in_sync.maximal_contains(broker) || is_joining() {
                high_watermark = high_watermark.min(state.log_end()?);
            }
        }
        (high_watermark > log.high_watermark).then_some(high_watermark)
    }

    /// The smallest log start of the live replicas: a `DeleteRecords` up to there is done
    /// (`Partition.lowWatermarkIfLeader`). `None` while a live follower has not fetched yet.
    #[must_use]
    pub fn low_watermark(&self, log: &LocalOffsets, brokers: &Brokers) -> Option<Offset> {
        let live = self.followers().filter(|(broker, _)| brokers.is_alive(*broker));
        live.map(|(_, state)| state.log_start()).try_fold(log.log_start, |low, start| Some(low.min(start?)))
    }
}

#[cfg(test)]
mod tests;
