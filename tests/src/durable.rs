//! A log manager on a simulated disk, and what it owes after a crash at any moment.
//!
//! A [`Run`] does operations one by one, on one thread, and keeps beside each partition what may be found of it: a prefix
//! of what was appended, with everything in it that was acknowledged, or that a consumer could see.

use crate::{
    disk::{Crash, Fault, SimDisk},
    fixture::NOW_MS,
};
use duramen::{
    Append, AppendAsLeader, Background, DirectoryOptions, Durability, HighWatermarkPolicy, Isolation, LogConfig,
    LogError, LogManager, ManagerOptions, OpenError, Partition, PartitionError, TopicPartition, ValidatedBatch,
    ValidationPolicy, format::builder::BatchBuilder, storage::Storage, validate,
};
use std::sync::Arc;

/// Partitions of a run.
pub const PARTITIONS: usize = 3;
/// Polls after which an answer that did not come never will.
const MAX_POLLS: usize = 2000;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Append a value of so many bytes to a partition, durably, without waiting.
    Flushed(usize, usize),
    /// Append a value, to the page cache.
    Written(usize, usize),
    /// Move the work on until every ticket has an answer.
    Settle,
    /// Move the work on once.
    Poll,
    /// Let partitions that rest write what they gathered.
    Tick,
    /// Begin a new segment.
    Roll(usize),
    /// Remove all but so many values.
    Truncate(usize, usize),
    /// Remove everything.
    StartOver(usize),
    /// Write the directory's checkpoints.
    Checkpoint,
    /// Delete the partition and make it anew.
    Recreate(usize),
    /// Close and open.
    Reopen,
}

/// What may be found of one partition.
#[derive(Debug, Clone, Default)]
struct Owed {
    /// Values in the order in which they were appended; the last ones possibly in vain.
    values: Vec<Vec<u8>>,
    /// So many of them were acknowledged as durable.
    flushed: usize,
    /// So many of them survive the death of the process.
    written: usize,
    /// Whether it may be gone altogether, since it was about to be.
    may_be_empty: bool,
}

/// A manager, its disk, and what it owes.
#[derive(Debug)]
pub struct Run {
    disk: SimDisk,
    manager: Option<LogManager>,
    partitions: Vec<Arc<Partition>>,
    owed: Vec<Owed>,
    tickets: Vec<(usize, usize, Append)>,
    appended: u32,
    /// Whether the page cache keeps what was written: a sync that fails may take it along.
    keeps_cache: bool,
}

/// Small sizes, so that everything happens soon, and nothing by itself.
#[must_use]
pub fn options() -> ManagerOptions {
    ManagerOptions {
        background: Background::Host,
        high_watermark: HighWatermarkPolicy::Flushed,
        journal_bytes: 64 << 10,
        journal_block_bytes: 8 << 10,
        gather_bytes: 256 << 10,
        piece_bytes: 4 << 10,
        pending_bytes: 64 << 10,
        directory: DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() },
        ..ManagerOptions::default()
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 13 << 10, index_interval_bytes: 64, ..LogConfig::default() }
}

fn name(partition: usize) -> TopicPartition {
    TopicPartition::new("orders", i32::try_from(partition).unwrap()).unwrap()
}

fn batch(value: &[u8]) -> ValidatedBatch {
    let bytes = BatchBuilder::new().record(NOW_MS, None, Some(value)).build().unwrap();
    validate(bytes, &ValidationPolicy::from_config(&config()), NOW_MS).unwrap()
}

fn open(disk: &SimDisk) -> Result<LogManager, OpenError> {
    LogManager::open_on(vec![Arc::new(disk.clone()) as Arc<dyn Storage>], options())
}

/// The values of all records.
fn values(partition: &Partition) -> Result<Vec<Vec<u8>>, LogError> {
    let (mut found, mut scratch) = (Vec::new(), Vec::new());
    partition.reader().for_each_batch(partition.offsets().log_start, Isolation::LogEnd, |batch| {
        for record in batch.records(&mut scratch, 1 << 20)? {
            found.push(record?.value().expect("each has one").to_vec());
        }
        Ok::<(), LogError>(())
    })?;
    Ok(found)
}

impl Run {
    /// A fresh directory with its partitions and its journal.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let mut run = Self {
            disk,
            manager: None,
            partitions: Vec::new(),
            owed: vec![Owed::default(); PARTITIONS],
            tickets: Vec::new(),
            appended: 0,
            keeps_cache: true,
        };
        run.open().expect("a fresh disk");
        run
    }

    /// What the disk did so far.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Plans a fault.
    pub fn fail_at(&mut self, operation: u64, fault: Fault) {
        self.keeps_cache &= fault == Fault::Crash;
        self.disk.fail_at(operation, fault);
    }

    fn open(&mut self) -> Result<(), OpenError> {
        let manager = open(&self.disk)?;
        let partitions = (0..PARTITIONS).map(|number| manager.get_or_create(&name(number), &config()));
        self.partitions = partitions.collect::<Result<_, _>>()?;
        self.manager = Some(manager);
        Ok(())
    }

    /// Does the steps; ends early where the disk stopped or nothing can be appended any more.
    pub fn go(&mut self, steps: &[Step]) {
        for step in steps {
            if self.disk.crashed() || self.manager.is_none() {
                return;
            }
            self.step(*step);
            self.note_answers();
            self.note_seen();
        }
    }

    fn step(&mut self, step: Step) {
        if std::env::var_os("DURAMEN_STEPS").is_some() {
            println!("{step:?} (next value {}, operation {})", self.appended + 1, self.disk.operations());
        }
        match step {
            Step::Flushed(partition, len) => self.append(partition, len, Durability::Flushed),
            Step::Written(partition, len) => self.append(partition, len, Durability::Written),
            Step::Settle => self.settle(),
            Step::Poll => {
                self.manager().poll();
            }
            Step::Tick => self.manager().tick(),
            // A roll or checkpoint that fails changes nothing of what is owed.
            Step::Roll(partition) => drop(self.partitions[partition].with(|log| log.roll(NOW_MS))),
            Step::Checkpoint => drop(self.manager().checkpoint()),
            Step::Truncate(partition, keep) => self.truncate(partition, keep),
            Step::StartOver(partition) => self.start_over(partition),
            Step::Recreate(partition) => self.recreate(partition),
            Step::Reopen => self.reopen(),
        }
    }

    fn manager(&self) -> &LogManager {
        self.manager.as_ref().expect("it is open")
    }

    fn append(&mut self, partition: usize, len: usize, durability: Durability) {
        self.appended += 1;
        let value: Vec<u8> = self.appended.to_be_bytes().into_iter().cycle().take(len.max(4)).collect();
        // A new leader now and then: its epoch is durable by its batches.
        let leader_epoch = i32::try_from(self.appended / 4).unwrap();
        let options = AppendAsLeader::new(leader_epoch, NOW_MS);
        let made = self.partitions[partition].append_as_leader(batch(&value), options, durability);
        let is_ended = made.is_err() && self.is_ended(partition);
        let owed = &mut self.owed[partition];
        match made {
            Ok(append) => {
                owed.values.push(value);
                if durability == Durability::Written {
                    owed.written = owed.values.len();
                }
                self.tickets.push((partition, owed.values.len(), append));
            }
            Err(PartitionError::Log(LogError::Poisoned { .. })) => {}
            // It may be there or not, and is the last one.
            Err(PartitionError::Log(_)) if is_ended => owed.values.push(value),
            Err(_) => {}
        }
    }

    /// Whether nothing can be appended to a partition any more.
    fn is_ended(&self, partition: usize) -> bool {
        self.disk.crashed() || self.partitions[partition].with(|log| log.is_poisoned()).unwrap_or(true)
    }

    /// Takes note of the tickets that have an answer.
    fn note_answers(&mut self) {
        let owed = &mut self.owed;
        self.tickets.retain(|(partition, count, append)| {
            if !append.is_done() {
                return true;
            }
            let is_flushed = append.position() == duramen::Position::Flushed;
            if append.wait(None).is_ok() && is_flushed {
                let owed = &mut owed[*partition];
                owed.flushed = owed.flushed.max(*count);
            }
            false
        });
    }

    /// Takes note of what a consumer can see, which has to stay.
    fn note_seen(&mut self) {
        for partition in 0..self.partitions.len() {
            let offsets = self.partitions[partition].offsets();
            assert!(offsets.last_stable <= offsets.high_watermark);
            assert!(
                offsets.high_watermark <= self.partitions[partition].flushed(),
                "only what is flushed is committed"
            );
            if !self.is_ended(partition) {
                let owed = &mut self.owed[partition];
                let seen = usize::try_from(offsets.high_watermark).expect("it is an offset");
                owed.flushed = owed.flushed.max(seen.min(owed.values.len()));
            }
        }
    }

    fn settle(&mut self) {
        for poll in 1..=MAX_POLLS {
            if self.tickets.iter().all(|(_, _, append)| append.is_done()) || self.disk.crashed() {
                return;
            }
            self.manager().poll();
            // As the threads do twice a second: what a full disk refused is tried again.
            if poll % 100 == 0 {
                self.manager().tick();
            }
        }
        panic!("a ticket has no answer: {:?}", self.manager().metrics());
    }

    fn truncate(&mut self, partition: usize, keep: usize) {
        let keep = keep.min(self.owed[partition].values.len());
        let offset = i64::try_from(keep).unwrap();
        self.owed[partition].flushed = self.owed[partition].flushed.min(keep);
        self.owed[partition].written = self.owed[partition].written.min(keep);
        let cut = self.partitions[partition].with(|log| log.truncate_to(offset, NOW_MS));
        self.tickets.retain(|(of, count, _)| *of != partition || *count <= keep);
        if matches!(cut, Ok(Ok(true))) {
            let owed = &mut self.owed[partition];
            owed.values.truncate(keep);
            owed.flushed = owed.values.len();
            owed.written = owed.flushed;
        }
    }

    fn start_over(&mut self, partition: usize) {
        // On the way the log is any prefix of what it was.
        let owed = &mut self.owed[partition];
        (owed.flushed, owed.written) = (0, 0);
        self.tickets.retain(|(of, _, _)| *of != partition);
        if matches!(self.partitions[partition].with(|log| log.truncate_fully_and_start_at(0, None, NOW_MS)), Ok(Ok(())))
        {
            self.owed[partition] = Owed::default();
        }
    }

    fn recreate(&mut self, partition: usize) {
        self.owed[partition].may_be_empty = true;
        self.tickets.retain(|(of, _, _)| *of != partition);
        let is_gone = self.manager().delete(&name(partition)).is_ok();
        if is_gone {
            self.owed[partition] = Owed { may_be_empty: true, ..Owed::default() };
        }
        match self.manager().get_or_create(&name(partition), &config()) {
            // What failed may have failed when it was gone.
            Ok(anew) if !is_gone && anew.offsets().log_end == 0 => {
                self.partitions[partition] = anew;
                self.owed[partition] = Owed { may_be_empty: true, ..Owed::default() };
            }
            Ok(anew) => self.partitions[partition] = anew,
            // Without it there is nothing to go on with.
            Err(_) => self.manager = None,
        }
    }

    fn reopen(&mut self) {
        let manager = self.manager.take().expect("it is open");
        self.partitions.clear();
        self.tickets.clear();
        if manager.close().is_ok() {
            for owed in &mut self.owed {
                owed.flushed = owed.values.len();
                owed.written = owed.flushed;
            }
        }
        // What cannot be opened on this disk is found after the crash.
        if self.open().is_ok() {
            self.take_what_is_there();
        }
    }

    /// Goes on with what an open found, where a close had failed: what was not safe may be gone.
    fn take_what_is_there(&mut self) {
        for (number, owed) in self.owed.iter_mut().enumerate() {
            let Ok(found) = values(&self.partitions[number]) else { continue };
            owed.check(number, &found, Crash::LoseAllUnsynced);
            owed.written = found.len();
            owed.values = found;
        }
    }

    /// Checks the disk that a crash now leaves: everything owed is there, before and after another open, and it works.
    pub fn check(&self, how: Crash) {
        let image = self.disk.crash_image(how);
        let found = self.check_image(&image, how);
        let again = self.check_image(&image, how);
        assert_eq!(found, again, "opening twice is opening once");
        check_alive(&image);
    }

    /// As `check`, with a second crash at each operation of the recovery.
    pub fn check_with_crashes_of_the_recovery(&self, how: Crash, stride: u64) {
        let image = self.disk.crash_image(how);
        let mut at = 0;
        loop {
            let victim = image.deep_clone();
            victim.crash_at(at);
            let opened = open(&victim)
                .map(|manager| (0..PARTITIONS).all(|n| manager.get_or_create(&name(n), &config()).is_ok()));
            if !victim.crashed() {
                assert!(matches!(opened, Ok(true)), "without a fault it opens");
                return;
            }
            for second in [Crash::LoseAllUnsynced, Crash::Random(at), Crash::KeepAll] {
                self.check_image(&victim.crash_image(second), how);
            }
            at += stride;
        }
    }

    fn check_image(&self, image: &SimDisk, how: Crash) -> Vec<Vec<Vec<u8>>> {
        let manager = open(image).unwrap_or_else(|error| panic!("{how:?}: {error}"));
        let mut found = Vec::new();
        for (number, owed) in self.owed.iter().enumerate() {
            let partition = manager
                .get_or_create(&name(number), &config())
                .unwrap_or_else(|error| panic!("{how:?}: partition {number}: {error}"));
            let values = values(&partition).unwrap_or_else(|error| panic!("{how:?}: partition {number}: {error}"));
            let lost = if self.keeps_cache { how } else { Crash::LoseAllUnsynced };
            owed.check(number, &values, lost);
            check_epochs(&partition, how);
            found.push(values);
        }
        found
    }
}

/// The epochs are those of the batches, whatever their file had.
fn check_epochs(partition: &Partition, how: Crash) {
    let mut expected: Vec<(i32, i64)> = Vec::new();
    let walked = partition.reader().for_each_batch(partition.offsets().log_start, Isolation::LogEnd, |batch| {
        let (header, epoch) = (batch.header(), batch.header().leader_epoch().unwrap());
        if expected.last().is_none_or(|(last, _)| *last != epoch) {
            expected.push((epoch, header.base_offset()));
        }
        Ok::<(), LogError>(())
    });
    walked.expect("it was read before");
    let epochs: Vec<_> =
        partition.reader().leader_epochs().iter().map(|entry| (entry.epoch, entry.start_offset)).collect();
    assert_eq!(epochs, expected, "{how:?}: epochs of {}", partition.name());
}

/// Faults over, it works.
fn check_alive(image: &SimDisk) {
    let manager = open(image).expect("it was opened before");
    let partition = manager.get_or_create(&name(0), &config()).expect("it was opened before");
    for _ in 0..3 {
        let alive = partition.append_as_leader(batch(b"alive"), AppendAsLeader::new(0, NOW_MS), Durability::Flushed);
        let alive = alive.expect("it takes appends again");
        (0..MAX_POLLS).take_while(|_| !alive.is_done()).for_each(|_| {
            manager.poll();
        });
        assert!(alive.wait(None).is_ok());
    }
}

impl Owed {
    fn check(&self, partition: usize, found: &[Vec<u8>], how: Crash) {
        if self.may_be_empty && found.is_empty() {
            return;
        }
        let shown = |values: &[Vec<u8>]| values.iter().map(|value| (value[3], value.len())).collect::<Vec<_>>();
        assert!(
            self.values.starts_with(found),
            "{how:?}: partition {partition} has {:?}, appended were {:?}",
            shown(found),
            shown(&self.values)
        );
        let least = if how == Crash::ProcessOnly { self.flushed.max(self.written) } else { self.flushed };
        assert!(
            found.len() >= least,
            "{how:?}: partition {partition} has {} values of {least} acknowledged, of {} appended",
            found.len(),
            self.values.len()
        );
    }
}
