//! A log directory as a whole: its marker, its checkpoints, and the files of its logs.
#![allow(clippy::unwrap_used)]

use duramen::{
    DirectoryOptions, KafkaErrorCode, Log, LogConfig, LogDirectory, OpenError, TopicPartition, ValidationPolicy,
    storage::Storage, validate,
};
use duramen_tests::{
    disk::{Fault, SimDisk},
    fixture::{Fixture, NOW_MS, batch, batch_at, files},
};
use nix::errno::Errno;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const MARKER: &str = ".kafka_cleanshutdown";

fn open(disk: &SimDisk) -> LogDirectory {
    let options = DirectoryOptions { now_ms: Some(NOW_MS), lock_timeout: Duration::ZERO, ..Default::default() };
    LogDirectory::open_on(Arc::new(disk.clone()) as Arc<dyn Storage>, options).unwrap()
}

fn topic(number: i32) -> TopicPartition {
    TopicPartition::new("topic", number).unwrap()
}

fn append(log: &mut Log, records: usize) {
    let policy = ValidationPolicy::from_config(&log.config());
    let batch = validate(batch(records).build().unwrap(), &policy, NOW_MS).unwrap();
    log.append_as_leader(batch, duramen::AppendAsLeader::new(0, NOW_MS)).unwrap();
}

/// A directory with logs of one record each, open.
fn filled(disk: &SimDisk, logs: i32) -> LogDirectory {
    let mut directory = open(disk);
    for number in 0..logs {
        append(directory.get_or_create(&topic(number), &LogConfig::default()).unwrap(), 1);
    }
    directory
}

fn text(disk: &SimDisk, name: &str) -> Option<String> {
    disk.files().remove(Path::new(name)).map(|bytes| String::from_utf8(bytes).unwrap())
}

// M 87, 214
#[test]
fn marker_is_written_when_every_log_was_closed_in_order() {
    let disk = SimDisk::new(0);
    filled(&disk, 2).close().unwrap();
    assert_eq!(text(&disk, MARKER).as_deref(), Some("{\"version\":0,\"brokerEpoch\":-1}"));
    let directory = open(&disk);
    assert!(directory.report().clean);
    assert_eq!(text(&disk, MARKER), None, "it is taken away before anything is written");
    drop(directory);
    assert!(!open(&disk).report().clean);
}

// M 214
#[test]
fn marker_is_not_written_when_a_log_failed_to_close_or_was_never_opened() {
    let disk = SimDisk::new(0);
    let directory = filled(&disk, 2);
    disk.fail_next("sync topic-1/", Fault::Error(Errno::EIO));
    assert!(matches!(directory.close(), Err(OpenError::Partition { .. })));
    assert_eq!(text(&disk, MARKER), None);
    disk.heal();
    let mut directory = open(&disk);
    directory.get(&topic(0), &LogConfig::default()).unwrap();
    directory.close().unwrap();
    assert_eq!(text(&disk, MARKER), None, "the other log was not recovered yet");
    let mut directory = open(&disk);
    for number in 0..2 {
        directory.get(&topic(number), &LogConfig::default()).unwrap();
    }
    directory.close().unwrap();
    assert!(text(&disk, MARKER).is_some());
}

// M 215
#[test]
fn retention_leaves_four_files_a_segment_and_that_of_the_epochs() {
    let old = batch_at(&[10]);
    let size = u32::try_from(old.build().unwrap().len()).unwrap();
    let by_time = LogConfig { segment_bytes: 10 * size, retention_ms: Some(1000), ..LogConfig::default() };
    let by_size = LogConfig {
        retention_ms: None,
        retention_bytes: Some(u64::from(5 * 10 * size + 10)),
        file_delete_delay_ms: 0,
        ..by_time.clone()
    };
    for (config, segments) in [(by_time, 1), (by_size, 6)] {
        let mut log = Fixture::new(config);
        for _ in 0..200 {
            log.append(&old).unwrap();
        }
        log.replicate();
        assert_eq!(log.bases().len(), 20);
        log.delete_old_segments(NOW_MS).unwrap();
        log.remove_retired_files(i64::MAX).unwrap();
        assert_eq!(log.bases().len(), segments);
        assert!(log.delete_old_segments(NOW_MS).unwrap().is_empty());
        let (disk, _) = log.close();
        // The log end has a snapshot of its own unless it is the base of the last segment.
        let at_end = usize::from(segments > 1);
        assert_eq!(files(&disk).len(), segments * 4 + 1 + at_end, "{:?}", files(&disk));
    }
}

// M 217
#[test]
fn log_is_flushed_when_its_time_has_passed() {
    let mut log = Fixture::new(LogConfig { flush_ms: 1000, ..LogConfig::default() });
    log.fill(3, 1);
    assert!(!log.flush_if_due(NOW_MS + 999).unwrap());
    assert_eq!(log.offsets().recovery_point, 0);
    assert!(log.flush_if_due(NOW_MS + 1000).unwrap());
    assert_eq!(log.offsets().recovery_point, 3);
    log.fill(1, 1);
    assert!(!log.flush_if_due(NOW_MS + 1999).unwrap());
    assert!(log.flush_if_due(NOW_MS + 2000).unwrap());
}

// M 217
#[test]
fn log_is_flushed_after_so_many_records() {
    let mut log = Fixture::new(LogConfig { flush_messages: 3, ..LogConfig::default() });
    log.fill(2, 1);
    assert_eq!(log.offsets().recovery_point, 0);
    log.fill(1, 1);
    assert_eq!(log.offsets().recovery_point, 3);
}

// M 219
#[test]
fn recovery_points_in_the_checkpoint_are_those_of_the_logs() {
    let disk = SimDisk::new(0);
    let mut directory = filled(&disk, 3);
    for number in [0, 2] {
        let log = directory.get(&topic(number), &LogConfig::default()).unwrap();
        log.flush().unwrap();
        append(log, 4);
    }
    directory.checkpoint().unwrap();
    let written = text(&disk, "recovery-point-offset-checkpoint").unwrap();
    assert_eq!(written, "0\n3\ntopic 0 1\ntopic 1 0\ntopic 2 1\n");
}

// M 219
#[test]
fn path_with_a_slash_at_the_end_and_a_relative_one_are_the_same_directory() {
    let home = tempfile::tempdir().unwrap();
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = up.join(home.path().strip_prefix("/").unwrap());
    let slashed = PathBuf::from(format!("{}/", home.path().display()));
    for (path, expected) in [(relative, 0), (slashed, 1), (home.path().to_path_buf(), 2)] {
        let mut directory = LogDirectory::open(&path).unwrap();
        let log = directory.get_or_create(&topic(0), &LogConfig::default()).unwrap();
        assert_eq!(log.offsets().log_end, expected, "{}", path.display());
        append(log, 1);
        directory.close().unwrap();
    }
}

// M 222: nothing is tiered here.
#[test]
fn log_start_is_in_its_checkpoint_only_if_the_first_segment_does_not_tell_it() {
    let disk = SimDisk::new(0);
    let mut directory = filled(&disk, 2);
    let log = directory.get(&topic(0), &LogConfig::default()).unwrap();
    append(log, 4);
    log.update_high_watermark(5);
    log.increment_log_start_offset(3).unwrap();
    directory.checkpoint().unwrap();
    assert_eq!(text(&disk, "log-start-offset-checkpoint").unwrap(), "0\n1\ntopic 0 3\n");
    let log = directory.get(&topic(0), &LogConfig::default()).unwrap();
    log.roll(NOW_MS).unwrap();
    log.increment_log_start_offset(5).unwrap();
    log.delete_old_segments(NOW_MS).unwrap();
    directory.checkpoint().unwrap();
    assert_eq!(text(&disk, "log-start-offset-checkpoint").unwrap(), "0\n0\n");
}

// M 223: the cache of tiered indexes is one of the directories that are not ours; strays are for the host to tell.
#[test]
fn directories_of_others_and_of_deleted_logs_are_left_alone() {
    let disk = SimDisk::new(0);
    filled(&disk, 1).close().unwrap();
    let others = ["remote-log-index-cache", "lost+found", "topic-0.0123456789abcdef0123456789abcdef-delete"];
    for name in others {
        disk.create_dir(Path::new(name)).unwrap();
    }
    let directory = open(&disk);
    assert_eq!(directory.partitions(), [topic(0)]);
    assert_eq!(directory.report().foreign, ["lost+found", "remote-log-index-cache"]);
    let names = disk.list(Path::new("")).unwrap();
    assert!(others.iter().all(|name| names.iter().any(|entry| entry.name == *name)));
}

// M 224: whoever runs cleanings gives the one up that a topic without compaction no longer wants.
#[test]
fn changed_configuration_holds_from_the_next_append_on() {
    let disk = SimDisk::new(0);
    let mut directory = filled(&disk, 1);
    let log = directory.get(&topic(0), &LogConfig::default()).unwrap();
    let size = u32::try_from(batch(1).build().unwrap().len()).unwrap();
    log.set_config(LogConfig { segment_bytes: size, max_message_bytes: size, ..LogConfig::default() });
    append(log, 1);
    assert_eq!(log.reader().segments().unwrap().len(), 2);
    let policy = ValidationPolicy::from_config(&log.config());
    let larger = validate(batch(2).build().unwrap(), &policy, NOW_MS).unwrap_err();
    assert_eq!(larger.kafka_error_code(), KafkaErrorCode::MessageTooLarge);
}

// M 226: what a broker then does with the directory and its partitions is the broker's.
#[test]
fn roll_or_checkpoint_that_the_disk_fails_is_a_storage_error() {
    let size = u32::try_from(batch(1).build().unwrap().len()).unwrap();
    let mut log = Fixture::new(LogConfig { segment_bytes: size, ..LogConfig::default() });
    log.fill(1, 1);
    log.disk.fail_next("sync fixture-0", Fault::Error(Errno::EIO));
    let failed = log.append(&batch(1)).unwrap_err();
    assert_eq!(failed.kafka_error_code(), KafkaErrorCode::KafkaStorageError);
    assert!(log.is_poisoned());
    assert_eq!((log.offsets().log_end, log.records().len()), (1, 1));
    let disk = SimDisk::new(0);
    let mut directory = filled(&disk, 1);
    disk.fail_next("recovery-point", Fault::Error(Errno::EIO));
    assert!(matches!(directory.checkpoint(), Err(OpenError::Storage(_))));
}
