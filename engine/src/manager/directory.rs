//! One log directory, opened and closed as a whole.

use super::{
    JournalReplay, OpenError,
    checkpointing::{Entry, read_high_watermarks},
    deletion::Deleted,
    journal,
    opener::{Opened, Opener},
};
use crate::{
    config::LogConfig,
    format::{
        checkpoint::OffsetCheckpoint,
        clean_shutdown,
        names::{self, DirectoryKind, DirectoryName},
    },
    log::{Checkpoints, Log, LogError, OnCorruption, RecoveryProgress, RecoveryReport},
    storage::{self, Access, Backend, EntryKind, Lock, Storage, StorageError},
    types::{Timestamp, TopicPartition},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often a lock that somebody holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// How a log directory is opened.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// What to do about damage below a partition's recovery point.
    pub on_corruption: OnCorruption,
    /// Producers without an open transaction that wrote nothing for so long are forgotten, in ms.
    pub producer_id_expiration_ms: i64,
    /// Whether a transaction may begin only with a guard (`transaction.partition.verification.enable`), see
    /// [`Log::start_transaction_verification`].
    pub verify_transactions: bool,
    /// How long the files of a deleted partition stay, in ms (`log.segment.delete.delay.ms`).
    pub file_delete_delay_ms: u64,
    /// How long to wait for another owner to let go of the directory. A killed process can hold it for seconds, until
    /// its last sync has ended.
    pub lock_timeout: Duration,
    /// The time to go by while opening, in ms; `None` is the machine's.
    pub now_ms: Option<Timestamp>,
    /// Segment files and maps of indexes that are kept open between uses, at most; what was not used for longest is closed
    /// and opened again when it is needed. `None` is half of the files that the process may have open, shared out among the
    /// directories of a log manager. Slices that readers hold keep their files open beyond it.
    pub open_files: Option<usize>,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            on_corruption: OnCorruption::default(),
            producer_id_expiration_ms: 86_400_000,
            verify_transactions: false,
            file_delete_delay_ms: 60_000,
            lock_timeout: Duration::from_secs(10),
            now_ms: None,
            open_files: None,
        }
    }
}

/// What opening a directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryReport {
    /// Whether the directory was closed in order before.
    pub clean: bool,
    /// Whether a sync of this directory failed before, so that recovery reads past the page cache.
    pub sync_failed: bool,
    /// What was brought from the commit journal into the segments, if there was a journal.
    pub journal: Option<JournalReplay>,
    /// What the opening of partitions found, and how long it took. Where there is nothing to tell
    /// ([`RecoveryReport::is_as_left`]), the partition is left out.
    pub partitions: BTreeMap<TopicPartition, (RecoveryReport, Duration)>,
    /// Directories of deleted partitions, which [`LogDirectory::remove_deleted_files`] removes.
    pub deleted: Vec<String>,
    /// Directories of partitions that the cluster's metadata did not place here; they are left alone.
    pub stray: Vec<String>,
    /// Directories of partitions that were moving here; they are left alone.
    pub future: Vec<String>,
    /// Entries that are not a partition's directory or a file that Kafka keeps; they were not touched.
    pub foreign: Vec<String>,
    /// Checkpoint files that could not be read and count as empty: their names.
    pub unreadable: Vec<&'static str>,
}

/// A log directory and the logs in it.
///
/// A log is opened when it is first asked for, so that each can have its topic's configuration.
///
/// ```
/// use duramen::{LogConfig, LogDirectory, TopicPartition};
/// # let dir = tempfile::tempdir()?;
/// let mut directory = LogDirectory::open(dir.path())?;
/// let log = directory.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;
/// assert_eq!(log.offsets().log_end, 0);
/// directory.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogDirectory {
    pub(super) storage: Arc<dyn Storage>,
    backend: Option<Backend>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) high_watermarks: OffsetCheckpoint,
    /// Whether a checkpoint may still tell of partitions that are not there.
    pub(super) tells_of_gone: bool,
    pub(super) options: DirectoryOptions,
    pub(super) report: DirectoryReport,
    /// Partition directories that were found, whether or not their log is open yet, in order.
    pub(super) found: Vec<TopicPartition>,
    pub(super) logs: BTreeMap<TopicPartition, Log>,
    pub(super) deleted: Deleted,
    /// Logs whose cleaning failed.
    pub(super) uncleanable: BTreeSet<TopicPartition>,
    /// What the marker of an orderly close says.
    broker_epoch: i64,
    _lock: Lock,
}

impl LogDirectory {
    /// Opens a log directory with the best backend there is, and makes it if it does not exist.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another owner does not let go of it in ten seconds; [`OpenError::Storage`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, DirectoryOptions::default())
    }

    /// As [`LogDirectory::open`], with options.
    ///
    /// # Errors
    /// As [`LogDirectory::open`].
    pub fn open_with(path: &Path, options: DirectoryOptions) -> Result<Self, OpenError> {
        std::fs::create_dir_all(path).map_err(|error| StorageError::new("create", path, error))?;
        let (storage, backend) = storage::open_best(path)?;
        let mut directory = Self::open_on(storage, options).map_err(|error| match error {
            OpenError::Locked { .. } => OpenError::Locked { path: path.to_path_buf() },
            other => other,
        })?;
        directory.backend = Some(backend);
        Ok(directory)
    }

    /// Opens a log directory on a storage of the host's.
    ///
    /// # Errors
    /// As [`LogDirectory::open`].
    pub fn open_on(storage: Arc<dyn Storage>, options: DirectoryOptions) -> Result<Self, OpenError> {
        let lock = take_lock(&*storage, options.lock_timeout)?;
        if let (Some(limit), Some(open_files)) = (options.open_files, storage.open_files()) {
            open_files.set_limit(limit);
        }
        let mut report = DirectoryReport { clean: take_marker(&*storage)?, ..DirectoryReport::default() };
        report.sync_failed = sync_failed(&*storage)?;
        report.clean &= !report.sync_failed;
        if !report.clean {
            // What a dead process left in the page cache, and entries that it made or removed, must not be lost once
            // something was built on them.
            storage.sync_all()?;
        }
        let checkpoints = match Checkpoints::read(Arc::clone(&storage)) {
            Ok(checkpoints) => checkpoints,
            Err(LogError::Storage(error)) => return Err(error.into()),
            Err(_) => {
                // Without recovery points nothing is known to be durable: everything is read.
                report.unreadable.extend([names::RECOVERY_POINT_CHECKPOINT, names::LOG_START_CHECKPOINT]);
                report.clean = false;
                Checkpoints::empty(Arc::clone(&storage))
            }
        };
        report.journal = journal::replay(&*storage, &checkpoints)?;
        // Its batches may lie behind what a close noted of the logs.
        report.clean &= report.journal.is_none();
        let high_watermarks = read_high_watermarks(&*storage, &mut report)?;
        let mut found = list_partitions(&*storage, &mut report)?;
        found.sort_unstable();
        let now_ms = options.now_ms.unwrap_or_else(machine_time_ms);
        let deleted = Deleted::found(&report.deleted, now_ms, options.file_delete_delay_ms);
        let mut directory = Self {
            storage,
            backend: None,
            checkpoints: Arc::new(checkpoints),
            high_watermarks,
            tells_of_gone: true,
            options,
            report,
            found,
            logs: BTreeMap::new(),
            deleted,
            uncleanable: BTreeSet::new(),
            broker_epoch: -1,
            _lock: lock,
        };
        directory.forget_gone_if_there_is_space()?;
        Ok(directory)
    }

    /// The partitions that the directory holds, whether or not their logs are open.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.found
    }

    /// What was found so far.
    #[must_use]
    pub fn report(&self) -> &DirectoryReport {
        &self.report
    }

    /// How the disk is reached, if this crate opened it.
    #[must_use]
    pub fn backend(&self) -> Option<&Backend> {
        self.backend.as_ref()
    }

    /// The log of a partition; created if there is none. The configuration is used when the log is opened, that is, the
    /// first time.
    ///
    /// # Errors
    /// [`OpenError::InvalidConfig`], and nothing is created or opened; [`OpenError::Partition`] when it cannot be opened, see
    /// [`Log::open`].
    pub fn get_or_create(&mut self, partition: &TopicPartition, config: &LogConfig) -> Result<&mut Log, OpenError> {
        self.get_or_create_with(partition, config, &mut |_| {})
    }

    /// As [`LogDirectory::get_or_create`], telling `progress` how a recovery gets on.
    ///
    /// # Errors
    /// As [`LogDirectory::get_or_create`].
    pub fn get_or_create_with(
        &mut self,
        partition: &TopicPartition,
        config: &LogConfig,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<&mut Log, OpenError> {
        if !self.logs.contains_key(partition) {
            config.validate()?;
            let log = self.open_log(partition, config, progress)?;
            self.logs.insert(partition.clone(), log);
        }
        self.logs.get_mut(partition).ok_or_else(|| OpenError::UnknownPartition { partition: partition.clone() })
    }

    /// As [`LogDirectory::get_or_create`], but a partition that is not there is an error.
    ///
    /// # Errors
    /// [`OpenError::UnknownPartition`]; otherwise as [`LogDirectory::get_or_create`].
    pub fn get(&mut self, partition: &TopicPartition, config: &LogConfig) -> Result<&mut Log, OpenError> {
        if self.has(partition) {
            return self.get_or_create(partition, config);
        }
        Err(OpenError::UnknownPartition { partition: partition.clone() })
    }

    /// Whether the partition is there.
    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.found.binary_search(partition).is_ok()
    }

    fn open_log(
        &mut self,
        partition: &TopicPartition,
        config: &LogConfig,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<Log, OpenError> {
        if !self.has(partition) {
            self.create(&[partition], None, config)?;
        }
        let opened = self.opener().open(partition, Arc::new(config.clone()), progress)?;
        Ok(self.note_opened(partition, opened))
    }

    /// What opens logs of this directory, on any thread.
    pub(super) fn opener(&self) -> Opener<'_> {
        Opener::new(self, self.now_ms())
    }

    /// Takes note of an opened log.
    pub(super) fn note_opened(&mut self, partition: &TopicPartition, opened: Opened) -> Log {
        if !opened.report.is_as_left() {
            self.report.partitions.insert(partition.clone(), (opened.report, opened.elapsed));
        }
        opened.log
    }

    /// The time by which the directory goes, in ms.
    pub(super) fn now_ms(&self) -> Timestamp {
        self.options.now_ms.unwrap_or_else(machine_time_ms)
    }

    /// Tells the epoch under which the broker is registered, for the marker of an orderly close. Kafka's controller takes a broker
    /// that comes back with another one for one that crashed, and its replicas out of the in-sync sets; -1, the default, is
    /// no epoch.
    pub fn set_broker_epoch(&mut self, broker_epoch: i64) {
        self.broker_epoch = broker_epoch;
    }

    /// Closes every log, writes the checkpoints and, last, the marker that lets the next open skip recovery. The marker
    /// is written only if every log that this directory holds was closed in order, now or before.
    ///
    /// # Errors
    /// The first failure; the next open then recovers.
    pub fn close(self) -> Result<(), OpenError> {
        self.close_after(1, |_| Ok(()))
    }

    /// As [`LogDirectory::close`], by several threads, and doing something when the logs are closed and nobody knows of it
    /// yet.
    pub(super) fn close_after(
        mut self,
        threads: usize,
        logs_are_closed: impl FnOnce(&dyn Storage) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let all_clean = self.report.clean || self.found.iter().all(|partition| self.logs.contains_key(partition));
        let entries = close_logs(std::mem::take(&mut self.logs), threads)?;
        logs_are_closed(&*self.storage)?;
        self.write_checkpoints(|| entries)?;
        if all_clean {
            let marker = Path::new(names::CLEAN_SHUTDOWN);
            storage::write_atomically(&*self.storage, marker, &clean_shutdown::encode(self.broker_epoch))?;
            if self.report.sync_failed {
                self.storage.unlink(Path::new(names::FAILED_SYNC))?;
            }
        }
        Ok(())
    }
}

/// Closes logs by several threads; what the checkpoints will say of them.
fn close_logs(logs: BTreeMap<TopicPartition, Log>, threads: usize) -> Result<Vec<Entry>, OpenError> {
    let logs = Mutex::new(logs.into_iter());
    let next = || logs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let close_some = || {
        let mut entries = Vec::new();
        while let Some((partition, mut log)) = next() {
            match log.close_files() {
                Ok(()) => entries.push(Entry::of(&partition, &log)),
                Err(source) => return Err(OpenError::Partition { partition, source }),
            }
        }
        Ok(entries)
    };
    let closed: Vec<Result<Vec<Entry>, OpenError>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(close_some)).collect();
        let own = close_some();
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.chain([own]).collect()
    });
    Ok(closed.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn take_lock(storage: &dyn Storage, timeout: Duration) -> Result<Lock, OpenError> {
    let begun = Instant::now();
    loop {
        match storage.lock(Path::new(names::LOCK)) {
            Ok(lock) => return Ok(lock),
            Err(error) if error.source.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(error) if begun.elapsed() >= timeout => return Err(OpenError::Locked { path: error.path }),
            Err(_) => thread::sleep(LOCK_RETRY),
        }
    }
}

/// Takes the marker away, durably and before any log is opened: a crash from here on is an unclean end.
fn take_marker(storage: &dyn Storage) -> Result<bool, OpenError> {
    match storage.unlink(Path::new(names::CLEAN_SHUTDOWN)) {
        Ok(()) => {
            storage.sync_dir(Path::new(""))?;
            Ok(true)
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a log left word that a sync failed.
fn sync_failed(storage: &dyn Storage) -> Result<bool, OpenError> {
    match storage.open(Path::new(names::FAILED_SYNC), Access::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The partitions in the directory. What is no partition's is reported and left alone, where Kafka would not start.
fn list_partitions(storage: &dyn Storage, report: &mut DirectoryReport) -> Result<Vec<TopicPartition>, OpenError> {
    let mut found = Vec::new();
    for entry in storage.list(&PathBuf::new())? {
        let name = entry.name.to_string_lossy().into_owned();
        match (entry.kind, DirectoryName::parse(&name)) {
            (EntryKind::Directory, Ok(DirectoryName { partition, kind: DirectoryKind::Current })) => {
                found.push(partition);
            }
            (EntryKind::Directory, Ok(DirectoryName { kind: DirectoryKind::Delete, .. })) => report.deleted.push(name),
            (EntryKind::Directory, Ok(DirectoryName { kind: DirectoryKind::Stray, .. })) => report.stray.push(name),
            (EntryKind::Directory, Ok(DirectoryName { kind: DirectoryKind::Future, .. })) => report.future.push(name),
            (EntryKind::File, _) if is_known_file(&name) => {}
            _ => report.foreign.push(name),
        }
    }
    Ok(found)
}

fn is_known_file(name: &str) -> bool {
    let known = [
        names::LOCK,
        names::CLEAN_SHUTDOWN,
        names::META_PROPERTIES,
        names::RECOVERY_POINT_CHECKPOINT,
        names::LOG_START_CHECKPOINT,
        names::HIGH_WATERMARK_CHECKPOINT,
        names::CLEANER_CHECKPOINT,
        names::FAILED_SYNC,
        "bootstrap.checkpoint",
    ];
    known.contains(&name.strip_suffix(".tmp").unwrap_or(name))
}

pub(super) fn machine_time_ms() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
}
