//! What a log must hold after a crash: the batches that were appended, in order, and how many of them were promised;
//! and what they say of transactions, producers and epochs.

mod check;
mod model;

use crate::disk::SimDisk;
use duramen::{
    AppendAsLeader, AppendOrigin, CleanerControl, CleanerOptions, DirectoryOptions, Fetch, Isolation, Log, LogConfig,
    LogDirectory, LogError, Offset, OpenError, RetentionReason, TopicPartition, ValidationPolicy,
    format::{
        batch,
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    },
    storage::Storage,
    validate,
};
use model::{Appended, Replay};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The time of every record.
pub const NOW_MS: i64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// What makes segments old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retention {
    /// Only that they lie below the log start.
    LogStart,
    /// That the log holds more than 500 bytes without them.
    Size,
    /// Everything is old.
    Time,
}

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
    /// Append two records of a producer, outside a transaction unless it has one open.
    Produce(u8),
    /// Append two records of a producer in its transaction.
    Transact(u8),
    /// End the transaction of a producer: commit or abort.
    End(u8, bool),
    /// Move the high watermark to so many records below the log end.
    HighWatermark(u8),
    /// Move the log start up by so many records, at most to the high watermark.
    DeleteRecords(u8),
    /// Remove old segments.
    Retain(Retention),
    /// Remove the files of removed segments.
    Sweep,
    /// Append two batches that a leader sent, the first of a producer's transaction, so many offsets above the log end.
    Follow(u8),
    /// A new leader epoch begins.
    Epoch,
    /// Take a snapshot of the producers.
    Snapshot,
    /// Write the checkpoints of the directory.
    Checkpoint,
    /// Commit everything and compact it.
    Compact,
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

/// What was done to a log, and what it owes.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Whether the log is compacted: records then have keys, and compaction takes some.
    compacted: bool,
    batches: Vec<Appended>,
    end: Offset,
    /// Everything below was acknowledged as written.
    written: Offset,
    /// Everything below was acknowledged as flushed.
    flushed: Offset,
    log_start: Offset,
    /// The log start that is durable, and the greatest that was ever asked for.
    log_start_range: (Offset, Offset),
    /// Below lie no epochs perhaps: they go before the log start is durable.
    deleted_below: Offset,
    high_watermark: Offset,
    /// What the checkpoint may say of the high watermark.
    checkpointed: Vec<Offset>,
    epoch: i32,
    /// Records that compaction may have taken.
    removable: BTreeSet<Offset>,
    /// What lies below was committed when it was compacted, so that nothing there is cut any more.
    compacted_below: Offset,
    /// Where a start-over begins that has not returned.
    starting_at: Option<Offset>,
    serial: u32,
}

impl History {
    /// A log that is compacted.
    #[must_use]
    pub fn compacted() -> Self {
        Self { compacted: true, ..Self::default() }
    }

    fn config(&self) -> LogConfig {
        let mut config = config();
        config.cleanup_policy.compact = self.compacted;
        config
    }

    /// Runs the steps until the first failure, keeping account.
    ///
    /// # Errors
    /// The first failure of the disk or the log.
    pub fn run(&mut self, disk: &Arc<dyn Storage>, steps: &[Step]) -> Result<(), String> {
        let mut directory = self.open_log(disk)?;
        for step in steps {
            match step {
                Step::Reopen => {
                    self.checkpointed.push(self.high_watermark);
                    directory.close().map_err(|error| error.to_string())?;
                    self.flushed = self.end;
                    self.on_checkpoint();
                    directory = self.open_log(disk)?;
                }
                Step::Abandon => {
                    drop(directory);
                    directory = self.open_log(disk)?;
                }
                Step::Checkpoint => {
                    self.checkpointed.push(self.high_watermark);
                    directory.checkpoint().map_err(|error| error.to_string())?;
                    self.on_checkpoint();
                }
                step => {
                    let config = self.config();
                    let log = directory.get_or_create(&partition(), &config).map_err(|error| error.to_string())?;
                    self.step(log, *step).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn on_checkpoint(&mut self) {
        self.checkpointed = vec![self.high_watermark];
        if self.reaches_log_start() {
            self.log_start_range.0 = self.log_start;
        }
    }

    /// Whether a durable batch ends at or above the log start: a cut inside the first batch leaves none.
    fn reaches_log_start(&self) -> bool {
        let durable = self.batches.iter().filter(|batch| batch.next_offset <= self.flushed);
        durable.map(|batch| batch.next_offset).max().is_some_and(|end| end >= self.log_start)
    }

    /// Opens the log of a living system; what only memory knew is gone.
    fn open_log(&mut self, disk: &Arc<dyn Storage>) -> Result<LogDirectory, String> {
        let mut directory = open(disk)?;
        let log = directory.get_or_create(&partition(), &self.config()).map_err(|error| error.to_string())?;
        let offsets = log.offsets();
        assert!(offsets.log_end == self.end || self.is_gap(offsets.log_end, self.end), "{offsets:?}, {}", self.end);
        let (durable, asked) = self.log_start_range;
        assert!((durable..=asked).contains(&offsets.log_start), "{offsets:?}, {durable} to {asked}");
        self.end = offsets.log_end;
        self.log_start = offsets.log_start;
        self.high_watermark = offsets.high_watermark;
        Ok(directory)
    }

    /// Whether no batch was appended between two offsets.
    fn is_gap(&self, from: Offset, to: Offset) -> bool {
        from <= to && !self.batches.iter().any(|batch| batch.base_offset < to && from < batch.next_offset)
    }

    /// Does one step to an open log.
    ///
    /// # Errors
    /// What the log says.
    ///
    /// # Panics
    /// When the log does what it may not.
    pub fn step(&mut self, log: &mut Log, step: Step) -> Result<(), LogError> {
        match step {
            Step::Append(records) => self.append(log, records.max(1), None)?,
            Step::Produce(producer) => self.append(log, 2, Some((producer, false)))?,
            Step::Transact(producer) => self.append(log, 2, Some((producer, true)))?,
            Step::End(producer, committed) => self.end_transaction(log, producer, committed)?,
            Step::Follow(gap) => self.follow(log, gap)?,
            Step::Flush => log.flush()?,
            Step::Roll => {
                log.roll(NOW_MS)?;
            }
            Step::Truncate(records) => self.truncate(log, records)?,
            Step::StartAt(above) => self.start_at(log, self.end + i64::from(above))?,
            Step::HighWatermark(below) => {
                let asked = self.end - i64::from(below);
                self.high_watermark = log.update_high_watermark(asked);
                assert_eq!(self.high_watermark, asked.clamp(self.log_start, self.end));
            }
            Step::DeleteRecords(records) => {
                let target = (self.log_start + i64::from(records)).min(self.high_watermark);
                self.log_start_range.1 = self.log_start_range.1.max(target);
                self.deleted_below = self.deleted_below.max(target);
                log.increment_log_start_offset(target)?;
                self.log_start = self.log_start.max(target);
            }
            Step::Retain(why) => self.retain(log, why)?,
            Step::Sweep => {
                log.remove_retired_files(i64::MAX)?;
            }
            Step::Epoch => {
                self.epoch += 1;
                log.assign_epoch_start_offset(self.epoch, self.end)?;
            }
            Step::Snapshot => log.take_producer_snapshot()?,
            Step::Compact => self.compact(log)?,
            Step::Reopen | Step::Abandon | Step::Checkpoint => {}
        }
        // What the log says is durable has to be.
        let offsets = log.offsets();
        self.flushed = self.flushed.max(offsets.recovery_point);
        assert_eq!((offsets.log_start, offsets.log_end), (self.log_start, self.end), "after {step:?}");
        assert_eq!(offsets.high_watermark, self.high_watermark, "after {step:?}");
        Ok(())
    }

    fn truncate(&mut self, log: &mut Log, records: u8) -> Result<(), LogError> {
        let floor = if self.compacted { self.high_watermark.max(self.compacted_below) } else { self.log_start };
        let wanted = (self.end - i64::from(records)).max(floor);
        let target = self.batch_start(wanted).clamp(self.log_start, self.end);
        self.flushed = self.flushed.min(target);
        self.written = self.written.min(target);
        let left = self.batches.iter().filter(|batch| batch.next_offset <= target);
        let end_on_disk = left.map(|batch| batch.next_offset).max().unwrap_or(0);
        self.log_start_range.0 = self.log_start_range.0.min(end_on_disk);
        log.truncate_to(target, NOW_MS)?;
        self.batches.retain(|batch| batch.next_offset <= target);
        self.end = target;
        self.high_watermark = self.high_watermark.min(target);
        Ok(())
    }

    fn start_at(&mut self, log: &mut Log, target: Offset) -> Result<(), LogError> {
        self.starting_at = Some(target);
        (self.flushed, self.written, self.log_start_range.0) = (0, 0, 0);
        log.truncate_fully_and_start_at(target, None, NOW_MS)?;
        *self = History {
            compacted: self.compacted,
            end: target,
            flushed: target,
            written: target,
            log_start: target,
            log_start_range: (target, target),
            high_watermark: target,
            checkpointed: self.checkpointed.clone(),
            epoch: self.epoch,
            serial: self.serial,
            ..History::default()
        };
        Ok(())
    }

    fn retain(&mut self, log: &mut Log, why: Retention) -> Result<(), LogError> {
        let mut config = self.config();
        config.cleanup_policy.delete = true;
        config.retention_ms = (why == Retention::Time).then_some(HOUR_MS);
        config.retention_bytes = (why == Retention::Size).then_some(500);
        log.set_config(config);
        if why != Retention::LogStart {
            self.log_start_range.1 = self.log_start_range.1.max(self.high_watermark);
        }
        self.deleted_below = self.deleted_below.max(self.log_start_range.1);
        let size = log.reader().size();
        let gone = log.delete_old_segments(NOW_MS + i64::try_from(2 * HOUR_MS).unwrap_or(0))?;
        log.set_config(self.config());
        let (log_start, first_base) = (log.offsets().log_start, log.first_base_offset());
        assert!(self.log_start <= log_start && log_start <= self.high_watermark.max(self.log_start));
        assert!(log_start == self.log_start || log_start == first_base);
        // Those below the log start go in any case.
        let left = size - gone.iter().map(|segment| segment.size).sum::<u64>();
        assert!(left >= 500 || gone.iter().all(|segment| segment.reason != RetentionReason::Size), "{left} bytes left");
        self.log_start = log_start;
        self.log_start_range = (self.log_start_range.0.max(first_base), self.log_start_range.1.min(log_start));
        Ok(())
    }

    fn compact(&mut self, log: &mut Log) -> Result<(), LogError> {
        self.high_watermark = log.update_high_watermark(self.end);
        self.compacted_below = self.end;
        let to_clean = log.log_to_clean(None, NOW_MS)?;
        let bound = to_clean.first_uncleanable_offset;
        self.removable.extend(Replay::of(&self.batches).removable(self.batches.iter(), bound));
        log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue)?;
        Ok(())
    }

    /// The base of the batch that holds an offset: followers truncate at batches.
    fn batch_start(&self, offset: Offset) -> Offset {
        self.batches.iter().find(|batch| batch.next_offset > offset).map_or(offset, |batch| batch.base_offset)
    }

    fn batch_of(&mut self, log: &Log, records: u8, producer: Option<(u8, bool)>) -> BatchBuilder {
        self.serial += 1;
        let mut builder = BatchBuilder::new();
        if let Some((producer, transactional)) = producer {
            let id = 100 + i64::from(producer % 2);
            // The log may have forgotten what lies below its start.
            let known = log.active_producers().into_iter().find(|known| known.producer_id == id);
            let last = known.as_ref().and_then(|known| known.last_sequence);
            builder = builder.producer(id, 0, last.map_or(0, |last| last + 1));
            if transactional || known.is_some_and(|known| known.current_txn_first_offset.is_some()) {
                builder = builder.transactional();
            }
        }
        for record in 0..records {
            let key = format!("key {}", (self.serial + u32::from(record)) % 3);
            let value = format!("batch {} record {record}", self.serial);
            builder = builder.record(NOW_MS, self.compacted.then_some(key.as_bytes()), Some(value.as_bytes()));
        }
        builder
    }

    fn append(&mut self, log: &mut Log, records: u8, producer: Option<(u8, bool)>) -> Result<(), LogError> {
        let bytes = self.batch_of(log, records, producer).build()?;
        self.append_leader(log, bytes, AppendOrigin::Client)
    }

    fn end_transaction(&mut self, log: &mut Log, producer: u8, committed: bool) -> Result<(), LogError> {
        let marker = EndTxnMarker { committed, coordinator_epoch: 3 };
        let bytes = end_txn_marker(100 + i64::from(producer % 2), 0, marker, NOW_MS)?;
        self.append_leader(log, bytes, AppendOrigin::Coordinator)
    }

    fn append_leader(&mut self, log: &mut Log, mut bytes: Vec<u8>, origin: AppendOrigin) -> Result<(), LogError> {
        let policy = ValidationPolicy::from_config(&self.config()).with_origin(origin);
        let batch = validate(bytes.clone(), &policy, NOW_MS)?;
        let base_offset = self.end;
        batch::assign_in_place(&mut bytes, base_offset, self.epoch)?;
        let next_offset = batch::Batch::parse(&bytes)?.header().next_offset();
        self.batches.push(Appended { base_offset, bytes, next_offset });
        match log.append_as_leader(batch, AppendAsLeader::new(self.epoch, NOW_MS)) {
            Ok(info) => {
                assert!(!info.is_duplicate);
                assert_eq!((info.first_offset, info.last_offset + 1), (base_offset, next_offset));
                (self.end, self.written) = (next_offset, next_offset);
                Ok(())
            }
            Err(error) => {
                if matches!(error, LogError::DiskFull(_)) {
                    // The log is as before the call.
                    self.batches.pop();
                }
                Err(error)
            }
        }
    }

    fn follow(&mut self, log: &mut Log, gap: u8) -> Result<(), LogError> {
        let mut set = Vec::new();
        let mut base_offset = self.end + i64::from(gap);
        let mut appended = Vec::new();
        for producer in [Some((1, true)), None] {
            let mut bytes = self.batch_of(log, 2, producer).build()?;
            batch::assign_in_place(&mut bytes, base_offset, self.epoch)?;
            set.extend_from_slice(&bytes);
            appended.push(Appended { base_offset, bytes, next_offset: base_offset + 2 });
            base_offset += 2;
        }
        self.batches.extend(appended);
        match log.append_as_follower(&set, self.epoch, NOW_MS) {
            Ok(_) => {
                (self.end, self.written) = (base_offset, base_offset);
                Ok(())
            }
            Err(error) => {
                if matches!(error, LogError::DiskFull(_)) {
                    self.batches.truncate(self.batches.len() - 2);
                }
                Err(error)
            }
        }
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
        // The log may start inside a batch.
        let is_first = offset == offsets.log_start && batch.header().next_offset() > offset;
        assert!(batch.header().base_offset() >= offset || is_first, "reading at a batch begins there");
        offset = batch.header().next_offset();
        content.extend(bytes);
    }
    content
}
