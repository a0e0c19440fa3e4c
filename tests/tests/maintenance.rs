//! What a log manager does for its logs by itself: retention, compaction, checkpoints; and by the host's calls.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, Background, CleanerControl, CleanerOptions, DirectoryOptions, Durability, Event, EventHandler,
    Fetch, HighWatermarkPolicy, Isolation, LogConfig, LogManager, Maintenance, ManagerOptions, Partition,
    TopicPartition, ValidationPolicy,
    format::{builder::BatchBuilder, uuid::Uuid},
    storage::Storage,
    validate,
};
use duramen_tests::{
    disk::{Crash, Fault, SimDisk},
    fixture::NOW_MS,
};
use nix::errno::Errno;
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes on any machine.
const LONG: Duration = Duration::from_secs(120);

fn topic(name: &str) -> TopicPartition {
    TopicPartition::new(name, 0).unwrap()
}

fn options() -> ManagerOptions {
    ManagerOptions {
        journal_bytes: 4 << 20,
        high_watermark: HighWatermarkPolicy::LogEnd,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
        now_ms: Some(NOW_MS),
        ..ManagerOptions::default()
    }
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 600, file_delete_delay_ms: 0, ..LogConfig::default() }
}

fn compacted() -> LogConfig {
    let mut config = small();
    config.cleanup_policy.delete = false;
    config.cleanup_policy.compact = true;
    config
}

fn bounded() -> LogConfig {
    LogConfig { retention_bytes: Some(1000), ..small() }
}

fn fill(partition: &Partition, config: &LogConfig) {
    let policy = ValidationPolicy::from_config(config);
    for round in 0..40 {
        let value = format!("value {round}");
        let bytes = BatchBuilder::new().record(NOW_MS, Some(b"key"), Some(value.as_bytes())).build().unwrap();
        let batch = validate(bytes, &policy, NOW_MS).unwrap();
        partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Written).unwrap();
    }
}

fn size(partition: &Partition) -> u64 {
    partition.with(|log| log.reader().size()).unwrap()
}

/// The last value, which neither retention nor compaction takes.
fn last_is_there(partition: &Partition) -> bool {
    let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(39) };
    let bytes = partition.read(fetch).unwrap().records.unwrap().to_vec().unwrap();
    bytes.windows(8).any(|window| window == b"value 39")
}

fn leftovers(dir: &Path) -> Vec<String> {
    let directories = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let names = directories.flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".cleaned")).collect()
}

#[test]
fn thread_removes_compacts_and_checkpoints() {
    let dir = TempDir::new().unwrap();
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let soon = Duration::from_millis(5);
    let maintenance = Maintenance {
        retention_interval: soon,
        checkpoint_interval: soon,
        cleaner_backoff: soon,
        ..Maintenance::default()
    };
    let options = ManagerOptions {
        maintenance: Some(maintenance),
        // Nobody listens any more once the test has what it waits for.
        events: EventHandler::new(move |_, event| drop(told.lock().unwrap().send(event))),
        ..options()
    };
    let manager = LogManager::open(&[dir.path()], options.clone()).unwrap();
    let keyed = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
    let bounded_log = manager.get_or_create(&topic("bounded"), &bounded()).unwrap();
    fill(&keyed, &compacted());
    fill(&bounded_log, &bounded());
    let (mut was_compacted, mut was_removed) = (false, false);
    while !(was_compacted && was_removed) {
        match heard.recv_timeout(LONG).unwrap() {
            Event::Compacted { partition, stats } => {
                was_compacted |= partition == topic("keyed") && stats.end_offset > 0
            }
            Event::SegmentsRemoved { partition, segments, .. } => {
                was_removed |= partition == topic("bounded") && segments > 0
            }
            Event::MaintenanceFailed { cause } => panic!("{cause}"),
            _ => {}
        }
    }
    assert!(last_is_there(&keyed) && last_is_there(&bounded_log));
    manager.close().unwrap();
    drop(manager);
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
    let manager = LogManager::open(&[dir.path()], ManagerOptions { maintenance: None, ..options }).unwrap();
    assert!(manager.reports().iter().all(|report| report.clean));
    assert!(last_is_there(&manager.get_or_create(&topic("keyed"), &compacted()).unwrap()));
}

#[test]
fn thread_of_a_directory_that_failed_rests_while_the_others_go_on() {
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let soon = Duration::from_millis(1);
    let maintenance = Maintenance { retention_interval: soon, checkpoint_interval: soon, ..Maintenance::default() };
    let options = ManagerOptions {
        journal_bytes: 0,
        maintenance: Some(maintenance),
        events: EventHandler::new(move |directory, event| drop(told.lock().unwrap().send((directory, event)))),
        ..options()
    };
    let disks = [SimDisk::new(1), SimDisk::new(2)];
    let storages = disks.iter().map(|disk| Arc::new(disk.clone()) as Arc<dyn Storage>).collect();
    let manager = LogManager::open_on(storages, options).unwrap();
    let id = Uuid::from_bytes([1; 16]);
    let names: Vec<_> = (0..8).map(|number| TopicPartition::new("failing", number).unwrap()).collect();
    let failing = manager.get_or_create_topic_in(0, &names, id, &small()).unwrap();
    let sound = manager.get_or_create_topic_in(1, &[topic("sound")], id, &bounded()).unwrap().remove(0);
    failing.iter().for_each(|partition| fill(partition, &small()));
    disks[0].fail_next("sync failing", Fault::DropPages { errno: Errno::EIO, evict: false });
    let lost = failing[0].flush().unwrap().wait(Some(Instant::now() + LONG));
    assert!(lost.is_err() && manager.failed_directories().len() == 1);
    // There is something to be removed from now on, but for the failure.
    manager.set_topic_config("failing", &bounded()).unwrap();
    let (mut removals, mut failures) = (0, 0);
    fill(&sound, &bounded());
    while removals < 20 {
        match heard.recv_timeout(LONG).unwrap() {
            (1, Event::SegmentsRemoved { .. }) => {
                removals += 1;
                fill(&sound, &bounded());
            }
            (_, Event::MaintenanceFailed { .. }) => failures += 1,
            _ => {}
        }
    }
    // What was under way when it failed.
    assert!(failures <= failing.len() + 1, "{failures} failures of a directory that had failed already");
}

#[test]
fn producers_that_wrote_nothing_for_long_are_forgotten_by_themselves() {
    let dir = TempDir::new().unwrap();
    let maintenance = Maintenance { producer_check_interval: Duration::from_millis(5), ..Maintenance::default() };
    let manager =
        LogManager::open(&[dir.path()], ManagerOptions { maintenance: Some(maintenance), ..options() }).unwrap();
    let partition = manager.get_or_create(&topic("produced"), &small()).unwrap();
    let produce = |id, now_ms| {
        let bytes = BatchBuilder::new().producer(id, 0, 0).record(now_ms, None, Some(b"value")).build().unwrap();
        let batch = validate(bytes, &ValidationPolicy::from_config(&small()), now_ms).unwrap();
        partition.append_as_leader(batch, AppendAsLeader::new(0, now_ms), Durability::Written).unwrap();
    };
    produce(1, NOW_MS - 2 * 86_400_000);
    produce(2, NOW_MS);
    let known =
        || partition.with(|log| log.active_producers()).unwrap().iter().map(|it| it.producer_id).collect::<Vec<_>>();
    let begun = Instant::now();
    while known() != [2] {
        assert!(begun.elapsed() < LONG, "{:?} are known", known());
        thread::sleep(Duration::from_millis(5));
    }
    manager.close().unwrap();
}

#[test]
fn cleaning_that_its_limit_holds_up_holds_up_nothing_else_and_close_gives_it_up() {
    let dir = TempDir::new().unwrap();
    let soon = Duration::from_millis(1);
    let maintenance =
        Maintenance { cleaner_backoff: soon, retention_interval: soon, bytes_per_second: 1, ..Maintenance::default() };
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let events = EventHandler::new(move |_, event| drop(told.lock().unwrap().send(event)));
    let options_with = ManagerOptions { maintenance: Some(maintenance), events, ..options() };
    let manager = LogManager::open(&[dir.path()], options_with).unwrap();
    let keyed = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
    fill(&keyed, &compacted());
    let before = size(&keyed);
    while leftovers(dir.path()).is_empty() {
        thread::sleep(soon);
    }
    let bounded_log = manager.get_or_create(&topic("bounded"), &bounded()).unwrap();
    fill(&bounded_log, &bounded());
    while !matches!(heard.recv_timeout(LONG).unwrap(), Event::SegmentsRemoved { .. }) {}
    manager.close().unwrap();
    drop((keyed, bounded_log, manager));
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
    let manager = LogManager::open(&[dir.path()], options()).unwrap();
    assert!(manager.reports().iter().all(|report| report.clean));
    let keyed = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
    assert_eq!(size(&keyed), before);
}

#[test]
fn host_applies_retention_and_compacts_the_dirtiest() {
    let options = ManagerOptions { background: Background::Host, journal_bytes: 0, ..options() };
    let manager = LogManager::open_on(vec![Arc::new(SimDisk::new(0)), Arc::new(SimDisk::new(1))], options).unwrap();
    let keyed = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
    let bounded_log = manager.get_or_create(&topic("bounded"), &bounded()).unwrap();
    fill(&keyed, &compacted());
    fill(&bounded_log, &bounded());
    let retention = manager.apply_retention();
    assert!(retention.failed.is_empty());
    assert_eq!(retention.removed.iter().map(|(partition, _)| partition).collect::<Vec<_>>(), [&topic("bounded")]);
    assert!((1000..1600).contains(&size(&bounded_log)), "{}", size(&bounded_log));
    let mut go_on = |_| CleanerControl::Continue;
    let before = size(&keyed);
    let cleaned = manager.clean_dirtiest(&CleanerOptions::default(), &mut go_on).unwrap();
    assert!(cleaned.is_some_and(|(partition, _)| partition == topic("keyed")));
    assert!(size(&keyed) < before / 2);
    assert!(manager.clean_dirtiest(&CleanerOptions::default(), &mut go_on).unwrap().is_none(), "it is clean now");
    assert!(last_is_there(&keyed) && last_is_there(&bounded_log));
}

#[test]
fn cleaning_that_its_control_gives_up_is_tried_again() {
    let options = ManagerOptions { background: Background::Host, journal_bytes: 0, ..options() };
    let manager = LogManager::open_on(vec![Arc::new(SimDisk::new(0))], options).unwrap();
    let keyed = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
    fill(&keyed, &compacted());
    assert!(manager.clean_dirtiest(&CleanerOptions::default(), &mut |_| CleanerControl::Abort).is_err());
    let cleaned = manager.clean_dirtiest(&CleanerOptions::default(), &mut |_| CleanerControl::Continue).unwrap();
    assert!(cleaned.is_some());
}

#[test]
fn cleaning_of_a_deleted_partition_leaves_its_successor_alone() {
    let disk = SimDisk::new(0);
    let options = ManagerOptions { background: Background::Host, journal_bytes: 0, ..options() };
    let manager = LogManager::open_on(vec![Arc::new(disk.clone())], options).unwrap();
    let old = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
    fill(&old, &compacted());
    let mut successor = None;
    let given_up = manager.clean_dirtiest(&CleanerOptions::default(), &mut |_| {
        if successor.is_none() {
            manager.delete(&topic("keyed")).unwrap();
            let new = manager.get_or_create(&topic("keyed"), &compacted()).unwrap();
            fill(&new, &compacted());
            successor = Some(new);
        }
        CleanerControl::Continue
    });
    assert!(given_up.is_err_and(|error| error.to_string().contains("deleted")));
    let names = disk.files().into_keys().filter(|path| path.starts_with("keyed-0/"));
    assert_eq!(names.filter(|path| path.to_string_lossy().ends_with(".cleaned")).count(), 0);
    let successor = successor.unwrap();
    let before = size(&successor);
    let cleaned = manager.clean_dirtiest(&CleanerOptions::default(), &mut |_| CleanerControl::Continue).unwrap();
    assert!(cleaned.is_some() && size(&successor) < before && last_is_there(&successor));
}

#[test]
fn checkpoint_beside_a_deletion_tells_nothing_of_the_new_partition_that_was_true_of_the_old_one() {
    let disk = SimDisk::new(0);
    let options = ManagerOptions { background: Background::Host, journal_bytes: 0, ..options() };
    let manager = LogManager::open_on(vec![Arc::new(disk.clone())], options.clone()).unwrap();
    let names: Vec<_> = (0..8).map(|number| TopicPartition::new("orders", number).unwrap()).collect();
    let mut partitions = manager.get_or_create_all(&names, &small()).unwrap();
    for _ in 0..30 {
        for partition in &partitions {
            fill(partition, &small());
            partition.with(|log| log.increment_log_start_offset(35)).unwrap().unwrap();
        }
        partitions = thread::scope(|scope| {
            let is_deleted = Arc::new(AtomicBool::new(false));
            let until = Arc::clone(&is_deleted);
            let (manager, is_begun) = (&manager, Arc::new(Barrier::new(2)));
            let begin = Arc::clone(&is_begun);
            let checkpoint = scope.spawn(move || {
                begin.wait();
                while !until.load(Ordering::SeqCst) {
                    manager.checkpoint().unwrap();
                }
            });
            is_begun.wait();
            manager.delete_all(&names).unwrap();
            is_deleted.store(true, Ordering::SeqCst);
            let made = manager.get_or_create_all(&names, &small()).unwrap();
            checkpoint.join().unwrap();
            made
        });
        let image = disk.crash_image(Crash::KeepAll);
        let found = LogManager::open_on(vec![Arc::new(image)], options.clone()).unwrap();
        for name in &names {
            assert_eq!(found.get_or_create(name, &small()).unwrap().offsets().log_start, 0);
        }
    }
}
