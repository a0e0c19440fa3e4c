//! Where partitions are, whatever fails while they are made or deleted: in one directory, or in none.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, Background, DirectoryOptions, Durability, HighWatermarkPolicy, Isolation, LogConfig, LogError,
    LogManager, ManagerOptions, OpenError, TopicPartition, ValidatedBatch, ValidationPolicy,
    format::{builder::BatchBuilder, checkpoint, uuid::Uuid},
    storage::Storage,
    validate,
};
use duramen_tests::{
    disk::{Crash, Fault, SimDisk},
    fixture::NOW_MS,
};
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

fn manager(disks: &[SimDisk]) -> Result<LogManager, OpenError> {
    let storages = disks.iter().map(|disk| Arc::new(disk.clone()) as Arc<dyn Storage>).collect();
    let options = ManagerOptions {
        background: Background::Host,
        now_ms: Some(NOW_MS),
        journal_bytes: 128 << 10,
        piece_bytes: 4096,
        gather_bytes: 4 << 20,
        high_watermark: HighWatermarkPolicy::LogEnd,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), file_delete_delay_ms: 0, ..DirectoryOptions::default() },
        ..ManagerOptions::default()
    };
    LogManager::open_on(storages, options)
}

fn named(topic: &str, partitions: i32) -> Vec<TopicPartition> {
    (0..partitions).map(|number| TopicPartition::new(topic, number).unwrap()).collect()
}

fn batch(value: &[u8]) -> ValidatedBatch {
    let bytes = BatchBuilder::new().record(NOW_MS, Some(b"key"), Some(value)).build().unwrap();
    validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap()
}

/// The partitions with a directory of their own, of all that a disk holds.
fn on(disk: &SimDisk) -> BTreeSet<String> {
    let entries = disk.list(Path::new("")).unwrap();
    let names = entries.into_iter().map(|entry| entry.name.to_string_lossy().into_owned());
    names.filter(|name| name.parse::<f64>().is_err() && name.contains('-') && !name.contains('.')).collect()
}

/// One topic that stays, so that the other directory has the fewest; topics made in several ways, deleted, and made again. Who
/// gets an error tries once more.
fn make_and_delete(manager: &LogManager) {
    let config = LogConfig::default();
    let (old, new) = (named("old", 2), named("new", 3));
    let again = |work: &dyn Fn() -> Result<(), OpenError>| drop(work().or_else(|_| work()));
    again(&|| manager.get_or_create_topic(&old, Uuid::from_bytes([7; 16]), &config).map(drop));
    again(&|| manager.get_or_create(&new[0], &config).map(drop));
    again(&|| manager.get_or_create_all(&new, &config).map(drop));
    again(&|| manager.delete_all(&new));
    again(&|| manager.get_or_create_all(&new, &config).map(drop));
    again(&|| manager.delete(&old[1]));
    again(&|| manager.get_or_create(&old[1], &config).map(drop));
}

/// Has each operation of each of two disks fail in each of these ways, and finds the disks after each pair of crashes: `run` goes by
/// a manager and keeps what it learns, `check` gets that and the manager found afterwards, and what happened.
fn fail_everywhere<T>(
    faults: &[Fault],
    crashes: impl Fn(u64) -> Vec<[Crash; 2]>,
    mut run: impl FnMut(&LogManager) -> T,
    check: impl Fn(&T, &LogManager, &str),
) {
    let whole = [SimDisk::new(1), SimDisk::new(2)];
    run(&manager(&whole).unwrap());
    for (which, faulty) in whole.iter().enumerate() {
        for operation in 0..faulty.operations() {
            for fault in faults {
                let disks = [SimDisk::new(1), SimDisk::new(2)];
                disks[which].fail_at(operation, *fault);
                let Ok(manager) = manager(&disks) else { continue };
                let learnt = run(&manager);
                drop(manager);
                for crashes in crashes(operation) {
                    let what = format!("disk {which}, operation {operation}, {fault:?}, {crashes:?}");
                    let images = [disks[0].crash_image(crashes[0]), disks[1].crash_image(crashes[1])];
                    let found = self::manager(&images).unwrap_or_else(|error| panic!("{what}: {error}"));
                    check(&learnt, &found, &what);
                }
            }
        }
    }
}

#[test]
fn partition_is_in_one_directory_whatever_fails_and_whatever_a_crash_leaves() {
    let faults = [
        Fault::Error(Errno::EIO),
        Fault::Error(Errno::ENOSPC),
        Fault::DropPages { errno: Errno::EIO, evict: false },
        Fault::Crash,
    ];
    let crashes = |operation| {
        vec![
            [Crash::KeepAll, Crash::KeepAll],
            [Crash::LoseAllUnsynced, Crash::KeepAll],
            [Crash::KeepAll, Crash::LoseAllUnsynced],
            [Crash::Random(operation), Crash::LoseAllUnsynced],
        ]
    };
    let mut failed = 0;
    let run = |manager: &LogManager| {
        make_and_delete(manager);
        failed += manager.failed_directories().len();
        let known: BTreeSet<_> = manager.partitions().into_iter().collect();
        assert_eq!(known.len(), manager.partitions().len(), "known twice");
        known
    };
    fail_everywhere(&faults, crashes, run, |known, found, what| {
        for partition in found.partitions() {
            assert!(known.contains(&partition), "{what}: {partition} came back");
            let open = found.get_or_create(&partition, &LogConfig::default());
            open.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    });
    assert!(failed > 20, "{failed} directories failed");
}

/// What a host knows: the records of each partition that it was promised. Of partitions in doubt, since their directory failed
/// while they were deleted, there may be all or none.
#[derive(Default)]
struct Host {
    promised: BTreeMap<TopicPartition, Vec<Vec<u8>>>,
    in_doubt: BTreeSet<TopicPartition>,
    count: u64,
}

impl Host {
    fn append(&mut self, manager: &LogManager, name: &TopicPartition) {
        let Some(open) = manager.get(name) else { return };
        self.count += 1;
        let value = self.count.to_be_bytes().to_vec();
        let leader = AppendAsLeader::new(0, NOW_MS);
        let Ok(append) = open.append_as_leader(batch(&value), leader, Durability::Flushed) else { return };
        (0..100).take_while(|_| !append.is_done()).for_each(|_| _ = manager.poll());
        if append.is_done() && append.wait(None).is_ok() {
            self.promised.entry(name.clone()).or_default().push(value);
        }
    }

    fn delete(&mut self, manager: &LogManager, names: &[TopicPartition]) {
        let deleted = manager.delete_all(names);
        let left = manager.partitions();
        for name in names {
            if !left.contains(name) {
                self.promised.remove(name);
            } else {
                assert!(deleted.is_err());
                // Its log may be closed, in a directory that goes on: all of it is still there.
                if !manager.failed_directories().is_empty() {
                    self.in_doubt.insert(name.clone());
                }
            }
        }
    }

    fn run(&mut self, manager: &LogManager) {
        let config = LogConfig::default();
        let (old, new) = (named("old", 2), named("new", 3));
        let all = [&old[..], &new].concat();
        drop(manager.prepare());
        for round in 0..2 {
            drop(manager.get_or_create_all(&old, &config));
            drop(manager.get_or_create_topic(&new, Uuid::from_bytes([7; 16]), &config));
            all.iter().for_each(|name| self.append(manager, name));
            drop(manager.checkpoint());
            all.iter().for_each(|name| self.append(manager, name));
            if round == 0 {
                self.delete(manager, &[new[0].clone(), new[1].clone(), old[1].clone()]);
                manager.tick();
                drop(manager.apply_retention());
            }
        }
    }

    fn check(&self, found: &LogManager, what: &str) {
        for (name, promised) in &self.promised {
            let there = match found.partitions().contains(name) {
                true => values(found, name).unwrap_or_else(|error| panic!("{what}: {name}: {error}")),
                false => Vec::new(),
            };
            let is_gone = self.in_doubt.contains(name) && there.is_empty();
            assert!(is_gone || there.starts_with(promised), "{what}: {name} has {there:?}, promised were {promised:?}");
        }
    }
}

fn values(manager: &LogManager, name: &TopicPartition) -> Result<Vec<Vec<u8>>, OpenError> {
    let open = manager.get_or_create(name, &LogConfig::default())?;
    let (mut found, mut scratch) = (Vec::new(), Vec::new());
    let read = open.reader().for_each_batch(0, Isolation::LogEnd, |batch| {
        for record in batch.records(&mut scratch, 1 << 20)? {
            found.push(record?.value().unwrap().to_vec());
        }
        Ok::<(), LogError>(())
    });
    read.map_err(|source| OpenError::Partition { partition: name.clone(), source })?;
    Ok(found)
}

#[test]
fn what_was_promised_is_there_whatever_fails_while_other_partitions_come_and_go() {
    let faults = [Fault::Error(Errno::EIO), Fault::Error(Errno::ENOSPC), Fault::Crash];
    let crashes =
        |operation| vec![[Crash::LoseAllUnsynced; 2], [Crash::KeepAll; 2], [Crash::Random(operation), Crash::ZeroTail]];
    let mut promised = 0;
    let run = |manager: &LogManager| {
        let mut host = Host::default();
        host.run(manager);
        promised += host.promised.values().map(Vec::len).sum::<usize>();
        host
    };
    fail_everywhere(&faults, crashes, run, Host::check);
    assert!(promised > 5000, "{promised} records promised");
}

#[test]
fn directory_without_space_is_passed_over_and_keeps_nothing() {
    let disks = [SimDisk::new(1), SimDisk::new(2)];
    let manager = manager(&disks).unwrap();
    let config = LogConfig::default();
    manager.get_or_create_all(&named("fill", 1), &config).unwrap();
    disks[1].set_capacity(Some(0));
    // The empty one would be next.
    let id = Uuid::from_bytes([7; 16]);
    let opened = manager.get_or_create_topic(&named("new", 3), id, &config).unwrap();
    assert_eq!(opened.len(), 3);
    assert_eq!(on(&disks[0]), ["fill-0", "new-0", "new-1", "new-2"].map(String::from).into());
    assert_eq!(on(&disks[1]), BTreeSet::new());
    assert!(manager.failed_directories().is_empty());
    // Where the host names the directory there is no other.
    let refused = manager.get_or_create_topic_in(1, &named("there", 2), id, &config).unwrap_err();
    assert!(matches!(&refused, OpenError::Storage(error) if error.is_disk_full()), "{refused}");
    assert_eq!((on(&disks[1]), manager.partitions().len()), (BTreeSet::new(), 4));
    disks[1].heal();
    manager.get_or_create_topic_in(1, &named("there", 2), id, &config).unwrap();
}

#[test]
fn deletion_whose_sync_fails_leaves_the_partition_where_it_may_still_be() {
    let disks = [SimDisk::new(1), SimDisk::new(2)];
    let manager = manager(&disks).unwrap();
    let one = named("one", 1);
    manager.get_or_create_all(&one, &LogConfig::default()).unwrap();
    disks[0].fail_next("sync directory", Fault::Error(Errno::EIO));
    assert!(matches!(manager.delete(&one[0]), Err(OpenError::Storage(_))));
    assert_eq!((manager.partitions(), manager.failed_directories().len()), (one.clone(), 1));
    // Not in the other one, whatever becomes of it here.
    drop(manager.get_or_create(&one[0], &LogConfig::default()));
    assert_eq!(on(&disks[1]), BTreeSet::new());
    manager.get_or_create_all(&named("others", 3), &LogConfig::default()).unwrap();
    assert_eq!(on(&disks[1]).len(), 3);
}

#[test]
fn new_partition_begins_without_what_was_said_of_one_deleted_on_a_full_disk() {
    let disks = [SimDisk::new(1)];
    let open = manager(&disks).unwrap();
    let (one, config) = (named("one", 1), LogConfig::default());
    open.get_or_create_all(&one, &config).unwrap();
    let partition = open.get(&one[0]).unwrap();
    let leader = AppendAsLeader::new(0, NOW_MS);
    (0..3).for_each(|_| drop(partition.append_as_leader(batch(b"value"), leader, Durability::Written).unwrap()));
    open.checkpoint().unwrap();
    let said = |disk: &SimDisk| {
        let bytes = disk.files().remove(Path::new("replication-offset-checkpoint")).unwrap();
        checkpoint::decode_offsets(&bytes).unwrap().get(&one[0]).copied()
    };
    assert_eq!(said(&disks[0]), Some(3));
    let used: usize = disks[0].files().values().map(Vec::len).sum();
    disks[0].set_capacity(Some(u64::try_from(used).unwrap()));
    open.delete(&one[0]).unwrap();
    assert!(open.partitions().is_empty() && open.failed_directories().is_empty());
    assert_eq!(said(&disks[0]), Some(3), "there was no space to say otherwise");
    assert!(open.get_or_create(&one[0], &config).is_err(), "it would be found with the old one's high watermark");
    drop(open.apply_retention());
    open.get_or_create(&one[0], &config).unwrap();
    assert_eq!(said(&disks[0]), None);
}
