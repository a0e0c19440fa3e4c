//! Leader epochs as a log keeps them, and offsets that its writer moves.
#![allow(clippy::unwrap_used)]

use duramen::{AppendAsLeader, KafkaErrorCode, LogConfig, LogError};
use duramen_tests::fixture::{Fixture, NOW_MS, batch, batch_at, file, files, placed, remove_file, write_file};

fn log() -> Fixture {
    Fixture::new(LogConfig::default())
}

// M 72
#[test]
fn leader_stamps_its_epoch_and_a_new_one_begins_at_its_first_batch() {
    let mut log = log();
    for epoch in [72, 72, 73, 80] {
        log.append_with(&batch(2), AppendAsLeader::new(epoch, NOW_MS)).unwrap();
    }
    let stamped: Vec<_> = log.batches().iter().map(|batch| batch.leader_epoch()).collect();
    assert_eq!(stamped, [Some(72), Some(72), Some(73), Some(80)]);
    assert_eq!(log.epochs(), [(72, 0), (73, 4), (80, 6)]);
    assert_eq!(log.reader().latest_epoch(), Some(80));
    let mut follower = self::log();
    follower.append_as_follower(&log.content(), 80, NOW_MS).unwrap();
    assert_eq!(follower.epochs(), log.epochs());
}

// M 73: the formats before magic 2 had no epochs; nothing of them is stored here.
#[test]
fn batch_of_an_old_format_is_refused_and_the_epochs_stay() {
    let mut log = log();
    log.append_with(&batch(1), AppendAsLeader::new(5, NOW_MS)).unwrap();
    for magic in [0, 1] {
        let mut bytes = placed(batch(1).build().unwrap(), 1, 5);
        bytes[duramen::format::batch::MAGIC_AT] = magic;
        let refused = log.append_as_follower(&bytes, 5, NOW_MS).unwrap_err();
        assert_eq!(refused.kafka_error_code(), KafkaErrorCode::UnsupportedForMessageFormat, "{refused}");
    }
    assert_eq!((log.epochs(), log.offsets().log_end), (vec![(5, 0)], 1));
}

// M 76, 118
#[test]
fn age_of_the_oldest_dirty_segment_is_that_of_its_first_batch() {
    let mut config = LogConfig { max_compaction_lag_ms: 1000, ..LogConfig::default() };
    config.cleanup_policy.compact = true;
    let mut log = Fixture::new(config);
    let keyed = |time| duramen::format::builder::BatchBuilder::new().record(time, Some(b"k"), Some(b"v"));
    assert_eq!(log.log_to_clean(None, NOW_MS).unwrap().compaction_delay_ms, 0, "an empty segment has no age");
    for time in [NOW_MS - 5000, NOW_MS - 9000] {
        log.append(&keyed(time)).unwrap();
    }
    log.roll(NOW_MS).unwrap();
    log.append(&keyed(NOW_MS - 3000)).unwrap();
    log.roll(NOW_MS).unwrap();
    log.replicate();
    let before = (log.disk.files(), log.offsets());
    for (checkpoint, delay_ms) in [(None, 4000), (Some(2), 2000), (Some(3), 0)] {
        assert_eq!(log.log_to_clean(checkpoint, NOW_MS).unwrap().compaction_delay_ms, delay_ms, "{checkpoint:?}");
    }
    assert_eq!((log.disk.files(), log.offsets()), before);
}

// M 77
#[test]
fn high_watermark_tells_of_a_move_only_when_it_rose() {
    let mut log = log();
    log.fill(5, 1);
    assert_eq!(log.maybe_increment_high_watermark(3).unwrap(), Some(0));
    assert_eq!(log.maybe_increment_high_watermark(3).unwrap(), None);
    assert_eq!(log.maybe_increment_high_watermark(2).unwrap(), None);
    assert_eq!(log.offsets().high_watermark, 3);
    assert_eq!(log.maybe_increment_high_watermark(5).unwrap(), Some(3));
    assert!(matches!(log.maybe_increment_high_watermark(6), Err(LogError::InvalidArgument { value: 6, .. })));
}

// M 103
#[test]
fn epochs_beyond_the_recovered_end_go_and_missing_ones_come_from_the_batches() {
    let mut log = log();
    for epoch in 1..4 {
        log.append_with(&batch(1), AppendAsLeader::new(epoch, NOW_MS)).unwrap();
    }
    let (disk, options) = log.abandon();
    for (text, found) in [
        ("0\n4\n1 0\n2 1\n3 2\n4 3\n", vec![(1, 0), (2, 1), (3, 2)]),
        ("0\n5\n1 0\n2 1\n3 2\n4 3\n9 40\n", vec![(1, 0), (2, 1), (3, 2)]),
        ("0\n1\n1 0\n", vec![(1, 0), (2, 1), (3, 2)]),
        ("0\n2\n1 0\n2 1\n", vec![(1, 0), (2, 1), (3, 2)]),
    ] {
        let disk = disk.deep_clone();
        write_file(&disk, "leader-epoch-checkpoint", text.as_bytes());
        let log = Fixture::open(disk, options.clone()).unwrap();
        assert_eq!(log.epochs(), found, "{text}");
        assert_eq!(file(&log.disk, "leader-epoch-checkpoint").unwrap(), b"0\n3\n1 0\n2 1\n3 2\n");
    }
}

// M 115
#[test]
fn recovery_reads_the_epochs_in_the_batches() {
    let mut log = log();
    log.truncate_fully_and_start_at(104, None, NOW_MS).unwrap();
    for (base, epoch) in [(104, 0), (106, 1), (108, 1), (110, 2)] {
        let bytes = placed(batch_at(&[NOW_MS, NOW_MS]).build().unwrap(), base, epoch);
        log.append_as_follower(&bytes, 2, NOW_MS).unwrap();
    }
    let (disk, options) = log.abandon();
    remove_file(&disk, "leader-epoch-checkpoint");
    assert!(!files(&disk).contains(&"leader-epoch-checkpoint".to_owned()));
    let log = Fixture::open(disk, options).unwrap();
    assert_eq!(log.epochs(), [(0, 104), (1, 106), (2, 110)]);
    assert!(log.report.epochs_rebuilt);
}

// M 159, 168
#[test]
fn end_of_an_epoch_is_where_the_next_begins_and_of_the_latest_the_log_end() {
    let mut log = log();
    assert_eq!(log.reader().end_offset_for_epoch(0), None);
    log.assign_epoch_start_offset(0, 0).unwrap();
    log.assign_epoch_start_offset(1, 0).unwrap();
    assert_eq!(log.epochs(), [(1, 0)]);
    for _ in 0..5 {
        log.append_with(&batch(1), AppendAsLeader::new(1, NOW_MS)).unwrap();
    }
    assert_eq!(log.reader().end_offset_for_epoch(0), Some((0, 0)));
    assert_eq!(log.reader().end_offset_for_epoch(1), Some((1, 5)));
    assert_eq!(log.reader().end_offset_for_epoch(2), None);
    assert_eq!(log.reader().end_offset_for_epoch(-1), None);
    log.assign_epoch_start_offset(2, 5).unwrap();
    for _ in 0..5 {
        log.append_with(&batch(1), AppendAsLeader::new(2, NOW_MS)).unwrap();
    }
    assert_eq!(log.reader().end_offset_for_epoch(2), Some((2, 10)));
    assert_eq!(log.reader().end_offset_for_epoch(1), Some((1, 5)));
    assert_eq!(log.reopen().epochs(), [(1, 0), (2, 5)]);
}
