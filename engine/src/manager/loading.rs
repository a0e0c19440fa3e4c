//! Opening the logs of all partitions, several at once.

use super::{LogManager, OpenError, log_manager::Directory};
use crate::{config::LogConfig, log::RecoveryProgress, types::TopicPartition};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How far [`LogManager::load`] has come, for a host to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadProgress<'a> {
    /// A log is being read, after an end without order.
    Recovering {
        /// Its partition.
        partition: &'a TopicPartition,
        /// Segment, and bytes done of all.
        progress: RecoveryProgress,
    },
    /// A log is open, or could not be opened. What its recovery found is in [`LogManager::reports`] afterwards.
    Opened {
        /// Its partition.
        partition: &'a TopicPartition,
        /// How many of its directory are done, with this one. Told in any order by several threads.
        done: usize,
        /// How many of its directory there are to open.
        total: usize,
    },
}

/// What a log manager tells while it loads.
type Tell<'a> = &'a (dyn Fn(LoadProgress<'_>) + Sync);

impl LogManager {
    /// Opens the logs of all partitions in the directories, several at once, each with its topic's configuration. `progress`
    /// is told how that gets on, by the threads that do it: it must not call the manager, which waits for them.
    ///
    /// ```
    /// use duramen::{LoadProgress, LogConfig, LogManager, ManagerOptions};
    /// # let dir = tempfile::tempdir()?;
    /// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// manager.load(4, &|_| LogConfig::default(), &|progress| match progress {
    ///     LoadProgress::Recovering { partition, progress } => {
    ///         println!("{partition}: {} of {} bytes", progress.bytes_done, progress.bytes_total);
    ///     }
    ///     LoadProgress::Opened { done, total, .. } => println!("{done} of {total} logs"),
    ///     _ => {}
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first log that cannot be opened; the others are open.
    pub fn load(
        &self,
        threads: usize,
        config: &(dyn Fn(&TopicPartition) -> LogConfig + Sync),
        progress: Tell<'_>,
    ) -> Result<(), OpenError> {
        self.directories.iter().try_for_each(|directory| self.load_directory(directory, threads, config, progress))
    }

    fn load_directory(
        &self,
        directory: &Arc<Directory>,
        threads: usize,
        config: &(dyn Fn(&TopicPartition) -> LogConfig + Sync),
        tell: Tell<'_>,
    ) -> Result<(), OpenError> {
        let mut home = directory.home();
        let home = home.as_mut().ok_or(OpenError::NoDirectory)?;
        let wanted: Vec<_> = home.partitions().iter().filter(|name| self.get(name).is_none()).cloned().collect();
        let (next, done, total) = (AtomicUsize::new(0), AtomicUsize::new(0), wanted.len());
        let results = Mutex::new(Vec::with_capacity(total));
        let opener = home.opener();
        let open = |partition| {
            let opened = opener.open(partition, self.shared(&config(partition)), &mut |progress| {
                tell(LoadProgress::Recovering { partition, progress });
            });
            results.lock().unwrap_or_else(PoisonError::into_inner).push((partition, opened));
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            tell(LoadProgress::Opened { partition, done, total });
        };
        thread::scope(|scope| {
            for _ in 0..threads.clamp(1, total.max(1)) {
                scope.spawn(|| {
                    while let Some(partition) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        open(partition);
                    }
                });
            }
        });
        let mut first_failure = Ok(());
        for (name, opened) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match opened {
                Ok(opened) => drop(self.add(directory, home.note_opened(name, opened))),
                Err(error) => first_failure = first_failure.and(Err(error)),
            }
        }
        first_failure
    }
}
