//! Cleaning a log through the public API: what stays, when the rest goes, and who may be reading meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    AppendAsLeader, CleanerControl, CleanerOptions, CleanerProgress, CleanerStats, Fetch, Isolation, Log, LogConfig,
    LogDirectory, LogError, LogToClean, TopicPartition, ValidationPolicy,
    format::{
        batch::{Batches, assign_in_place},
        builder::{BatchBuilder, end_txn_marker},
        compression::{Codec, Compression},
        control::EndTxnMarker,
    },
    validate,
};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tempfile::TempDir;

const NOW_MS: i64 = 1_700_000_000_000;
const RETENTION_MS: i64 = 1000;

fn config() -> LogConfig {
    let mut config = LogConfig {
        segment_bytes: 4000,
        index_interval_bytes: 300,
        delete_retention_ms: 1000,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    };
    config.cleanup_policy.compact = true;
    config
}

struct Cleaner {
    directory: LogDirectory,
    config: LogConfig,
    checkpoint: Option<i64>,
    now_ms: i64,
    home: TempDir,
}

impl Cleaner {
    fn with(config: LogConfig) -> Self {
        let home = TempDir::new().unwrap();
        let directory = LogDirectory::open(home.path()).unwrap();
        Self { directory, config, checkpoint: None, now_ms: NOW_MS, home }
    }

    fn new() -> Self {
        Self::with(config())
    }

    fn log(&mut self) -> &mut Log {
        self.directory.get_or_create(&TopicPartition::new("clean", 0).unwrap(), &self.config).unwrap()
    }

    fn append_batch(&mut self, builder: &BatchBuilder) {
        let mut bytes = builder.build().unwrap();
        let log = self.log();
        assign_in_place(&mut bytes, log.offsets().log_end, 0).unwrap();
        log.append_as_follower(&bytes, 0, NOW_MS).unwrap();
    }

    /// A batch of keys with one value each; `None` is a tombstone.
    fn append(&mut self, records: &[(&str, Option<&str>)]) {
        self.append_batch(&data(BatchBuilder::new(), records));
    }

    fn end_txn(&mut self, producer_id: i64, committed: bool) {
        let marker = EndTxnMarker { committed, coordinator_epoch: 0 };
        let mut bytes = end_txn_marker(producer_id, 0, marker, NOW_MS).unwrap();
        let log = self.log();
        assign_in_place(&mut bytes, log.offsets().log_end, 0).unwrap();
        log.append_as_follower(&bytes, 0, NOW_MS).unwrap();
    }

    fn roll(&mut self) {
        let log = self.log();
        log.roll(NOW_MS).unwrap();
        log.update_high_watermark(log.offsets().log_end);
    }

    /// A pass over everything that is decided.
    fn clean_with(&mut self, options: &CleanerOptions) -> CleanerStats {
        let (checkpoint, now_ms) = (self.checkpoint, self.now_ms);
        let log = self.log();
        let to_clean = log.log_to_clean(checkpoint, now_ms).unwrap();
        let stats = log.clean(&to_clean, options, now_ms, &mut |_| CleanerControl::Continue).unwrap();
        self.checkpoint = Some(stats.end_offset);
        stats
    }

    fn clean(&mut self) -> CleanerStats {
        self.clean_with(&CleanerOptions::default())
    }

    /// Rolls and cleans, with a batch of other keys behind, so that no batch stays for being the last.
    fn pass(&mut self) -> CleanerStats {
        self.roll();
        self.clean()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let log = self.log();
        let (reader, offsets) = (log.reader(), log.offsets());
        let mut bytes = Vec::new();
        let mut offset = offsets.log_start;
        while offset < offsets.log_end {
            let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) };
            let piece = reader.read(fetch).unwrap().records.map_or(Vec::new(), |records| records.to_vec().unwrap());
            match Batches::new(&piece).last() {
                Some(last) => offset = last.unwrap().header().next_offset(),
                None => break,
            }
            bytes.extend(piece);
        }
        bytes
    }

    /// Offset and key of every data record.
    fn keys(&mut self) -> Vec<(i64, String)> {
        keys(&self.bytes())
    }

    /// First offset, records and whether it is a marker, of each batch.
    fn batches(&mut self) -> Vec<(i64, i32, bool)> {
        let bytes = self.bytes();
        let batches = Batches::new(&bytes).map(|batch| batch.unwrap().header().clone());
        batches.map(|h| (h.base_offset(), h.records_count(), h.attributes().is_control())).collect()
    }
}

fn keys(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut keys = Vec::new();
    for batch in Batches::new(bytes).map(Result::unwrap) {
        batch.check_crc().unwrap();
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch, 1 << 24).unwrap().map(Result::unwrap) {
            if !batch.header().attributes().is_control() {
                let key = record.key().map_or("-".into(), |key| String::from_utf8_lossy(key).into_owned());
                keys.push((record.offset(), key));
            }
        }
    }
    keys
}

fn data(mut builder: BatchBuilder, records: &[(&str, Option<&str>)]) -> BatchBuilder {
    for (key, value) in records {
        let key = (*key != "-").then_some(key.as_bytes());
        builder = builder.record(NOW_MS, key, value.map(str::as_bytes));
    }
    builder
}

fn owned(keys: &[(i64, &str)]) -> Vec<(i64, String)> {
    keys.iter().map(|(offset, key)| (*offset, (*key).to_owned())).collect()
}

fn names(home: &Path) -> Vec<String> {
    let entries = fs::read_dir(home.join("clean-0")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

// M 182
#[test]
fn last_value_of_each_key_stays_and_records_without_a_key_go() {
    let mut cleaner = Cleaner::new();
    cleaner.append(&[("a", Some("1")), ("b", Some("1")), ("-", Some("x"))]);
    cleaner.append(&[("a", Some("2"))]);
    cleaner.append(&[("c", Some("1")), ("b", Some("2"))]);
    cleaner.roll();
    cleaner.append(&[("a", Some("active"))]);
    let stats = cleaner.clean();
    assert_eq!(cleaner.keys(), owned(&[(3, "a"), (4, "c"), (5, "b"), (6, "a")]));
    assert_eq!((stats.end_offset, stats.map_messages_read, stats.messages_read), (6, 6, 6));
    assert_eq!((stats.messages_written, stats.invalid_messages), (3, 1));
    let again = cleaner.log().log_to_clean(Some(6), NOW_MS).unwrap();
    assert!(again.cleanable_bytes == 0 && !again.is_eligible);
}

// M 191
#[test]
fn tombstone_goes_a_pass_after_its_retention() {
    let mut cleaner = Cleaner::new();
    cleaner.append(&[("a", Some("1"))]);
    cleaner.append(&[("a", None)]);
    cleaner.append(&[("b", Some("1"))]);
    cleaner.pass();
    assert_eq!(cleaner.keys(), owned(&[(1, "a"), (2, "b")]));
    cleaner.now_ms += RETENTION_MS - 1;
    cleaner.append(&[("b", Some("2"))]);
    cleaner.pass();
    assert_eq!(cleaner.keys(), owned(&[(1, "a"), (3, "b")]));
    cleaner.now_ms += 1;
    cleaner.append(&[("b", Some("3"))]);
    cleaner.pass();
    assert_eq!(cleaner.keys(), owned(&[(4, "b")]));
}

// M 186, 188, 193
#[test]
fn aborted_records_go_at_once_and_the_marker_after_the_last_sequence() {
    let mut cleaner = Cleaner::new();
    let txn =
        |sequence, key: &str| data(BatchBuilder::new().producer(1, 0, sequence).transactional(), &[(key, Some("x"))]);
    cleaner.append_batch(&txn(0, "1"));
    cleaner.end_txn(1, false);
    cleaner.append(&[("2", Some("x"))]);
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(0, 0, false), (1, 1, true), (2, 1, false)], "the last sequence is kept");
    cleaner.append_batch(&txn(1, "3"));
    cleaner.end_txn(1, true);
    cleaner.append(&[("2", Some("y"))]);
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(1, 1, true), (3, 1, false), (4, 1, true), (5, 1, false)]);
    cleaner.append(&[("2", Some("z"))]);
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(1, 1, true), (3, 1, false), (4, 1, true), (6, 1, false)], "it gets its horizon");
    cleaner.now_ms += RETENTION_MS;
    cleaner.append(&[("2", Some("end"))]);
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(3, 1, false), (4, 1, true), (7, 1, false)]);
}

// M 187
#[test]
fn marker_of_a_commit_waits_for_its_records_and_its_horizon() {
    let mut cleaner = Cleaner::new();
    let txn = |key: &str| data(BatchBuilder::new().producer(7, 0, 0).transactional(), &[(key, Some("x"))]);
    cleaner.append(&[("1", Some("x"))]);
    cleaner.append_batch(&txn("2"));
    cleaner.end_txn(7, true);
    cleaner.append(&[("2", Some("y"))]);
    cleaner.append_batch(&data(BatchBuilder::new().producer(7, 0, 1), &[("3", Some("x"))]));
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(0, 1, false), (2, 1, true), (3, 1, false), (4, 1, false)]);
    cleaner.append(&[("1", Some("y"))]);
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(2, 1, true), (3, 1, false), (4, 1, false), (5, 1, false)]);
    cleaner.now_ms += RETENTION_MS;
    cleaner.append(&[("1", Some("z"))]);
    cleaner.pass();
    assert_eq!(cleaner.batches(), [(3, 1, false), (4, 1, false), (6, 1, false)]);
}

// M 198
#[test]
fn full_map_ends_the_pass_and_the_next_one_resumes() {
    let mut cleaner = Cleaner::new();
    for _ in 0..4 {
        let keys: Vec<_> = (0..6).map(|key| format!("{key}")).collect();
        let records: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("x"))).collect();
        cleaner.append(&records);
    }
    cleaner.roll();
    let options = CleanerOptions { dedupe_buffer_bytes: 24 * 5, ..CleanerOptions::default() };
    let mut ends = Vec::new();
    while cleaner.checkpoint != Some(24) {
        let stats = cleaner.clean_with(&options);
        ends.push(stats.end_offset);
        assert!(stats.map_entries <= 4 && ends.len() < 20);
    }
    assert_eq!(ends, [4, 8, 12, 16, 20, 24]);
    // Each pass knows four keys only, so the newest records of all six are there, and nothing that a pass has seen twice.
    let found = cleaner.keys();
    assert_eq!(found[found.len() - 6..], owned(&[(18, "0"), (19, "1"), (20, "2"), (21, "3"), (22, "4"), (23, "5")]));
    cleaner.checkpoint = None;
    let stats = cleaner.clean();
    assert_eq!((stats.end_offset, cleaner.keys().len()), (24, 6));
}

// M 196
#[test]
fn segments_that_became_small_are_joined_and_their_files_go() {
    let mut cleaner = Cleaner::new();
    for round in 0..5 {
        for _ in 0..4 {
            cleaner.append(&[("a", Some("x")), (&format!("unique {round}"), Some("x"))]);
        }
        cleaner.roll();
    }
    cleaner.append(&[("b", Some("active"))]);
    let stats = cleaner.clean();
    assert_eq!((stats.segments_read, stats.segments_written), (5, 1));
    assert_eq!(cleaner.log().remove_retired_files(NOW_MS).unwrap(), 5 * 3 + 4);
    let left = names(cleaner.home.path());
    let logs: Vec<_> = left.iter().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(logs, ["00000000000000000000.log", "00000000000000000040.log"], "{left:?}");
    assert!(
        left.iter().all(|name| !name.contains(".cleaned") && !name.contains(".swap") && !name.contains(".deleted"))
    );
    cleaner.append(&[("b", Some("more"))]);
    let before = cleaner.bytes();
    let Cleaner { directory, home, .. } = cleaner;
    directory.close().unwrap();
    let directory = LogDirectory::open(home.path()).unwrap();
    let mut cleaner = Cleaner { directory, config: config(), checkpoint: None, now_ms: NOW_MS, home };
    assert_eq!(cleaner.bytes(), before);
}

#[test]
fn compressed_batches_lose_records_and_keep_their_codec() {
    let mut cleaner = Cleaner::new();
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    for codec in codecs {
        let builder = BatchBuilder::new().compression(Compression::with_default_level(codec));
        let own = format!("own {codec:?}");
        cleaner.append_batch(&data(builder, &[("shared", Some("x")), (&own, Some("y")), ("gone", None)]));
    }
    cleaner.append(&[("gone", Some("z")), ("shared", Some("z"))]);
    cleaner.pass();
    let bytes = cleaner.bytes();
    let found: Vec<_> =
        Batches::new(&bytes).map(|batch| batch.unwrap().header().attributes().codec().unwrap()).collect();
    assert_eq!(found[..5], codecs);
    assert_eq!(cleaner.keys().len(), 7);
}

// M 194
#[test]
fn damaged_batch_is_reported_and_nothing_changes() {
    let mut cleaner = Cleaner::new();
    for _ in 0..3 {
        cleaner.append(&[("a", Some("value")), ("b", Some("value"))]);
    }
    cleaner.roll();
    let path = cleaner.home.path().join("clean-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    let before = names(cleaner.home.path());
    let log = cleaner.log();
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let error =
        log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue).unwrap_err();
    assert!(matches!(error, LogError::Segment(duramen::SegmentError::Corrupt { base_offset: 0, .. })), "{error}");
    assert!(!log.is_poisoned());
    assert_eq!((fs::read(&path).unwrap(), names(cleaner.home.path())), (bytes, before));
}

// M 200
#[test]
fn pass_is_given_up_when_its_host_or_the_log_wants_it() {
    let mut cleaner = Cleaner::new();
    for _ in 0..20 {
        cleaner.append(&[("a", Some("value")), ("b", Some("value"))]);
    }
    cleaner.roll();
    let before = cleaner.bytes();
    let log = cleaner.log();
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let options = CleanerOptions { io_buffer_bytes: 100, ..CleanerOptions::default() };
    for stop in 0..8 {
        let mut reports = 0;
        let error = log.clean(&to_clean, &options, NOW_MS, &mut |_: CleanerProgress| {
            reports += 1;
            if reports > stop { CleanerControl::Abort } else { CleanerControl::Continue }
        });
        assert!(matches!(error, Err(LogError::CleaningAborted { .. })));
    }
    // One at a time; a truncation ends it.
    let cleaning = log.begin_cleaning(&to_clean, NOW_MS).unwrap();
    assert!(matches!(log.begin_cleaning(&to_clean, NOW_MS), Err(LogError::InvalidArgument { .. })));
    let cleaned = cleaning.run(&options, &mut |_| CleanerControl::Continue).unwrap();
    log.truncate_to(38, NOW_MS).unwrap();
    assert!(matches!(log.finish_cleaning(cleaned, NOW_MS), Err(LogError::CleaningAborted { .. })));
    assert!(!log.is_poisoned());
    let after = cleaner.bytes();
    assert!(before.starts_with(&after) && keys(&after).len() == 38);
    cleaner.pass();
    assert_eq!(cleaner.keys().len(), 2);
    assert!(names(cleaner.home.path()).iter().all(|name| !name.ends_with(".cleaned")));
}

#[test]
fn slices_from_before_keep_their_bytes_and_readers_see_no_error() {
    let mut cleaner = Cleaner::new();
    let mut expected = BTreeMap::new();
    let done = AtomicBool::new(false);
    for n in 0..50 {
        cleaner.append(&[(&format!("{}", n % 7), Some("a value of some length")), ("other", Some("x"))]);
    }
    cleaner.roll();
    let reader = cleaner.log().reader();
    let held: Vec<_> = (0..100)
        .step_by(2)
        .map(|offset| {
            reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap().records.unwrap()
        })
        .map(|records| (records.to_vec().unwrap(), records))
        .collect();
    thread::scope(|scope| {
        for _ in 0..2 {
            let reader = reader.clone();
            let done = &done;
            scope.spawn(move || {
                let mut offset = 0;
                while !done.load(Ordering::Relaxed) {
                    let fetch = Fetch { isolation: Isolation::LogEnd, max_bytes: 600, ..Fetch::from(offset) };
                    let fetched = reader.read(fetch).unwrap();
                    let bytes = fetched.records.map_or(Vec::new(), |records| records.to_vec().unwrap());
                    let last = Batches::new(&bytes)
                        .map(|batch| batch.unwrap())
                        .inspect(|batch| batch.check_crc().unwrap())
                        .last();
                    offset = last.map_or(0, |last| last.header().next_offset());
                }
            });
        }
        for round in 0..30 {
            cleaner.now_ms += 1;
            for n in 0..5 {
                let key = format!("{n}");
                cleaner.append(&[(&key, Some("another value"))]);
                expected.insert(key, cleaner.log().offsets().log_end - 1);
            }
            let stats = cleaner.pass();
            assert!(stats.messages_written > 0);
            if round % 3 == 0 {
                cleaner.log().remove_retired_files(i64::MAX).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(held.iter().all(|(bytes, records)| *bytes == records.to_vec().unwrap()));
    for (offset, key) in cleaner.keys() {
        assert!(expected.get(&key).is_none_or(|last| *last == offset), "{key} at {offset}");
    }
}

// M 183
#[test]
fn append_and_roll_during_a_run_do_not_disturb_it() {
    let mut cleaner = Cleaner::new();
    for n in 0..30 {
        cleaner.append(&[(&format!("{}", n % 5), Some("value"))]);
    }
    cleaner.roll();
    let log = cleaner.log();
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let cleaning = log.begin_cleaning(&to_clean, NOW_MS).unwrap();
    let runner = thread::spawn(move || cleaning.run(&CleanerOptions::default(), &mut |_| CleanerControl::Continue));
    for _ in 0..20 {
        let builder = BatchBuilder::new().record(NOW_MS, Some(b"0"), Some(b"newer"));
        let batch = validate(builder.build().unwrap(), &ValidationPolicy::from_config(&config()), NOW_MS).unwrap();
        log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    let cleaned = runner.join().unwrap().unwrap();
    assert_eq!(log.finish_cleaning(cleaned, NOW_MS).unwrap().end_offset, 30);
    let found = cleaner.keys();
    assert_eq!((found.len(), &found[..5]), (25, &owned(&[(25, "0"), (26, "1"), (27, "2"), (28, "3"), (29, "4")])[..]));
}

#[test]
fn range_that_the_log_no_longer_allows_is_refused() {
    let mut cleaner = Cleaner::new();
    for n in 0..60 {
        cleaner.append(&[(&format!("k{}", n % 5), Some("value"))]);
    }
    cleaner.roll();
    let log = cleaner.log();
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    assert!(to_clean.first_uncleanable_offset > 0);
    let refused = |log: &mut Log, to_clean: &LogToClean| {
        matches!(log.begin_cleaning(to_clean, NOW_MS), Err(LogError::InvalidArgument { .. }))
    };
    let unaligned = LogToClean { first_uncleanable_offset: to_clean.first_uncleanable_offset - 1, ..to_clean };
    assert!(refused(log, &unaligned));
    // Cut and written anew, but not committed: what stands there now may not be cleaned.
    log.truncate_to(0, NOW_MS).unwrap();
    for n in 0..60 {
        cleaner.append(&[(&format!("k{}", n % 5), Some("value"))]);
    }
    let log = cleaner.log();
    log.roll(NOW_MS).unwrap();
    let stale = LogToClean { first_uncleanable_offset: log.offsets().log_end, ..to_clean };
    assert!(log.offsets().last_stable < stale.first_uncleanable_offset);
    assert!(refused(log, &stale));
}
