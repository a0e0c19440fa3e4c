//! How many files a log directory keeps open: as many as it may, whatever is written to them and read.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, Background, CleanerControl, CleanerOptions, DirectoryOptions, Durability, Fetch, Isolation, Log,
    LogConfig, LogDirectory, LogError, LogManager, ManagerOptions, Partition, TopicPartition, ValidatedBatch,
    ValidationPolicy, format::builder::BatchBuilder, storage::Storage, validate,
};
use duramen_tests::{
    disk::{Crash, Fault, SimDisk},
    fixture::NOW_MS,
};
use nix::errno::Errno;
use std::{fs, path::Path, sync::Arc};
use tempfile::TempDir;

fn orders(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number).unwrap()
}

fn batch(value: &str) -> ValidatedBatch {
    let bytes = BatchBuilder::new().record(NOW_MS, Some(b"key"), Some(value.as_bytes())).build().unwrap();
    validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap()
}

fn value(partition: i32, round: i64) -> String {
    format!("partition {partition} round {round}")
}

fn limited(open_files: usize) -> DirectoryOptions {
    DirectoryOptions { now_ms: Some(NOW_MS), open_files: Some(open_files), ..DirectoryOptions::default() }
}

/// How many files below a directory this process has open.
fn open_below(dir: &Path) -> usize {
    let targets = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(dir) && target.extension().is_some_and(|it| it == "log")).count()
}

fn reads(partition: &Partition, number: i32, rounds: i64) {
    for round in 0..rounds {
        let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(round) };
        let bytes = partition.read(fetch).unwrap().records.unwrap().to_vec().unwrap();
        let value = value(number, round);
        assert!(bytes.windows(value.len()).any(|window| window == value.as_bytes()), "{number} at {round}");
    }
}

#[test]
fn many_partitions_are_written_and_read_with_few_files_open() {
    const PARTITIONS: i32 = 150;
    const ROUNDS: i64 = 6;
    for journal_bytes in [0, 4 << 20] {
        let dir = TempDir::new().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let options = ManagerOptions { directory: limited(12), journal_bytes, ..ManagerOptions::default() };
        let manager = LogManager::open(&[dir.path()], options.clone()).unwrap();
        manager.prepare().unwrap();
        let config = LogConfig { segment_bytes: 300, ..LogConfig::default() };
        for round in 0..ROUNDS {
            let durability = if round % 2 == 0 { Durability::Flushed } else { Durability::Written };
            let append = |number| {
                let partition = manager.get_or_create(&orders(number), &config).unwrap();
                let append = AppendAsLeader::new(0, NOW_MS);
                partition.append_as_leader(batch(&value(number, round)), append, durability).unwrap()
            };
            let appends: Vec<_> = (0..PARTITIONS).map(append).collect();
            assert!(appends.iter().all(|append| append.wait(None).is_ok()));
            // A piece on its way, and a sync, may hold a few more.
            assert!(open_below(&root) <= 12 + 8, "{} files are open", open_below(&root));
            assert!(manager.metrics()[0].open_files <= 12 + 8);
        }
        (0..PARTITIONS).for_each(|number| reads(&manager.get(&orders(number)).unwrap(), number, ROUNDS));
        assert!(open_below(&root) <= 12 + 8, "{} files are open", open_below(&root));
        manager.close().unwrap();
        drop(manager);
        assert_eq!(open_below(&root), 0);
        let manager = LogManager::open(&[dir.path()], options).unwrap();
        assert!(manager.reports().iter().all(|report| report.clean));
        manager.load(2, &|_| config.clone(), &|_| {}).unwrap();
        (0..PARTITIONS).for_each(|number| reads(&manager.get(&orders(number)).unwrap(), number, ROUNDS));
        manager.close().unwrap();
    }
}

/// A directory with two logs, of which one file at most is kept open.
fn two_logs(disk: &SimDisk) -> LogDirectory {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let mut directory = LogDirectory::open_on(storage, limited(1)).unwrap();
    for number in 0..2 {
        directory.get_or_create(&orders(number), &LogConfig::default()).unwrap();
    }
    directory
}

fn log_of(directory: &mut LogDirectory, number: i32) -> &mut Log {
    directory.get(&orders(number), &LogConfig::default()).unwrap()
}

fn append(log: &mut Log, value: &str) {
    log.append_as_leader(batch(value), AppendAsLeader::new(0, NOW_MS)).unwrap();
}

#[test]
fn file_is_synced_before_it_is_closed() {
    let disk = SimDisk::new(0);
    let mut directory = two_logs(&disk);
    append(log_of(&mut directory, 0), "first");
    assert_eq!(log_of(&mut directory, 0).offsets().recovery_point, 0);
    // Needs the room.
    append(log_of(&mut directory, 1), "second");
    let disk = disk.crash_image(Crash::LoseAllUnsynced);
    let mut directory = two_logs(&disk);
    assert_eq!(log_of(&mut directory, 0).offsets().log_end, 1);
}

#[test]
fn failure_of_the_sync_before_a_close_is_heard_by_the_next_flush() {
    let disk = SimDisk::new(0);
    let mut directory = two_logs(&disk);
    append(log_of(&mut directory, 0), "lost");
    disk.fail_next("sync orders-0/00000000000000000000.log", Fault::Error(Errno::EIO));
    append(log_of(&mut directory, 1), "kept");
    log_of(&mut directory, 1).flush().unwrap();
    let log = log_of(&mut directory, 0);
    // The disk is well again, but what it lost is lost.
    let flushed = log.flush();
    assert!(
        matches!(flushed, Err(LogError::Poisoned { .. } | LogError::Storage(_) | LogError::Segment(_))),
        "{flushed:?}"
    );
    assert!(log.flush().is_err());
    assert_eq!(log.offsets().recovery_point, 0);
}

#[test]
fn reader_of_a_compacted_segment_has_its_bytes_whatever_was_closed() {
    let disk = SimDisk::new(0);
    let mut directory = two_logs(&disk);
    let mut config = LogConfig { segment_bytes: 300, ..LogConfig::default() };
    config.cleanup_policy.compact = true;
    let log = log_of(&mut directory, 0);
    log.set_config(config);
    (0..8).for_each(|round| append(log, &value(0, round)));
    let slice = log.reader().read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(0) }).unwrap().records.unwrap();
    let before = slice.to_vec().unwrap();
    log.update_high_watermark(8);
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue).unwrap();
    append(log_of(&mut directory, 1), "needs the room");
    assert_eq!(slice.to_vec().unwrap(), before);
    let log = log_of(&mut directory, 0);
    let found = log.reader().read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(0) }).unwrap();
    assert!(found.records.is_some_and(|records| records.to_vec().unwrap() != before), "the first record is superseded");
}

#[test]
fn polled_manager_on_a_disk_that_keeps_nothing_open_survives_power_loss() {
    let disk = SimDisk::new(0).keeping_open(0);
    let options = || ManagerOptions {
        background: Background::Host,
        journal_bytes: 128 << 10,
        piece_bytes: 4096,
        directory: DirectoryOptions { open_files: None, ..limited(0) },
        ..ManagerOptions::default()
    };
    let manager = LogManager::open_on(vec![Arc::new(disk.clone())], options()).unwrap();
    manager.prepare().unwrap();
    let partitions: Vec<_> =
        (0..5).map(|number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()).collect();
    for round in 0..40 {
        let appends: Vec<_> = partitions
            .iter()
            .zip(0..)
            .map(|(partition, number)| {
                let (batch, append) = (batch(&value(number, round)), AppendAsLeader::new(0, NOW_MS));
                partition.append_as_leader(batch, append, Durability::Flushed).unwrap()
            })
            .collect();
        while manager.poll() {}
        assert!(appends.iter().all(|append| append.is_done()));
    }
    let disk = disk.crash_image(Crash::LoseAllUnsynced);
    let manager = LogManager::open_on(vec![Arc::new(disk)], options()).unwrap();
    for number in 0..5 {
        reads(&manager.get_or_create(&orders(number), &LogConfig::default()).unwrap(), number, 40);
    }
}
