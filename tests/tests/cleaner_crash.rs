//! Crashes at every operation that puts cleaned segments in place, and at every operation of the recovery after it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    AppendAsLeader, CleanerControl, CleanerOptions, DirectoryOptions, Log, LogConfig, LogDirectory, TopicPartition,
    ValidationPolicy,
    format::{
        batch::{Batch, Batches, assign_in_place},
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    },
    validate,
};
use duramen_tests::{
    disk::{Crash, SimDisk},
    history,
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

const NOW_MS: i64 = 1_700_000_000_000;
const CRASHES: [Crash; 6] =
    [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::ZeroTail, Crash::Random(1), Crash::Torn(2)];

fn config() -> LogConfig {
    let mut config =
        LogConfig { segment_bytes: 1000, index_interval_bytes: 100, segment_index_bytes: 240, ..LogConfig::default() };
    config.cleanup_policy.compact = true;
    config.cleanup_policy.delete = false;
    config
}

fn partition() -> TopicPartition {
    TopicPartition::new("history", 0).unwrap()
}

fn open(disk: &SimDisk) -> LogDirectory {
    let options =
        DirectoryOptions { now_ms: Some(NOW_MS), lock_timeout: Duration::from_secs(2), ..DirectoryOptions::default() };
    LogDirectory::open_on(history::on(disk), options).unwrap()
}

fn append(log: &mut Log, keys: &[&str], value: &str) {
    let mut builder = BatchBuilder::new();
    for key in keys {
        builder = builder.record(NOW_MS, Some(key.as_bytes()), Some(format!("{value} {}", "x".repeat(30)).as_bytes()));
    }
    let batch = validate(builder.build().unwrap(), &ValidationPolicy::from_config(&config()), NOW_MS).unwrap();
    log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
}

fn append_raw(log: &mut Log, mut bytes: Vec<u8>) {
    assign_in_place(&mut bytes, log.offsets().log_end, 0).unwrap();
    log.append_as_follower(&bytes, 0, NOW_MS).unwrap();
}

/// Many segments, several groups, an aborted transaction whose emptied batch and marker stay.
fn fill(log: &mut Log) {
    for round in 0..4 {
        append(log, &["a", "b", "c"], &format!("round {round}"));
        append(log, &[&format!("unique {round}"), "d"], &format!("round {round}"));
        if round == 1 {
            append_raw(
                log,
                BatchBuilder::new()
                    .producer(5, 0, 0)
                    .transactional()
                    .record(NOW_MS, Some(b"a"), Some(b"aborted"))
                    .build()
                    .unwrap(),
            );
            let marker = EndTxnMarker { committed: false, coordinator_epoch: 0 };
            append_raw(log, end_txn_marker(5, 0, marker, NOW_MS).unwrap());
        }
        log.roll(NOW_MS).unwrap();
    }
    for key in ["a", "b", "c", "d"] {
        append(log, &[key], "last");
    }
    log.roll(NOW_MS).unwrap();
    append(log, &["a"], "active");
    log.flush().unwrap();
    log.update_high_watermark(log.offsets().log_end);
}

/// Runs until the crash, if there is one.
fn clean(disk: &SimDisk, crash_at: Option<u64>) -> (u64, u64) {
    let mut directory = open(disk);
    fill(directory.get_or_create(&partition(), &config()).unwrap());
    // Recovery then trusts the cleaned segments, as they are, with their indexes.
    directory.checkpoint().unwrap();
    let log = directory.get_or_create(&partition(), &config()).unwrap();
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    assert!(to_clean.is_eligible, "{to_clean:?}");
    let options = CleanerOptions { hash_seed: 3, ..CleanerOptions::default() };
    let cleaned =
        log.begin_cleaning(&to_clean, NOW_MS).unwrap().run(&options, &mut |_| CleanerControl::Continue).unwrap();
    assert!(cleaned.stats().segments_written > 1 && cleaned.stats().segments_read > cleaned.stats().segments_written);
    let first = disk.operations();
    if let Some(operation) = crash_at {
        disk.crash_at(operation);
    }
    let finished = log.finish_cleaning(cleaned, NOW_MS);
    assert_eq!(finished.is_err(), disk.crashed(), "{finished:?}");
    (first, disk.operations())
}

/// Every record by offset: its key and value.
fn records(log: &Log) -> BTreeMap<i64, (Vec<u8>, Vec<u8>)> {
    let bytes = history::read_all(log);
    let mut found = BTreeMap::new();
    for batch in Batches::new(&bytes) {
        let batch: Batch<'_> = batch.unwrap();
        if batch.header().attributes().is_control() {
            continue;
        }
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            found.insert(record.offset(), (record.key().unwrap().to_vec(), record.value().unwrap().to_vec()));
        }
    }
    found
}

fn last_values(records: &BTreeMap<i64, (Vec<u8>, Vec<u8>)>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    records.values().cloned().collect()
}

struct Expected {
    before: BTreeMap<i64, (Vec<u8>, Vec<u8>)>,
    after: BTreeMap<i64, (Vec<u8>, Vec<u8>)>,
    log_end: i64,
    /// Every file of the cleaned log.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

fn expected() -> Expected {
    let disk = SimDisk::new(7);
    let mut directory = open(&disk);
    fill(directory.get_or_create(&partition(), &config()).unwrap());
    // Recovery then trusts the cleaned segments, as they are, with their indexes.
    directory.checkpoint().unwrap();
    let log = directory.get_or_create(&partition(), &config()).unwrap();
    let (before, log_end) = (records(log), log.offsets().log_end);
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let stats = log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue).unwrap();
    assert_eq!(stats.end_offset, to_clean.first_uncleanable_offset);
    let after = records(log);
    assert!(after.len() < before.len() / 2, "{} of {}", after.len(), before.len());
    let files = disk.files();
    assert!(files.keys().any(|path| path.extension().is_some_and(|extension| extension == "txnindex")));
    Expected { before, after, log_end, files }
}

/// Opens what a crash left: everything is there that a cleaned log holds, and nothing that was not.
fn check(disk: &SimDisk, expected: &Expected) {
    let mut directory = open(disk);
    let log = directory.get_or_create(&partition(), &config()).unwrap();
    let found = records(log);
    assert!(expected.after.iter().all(|(offset, record)| found.get(offset) == Some(record)), "a record is lost");
    // The aborted record may come back until the cleaning is done again: a reader knows that it is aborted.
    assert!(found.iter().all(|(offset, record)| expected.before.get(offset) == Some(record)), "a record is strange");
    assert_eq!(last_values(&found), last_values(&expected.before));
    assert_eq!(log.offsets().log_end, expected.log_end);
    let left: Vec<_> = disk
        .files()
        .into_keys()
        .filter(|path| [".cleaned", ".swap", ".deleted"].iter().any(|end| path.to_string_lossy().ends_with(end)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    check_segments(disk, expected);
    // It works, and the cleaning can be done again.
    append(log, &["e"], "after");
    log.update_high_watermark(log.offsets().log_end);
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue).unwrap();
    let again = records(log);
    assert!(expected.after.iter().all(|(offset, record)| again.get(offset) == Some(record)));
    assert_eq!(again.len(), expected.after.len() + 1);
    directory.close().unwrap();
}

/// Segments do not overlap, and a cleaned one has the indexes that were written for it.
fn check_segments(disk: &SimDisk, expected: &Expected) {
    let files = disk.files();
    let mut next_offset = 0;
    for (path, bytes) in files.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "log")) {
        let base_offset: i64 = path.file_stem().unwrap().to_string_lossy().parse().unwrap();
        assert!(base_offset >= next_offset, "{path:?} overlaps the segment before it");
        for batch in Batches::new(bytes) {
            next_offset = batch.unwrap().header().next_offset();
        }
        if expected.files.get(path) == Some(bytes) {
            for extension in ["index", "timeindex", "txnindex"] {
                let index = path.with_extension(extension);
                assert_eq!(files.get(&index), expected.files.get(&index), "{index:?}");
            }
        }
    }
}

// M 201
#[test]
fn crash_at_any_step_of_a_swap_leaves_the_old_or_the_cleaned_records() {
    let expected = expected();
    let (first, end) = clean(&SimDisk::new(7), None);
    let mut checked = 0;
    for operation in first..=end {
        let disk = SimDisk::new(7);
        clean(&disk, Some(operation));
        for how in CRASHES.into_iter().chain((0..24).map(|n| Crash::Random(operation * 100 + n))) {
            let image = disk.crash_image(how);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&image, &expected)));
            if let Err(failure) = outcome {
                let text = failure.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into());
                panic!(
                    "crash at operation {operation} ({first} to {end}), {how:?}: {text}\n{:#?}",
                    disk.trace().iter().rev().take(30).collect::<Vec<_>>()
                );
            }
            checked += 1;
        }
    }
    println!("{checked} crashed disks checked");
    assert!(checked > 300);
}

// M 201
#[test]
fn crash_of_the_recovery_of_a_swap_is_just_another_crash() {
    let expected = expected();
    let (first, end) = clean(&SimDisk::new(7), None);
    let mut checked = 0;
    for operation in first..end {
        let disk = SimDisk::new(7);
        clean(&disk, Some(operation));
        let how = if operation % 3 == 0 { Crash::KeepAll } else { Crash::Random(operation) };
        {
            let mut at = 0;
            loop {
                let again = disk.crash_image(how);
                again.crash_at(at);
                if let Ok(mut directory) = history::open(&history::on(&again)) {
                    let _ = directory.get_or_create(&partition(), &config());
                }
                if !again.crashed() {
                    break;
                }
                let second = if at % 3 == 0 { Crash::LoseAllUnsynced } else { Crash::Random(at) };
                {
                    let image = again.crash_image(second);
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&image, &expected)));
                    if let Err(failure) = outcome {
                        let text = failure.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into());
                        panic!("crash at {operation}, {how:?}, then at {at} of the recovery, {second:?}: {text}");
                    }
                    checked += 1;
                }
                at += 1;
            }
        }
    }
    println!("{checked} crashed disks checked");
    assert!(checked > 300);
}
