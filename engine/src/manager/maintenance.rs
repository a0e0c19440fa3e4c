//! Upkeep of a log manager's logs: retention, compaction, checkpoints, producers; when the host calls for it, or by a thread.
//!
//! Knows nothing of how appends become durable. Keeps: a log is needed for short moments only, so that appends go on beside a
//! cleaning; a log that fails does not keep the others from being looked after; nothing is cleaned any more once a directory
//! begins to close.

use super::{LogDirectory, LogManager, OpenError, Partition, PartitionError, Retention, cleaning, events::Event};
use crate::{
    log::{CleanerControl, CleanerOptions, CleanerProgress, CleanerStats, Log, LogError, LogToClean},
    manager::{
        directory::machine_time_ms,
        log_manager::{Directory, end, spawn},
    },
    types::{Timestamp, TopicPartition},
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What a log manager does for its logs by itself, with a thread for each directory and one
/// more that compacts; see [`crate::ManagerOptions`].
/// [`Event`]s tell what was done and what failed.
///
/// ```
/// use duramen::{Maintenance, ManagerOptions};
/// let maintenance = Maintenance { bytes_per_second: 50 << 20, ..Maintenance::default() };
/// let options = ManagerOptions { maintenance: Some(maintenance), ..ManagerOptions::default() };
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Between two looks for segments that retention removes, and for files to unlink (`log.retention.check.interval.ms`).
    pub retention_interval: Duration,
    /// Between two writings of the checkpoints (`log.flush.offset.checkpoint.interval.ms`).
    pub checkpoint_interval: Duration,
    /// Between two looks for producers that wrote nothing for [`DirectoryOptions::producer_id_expiration_ms`](super::DirectoryOptions)
    /// (`producer.id.expiration.check.interval.ms`).
    pub producer_check_interval: Duration,
    /// The rest before the next look when no log was due to be compacted (`log.cleaner.backoff.ms`).
    pub cleaner_backoff: Duration,
    /// How logs are compacted; each cleaning draws its own `hash_seed`. `None` compacts nothing (`log.cleaner.enable`).
    pub cleaner: Option<CleanerOptions>,
    /// Bytes that the cleanings of a directory read and write in a second, at most
    /// (`log.cleaner.io.max.bytes.per.second`).
    pub bytes_per_second: u64,
}

impl Default for Maintenance {
    /// Kafka's intervals; no limit of bytes.
    fn default() -> Self {
        Self {
            retention_interval: Duration::from_secs(300),
            checkpoint_interval: Duration::from_secs(60),
            producer_check_interval: Duration::from_secs(600),
            cleaner_backoff: Duration::from_secs(15),
            cleaner: Some(CleanerOptions::default()),
            bytes_per_second: u64::MAX,
        }
    }
}

impl LogManager {
    /// Applies retention to every open log, and unlinks the files of segments and partitions that were retired long enough
    /// ago. For hosts that do not let [`Maintenance`] do it.
    #[must_use = "logs can fail"]
    pub fn apply_retention(&self) -> Retention {
        let mut all = Retention::default();
        for directory in &self.directories {
            let one = directory.apply_retention(now_ms(self.options.now_ms));
            all.removed.extend(one.removed);
            all.failed.extend(one.failed);
            all.kept.extend(one.kept);
        }
        all
    }

    /// Lets every open log forget the producers that wrote nothing for long. For hosts that do not let [`Maintenance`] do it.
    pub fn expire_producers(&self) {
        self.directories.iter().for_each(|directory| directory.expire_producers(now_ms(self.options.now_ms)));
    }

    /// Compacts the dirtiest of the open logs that are due, in the first directory that has one; which, and what came of it.
    /// Appends and reads go on meanwhile. A log on which this fails is left out until its directory is opened again, unless
    /// `control` gave it up, the log changed under it, or the disk is full (`LogCleanerManager.grabFilthiestCompactedLog`).
    ///
    /// # Errors
    /// [`OpenError::Partition`]: that log is as it was, and another call looks at the others.
    pub fn clean_dirtiest(
        &self,
        options: &CleanerOptions,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
    ) -> Result<Option<(TopicPartition, CleanerStats)>, OpenError> {
        for directory in &self.directories {
            if let Some(cleaned) = directory.clean_dirtiest(options, control, now_ms(self.options.now_ms))? {
                return Ok(Some(cleaned));
            }
        }
        Ok(None)
    }
}

fn now_ms(fixed: Option<Timestamp>) -> Timestamp {
    fixed.unwrap_or_else(machine_time_ms)
}

/// Does something with a partition's log; `None` if it was closed or deleted meanwhile.
fn with<T>(partition: &Partition, what: impl FnOnce(&mut Log) -> Result<T, LogError>) -> Result<Option<T>, OpenError> {
    match partition.with(what) {
        Ok(Ok(done)) => Ok(Some(done)),
        Ok(Err(source)) => Err(OpenError::Partition { partition: partition.name().clone(), source }),
        Err(PartitionError::Log(source)) => Err(OpenError::Partition { partition: partition.name().clone(), source }),
        Err(_) => Ok(None),
    }
}

impl Directory {
    fn apply_retention(&self, now_ms: Timestamp) -> Retention {
        let mut done = Retention::default();
        for partition in self.committer.partitions() {
            let removed = with(&partition, |log| cleaning::remove_expired(log, now_ms));
            done.note(partition.name(), removed.map(Option::unwrap_or_default));
        }
        let deleted = self.home().as_mut().map(LogDirectory::remove_deleted_files);
        done.note_deleted(deleted.unwrap_or_else(|| Ok(Vec::new())));
        done
    }

    fn expire_producers(&self, now_ms: Timestamp) {
        for partition in self.committer.partitions() {
            // One that was closed meanwhile has no producers.
            drop(partition.with(|log| log.remove_expired_producers(now_ms)));
        }
    }

    fn clean_dirtiest(
        &self,
        options: &CleanerOptions,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
        now_ms: Timestamp,
    ) -> Result<Option<(TopicPartition, CleanerStats)>, OpenError> {
        let Some((partition, to_clean)) = self.dirtiest(now_ms)? else { return Ok(None) };
        let cleaned = self.clean(&partition, &to_clean, options, control, now_ms);
        if let Err(OpenError::Partition { source, .. }) = &cleaned
            && !matches!(source, LogError::CleaningAborted { .. } | LogError::DiskFull(_))
        {
            self.leave_out(partition.name());
        }
        Ok(cleaned?.map(|stats| (partition.name().clone(), stats)))
    }

    fn leave_out(&self, partition: &TopicPartition) {
        if let Some(home) = self.home().as_mut() {
            home.uncleanable.insert(partition.clone());
        }
    }

    fn dirtiest(&self, now_ms: Timestamp) -> Result<Option<(Arc<Partition>, LogToClean)>, OpenError> {
        let mut dirtiest: Option<(Arc<Partition>, LogToClean)> = None;
        for partition in self.committer.partitions() {
            let name = partition.name();
            let known =
                |home: &LogDirectory| (!home.uncleanable.contains(name)).then(|| home.checkpoints.cleaner_point(name));
            let Some(cleaner_point) = self.home().as_ref().and_then(known) else { continue };
            let to_clean = with(&partition, |log| {
                let is_compacted = log.config().cleanup_policy.compact;
                is_compacted.then(|| log.log_to_clean(cleaner_point, now_ms)).transpose()
            });
            let to_clean = match to_clean {
                Ok(to_clean) => to_clean.flatten(),
                Err(error) => {
                    self.leave_out(name);
                    return Err(error);
                }
            };
            let Some(to_clean) = to_clean else { continue };
            if to_clean.force_update_checkpoint {
                self.remember(name, to_clean.first_dirty_offset)?;
            }
            if cleaning::is_dirtier(&to_clean, dirtiest.as_ref().map(|(_, known)| known)) {
                dirtiest = Some((partition, to_clean));
            }
        }
        Ok(dirtiest)
    }

    /// The log is needed to begin and to end; in between it goes on.
    fn clean(
        &self,
        partition: &Partition,
        to_clean: &LogToClean,
        options: &CleanerOptions,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
        now_ms: Timestamp,
    ) -> Result<Option<CleanerStats>, OpenError> {
        let named = |source| OpenError::Partition { partition: partition.name().clone(), source };
        let Some(cleaning) = with(partition, |log| log.begin_cleaning(to_clean, now_ms))? else { return Ok(None) };
        let cleaned = cleaning.run(options, control).map_err(named)?;
        let stats = with(partition, |log| log.finish_cleaning(cleaned, now_ms))?;
        if let Some(stats) = &stats {
            self.remember(partition.name(), stats.end_offset)?;
        }
        Ok(stats)
    }

    fn remember(&self, partition: &TopicPartition, offset: i64) -> Result<(), OpenError> {
        self.home().as_ref().map_or(Ok(()), |home| home.remember_cleaner_point(partition, offset))
    }
}

/// The threads that look after one directory: one cleans, which takes long, the other does the rest.
#[derive(Debug)]
pub(super) struct Maintainer {
    is_ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Maintainer {
    pub(super) fn start(
        number: usize,
        directory: &Arc<Directory>,
        wanted: &Maintenance,
        now_ms: Option<Timestamp>,
    ) -> Self {
        let is_ended = Arc::new(AtomicBool::new(false));
        let start = |name: &str, tasks: &'static [Task]| {
            let rounds = Rounds {
                directory: Arc::clone(directory),
                wanted: wanted.clone(),
                now_ms,
                is_ended: Arc::clone(&is_ended),
            };
            spawn(format!("duramen-{name}-{number}"), &directory.committer, move |_| rounds.run(tasks))
        };
        let mut threads = vec![start("upkeep", &[Task::Retention, Task::Checkpoint, Task::Producers])];
        if wanted.cleaner.is_some() {
            threads.push(start("clean", &[Task::Cleaning]));
        }
        Self { is_ended, threads }
    }

    /// Ends it; a cleaning that it is at is given up.
    pub(super) fn end(self) {
        self.is_ended.store(true, Ordering::Release);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        self.threads.into_iter().for_each(end);
    }
}

/// What is done again and again.
#[derive(Debug, Clone, Copy)]
enum Task {
    Retention,
    Checkpoint,
    Producers,
    Cleaning,
}

/// The moment so much later; what no clock can tell is as good as never.
fn after(begun: Instant, pause: Duration) -> Instant {
    begun.checked_add(pause).unwrap_or_else(|| begun + Duration::from_secs(1 << 30))
}

struct Rounds {
    directory: Arc<Directory>,
    wanted: Maintenance,
    /// As in the manager's options.
    now_ms: Option<Timestamp>,
    is_ended: Arc<AtomicBool>,
}

impl Rounds {
    fn run(&self, tasks: &[Task]) {
        let begun = Instant::now();
        let mut due: Vec<_> = tasks.iter().map(|task| (after(begun, self.interval(*task)), *task)).collect();
        while !self.is_ended.load(Ordering::Acquire) {
            let Some((at, task)) = due.iter_mut().min_by_key(|(at, _)| *at) else { return };
            let rest = at.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                thread::park_timeout(rest);
                continue;
            }
            let found_work = self.run_once(*task);
            let pause = if found_work { Duration::ZERO } else { self.interval(*task) };
            *at = after(Instant::now(), pause);
        }
    }

    fn interval(&self, task: Task) -> Duration {
        match task {
            Task::Retention => self.wanted.retention_interval,
            Task::Checkpoint => self.wanted.checkpoint_interval,
            Task::Producers => self.wanted.producer_check_interval,
            Task::Cleaning => self.wanted.cleaner_backoff,
        }
    }

    /// Whether there may be more to do at once. In a directory that failed nothing can be done until it is opened again.
    fn run_once(&self, task: Task) -> bool {
        if self.directory.committer.failed().is_some() {
            return false;
        }
        match task {
            Task::Retention => self.retain(),
            Task::Checkpoint => self.note_failure(self.directory.checkpoint()),
            Task::Producers => self.directory.expire_producers(now_ms(self.now_ms)),
            Task::Cleaning => return self.clean(),
        }
        false
    }

    fn retain(&self) {
        let done = self.directory.apply_retention(now_ms(self.now_ms));
        for (partition, removed) in done.removed {
            let bytes = removed.iter().map(|segment| segment.size).sum();
            self.directory.committer.events.note(Event::SegmentsRemoved { partition, segments: removed.len(), bytes });
        }
        done.failed.into_iter().for_each(|error| self.note_failure(Err(error)));
    }

    /// Whether a log was compacted.
    fn clean(&self) -> bool {
        let Some(options) = &self.wanted.cleaner else { return false };
        let options = CleanerOptions { hash_seed: RandomState::new().hash_one(0), ..*options };
        let begun = Instant::now();
        let mut control = |progress| self.pace(progress, begun);
        match self.directory.clean_dirtiest(&options, &mut control, now_ms(self.now_ms)) {
            Ok(None) => false,
            Ok(Some((partition, stats))) => {
                self.directory.committer.events.note(Event::Compacted { partition, stats });
                true
            }
            Err(error) => {
                self.note_failure(Err(error));
                false
            }
        }
    }

    /// Waits for as long as the limit of bytes demands.
    fn pace(&self, progress: CleanerProgress, begun: Instant) -> CleanerControl {
        let bytes = u128::from(progress.bytes_read) + u128::from(progress.bytes_written);
        let millis = bytes * 1000 / u128::from(self.wanted.bytes_per_second.max(1));
        let due = begun + Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        loop {
            if self.is_ended.load(Ordering::Acquire) {
                return CleanerControl::Abort;
            }
            let rest = due.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return CleanerControl::Continue;
            }
            thread::park_timeout(rest);
        }
    }

    fn note_failure(&self, result: Result<(), OpenError>) {
        let was_given_up =
            |error: &OpenError| matches!(error, OpenError::Partition { source: LogError::CleaningAborted { .. }, .. });
        if let Err(error) = result
            && !was_given_up(&error)
        {
            self.directory.committer.events.note(Event::MaintenanceFailed { cause: error.to_string() });
        }
    }
}
