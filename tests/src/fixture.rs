//! One log on a simulated disk of its own, for tests that ask what a log does.
//!
//! A [`Fixture`] is its [`Log`] with what a host keeps beside it: the disk, the checkpoints and the options.

use crate::disk::{Crash, SimDisk};
use duramen::{
    AppendAsLeader, AppendInfo, AppendOrigin, Checkpoints, Fetch, Isolation, LeaderEpoch, Log, LogConfig, LogError,
    Offset, OpenOptions, ProducerEpoch, ProducerId, RecoveryReport, Timestamp, TopicPartition, ValidationPolicy,
    format::{
        batch::{BatchHeader, Batches, assign_in_place},
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    },
    storage::{Access, Storage, write_at},
    validate,
};
use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The time of everything that is not told another one.
pub const NOW_MS: Timestamp = 1_700_000_000_000;
/// More than any batch of a test decompresses to.
const DECOMPRESSED_BYTES: u64 = 1 << 24;

/// A record as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in ms.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// An open log and its surroundings; used as the log itself.
#[derive(Debug)]
pub struct Fixture {
    /// The disk that the log is on.
    pub disk: SimDisk,
    /// How the log was opened, and will be opened again.
    pub options: OpenOptions,
    /// What the last open found.
    pub report: RecoveryReport,
    checkpoints: Arc<Checkpoints>,
    log: Log,
}

impl Deref for Fixture {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl DerefMut for Fixture {
    fn deref_mut(&mut self) -> &mut Log {
        &mut self.log
    }
}

/// The partition of every fixture.
#[must_use]
pub fn partition() -> TopicPartition {
    TopicPartition::new("fixture", 0).unwrap()
}

impl Fixture {
    /// A new log.
    #[must_use]
    pub fn new(config: LogConfig) -> Self {
        Self::with(OpenOptions::new(config, NOW_MS))
    }

    /// A new log, opened with these options.
    #[must_use]
    pub fn with(options: OpenOptions) -> Self {
        let disk = SimDisk::new(0);
        disk.set_clock_ms(options.now_ms);
        Self::open(disk, options).unwrap()
    }

    /// The log on a disk.
    ///
    /// # Errors
    /// What the open says.
    pub fn open(disk: SimDisk, options: OpenOptions) -> Result<Self, LogError> {
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let checkpoints = Arc::new(Checkpoints::read(Arc::clone(&storage))?);
        let (log, report) = Log::open(&storage, &checkpoints, &partition(), &options, &mut |_| {})?;
        Ok(Self { disk, options, report, checkpoints, log })
    }

    /// Closes the log in order; what is left to be opened again.
    #[must_use]
    pub fn close(self) -> (SimDisk, OpenOptions) {
        let first_base = self.log.first_base_offset();
        let offsets = self.log.close().unwrap();
        let log_start = (offsets.log_start != first_base).then_some(offsets.log_start);
        self.checkpoints.write(&[(partition(), offsets.recovery_point, log_start)]).unwrap();
        let high_watermark = offsets.high_watermark;
        (self.disk, OpenOptions { clean: true, high_watermark, ..self.options })
    }

    /// Closes the log in order and opens it again.
    #[must_use]
    pub fn reopen(self) -> Self {
        let (disk, options) = self.close();
        Self::open(disk, options).unwrap()
    }

    /// What a process that dies now leaves; checkpoints as the host wrote them last.
    #[must_use]
    pub fn abandon(self) -> (SimDisk, OpenOptions) {
        let high_watermark = self.log.offsets().high_watermark;
        drop(self.log);
        (self.disk.crash_image(Crash::ProcessOnly), OpenOptions { clean: false, high_watermark, ..self.options })
    }

    /// Lets the process die and opens the log again, which recovers it.
    #[must_use]
    pub fn crash(self) -> Self {
        let (disk, options) = self.abandon();
        Self::open(disk, options).unwrap()
    }

    /// Writes recovery point and log start into their checkpoints, as a host does now and then.
    pub fn checkpoint(&self) {
        let offsets = self.log.offsets_to_checkpoint();
        let log_start = (offsets.log_start != self.log.first_base_offset()).then_some(offsets.log_start);
        self.checkpoints.write(&[(partition(), offsets.recovery_point, log_start)]).unwrap();
    }

    /// Appends a batch of a producer, as the leader of epoch 0.
    ///
    /// # Errors
    /// What the validation or the log says.
    pub fn append(&mut self, batch: &BatchBuilder) -> Result<AppendInfo, LogError> {
        self.append_with(batch, AppendAsLeader::new(0, NOW_MS))
    }

    /// Appends a batch of a producer as the leader that it is said.
    ///
    /// # Errors
    /// What the validation or the log says.
    pub fn append_with(&mut self, batch: &BatchBuilder, append: AppendAsLeader) -> Result<AppendInfo, LogError> {
        self.append_bytes(batch.build().unwrap(), AppendOrigin::Client, append)
    }

    /// Appends what somebody sent.
    ///
    /// # Errors
    /// What the validation or the log says.
    pub fn append_bytes(
        &mut self,
        bytes: Vec<u8>,
        origin: AppendOrigin,
        append: AppendAsLeader,
    ) -> Result<AppendInfo, LogError> {
        let policy = ValidationPolicy::from_config(&self.log.config()).with_origin(origin);
        self.log.append_as_leader(validate(bytes, &policy, NOW_MS)?, append)
    }

    /// Appends batches of so many records each.
    pub fn fill(&mut self, batches: usize, records: usize) {
        for _ in 0..batches {
            self.append(&batch(records)).unwrap();
        }
    }

    /// Ends a producer's transaction, as its coordinator of epoch 0.
    ///
    /// # Errors
    /// What the log says.
    pub fn end_txn(&mut self, id: ProducerId, epoch: ProducerEpoch, committed: bool) -> Result<AppendInfo, LogError> {
        let append = AppendAsLeader::new(0, NOW_MS);
        self.append_bytes(marker(id, epoch, committed, 0), AppendOrigin::Coordinator, append)
    }

    /// Appends batches with their offsets, as a follower of a leader of epoch 0.
    ///
    /// # Errors
    /// What the log says.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<Option<AppendInfo>, LogError> {
        self.log.append_as_follower(bytes, 0, NOW_MS)
    }

    /// Lets the high watermark follow to the log end.
    pub fn replicate(&mut self) {
        self.log.update_high_watermark(self.log.offsets().log_end);
    }

    /// Every byte from the log start on.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let reader = self.log.reader();
        let (mut offset, log_end) = (self.log.offsets().log_start, self.log.offsets().log_end);
        let mut content = Vec::new();
        while offset < log_end {
            let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap();
            let piece = fetched.records.map_or(Vec::new(), |records| records.to_vec().unwrap());
            let mut batches = Batches::new(&piece);
            match batches.by_ref().last() {
                Some(last) => offset = last.unwrap().header().next_offset(),
                None => break,
            }
            content.extend(&piece[..piece.len() - batches.rest().len()]);
        }
        content
    }

    /// The headers of all batches from the log start on.
    #[must_use]
    pub fn batches(&self) -> Vec<BatchHeader> {
        Batches::new(&self.content()).map(|batch| batch.unwrap().header().clone()).collect()
    }

    /// All records from the log start on, markers included.
    #[must_use]
    pub fn records(&self) -> Vec<Found> {
        records(&self.content())
    }

    /// Base offsets of the segments.
    #[must_use]
    pub fn bases(&self) -> Vec<Offset> {
        self.log.reader().segments().unwrap().iter().map(|segment| segment.base_offset).collect()
    }

    /// Epochs and where they begin.
    #[must_use]
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        self.log.reader().leader_epochs().iter().map(|entry| (entry.epoch, entry.start_offset)).collect()
    }

    /// The log's own files.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        files(&self.disk)
    }

    /// Offsets of the producer snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Offset> {
        let files = self.files();
        files.iter().filter_map(|name| name.strip_suffix(".snapshot")?.parse().ok()).collect()
    }
}

/// The names in the log's directory.
#[must_use]
pub fn files(disk: &SimDisk) -> Vec<String> {
    let dir = partition().to_string();
    let inside = |path: &PathBuf| Some(path.strip_prefix(&dir).ok()?.to_str()?.to_owned());
    disk.files().keys().filter_map(inside).collect()
}

/// Bytes of one of the log's files; `None` if there is no such file.
#[must_use]
pub fn file(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.files().remove(&Path::new(&partition().to_string()).join(name))
}

/// Writes one of the log's files anew.
pub fn write_file(disk: &SimDisk, name: &str, bytes: &[u8]) {
    if file(disk, name).is_some() {
        remove_file(disk, name);
    }
    let file = disk.open(&Path::new(&partition().to_string()).join(name), Access::Create).unwrap();
    write_at(disk, &file, 0, bytes).unwrap();
}

/// Removes one of the log's files.
pub fn remove_file(disk: &SimDisk, name: &str) {
    disk.unlink(&Path::new(&partition().to_string()).join(name)).unwrap();
}

/// A batch of so many records.
#[must_use]
pub fn batch(records: usize) -> BatchBuilder {
    with_records(BatchBuilder::new(), records)
}

/// A batch with a record at each time.
#[must_use]
pub fn batch_at(times: &[Timestamp]) -> BatchBuilder {
    times.iter().fold(BatchBuilder::new(), |batch, time| batch.record(*time, None, Some(b"value")))
}

/// A batch of an idempotent producer.
#[must_use]
pub fn produced(id: ProducerId, epoch: ProducerEpoch, sequence: i32, records: usize) -> BatchBuilder {
    with_records(BatchBuilder::new().producer(id, epoch, sequence), records)
}

/// A batch of a transaction.
#[must_use]
pub fn in_txn(id: ProducerId, epoch: ProducerEpoch, sequence: i32, records: usize) -> BatchBuilder {
    produced(id, epoch, sequence, records).transactional()
}

fn with_records(batch: BatchBuilder, records: usize) -> BatchBuilder {
    (0..records).fold(batch, |batch, n| batch.record(NOW_MS, Some(b"key"), Some(format!("value {n}").as_bytes())))
}

/// The marker that ends a transaction.
#[must_use]
pub fn marker(id: ProducerId, epoch: ProducerEpoch, committed: bool, coordinator_epoch: i32) -> Vec<u8> {
    end_txn_marker(id, epoch, EndTxnMarker { committed, coordinator_epoch }, NOW_MS).unwrap()
}

/// A batch with its place in the log, as a leader of this epoch sends it.
#[must_use]
pub fn placed(mut bytes: Vec<u8>, base_offset: Offset, epoch: LeaderEpoch) -> Vec<u8> {
    assign_in_place(&mut bytes, base_offset, epoch).unwrap();
    bytes
}

/// The records in batches.
#[must_use]
pub fn records(bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut scratch = Vec::new();
    for batch in Batches::new(bytes).map(Result::unwrap) {
        batch.check_crc().unwrap();
        for record in batch.records(&mut scratch, DECOMPRESSED_BYTES).unwrap().map(Result::unwrap) {
            found.push(Found {
                offset: record.offset(),
                timestamp: record.timestamp(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
            });
        }
    }
    found
}
