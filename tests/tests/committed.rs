//! Where only what is flushed is committed: what consumers see, and when they hear of it.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, Background, DirectoryOptions, Durability, Fetch, HighWatermarkPolicy, Isolation, LogConfig,
    LogManager, LongPoll, ManagerOptions, Partition, Position, TimestampQuery, TopicPartition, ValidationPolicy,
    format::builder::BatchBuilder, storage::Storage, validate,
};
use duramen_tests::{
    disk::{Crash, SimDisk},
    fixture::{NOW_MS, in_txn, marker},
};
use std::{sync::Arc, time::Instant};

fn options() -> ManagerOptions {
    ManagerOptions {
        background: Background::Host,
        high_watermark: HighWatermarkPolicy::Flushed,
        journal_bytes: 1 << 20,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
        ..ManagerOptions::default()
    }
}

fn open(disk: &SimDisk) -> (LogManager, Arc<Partition>) {
    let manager = LogManager::open_on(vec![Arc::new(disk.clone()) as Arc<dyn Storage>], options()).unwrap();
    manager.prepare().unwrap();
    let partition = manager.get_or_create(&TopicPartition::new("orders", 0).unwrap(), &LogConfig::default()).unwrap();
    (manager, partition)
}

fn append(partition: &Partition, bytes: Vec<u8>, durability: Durability) -> duramen::Append {
    let batch = validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap();
    partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), durability).unwrap()
}

fn one() -> Vec<u8> {
    BatchBuilder::new().record(NOW_MS, None, Some(b"one")).build().unwrap()
}

fn found(partition: &Partition, isolation: Isolation) -> bool {
    !partition.read(Fetch { isolation, ..Fetch::from(0) }).unwrap().is_empty()
}

fn settle(manager: &LogManager) {
    assert!((0..1000).take_while(|_| manager.poll()).count() < 1000, "it spins");
}

#[test]
fn consumer_sees_what_is_flushed_and_a_follower_what_is_written() {
    let (manager, partition) = open(&SimDisk::new(0));
    let appended = append(&partition, one(), Durability::Flushed);
    assert_eq!((partition.offsets().log_end, partition.offsets().high_watermark), (1, 0));
    assert!(found(&partition, Isolation::LogEnd));
    assert!(!found(&partition, Isolation::HighWatermark) && !found(&partition, Isolation::ReadCommitted));
    let latest = |isolation| partition.reader().offset_for_timestamp(TimestampQuery::Latest, isolation).unwrap();
    assert_eq!(latest(Isolation::HighWatermark).unwrap().offset, 0);
    settle(&manager);
    appended.wait(None).unwrap();
    assert_eq!((partition.offsets().high_watermark, partition.offsets().last_stable), (1, 1));
    assert!(found(&partition, Isolation::HighWatermark) && found(&partition, Isolation::ReadCommitted));
    assert_eq!(latest(Isolation::HighWatermark).unwrap().offset, 1);
}

#[test]
fn long_poll_and_tickets_end_when_it_is_flushed() {
    let (manager, partition) = open(&SimDisk::new(0));
    let mut poll = LongPoll::new(1);
    assert!(partition.read_or_watch(Fetch::from(0), &mut poll).unwrap().is_empty());
    let [committed, stable] =
        [Position::HighWatermark, Position::LastStable].map(|position| partition.wait_for(position, 1));
    let _append = append(&partition, one(), Durability::Flushed);
    assert!(poll.wait(Some(Instant::now())).is_err(), "it is not flushed yet");
    assert!(!committed.is_done() && !stable.is_done());
    settle(&manager);
    assert_eq!(poll.wait(Some(Instant::now())), Ok(()));
    assert!(committed.is_done() && stable.is_done());
}

#[test]
fn what_is_written_is_seen_once_something_flushes_it() {
    let (manager, partition) = open(&SimDisk::new(0));
    append(&partition, one(), Durability::Written).wait(None).unwrap();
    settle(&manager);
    assert!(!found(&partition, Isolation::HighWatermark));
    let flushed = partition.flush().unwrap();
    settle(&manager);
    flushed.wait(None).unwrap();
    assert!(found(&partition, Isolation::HighWatermark));
}

#[test]
fn open_transaction_holds_the_last_stable_offset_back() {
    let (manager, partition) = open(&SimDisk::new(0));
    let _in_txn = append(&partition, in_txn(7, 0, 0, 2).build().unwrap(), Durability::Flushed);
    settle(&manager);
    assert_eq!((partition.offsets().high_watermark, partition.offsets().last_stable), (2, 0));
    let committed = partition.wait_for(Position::LastStable, 3);
    let policy = ValidationPolicy::from_config(&LogConfig::default()).with_origin(duramen::AppendOrigin::Coordinator);
    let batch = validate(marker(7, 0, true, 0), &policy, NOW_MS).unwrap();
    let _end = partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Flushed).unwrap();
    assert!(!committed.is_done(), "the marker is not flushed");
    settle(&manager);
    assert!(committed.is_done());
}

#[test]
fn cut_below_what_was_committed_is_told_and_what_follows_is_seen_when_it_is_flushed() {
    let (manager, partition) = open(&SimDisk::new(0));
    for _ in 0..3 {
        let _append = append(&partition, one(), Durability::Flushed);
    }
    settle(&manager);
    let beyond = partition.wait_for(Position::HighWatermark, 4);
    assert!(partition.with(|log| log.truncate_to(1, NOW_MS)).unwrap().unwrap());
    assert!(beyond.wait(Some(Instant::now())).is_err());
    assert_eq!(partition.offsets().high_watermark, 1);
    let _append = append(&partition, one(), Durability::Flushed);
    assert_eq!(partition.offsets().high_watermark, 1);
    settle(&manager);
    assert_eq!(partition.offsets().high_watermark, 2);
}

#[test]
fn what_a_recovery_finds_becomes_durable_and_is_seen() {
    let disk = SimDisk::new(0);
    let (manager, partition) = open(&disk);
    append(&partition, one(), Durability::Written).wait(None).unwrap();
    drop((manager, partition));
    let (manager, partition) = open(&disk.crash_image(Crash::ProcessOnly));
    assert_eq!(partition.offsets().log_end, 1);
    settle(&manager);
    assert_eq!((partition.flushed(), partition.offsets().high_watermark), (1, 1));
}
