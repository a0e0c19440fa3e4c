//! Log directories and all partitions in them, for any number of threads.
//!
//! Owns the directories, which partition is where, and the threads. Keeps: a partition is in one directory and opened once;
//! a directory that fails takes its partitions with it and no others.

use super::{
    Background, DirectoryMetrics, DirectoryOptions, DirectoryReport, Event, HighWatermarkPolicy, LogDirectory,
    ManagerOptions, OpenError, Partition, commit::Committer, journal::Journal, maintenance::Maintainer,
    partition::ByName,
};
use crate::{
    config::LogConfig,
    format::uuid::Uuid,
    storage::{Backend, OpenFiles, Storage},
    types::TopicPartition,
};
use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How often a directory looks whether partitions have come to rest.
const TICK: Duration = Duration::from_millis(500);

/// Threads that close logs: most of a close waits for syncs.
const CLOSING_THREADS: usize = 8;

/// One directory, and what works for it.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// Guards the directory's files; held while logs are opened or closed. `None` once it is closed.
    home: Mutex<Option<LogDirectory>>,
    pub(super) committer: Arc<Committer>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    maintainer: Mutex<Option<Maintainer>>,
}

impl Directory {
    pub(super) fn home(&self) -> MutexGuard<'_, Option<LogDirectory>> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes which partitions the directory has. If that leaves it in doubt, it fails.
    fn change(&self, change: impl FnOnce(&mut LogDirectory) -> Result<(), OpenError>) -> Result<(), OpenError> {
        let changed = self.home().as_mut().ok_or(OpenError::NoDirectory).and_then(change);
        self.committer.note_failure();
        changed
    }

    /// Makes partitions that are not there. The caller lets the directory fail if that leaves it in doubt.
    pub(super) fn create(
        &self,
        partitions: &[&TopicPartition],
        topic_id: Option<Uuid>,
        config: &LogConfig,
    ) -> Result<(), OpenError> {
        self.home().as_mut().ok_or(OpenError::NoDirectory)?.create(partitions, topic_id, config)
    }

    /// Ends the upkeep, so that no log is being cleaned any more.
    fn end_maintenance(&self) {
        let maintainer = self.maintainer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(maintainer) = maintainer {
            maintainer.end();
        }
    }

    /// Writes the checkpoints of the open logs. Nothing is deleted between the look at a log and the writing: what is true of a
    /// log must not be told of the next one of its name.
    pub(super) fn checkpoint(&self) -> Result<(), OpenError> {
        let mut home = self.home();
        let Some(home) = home.as_mut() else { return Ok(()) };
        let partitions = self.committer.partitions();
        home.write_checkpoints(|| partitions.iter().filter_map(|partition| partition.checkpoint_entry()).collect())
    }

    /// Ends all rolls together. One that fails is tried again, and says so, when its log is closed.
    fn end_rolls(&self) {
        drop(self.committer.end_rolls(&self.committer.partitions()));
    }

    /// Ends the threads, after what they are at.
    fn stop(&self) {
        self.end_maintenance();
        self.committer.stop();
        self.committer.close_gate();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(end);
    }
}

/// The logs of one or several directories, for brokers: appends that are durable when their ticket says so, at nearly the
/// price of those that are not; reads and waits from any thread.
///
/// ```
/// use duramen::{AppendAsLeader, Durability, LogConfig, LogManager, ManagerOptions, TopicPartition};
/// use duramen::{ValidationPolicy, format::builder::BatchBuilder, validate};
/// # let dir = tempfile::tempdir()?;
/// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
/// let config = LogConfig::default();
/// let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &config)?;
/// let bytes = BatchBuilder::new().record(1_700_000_000_000, Some(b"key"), Some(b"value")).build()?;
/// let batch = validate(bytes, &ValidationPolicy::from_config(&config), 1_700_000_000_000)?;
/// let append = orders.append_as_leader(batch, AppendAsLeader::new(0, 1_700_000_000_000), Durability::Flushed)?;
/// append.wait(None)?; // now it survives power loss; or append.await, or append.into_ticket().enqueue(&queue, 1)
/// assert_eq!(orders.flushed(), 1);
/// manager.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LogManager {
    pub(super) directories: Vec<Arc<Directory>>,
    pub(super) options: ManagerOptions,
    /// Guards which partitions are open.
    pub(super) partitions: RwLock<HashSet<ByName>>,
    /// Guards the configuration that was used last: partitions of equal ones share it.
    last_config: Mutex<Arc<LogConfig>>,
    /// Guards where new partitions go: held while one that is in no directory gets its place and its files.
    pub(super) placing: Mutex<()>,
}

impl LogManager {
    /// Opens log directories with the best backend there is, and makes those that do not exist.
    ///
    /// # Errors
    /// [`OpenError::InvalidOption`], before anything is done; [`OpenError`] of the first directory that cannot be opened;
    /// [`OpenError::Duplicate`]. Those opened before are closed in order: one that needed no recovery needs none the next time.
    pub fn open(paths: &[&Path], options: ManagerOptions) -> Result<Self, OpenError> {
        options.check()?;
        let limit = options.directory.open_files.unwrap_or_else(|| OpenFiles::default().limit() / paths.len().max(1));
        let each = DirectoryOptions { open_files: Some(limit), ..options.directory.clone() };
        let open =
            |path: &&Path| LogDirectory::open_with(path, each.clone()).map(|directory| (path.to_path_buf(), directory));
        Self::assemble(paths.iter().map(open), options)
    }

    /// Opens log directories on storages of the host's.
    ///
    /// # Errors
    /// As [`LogManager::open`].
    pub fn open_on(storages: Vec<Arc<dyn Storage>>, options: ManagerOptions) -> Result<Self, OpenError> {
        options.check()?;
        let each = options.directory.clone();
        let open = |storage| LogDirectory::open_on(storage, each.clone()).map(|directory| (PathBuf::new(), directory));
        Self::assemble(storages.into_iter().map(open), options)
    }

    fn assemble(
        opening: impl Iterator<Item = Result<(PathBuf, LogDirectory), OpenError>>,
        options: ManagerOptions,
    ) -> Result<Self, OpenError> {
        let mut homes = Vec::new();
        if let Err(error) = open_each(opening, &mut homes) {
            // What is wrong is said already. One that cannot be closed is recovered by the next open.
            homes.into_iter().for_each(|(_, home)| drop(home.close()));
            return Err(error);
        }
        let directories =
            homes.into_iter().enumerate().map(|(number, (path, home))| start(number, path, home, &options));
        Ok(Self {
            directories: directories.collect(),
            options,
            partitions: RwLock::default(),
            last_config: Mutex::default(),
            placing: Mutex::default(),
        })
    }

    /// What the directories' open found so far, in the order in which they were given.
    #[must_use]
    pub fn reports(&self) -> Vec<DirectoryReport> {
        let report = |directory: &Arc<Directory>| directory.home().as_ref().map(|home| home.report().clone());
        self.directories.iter().filter_map(report).collect()
    }

    /// All partitions in the directories, whether or not their logs are open.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let found = |directory: &Arc<Directory>| directory.home().as_ref().map(|home| home.partitions().to_vec());
        self.directories.iter().filter_map(found).flatten().collect()
    }

    /// A partition whose log is open.
    #[must_use]
    pub fn get(&self, partition: &TopicPartition) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(partition).map(|ByName(partition)| Arc::clone(partition))
    }

    pub(super) fn shared(&self, config: &LogConfig) -> Arc<LogConfig> {
        let mut last = self.last_config.lock().unwrap_or_else(PoisonError::into_inner);
        if **last != *config {
            *last = Arc::new(config.clone());
        }
        Arc::clone(&last)
    }

    pub(super) fn add(&self, directory: &Arc<Directory>, log: crate::log::Log) -> Arc<Partition> {
        let committer = Arc::clone(&directory.committer);
        let partition = Arc::new(Partition::new(log, committer, self.options.high_watermark));
        directory.committer.add(&partition);
        if self.options.high_watermark == HighWatermarkPolicy::Flushed {
            partition.flush_recovered();
        }
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.replace(ByName(Arc::clone(&partition)));
        partition
    }

    /// Makes the commit journals now, rather than in the background at the first append that is to be flushed. Until a
    /// directory has its journal, such appends are made durable by group commit.
    ///
    /// # Errors
    /// [`OpenError::Storage`] of the first directory that fails, where group commits go on; the others get theirs.
    pub fn prepare(&self) -> Result<(), OpenError> {
        let made = self.directories.iter().map(|directory| directory.committer.make_journal());
        Ok(made.fold(Ok(()), Result::and)?)
    }

    /// Deletes a partition; see [`LogDirectory::delete`]. Tickets that had their answer keep it; the others get
    /// [`crate::WaitError::Closed`].
    ///
    /// # Errors
    /// [`OpenError::UnknownPartition`]; [`OpenError::Partition`] when its log fails on the way; [`OpenError::Storage`].
    pub fn delete(&self, partition: &TopicPartition) -> Result<(), OpenError> {
        self.take_away(partition, true, |home| home.delete(partition))
    }

    /// As [`LogManager::delete`], for many; see [`LogDirectory::delete_all`].
    ///
    /// ```
    /// use duramen::{LogConfig, LogManager, ManagerOptions, TopicPartition};
    /// # let dir = tempfile::tempdir()?;
    /// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// let names = (0..100).map(|number| TopicPartition::new("orders", number)).collect::<Result<Vec<_>, _>>()?;
    /// manager.get_or_create_all(&names, &LogConfig::default())?;
    /// manager.delete_all(&names)?;
    /// assert!(manager.partitions().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`LogManager::delete`]. [`OpenError::UnknownPartition`] of the first that is not there: none was deleted.
    pub fn delete_all(&self, partitions: &[TopicPartition]) -> Result<(), OpenError> {
        let mut held = vec![Vec::new(); self.directories.len()];
        for partition in partitions {
            let has = |directory: &Arc<Directory>| directory.home().as_ref().is_some_and(|home| home.has(partition));
            let number = self.directories.iter().position(has);
            let held = number.and_then(|number| held.get_mut(number));
            held.ok_or_else(|| OpenError::UnknownPartition { partition: partition.clone() })?.push(partition.clone());
        }
        for (directory, partitions) in self.directories.iter().zip(held).filter(|(_, held)| !held.is_empty()) {
            directory.change(|home| {
                directory.end_rolls();
                let mut closed = Vec::with_capacity(partitions.len());
                let all_closed = partitions.into_iter().try_for_each(|partition| {
                    self.close_for_good(directory, &partition, true)?;
                    closed.push(partition);
                    Ok(())
                });
                // On a full disk these have let go of what they gathered: they must not stay.
                let deleted = home.delete_all(&closed);
                all_closed.and(deleted)
            })?;
        }
        Ok(())
    }

    /// Closes a partition for everybody, and lets its directory give it up: it `is_deleted`, or its files are kept.
    pub(super) fn take_away(
        &self,
        partition: &TopicPartition,
        is_deleted: bool,
        give_up: impl FnOnce(&mut LogDirectory) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let unknown = || OpenError::UnknownPartition { partition: partition.clone() };
        let directory = self.holder(partition).ok_or_else(unknown)?;
        directory.change(|home| {
            self.close_for_good(directory, partition, is_deleted)?;
            give_up(home)
        })
    }

    /// Closes a partition for everybody, if it is open, before its directory gives it up.
    fn close_for_good(
        &self,
        directory: &Directory,
        partition: &TopicPartition,
        is_deleted: bool,
    ) -> Result<(), OpenError> {
        if let Some(open) = self.get(partition) {
            // A new partition of the name must not get what the journal has of this one.
            open.take_out_of_journal(is_deleted)
                .map_err(|source| OpenError::Partition { partition: partition.clone(), source })?;
            self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(partition);
            directory.committer.remove(partition);
        }
        Ok(())
    }

    /// Writes recovery points, log starts and high watermarks of all open logs. The host calls it now and then
    /// (`log.flush.offset.checkpoint.interval.ms`, a minute in Kafka).
    ///
    /// # Errors
    /// [`OpenError::Storage`] of the first directory that fails; those of the others are written all the same.
    pub fn checkpoint(&self) -> Result<(), OpenError> {
        self.directories.iter().map(|directory| directory.checkpoint()).fold(Ok(()), Result::and)
    }

    /// Moves all work on, on this thread, and does not wait; whether anything was done. For [`Background::Host`].
    pub fn poll(&self) -> bool {
        let busy = self.directories.iter().filter(|directory| directory.committer.poll()).count() > 0;
        self.directories.iter().for_each(|directory| directory.committer.events.tell());
        busy
    }

    /// Lets partitions to which nothing was appended since the last call write what they gathered: then they hold no memory.
    /// For [`Background::Host`]; the threads do it twice a second.
    pub fn tick(&self) {
        self.directories.iter().for_each(|directory| directory.committer.tick());
    }

    /// Tells all directories the epoch under which the broker is registered; see [`LogDirectory::set_broker_epoch`].
    pub fn set_broker_epoch(&self, broker_epoch: i64) {
        for directory in &self.directories {
            if let Some(home) = directory.home().as_mut() {
                home.set_broker_epoch(broker_epoch);
            }
        }
    }

    /// What each directory counted, in the order in which they were given.
    #[must_use]
    pub fn metrics(&self) -> Vec<DirectoryMetrics> {
        self.directories.iter().map(|directory| directory.committer.metrics()).collect()
    }

    /// The directories that failed, and why: their partitions can be read and not written until they are opened again.
    #[must_use]
    pub fn failed_directories(&self) -> Vec<(PathBuf, String)> {
        let failed = |directory: &Arc<Directory>| {
            directory.committer.failed().map(|cause| (directory.path.clone(), cause.to_string()))
        };
        self.directories.iter().filter_map(failed).collect()
    }

    /// Closes everything in order, so that the next open, here or by Kafka, needs no recovery: logs, journals,
    /// checkpoints, markers. Tickets without an answer get [`crate::WaitError::Closed`]. Partitions that somebody still holds
    /// can be read, and keep their files open until they are dropped. A second call does nothing.
    ///
    /// # Errors
    /// The first failure; what could be closed is, and what could not is recovered by the next open.
    pub fn close(&self) -> Result<(), OpenError> {
        let mut first_failure = Ok(());
        for directory in &self.directories {
            let closed = close(directory);
            first_failure = first_failure.and(closed);
        }
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).clear();
        first_failure
    }
}

impl Drop for LogManager {
    /// Ends the threads. Partitions that somebody still holds are closed: the directory is about to be another owner's. Without
    /// [`LogManager::close`] the next open recovers.
    fn drop(&mut self) {
        for directory in &self.directories {
            directory.stop();
            directory.committer.partitions().iter().for_each(|partition| drop(partition.take()));
        }
    }
}

/// Waits for a thread that was told to end. One that ends itself, in a callback, does so once that returns.
pub(super) fn end(thread: JoinHandle<()>) {
    if thread.thread().id() != thread::current().id() {
        // A thread that panicked has said so already.
        let _ = thread.join();
    }
}

/// Steps, and what the next open finds after each: every log closed (an unclean end, and a journal whose batches are in the
/// segments); the journal removed (an unclean end); checkpoints and marker written (a clean one).
fn close(directory: &Directory) -> Result<(), OpenError> {
    directory.end_maintenance();
    let Some(mut home) = directory.home().take() else { return Ok(()) };
    directory.end_rolls();
    for partition in directory.committer.partitions() {
        if let Some(log) = partition.take() {
            home.logs.insert(partition.name().clone(), log);
        }
    }
    directory.committer.close_gate();
    let failed = directory.committer.failed();
    let threads = if directory.committer.is_polled() { 1 } else { CLOSING_THREADS };
    home.close_after(threads, |storage| {
        directory.stop();
        match failed {
            Some(cause) => Err(OpenError::DirectoryFailed { cause: cause.to_string() }),
            None => Ok(Journal::remove(storage)?),
        }
    })
}

/// Opens directories one after the other, as long as no partition is in two.
fn open_each(
    mut opening: impl Iterator<Item = Result<(PathBuf, LogDirectory), OpenError>>,
    homes: &mut Vec<(PathBuf, LogDirectory)>,
) -> Result<(), OpenError> {
    opening.try_for_each(|opened| {
        homes.push(opened?);
        Ok::<(), OpenError>(())
    })?;
    let mut holders = HashMap::new();
    for (number, (path, home)) in homes.iter().enumerate() {
        for partition in home.partitions() {
            if let Some(first) = holders.insert(partition, named(number, path)) {
                let (partition, second) = (partition.clone(), named(number, path));
                return Err(OpenError::Duplicate { partition, first, second });
            }
        }
    }
    Ok(())
}

/// A directory on a storage of the host's has only its number.
fn named(number: usize, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(format!("number {number}")) } else { path.to_path_buf() }
}

fn start(number: usize, path: PathBuf, home: LogDirectory, options: &ManagerOptions) -> Arc<Directory> {
    let is_polled = options.background == Background::Host;
    let committer = Committer::new(number, &home.storage, &home.checkpoints, options);
    let journal = Arc::downgrade(&committer);
    home.checkpoints.set_journal(journal);
    if let Some(Backend::Posix { why }) = home.backend() {
        committer.events.note(Event::RingRefused { cause: why.clone() });
    }
    let mut threads = Vec::new();
    if !is_polled {
        threads.push(spawn(format!("duramen-log-{number}"), &committer, Committer::work_on_journal));
        threads.push(spawn(format!("duramen-sync-{number}"), &committer, work_on_syncs));
    }
    let (home, threads) = (Mutex::new(Some(home)), Mutex::new(threads));
    let directory = Arc::new(Directory { path, home, committer, threads, maintainer: Mutex::default() });
    if let Some(wanted) = options.maintenance.as_ref().filter(|_| !is_polled) {
        let maintainer = Maintainer::start(number, &directory, wanted, options.now_ms);
        *directory.maintainer.lock().unwrap_or_else(PoisonError::into_inner) = Some(maintainer);
    }
    directory
}

/// A thread for a directory, which fails if the thread panics: nobody would be answered any more.
pub(super) fn spawn(
    name: String,
    committer: &Arc<Committer>,
    work: impl FnOnce(&Committer) + Send + 'static,
) -> JoinHandle<()> {
    let committer = Arc::clone(committer);
    let work = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&committer))) {
            committer.fail("one of its threads panicked");
            committer.events.tell();
            resume_unwind(panic);
        }
    };
    // As `thread::spawn`, which ends the process's part that cannot go on where the machine has no thread left.
    #[allow(clippy::expect_used)]
    thread::Builder::new().name(name).spawn(work).expect("a thread for a log directory")
}

fn work_on_syncs(committer: &Committer) {
    while !committer.is_stopping() {
        if committer.wait_for_requests(TICK) {
            committer.step_sync();
        } else {
            committer.tick();
        }
        committer.events.tell();
    }
    committer.events.tell();
}
