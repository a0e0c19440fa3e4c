//! A process that appends from several threads is killed at random moments: what it was told is durable is there, each log
//! is a prefix of what was appended, and opening twice is opening once.
//!
//! The killed process is this test binary again. It writes each acknowledgement into a pipe, and having read so many of
//! them is the moment at which it is killed. `DURAMEN_KILLS` sets the number of kills (10), `DURAMEN_SEED` the seed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    Append, AppendAsLeader, DirectoryOptions, Durability, Fetch, HighWatermarkPolicy, Isolation, LogConfig, LogManager,
    ManagerOptions, Partition, TopicPartition, ValidationPolicy,
    format::{
        batch::{Batch, Batches},
        builder::BatchBuilder,
    },
    storage::{Posix, Storage, open_best},
    validate,
};
use duramen_tests::{fixture::NOW_MS, random::Random};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

const TEST: &str = "process_killed_under_load_keeps_every_acknowledged_append";
/// Set in the process that is to be killed: the log directory.
const CHILD: &str = "DURAMEN_TEST_CHILD";
/// Set as well where it is to do without io_uring.
const PLAIN: &str = "DURAMEN_TEST_PLAIN";
const PARTITIONS: usize = 50;
const THREADS: usize = 4;

/// Small, so that logs roll, the journal is used again and memory runs short within a round.
fn open(dir: &Path, plain: bool) -> LogManager {
    let storage: Arc<dyn Storage> = if plain { Arc::new(Posix::open(dir).unwrap()) } else { open_best(dir).unwrap().0 };
    let options = ManagerOptions {
        journal_bytes: 1 << 20,
        gather_bytes: 1 << 20,
        piece_bytes: 16 << 10,
        high_watermark: HighWatermarkPolicy::LogEnd,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
        ..ManagerOptions::default()
    };
    LogManager::open_on(vec![storage], options).unwrap()
}

fn partition(manager: &LogManager, number: usize) -> Arc<Partition> {
    let config = LogConfig { segment_bytes: 32 << 10, ..LogConfig::default() };
    let name = TopicPartition::new("killed", i32::try_from(number).unwrap()).unwrap();
    manager.get_or_create(&name, &config).unwrap()
}

/// The batch of one record that a partition has at an offset, whoever appended it.
fn batch_at(partition: usize, offset: i64) -> Vec<u8> {
    let mut random = Random::new(u64::try_from(partition).unwrap() << 32 | offset.cast_unsigned());
    let value: Vec<u8> = (0..1 + random.below(80)).flat_map(|_| random.next().to_be_bytes()).collect();
    BatchBuilder::new().record(NOW_MS, None, Some(&value)).build().unwrap()
}

fn crc_of(batch: &[u8]) -> u32 {
    Batch::parse(batch).unwrap().header().crc()
}

/// The killed process: appends to its partitions in rounds, waits, and tells of each that was acknowledged.
fn append_for_ever(manager: &LogManager, thread: usize) {
    let partitions: Vec<_> =
        (thread..PARTITIONS).step_by(THREADS).map(|number| (number, partition(manager, number))).collect();
    let policy = ValidationPolicy::from_config(&LogConfig::default());
    let append = |(number, partition): &(usize, Arc<Partition>)| -> (usize, u32, Append) {
        let bytes = batch_at(*number, partition.offsets().log_end);
        let crc = crc_of(&bytes);
        let batch = validate(bytes, &policy, NOW_MS).unwrap();
        let made = partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), Durability::Flushed);
        (*number, crc, made.unwrap())
    };
    loop {
        let in_flight: Vec<_> = partitions.iter().map(append).collect();
        for (number, crc, made) in in_flight {
            let offset = made.wait(None).unwrap().last_offset;
            // One write, so that lines are whole.
            let line = format!("ack {number} {offset} {crc}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        }
    }
}

fn spawn_child(dir: &Path, plain: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([TEST, "--exact", "--nocapture"]).env(CHILD, dir).stdout(Stdio::piped());
    if plain {
        command.env(PLAIN, "1");
    }
    command.spawn().unwrap()
}

/// What was acknowledged: the checksum of the batch at an offset of a partition.
type Acknowledged = BTreeMap<(usize, i64), u32>;

/// Lets a process append until it has told of so many appends, kills it, and adds what it told to the very end.
fn append_and_kill(dir: &Path, plain: bool, moment: usize, acknowledged: &mut Acknowledged) {
    let mut child = spawn_child(dir, plain);
    let mut told = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(ack) = line.strip_prefix("ack ") else { continue };
        let mut words = ack.split(' ');
        // The last line of a killed process may be cut.
        let [Some(number), Some(offset), Some(crc)] = [words.next(), words.next(), words.next()] else { continue };
        let Ok(crc) = crc.parse() else { continue };
        acknowledged.insert((number.parse().unwrap(), offset.parse().unwrap()), crc);
        told += 1;
        if told == moment {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(told >= moment, "the process ended by itself after {told} appends");
}

/// The checksums of all batches of a partition, each of which is the one that belongs there.
fn checked(manager: &LogManager, number: usize) -> Vec<u32> {
    let partition = partition(manager, number);
    let mut found = Vec::new();
    loop {
        let next = i64::try_from(found.len()).unwrap();
        let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(next) };
        let Some(records) = partition.read(fetch).unwrap().records else { break };
        let bytes = records.to_vec().unwrap();
        for batch in Batches::new(&bytes).map_while(Result::ok) {
            let offset = i64::try_from(found.len()).unwrap();
            assert_eq!(batch.header().base_offset(), offset, "partition {number}");
            batch.check_crc().unwrap();
            let expected = batch_at(number, offset);
            let body = duramen::format::batch::ATTRIBUTES_AT;
            assert!(batch.bytes()[body..] == expected[body..], "partition {number}: another batch at {offset}");
            found.push(batch.header().crc());
        }
    }
    assert_eq!(partition.offsets().log_end, i64::try_from(found.len()).unwrap(), "partition {number} ends there");
    found
}

fn check(manager: &LogManager, acknowledged: &Acknowledged) -> Vec<Vec<u32>> {
    let found: Vec<_> = (0..PARTITIONS).map(|number| checked(manager, number)).collect();
    for ((number, offset), crc) in acknowledged {
        let there = found[*number].get(usize::try_from(*offset).unwrap());
        assert_eq!(
            there,
            Some(crc),
            "acknowledged at {offset} of partition {number}, which has {}",
            found[*number].len()
        );
    }
    found
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn process_killed_under_load_keeps_every_acknowledged_append() {
    if let Ok(dir) = std::env::var(CHILD) {
        let manager = open(Path::new(&dir), std::env::var(PLAIN).is_ok());
        thread::scope(|scope| {
            (0..THREADS).for_each(|number| {
                drop(scope.spawn({
                    let manager = &manager;
                    move || append_for_ever(manager, number)
                }))
            });
        });
        return;
    }
    let (kills, seed) = (setting("DURAMEN_KILLS", 10), setting("DURAMEN_SEED", 11));
    println!("DURAMEN_SEED={seed} DURAMEN_KILLS={kills}");
    let mut random = Random::new(seed);
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    for kill in 0..kills {
        let (plain, moment) = (random.below(4) == 0, 1 + random.below(1000));
        println!("kill {kill} after {moment} appends, {}", if plain { "plain calls" } else { "the best backend" });
        append_and_kill(home.path(), plain, moment, &mut acknowledged);
        let manager = open(home.path(), false);
        let once = check(&manager, &acknowledged);
        drop(manager);
        let manager = open(home.path(), false);
        assert!(check(&manager, &acknowledged) == once, "opening twice is opening once");
        if random.coin() {
            manager.close().unwrap();
        }
    }
    println!("{} acknowledged appends survived {kills} kills", acknowledged.len());
}
