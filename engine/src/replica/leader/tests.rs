//! What a leader decides, case by case.
#![allow(clippy::unwrap_used)] // a case that is not as built is a failed test

use super::*;
use crate::replica::{BrokerRegistration, FetchVerdict, Partition, Transition};

const LAG_MS: Timestamp = 100;

/// A partition on brokers 1 to 3 that broker 1 leads, with its log and the brokers.
struct Leader {
    partition: Partition,
    log: LocalOffsets,
    brokers: Brokers,
    now_ms: Timestamp,
}

impl Leader {
    fn new(isr: &[BrokerId], log: (Offset, Offset), min_insync_replicas: u32) -> Self {
        let config = ReplicaConfig { replica_lag_time_max_ms: LAG_MS, min_insync_replicas };
        let (high_watermark, log_end) = log;
        let mut leader = Self {
            partition: Partition::new(1, config),
            log: LocalOffsets { log_start: 0, high_watermark, log_end },
            brokers: (1..=3).map(|broker| (broker, BrokerRegistration::alive(10))).collect(),
            now_ms: 1000,
        };
        leader.register(isr, 5, 20);
        leader
    }

    fn register(&mut self, isr: &[BrokerId], leader_epoch: LeaderEpoch, partition_epoch: PartitionEpoch) -> Transition {
        let isr = isr.iter().copied().collect();
        let registration =
            PartitionRegistration { leader_epoch, partition_epoch, isr, ..PartitionRegistration::new(vec![1, 2, 3]) };
        self.partition.apply(&registration, &self.log, self.now_ms)
    }

    fn state(&self) -> &LeaderState {
        self.partition.leader().unwrap()
    }

    /// A follower fetches; the request for the controller, if one came of it.
    fn fetch(&mut self, replica: BrokerId, offset: Offset) -> Option<AlterPartition> {
        self.fetch_with(FollowerFetch { broker_epoch: Some(10), ..FollowerFetch::new(replica, offset) }).unwrap()
    }

    fn fetch_with(&mut self, fetch: FollowerFetch) -> Result<Option<AlterPartition>, ReplicaError> {
        let FetchVerdict::Read(admitted) = self.partition.check_fetch(&fetch, &self.log, None)? else {
            panic!("{fetch:?} diverges");
        };
        let leader = self.partition.leader_mut()?;
        let effects = leader.on_follower_fetch(&admitted, &self.log, &self.brokers, self.now_ms)?;
        self.log.high_watermark = effects.high_watermark.unwrap_or(self.log.high_watermark);
        Ok(effects.alter_partition)
    }

    fn append(&mut self, records: Offset) {
        self.log.log_end += records;
        self.move_high_watermark();
    }

    fn move_high_watermark(&mut self) {
        let moved = self.state().maybe_increment_high_watermark(&self.log, &self.brokers, self.now_ms);
        self.log.high_watermark = moved.unwrap_or(self.log.high_watermark);
    }

    fn shrink(&mut self) -> Option<AlterPartition> {
        let leader = self.partition.leader_mut().unwrap();
        leader.maybe_shrink_isr(&self.log, &self.brokers, self.now_ms)
    }

    fn answer(&mut self, sent: &AlterPartition, error: Option<KafkaErrorCode>) -> AfterAlterPartition {
        let altered = PartitionAltered {
            leader_epoch: sent.leader_epoch,
            partition_epoch: sent.partition_epoch + 1,
            isr: sent.isr.keys().copied().collect(),
        };
        self.partition.leader_mut().unwrap().on_alter_partition(sent, error.map_or(Ok(altered), Err))
    }
}

fn members(change: Option<AlterPartition>) -> Option<Vec<BrokerId>> {
    change.map(|change| change.isr.into_keys().collect())
}

// M 238
#[test]
fn a_follower_below_the_epoch_start_does_not_join_though_above_the_high_watermark() {
    let mut leader = Leader::new(&[1], (4, 7), 1);
    for (offset, joined) in [(3, None), (5, None), (6, None), (7, Some(vec![1, 3]))] {
        assert_eq!(members(leader.fetch(3, offset)), joined, "at {offset}");
    }
}

// M 238
#[test]
fn a_follower_below_the_high_watermark_does_not_join() {
    let mut leader = Leader::new(&[1], (7, 7), 1);
    leader.append(3);
    assert_eq!(leader.log.high_watermark, 10);
    assert_eq!(members(leader.fetch(3, 9)), None);
    assert_eq!(members(leader.fetch(3, 10)), Some(vec![1, 3]));
}

#[test]
fn only_the_eligible_join() {
    let alive = BrokerRegistration::alive(10);
    let fetch = FollowerFetch::new(3, 7);
    for (registration, broker_epoch, joins) in [
        (Some(alive), Some(10), true),
        (Some(alive), None, true),
        (Some(BrokerRegistration { epoch: 9, ..alive }), Some(10), false),
        (Some(BrokerRegistration { fenced: true, ..alive }), Some(10), false),
        (Some(BrokerRegistration { in_controlled_shutdown: true, ..alive }), Some(10), false),
        (None, Some(10), false),
    ] {
        let mut leader = Leader::new(&[1], (7, 7), 1);
        leader.brokers.remove(3);
        registration.into_iter().for_each(|registration| leader.brokers.insert(3, registration));
        let change = leader.fetch_with(FollowerFetch { broker_epoch, ..fetch });
        assert_eq!(change.map(|change| change.is_some()), Ok(joins), "{registration:?} {broker_epoch:?}");
    }
}

#[test]
fn a_fetch_of_an_earlier_incarnation_changes_nothing() {
    let mut leader = Leader::new(&[1, 2, 3], (0, 7), 1);
    let before = leader.state().clone();
    let fetch = FollowerFetch { broker_epoch: Some(9), ..FollowerFetch::new(3, 7) };
    assert_eq!(leader.fetch_with(fetch), Err(ReplicaError::StaleBrokerEpoch { broker: 3 }));
    assert_eq!(leader.state(), &before);
}

// M 239
#[test]
fn the_high_watermark_is_the_smallest_log_end_of_the_in_sync() {
    let mut leader = Leader::new(&[1, 2, 3], (0, 10), 1);
    leader.fetch(2, 8);
    assert_eq!(leader.log.high_watermark, 0, "replica 3 has not fetched yet");
    leader.fetch(3, 6);
    assert_eq!(leader.log.high_watermark, 6);
    leader.fetch(3, 10);
    assert_eq!(leader.log.high_watermark, 8);
    leader.fetch(2, 3);
    assert_eq!(leader.log.high_watermark, 8, "it never moves down");
}

// M 239
#[test]
fn the_high_watermark_waits_for_who_is_about_to_join_if_it_may() {
    for (registration, now_ms, high_watermark) in [
        (BrokerRegistration::alive(10), 1050, 10),
        (BrokerRegistration { fenced: true, ..BrokerRegistration::alive(10) }, 1050, 15),
        (BrokerRegistration::alive(10), 1000 + LAG_MS + 1, 15),
    ] {
        let mut leader = Leader::new(&[1, 2], (10, 10), 1);
        // Replica 3 is caught up, but the expansion for it is not yet asked for: another change is pending.
        leader.now_ms += LAG_MS + 1;
        leader.log.log_end += 1;
        leader.fetch(3, 10);
        leader.log.log_end -= 1;
        leader.now_ms = 1000;
        leader.fetch(3, 10);
        leader.register(&[1, 2], 5, 21);
        leader.brokers.insert(3, registration);
        leader.log.log_end = 15;
        leader.now_ms = now_ms;
        leader.fetch(2, 15);
        assert_eq!(leader.log.high_watermark, high_watermark, "{registration:?} at {now_ms}");
    }
}

// M 239
#[test]
fn the_high_watermark_does_not_move_under_min_isr() {
    for (isr, min_insync_replicas, high_watermark) in
        [(&[1][..], 1, 9), (&[1], 2, 5), (&[1, 2], 2, 8), (&[1, 2], 3, 5), (&[1, 2, 3], 9, 7)]
    {
        let mut leader = Leader::new(isr, (5, 9), min_insync_replicas);
        let acks = leader.state().check_acks(RequiredAcks::All);
        assert_eq!(acks.is_err(), isr.len() < min_insync_replicas.min(3) as usize);
        assert_eq!(leader.state().check_acks(RequiredAcks::Leader), Ok(()));
        leader.move_high_watermark();
        if isr.contains(&2) {
            leader.fetch(2, 8);
        }
        if isr.contains(&3) {
            leader.fetch(3, 7);
        }
        assert_eq!(leader.log.high_watermark, high_watermark, "{isr:?} {min_insync_replicas}");
    }
}

// M 240
#[test]
fn an_expansion_counts_before_the_answer_and_one_is_in_flight() {
    let mut leader = Leader::new(&[1], (7, 7), 1);
    let change = leader.fetch(3, 7).unwrap();
    assert_eq!(change.isr, [(1, Some(10)), (3, Some(10))].into());
    assert_eq!(leader.fetch(2, 7), None, "one change at a time");
    assert_eq!(leader.shrink(), None);
    leader.now_ms += LAG_MS + 1;
    leader.append(2);
    assert_eq!(leader.log.high_watermark, 7, "replica 3 counts already");
    assert_eq!(leader.answer(&change, Some(KafkaErrorCode::IneligibleReplica)), AfterAlterPartition::Reverted);
    leader.move_high_watermark();
    assert_eq!(leader.log.high_watermark, 9);
    assert_eq!(leader.answer(&change, None), AfterAlterPartition::Ignored, "that change is over");
}

// M 240
#[test]
fn a_shrink_counts_only_when_it_is_confirmed() {
    let mut leader = Leader::new(&[1, 2, 3], (7, 7), 1);
    leader.fetch(2, 7);
    leader.append(2);
    leader.fetch(2, 9);
    leader.now_ms += LAG_MS + 1;
    leader.fetch(2, 9);
    let change = leader.shrink().unwrap();
    assert_eq!(members(Some(change.clone())), Some(vec![1, 2]));
    leader.move_high_watermark();
    assert_eq!(leader.log.high_watermark, 7);
    assert_eq!(leader.state().out_of_sync_replicas(), [].into());
    assert_eq!(leader.answer(&change, Some(KafkaErrorCode::RequestTimedOut)), AfterAlterPartition::Retry);
    assert_eq!(leader.answer(&change, None), AfterAlterPartition::Committed);
    leader.move_high_watermark();
    assert_eq!((leader.log.high_watermark, leader.state().partition_epoch()), (9, 21));
    assert_eq!(leader.state().out_of_sync_replicas(), [3].into());
}

// M 240
#[test]
fn after_a_final_error_only_newer_metadata_ends_the_wait() {
    let mut leader = Leader::new(&[1], (7, 7), 1);
    let change = leader.fetch(3, 7).unwrap();
    let wait = AfterAlterPartition::AwaitMetadata;
    assert_eq!(leader.answer(&change, Some(KafkaErrorCode::InvalidUpdateVersion)), wait);
    assert_eq!(leader.fetch(2, 7), None);
    leader.register(&[1], 5, 21);
    assert_eq!(members(leader.fetch(2, 7)), Some(vec![1, 2]));
    assert_eq!(leader.answer(&change, None), AfterAlterPartition::Ignored);
}

#[test]
fn a_registration_that_is_known_already_does_not_end_a_pending_expansion() {
    let mut leader = Leader::new(&[1], (7, 7), 1);
    let change = leader.fetch(2, 7).unwrap();
    assert_eq!(leader.answer(&change, None), AfterAlterPartition::Committed);
    let change = leader.fetch(3, 7).unwrap();
    leader.register(&[1, 2], 5, 21);
    assert_eq!(leader.state().in_sync_replicas().maximal(), [1, 2, 3].into());
    assert_eq!(leader.answer(&change, None), AfterAlterPartition::Committed);
}

// M 241
#[test]
fn who_keeps_up_stays_in_sync_and_who_does_not_leaves() {
    // Fetches as (ms after the start, offset, leader's log end then); whether it stays, 50 ms after the last.
    for (fetches, stays) in [
        (&[(0, 10, 10)][..], true),
        (&[(0, 9, 10)], false),
        (&[(0, 5, 10), (60, 10, 20)], false),
        (&[(0, 5, 10), (50, 10, 20), (100, 20, 30)], true),
        (&[(0, 5, 10), (50, 9, 20), (100, 19, 30)], false),
    ] {
        let mut leader = Leader::new(&[1, 2], (0, 10), 1);
        for (after_ms, offset, log_end) in fetches {
            leader.now_ms = 2000 + after_ms;
            leader.log.log_end = *log_end;
            leader.fetch(2, *offset);
        }
        leader.now_ms += 50;
        assert_eq!(members(leader.shrink()), if stays { None } else { Some(vec![1]) }, "{fetches:?}");
    }
}

#[test]
fn a_new_leader_gives_the_in_sync_time_to_fetch() {
    let mut leader = Leader::new(&[1, 2, 3], (0, 10), 1);
    leader.now_ms += LAG_MS;
    assert_eq!(members(leader.shrink()), None);
    leader.now_ms += 1;
    assert_eq!(members(leader.shrink()), Some(vec![1]));
}

// M 237
#[test]
fn the_same_leader_epoch_keeps_what_is_known_of_followers() {
    let mut leader = Leader::new(&[1, 2], (0, 10), 1);
    leader.fetch(2, 8);
    let known = |leader: &Leader| leader.state().followers().map(|(_, state)| state.log_end()).collect::<Vec<_>>();
    leader.append(5);
    assert_eq!(leader.register(&[1, 2], 5, 22), Transition::Leader { epoch_starts_at: None });
    assert_eq!(known(&leader), [Some(8), None]);
    assert_eq!(leader.state().leader_epoch_start_offset(), 10);
    assert_eq!(leader.register(&[1, 2], 6, 23), Transition::Leader { epoch_starts_at: Some(15) });
    assert_eq!(known(&leader), [Some(8), None], "re-elected without a break");
    assert_eq!((leader.state().leads_since(), leader.state().leader_epoch_start_offset()), (5, 15));
}

// M 242
#[test]
fn the_latest_offset_is_not_told_before_the_high_watermark_passed_the_epoch_start() {
    let mut leader = Leader::new(&[1, 2], (4, 7), 1);
    let unavailable = ReplicaError::OffsetNotAvailable { epoch_start: 7 };
    assert_eq!(leader.state().check_latest_offset(leader.log.high_watermark), Err(unavailable));
    leader.fetch(2, 7);
    assert_eq!(leader.state().check_latest_offset(leader.log.high_watermark), Ok(()));
}

#[test]
fn the_low_watermark_is_the_smallest_log_start_of_the_live() {
    let mut leader = Leader::new(&[1, 2], (10, 10), 1);
    leader.log.log_start = 6;
    let low = |leader: &Leader| leader.state().low_watermark(&leader.log, &leader.brokers);
    leader.fetch_with(FollowerFetch { log_start: 4, ..FollowerFetch::new(2, 10) }).unwrap();
    assert_eq!(low(&leader), None, "replica 3 has not fetched");
    leader.brokers.insert(3, BrokerRegistration { fenced: true, ..BrokerRegistration::alive(10) });
    assert_eq!(low(&leader), Some(4));
    leader.fetch_with(FollowerFetch { log_start: 6, ..FollowerFetch::new(2, 10) }).unwrap();
    assert_eq!(low(&leader), Some(6));
}
