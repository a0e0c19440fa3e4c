//! Floor 4: the log of one partition.
//!
//! [`Log`] is the single writer, [`LogReader`] any number of readers. Owns the segments, epochs, producers and snapshots
//! of one directory; knows nothing of other partitions, threads or the clock. Keeps: `log start <= last stable <= high
//! watermark <= log end` and `recovery point <= log end`; segments ascend without overlap, the active one last; a sealed
//! segment is durable before the next one exists, so only the active one can be torn.

mod append;
pub(crate) mod checkpoints;
mod cleaner;
pub(crate) mod creation;
mod epoch_file;
mod epochs;
mod error;
mod flush;
mod journalled;
mod loading;
mod offsets;
mod open;
mod producers;
mod read;
mod rebuild;
mod recovery;
pub(crate) mod removal;
mod retention;
mod retire;
mod roll;
mod rolling;
mod snapshots;
mod split;
mod state;
mod transactions;
mod truncate;
mod validate;
mod walk;

pub(crate) use append::Gathered;
pub use append::{AppendAsLeader, AppendInfo};
pub use checkpoints::Checkpoints;
pub use cleaner::{
    Cleaned, CleanerControl, CleanerOptions, CleanerProgress, CleanerStats, Cleaning, LogToClean, Removed,
    RemovedRecords,
};
pub use error::{Corruption, LogError};
pub(crate) use journalled::{CommitJournal, PendingFlush};
pub use open::OpenOptions;
pub use producers::{ActiveProducer, ProducedBatch, VerificationGuard, VerifiedProducer};
pub use read::{Fetch, Fetched, Isolation, LogReader, SegmentSummary, TimestampAndOffset, TimestampQuery};
pub use recovery::{Cut, OnCorruption, RecoveryProgress, RecoveryReport};
pub use retention::{ExpiredSegment, RetentionReason};
pub(crate) use rolling::{Roll, end as end_rolls};
pub use state::{LogOffsetMetadata, LogOffsets};
pub use validate::{AppendOrigin, ValidatedBatch, ValidationPolicy, validate};

use crate::{
    config::LogConfig,
    format::{checkpoint::EpochEntry, names, partition_metadata, uuid::Uuid},
    segment::{AppendFailure, Segment},
    storage::{self, Access, Storage},
    types::{Offset, Timestamp, TopicPartition},
};
use epoch_file::EpochFile;
use producers::ProducerState;
use retire::Retired;
use snapshots::Snapshots;
use state::Shared;
use std::{
    path::Path,
    sync::{Arc, Weak},
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
    config: Arc<LogConfig>,
    /// The newest epoch and where it begins.
    latest_epoch: Option<EpochEntry>,
    checkpoints: Arc<Checkpoints>,
    dir: Arc<Path>,
    snapshots: Snapshots,
    producers: ProducerState,
    jitter_seed: u64,
    producer_id_expiration_ms: i64,
    verification_enabled: bool,
    /// When the log was opened, in ms: as old as its segments from before count.
    opened_ms: Timestamp,
    /// Greatest timestamp of the active segment's first batch.
    segment_first_timestamp: Option<Timestamp>,
    last_flush_ms: Timestamp,
    retired: Retired,
    /// Alive while a cleaning goes on.
    cleaning: Weak<cleaner::Claim>,
    poisoned: Option<Box<str>>,
    /// Whether a commit journal may have frames of this log.
    in_journal: bool,
    /// How often the log was cut.
    cuts: u64,
    cut_in_batch: Option<truncate::CutInBatch>,
    /// Whether what is appended is committed at once.
    is_sole_replica: bool,
    epoch_file: EpochFile,
}

impl Drop for Log {
    /// A cleaning that goes on keeps its hands off the files, which the next log of the partition has.
    fn drop(&mut self) {
        self.revoke_cleaning();
    }
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
        dir: Arc<Path>,
        snapshots: Snapshots,
        producers: ProducerState,
        options: &OpenOptions,
    ) -> Result<Self, LogError> {
        let latest_epoch = shared.read().epochs.entries().last().copied();
        let mut log = Self {
            shared,
            config: Arc::clone(&options.config),
            latest_epoch,
            checkpoints,
            dir,
            snapshots,
            producers,
            jitter_seed: options.jitter_seed,
            producer_id_expiration_ms: options.producer_id_expiration_ms,
            verification_enabled: options.verify_transactions,
            opened_ms: options.now_ms,
            segment_first_timestamp: None,
            last_flush_ms: options.now_ms,
            retired: Retired::default(),
            cleaning: Weak::new(),
            poisoned: None,
            in_journal: false,
            cuts: 0,
            cut_in_batch: None,
            is_sole_replica: false,
            epoch_file: EpochFile::default(),
        };
        log.segment_first_timestamp = log.first_timestamp(&*log.active()?)?;
        if let Some(topic_id) = log.read_topic_id()? {
            log.note_topic_id(topic_id)?;
        }
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
        Arc::clone(&self.config)
    }

    /// Changes the configuration; what is already written stays as it is.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = Arc::new(config);
    }

    /// As [`Log::set_config`], with one that logs share.
    pub(crate) fn share_config(&mut self, config: &Arc<LogConfig>) {
        self.config = Arc::clone(config);
    }

    /// Whether a failed write or sync keeps the log from being appended to until it is opened again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    fn storage(&self) -> &dyn Storage {
        &*self.shared.storage
    }

    fn active(&self) -> Result<Arc<Segment>, LogError> {
        self.shared.read().active().map(Arc::clone).ok_or_else(open::no_segment)
    }

    fn check_writable(&self) -> Result<(), LogError> {
        match (&self.poisoned, self.checkpoints.failure()) {
            (None, None) => Ok(()),
            (Some(cause), _) => Err(LogError::Poisoned { cause: cause.to_string() }),
            (None, Some(cause)) => Err(LogError::Poisoned { cause: cause.to_string() }),
        }
    }

    /// From now on nothing is written: the end of the log is unknown.
    fn poison<E: Into<LogError>>(&mut self, error: E) -> LogError {
        let error = error.into();
        if self.poisoned.is_none() {
            self.poisoned = Some(error.to_string().into());
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

    fn append_failed(&mut self, failure: AppendFailure) -> LogError {
        match failure {
            AppendFailure::Undone(error) if error.is_disk_full() => LogError::DiskFull(error),
            AppendFailure::Undone(error) => LogError::Storage(error),
            AppendFailure::Unknown(error) => self.poison(error),
            AppendFailure::NoMemory => LogError::NoMemory,
        }
    }

    /// The topic's id, if the directory has one.
    #[must_use]
    pub fn topic_id(&self) -> Option<Uuid> {
        self.shared.topic_id.get().copied()
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
        if self.topic_id().is_none() {
            let path = self.dir.join(names::PARTITION_METADATA);
            storage::write_atomically(self.storage(), &path, &partition_metadata::encode(topic_id))?;
        }
        self.note_topic_id(topic_id)
    }

    /// The id of the directory; it stays what it is.
    fn note_topic_id(&self, topic_id: Uuid) -> Result<(), LogError> {
        let known = *self.shared.topic_id.get_or_init(|| topic_id);
        if known == topic_id { Ok(()) } else { Err(LogError::InconsistentTopicId { offered: topic_id, known }) }
    }

    /// Base offset of the first segment.
    #[must_use]
    pub fn first_base_offset(&self) -> Offset {
        self.shared.read().segments().first().map_or(0, |first| first.base_offset())
    }
}
