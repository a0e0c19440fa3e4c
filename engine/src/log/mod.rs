//! Floor 4: the log of one partition.
//!
//! [`Log`] is the single writer, [`LogReader`] any number of readers. Owns the segments, epochs, producers and snapshots
//! of one directory; knows nothing of other partitions, threads or the clock. Keeps: `log start <= last stable <= high
//! watermark <= log end` and `recovery point <= log end`; segments ascend without overlap, the active one last; a sealed
//! segment is durable before the next one exists, so only the active one can be torn.

mod append;
pub(crate) mod checkpoints;
mod epochs;
mod error;
mod loading;
mod open;
mod producers;
mod read;
mod recovery;
mod roll;
mod snapshots;
mod state;
mod truncate;
mod validate;

pub use append::{AppendAsLeader, AppendInfo};
pub use checkpoints::Checkpoints;
pub use error::{Corruption, LogError};
pub use open::OpenOptions;
pub use producers::ActiveProducer;
pub use read::{Fetch, Fetched, Isolation, LogReader, SegmentSummary, TimestampAndOffset, TimestampQuery};
pub use recovery::{Cut, OnCorruption, RecoveryProgress, RecoveryReport};
pub use state::{LogOffsetMetadata, LogOffsets};
pub use validate::{ValidatedBatch, ValidationPolicy, validate};

use crate::{
    config::LogConfig,
    format::{checkpoint, names, partition_metadata, uuid::Uuid},
    segment::{AppendFailure, IndexLimits, Segment, SegmentError},
    storage::{self, Access, Storage},
    types::{LeaderEpoch, Offset, Timestamp, TopicPartition},
};
use producers::ProducerState;
use snapshots::Snapshots;
use state::{LogOffsetMetadata as Metadata, Segments, Shared};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A `partition.metadata` is two short lines.
const MAX_METADATA_BYTES: u64 = 4 << 10;

/// The log of one partition, for its one writer.
///
/// Usually opened through [`crate::LogDirectory`], which keeps the lock, the checkpoints and the clean-shutdown marker.
///
/// ```
/// use duramen::{AppendAsLeader, Fetch, Isolation, LogConfig, LogDirectory, TopicPartition, ValidationPolicy, validate};
/// use duramen::format::builder::BatchBuilder;
/// # let dir = tempfile::tempdir()?;
/// let mut directory = LogDirectory::open(dir.path())?;
/// let log = directory.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;
/// let bytes = BatchBuilder::new().record(1_700_000_000_000, Some(b"key"), Some(b"value")).build()?;
/// let batch = validate(bytes, &ValidationPolicy::from_config(&log.config()), 1_700_000_000_000)?;
/// let info = log.append_as_leader(batch, AppendAsLeader::new(0, 1_700_000_000_000))?;
/// log.flush()?;
/// assert_eq!((info.first_offset, log.offsets().recovery_point), (0, 1));
/// let fetched = log.reader().read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(0) })?;
/// assert_eq!(fetched.len(), info.bytes);
/// directory.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    checkpoints: Arc<Checkpoints>,
    dir: PathBuf,
    snapshots: Snapshots,
    producers: ProducerState,
    jitter_seed: u64,
    producer_id_expiration_ms: i64,
    /// When the active segment was created or opened, in ms.
    segment_created_ms: Timestamp,
    /// Greatest timestamp of the active segment's first batch.
    segment_first_timestamp: Option<Timestamp>,
    last_flush_ms: Timestamp,
    topic_id: Option<Uuid>,
    poisoned: Option<String>,
}

impl Log {
    /// Opens the log of a partition, creates it if there is none, and recovers what needs it. `progress` is told how a
    /// recovery gets on. Follows `UnifiedLog.create` and `LogLoader.load`, but for what `docs/KAFKA.md` lists.
    ///
    /// # Errors
    /// * [`LogError::Corrupt`]: bytes below the recovery point are damaged, unless the options say to cut there;
    /// * [`LogError::Format`]: the log holds batches of magic 0 or 1, or a file of a newer version;
    /// * [`LogError::InvalidArgument`]: the checkpointed log start lies above the log's end, unless the options say to cut;
    /// * [`LogError::Storage`], [`LogError::DiskFull`], [`LogError::Segment`]: the disk.
    pub fn open(
        storage: &Arc<dyn Storage>,
        checkpoints: &Arc<Checkpoints>,
        partition: &TopicPartition,
        options: &OpenOptions,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<(Self, RecoveryReport), LogError> {
        open::open(storage, checkpoints, partition, options, progress)
    }

    fn assemble(
        shared: Arc<Shared>,
        checkpoints: Arc<Checkpoints>,
        dir: PathBuf,
        snapshots: Snapshots,
        producers: ProducerState,
        options: &OpenOptions,
    ) -> Result<Self, LogError> {
        let mut log = Self {
            shared,
            checkpoints,
            dir,
            snapshots,
            producers,
            jitter_seed: options.jitter_seed,
            producer_id_expiration_ms: options.producer_id_expiration_ms,
            segment_created_ms: options.now_ms,
            segment_first_timestamp: None,
            last_flush_ms: options.now_ms,
            topic_id: None,
            poisoned: None,
        };
        log.segment_first_timestamp = log.first_timestamp(&*log.active()?)?;
        log.topic_id = log.read_topic_id()?;
        Ok(log)
    }

    /// A reader; as many as wanted, on any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.shared.partition
    }

    /// All offsets, of one moment.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        self.shared.read().offsets()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> Arc<LogConfig> {
        self.shared.config()
    }

    /// Changes the configuration; what is already written stays as it is.
    pub fn set_config(&mut self, config: LogConfig) {
        self.shared.set_config(config);
    }

    /// Whether a failed write or sync keeps the log from being appended to until it is opened again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// The producers that the log remembers, by ascending id.
    #[must_use]
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.producers.active()
    }

    /// Offsets of the oldest and the newest producer snapshot.
    #[must_use]
    pub fn snapshot_offsets(&self) -> Option<(Offset, Offset)> {
        self.snapshots.range()
    }

    fn storage(&self) -> &dyn Storage {
        &*self.shared.storage
    }

    fn active(&self) -> Result<Arc<Segment>, LogError> {
        self.shared.read().segments.active().map(Arc::clone).ok_or_else(open::no_segment)
    }

    fn check_writable(&self) -> Result<(), LogError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(LogError::Poisoned { cause: cause.clone() }),
        }
    }

    /// From now on nothing is written: the end of the log is unknown.
    fn poison<E: Into<LogError>>(&mut self, error: E) -> LogError {
        let error = error.into();
        if self.poisoned.is_none() {
            self.poisoned = Some(error.to_string());
            self.shared.write().failed = true;
            // It has to live only as long as the pages that it warns of, so it is not synced; and that a disk which has
            // just failed may not take it is no second failure.
            let _ = self.storage().open(Path::new(names::FAILED_SYNC), Access::Create);
        }
        error
    }

    /// Greatest timestamp of a segment's first batch.
    fn first_timestamp(&self, segment: &Segment) -> Result<Option<Timestamp>, LogError> {
        let log = segment.log()?;
        Ok(segment.scan_for(&log, 0, |_| true)?.and_then(|first| first.header.max_timestamp()))
    }

    /// Makes every appended batch durable and moves the recovery point to the log end.
    ///
    /// # Errors
    /// [`LogError::Storage`] when the disk refuses: the log then takes no more appends, and the recovery point stays.
    /// [`LogError::Poisoned`] afterwards.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.check_writable()?;
        let (log_end, recovery_point) = {
            let view = self.shared.read();
            (view.log_end.offset, view.recovery_point)
        };
        if recovery_point < log_end {
            let active = self.active()?;
            active.sync().map_err(|error| self.poison(error))?;
            self.shared.write().recovery_point = log_end;
        }
        Ok(())
    }

    /// Flushes if `flush.ms` have passed since the last time; the host calls it now and then.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub fn flush_if_due(&mut self, now_ms: Timestamp) -> Result<bool, LogError> {
        let waited_ms = u64::try_from(now_ms.saturating_sub(self.last_flush_ms)).unwrap_or(0);
        if waited_ms < self.config().flush_ms {
            return Ok(false);
        }
        self.flush()?;
        self.last_flush_ms = now_ms;
        Ok(true)
    }

    /// Seals the active segment and begins a new one at the log end; its base offset. An empty active segment stays.
    ///
    /// # Errors
    /// As [`Log::append_as_leader`].
    pub fn roll(&mut self, now_ms: Timestamp) -> Result<Offset, LogError> {
        self.check_writable()?;
        let log_end = self.shared.read().log_end.offset;
        self.roll_at(log_end, now_ms)?;
        Ok(log_end)
    }

    /// Begins a new segment at `base_offset`, which is at or above the log end.
    ///
    /// Steps, and what recovery finds after each: indexes written and everything of the old segment synced (it is still
    /// the last one, and is read again); snapshot written (as before); the new, empty log file created and the directory
    /// synced (a sealed and an active segment). So a segment that has a successor is durable.
    fn roll_at(&mut self, base_offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        let active = self.active()?;
        if active.base_offset() == base_offset {
            return Ok(());
        }
        if let Err(error) = active.write_and_sync() {
            return Err(self.roll_failed(error));
        }
        self.snapshots.take(base_offset, &self.producers)?;
        let config = self.config();
        let preallocate = config.preallocate.then_some(u64::from(config.segment_bytes));
        let limits = IndexLimits::from_config(&config);
        let segment = Segment::create(&self.shared.storage, &self.dir, base_offset, limits, preallocate)
            .map_err(SegmentError::from)?;
        self.storage().sync_dir(&self.dir).map_err(|error| self.poison(error))?;
        active.release_index();
        let mut view = self.shared.write();
        let mut segments = Segments::clone(&view.segments);
        segments.insert(Arc::new(segment));
        view.segments = Arc::new(segments);
        view.log_end = Metadata { offset: base_offset, segment_base_offset: base_offset, position: 0 };
        view.recovery_point = base_offset;
        drop(view);
        self.segment_created_ms = now_ms;
        self.segment_first_timestamp = None;
        Ok(())
    }

    /// A full disk leaves the log as it was; any other failure of a sync leaves its end unknown.
    fn roll_failed(&mut self, error: SegmentError) -> LogError {
        match error {
            SegmentError::Storage(error) if error.is_disk_full() && error.operation != "sync the files of" => {
                LogError::DiskFull(error)
            }
            other => self.poison(other),
        }
    }

    fn append_failed(&mut self, failure: AppendFailure) -> LogError {
        match failure {
            AppendFailure::Undone(error) if error.is_disk_full() => LogError::DiskFull(error),
            AppendFailure::Undone(error) => LogError::Storage(error),
            AppendFailure::Unknown(error) => self.poison(error),
        }
    }

    /// Records that an epoch of a new leader begins at the log end, durably, before it appends anything
    /// (`UnifiedLog.assignEpochStartOffset`).
    ///
    /// # Errors
    /// [`LogError::InvalidArgument`] for a negative epoch or offset; [`LogError::Storage`] when it cannot be written.
    pub fn assign_epoch_start_offset(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), LogError> {
        self.check_writable()?;
        if epoch < 0 || start_offset < 0 {
            let value = i64::from(epoch).min(start_offset);
            return Err(LogError::InvalidArgument { what: "leader epoch", value, why: "it is negative" });
        }
        let mut epochs = epochs::EpochCache::clone(&self.shared.read().epochs);
        if epochs.assign(epoch, start_offset) {
            self.publish_epochs(epochs)?;
        }
        Ok(())
    }

    fn publish_epochs(&mut self, epochs: epochs::EpochCache) -> Result<(), LogError> {
        let bytes = checkpoint::encode_epochs(epochs.entries());
        let path = self.dir.join(names::LEADER_EPOCH_CHECKPOINT);
        storage::write_atomically(self.storage(), &path, &bytes).map_err(SegmentError::from)?;
        self.shared.write().epochs = Arc::new(epochs);
        Ok(())
    }

    /// Writes the epochs as they are. Like Kafka's, a file that never held an epoch is empty.
    fn write_epochs(&self) -> Result<(), LogError> {
        let epochs = Arc::clone(&self.shared.read().epochs);
        let bytes = if epochs.entries().is_empty() { Vec::new() } else { checkpoint::encode_epochs(epochs.entries()) };
        let path = self.dir.join(names::LEADER_EPOCH_CHECKPOINT);
        Ok(storage::write_atomically(self.storage(), &path, &bytes)?)
    }

    /// Moves the high watermark to `offset`, as far as the log reaches; where it is now
    /// (`UnifiedLog.updateHighWatermark`).
    pub fn update_high_watermark(&mut self, offset: Offset) -> Offset {
        let mut view = self.shared.write();
        view.high_watermark = offset.clamp(view.log_start, view.log_end.offset);
        self.producers.on_high_watermark(view.high_watermark);
        view.first_unstable = self.producers.first_unstable_offset();
        view.high_watermark
    }

    /// Moves the first readable offset up to `offset`; whether it moved (`UnifiedLog.maybeIncrementLogStartOffset`).
    /// The records below are gone for readers at once; their segments go with retention. Flushes first if the log is
    /// not durable up to there, so that after a crash the log never ends below its start.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] above the high watermark; as [`Log::flush`].
    pub fn increment_log_start_offset(&mut self, offset: Offset) -> Result<bool, LogError> {
        self.check_writable()?;
        let offsets = self.offsets();
        if offset > offsets.high_watermark {
            let (log_start, log_end) = (offsets.log_start, offsets.high_watermark);
            return Err(LogError::OffsetOutOfRange { offset, log_start, log_end });
        }
        if offset <= offsets.log_start {
            return Ok(false);
        }
        if offset > offsets.recovery_point {
            self.flush()?;
        }
        let mut epochs = epochs::EpochCache::clone(&self.shared.read().epochs);
        if epochs.truncate_from_start(offset) {
            self.publish_epochs(epochs)?;
        }
        let mut view = self.shared.write();
        view.log_start = offset;
        self.producers.on_log_start(offset);
        view.first_unstable = self.producers.first_unstable_offset();
        Ok(true)
    }

    /// The topic's id, if the directory has one.
    #[must_use]
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    fn read_topic_id(&self) -> Result<Option<Uuid>, LogError> {
        let path = self.dir.join(names::PARTITION_METADATA);
        match storage::read_file(self.storage(), &path, MAX_METADATA_BYTES)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(partition_metadata::decode(&bytes)?)),
        }
    }

    /// Gives the partition its topic's id, durably. The same id again changes nothing.
    ///
    /// # Errors
    /// [`LogError::InconsistentTopicId`] when it has another one; [`LogError::Storage`].
    pub fn assign_topic_id(&mut self, topic_id: Uuid) -> Result<(), LogError> {
        match self.topic_id {
            Some(known) if known == topic_id => return Ok(()),
            Some(known) => return Err(LogError::InconsistentTopicId { offered: topic_id, known }),
            None => {}
        }
        let path = self.dir.join(names::PARTITION_METADATA);
        storage::write_atomically(self.storage(), &path, &partition_metadata::encode(topic_id))?;
        self.topic_id = Some(topic_id);
        Ok(())
    }

    /// Makes everything durable and leaves files from which the log opens without recovery, here and in Kafka: indexes
    /// with their last entries and a producer snapshot at the log end. The offsets that belong into the checkpoints.
    ///
    /// # Errors
    /// [`LogError::Storage`], [`LogError::DiskFull`] or [`LogError::Poisoned`]: the log must then be opened as unclean.
    pub fn close(mut self) -> Result<LogOffsets, LogError> {
        self.check_writable()?;
        self.active()?.write_and_sync()?;
        let log_end = self.shared.read().log_end.offset;
        self.snapshots.take(log_end, &self.producers)?;
        self.storage().sync_dir(&self.dir)?;
        self.shared.write().recovery_point = log_end;
        Ok(self.offsets())
    }

    /// Base offset of the first segment.
    #[must_use]
    pub fn first_base_offset(&self) -> Offset {
        self.shared.read().segments.first().map_or(0, |first| first.base_offset())
    }
}
