//! Everything at once over one log manager, for as long as wanted: producers, consumers, upkeep, deletions, a directory that
//! fails, directories that were moving here, and restarts.
//!
//! A generation is a manager that is opened, worked on by all threads, and closed or abandoned; in every third one the disk
//! of one directory fails half-way. Each partition has one producer, which therefore knows every offset beforehand, and
//! writes it into the record. After a restart all that was acknowledged is there, byte for byte; what the process holds
//! is as before the generation.

mod consume;
mod failing;
mod futures;
mod heap;
mod ledger;
mod produce;

pub use heap::Heap;

use self::{
    failing::{Failing, Switch},
    futures::Futures,
    ledger::Ledger,
};
use crate::random::Random;
use duramen::{
    DirectoryOptions, HighWatermarkPolicy, KafkaErrorCode, LogConfig, LogManager, ManagerOptions, PartitionError,
    TopicPartition,
    storage::{Storage, open_best},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
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
/// Memory may move by so much between generations: what is allocated, and what the allocator has of the kernel for it. The
/// latter grows for some minutes, as threads of every generation leave their fragments in its arenas.
const HEAP_SLACK: usize = 16 << 10;
const RESIDENT_SLACK: u64 = 32 << 20;
/// The first generations fill pools and caches.
const WARM_UP: u64 = 2;
/// More than it takes to write what was gathered once nothing is appended any more.
const REST: Duration = Duration::from_secs(20);
/// More than any acknowledgement takes.
const LIMIT: Duration = Duration::from_secs(60);

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

/// What the threads of a generation share.
struct Shared {
    manager: LogManager,
    is_over: AtomicBool,
    /// How often each partition was made anew.
    incarnations: Vec<AtomicU64>,
    ledgers: Vec<Mutex<Ledger>>,
    /// Guards in which directory partitions are.
    placed: RwLock<()>,
    /// Whether a disk fails, and which partitions are on it.
    fails: AtomicBool,
    failing: Vec<AtomicBool>,
    counts: Counts,
    violation: Mutex<Option<String>>,
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    appends: AtomicU64,
    refused: AtomicU64,
    records_read: AtomicU64,
    records_decided: AtomicU64,
    segments_deleted: AtomicU64,
    cleanings: AtomicU64,
    recreations: AtomicU64,
    checkpoints: AtomicU64,
}

impl Shared {
    fn ledger(&self, partition: usize) -> MutexGuard<'_, Ledger> {
        self.ledgers[partition].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the partition is on a disk that fails.
    fn may_fail(&self, partition: usize) -> bool {
        self.failing[partition].load(Ordering::SeqCst)
    }

    /// Lets the disk of a directory fail.
    fn fail(&self, dir: &Path, switch: &Switch) {
        let placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        for (partition, failing) in self.failing.iter().enumerate() {
            failing.store(dir.join(name(partition).to_string()).is_dir(), Ordering::SeqCst);
        }
        self.fails.store(true, Ordering::SeqCst);
        drop(placed);
        switch.store(true, Ordering::SeqCst);
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
    heap_bytes: usize,
    /// With what the ledgers take.
    resident_bytes: u64,
}

impl Level {
    fn now(ledgers: &[Ledger]) -> Self {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        // Workers of the kernel's rings linger for a while.
        let own = tasks
            .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| !name.starts_with("iou-")));
        heap::trim();
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let ledger_bytes = ledgers.iter().map(Ledger::bytes).sum();
        let resident: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap();
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: own.count(),
            heap_bytes: heap::live_bytes().saturating_sub(ledger_bytes),
            resident_bytes: resident * 4096,
        }
    }

    /// What there is once descriptors and threads are those of before: a thread that was joined goes a moment later.
    fn back_to(before: &Self, ledgers: &[Ledger]) -> Result<Self, String> {
        let limit = Instant::now() + REST;
        loop {
            let level = Self::now(ledgers);
            if level.descriptors <= before.descriptors && level.threads <= before.threads {
                return Ok(level);
            }
            if Instant::now() > limit {
                return Err(format!("something leaks: {before:?} became {level:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn check_memory(&self, first: &Self) -> Result<(), String> {
        let is_level = self.heap_bytes <= first.heap_bytes + HEAP_SLACK
            && self.resident_bytes <= first.resident_bytes + RESIDENT_SLACK;
        if is_level { Ok(()) } else { Err(format!("memory leaks: {first:?} became {self:?}")) }
    }
}

/// The log directories, and what is known of them.
struct Soak {
    dirs: Vec<PathBuf>,
    ledgers: Vec<Ledger>,
    futures: Futures,
}

/// Which directory fails in a generation, if one does.
fn failing_in(generation: u64) -> Option<usize> {
    (generation % 3 == 1).then(|| usize::try_from(generation / 3 % 2).unwrap())
}

fn open(dirs: &[PathBuf], switch: &Switch, failing: Option<usize>) -> Result<LogManager, String> {
    let directory = DirectoryOptions { file_delete_delay_ms: 0, ..DirectoryOptions::default() };
    let options = ManagerOptions {
        journal_bytes: 4 << 20,
        gather_bytes: 4 << 20,
        piece_bytes: 16 << 10,
        high_watermark: HighWatermarkPolicy::LogEnd,
        directory,
        ..ManagerOptions::default()
    };
    let mut storages: Vec<Arc<dyn Storage>> = Vec::new();
    for (number, dir) in dirs.iter().enumerate() {
        fs::create_dir_all(dir).map_err(|error| error.to_string())?;
        let (disk, _) = open_best(dir).map_err(|error| error.to_string())?;
        storages.push(if failing == Some(number) { Failing::over(disk, switch) } else { disk });
    }
    let manager = LogManager::open_on(storages, options).map_err(|error| error.to_string())?;
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
    let dirs = ["first", "second"].map(|dir| home.join(dir)).to_vec();
    let ledgers = (0..PARTITIONS).map(|_| Ledger::default()).collect();
    let mut soak = Soak { dirs, ledgers, futures: Futures::default() };
    println!("DURAMEN_SEED={seed}");
    let begun = Instant::now();
    let (mut number, mut random, mut first) = (0, Random::new(seed), None);
    while begun.elapsed() < time {
        let before = Level::now(&soak.ledgers);
        let rest = time.saturating_sub(begun.elapsed()).min(generation);
        let counts = soak.generation(number, rest, random.next())?;
        let (level, used) = (Level::back_to(&before, &soak.ledgers)?, bytes_in(home));
        println!("{:4} s, generation {number}: {counts:?}, {used} bytes on disk, {level:?}", begun.elapsed().as_secs());
        if used > DISK_BYTES {
            return Err(format!("{used} bytes on disk: what is deleted does not go"));
        }
        if number >= WARM_UP {
            level.check_memory(first.get_or_insert(level))?;
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

/// Directories of deleted partitions.
fn deleted_in(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.ends_with("-delete")).collect()
}

impl Soak {
    fn generation(&mut self, number: u64, time: Duration, seed: u64) -> Result<Counts, String> {
        let (switch, failing) = (Switch::default(), failing_in(number));
        self.futures.add(&self.dirs, number)?;
        let manager = open(&self.dirs, &switch, failing)?;
        self.futures.check(&manager)?;
        for (partition, ledger) in self.ledgers.iter_mut().enumerate() {
            let open = manager.get(&name(partition)).ok_or("a partition is not there")?;
            ledger.reconcile(partition, &open)?;
        }
        let shared = Arc::new(Shared {
            manager,
            is_over: AtomicBool::new(false),
            incarnations: (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect(),
            ledgers: self.ledgers.drain(..).map(Mutex::new).collect(),
            placed: RwLock::default(),
            fails: AtomicBool::new(false),
            failing: (0..PARTITIONS).map(|_| AtomicBool::new(false)).collect(),
            counts: Counts::default(),
            violation: Mutex::default(),
        });
        work(&shared, time, seed, failing.map(|failing| (self.dirs[failing].as_path(), &switch)));
        if let Some(why) = shared.violation.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(why);
        }
        if failing.is_some() {
            refuses_and_goes_on(&shared, &mut Random::new(seed))?;
        }
        let retained = shared.manager.apply_retention();
        if failing.is_none() && !(retained.failed.is_empty() && retained.kept.is_empty()) {
            return Err(format!("retention: {:?}, {:?}", retained.failed, retained.kept));
        }
        for partition in 0..PARTITIONS {
            let open = shared.manager.get(&name(partition)).ok_or("a partition is not there")?;
            shared.ledger(partition).forget(kind_of(partition), open.offsets().log_start);
        }
        let sound = self.dirs.iter().enumerate().filter(|(number, _)| failing != Some(*number));
        if let Some(left) = sound.flat_map(|(_, dir)| deleted_in(dir)).next() {
            return Err(format!("{left} was deleted and stays"));
        }
        rest(&shared.manager, failing)?;
        if seed.is_multiple_of(2) {
            match (shared.manager.close(), failing) {
                (Ok(()), None) | (Err(_), Some(_)) => {}
                (closed, _) => return Err(format!("closing is {closed:?}, directory {failing:?} has failed")),
            }
        }
        let shared = Arc::into_inner(shared).ok_or("somebody still holds the manager")?;
        drop(shared.manager);
        for (ledger, failing) in shared.ledgers.into_iter().zip(shared.failing) {
            let mut ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
            ledger.may_have_lost = failing.into_inner();
            self.ledgers.push(ledger);
        }
        self.futures.untouched()?;
        Ok(shared.counts)
    }
}

/// Lets all threads work, and the disk fail half-way.
fn work(shared: &Shared, time: Duration, seed: u64, failing: Option<(&Path, &Switch)>) {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for number in 0..PRODUCERS {
            let random = Random::new(seed ^ u64::try_from(number).unwrap());
            scope.spawn(move || shared.report(produce::run(shared, number, random, end)));
        }
        for number in 0..CONSUMERS {
            scope.spawn(move || shared.report(consume::run(shared, number, end)));
        }
        scope.spawn(move || shared.report(consume::run_committed(shared, end)));
        if let Some((dir, switch)) = failing {
            thread::sleep(time / 2);
            shared.fail(dir, switch);
        }
    });
}

/// A directory has failed: its partitions refuse what is appended and can be read, and the others go on.
fn refuses_and_goes_on(shared: &Shared, random: &mut Random) -> Result<(), String> {
    for partition in 0..PARTITIONS {
        if let Ok((ticket, sent)) = produce::append(shared, partition, random)? {
            sent.end(shared, ticket.wait(Some(Instant::now() + LIMIT)))?;
        }
    }
    let mut failed = 0;
    for partition in 0..PARTITIONS {
        let appended = produce::append(shared, partition, random)?;
        match (
            appended.map(|(ticket, sent)| (ticket.wait(Some(Instant::now() + LIMIT)), sent)),
            shared.may_fail(partition),
        ) {
            (Ok((done, sent)), false) => sent.end(shared, done)?,
            (Err(error @ PartitionError::DirectoryFailed { .. }), true)
                if error.kafka_error_code() == KafkaErrorCode::KafkaStorageError =>
            {
                failed += 1;
            }
            (appended, _) => {
                let appended = appended.map(|(done, _)| done);
                return Err(format!("partition {partition} of a failed directory: {appended:?}"));
            }
        }
    }
    let directories = shared.manager.failed_directories().len();
    if failed == 0 || failed == PARTITIONS || directories != 1 {
        return Err(format!("{failed} partitions of {directories} directories have failed"));
    }
    Ok(())
}

/// Nothing is appended any more: what was gathered has to reach the segments by itself, where the disk does not fail.
fn rest(manager: &LogManager, failing: Option<usize>) -> Result<(), String> {
    let limit = Instant::now() + REST;
    loop {
        let metrics = manager.metrics();
        let sound = metrics.iter().enumerate().filter(|(number, _)| failing != Some(*number));
        let gathered: u64 = sound.map(|(_, directory)| directory.gathered_bytes).sum();
        if gathered == 0 {
            return Ok(());
        }
        if Instant::now() > limit {
            return Err(format!("{gathered} bytes stay gathered"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}
