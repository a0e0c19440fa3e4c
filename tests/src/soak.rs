//! Everything at once over one log manager, for as long as wanted: producers, consumers, upkeep, deletions and restarts.
//!
//! A generation is a manager that is opened, worked on by all threads, and closed or abandoned. Each partition has one
//! producer, which therefore knows every offset beforehand, and writes it into the record. What a process holds between
//! two generations has to stay level.

mod consume;
mod produce;

use crate::random::Random;
use duramen::{DirectoryOptions, HighWatermarkPolicy, LogConfig, LogManager, ManagerOptions, TopicPartition};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Partitions over both directories.
pub const PARTITIONS: usize = 200;
const PRODUCERS: usize = 3;
const CONSUMERS: usize = 2;
/// More than what is kept at once.
const DISK_BYTES: u64 = 600 << 20;
/// Descriptors and memory may move by so much between generations.
const DESCRIPTOR_SLACK: usize = 8;
const MEMORY_SLACK: u64 = 96 << 20;
/// The first generations fill pools and caches.
const WARM_UP: u64 = 2;
/// More than it takes to write what was gathered once nothing is appended any more.
const REST: Duration = Duration::from_secs(20);

/// What a partition is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Flushed appends; deleted and made anew now and then.
    Flushed,
    /// An idempotent producer, written and flushed.
    Idempotent,
    /// Transactions.
    Transactional,
    /// Keys, compacted.
    Compacted,
}

fn kind_of(partition: usize) -> Kind {
    [Kind::Flushed, Kind::Idempotent, Kind::Transactional, Kind::Compacted][partition % 4]
}

fn name(partition: usize) -> TopicPartition {
    TopicPartition::new("soak", i32::try_from(partition).unwrap()).unwrap()
}

fn config(partition: usize) -> LogConfig {
    let mut config = LogConfig { segment_bytes: 16 << 10, retention_bytes: Some(48 << 10), ..LogConfig::default() };
    config.cleanup_policy.compact = kind_of(partition) == Kind::Compacted;
    config.cleanup_policy.delete = !config.cleanup_policy.compact;
    config
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// What has been done to a partition, for ever.
#[derive(Debug, Clone, Copy, Default)]
struct Ledger {
    /// The next offset: everything below was acknowledged.
    end: i64,
    sequence: i32,
    in_transaction: bool,
}

/// What the threads of a generation share.
struct Shared {
    manager: LogManager,
    is_over: AtomicBool,
    /// How often each partition was made anew.
    incarnations: Vec<AtomicU64>,
    ledgers: Vec<Mutex<Ledger>>,
    counts: Counts,
    violation: Mutex<Option<String>>,
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    appends: AtomicU64,
    records_read: AtomicU64,
    segments_deleted: AtomicU64,
    cleanings: AtomicU64,
    recreations: AtomicU64,
    checkpoints: AtomicU64,
}

impl Shared {
    fn ledger(&self, partition: usize) -> MutexGuard<'_, Ledger> {
        self.ledgers[partition].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first violation and ends the generation.
    fn report(&self, result: Result<(), String>) {
        if let Err(why) = result {
            self.violation.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// What the process holds.
#[derive(Debug, Clone, Copy)]
struct Level {
    descriptors: usize,
    threads: usize,
    resident_bytes: u64,
}

impl Level {
    fn now() -> Self {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        // Workers of the kernel's rings linger for a while.
        let own = tasks
            .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| !name.starts_with("iou-")));
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let resident: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap();
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: own.count(),
            resident_bytes: resident * 4096,
        }
    }

    fn check(&self, first: &Self) -> Result<(), String> {
        let is_level = self.descriptors <= first.descriptors + DESCRIPTOR_SLACK
            && self.threads <= first.threads
            && self.resident_bytes <= first.resident_bytes + MEMORY_SLACK;
        if is_level { Ok(()) } else { Err(format!("something leaks: {first:?} became {self:?}")) }
    }
}

fn open(dirs: &[PathBuf]) -> Result<LogManager, String> {
    let directory = DirectoryOptions { file_delete_delay_ms: 0, ..DirectoryOptions::default() };
    let options = ManagerOptions {
        journal_bytes: 4 << 20,
        gather_bytes: 4 << 20,
        piece_bytes: 16 << 10,
        high_watermark: HighWatermarkPolicy::LogEnd,
        directory,
        ..ManagerOptions::default()
    };
    let dirs: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
    let manager = LogManager::open(&dirs, options).map_err(|error| error.to_string())?;
    for partition in 0..PARTITIONS {
        manager.get_or_create(&name(partition), &config(partition)).map_err(|error| error.to_string())?;
    }
    Ok(manager)
}

/// Runs for a time, in a directory that is empty, and tells of every generation by a line.
///
/// # Errors
/// The first promise that is broken.
pub fn run(home: &Path, time: Duration, generation: Duration, seed: u64) -> Result<(), String> {
    let room = nix::sys::statvfs::statvfs(home).map_err(|error| error.to_string())?;
    if room.blocks_available() * room.fragment_size() < 2 * DISK_BYTES {
        return Err("there is not enough space".to_owned());
    }
    let dirs = ["first", "second"].map(|dir| home.join(dir));
    println!("DURAMEN_SEED={seed}");
    let begun = Instant::now();
    let mut ledgers = vec![Ledger::default(); PARTITIONS];
    let (mut number, mut random, mut first) = (0, Random::new(seed), None);
    while begun.elapsed() < time {
        let rest = time.saturating_sub(begun.elapsed()).min(generation);
        let counts = one_generation(&dirs, rest, random.next(), &mut ledgers)?;
        let (level, used) = (Level::now(), bytes_in(home));
        println!("{:4} s, generation {number}: {counts:?}, {used} bytes on disk, {level:?}", begun.elapsed().as_secs());
        if used > DISK_BYTES {
            return Err(format!("{used} bytes on disk: what is deleted does not go"));
        }
        if number >= WARM_UP {
            level.check(first.get_or_insert(level))?;
        }
        number += 1;
    }
    Ok(())
}

/// Bytes of all files below a directory. What is removed meanwhile counts nothing.
fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        found => found.map_or(0, |found| found.len()),
    });
    bytes.sum()
}

fn one_generation(dirs: &[PathBuf], time: Duration, seed: u64, ledgers: &mut [Ledger]) -> Result<Counts, String> {
    let manager = open(dirs)?;
    for (partition, ledger) in ledgers.iter().enumerate() {
        let found = manager.get(&name(partition)).map(|open| open.offsets().log_end);
        if found != Some(ledger.end) {
            return Err(format!("partition {partition} ends at {found:?} after a restart, {} were told", ledger.end));
        }
    }
    let shared = Arc::new(Shared {
        manager,
        is_over: AtomicBool::new(false),
        incarnations: (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect(),
        ledgers: ledgers.iter().map(|ledger| Mutex::new(*ledger)).collect(),
        counts: Counts::default(),
        violation: Mutex::default(),
    });
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let shared = &*shared;
        for number in 0..PRODUCERS {
            let random = Random::new(seed ^ u64::try_from(number).unwrap());
            scope.spawn(move || shared.report(produce::run(shared, number, random, end)));
        }
        for number in 0..CONSUMERS {
            scope.spawn(move || shared.report(consume::run(shared, number, end)));
        }
    });
    if let Some(why) = shared.violation.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(why);
    }
    for (partition, ledger) in ledgers.iter_mut().enumerate() {
        *ledger = *shared.ledger(partition);
    }
    rest(&shared.manager)?;
    if seed.is_multiple_of(2) {
        shared.manager.close().map_err(|error| error.to_string())?;
    }
    let shared = Arc::into_inner(shared).ok_or("somebody still holds the manager")?;
    drop(shared.manager);
    Ok(shared.counts)
}

/// Nothing is appended any more: what was gathered has to reach the segments by itself.
fn rest(manager: &LogManager) -> Result<(), String> {
    let limit = Instant::now() + REST;
    loop {
        let gathered: u64 = manager.metrics().iter().map(|directory| directory.gathered_bytes).sum();
        if gathered == 0 {
            return Ok(());
        }
        if Instant::now() > limit {
            return Err(format!("{gathered} bytes stay gathered"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}
