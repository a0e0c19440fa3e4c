//! What a log must hold after a crash: the batches that were appended, in order, and how many of them were promised.

use crate::disk::{Crash, SimDisk};
use duramen::{
    AppendAsLeader, DirectoryOptions, Fetch, Isolation, Log, LogConfig, LogDirectory, LogError, Offset, OpenError,
    TopicPartition, ValidationPolicy,
    format::{batch, builder::BatchBuilder},
    storage::Storage,
    validate,
};
use std::{sync::Arc, time::Duration};

/// The time of every record.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// One thing done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Append a batch of so many records.
    Append(u8),
    /// Flush.
    Flush,
    /// Roll.
    Roll,
    /// Truncate to so many records below the log end.
    Truncate(u8),
    /// Remove everything and begin so many records above the log end.
    StartAt(u8),
    /// Close in order and open again.
    Reopen,
    /// Let go without closing and open again.
    Abandon,
}

/// The partition that histories are about.
#[must_use]
pub fn partition() -> TopicPartition {
    TopicPartition::new("history", 0).unwrap()
}

/// Small segments and index intervals, so that a few batches reach everything.
#[must_use]
pub fn config() -> LogConfig {
    LogConfig { segment_bytes: 900, index_interval_bytes: 150, segment_index_bytes: 240, ..LogConfig::default() }
}

/// A simulated disk as the engine sees it.
#[must_use]
pub fn on(disk: &SimDisk) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn options() -> DirectoryOptions {
    DirectoryOptions { now_ms: Some(NOW_MS), lock_timeout: Duration::from_secs(2), ..DirectoryOptions::default() }
}

/// A batch that was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Appended {
    base_offset: Offset,
    bytes: Vec<u8>,
    next_offset: Offset,
}

/// What was done to a log, and what it owes.
#[derive(Debug, Clone, Default)]
pub struct History {
    batches: Vec<Appended>,
    /// Offset at which the log begins.
    start: Offset,
    /// Everything below was acknowledged as written.
    written: Offset,
    /// Everything below was acknowledged as flushed.
    flushed: Offset,
    /// What it was before a start-over that has not returned, and where that begins.
    before: Option<(Box<History>, Offset)>,
    serial: u32,
}

impl History {
    fn log_end(&self) -> Offset {
        self.batches.last().map_or(self.start, |last| last.next_offset)
    }

    /// Runs the steps until the first failure, keeping account; whether all succeeded.
    ///
    /// # Errors
    /// The first failure of the disk or the log.
    pub fn run(&mut self, disk: &Arc<dyn Storage>, steps: &[Step]) -> Result<(), String> {
        let mut directory = open_log(disk)?;
        for step in steps {
            match step {
                Step::Reopen => {
                    directory.close().map_err(|error| error.to_string())?;
                    self.flushed = self.log_end();
                    directory = open_log(disk)?;
                }
                Step::Abandon => {
                    drop(directory);
                    directory = open_log(disk)?;
                }
                step => {
                    let log = directory.get_or_create(&partition(), &config()).map_err(|error| error.to_string())?;
                    self.step(log, *step).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Does one step to an open log.
    ///
    /// # Errors
    /// What the log says.
    pub fn step(&mut self, log: &mut Log, step: Step) -> Result<(), LogError> {
        let end = self.log_end();
        match step {
            Step::Append(records) => self.append(log, records)?,
            Step::Flush => {
                log.flush()?;
                self.flushed = end;
            }
            Step::Roll => {
                log.roll(NOW_MS)?;
                self.flushed = self.flushed.max(end);
            }
            Step::Truncate(records) => {
                let target = self.batch_start((end - i64::from(records)).max(self.start));
                self.flushed = self.flushed.min(target);
                self.written = self.written.min(target);
                log.truncate_to(target, NOW_MS)?;
                self.batches.retain(|batch| batch.base_offset < target);
                self.flushed = self.flushed.min(target);
            }
            Step::StartAt(above) => {
                let target = end + i64::from(above);
                let old = History { flushed: 0, written: 0, before: None, ..self.clone() };
                self.before = Some((Box::new(old), target));
                (self.flushed, self.written) = (0, 0);
                log.truncate_fully_and_start_at(target, None, NOW_MS)?;
                let serial = self.serial;
                *self = History { start: target, flushed: target, written: target, serial, ..History::default() };
            }
            Step::Reopen | Step::Abandon => {}
        }
        Ok(())
    }

    /// The base of the batch that holds an offset: followers truncate at batches.
    fn batch_start(&self, offset: Offset) -> Offset {
        self.batches.iter().find(|batch| batch.next_offset > offset).map_or(offset, |batch| batch.base_offset)
    }

    fn append(&mut self, log: &mut Log, records: u8) -> Result<(), LogError> {
        self.serial += 1;
        let mut builder = BatchBuilder::new();
        for record in 0..records.max(1) {
            builder = builder.record(NOW_MS, None, Some(format!("batch {} record {record}", self.serial).as_bytes()));
        }
        let mut bytes = builder.build()?;
        let batch = validate(bytes.clone(), &ValidationPolicy::from_config(&config()), NOW_MS)?;
        let base_offset = self.log_end();
        batch::assign_in_place(&mut bytes, base_offset, 0)?;
        let next_offset = base_offset + i64::from(records.max(1));
        self.batches.push(Appended { base_offset, bytes, next_offset });
        let result = log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS));
        match result {
            Ok(info) => {
                assert_eq!((info.first_offset, info.last_offset + 1), (base_offset, next_offset));
                self.written = next_offset;
                self.flushed = self.flushed.max(log.offsets().recovery_point);
                Ok(())
            }
            Err(error @ LogError::DiskFull(_)) => {
                // The log is as before the call.
                self.batches.pop();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens what a crash left and checks the promises; then that the log works.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn check(&self, disk: &Arc<dyn Storage>, how: Crash) {
        let mut directory = open(disk).unwrap();
        let log = match directory.get_or_create(&partition(), &config()) {
            Ok(log) => log,
            Err(error) => panic!("the log does not open: {error}"),
        };
        let floor = if how == Crash::ProcessOnly { self.written.max(self.flushed) } else { self.flushed };
        let content = read_all(log);
        let offsets = log.offsets();
        let started_over = self.before.as_ref().is_some_and(|(before, target)| {
            before.holds(&content, offsets.log_end, 0) || (content.is_empty() && offsets.log_end == *target)
        });
        assert!(
            self.holds(&content, offsets.log_end, floor) || started_over,
            "P1, P2: the log ends at {} with {} bytes; promised below {floor}, appended {:?}",
            offsets.log_end,
            content.len(),
            self.batches.iter().map(|batch| (batch.base_offset, batch.bytes.len())).collect::<Vec<_>>(),
        );
        check_lookups(log, &content);
        // Liveness: the log takes a batch, closes in order, and opens without recovery.
        let mut after = History { start: offsets.log_end, serial: 1000, ..History::default() };
        after.step(log, Step::Append(2)).unwrap();
        after.step(log, Step::Flush).unwrap();
        let all = read_all(log);
        assert!(all.starts_with(&content) && all.len() > content.len());
        directory.close().unwrap();
        let mut directory = open(disk).unwrap();
        assert!(directory.report().clean);
        let log = directory.get_or_create(&partition(), &config()).unwrap();
        assert!(read_all(log) == all, "P5: an orderly close changed the log");
    }

    /// Whether bytes that end at an offset are a prefix of what was appended, of at least what was promised.
    fn holds(&self, content: &[u8], log_end: Offset, floor: Offset) -> bool {
        let mut rest = content;
        let mut end = None;
        for batch in &self.batches {
            match rest.strip_prefix(batch.bytes.as_slice()) {
                Some(after) => rest = after,
                None => break,
            }
            end = Some(batch.next_offset);
        }
        rest.is_empty() && end.unwrap_or(self.start) == log_end && log_end >= floor
    }
}

/// Opens the directory of a disk.
///
/// # Errors
/// What the open says.
pub fn open(disk: &Arc<dyn Storage>) -> Result<LogDirectory, String> {
    LogDirectory::open_on(Arc::clone(disk), options()).map_err(|error: OpenError| error.to_string())
}

/// Opens the directory of a disk, and the log in it.
///
/// # Errors
/// What the open says.
pub fn open_log(disk: &Arc<dyn Storage>) -> Result<LogDirectory, String> {
    let mut directory = open(disk)?;
    directory.get_or_create(&partition(), &config()).map_err(|error| error.to_string())?;
    Ok(directory)
}

/// Every byte of a log, batch by batch.
///
/// # Panics
/// When a read fails.
#[must_use]
pub fn read_all(log: &Log) -> Vec<u8> {
    let reader = log.reader();
    let mut content = Vec::new();
    let offsets = log.offsets();
    let mut offset = offsets.log_start;
    while offset < offsets.log_end {
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1, ..Fetch::from(offset) }).unwrap();
        let Some(records) = fetched.records else {
            break;
        };
        let bytes = records.to_vec().unwrap();
        let batch = batch::Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert!(batch.header().base_offset() >= offset, "reading at a batch begins there");
        offset = batch.header().next_offset();
        content.extend(bytes);
    }
    content
}

/// Every offset is found in its batch.
fn check_lookups(log: &Log, content: &[u8]) {
    let reader = log.reader();
    for batch in batch::Batches::new(content) {
        let batch = batch.unwrap();
        for offset in batch.header().base_offset()..batch.header().next_offset() {
            let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap();
            let start = fetched.start.unwrap();
            assert_eq!(start.offset, batch.header().base_offset(), "the batch of offset {offset}");
        }
    }
}
