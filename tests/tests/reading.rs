//! What a read returns: where it begins, where it stops, and how little it may give.
#![allow(clippy::unwrap_used)]

use duramen::{
    Fetch, Fetched, Isolation, LogConfig, LogError,
    format::{
        batch::Batches,
        compression::{Codec, Compression},
    },
};
use duramen_tests::fixture::{Fixture, NOW_MS, batch, in_txn, placed, records};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

fn log() -> Fixture {
    Fixture::new(LogConfig::default())
}

fn read(log: &Fixture, offset: i64, isolation: Isolation) -> Result<Fetched, LogError> {
    log.reader().read(Fetch { isolation, ..Fetch::from(offset) })
}

fn bytes(fetched: Fetched) -> Vec<u8> {
    fetched.records.map_or(Vec::new(), |records| records.to_vec().unwrap())
}

fn offsets(bytes: &[u8]) -> Vec<i64> {
    records(bytes).iter().map(|record| record.offset).collect()
}

// M 24
#[test]
fn read_at_the_log_end_is_empty_and_beyond_or_below_out_of_range() {
    let mut log = log();
    log.truncate_fully_and_start_at(1024, None, NOW_MS).unwrap();
    assert!(read(&log, 1024, Isolation::LogEnd).unwrap().is_empty());
    log.append(&batch(1)).unwrap();
    assert!(read(&log, 1025, Isolation::LogEnd).unwrap().is_empty());
    for offset in [1026, 1023, 0, -1] {
        match read(&log, offset, Isolation::LogEnd) {
            Err(LogError::OffsetOutOfRange { log_start, log_end, .. }) => {
                assert_eq!((log_start, log_end), (1024, 1025))
            }
            other => panic!("{offset}: {other:?}"),
        }
    }
}

// M 25, 108
#[test]
fn read_in_a_gap_begins_with_the_next_batch() {
    let mut log = log();
    assert!(read(&log, 0, Isolation::LogEnd).unwrap().is_empty());
    for base in [3, 10, 50] {
        log.follow(&placed(batch(2).build().unwrap(), base, 0)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    for (offset, first) in [(0, 3), (4, 3), (5, 10), (9, 10), (11, 10), (12, 50), (51, 50)] {
        let fetched = read(&log, offset, Isolation::LogEnd).unwrap();
        assert_eq!(fetched.start.unwrap().offset, first, "read at {offset}");
        assert_eq!(offsets(&bytes(fetched))[0], first, "read at {offset}");
    }
}

// M 26
#[test]
fn least_of_one_batch_is_whole_and_without_it_the_limit_cuts() {
    let mut log = log();
    log.fill(3, 4);
    let size = u64::try_from(batch(4).build().unwrap().len()).unwrap();
    let fetch = Fetch { isolation: Isolation::LogEnd, min_one_batch: true, max_bytes: 0, ..Fetch::from(5) };
    for max_bytes in [0, 1, size] {
        let fetched = log.reader().read(Fetch { max_bytes, ..fetch }).unwrap();
        assert!(!fetched.first_batch_incomplete);
        assert_eq!(offsets(&bytes(fetched)), [4, 5, 6, 7], "{max_bytes} bytes");
    }
    for (max_bytes, len, incomplete) in [(0, 0, false), (1, 1, true), (size - 1, size - 1, true), (size, size, false)] {
        let fetched = log.reader().read(Fetch { max_bytes, min_one_batch: false, ..fetch }).unwrap();
        assert_eq!((fetched.len(), fetched.first_batch_incomplete), (len, incomplete), "{max_bytes} bytes");
    }
}

// M 27
#[test]
fn read_inside_a_compressed_set_begins_with_its_first_record() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut log = log();
        for _ in 0..2 {
            log.append(&batch(2).compression(Compression::with_default_level(codec))).unwrap();
        }
        for (offset, first) in [(0, 0), (1, 0), (2, 2), (3, 2)] {
            let found = offsets(&bytes(read(&log, offset, Isolation::LogEnd).unwrap()));
            assert_eq!(found, (first..4).collect::<Vec<_>>(), "{codec:?} at {offset}");
        }
    }
}

// M 28
#[test]
fn each_isolation_stops_at_its_bound() {
    let mut log = log();
    log.fill(1, 3);
    log.append(&in_txn(1, 0, 0, 2)).unwrap();
    log.fill(1, 3);
    log.fill(1, 2);
    log.update_high_watermark(8);
    for (isolation, bound) in [(Isolation::ReadCommitted, 3), (Isolation::HighWatermark, 8), (Isolation::LogEnd, 10)] {
        for offset in 0..bound {
            let last = offsets(&bytes(read(&log, offset, isolation).unwrap())).last().copied();
            assert_eq!(last, Some(bound - 1), "{isolation:?} at {offset}");
        }
        for offset in bound..=10 {
            assert!(read(&log, offset, isolation).unwrap().is_empty(), "{isolation:?} at {offset}");
        }
        assert!(matches!(read(&log, 11, isolation), Err(LogError::OffsetOutOfRange { .. })));
    }
}

// M 29, 67: Kafka moves such a high watermark to the base of the batch; here it stays, and reads stop there all the same.
#[test]
fn high_watermark_inside_a_batch_hides_the_whole_batch_and_stays() {
    let mut log = log();
    for base in [0, 3, 6] {
        log.follow(&placed(batch(3).build().unwrap(), base, 0)).unwrap();
    }
    log.update_high_watermark(4);
    let log = log.reopen();
    assert_eq!(log.offsets().high_watermark, 4);
    for offset in 0..3 {
        assert_eq!(offsets(&bytes(read(&log, offset, Isolation::HighWatermark).unwrap())), [0, 1, 2]);
    }
    for offset in 3..=9 {
        assert!(read(&log, offset, Isolation::HighWatermark).unwrap().is_empty(), "read at {offset}");
    }
    assert_eq!(log.offsets().high_watermark, 4);
}

// M 30
#[test]
fn committed_reader_beside_a_moving_high_watermark_sees_decided_data_only() {
    const ROUNDS: i32 = 400;
    let mut log = log();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (reader, stop) = (log.reader(), Arc::clone(&stop));
        thread::spawn(move || {
            let (mut offset, mut seen) = (0, 0);
            loop {
                let ended = stop.load(Ordering::SeqCst);
                let stable = reader.offsets().last_stable;
                let fetch = Fetch { isolation: Isolation::ReadCommitted, ..Fetch::from(offset) };
                let fetched = reader.read(fetch).unwrap();
                let aborted = fetched.aborted.clone();
                for batch in Batches::new(&bytes(fetched)).map(Result::unwrap) {
                    let header = batch.header();
                    // Every third transaction aborts, and its data come with the transaction that tells so.
                    let id = header.producer().unwrap().id;
                    let is_told = aborted.iter().any(|txn| {
                        (txn.first_offset..=txn.last_offset).contains(&header.base_offset()) && txn.producer_id == id
                    });
                    assert_eq!(is_told, header.base_offset() / 2 % 3 == 0, "offset {}", header.base_offset());
                    offset = header.next_offset();
                    seen += 1;
                }
                if ended && offset >= stable {
                    return (offset, seen);
                }
            }
        })
    };
    for round in 0..ROUNDS {
        log.append(&in_txn(1, 0, round, 1)).unwrap();
        log.replicate();
        log.end_txn(1, 0, round % 3 != 0).unwrap();
        log.replicate();
    }
    stop.store(true, Ordering::SeqCst);
    assert_eq!(reader.join().unwrap(), (i64::from(ROUNDS) * 2, ROUNDS * 2));
}

// M 85
#[test]
fn read_above_the_bound_of_its_isolation_is_empty_in_every_segment() {
    let mut log = log();
    log.fill(1, 5);
    log.roll(NOW_MS).unwrap();
    log.fill(1, 5);
    log.update_high_watermark(2);
    for offset in 2..=10 {
        let fetched = read(&log, offset, Isolation::HighWatermark).unwrap();
        assert!(fetched.is_empty() && !fetched.first_batch_incomplete, "read at {offset}");
    }
}
