//! A log directory over its life: partitions that go, retention and compaction of several logs, what the checkpoints keep.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, CleanerControl, CleanerOptions, DirectoryOptions, Log, LogConfig, LogDirectory, LogError,
    OpenError, TopicPartition, ValidationPolicy,
    format::{builder::BatchBuilder, checkpoint},
    validate,
};
use std::{fs, path::Path};
use tempfile::TempDir;

const NOW_MS: i64 = 1_700_000_000_000;

fn at(dir: &Path, now_ms: i64) -> LogDirectory {
    let options = DirectoryOptions { now_ms: Some(now_ms), file_delete_delay_ms: 1000, ..DirectoryOptions::default() };
    LogDirectory::open_with(dir, options).unwrap()
}

fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0).unwrap()
}

fn append(log: &mut Log, key: &str, value: &str) {
    let bytes = BatchBuilder::new().record(NOW_MS, Some(key.as_bytes()), Some(value.as_bytes())).build().unwrap();
    let batch = validate(bytes, &ValidationPolicy::from_config(&log.config()), NOW_MS).unwrap();
    log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
    let log_end = log.offsets().log_end;
    log.update_high_watermark(log_end);
}

fn compacted() -> LogConfig {
    LogConfig::from_properties([("cleanup.policy", "compact"), ("internal.segment.bytes", "400")]).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

// M 220
#[test]
fn deleted_partition_is_gone_at_once_and_its_files_after_the_delay() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    append(directory.get_or_create(&partition("gone"), &LogConfig::default()).unwrap(), "k", "v");
    append(directory.get_or_create(&partition("stays"), &LogConfig::default()).unwrap(), "k", "v");
    directory.checkpoint().unwrap();
    directory.delete(&partition("gone")).unwrap();
    assert_eq!(directory.partitions(), [partition("stays")]);
    assert!(matches!(directory.delete(&partition("gone")), Err(OpenError::UnknownPartition { .. })));
    assert!(matches!(
        directory.get(&partition("gone"), &LogConfig::default()),
        Err(OpenError::UnknownPartition { .. })
    ));
    let points = fs::read(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(checkpoint::decode_offsets(&points).unwrap().len(), 1, "the checkpoints forget it");
    assert_eq!(directory.remove_deleted_files().unwrap(), Vec::<std::path::PathBuf>::new());
    assert!(names(dir.path()).iter().any(|name| name.ends_with("-delete")), "not before the delay");
    // A new partition of the same name begins anew beside the old one's files.
    assert_eq!(directory.get_or_create(&partition("gone"), &LogConfig::default()).unwrap().offsets().log_end, 0);
    directory.close().unwrap();
    let mut directory = at(dir.path(), NOW_MS + 5000);
    assert_eq!(directory.report().deleted.len(), 1);
    directory.remove_deleted_files().unwrap();
    assert!(names(dir.path()).iter().any(|name| name.ends_with("-delete")), "the delay begins anew with an open");
    drop(directory);
    let options = DirectoryOptions { file_delete_delay_ms: 0, ..DirectoryOptions::default() };
    let mut directory = LogDirectory::open_with(dir.path(), options).unwrap();
    directory.remove_deleted_files().unwrap();
    assert!(!names(dir.path()).iter().any(|name| name.ends_with("-delete")));
}

// M 78
#[test]
fn directory_of_a_deleted_partition_stays_while_somebody_elses_file_lies_in_it() {
    let dir = TempDir::new().unwrap();
    let options = DirectoryOptions { file_delete_delay_ms: 0, ..DirectoryOptions::default() };
    let mut directory = LogDirectory::open_with(dir.path(), options).unwrap();
    directory.get_or_create(&partition("t"), &LogConfig::default()).unwrap();
    fs::write(dir.path().join("t-0/notes.txt"), "mine").unwrap();
    directory.delete(&partition("t")).unwrap();
    let kept = directory.remove_deleted_files().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(names(&dir.path().join(&kept[0])), ["notes.txt"], "P11");
}

#[test]
fn stray_and_future_directories_are_told_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    append(directory.get_or_create(&partition("lost"), &LogConfig::default()).unwrap(), "k", "v");
    directory.set_aside_as_stray(&partition("lost")).unwrap();
    fs::create_dir(dir.path().join("t-0.3f2504e04f8941d39a0c0305e82c3301-future")).unwrap();
    directory.close().unwrap();
    let directory = at(dir.path(), NOW_MS);
    assert!(directory.partitions().is_empty() && directory.report().foreign.is_empty());
    assert_eq!((directory.report().stray.len(), directory.report().future.len()), (1, 1));
    let stray = dir.path().join(&directory.report().stray[0]);
    assert!(names(&stray).contains(&"00000000000000000000.log".to_owned()));
}

// M 209: retention goes its own way beside cleanings, and looks at every log.
#[test]
fn retention_looks_after_every_log_by_its_own_configuration() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS + 10_000);
    let short = LogConfig { retention_ms: Some(5000), segment_bytes: 400, ..LogConfig::default() };
    let long = LogConfig { retention_ms: None, segment_bytes: 400, ..LogConfig::default() };
    for (topic, config) in [("long", &long), ("short", &short)] {
        for _ in 0..20 {
            append(directory.get_or_create(&partition(topic), config).unwrap(), "k", "a value of some length");
        }
    }
    let done = directory.apply_retention();
    assert!(done.failed.is_empty());
    let removed: Vec<_> = done.removed.iter().map(|(partition, _)| partition.clone()).collect();
    assert_eq!(removed, [partition("short")]);
    let log = directory.get(&partition("short"), &short).unwrap();
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (20, 20));
    assert!(names(&dir.path().join("short-0")).iter().any(|name| name.ends_with(".log.deleted")));
    assert!(directory.apply_retention().removed.is_empty(), "a second pass finds nothing");
}

// M 204, 211
#[test]
fn dirtiest_log_is_compacted_first_and_the_point_is_remembered() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    let config = compacted();
    for (topic, count) in [("few", 12), ("many", 40)] {
        for n in 0..count {
            append(directory.get_or_create(&partition(topic), &config).unwrap(), &format!("k{}", n % 3), "value");
        }
    }
    let clean = |directory: &mut LogDirectory| {
        directory.clean_dirtiest(&CleanerOptions::default(), &mut |_| CleanerControl::Continue).unwrap()
    };
    let before = directory.get(&partition("many"), &config).unwrap().reader().size();
    let (first, stats) = clean(&mut directory).unwrap();
    let (second, _) = clean(&mut directory).unwrap();
    assert_ne!(first, second);
    assert!(clean(&mut directory).is_none(), "nothing is dirty enough any more");
    assert!(directory.get(&partition("many"), &config).unwrap().reader().size() < before);
    let points = fs::read(dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(checkpoint::decode_offsets(&points).unwrap().get(&first), Some(&stats.end_offset));
    directory.close().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    directory.get(&first, &config).unwrap();
    assert_eq!(directory.log_to_clean(&first).unwrap().unwrap().first_dirty_offset, stats.end_offset);
    directory.get(&first, &config).unwrap().truncate_to(3, NOW_MS).unwrap();
    // To where the last batch that stays ends, and none stays below 3.
    assert_eq!(directory.log_to_clean(&first).unwrap().unwrap().first_dirty_offset, 0, "truncation lowers the point");
}

// M 204
#[test]
fn log_whose_cleaning_failed_is_named_and_left_out_and_one_given_up_is_not() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    let config = compacted();
    for (topic, count) in [("damaged", 40), ("whole", 12)] {
        for n in 0..count {
            append(directory.get_or_create(&partition(topic), &config).unwrap(), &format!("k{}", n % 3), "value");
        }
    }
    let path = dir.path().join("damaged-0/00000000000000000000.log");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"?", 70).unwrap();
    let clean =
        |directory: &mut LogDirectory, wish| directory.clean_dirtiest(&CleanerOptions::default(), &mut |_| wish);
    assert!(clean(&mut directory, CleanerControl::Abort).is_err(), "given up");
    let failed = clean(&mut directory, CleanerControl::Continue).unwrap_err();
    assert!(
        matches!(&failed, OpenError::Partition { partition: of, source: LogError::Segment(_) } if *of == partition("damaged")),
        "{failed}"
    );
    let (cleaned, _) = clean(&mut directory, CleanerControl::Continue).unwrap().unwrap();
    assert_eq!(cleaned, partition("whole"));
    assert!(clean(&mut directory, CleanerControl::Continue).unwrap().is_none());
}

// M 247
#[test]
fn high_watermarks_are_those_of_the_last_checkpoint() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    for (topic, high_watermark) in [("a", 1), ("b", 3)] {
        let log = directory.get_or_create(&partition(topic), &LogConfig::default()).unwrap();
        let bytes = || BatchBuilder::new().record(NOW_MS, None, Some(b"value")).build().unwrap();
        for _ in 0..3 {
            let batch = validate(bytes(), &ValidationPolicy::from_config(&log.config()), NOW_MS).unwrap();
            log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
        }
        log.update_high_watermark(high_watermark);
    }
    directory.checkpoint().unwrap();
    let log = directory.get(&partition("a"), &LogConfig::default()).unwrap();
    log.update_high_watermark(3);
    log.flush().unwrap();
    drop(directory);
    let mut directory = at(dir.path(), NOW_MS);
    for (topic, high_watermark) in [("a", 1), ("b", 3)] {
        let offsets = directory.get(&partition(topic), &LogConfig::default()).unwrap().offsets();
        assert_eq!((offsets.high_watermark, offsets.log_end), (high_watermark, 3), "{topic}");
    }
}

#[test]
fn cleaning_that_the_host_runs_itself_is_remembered_when_it_says_so() {
    let dir = TempDir::new().unwrap();
    let mut directory = at(dir.path(), NOW_MS);
    let config = compacted();
    for n in 0..40 {
        append(directory.get_or_create(&partition("t"), &config).unwrap(), &format!("k{}", n % 3), "value");
    }
    let to_clean = directory.log_to_clean(&partition("t")).unwrap().unwrap();
    let log = directory.get(&partition("t"), &config).unwrap();
    let cleaning = log.begin_cleaning(&to_clean, NOW_MS).unwrap();
    let run = |cleaning: duramen::Cleaning| {
        cleaning.run(&CleanerOptions::default(), &mut |_| CleanerControl::Continue).unwrap()
    };
    let cleaned = std::thread::spawn(move || run(cleaning)).join().unwrap();
    let stats = log.finish_cleaning(cleaned, NOW_MS).unwrap();
    directory.remember_cleaner_point(&partition("t"), stats.end_offset).unwrap();
    assert_eq!(directory.log_to_clean(&partition("t")).unwrap().unwrap().first_dirty_offset, stats.end_offset);
}
