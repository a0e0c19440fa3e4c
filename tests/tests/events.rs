//! What a host is told of its directories: full disks and space, and rings that the kernel refuses.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, Background, DirectoryOptions, Durability, Event, EventHandler, LogConfig, LogError, LogManager,
    ManagerOptions, Partition, PartitionError, TopicPartition, ValidationPolicy,
    format::builder::BatchBuilder,
    storage::{Storage, open_best},
    validate,
};
use duramen_tests::{disk::SimDisk, fixture::NOW_MS};
use nix::{errno::Errno, libc};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};
use std::{
    mem,
    sync::{Arc, Mutex},
    thread,
};

/// What was told so far.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn options(&self) -> ManagerOptions {
        let told = Arc::clone(&self.0);
        ManagerOptions {
            background: Background::Host,
            journal_bytes: 128 << 10,
            gather_bytes: 1 << 20,
            piece_bytes: 4096,
            directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
            events: EventHandler::new(move |_, event| told.lock().unwrap().push(event)),
            ..ManagerOptions::default()
        }
    }

    fn take(&self) -> Vec<Event> {
        mem::take(&mut *self.0.lock().unwrap())
    }
}

fn orders(manager: &LogManager) -> Arc<Partition> {
    manager.get_or_create(&TopicPartition::new("orders", 0).unwrap(), &LogConfig::default()).unwrap()
}

/// Whether the disk had space.
fn append(partition: &Partition, durability: Durability) -> bool {
    let bytes = BatchBuilder::new().record(NOW_MS, None, Some(&[7; 1500])).build().unwrap();
    let batch = validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap();
    match partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), durability) {
        Ok(_) => true,
        Err(PartitionError::Log(LogError::DiskFull(_))) => false,
        Err(error) => panic!("{error}"),
    }
}

fn fill(disk: &SimDisk, spare: u64) {
    let used: usize = disk.files().values().map(Vec::len).sum();
    disk.set_capacity(Some(u64::try_from(used).unwrap() + spare));
}

fn work(manager: &LogManager) {
    while manager.poll() {}
}

/// What the threads do in a second: twice.
fn tick(manager: &LogManager) {
    for _ in 0..2 {
        manager.tick();
        work(manager);
    }
}

#[test]
fn full_disk_and_space_are_told_once_each_where_appends_gather() {
    let (disk, told) = (SimDisk::new(1), Told::default());
    let manager = LogManager::open_on(vec![Arc::new(disk.clone()) as Arc<dyn Storage>], told.options()).unwrap();
    manager.prepare().unwrap();
    let partition = orders(&manager);
    work(&manager);
    assert!(matches!(told.take()[..], [Event::JournalMade { .. }]));
    for _ in 0..2 {
        fill(&disk, 12_000);
        let mut refused = 0;
        for _ in 0..40 {
            refused += usize::from(!append(&partition, Durability::Flushed));
            work(&manager);
        }
        assert!(refused > 0);
        (0..5).for_each(|_| tick(&manager));
        assert_eq!(told.take(), [Event::DiskFull]);
        disk.heal();
        tick(&manager);
        assert_eq!(
            told.take(),
            [Event::DiskHasSpace],
            "the first tries what was refused, the second sees what came of it"
        );
        assert!(append(&partition, Durability::Flushed));
        (0..5).for_each(|_| tick(&manager));
        assert_eq!(told.take(), []);
    }
    manager.close().unwrap();
}

#[test]
fn full_disk_and_space_are_told_once_each_without_a_journal() {
    let (disk, told) = (SimDisk::new(2), Told::default());
    let options = ManagerOptions { journal_bytes: 0, ..told.options() };
    let manager = LogManager::open_on(vec![Arc::new(disk.clone()) as Arc<dyn Storage>], options).unwrap();
    let partition = orders(&manager);
    fill(&disk, 12_000);
    let refused = (0..40).filter(|_| !append(&partition, Durability::Written)).count();
    assert!(refused > 0);
    (0..5).for_each(|_| tick(&manager));
    assert_eq!(told.take(), [Event::DiskFull]);
    disk.heal();
    (0..5).for_each(|_| tick(&manager));
    assert_eq!(told.take(), [], "nobody tried");
    assert!(append(&partition, Durability::Written));
    (0..5).for_each(|_| tick(&manager));
    assert_eq!(told.take(), [Event::DiskHasSpace]);
    manager.close().unwrap();
}

/// A filter holds for the thread that sets it and those that it starts.
fn refuse_rings() {
    let filter = SeccompFilter::new(
        [(libc::SYS_io_uring_setup, vec![])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(u32::try_from(Errno::EPERM as i32).unwrap()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

fn is_refused(event: &Event) -> bool {
    matches!(event, Event::RingRefused { cause } if cause.contains("seccomp"))
}

#[test]
fn io_uring_that_is_refused_is_told_and_appends_are_durable_without() {
    let test = || {
        let home = tempfile::tempdir().unwrap();
        let told = Told::default();
        refuse_rings();
        let manager = LogManager::open(&[home.path()], told.options()).unwrap();
        work(&manager);
        assert!(matches!(&told.take()[..], [event] if is_refused(event)));
        manager.prepare().unwrap();
        let partition = orders(&manager);
        assert!(append(&partition, Durability::Flushed));
        work(&manager);
        assert_eq!(partition.flushed(), 1);
        assert!(matches!(told.take()[..], [Event::JournalMade { .. }]));
        manager.close().unwrap();
    };
    thread::spawn(test).join().unwrap();
}

#[test]
fn one_ring_more_that_is_refused_is_told_and_appends_are_durable_without() {
    let test = || {
        let home = tempfile::tempdir().unwrap();
        let told = Told::default();
        let (storage, _) = open_best(home.path()).unwrap();
        let manager = LogManager::open_on(vec![storage], told.options()).unwrap();
        refuse_rings();
        manager.prepare().unwrap();
        let partition = orders(&manager);
        assert!(append(&partition, Durability::Flushed));
        work(&manager);
        assert_eq!(partition.flushed(), 1);
        assert!(matches!(&told.take()[..], [Event::JournalMade { .. }, event] if is_refused(event)));
        manager.close().unwrap();
    };
    thread::spawn(test).join().unwrap();
}
