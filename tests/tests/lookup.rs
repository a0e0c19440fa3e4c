//! Questions by time and by epoch.
#![allow(clippy::unwrap_used)]

use duramen::{AppendAsLeader, Isolation, LogConfig, LogError, TimestampAndOffset, TimestampQuery};
use duramen_tests::fixture::{Fixture, NOW_MS, batch_at, placed};

const OLD_MS: i64 = NOW_MS - 1000;

fn answer(log: &Fixture, query: TimestampQuery) -> Option<(i64, Option<i64>, Option<i32>)> {
    let found = log.reader().offset_for_timestamp(query, Isolation::LogEnd).unwrap();
    found.map(|TimestampAndOffset { offset, timestamp, leader_epoch }| (offset, timestamp, leader_epoch))
}

fn lead(log: &mut Fixture, epoch: i32, times: &[i64]) {
    log.append_with(&batch_at(times), AppendAsLeader::new(epoch, NOW_MS)).unwrap();
}

// M 31
#[test]
fn look_up_by_time_tells_offset_time_and_epoch() {
    let mut log = Fixture::new(LogConfig::default());
    assert_eq!(answer(&log, TimestampQuery::At(0)), None);
    lead(&mut log, 0, &[OLD_MS, OLD_MS + 5]);
    lead(&mut log, 1, &[OLD_MS + 10]);
    assert_eq!(answer(&log, TimestampQuery::At(OLD_MS)), Some((0, Some(OLD_MS), Some(0))));
    assert_eq!(answer(&log, TimestampQuery::At(OLD_MS + 1)), Some((1, Some(OLD_MS + 5), Some(0))));
    assert_eq!(answer(&log, TimestampQuery::At(OLD_MS + 6)), Some((2, Some(OLD_MS + 10), Some(1))));
    assert_eq!(answer(&log, TimestampQuery::At(OLD_MS + 11)), None);
}

// M 32
#[test]
fn earliest_and_latest_tell_an_epoch_only_if_it_is_known() {
    let mut log = Fixture::new(LogConfig::default());
    assert_eq!(answer(&log, TimestampQuery::Earliest), Some((0, None, None)));
    assert_eq!(answer(&log, TimestampQuery::Latest), Some((0, None, None)));
    lead(&mut log, 3, &[NOW_MS]);
    lead(&mut log, 4, &[NOW_MS]);
    assert_eq!(answer(&log, TimestampQuery::Earliest), Some((0, None, Some(3))));
    assert_eq!(answer(&log, TimestampQuery::Latest), Some((2, None, Some(4))));
    log.truncate_fully_and_start_at(9, None, NOW_MS).unwrap();
    assert_eq!(answer(&log, TimestampQuery::Earliest), Some((9, None, None)));
    log.append_as_follower(&placed(batch_at(&[NOW_MS]).build().unwrap(), 12, 5), 5, NOW_MS).unwrap();
    assert_eq!(answer(&log, TimestampQuery::Earliest), Some((9, None, None)), "epoch 5 begins at 12");
    assert_eq!(answer(&log, TimestampQuery::Latest), Some((13, None, Some(5))));
}

// M 33
#[test]
fn greatest_time_is_told_with_its_very_record() {
    let mut log = Fixture::new(LogConfig::default());
    assert_eq!(answer(&log, TimestampQuery::MaxTimestamp), None);
    lead(&mut log, 0, &[OLD_MS, OLD_MS + 9, OLD_MS + 3]);
    log.roll(NOW_MS).unwrap();
    lead(&mut log, 1, &[OLD_MS + 4, OLD_MS + 9, OLD_MS + 2]);
    assert_eq!(answer(&log, TimestampQuery::MaxTimestamp), Some((1, Some(OLD_MS + 9), Some(0))), "the first of equals");
    lead(&mut log, 2, &[OLD_MS, OLD_MS + 10, OLD_MS + 10]);
    assert_eq!(answer(&log, TimestampQuery::MaxTimestamp), Some((7, Some(OLD_MS + 10), Some(2))));
}

// M 111
#[test]
fn look_up_by_time_finds_the_first_record_that_is_not_older() {
    let mut log = Fixture::new(LogConfig { index_interval_bytes: 20, ..LogConfig::default() });
    log.truncate_fully_and_start_at(40, None, NOW_MS).unwrap();
    for n in 0..10 {
        let time = 400 + n * 10;
        log.follow(&placed(batch_at(&[time]).build().unwrap(), 40 + n, 0)).unwrap();
    }
    let cases = [(420, 42), (421, 43), (430, 43), (431, 44), (401, 41), (399, 40), (490, 49)];
    for log in [log.reopen()] {
        for (time, offset) in cases {
            assert_eq!(answer(&log, TimestampQuery::At(time)).map(|found| found.0), Some(offset), "at {time}");
        }
        assert_eq!(answer(&log, TimestampQuery::At(491)), None);
    }
}

// M 32, 47, 49
#[test]
fn log_start_moves_up_to_the_high_watermark_and_takes_the_first_epoch_along() {
    let mut log = Fixture::new(LogConfig::default());
    lead(&mut log, 0, &[NOW_MS, NOW_MS]);
    lead(&mut log, 1, &[NOW_MS, NOW_MS]);
    log.update_high_watermark(3);
    let refused = log.increment_log_start_offset(4);
    assert!(matches!(refused, Err(LogError::OffsetOutOfRange { offset: 4, .. })), "{refused:?}");
    assert!(log.increment_log_start_offset(3).unwrap());
    assert!(!log.increment_log_start_offset(3).unwrap());
    assert!(!log.increment_log_start_offset(1).unwrap());
    assert_eq!(log.epochs(), [(1, 3)]);
    assert_eq!(answer(&log, TimestampQuery::Earliest), Some((3, None, Some(1))));
}
