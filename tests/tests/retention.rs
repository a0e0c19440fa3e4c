//! Which segments go, when, and what stays.
#![allow(clippy::unwrap_used)]

use duramen::{AppendAsLeader, LogConfig, RetentionReason, format::builder::BatchBuilder};
use duramen_tests::{
    disk::Fault,
    fixture::{Fixture, NOW_MS, batch, batch_at, produced},
};
use nix::errno::Errno;

/// A record of a time long past.
fn old() -> BatchBuilder {
    batch_at(&[10])
}

fn size() -> u32 {
    u32::try_from(old().build().unwrap().len()).unwrap()
}

/// Five records to a segment; nothing is too old or too much.
fn five_to_a_segment() -> LogConfig {
    LogConfig { segment_bytes: 5 * size(), retention_ms: None, retention_bytes: None, ..LogConfig::default() }
}

/// A log of old records, all replicated.
fn filled(config: LogConfig, records: usize) -> Fixture {
    let mut log = Fixture::new(config);
    for _ in 0..records {
        log.append(&old()).unwrap();
    }
    log.replicate();
    log
}

// M 43
#[test]
fn size_retention_keeps_what_the_limit_asks_for() {
    let limit = |records| LogConfig { retention_bytes: Some(u64::from(records * size())), ..five_to_a_segment() };
    let mut log = filled(limit(10), 15);
    let gone = log.delete_old_segments(NOW_MS).unwrap();
    assert_eq!(
        gone.iter().map(|gone| (gone.base_offset, gone.reason)).collect::<Vec<_>>(),
        [(0, RetentionReason::Size)]
    );
    assert_eq!(log.bases(), [5, 10]);
    let mut log = filled(limit(15), 15);
    assert!(log.delete_old_segments(NOW_MS).unwrap().is_empty());
    assert_eq!(log.bases(), [0, 5, 10]);
}

#[test]
fn sealed_segment_is_read_once_to_learn_its_age() {
    // Equal timestamps: the time index names the first batch only, and what follows has to be read to be sure.
    let config = LogConfig { retention_ms: Some(u64::MAX >> 1), ..five_to_a_segment() };
    let mut log = filled(config, 15).reopen();
    assert!(log.delete_old_segments(NOW_MS).unwrap().is_empty());
    let read = log.disk.operations();
    assert!(log.delete_old_segments(NOW_MS).unwrap().is_empty());
    assert_eq!(log.disk.operations(), read, "nothing has changed since");
}

// M 44
#[test]
fn time_retention_removes_the_expired_prefix_alone() {
    let hours = |hours: i64| NOW_MS - hours * 3_600_000;
    let config = LogConfig { retention_ms: Some(10 * 3_600_000), ..five_to_a_segment() };
    let mut log = Fixture::new(config.clone());
    // The third segment is older than the second, which keeps it.
    for time in [hours(12), hours(9), hours(11), hours(8)] {
        for _ in 0..5 {
            log.append(&batch_at(&[time])).unwrap();
        }
    }
    log.replicate();
    log.delete_old_segments(NOW_MS).unwrap();
    assert_eq!(log.bases(), [5, 10, 15]);
    let mut fresh = Fixture::new(config);
    for _ in 0..15 {
        fresh.append(&batch_at(&[hours(1)])).unwrap();
    }
    fresh.replicate();
    assert!(fresh.delete_old_segments(NOW_MS).unwrap().is_empty());
}

// M 45, 216
#[test]
fn policy_without_delete_removes_by_log_start_alone() {
    for (compact, delete, left) in [(true, false, 3), (false, false, 3), (true, true, 1), (false, true, 1)] {
        let mut config = LogConfig { retention_ms: Some(1000), retention_bytes: Some(1), ..five_to_a_segment() };
        let keyed = BatchBuilder::new().record(10, Some(b"k"), Some(b"v"));
        config.segment_bytes = 5 * u32::try_from(keyed.build().unwrap().len()).unwrap();
        (config.cleanup_policy.compact, config.cleanup_policy.delete) = (compact, delete);
        let mut log = Fixture::new(config);
        for _ in 0..15 {
            log.append(&keyed).unwrap();
        }
        log.replicate();
        log.delete_old_segments(NOW_MS).unwrap();
        assert_eq!(log.bases().len(), left, "compact {compact}, delete {delete}");
        if left == 3 {
            log.increment_log_start_offset(7).unwrap();
            let gone = log.delete_old_segments(NOW_MS).unwrap();
            assert_eq!(gone.iter().map(|gone| gone.reason).collect::<Vec<_>>(), [RetentionReason::LogStart]);
            assert_eq!(log.bases(), [5, 10]);
        }
    }
}

// M 46
#[test]
fn retention_never_passes_the_high_watermark() {
    for high_watermark in 0..=100 {
        let mut log = filled(LogConfig { retention_ms: Some(1000), ..five_to_a_segment() }, 100);
        log.update_high_watermark(high_watermark);
        log.delete_old_segments(NOW_MS).unwrap();
        assert!(log.offsets().log_start <= high_watermark);
        let bases = log.bases();
        assert!(bases[0] <= high_watermark && bases[1..].iter().all(|base| *base > high_watermark), "{bases:?}");
        if high_watermark == 100 {
            assert_eq!((bases, log.reader().size()), (vec![100], 0));
        }
    }
}

// M 46
#[test]
fn empty_active_segment_stays_and_one_with_a_record_goes() {
    let one_each = LogConfig { segment_bytes: size(), retention_ms: Some(1000), ..LogConfig::default() };
    let fill = || {
        let mut log = filled(one_each.clone(), 9);
        log.roll(NOW_MS).unwrap();
        assert_eq!(log.bases(), (0..10).collect::<Vec<_>>());
        log
    };
    let mut log = fill();
    log.update_high_watermark(6);
    assert_eq!(log.delete_old_segments(NOW_MS).unwrap().len(), 6);
    let mut log = fill();
    assert_eq!(log.delete_old_segments(NOW_MS).unwrap().len(), 9);
    let mut log = fill();
    log.append(&old()).unwrap();
    log.replicate();
    assert_eq!(log.delete_old_segments(NOW_MS).unwrap().len(), 10, "the active one among them");
    assert_eq!(log.bases(), [10]);
}

// M 47
#[test]
fn log_whose_data_are_all_gone_keeps_an_empty_segment_and_its_last_epoch() {
    let mut log = Fixture::new(LogConfig { retention_ms: Some(1000), ..five_to_a_segment() });
    for epoch in [0, 0, 1, 1, 4] {
        log.append_with(&old(), AppendAsLeader::new(epoch, NOW_MS)).unwrap();
    }
    log.replicate();
    log.delete_old_segments(NOW_MS).unwrap();
    assert_eq!((log.bases(), log.records().len()), (vec![5], 0));
    assert_eq!(log.epochs(), [(4, 5)]);
    let log = log.reopen();
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (5, 5));
}

// M 48, 50
#[test]
fn records_deleted_by_offset_take_whole_segments_once() {
    let mut log = filled(five_to_a_segment(), 15);
    for (offset, bases) in [(1, vec![0, 5, 10]), (6, vec![5, 10]), (15, vec![10])] {
        log.increment_log_start_offset(offset).unwrap();
        log.delete_old_segments(NOW_MS).unwrap();
        assert_eq!((log.bases(), log.offsets().log_start), (bases.clone(), offset));
        assert!(log.delete_old_segments(NOW_MS).unwrap().is_empty(), "a second time nothing is left to do");
        assert_eq!(log.bases(), bases);
    }
}

// M 51, 80
#[test]
fn files_are_renamed_at_once_and_removed_after_the_delay() {
    let mut log =
        filled(LogConfig { retention_ms: Some(1000), file_delete_delay_ms: 60_000, ..five_to_a_segment() }, 7);
    log.delete_old_segments(NOW_MS).unwrap();
    let retired = |log: &Fixture| log.files().iter().filter(|name| name.ends_with(".deleted")).count();
    assert!(!log.files().contains(&"00000000000000000000.log".to_owned()));
    assert!(log.files().contains(&"00000000000000000000.log.deleted".to_owned()));
    let all = retired(&log);
    assert_eq!(log.next_removal_ms(), Some(NOW_MS + 60_000));
    assert_eq!(log.remove_retired_files(NOW_MS + 59_999).unwrap(), 0);
    assert_eq!(retired(&log), all);
    assert_eq!(log.remove_retired_files(NOW_MS + 60_000).unwrap(), all);
    assert_eq!(retired(&log), 0);
    let mut log = filled(LogConfig { retention_ms: Some(1000), file_delete_delay_ms: 0, ..five_to_a_segment() }, 7);
    log.delete_old_segments(NOW_MS).unwrap();
    assert!(log.remove_retired_files(NOW_MS).unwrap() > 0, "without a delay they may go at once");
}

// M 52
#[test]
fn producer_snapshots_go_with_their_segments_and_not_with_the_log_start() {
    let mut log = Fixture::new(LogConfig { retention_ms: Some(1000), ..LogConfig::default() });
    for sequence in 0..3 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    log.replicate();
    assert_eq!(log.snapshots(), [1, 2, 3]);
    log.increment_log_start_offset(2).unwrap();
    assert_eq!(log.snapshots(), [1, 2, 3]);
    log.delete_old_segments(NOW_MS).unwrap();
    assert_eq!((log.bases(), log.snapshots()), (vec![2, 3], vec![2, 3]));
    assert!(log.files().contains(&"00000000000000000001.snapshot.deleted".to_owned()));
}

// M 53: Kafka takes the whole directory offline; here the log refuses writes until it is opened again.
#[test]
fn disk_that_fails_during_removal_stops_the_log() {
    let mut log = filled(LogConfig { retention_ms: Some(1000), ..five_to_a_segment() }, 12);
    log.disk.fail_next(".log.deleted", Fault::Error(Errno::EIO));
    assert!(log.delete_old_segments(NOW_MS).is_err());
    assert!(log.is_poisoned());
    assert!(log.append(&batch(1)).unwrap_err().is_poisoned());
    log.disk.heal();
    let (disk, options) = log.abandon();
    let log = Fixture::open(disk, options).unwrap();
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (12, 12));
}
