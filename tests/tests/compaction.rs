//! What a cleaning keeps of transactions, producers and tombstones, and what it copes with.
#![allow(clippy::unwrap_used)]

use duramen::{
    CleanerControl, CleanerOptions, CleanerStats, LogConfig, LogError, Offset,
    format::{
        builder::BatchBuilder,
        compression::{Codec, Compression},
    },
};
use duramen_tests::fixture::{Fixture, NOW_MS, batch, file, files, in_txn, marker, placed, write_file};

const RETENTION_MS: i64 = 1000;

fn config() -> LogConfig {
    let mut config = LogConfig {
        segment_bytes: 4000,
        index_interval_bytes: 200,
        delete_retention_ms: RETENTION_MS.cast_unsigned(),
        ..LogConfig::default()
    };
    config.cleanup_policy.compact = true;
    config.cleanup_policy.delete = false;
    config
}

/// Records of these keys at the end of a batch.
fn keys(batch: BatchBuilder, keys: &[&str]) -> BatchBuilder {
    keys.iter().fold(batch, |batch, key| batch.record(NOW_MS, Some(key.as_bytes()), Some(b"value")))
}

fn plain(of: &[&str]) -> BatchBuilder {
    keys(BatchBuilder::new(), of)
}

fn txn(id: i64, sequence: i32, of: &[&str]) -> BatchBuilder {
    keys(BatchBuilder::new().producer(id, 0, sequence).transactional(), of)
}

/// A log that is cleaned again and again.
struct Compacted {
    log: Fixture,
    checkpoint: Option<Offset>,
}

impl Compacted {
    fn new() -> Self {
        Self { log: Fixture::new(config()), checkpoint: None }
    }

    /// Rolls and cleans everything below the active segment.
    fn pass(&mut self, now_ms: i64) -> CleanerStats {
        self.pass_with(&CleanerOptions::default(), now_ms)
    }

    fn pass_with(&mut self, options: &CleanerOptions, now_ms: i64) -> CleanerStats {
        self.log.roll(NOW_MS).unwrap();
        self.log.replicate();
        let to_clean = self.log.log_to_clean(self.checkpoint, now_ms).unwrap();
        let stats = self.log.clean(&to_clean, options, now_ms, &mut |_| CleanerControl::Continue).unwrap();
        self.checkpoint = Some(stats.end_offset);
        stats
    }

    fn offsets(&self) -> Vec<Offset> {
        self.log.records().iter().map(|record| record.offset).collect()
    }

    /// Keys of data records below an offset.
    fn keys(&self) -> Vec<String> {
        let records = self.log.records();
        let keys = records.iter().filter_map(|record| String::from_utf8(record.key.clone()?).ok());
        keys.filter(|key| !key.contains('\0')).collect()
    }
}

// M 187
#[test]
fn commit_marker_stays_until_its_records_are_gone_and_its_horizon_passed() {
    let mut log = Compacted::new();
    log.log.append(&txn(1, 0, &["1"])).unwrap();
    log.log.append(&txn(1, 1, &["2", "3"])).unwrap();
    log.log.end_txn(1, 0, true).unwrap();
    log.log.append(&txn(1, 3, &["2"])).unwrap();
    log.log.end_txn(1, 0, true).unwrap();
    log.pass(NOW_MS);
    assert_eq!((log.keys(), log.offsets()), (["1", "3", "2"].map(String::from).to_vec(), vec![0, 2, 3, 4, 5]));
    log.log.append(&txn(1, 4, &["1", "3"])).unwrap();
    log.log.end_txn(1, 0, true).unwrap();
    // A filler of its own key makes each later pass dirty.
    // The first of these passes still sees records of the transaction, the second gives the marker its horizon.
    for (after_ms, first) in [(0, 3), (0, 3), (RETENTION_MS - 1, 3), (RETENTION_MS, 4)] {
        log.pass(NOW_MS + after_ms);
        let offsets: Vec<_> = log.offsets().into_iter().filter(|offset| *offset <= 8).collect();
        assert_eq!(offsets, (first..=8).collect::<Vec<_>>());
        assert_eq!(log.keys()[..3], ["2", "1", "3"]);
        log.log.append(&plain(&["filler"])).unwrap();
    }
}

// M 186, 193
#[test]
fn aborted_records_vanish_over_segments_and_committed_ones_stay_until_superseded() {
    let mut log = Compacted::new();
    log.log.append(&txn(1, 0, &["a"])).unwrap();
    log.log.append(&txn(2, 0, &["b"])).unwrap();
    log.log.roll(NOW_MS).unwrap();
    log.log.append(&txn(1, 1, &["c"])).unwrap();
    log.log.append(&txn(2, 1, &["d"])).unwrap();
    log.log.roll(NOW_MS).unwrap();
    log.log.end_txn(1, 0, false).unwrap();
    log.log.end_txn(2, 0, true).unwrap();
    log.log.append(&plain(&["e"])).unwrap();
    log.pass(NOW_MS);
    assert_eq!(log.keys(), ["b", "d", "e"]);
    let sequences: Vec<_> = log.log.batches().iter().filter_map(|batch| batch.last_sequence()).collect();
    assert!(sequences.contains(&1), "the last sequence of the aborted producer stays: {sequences:?}");
    log.log.append(&plain(&["d"])).unwrap();
    log.log.append(&plain(&["e"])).unwrap();
    log.pass(NOW_MS);
    assert_eq!(log.keys(), ["b", "d", "e"]);
    assert_eq!(log.log.active_producers().len(), 2);
}

// M 185
#[test]
fn duplicates_are_recognised_after_cleaning_and_loading() {
    let mut log = Compacted::new();
    let batches: Vec<_> = (0..3).map(|n| keys(BatchBuilder::new().producer(1, 0, n * 2), &["a", "b"])).collect();
    for batch in &batches {
        log.log.append(batch).unwrap();
    }
    log.log.append(&plain(&["a", "b"])).unwrap();
    log.pass(NOW_MS);
    assert_eq!(log.keys(), ["a", "b"]);
    let (disk, options) = log.log.close();
    for name in files(&disk).iter().filter(|name| name.ends_with(".snapshot")) {
        duramen_tests::fixture::remove_file(&disk, name);
    }
    let mut log = Fixture::open(disk, options).unwrap();
    let info = log.append(&batches[2]).unwrap();
    assert!(info.is_duplicate);
    assert_eq!((info.first_offset, info.last_offset), (4, 5));
    assert!(log.append(&batches[1]).is_err(), "only the last batch of a producer is kept");
    assert!(!log.append(&keys(BatchBuilder::new().producer(1, 0, 6), &["c"])).unwrap().is_duplicate);
}

// M 189
#[test]
fn emptied_markers_go_and_sequences_may_begin_again_after_all_is_gone() {
    let mut log = Compacted::new();
    log.log.append(&txn(1, 0, &["a"])).unwrap();
    log.log.end_txn(1, 0, true).unwrap();
    log.log.append(&plain(&["a"])).unwrap();
    log.pass(NOW_MS);
    log.log.append(&plain(&["b"])).unwrap();
    log.log.remove_expired_producers(NOW_MS + 86_400_000);
    assert!(log.log.active_producers().is_empty());
    for round in 1..4 {
        log.pass(NOW_MS + round * RETENTION_MS);
        log.log.append(&plain(&["b"])).unwrap();
    }
    assert!(log.log.batches().iter().all(|batch| batch.producer().is_none()), "nothing is left of the producer");
    log.log.append(&txn(1, 0, &["a"])).unwrap();
}

// M 191
#[test]
fn tombstone_of_an_old_time_stays_for_its_retention_all_the_same() {
    let mut log = Compacted::new();
    log.log.append(&plain(&["a"])).unwrap();
    log.log.append(&BatchBuilder::new().record(NOW_MS - 10_000_000, Some(b"a"), None)).unwrap();
    log.log.append(&plain(&["b"])).unwrap();
    for (now_ms, tombstone) in [(NOW_MS, true), (NOW_MS + RETENTION_MS - 1, true), (NOW_MS + RETENTION_MS, false)] {
        log.pass(now_ms);
        let found = log.log.records();
        assert_eq!(found.iter().any(|record| record.value.is_none()), tombstone, "at {}", now_ms - NOW_MS);
        log.log.append(&plain(&["b"])).unwrap();
    }
}

// M 192
#[test]
fn records_with_the_keys_of_markers_are_records() {
    let mut log = Compacted::new();
    let commit_key = [0, 0, 0, 1];
    let abort_key = [0, 0, 0, 0];
    log.log.append(&txn(1, 0, &["x"])).unwrap();
    log.log.end_txn(1, 0, true).unwrap();
    for key in [commit_key, abort_key] {
        log.log.append(&BatchBuilder::new().record(NOW_MS, Some(&key), Some(b"1"))).unwrap();
        log.log.append(&BatchBuilder::new().record(NOW_MS, Some(&key), Some(b"2"))).unwrap();
    }
    log.pass(NOW_MS);
    assert_eq!(log.offsets(), [0, 1, 3, 5], "the marker at 1 has nothing to do with the record of its key");
}

// M 183
#[test]
fn sources_that_retention_removes_meanwhile_end_the_pass_and_nothing_else() {
    let mut config = config();
    config.cleanup_policy.delete = true;
    config.retention_ms = Some(1000);
    let mut log = Fixture::new(config);
    for _ in 0..3 {
        log.append(&plain(&["a", "b"])).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    log.replicate();
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let cleaning = log.begin_cleaning(&to_clean, NOW_MS).unwrap();
    assert_eq!(log.delete_old_segments(NOW_MS + 2000).unwrap().len(), 3);
    log.remove_retired_files(i64::MAX).unwrap();
    let cleaned = cleaning.run(&CleanerOptions::default(), &mut |_| CleanerControl::Continue).unwrap();
    let ended = log.finish_cleaning(cleaned, NOW_MS);
    assert!(matches!(ended, Err(LogError::CleaningAborted { .. })), "{ended:?}");
    assert!(!log.is_poisoned());
    log.append(&plain(&["c"])).unwrap();
    assert_eq!((log.offsets().log_start, log.crash().records().len()), (6, 1));
}

// M 184
#[test]
fn output_of_a_log_that_preallocates_is_as_long_as_its_records() {
    let mut log = Compacted { log: Fixture::new(LogConfig { preallocate: true, ..config() }), checkpoint: None };
    for _ in 0..5 {
        log.log.append(&plain(&["a", "b"])).unwrap();
    }
    log.pass(NOW_MS);
    let size = log.log.reader().segments().unwrap()[0].size;
    let bytes = file(&log.log.disk, "00000000000000000000.log").unwrap();
    assert_eq!(u64::try_from(bytes.len()).unwrap(), size);
    assert_eq!(log.keys(), ["a", "b"]);
}

// M 194, 195
#[test]
fn batches_larger_than_every_buffer_and_limit_are_cleaned() {
    let long = "x".repeat(1500);
    for codec in [Codec::None, Codec::Gzip, Codec::Lz4, Codec::Zstd, Codec::Snappy] {
        let mut log = Compacted::new();
        for n in 0..6 {
            let own = format!("own {n}");
            let batch = BatchBuilder::new().compression(Compression::with_default_level(codec));
            let batch = batch.record(NOW_MS, Some(own.as_bytes()), Some(long.as_bytes()));
            log.log.append(&batch.record(NOW_MS, Some(b"shared"), Some(long.as_bytes()))).unwrap();
        }
        log.log.set_config(LogConfig { max_message_bytes: 10, ..config() });
        let stats = log.pass_with(&CleanerOptions { io_buffer_bytes: 10, ..CleanerOptions::default() }, NOW_MS);
        assert_eq!((stats.messages_read, stats.messages_written), (12, 7), "{codec:?}");
        let found = log.log.records();
        assert_eq!(found.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 2, 4, 6, 8, 10, 11]);
        assert!(found.iter().all(|record| record.value.as_deref() == Some(long.as_bytes())));
    }
}

// M 197
#[test]
fn segments_whose_indexes_came_back_empty_are_joined() {
    let mut log = Compacted::new();
    for n in 0..3 {
        log.log.append(&plain(&["a", &format!("own {n}")])).unwrap();
        log.log.roll(NOW_MS).unwrap();
    }
    let (disk, options) = log.log.close();
    for name in files(&disk).iter().filter(|name| name.ends_with(".index")) {
        write_file(&disk, name, b"");
    }
    let mut log = Compacted { log: Fixture::open(disk, options).unwrap(), checkpoint: None };
    let stats = log.pass(NOW_MS);
    assert_eq!((stats.segments_read, stats.segments_written), (3, 1));
    assert_eq!(log.keys(), ["own 0", "own 1", "a", "own 2"]);
}

// M 198
#[test]
fn map_takes_what_fits_from_the_first_dirty_offset_on() {
    let mut log = Compacted::new();
    for key in ["0", "1", "2", "3", "4", "5"] {
        log.log.append(&plain(&[key])).unwrap();
    }
    log.checkpoint = Some(2);
    let stats = log.pass_with(&CleanerOptions { dedupe_buffer_bytes: 3 * 24, ..CleanerOptions::default() }, NOW_MS);
    assert_eq!((stats.map_entries, stats.map_messages_read, stats.end_offset), (2, 4, 4));
    assert_eq!(log.keys().len(), 6);
}

// M 199
#[test]
fn gap_of_offsets_at_the_end_of_a_segment_does_not_hold_the_next_pass_back() {
    let one = plain(&["k"]).build().unwrap();
    let segment_bytes = 10 * u32::try_from(one.len()).unwrap();
    let mut log = Fixture::new(LogConfig { segment_bytes, ..config() });
    for offset in (0..10).chain(11..21).chain([30]) {
        log.follow(&placed(one.clone(), offset, 0)).unwrap();
    }
    log.replicate();
    assert_eq!(log.bases(), [0, 11, 30], "no record has offset 10, and none 21 to 29");
    let go_on = &mut |_| CleanerControl::Continue;
    for (checkpoint, expected) in [(None, 30), (Some(10), 30), (Some(21), 30)] {
        let to_clean = log.log_to_clean(checkpoint, NOW_MS).unwrap();
        let stats = log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, go_on).unwrap();
        assert_eq!(stats.end_offset, expected, "from {checkpoint:?}");
    }
    let next = log.log_to_clean(Some(30), NOW_MS).unwrap();
    assert_eq!((next.first_dirty_offset, next.cleanable_bytes), (30, 0));
}

// M 208
#[test]
fn undecided_data_are_not_cleaned_before_their_marker_is_replicated() {
    let mut log = Fixture::new(config());
    log.append(&plain(&["a"])).unwrap();
    log.roll(NOW_MS).unwrap();
    log.append(&in_txn(1, 0, 0, 1)).unwrap();
    log.append(&plain(&["b"])).unwrap();
    log.roll(NOW_MS).unwrap();
    log.append(&plain(&["c"])).unwrap();
    log.replicate();
    let uncleanable = |log: &Fixture| log.log_to_clean(None, NOW_MS).unwrap().first_uncleanable_offset;
    assert_eq!(uncleanable(&log), 1);
    log.append_bytes(
        marker(1, 0, false, 0),
        duramen::AppendOrigin::Coordinator,
        duramen::AppendAsLeader::new(0, NOW_MS),
    )
    .unwrap();
    log.roll(NOW_MS).unwrap();
    log.append(&batch(1)).unwrap();
    log.roll(NOW_MS).unwrap();
    assert_eq!(uncleanable(&log), 1, "the marker is not replicated");
    log.update_high_watermark(5);
    assert_eq!(uncleanable(&log), 5, "everything below the marker's end");
}

// M 182
#[test]
fn tail_that_is_not_cleaned_keeps_every_record() {
    let mut log = Compacted::new();
    for _ in 0..3 {
        log.log.append(&plain(&["a", "b"])).unwrap();
    }
    log.pass(NOW_MS);
    log.log.append(&plain(&["a", "a", "b"])).unwrap();
    assert_eq!(log.offsets(), [4, 5, 6, 7, 8]);
}
