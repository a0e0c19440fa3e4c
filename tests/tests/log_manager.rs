//! What a log manager promises: durable appends through the journal and by group commit, waits, several directories.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, Background, CompletionQueue, ConfigError, DirectoryOptions, Durability, Event, EventHandler, Fetch,
    HighWatermarkPolicy, Isolation, LoadProgress, LogConfig, LogDirectory, LogError, LogManager, LongPoll,
    ManagerOptions, OpenError, Partition, PartitionError, Position, TopicPartition, ValidatedBatch, ValidationPolicy,
    WaitError,
    format::{builder::BatchBuilder, uuid::Uuid},
    storage::Storage,
    validate,
};
use duramen_tests::{
    disk::{Crash, Fault, SimDisk},
    fixture::NOW_MS,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(30);

fn options() -> ManagerOptions {
    ManagerOptions {
        journal_bytes: 4 << 20,
        gather_bytes: 4 << 20,
        high_watermark: HighWatermarkPolicy::LogEnd,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
        ..ManagerOptions::default()
    }
}

fn polled() -> ManagerOptions {
    ManagerOptions { background: Background::Host, journal_bytes: 128 << 10, piece_bytes: 4096, ..options() }
}

fn orders(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number).unwrap()
}

/// A batch of one record with this value.
fn batch(value: &[u8]) -> ValidatedBatch {
    let bytes = BatchBuilder::new().record(NOW_MS, Some(b"key"), Some(value)).build().unwrap();
    validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap()
}

fn append(partition: &Partition, value: &[u8], durability: Durability) -> duramen::Append {
    partition.append_as_leader(batch(value), AppendAsLeader::new(0, NOW_MS), durability).unwrap()
}

/// The values of all records from an offset on.
fn values(partition: &Partition, offset: i64) -> Vec<Vec<u8>> {
    let (mut found, mut scratch) = (Vec::new(), Vec::new());
    let read = partition.reader().for_each_batch(offset, Isolation::LogEnd, |batch| {
        for record in batch.records(&mut scratch, 1 << 20)? {
            found.push(record?.value().unwrap().to_vec());
        }
        Ok::<(), LogError>(())
    });
    assert_eq!(read.unwrap(), partition.offsets().log_end.max(offset));
    found
}

/// Polls until the ticket has an answer.
fn settle(manager: &LogManager, ticket: &duramen::Ticket) {
    for _ in 0..1000 {
        if ticket.is_done() {
            return;
        }
        manager.poll();
    }
    panic!("the ticket has no answer");
}

/// A manager on a simulated disk whose journal is there already.
fn on(disk: &SimDisk, options: ManagerOptions) -> LogManager {
    LogManager::open_on(vec![Arc::new(disk.clone()) as Arc<dyn Storage>], options).unwrap()
}

#[test]
fn flushed_append_survives_power_loss_without_a_sync_of_its_segment() {
    let disk = SimDisk::new(1);
    let manager = on(&disk, polled());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    let first = append(&partition, b"first", Durability::Flushed);
    settle(&manager, &first);
    assert_eq!(partition.flushed(), 1, "by group commit, since there was no journal yet");
    let second = append(&partition, b"second", Durability::Flushed);
    assert!(!second.is_done());
    let lag = partition.lag();
    assert_eq!((lag.unflushed_offsets, lag.journal_offsets, lag.uncommitted_offsets), (1, 0, 0));
    assert_eq!(lag.unflushed_bytes, u64::try_from(batch(b"second").bytes().len()).unwrap());
    assert_eq!(values(&partition, 0), [b"first".to_vec(), b"second".to_vec()], "it can be read at once");
    settle(&manager, &second);
    assert_eq!((partition.flushed(), partition.offsets().recovery_point), (2, 1));
    let lag = partition.lag();
    assert_eq!((lag.unflushed_offsets, lag.unflushed_bytes, lag.journal_offsets), (0, 0, 1));
    for crash in [Crash::LoseAllUnsynced, Crash::ZeroTail, Crash::KeepAll, Crash::ProcessOnly, Crash::Random(3)] {
        let found = on(&disk.crash_image(crash), polled());
        let partition = found.get_or_create(&orders(0), &LogConfig::default()).unwrap();
        assert_eq!(values(&partition, 0), [b"first".to_vec(), b"second".to_vec()], "{crash:?}");
        let report = found.reports().remove(0);
        assert_eq!(report.journal.unwrap().frames, 1);
    }
}

#[test]
fn closed_manager_leaves_no_journal_and_needs_no_recovery() {
    let home = tempfile::tempdir().unwrap();
    let manager = LogManager::open(&[home.path()], options()).unwrap();
    manager.prepare().unwrap();
    let partitions: Vec<_> =
        (0..20).map(|number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()).collect();
    let mut last = Vec::new();
    for round in 0..200_u32 {
        for partition in &partitions {
            last.push(append(partition, &round.to_be_bytes().repeat(100), Durability::Flushed));
        }
    }
    assert!(last.iter().all(|append| append.wait(None).is_ok()));
    assert!(home.path().join("journal/ring").exists());
    assert!(manager.metrics()[0].journal_frames > 3000, "{:?}", manager.metrics());
    let expected: Vec<_> = partitions.iter().map(|partition| values(partition, 0)).collect();
    assert!(expected.iter().all(|values| values.len() == 200));
    drop(partitions);
    manager.close().unwrap();
    assert!(!home.path().join("journal").exists());
    let again = LogManager::open(&[home.path()], options()).unwrap();
    assert!(again.reports()[0].clean);
    again.load(4, &|_| LogConfig::default(), &|_| {}).unwrap();
    for (number, expected) in expected.iter().enumerate() {
        assert_eq!(values(&again.get(&orders(i32::try_from(number).unwrap())).unwrap(), 0), *expected);
    }
}

#[test]
fn journal_smaller_than_what_is_appended_is_used_again_and_again() {
    let home = tempfile::tempdir().unwrap();
    let small = ManagerOptions { journal_bytes: 1 << 20, gather_bytes: 1 << 20, piece_bytes: 16 << 10, ..options() };
    let manager = LogManager::open(&[home.path()], small.clone()).unwrap();
    // Else what is appended before the journal is made goes by group commit.
    manager.prepare().unwrap();
    let partitions: Vec<_> =
        (0..30).map(|number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()).collect();
    let mut tickets = Vec::new();
    for round in 0..400_u32 {
        for partition in &partitions {
            tickets.push(append(partition, &round.to_be_bytes().repeat(250), Durability::Flushed));
        }
    }
    assert!(tickets.iter().all(|append| append.wait(None).is_ok()));
    let metrics = manager.metrics().remove(0);
    assert!(metrics.journal_bytes > 8 << 20 && metrics.checkpoints > 3, "{metrics:?}");
    for of_blocks in [metrics.journal_write_us, metrics.journal_write_frames, metrics.append_to_flushed_us] {
        assert_eq!(of_blocks.count(), metrics.journal_blocks);
    }
    assert_eq!(metrics.journal_write_frames.sum(), metrics.journal_frames);
    assert!(metrics.append_to_flushed_us.sum() >= metrics.journal_write_us.sum());
    assert_eq!(metrics.sync_all_us.count(), metrics.sync_all);
    assert_eq!(metrics.group_commit_sizes.sum(), metrics.group_commit_files);
    let expected: Vec<Vec<u8>> = (0..400_u32).map(|round| round.to_be_bytes().repeat(250)).collect();
    partitions.iter().for_each(|partition| assert_eq!(values(partition, 0), expected));
    drop((partitions, manager));
    let again = LogManager::open(&[home.path()], small).unwrap();
    assert!(!again.reports()[0].clean);
    for number in 0..30 {
        let partition = again.get_or_create(&orders(number), &LogConfig::default()).unwrap();
        assert_eq!(values(&partition, 0), expected, "after a recovery");
    }
    again.close().unwrap();
    // And by the plain directory.
    let mut directory = LogDirectory::open(home.path()).unwrap();
    assert!(directory.report().clean);
    assert_eq!(directory.get(&orders(0), &LogConfig::default()).unwrap().offsets().log_end, 400);
}

#[test]
fn written_and_flushed_appends_in_turn_keep_their_order() {
    let disk = SimDisk::new(2);
    let manager = on(&disk, polled());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    let mut expected = Vec::new();
    for number in 0..60_u8 {
        let durability = if number % 3 == 1 { Durability::Written } else { Durability::Flushed };
        let value = vec![number; 700];
        let made = append(&partition, &value, durability);
        expected.push(value);
        settle(&manager, &made);
        assert_eq!(values(&partition, 0), expected);
        if durability == Durability::Flushed {
            let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
            let partition = found.get_or_create(&orders(0), &LogConfig::default()).unwrap();
            assert_eq!(values(&partition, 0), expected);
        }
    }
}

#[test]
fn truncated_batches_do_not_come_back_from_the_journal() {
    let disk = SimDisk::new(3);
    let manager = on(&disk, polled());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    for number in 0..10_u8 {
        settle(&manager, &append(&partition, &[number; 300], Durability::Flushed));
    }
    let waiting = append(&partition, b"about to be cut", Durability::Flushed);
    partition.with(|log| log.truncate_to(4, NOW_MS)).unwrap().unwrap();
    assert!(waiting.wait(None).is_err(), "what was cut is not durable");
    assert_eq!((partition.flushed(), partition.offsets().log_end), (4, 4));
    let reopened = |disk: &SimDisk| {
        let found = on(disk, polled());
        let partition = found.get_or_create(&orders(0), &LogConfig::default()).unwrap();
        values(&partition, 0)
    };
    let kept: Vec<Vec<u8>> = (0..4_u8).map(|number| vec![number; 300]).collect();
    assert_eq!(reopened(&disk.crash_image(Crash::LoseAllUnsynced)), kept);
    settle(&manager, &append(&partition, b"anew", Durability::Flushed));
    let anew: Vec<Vec<u8>> = kept.iter().cloned().chain([b"anew".to_vec()]).collect();
    assert_eq!(reopened(&disk.crash_image(Crash::LoseAllUnsynced)), anew);
}

#[test]
fn deleted_partition_does_not_come_back_into_a_new_one_of_its_name() {
    let disk = SimDisk::new(4);
    let manager = on(&disk, polled());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    for number in 0..5_u8 {
        settle(&manager, &append(&partition, &[number; 300], Durability::Flushed));
    }
    manager.delete(&orders(0)).unwrap();
    assert!(partition.append_as_leader(batch(b"x"), AppendAsLeader::new(0, NOW_MS), Durability::Flushed).is_err());
    let anew = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    settle(&manager, &append(&anew, b"new", Durability::Flushed));
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    let partition = found.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    assert_eq!(values(&partition, 0), [b"new".to_vec()]);
}

#[test]
fn segments_roll_while_appends_gather() {
    let disk = SimDisk::new(5);
    let manager = on(&disk, polled());
    let config = LogConfig { segment_bytes: 20_000, ..LogConfig::default() };
    let partition = manager.get_or_create(&orders(0), &config).unwrap();
    let expected: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number; 1000]).collect();
    for value in &expected {
        settle(&manager, &append(&partition, value, Durability::Flushed));
    }
    assert!(partition.reader().segments().unwrap().len() > 4);
    assert_eq!(values(&partition, 0), expected);
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    let partition = found.get_or_create(&orders(0), &config).unwrap();
    assert_eq!(values(&partition, 0), expected);
}

#[test]
fn long_poll_over_partitions_wakes_when_enough_came() {
    let home = tempfile::tempdir().unwrap();
    let manager = LogManager::open(&[home.path()], options()).unwrap();
    let partitions: Vec<_> =
        (0..3).map(|number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()).collect();
    let mut poll = LongPoll::new(3000);
    for partition in &partitions {
        assert!(partition.read_or_watch(Fetch::from(0), &mut poll).unwrap().is_empty());
    }
    let soon = || Some(Instant::now() + Duration::from_millis(20));
    append(&partitions[0], &[1; 1500], Durability::Written).wait(None).unwrap();
    assert!(poll.wait(soon()).is_err());
    append(&partitions[2], &[1; 1500], Durability::Flushed).wait(None).unwrap();
    poll.wait(None).unwrap();
    assert_eq!(partitions[2].wait_for(Position::HighWatermark, 1).wait(None), Ok(()));
}

#[test]
fn completions_come_in_a_queue() {
    let home = tempfile::tempdir().unwrap();
    let manager = LogManager::open(&[home.path()], options()).unwrap();
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    let queue = CompletionQueue::new().unwrap();
    for number in 0..1000 {
        append(&partition, b"value", Durability::Flushed).into_ticket().enqueue(&queue, number);
    }
    let mut done = Vec::new();
    while done.len() < 1000 {
        assert!(queue.wait(None));
        queue.drain(&mut done);
    }
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    assert_eq!(done.iter().map(|completion| completion.user_data).sum::<u64>(), 499_500);
}

#[test]
fn directory_that_fails_takes_only_its_own_partitions_with_it() {
    let (good, bad) = (SimDisk::new(6), SimDisk::new(7));
    let storages = [&good, &bad].map(|disk| Arc::new(disk.clone()) as Arc<dyn Storage>);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let events = EventHandler::new(move |directory, event| heard.lock().unwrap().push((directory, event)));
    let manager = LogManager::open_on(storages.into(), ManagerOptions { events, ..polled() }).unwrap();
    let partitions: Vec<_> =
        (0..2).map(|number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()).collect();
    for partition in &partitions {
        settle(&manager, &append(partition, b"before", Durability::Flushed));
        settle(&manager, &append(partition, b"journalled", Durability::Flushed));
    }
    bad.fail_next("write durably journal/ring", Fault::Error(nix::errno::Errno::EIO));
    let lost = append(&partitions[1], b"lost", Durability::Flushed);
    let kept = append(&partitions[0], b"kept", Durability::Flushed);
    settle(&manager, &lost);
    settle(&manager, &kept);
    assert!(lost.wait(None).is_err() && kept.wait(None).is_ok());
    assert!(partitions[1].append_as_leader(batch(b"x"), AppendAsLeader::new(0, NOW_MS), Durability::Written).is_err());
    assert_eq!(values(&partitions[1], 0).len(), 3, "it can still be read");
    assert_eq!(manager.failed_directories().len(), 1);
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort_by_key(|(directory, _)| *directory);
    let made = || Event::JournalMade { bytes: 128 << 10 };
    assert_eq!(told[..2], [(0, made()), (1, made())]);
    assert!(
        matches!(&told[2..], [(1, Event::DirectoryFailed { cause })] if cause.contains("journal/ring")),
        "{told:?}"
    );
    settle(&manager, &append(&partitions[0], b"goes on", Durability::Flushed));
    assert!(manager.close().is_err());
    let found = on(&bad.crash_image(Crash::LoseAllUnsynced), polled());
    let partition = found.get_or_create(&orders(1), &LogConfig::default()).unwrap();
    assert_eq!(values(&partition, 0)[..2], [b"before".to_vec(), b"journalled".to_vec()]);
}

#[test]
fn panics_of_the_host_hold_nothing_up() {
    let disk = SimDisk::new(23);
    let told = Arc::new(std::sync::Mutex::new(0));
    let heard = Arc::clone(&told);
    let events = EventHandler::new(move |_, _| {
        *heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
        panic!("a mistake of the host");
    });
    let manager = on(&disk, ManagerOptions { events, ..options() });
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    for _ in 0..3 {
        append(&partition, b"panics", Durability::Flushed)
            .into_ticket()
            .on_done(|_| panic!("another mistake of the host"));
        append(&partition, b"goes on", Durability::Flushed).wait(Some(Instant::now() + PATIENCE)).unwrap();
    }
    let waiting = partition.wait_for(Position::HighWatermark, 7);
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            partition.with(|log| {
                log.append_as_leader(batch(b"by with"), AppendAsLeader::new(0, NOW_MS)).unwrap();
                panic!("a third one");
            })
        });
        assert!(panics.join().is_err());
    });
    assert_eq!(waiting.wait(Some(Instant::now() + PATIENCE)), Ok(()));
    append(&partition, b"after it", Durability::Flushed).wait(Some(Instant::now() + PATIENCE)).unwrap();
    assert!(manager.failed_directories().is_empty());
    manager.close().unwrap();
    assert!(*told.lock().unwrap_or_else(std::sync::PoisonError::into_inner) > 0);
}

#[test]
fn directory_whose_thread_panics_fails_and_everybody_is_answered() {
    let disk = SimDisk::new(24);
    let manager = on(&disk, options());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    append(&partition, b"kept", Durability::Flushed).wait(Some(Instant::now() + PATIENCE)).unwrap();
    disk.fail_next("write durably journal/ring", Fault::Panic);
    // Not by a thread that waits, which would step the journal itself.
    let (lost, answer) = std::sync::mpsc::channel();
    append(&partition, b"lost", Durability::Flushed).into_ticket().on_done(move |result| lost.send(result).unwrap());
    assert!(matches!(answer.recv_timeout(PATIENCE).unwrap(), Err(WaitError::Failed { .. })));
    assert_eq!(manager.failed_directories()[0].1, "one of its threads panicked");
    assert!(manager.close().is_err());
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    assert_eq!(values(&found.get_or_create(&orders(0), &LogConfig::default()).unwrap(), 0)[0], b"kept");
}

#[test]
fn partition_of_a_dropped_manager_takes_nothing_more() {
    let disk = SimDisk::new(25);
    let manager = on(&disk, options());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    append(&partition, b"kept", Durability::Flushed).wait(Some(Instant::now() + PATIENCE)).unwrap();
    drop(manager);
    let late = partition.append_as_leader(batch(b"late"), AppendAsLeader::new(0, NOW_MS), Durability::Written);
    assert!(matches!(late, Err(PartitionError::Closed)));
    let found = on(&disk, polled());
    assert_eq!(values(&found.get_or_create(&orders(0), &LogConfig::default()).unwrap(), 0), [b"kept"]);
}

#[test]
fn journal_smaller_than_a_block_takes_what_waits_in_several() {
    let disk = SimDisk::new(1);
    let manager = on(&disk, ManagerOptions { journal_bytes: 32 << 10, ..polled() });
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    let appends: Vec<_> = (0..60).map(|number| append(&partition, &[number; 1500], Durability::Flushed)).collect();
    appends.iter().for_each(|append| settle(&manager, append));
    assert!(appends.iter().all(|append| append.wait(None).is_ok()));
    assert!(manager.metrics()[0].journal_frames >= 60, "they went by the journal");
}

#[test]
fn little_memory_is_shared_by_many_partitions() {
    let disk = SimDisk::new(1);
    for (gather_bytes, piece_bytes) in [(4096, 128 << 10), (20_000, 8192), (50_000, 128 << 10), (150_000, 36_864)] {
        let manager = on(&disk, ManagerOptions { gather_bytes, piece_bytes, ..polled() });
        let partitions: Vec<_> =
            (0..12).map(|number| manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()).collect();
        manager.prepare().unwrap();
        for number in 0..120 {
            // Waits for memory, and moves the work on.
            let made = append(&partitions[number % 12], &[1; 1500], Durability::Flushed);
            settle(&manager, &made);
            assert!(made.wait(None).is_ok());
        }
    }
}

#[test]
fn manager_dropped_by_a_callback_of_its_own_threads_ends() {
    let home = tempfile::tempdir().unwrap();
    let manager = Arc::new(LogManager::open(&[home.path()], options()).unwrap());
    manager.prepare().unwrap();
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let last = Arc::clone(&manager);
    let here = std::thread::current().id();
    append(&partition, b"kept", Durability::Flushed).into_ticket().on_done(move |done| {
        // Once nobody else has it; an append that was durable at once is told of here.
        while Arc::strong_count(&last) > 1 && std::thread::current().id() != here {
            std::thread::yield_now();
        }
        drop(last);
        tell.send(done.is_ok()).unwrap();
    });
    drop(manager);
    assert!(told.recv_timeout(PATIENCE).unwrap());
    drop(partition);
    let again = LogManager::open(&[home.path()], options()).unwrap();
    assert_eq!(values(&again.get_or_create(&orders(0), &LogConfig::default()).unwrap(), 0), [b"kept"]);
}

#[test]
fn a_configuration_outside_kafkas_bounds_creates_nothing_but_an_open_partition_is_still_there() {
    let disk = SimDisk::new(1);
    let manager = on(&disk, polled());
    let wrong = LogConfig { segment_index_bytes: 3, ..LogConfig::default() };
    let error = manager.get_or_create(&orders(0), &wrong).unwrap_err();
    assert_eq!(error.to_string(), "configuration segment.index.bytes = '3': it is a number from 4 to 2147483647");
    assert!(manager.get(&orders(0)).is_none());
    manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    manager.get_or_create(&orders(0), &wrong).unwrap();
    assert!(
        matches!(manager.set_topic_config("orders", &wrong), Err(ConfigError { name, .. }) if name == "segment.index.bytes")
    );
}

#[test]
fn options_with_which_nothing_works_are_refused_before_anything_is_made() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("logs");
    match LogManager::open(&[&path], ManagerOptions { piece_bytes: 5000, ..options() }) {
        Err(error @ OpenError::InvalidOption { option: "piece_bytes", value: 5000, .. }) => {
            assert_eq!(
                error.to_string(),
                "option piece_bytes is 5000: a piece is a multiple of 4096 bytes, up to 1 GiB"
            );
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert!(!path.exists());
}

#[test]
fn new_partitions_go_into_the_directory_that_is_wanted_and_others_stay() {
    let disks = [SimDisk::new(21), SimDisk::new(22)];
    let storages = || disks.iter().map(|disk| Arc::new(disk.clone()) as Arc<dyn Storage>).collect();
    let manager = LogManager::open_on(storages(), polled()).unwrap();
    let (id, config) = (Uuid::from_bytes([7; 16]), LogConfig::default());
    manager.get_or_create_topic_in(0, &[orders(0)], id, &config).unwrap();
    let names: Vec<_> = (0..5).map(orders).collect();
    let opened = manager.get_or_create_topic_in(1, &names, id, &config).unwrap();
    assert!(opened.iter().zip(&names).all(|(partition, name)| partition.name() == name));
    assert!(matches!(manager.get_or_create_topic_in(2, &names, id, &config), Err(OpenError::NoDirectory)));
    disks[1].fail_next("write durably journal/ring", Fault::Error(nix::errno::Errno::EIO));
    manager.prepare().unwrap();
    settle(&manager, &append(&opened[1], b"lost", Durability::Flushed));
    let new = [orders(5), orders(1)];
    match manager.get_or_create_topic_in(1, &new, id, &config) {
        Err(OpenError::DirectoryFailed { cause }) => assert!(cause.contains("journal/ring"), "{cause}"),
        unexpected => panic!("{unexpected:?}"),
    }
    assert!(manager.get_or_create_topic_in(1, &names, id, &config).is_ok(), "none of them is new");
    drop((opened, manager));
    let held = |disk: &SimDisk| on(&disk.crash_image(Crash::KeepAll), polled()).partitions();
    assert_eq!((held(&disks[0]), held(&disks[1])), (names[..1].to_vec(), names[1..].to_vec()));
}

#[test]
fn full_disk_keeps_what_was_acknowledged_and_goes_on_when_there_is_space() {
    let disk = SimDisk::new(8);
    let manager = on(&disk, polled());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    let mut expected = Vec::new();
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap() + 12_000));
    let mut refused = 0;
    for number in 0..40_u8 {
        let value = vec![number; 1500];
        match partition.append_as_leader(batch(&value), AppendAsLeader::new(0, NOW_MS), Durability::Flushed) {
            Ok(append) => {
                expected.push(value);
                settle(&manager, &append);
                assert!(append.wait(None).is_ok());
            }
            Err(error) => {
                assert_eq!(
                    error.to_string(),
                    "the disk is full: append to orders-0/00000000000000000000.log: no storage space"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && manager.failed_directories().is_empty(), "{refused} refused");
    assert_eq!(values(&partition, 0), expected, "what is in memory can be read");
    let image = disk.crash_image(Crash::LoseAllUnsynced);
    let full = LogManager::open_on(vec![Arc::new(image.clone()) as Arc<dyn Storage>], polled());
    assert!(matches!(full, Err(OpenError::Journal(_))), "the journal stays until there is space for what it holds");
    image.heal();
    let found = on(&image, polled());
    let after_crash = found.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    assert_eq!(values(&after_crash, 0), expected);
    disk.heal();
    manager.tick();
    settle(&manager, &append(&partition, b"there is space", Durability::Flushed));
    expected.push(b"there is space".to_vec());
    drop(partition);
    manager.close().unwrap();
    let again = on(&disk, polled());
    assert_eq!(values(&again.get_or_create(&orders(0), &LogConfig::default()).unwrap(), 0), expected);
}

#[test]
fn full_disk_met_by_an_append_that_does_not_gather_is_no_failure_either() {
    let disk = SimDisk::new(8);
    let manager = on(&disk, polled());
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    settle(&manager, &append(&partition, b"gathered", Durability::Flushed));
    let deleted = manager.get_or_create(&orders(1), &LogConfig::default()).unwrap();
    settle(&manager, &append(&deleted, b"gathered", Durability::Flushed));
    manager.checkpoint().unwrap();
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap()));
    // It has to come behind what was gathered.
    let refused = partition.append_as_leader(batch(&[1; 100]), AppendAsLeader::new(0, NOW_MS), Durability::Written);
    assert!(matches!(refused, Err(PartitionError::Log(LogError::DiskFull(_)))), "{refused:?}");
    assert!(matches!(partition.with(|log| log.flush()).unwrap(), Err(LogError::DiskFull(_))));
    // What frees space works; the checkpoints are written when there is some.
    manager.delete(&orders(1)).unwrap();
    assert!(manager.get(&orders(1)).is_none() && manager.failed_directories().is_empty());
    disk.heal();
    manager.tick();
    append(&partition, b"there is space", Durability::Written);
    settle(&manager, &append(&partition, b"and flushed", Durability::Flushed));
    assert_eq!(values(&partition, 0), [&b"gathered"[..], b"there is space", b"and flushed"]);
    drop(partition);
    manager.close().unwrap();
    let again = on(&disk, polled());
    assert_eq!(values(&again.get_or_create(&orders(0), &LogConfig::default()).unwrap(), 0).len(), 3);
}

#[test]
fn retention_frees_space_on_a_full_disk() {
    assert_eq!(retention_on_a_full_disk(None), None);
    // Nor has the disk space for other names.
    let renames = (0..).map_while(|at| retention_on_a_full_disk(Some(at))).filter(|name| name.contains("rename"));
    assert!(renames.count() > 10);
}

/// With another refusal of the disk at this operation; which that was.
fn retention_on_a_full_disk(refused: Option<u64>) -> Option<String> {
    let disk = SimDisk::new(8);
    let by_clock = ManagerOptions { directory: DirectoryOptions { now_ms: None, ..options().directory }, ..polled() };
    let manager = on(&disk, by_clock);
    let config = |retention: &str| {
        let small = [("internal.segment.bytes", "2000"), ("file.delete.delay.ms", "0"), ("retention.bytes", retention)];
        LogConfig::from_properties(small).unwrap()
    };
    let names = [orders(0), orders(1)];
    let partitions = manager.get_or_create_all(&names, &config("-1")).unwrap();
    manager.prepare().unwrap();
    for epoch in 0..8 {
        for partition in &partitions {
            let durability = if epoch % 2 == 0 { Durability::Flushed } else { Durability::Written };
            let leader = AppendAsLeader::new(epoch, NOW_MS);
            settle(&manager, &partition.append_as_leader(batch(&[1; 1500]), leader, durability).unwrap());
            manager.poll();
        }
    }
    manager.checkpoint().unwrap();
    let used = |disk: &SimDisk| disk.files().values().map(Vec::len).sum::<usize>();
    disk.set_capacity(Some(u64::try_from(used(&disk)).unwrap()));
    let before = used(&disk);
    assert_eq!(partitions[0].reader().segments().unwrap().len(), 8);
    for partition in &partitions {
        partition.with(|log| log.set_config(config("2500"))).unwrap();
    }
    let begin = disk.operations();
    refused.inspect(|at| disk.fail_at(begin + at, Fault::Error(nix::errno::Errno::ENOSPC)));
    let done = manager.apply_retention();
    let operation = refused.and_then(|at| disk.trace().get(usize::try_from(begin + at).unwrap()).cloned());
    if operation.as_ref().is_some_and(|operation| !operation.contains("rename")) {
        return operation;
    }
    assert!(done.failed.is_empty() && done.removed.len() == 2, "{operation:?}: {done:?}");
    assert!(done.removed.iter().all(|(_, removed)| removed.len() > 5), "{done:?}");
    drop(manager.apply_retention());
    assert!(used(&disk) < before - 15_000, "{before} bytes before, {} now", used(&disk));
    assert!(manager.failed_directories().is_empty());
    let starts: Vec<_> = partitions.iter().map(|partition| partition.offsets().log_start).collect();
    // A crash now, of which the disk has what it was made to have.
    for crash in [Crash::LoseAllUnsynced, Crash::KeepAll, Crash::Random(5)] {
        let image = disk.crash_image(crash);
        image.heal();
        let found = on(&image, polled());
        for (name, start) in names.iter().zip(&starts) {
            let open = found.get_or_create(name, &config("2500")).unwrap();
            let offsets = open.offsets();
            assert!(offsets.log_start <= *start && offsets.log_end == 8, "{crash:?}: {offsets:?}");
            assert_eq!(values(&open, offsets.log_start).len(), usize::try_from(8 - offsets.log_start).unwrap());
        }
    }
    operation
}

#[test]
fn deletion_on_a_disk_too_full_for_another_name_removes_the_partition_at_once() {
    let disk = SimDisk::new(8);
    let manager = on(&disk, polled());
    let names = [orders(0), orders(1), orders(2)];
    let partitions = manager.get_or_create_all(&names, &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    partitions.iter().for_each(|partition| settle(&manager, &append(partition, b"gathered", Durability::Flushed)));
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap()));
    disk.fail_next("rename orders-1", Fault::Error(nix::errno::Errno::ENOSPC));
    manager.delete_all(&names[..2]).unwrap();
    assert_eq!(manager.partitions(), names[2..]);
    assert!(disk.list(std::path::Path::new("orders-1")).unwrap_err().is_not_found());
    assert!(manager.failed_directories().is_empty());
    let image = disk.crash_image(Crash::LoseAllUnsynced);
    image.heal();
    let found = on(&image, polled());
    assert_eq!(found.partitions(), names[2..]);
    assert_eq!(values(&found.get_or_create(&names[2], &LogConfig::default()).unwrap(), 0), [b"gathered"]);
}

#[test]
fn what_a_deleted_partition_gathered_on_a_full_disk_is_written_nowhere() {
    // Every eighth disk keeps two files open at most: the others are found by their names, or not any more.
    let disk = SimDisk::new(7);
    let manager = on(&disk, polled());
    let names: Vec<_> = (0..6).map(orders).collect();
    let partitions = manager.get_or_create_all(&names, &LogConfig::default()).unwrap();
    manager.prepare().unwrap();
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap() + 9000));
    let mut flushed = vec![0; names.len()];
    for number in 0..40 {
        let (partition, flushed) = (&partitions[number % 6], &mut flushed[number % 6]);
        let leader = AppendAsLeader::new(0, NOW_MS);
        if let Ok(append) = partition.append_as_leader(batch(&[1; 1500]), leader, Durability::Flushed) {
            settle(&manager, &append);
            *flushed += 1;
        }
    }
    assert!(flushed.iter().sum::<usize>() < 40, "the disk is full");
    manager.delete_all(&names[..5]).unwrap();
    for _ in 0..3 {
        manager.tick();
        manager.poll();
        disk.heal();
    }
    assert_eq!(manager.failed_directories(), []);
    append(&partitions[5], b"there is space", Durability::Written);
    assert_eq!(values(&partitions[5], 0).len(), flushed[5] + 1);
}

#[test]
fn retention_beside_rolls_keeps_the_epochs_and_fails_nothing() {
    for round in 0..6_u64 {
        let home = tempfile::tempdir().unwrap();
        let open = || LogManager::open(&[home.path()], ManagerOptions { now_ms: Some(NOW_MS), ..options() }).unwrap();
        let manager = open();
        manager.prepare().unwrap();
        let small = [("internal.segment.bytes", "4000"), ("retention.bytes", "20000"), ("file.delete.delay.ms", "0")];
        let config = LogConfig::from_properties(small).unwrap();
        let partition = manager.get_or_create(&orders(0), &config).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..300 + i32::try_from(round).unwrap() {
                    let leader = AppendAsLeader::new(number / 7, NOW_MS);
                    let append = partition.append_as_leader(batch(&[1; 400]), leader, Durability::Flushed).unwrap();
                    append.wait(None).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let retained = manager.apply_retention();
                assert!(retained.failed.is_empty(), "{retained:?}");
                std::thread::sleep(Duration::from_millis(1 + round));
            }
        });
        assert!(partition.offsets().log_start > 0 && manager.failed_directories().is_empty());
        let before = partition.reader().leader_epochs();
        drop(partition);
        manager.close().unwrap();
        let again = open();
        assert_eq!(again.get_or_create(&orders(0), &config).unwrap().reader().leader_epochs(), before);
    }
}

#[test]
fn journal_for_which_there_is_no_space_is_not_begun() {
    let disk = SimDisk::new(8);
    disk.set_capacity(Some(100 << 10));
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let handler = EventHandler::new(move |_, event| seen.lock().unwrap().push(event.to_string()));
    let manager = on(&disk, ManagerOptions { events: handler, ..polled() });
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    for _ in 0..50 {
        settle(&manager, &append(&partition, b"by group commit", Durability::Flushed));
    }
    let refused =
        "has no commit journal, and syncs each segment: make journal: it takes 131072 bytes, and the disk has less";
    manager.poll();
    assert_eq!(*events.lock().unwrap(), [refused]);
    assert!(manager.prepare().is_err_and(|error| error.to_string().ends_with("and the disk has less")));
    let touched = disk.trace().into_iter().filter(|line| line.contains("journal"));
    assert!(touched.clone().all(|line| line.contains("open journal/ring") || line.contains("list")), "{touched:?}");
    disk.heal();
    manager.prepare().unwrap();
    settle(&manager, &append(&partition, b"by the journal", Durability::Flushed));
    assert_eq!(partition.lag().journal_offsets, 1);
    manager.poll();
    assert_eq!(events.lock().unwrap().last().unwrap(), "has a commit journal of 131072 bytes");
}

#[test]
fn checkpoint_of_one_directory_that_fails_leaves_out_no_other() {
    let disks = [SimDisk::new(1), SimDisk::new(2)];
    let storages = disks.iter().map(|disk| Arc::new(disk.clone()) as Arc<dyn Storage>).collect();
    let manager = LogManager::open_on(storages, polled()).unwrap();
    (0..2).for_each(|number| drop(manager.get_or_create(&orders(number), &LogConfig::default()).unwrap()));
    disks[0].fail_next("recovery-point", Fault::Error(nix::errno::Errno::EIO));
    assert!(matches!(manager.checkpoint(), Err(OpenError::Storage(_))));
    assert!(disks[1].files().keys().any(|path| path.ends_with("recovery-point-offset-checkpoint")));
}

/// How many operations of a disk from one on are syncs.
fn syncs_since(disk: &SimDisk, operation: u64) -> usize {
    let trace = disk.trace();
    trace[usize::try_from(operation).unwrap()..].iter().filter(|line| line.contains(" sync ")).count()
}

#[test]
fn thousand_partitions_wait_for_one_sync_and_their_first_appends_for_none_of_their_own() {
    let disk = SimDisk::new(9);
    let manager = on(&disk, polled());
    manager.prepare().unwrap();
    let names: Vec<_> = (0..1000).map(orders).collect();
    let begin = disk.operations();
    let partitions = manager.get_or_create_all(&names, &LogConfig::default()).unwrap();
    assert_eq!(syncs_since(&disk, begin), 1);
    let begin = disk.operations();
    let made: Vec<_> = partitions[..100].iter().map(|it| append(it, b"first", Durability::Flushed)).collect();
    made.iter().for_each(|append| settle(&manager, append));
    assert_eq!(syncs_since(&disk, begin), 0, "all of it went through the journal");
    let begin = disk.operations();
    manager.get_or_create(&orders(1000), &LogConfig::default()).unwrap();
    assert_eq!(syncs_since(&disk, begin), 2, "one alone: its directory and that above");
    assert_eq!(manager.get_or_create_all(&names, &LogConfig::default()).unwrap().len(), 1000);
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    assert_eq!(found.partitions().len(), 1001);
    let again = found.get_or_create(&orders(99), &LogConfig::default()).unwrap();
    assert_eq!((values(&again, 0), again.reader().latest_epoch()), (vec![b"first".to_vec()], Some(0)));
}

#[test]
fn partitions_of_a_topic_are_made_with_its_id_in_two_syncs_and_those_of_another_are_refused() {
    let (id, other) = (Uuid::from_bytes([7; 16]), Uuid::from_bytes([8; 16]));
    let config = LogConfig::default();
    let disk = SimDisk::new(11);
    let manager = on(&disk, polled());
    let names: Vec<_> = (0..1000).map(orders).collect();
    manager.get_or_create(&names[3], &config).unwrap();
    let begin = disk.operations();
    let partitions = manager.get_or_create_topic(&names, id, &config).unwrap();
    assert_eq!(syncs_since(&disk, begin), 2 + 2, "all new ones together, and the one that was there");
    assert!(partitions.iter().all(|partition| partition.reader().topic_id() == Some(id)));
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    for name in &names {
        assert_eq!(found.get_or_create(name, &config).unwrap().reader().topic_id(), Some(id));
    }
    match found.get_or_create_topic(&names[5..7], other, &config) {
        Err(OpenError::Partition { partition, source: LogError::InconsistentTopicId { offered, known } }) => {
            assert_eq!((partition, offered, known), (names[5].clone(), other, id));
        }
        unexpected => panic!("{unexpected:?}"),
    }
}

#[test]
fn crash_while_a_topic_is_created_leaves_each_partition_with_its_id_or_without_any() {
    let id = Uuid::from_bytes([7; 16]);
    for count in [1, 3, 12] {
        let names: Vec<_> = (0..count).map(orders).collect();
        let mut at = 0;
        loop {
            let disk = SimDisk::new(10);
            let manager = on(&disk, polled());
            disk.crash_at(disk.operations() + at);
            let created = manager.get_or_create_topic(&names, id, &LogConfig::default());
            for how in [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::ZeroTail, Crash::Torn(at)] {
                let found = on(&disk.crash_image(how), polled());
                for partition in found.get_or_create_all(&found.partitions(), &LogConfig::default()).unwrap() {
                    let known = partition.reader().topic_id();
                    assert!(known == Some(id) || (known.is_none() && created.is_err()), "{how:?} at {at}: {known:?}");
                }
                assert_eq!(found.get_or_create_topic(&names, id, &LogConfig::default()).unwrap().len(), names.len());
            }
            if !disk.crashed() {
                break;
            }
            at += 1;
        }
    }
}

#[test]
fn crash_while_partitions_are_created_leaves_each_empty_or_not_at_all() {
    for count in [1, 3, 12] {
        let names: Vec<_> = (0..count).map(orders).collect();
        let mut at = 0;
        loop {
            let disk = SimDisk::new(10);
            let manager = on(&disk, polled());
            disk.crash_at(disk.operations() + at);
            let created = manager.get_or_create_all(&names, &LogConfig::default());
            for how in [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::Random(at)] {
                let found = on(&disk.crash_image(how), polled());
                assert!(created.is_err() || found.partitions().len() == names.len(), "{how:?} at {at}");
                for partition in found.get_or_create_all(&names, &LogConfig::default()).unwrap() {
                    assert_eq!(partition.offsets().log_end, 0);
                    settle(&found, &append(&partition, b"works", Durability::Flushed));
                }
            }
            if !disk.crashed() {
                break;
            }
            at += 1;
        }
        assert!(at > 4, "{at} operations");
    }
}

#[test]
fn partitions_that_could_not_be_created_are_created_later_and_durably() {
    for count in [3, 12] {
        let names: Vec<_> = (0..count).map(orders).collect();
        for at in 0.. {
            let mut disk = SimDisk::new(11);
            let mut manager = on(&disk, polled());
            let begin = disk.operations();
            disk.fail_at(begin + at, Fault::Error(nix::errno::Errno::EIO));
            let created = manager.get_or_create_all(&names, &LogConfig::default());
            if disk.operations() <= begin + at {
                break;
            }
            let sync_failed = !manager.failed_directories().is_empty();
            assert_eq!(sync_failed, disk.trace()[usize::try_from(begin + at).unwrap()].contains("sync"), "{at}");
            if sync_failed {
                // What is durable nobody knows: the directory is to be opened anew.
                disk = disk.crash_image(Crash::Random(at));
                manager = on(&disk, polled());
            }
            let partitions = match created {
                Ok(partitions) if !sync_failed => partitions,
                _ => names.iter().map(|name| manager.get_or_create(name, &LogConfig::default()).unwrap()).collect(),
            };
            partitions.iter().for_each(|it| settle(&manager, &append(it, b"kept", Durability::Flushed)));
            let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
            for partition in found.get_or_create_all(&names, &LogConfig::default()).unwrap() {
                assert_eq!(values(&partition, 0), [b"kept".to_vec()], "fault at {at}");
            }
        }
    }
}

#[test]
fn file_in_a_partitions_place_is_an_error_and_no_failure_of_the_directory() {
    let home = tempfile::tempdir().unwrap();
    let manager = LogManager::open(&[home.path()], options()).unwrap();
    std::fs::write(home.path().join("orders-0"), "a file").unwrap();
    assert!(matches!(manager.get_or_create(&orders(0), &LogConfig::default()), Err(OpenError::Partition { .. })));
    assert_eq!((manager.failed_directories(), manager.partitions()), (vec![], vec![]));
    assert_eq!(std::fs::read(home.path().join("orders-0")).unwrap(), b"a file");
    manager.get_or_create(&orders(1), &LogConfig::default()).unwrap();
}

#[test]
fn threads_that_create_the_same_partitions_get_the_same_ones() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let manager = LogManager::open(&[homes[0].path(), homes[1].path()], options()).unwrap();
    let names: Vec<_> = (0..40).map(orders).collect();
    let all: Vec<Vec<Arc<Partition>>> = std::thread::scope(|scope| {
        let create = || manager.get_or_create_all(&names, &LogConfig::default()).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, partition) in all[0].iter().enumerate() {
        assert!(all.iter().all(|other| Arc::ptr_eq(&other[number], partition)));
    }
    assert_eq!(manager.partitions().len(), 40);
    let in_first = std::fs::read_dir(homes[0].path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(in_first.count(), 20, "half of them in each directory");
}

#[test]
fn topic_config_changes_for_open_partitions_of_that_topic_alone() {
    let disk = SimDisk::new(12);
    let manager = on(&disk, polled());
    let all = manager.get_or_create_all(&[orders(0), orders(1)], &LogConfig::default()).unwrap();
    let other = manager.get_or_create(&TopicPartition::new("others", 0).unwrap(), &LogConfig::default()).unwrap();
    let small = LogConfig { segment_bytes: 2000, ..LogConfig::default() };
    assert_eq!(manager.set_topic_config("orders", &small).unwrap(), 2);
    for partition in all.iter().chain([&other]) {
        (0..4).for_each(|_| settle(&manager, &append(partition, &[1; 900], Durability::Flushed)));
    }
    let segments = |partition: &Partition| partition.reader().segments().unwrap().len();
    assert_eq!([segments(&all[0]), segments(&all[1]), segments(&other)], [2, 2, 1]);
    let contradicts = LogConfig { min_compaction_lag_ms: 10, max_compaction_lag_ms: 5, ..small };
    assert!(manager.set_topic_config("orders", &contradicts).is_err());
    assert_eq!(all[0].with(|log| log.config().min_compaction_lag_ms).unwrap(), 0);
}

#[test]
fn stray_partition_leaves_and_goes_only_when_told_to() {
    let disk = SimDisk::new(13);
    let manager = on(&disk, polled());
    manager.prepare().unwrap();
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    let waiting = append(&partition, b"stray", Durability::Flushed);
    manager.set_aside_as_stray(&orders(0)).unwrap();
    assert!(manager.partitions().is_empty() && manager.get(&orders(0)).is_none());
    assert!(waiting.is_done());
    let anew = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    assert_eq!(anew.offsets().log_end, 0);
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    let strays = found.strays();
    assert_eq!(strays, manager.strays());
    let name = &strays[0].1;
    assert!(found.futures().is_empty());
    let unknown = |name: &str| matches!(found.remove_set_aside(name), Err(OpenError::UnknownDirectory { .. }));
    assert!(["orders-0", "../x", "", "orders-1.0123456789abcdef0123456789abcdef-stray"].into_iter().all(unknown));
    assert!(found.remove_set_aside(name).unwrap());
    assert!(found.strays().is_empty() && unknown(name));
    assert_eq!(found.partitions(), [orders(0)]);
}

#[test]
fn directories_opened_before_one_that_cannot_be_opened_need_no_recovery_the_next_time() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths = [first.path(), second.path()];
    let impatient = ManagerOptions {
        directory: DirectoryOptions { lock_timeout: Duration::ZERO, ..options().directory },
        ..options()
    };
    let manager = LogManager::open(&paths, impatient.clone()).unwrap();
    append(&manager.get_or_create(&orders(0), &LogConfig::default()).unwrap(), b"kept", Durability::Flushed);
    manager.close().unwrap();

    let other_owner = LogDirectory::open(second.path()).unwrap();
    let locked = LogManager::open(&paths, impatient.clone()).unwrap_err();
    assert!(matches!(&locked, OpenError::Locked { path } if path == second.path()), "{locked}");
    other_owner.close().unwrap();

    std::fs::create_dir(paths[1].join("orders-0")).unwrap();
    let twice = LogManager::open(&paths, impatient.clone()).unwrap_err();
    let OpenError::Duplicate { partition, first, second } = &twice else { panic!("{twice}") };
    assert_eq!((partition, [&**first, &**second]), (&orders(0), paths));
    std::fs::remove_dir(paths[1].join("orders-0")).unwrap();

    let manager = LogManager::open(&paths, impatient).unwrap();
    assert!(manager.reports().iter().all(|report| report.clean), "{:?}", manager.reports());
    let orders = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    assert_eq!(values(&orders, 0), [b"kept"]);
}

#[test]
fn load_tells_of_each_log_how_far_its_recovery_is() {
    let disk = SimDisk::new(14);
    let manager = on(&disk, polled());
    let all = manager.get_or_create_all(&[orders(0), orders(1)], &LogConfig::default()).unwrap();
    all.iter().for_each(|it| settle(&manager, &append(it, &[1; 900], Durability::Flushed)));
    let found = on(&disk.crash_image(Crash::LoseAllUnsynced), polled());
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |progress: LoadProgress<'_>| {
        told.lock().unwrap().push(match progress {
            LoadProgress::Recovering { partition, progress } => {
                (partition.clone(), progress.bytes_done == progress.bytes_total, 0)
            }
            LoadProgress::Opened { partition, done, total: 2 } => (partition.clone(), true, done),
            other => panic!("{other:?}"),
        });
    };
    found.load(1, &|_| LogConfig::default(), &tell).unwrap();
    let told = told.into_inner().unwrap();
    for number in 0..2 {
        let of_one: Vec<_> = told.iter().filter(|(partition, ..)| *partition == orders(number)).collect();
        assert!(of_one.len() >= 2, "{told:?}");
        assert!(
            of_one.iter().rev().take(2).all(|(_, is_whole, _)| *is_whole),
            "read to the end, then opened: {told:?}"
        );
    }
    assert_eq!(told.iter().map(|(.., done)| *done).max(), Some(2));
}

#[test]
fn polled_append_that_rolls_waits_for_no_write_that_only_its_own_thread_could_end() {
    let dir = tempfile::TempDir::new().unwrap();
    let (storage, _) = duramen::storage::open_best(dir.path()).unwrap();
    let manager = LogManager::open_on(vec![storage], polled()).unwrap();
    manager.prepare().unwrap();
    let config = LogConfig { segment_bytes: 6000, ..LogConfig::default() };
    let partition = manager.get_or_create(&orders(0), &config).unwrap();
    let value = vec![b'v'; 2000];
    let appends: Vec<_> = (0..60)
        .map(|_| {
            let append = append(&partition, &value, Durability::Flushed);
            manager.poll();
            append
        })
        .collect();
    while !appends.iter().all(|append| append.is_done()) {
        manager.poll();
    }
    assert_eq!(values(&partition, 0).len(), 60);
    manager.close().unwrap();
}
