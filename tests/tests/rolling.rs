//! When a segment ends and another begins, and what a roll leaves as it was.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, AppendInfo, Fetch, Isolation, LogConfig, LogOffsetMetadata, OpenOptions,
    format::{
        builder::{BatchBuilder, NewRecord},
        snapshot,
    },
};
use duramen_tests::fixture::{Fixture, NOW_MS, batch, batch_at, file, in_txn, placed, produced};

const HOUR_MS: i64 = 3_600_000;
/// So long before the present that records an hour later lie in the past as well.
const LONG_AGO_MS: i64 = NOW_MS - 100 * HOUR_MS;

fn hourly() -> LogConfig {
    LogConfig { segment_ms: HOUR_MS.cast_unsigned(), ..LogConfig::default() }
}

fn created_long_ago(config: LogConfig) -> Fixture {
    Fixture::with(OpenOptions::new(config, LONG_AGO_MS))
}

fn append(log: &mut Fixture, batch: &BatchBuilder, now_ms: i64) -> AppendInfo {
    log.append_with(batch, AppendAsLeader::new(0, now_ms)).unwrap()
}

fn timeless() -> BatchBuilder {
    BatchBuilder::new().append(NewRecord {
        timestamp: None,
        key: None,
        value: Some(b"v"),
        headers: &[],
        offset_delta: None,
    })
}

// M 15, 16
#[test]
fn segment_with_record_times_rolls_by_them_and_an_empty_one_never() {
    let mut log = created_long_ago(hourly());
    assert!(!append(&mut log, &batch_at(&[LONG_AGO_MS]), NOW_MS).rolled, "the segment was empty");
    assert!(!append(&mut log, &batch_at(&[LONG_AGO_MS + HOUR_MS]), NOW_MS).rolled, "the clock does not count");
    assert!(append(&mut log, &batch_at(&[LONG_AGO_MS + HOUR_MS + 1]), LONG_AGO_MS).rolled);
    assert!(!append(&mut log, &batch_at(&[LONG_AGO_MS]), NOW_MS).rolled, "a record may be older than the first");
    assert_eq!(log.bases(), [0, 2]);
}

// M 16
#[test]
fn segment_whose_first_record_has_no_time_rolls_by_the_clock() {
    let mut log = created_long_ago(LogConfig { message_timestamp_before_max_ms: i64::MAX.cast_unsigned(), ..hourly() });
    append(&mut log, &timeless(), LONG_AGO_MS + 5 * HOUR_MS);
    assert_eq!(log.bases(), [0], "an empty segment does not roll");
    assert!(append(&mut log, &batch_at(&[LONG_AGO_MS]), LONG_AGO_MS + 6 * HOUR_MS).rolled);
    let mut log = created_long_ago(hourly());
    append(&mut log, &timeless(), LONG_AGO_MS);
    assert!(!append(&mut log, &batch_at(&[NOW_MS]), LONG_AGO_MS + HOUR_MS).rolled);
    assert!(append(&mut log, &batch_at(&[NOW_MS]), LONG_AGO_MS + HOUR_MS + 1).rolled);
}

/// Other processes read directories while their owner writes.
#[test]
fn snapshot_is_never_seen_half_written() {
    let mut seen = 0;
    for operation in 0.. {
        let mut log = Fixture::new(LogConfig::default());
        log.append(&produced(1, 0, 0, 3)).unwrap();
        log.disk.crash_at(log.disk.operations() + operation);
        let rolled = log.roll(NOW_MS);
        for name in log.files().iter().filter(|name| name.ends_with(".snapshot")) {
            snapshot::decode(&file(&log.disk, name).unwrap()).unwrap_or_else(|error| panic!("{operation}: {error}"));
            seen += 1;
        }
        if rolled.is_ok() {
            break;
        }
    }
    assert!(seen > 2);
}

// M 17
#[test]
fn empty_set_of_a_leader_never_rolls() {
    let mut log = created_long_ago(hourly());
    append(&mut log, &timeless(), LONG_AGO_MS);
    assert_eq!(log.append_as_follower(&[], 0, NOW_MS).unwrap(), None);
    assert_eq!(log.bases(), [0]);
    assert!(append(&mut log, &timeless(), NOW_MS).rolled, "a set with a record would have rolled");
}

// M 18
#[test]
fn jitter_rolls_earlier_by_less_than_its_maximum() {
    let jitter_ms = 20 * 60_000;
    let config = LogConfig { segment_jitter_ms: u64::try_from(jitter_ms).unwrap(), ..hourly() };
    let mut early = 0;
    for jitter_seed in 0..20 {
        let options = OpenOptions { jitter_seed, ..OpenOptions::new(config.clone(), LONG_AGO_MS) };
        let mut log = Fixture::with(options);
        append(&mut log, &batch_at(&[LONG_AGO_MS]), NOW_MS);
        assert!(!append(&mut log, &batch_at(&[LONG_AGO_MS + HOUR_MS - jitter_ms]), NOW_MS).rolled);
        early += usize::from(append(&mut log, &batch_at(&[LONG_AGO_MS + HOUR_MS - jitter_ms / 2]), NOW_MS).rolled);
        append(&mut log, &batch_at(&[LONG_AGO_MS + HOUR_MS + 1]), NOW_MS);
        assert_eq!(log.bases().len(), 2, "seed {jitter_seed}");
    }
    assert!((1..20).contains(&early), "{early} of 20 rolled in the first half");
}

// M 19
#[test]
fn eleven_sets_in_segments_of_just_under_ten_make_two() {
    let size = u32::try_from(batch(1).build().unwrap().len()).unwrap();
    let mut log = Fixture::new(LogConfig { segment_bytes: 10 * (size - 1), ..LogConfig::default() });
    log.fill(11, 1);
    assert_eq!(log.bases(), [0, 9]);
    assert_eq!(log.reader().size(), u64::from(11 * size));
}

// M 20, 81, 84: only the log end can be rolled to, so a base that is taken or lies below cannot be asked for; and where
// Kafka retires the empty file and makes another, it stays.
#[test]
fn roll_of_an_empty_active_segment_leaves_it_as_new() {
    let mut log = created_long_ago(hourly());
    append(&mut log, &timeless(), LONG_AGO_MS);
    assert_eq!(log.roll(LONG_AGO_MS).unwrap(), 1);
    assert_eq!(log.roll(NOW_MS).unwrap(), 1);
    assert_eq!(log.bases(), [0, 1]);
    append(&mut log, &timeless(), NOW_MS);
    assert!(!append(&mut log, &timeless(), NOW_MS + HOUR_MS).rolled, "its age counts from the second roll");
    assert!(append(&mut log, &timeless(), NOW_MS + HOUR_MS + 1).rolled);
}

// M 109
#[test]
fn segment_emptied_by_a_cut_counts_as_new_and_still_rolls_for_a_far_offset() {
    let mut log = created_long_ago(LogConfig { segment_index_bytes: 24, index_interval_bytes: 0, ..hourly() });
    append(&mut log, &timeless(), LONG_AGO_MS);
    append(&mut log, &timeless(), LONG_AGO_MS);
    append(&mut log, &timeless(), LONG_AGO_MS);
    let mut log = log.reopen();
    log.truncate_to(0, NOW_MS).unwrap();
    assert!(!append(&mut log, &timeless(), NOW_MS + HOUR_MS).rolled, "its age counts from the cut");
    assert!(!append(&mut log, &timeless(), NOW_MS + HOUR_MS).rolled, "its index has room again");
    log.truncate_to(0, NOW_MS).unwrap();
    let far = placed(batch(1).build().unwrap(), 2_147_483_648, 0);
    assert!(log.follow(&far).unwrap().unwrap().rolled);
    assert_eq!(log.bases(), [0, 2_147_483_648]);
}

// M 21
#[test]
fn high_watermark_and_stable_offset_at_the_end_move_into_the_new_segment() {
    let mut log = Fixture::new(LogConfig::default());
    log.fill(2, 3);
    log.replicate();
    let at_end =
        |log: &Fixture, isolation| log.reader().read(Fetch { isolation, ..Fetch::from(6) }).unwrap().start.unwrap();
    let position = log.reader().size();
    let before = LogOffsetMetadata { offset: 6, segment_base_offset: 0, position };
    assert_eq!(at_end(&log, Isolation::HighWatermark), before);
    log.roll(NOW_MS).unwrap();
    let after = LogOffsetMetadata { offset: 6, segment_base_offset: 6, position: 0 };
    for isolation in [Isolation::LogEnd, Isolation::HighWatermark, Isolation::ReadCommitted] {
        assert_eq!(at_end(&log, isolation), after, "{isolation:?}");
    }
    log.append(&in_txn(1, 0, 0, 1)).unwrap();
    log.replicate();
    assert_eq!(log.offsets().last_stable, 6);
    assert_eq!(at_end(&log, Isolation::ReadCommitted), after);
}

// M 22
#[test]
fn removal_of_old_segments_changes_no_offset_also_after_a_restart() {
    let mut log = Fixture::new(LogConfig { retention_ms: Some(0), ..LogConfig::default() });
    for _ in 0..4 {
        log.fill(5, 2);
        log.roll(NOW_MS).unwrap();
    }
    log.replicate();
    assert_eq!(log.delete_old_segments(NOW_MS + 1).unwrap().len(), 4);
    assert_eq!((log.bases(), log.offsets().log_end), (vec![40], 40));
    assert_eq!(log.append(&batch(1)).unwrap().first_offset, 40);
    let mut log = log.reopen();
    assert_eq!(log.append(&batch(1)).unwrap().first_offset, 41);
    let mut log = log.crash();
    assert_eq!(log.append(&batch(1)).unwrap().first_offset, 42);
    assert_eq!(log.offsets().log_start, 40);
}

// M 23: Kafka's flush with force is what a close does.
#[test]
fn flush_of_an_empty_segment_writes_no_index_and_a_close_does() {
    let mut log = Fixture::new(LogConfig::default());
    log.flush().unwrap();
    let indexes = |files: &[String]| files.iter().filter(|name| name.ends_with("index")).count();
    assert_eq!(indexes(&log.files()), 0);
    let (disk, _) = log.close();
    assert_eq!(indexes(&duramen_tests::fixture::files(&disk)), 2);
}
