//! Cutting a log, and what else goes with the records.
#![allow(clippy::unwrap_used)]

use duramen::{AppendAsLeader, LogConfig};
use duramen_tests::{
    disk::Crash,
    fixture::{Fixture, NOW_MS, batch, file, in_txn, placed, produced},
};

/// Ten batches of one record to a segment, and an index entry for every batch but the first.
fn ten_to_a_segment() -> LogConfig {
    let size = u32::try_from(batch(1).build().unwrap().len()).unwrap();
    LogConfig { segment_bytes: 10 * size, index_interval_bytes: size - 1, ..LogConfig::default() }
}

// M 36
#[test]
fn truncation_leaves_exactly_what_lies_below_and_a_log_that_goes_on() {
    for target in [0, 1, 5, 9, 10, 11, 19, 20, 25, 29, 30, 31] {
        let mut log = Fixture::new(ten_to_a_segment());
        log.fill(30, 1);
        let cut = log.truncate_to(target, NOW_MS).unwrap();
        assert_eq!(cut, target < 30, "to {target}");
        let end = target.min(30);
        assert_eq!(log.offsets().log_end, end);
        assert_eq!(log.records().iter().map(|record| record.offset).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
        assert_eq!(log.append(&batch(1)).unwrap().first_offset, end);
        let log = log.crash();
        assert_eq!(log.offsets().log_end, end + 1, "to {target}");
    }
}

// M 37: indexes of the active segment are in memory here, where Kafka preallocates their files.
#[test]
fn index_of_a_segment_that_is_active_again_grows_again() {
    let mut log = Fixture::new(ten_to_a_segment());
    log.fill(30, 1);
    let entries = |log: &Fixture| {
        log.reader().segments().unwrap().iter().map(|segment| segment.index_entries).collect::<Vec<_>>()
    };
    assert_eq!(entries(&log), [9, 9, 9]);
    let sealed = file(&log.disk, "00000000000000000000.index").unwrap();
    assert_eq!(sealed.len(), 9 * 8);
    log.truncate_to(15, NOW_MS).unwrap();
    assert_eq!(entries(&log), [9, 4]);
    assert_eq!(file(&log.disk, "00000000000000000000.index").unwrap(), sealed, "the one before stays as it is");
    log.fill(5, 1);
    // As in Kafka the bytes towards the next entry count from the cut.
    assert_eq!(entries(&log), [9, 8]);
    log.fill(1, 1);
    assert_eq!(log.bases(), [0, 10, 20]);
    assert_eq!(file(&log.disk, "00000000000000000010.index").unwrap().len(), 8 * 8);
}

// M 38, 42
#[test]
fn full_truncation_starts_over_without_epochs_and_producers() {
    let mut log = Fixture::new(ten_to_a_segment());
    log.append_with(&produced(1, 0, 0, 1), AppendAsLeader::new(2, NOW_MS)).unwrap();
    log.fill(25, 1);
    log.replicate();
    log.truncate_fully_and_start_at(100, None, NOW_MS).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start, offsets.high_watermark, offsets.log_end), (100, 100, 100));
    assert!(log.epochs().is_empty() && log.active_producers().is_empty());
    assert!(log.snapshots().is_empty());
    assert_eq!(log.bases(), [100]);
    assert_eq!(log.append(&batch(1)).unwrap().first_offset, 100);
    log.truncate_fully_and_start_at(20, Some(7), NOW_MS).unwrap();
    let offsets = log.offsets();
    assert_eq!((offsets.log_start, offsets.high_watermark, offsets.log_end), (7, 20, 20));
}

// M 39, 150
#[test]
fn truncation_below_the_first_unstable_offset_clears_it() {
    let open = || {
        let mut log = Fixture::new(LogConfig::default());
        log.fill(1, 1);
        log.append(&in_txn(1, 0, 0, 3)).unwrap();
        log.append(&in_txn(2, 0, 0, 2)).unwrap();
        assert_eq!(log.first_unstable_offset(), Some(1));
        log
    };
    let mut log = open();
    log.truncate_to(4, NOW_MS).unwrap();
    assert_eq!(log.first_unstable_offset(), Some(1));
    assert!(!log.has_ongoing_transaction(2, 0));
    log.truncate_to(1, NOW_MS).unwrap();
    assert_eq!(log.first_unstable_offset(), None);
    let mut log = open();
    log.truncate_fully_and_start_at(0, None, NOW_MS).unwrap();
    assert_eq!(log.first_unstable_offset(), None);
    assert!(!log.has_ongoing_transaction(1, 0));
}

// M 40, 41, 166
#[test]
fn epochs_that_begin_at_or_above_the_cut_go_from_memory_and_file() {
    let mut log = Fixture::new(LogConfig::default());
    for epoch in 0..3 {
        log.append_with(&batch(2), AppendAsLeader::new(epoch, NOW_MS)).unwrap();
    }
    log.assign_epoch_start_offset(3, 6).unwrap();
    assert_eq!(log.epochs(), [(0, 0), (1, 2), (2, 4), (3, 6)]);
    assert!(!log.truncate_to(6, NOW_MS).unwrap());
    assert_eq!(log.epochs(), [(0, 0), (1, 2), (2, 4)]);
    log.truncate_to(4, NOW_MS).unwrap();
    assert_eq!(log.epochs(), [(0, 0), (1, 2)]);
    assert_eq!(file(&log.disk, "leader-epoch-checkpoint").unwrap(), b"0\n2\n0 0\n1 2\n");
    assert_eq!(log.reopen().epochs(), [(0, 0), (1, 2)]);
}

// M 42
#[test]
fn high_watermark_is_held_at_the_cut() {
    let mut log = Fixture::new(LogConfig::default());
    log.fill(10, 1);
    log.update_high_watermark(6);
    log.truncate_to(8, NOW_MS).unwrap();
    assert_eq!(log.offsets().high_watermark, 6);
    log.truncate_to(3, NOW_MS).unwrap();
    assert_eq!(log.offsets().high_watermark, 3);
    log.truncate_to(0, NOW_MS).unwrap();
    assert_eq!(log.offsets().high_watermark, 0);
}

// M 60
#[test]
fn truncation_brings_the_producers_back_with_and_without_a_snapshot() {
    for keep_snapshots in [true, false] {
        let mut log = Fixture::new(LogConfig::default());
        for sequence in 0..6 {
            log.append(&produced(1, 0, sequence, 1)).unwrap();
            if sequence % 2 == 1 {
                log.roll(NOW_MS).unwrap();
            }
        }
        log.append(&produced(2, 0, 0, 1)).unwrap();
        let mut log = log.reopen();
        assert_eq!(log.snapshots(), [2, 4, 6, 7]);
        if !keep_snapshots {
            for offset in log.snapshots() {
                duramen_tests::fixture::remove_file(&log.disk, &format!("{offset:020}.snapshot"));
            }
        }
        log.truncate_to(5, NOW_MS).unwrap();
        let known: Vec<_> = log.active_producers().iter().map(|one| (one.producer_id, one.last_sequence)).collect();
        assert_eq!(known, [(1, Some(4))], "with snapshots: {keep_snapshots}");
        assert_eq!(log.producer_state_end_offset(), 5);
        assert!(log.append(&produced(1, 0, 6, 1)).is_err());
        log.append(&produced(1, 0, 5, 1)).unwrap();
    }
}

// M 109
#[test]
fn thirty_rounds_of_two_appends_and_a_cut_leave_one_record_each() {
    let mut log = Fixture::new(LogConfig::default());
    log.truncate_fully_and_start_at(40, None, NOW_MS).unwrap();
    for round in 0..30 {
        for offset in [40 + round, 41 + round] {
            log.follow(&placed(batch(1).build().unwrap(), offset, 0)).unwrap();
        }
        log.truncate_to(41 + round, NOW_MS).unwrap();
        let last = log.records().last().map(|record| record.offset);
        assert_eq!((last, log.offsets().log_end), (Some(40 + round), 41 + round));
    }
    assert_eq!(log.records().len(), 30);
}

// M 110
#[test]
fn greatest_time_and_index_are_those_of_the_records_left() {
    const RECORDS: i64 = 30;
    let one = |time| duramen_tests::fixture::batch_at(&[time]);
    let size = u32::try_from(one(NOW_MS).build().unwrap().len()).unwrap();
    let mut log = Fixture::new(LogConfig { index_interval_bytes: 2 * size - 1, ..LogConfig::default() });
    for n in 0..RECORDS {
        log.append(&one(NOW_MS - 1000 + n)).unwrap();
    }
    let summary = |log: &Fixture| log.reader().segments().unwrap()[0];
    assert_eq!(summary(&log).index_entries, 14, "every second batch but the first");
    assert_eq!(summary(&log).largest_timestamp, Some(NOW_MS - 1000 + RECORDS - 1));
    log.truncate_to(17, NOW_MS).unwrap();
    assert_eq!(summary(&log).largest_timestamp, Some(NOW_MS - 1000 + 16));
    assert_eq!(log.offsets().log_end, 17);
    log.truncate_to(0, NOW_MS).unwrap();
    assert_eq!(summary(&log).largest_timestamp, None);
}

#[test]
fn log_that_was_cut_at_its_start_in_a_gap_opens_after_a_crash() {
    for target in [3, 4, 5] {
        let mut log = Fixture::new(LogConfig::default());
        log.fill(3, 1);
        log.follow(&placed(batch(2).build().unwrap(), 5, 0)).unwrap();
        log.update_high_watermark(7);
        log.increment_log_start_offset(4).unwrap();
        log.truncate_to(target, NOW_MS).unwrap();
        assert_eq!((log.offsets().log_start, log.offsets().log_end), (target.min(4), target));
        let log = log.crash();
        assert_eq!((log.offsets().log_end, log.records().len()), (3, 3), "cut to {target}");
    }
}

#[test]
fn cut_inside_a_batch_is_checkpointed_as_the_next_open_finds_it() {
    // A batch at 3 of four records goes whole; the log starts below it, in it, or at the cut.
    for (log_start, target) in [(1, 5), (4, 5), (5, 5)] {
        let mut log = Fixture::new(LogConfig::default());
        log.fill(3, 1);
        log.follow(&placed(batch(4).build().unwrap(), 3, 0)).unwrap();
        log.update_high_watermark(7);
        log.increment_log_start_offset(log_start).unwrap();
        log.truncate_to(target, NOW_MS).unwrap();
        log.checkpoint();
        // Not durable: of this a crash leaves zeros.
        log.fill(1, 1);
        log.checkpoint();
        let (disk, options) = log.abandon();
        let mut log = Fixture::open(disk.crash_image(Crash::ZeroTail), options).unwrap();
        assert_eq!((log.offsets().log_start, log.offsets().log_end), (log_start.min(3), 3), "cut to {target}");
        log.fill(1, 1);
    }
}
