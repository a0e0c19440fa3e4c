//! Which directory a partition is in, and getting new ones in.
//!
//! Keeps: a partition is in one directory; one that is in none goes where the host wants it, or where the fewest are of those
//! that can make it.

use super::{LogManager, OpenError, Partition, log_manager::Directory};
use crate::{config::LogConfig, format::uuid::Uuid, types::TopicPartition};
use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

impl LogManager {
    /// A partition, its log opened, or created if there is none: in the directory with the fewest, of those that can make it.
    /// The configuration is used when the log is opened, that is, the first time.
    ///
    /// # Errors
    /// [`OpenError::InvalidConfig`], and nothing is created or opened; [`OpenError::Partition`] when its log cannot be opened;
    /// [`OpenError::NoDirectory`] when none takes it; [`OpenError::UnknownPartition`] when another thread deletes it meanwhile.
    pub fn get_or_create(&self, partition: &TopicPartition, config: &LogConfig) -> Result<Arc<Partition>, OpenError> {
        if let Some(known) = self.get(partition) {
            return Ok(known);
        }
        let mut opened = self.get_or_create_all(std::slice::from_ref(partition), config)?;
        opened.pop().ok_or(OpenError::NoDirectory)
    }

    /// As [`LogManager::get_or_create`], for many: in the order in which they are given. The files of all that are new become
    /// durable together, with one sync of the file system for each directory that gets many: a topic of 1,000 partitions
    /// waits for one sync and not for 2,000.
    ///
    /// A crash on the way leaves of each new partition an empty log or nothing. Where a directory cannot make its share, what
    /// it made is taken back, and the next one is tried; where all fail, those that [`LogManager::partitions`] names are there.
    /// A directory in which that cannot be known, since a sync failed, fails.
    ///
    /// ```
    /// use duramen::{LogConfig, LogManager, ManagerOptions, TopicPartition};
    /// # let dir = tempfile::tempdir()?;
    /// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// let names = (0..100).map(|number| TopicPartition::new("orders", number)).collect::<Result<Vec<_>, _>>()?;
    /// let partitions = manager.get_or_create_all(&names, &LogConfig::default())?;
    /// assert_eq!(partitions[7].name(), &names[7]);
    /// manager.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError::Storage`] when files cannot be made; otherwise as [`LogManager::get_or_create`].
    pub fn get_or_create_all(
        &self,
        partitions: &[TopicPartition],
        config: &LogConfig,
    ) -> Result<Vec<Arc<Partition>>, OpenError> {
        self.open_all(partitions, None, None, config)
    }

    /// As [`LogManager::get_or_create_all`], for partitions of one topic, which has this id: new ones are made with it, one
    /// that has none gets it (`LogManager.getOrCreateLog`, `UnifiedLog.initializeTopicId`).
    ///
    /// # Errors
    /// [`OpenError::Partition`] with [`LogError::InconsistentTopicId`](crate::LogError) for the first that belongs to another
    /// topic; all are open then, and those before it have the id. Otherwise as [`LogManager::get_or_create_all`].
    pub fn get_or_create_topic(
        &self,
        partitions: &[TopicPartition],
        topic_id: Uuid,
        config: &LogConfig,
    ) -> Result<Vec<Arc<Partition>>, OpenError> {
        self.open_all(partitions, None, Some(topic_id), config)
    }

    /// As [`LogManager::get_or_create_topic`], but partitions that are in no directory yet are made in this one, whatever is in
    /// the others: the one that a controller assigned, or that an operator asked for. Directories count from 0, in the order in
    /// which they were given. Partitions that are in another one stay there.
    ///
    /// ```
    /// use duramen::{LogConfig, LogManager, ManagerOptions, TopicPartition, format::uuid::Uuid};
    /// # let (fast, large) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// # let (fast, large) = (fast.path(), large.path());
    /// let manager = LogManager::open(&[fast, large], ManagerOptions::default())?;
    /// let names = (0..3).map(|number| TopicPartition::new("orders", number)).collect::<Result<Vec<_>, _>>()?;
    /// let topic_id = Uuid::from_bytes(*b"chosen by chance");
    /// manager.get_or_create_topic_in(1, &names, topic_id, &LogConfig::default())?;
    /// assert!(large.join("orders-0").exists() && large.join("orders-2").exists());
    /// # manager.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError::NoDirectory`] when there are not so many, or it is closed, and [`OpenError::DirectoryFailed`] when it failed:
    /// where one is new, none is made then. Otherwise as [`LogManager::get_or_create_topic`].
    pub fn get_or_create_topic_in(
        &self,
        directory: usize,
        partitions: &[TopicPartition],
        topic_id: Uuid,
        config: &LogConfig,
    ) -> Result<Vec<Arc<Partition>>, OpenError> {
        let wanted = self.directories.get(directory).ok_or(OpenError::NoDirectory)?;
        self.open_all(partitions, Some(wanted), Some(topic_id), config)
    }

    fn open_all(
        &self,
        partitions: &[TopicPartition],
        wanted: Option<&Arc<Directory>>,
        topic_id: Option<Uuid>,
        config: &LogConfig,
    ) -> Result<Vec<Arc<Partition>>, OpenError> {
        let closed: Vec<_> = partitions.iter().filter(|name| self.get(name).is_none()).collect();
        if !closed.is_empty() {
            config.validate()?;
        }
        self.make_missing(&closed, wanted, topic_id, config)?;
        for name in closed {
            self.open_log(name, config)?;
        }
        let unknown = |name: &TopicPartition| OpenError::UnknownPartition { partition: name.clone() };
        let opened: Vec<_> =
            partitions.iter().map(|name| self.get(name).ok_or_else(|| unknown(name))).collect::<Result<_, _>>()?;
        topic_id.map_or(Ok(()), |topic_id| assign_topic_id(&opened, topic_id))?;
        Ok(opened)
    }

    /// The directory that has a partition.
    pub(super) fn holder(&self, partition: &TopicPartition) -> Option<&Arc<Directory>> {
        self.directories.iter().find(|directory| directory.home().as_ref().is_some_and(|home| home.has(partition)))
    }

    /// Makes those that are in no directory: in the one that is wanted, or where the fewest are of those that can make them
    /// (`LogManager.getOrCreateLog`).
    fn make_missing(
        &self,
        partitions: &[&TopicPartition],
        wanted: Option<&Arc<Directory>>,
        topic_id: Option<Uuid>,
        config: &LogConfig,
    ) -> Result<(), OpenError> {
        let missing = || -> BTreeSet<_> {
            partitions.iter().copied().filter(|partition| self.holder(partition).is_none()).collect()
        };
        if missing().is_empty() {
            return Ok(());
        }
        // Two threads must not place one partition twice. Those that have their place wait for nobody.
        let placing = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut candidates: Vec<_> = match wanted {
            Some(wanted) => vec![wanted],
            None => self.directories.iter().collect(),
        };
        let mut refused = None;
        let made = 'placed: loop {
            let missing = missing();
            if missing.is_empty() {
                break Ok(());
            }
            let Some(placed) = place(missing, &candidates) else {
                break Err(refused.unwrap_or_else(|| refusal(wanted)));
            };
            for (directory, names) in placed {
                if let Err(error) = directory.create(&names, topic_id, config) {
                    if names.iter().any(|name| self.holder(name).is_some()) {
                        // Whether they are there nobody knows: they must not be elsewhere as well.
                        break 'placed Err(error);
                    }
                    candidates.retain(|candidate| !Arc::ptr_eq(candidate, directory));
                    refused = Some(error);
                }
            }
        };
        drop(placing);
        self.directories.iter().for_each(|directory| directory.committer.note_failure());
        made
    }

    /// Opens a log that is there, unless somebody else did meanwhile.
    fn open_log(&self, name: &TopicPartition, config: &LogConfig) -> Result<(), OpenError> {
        let unknown = || OpenError::UnknownPartition { partition: name.clone() };
        let directory = self.holder(name).ok_or_else(unknown)?;
        let mut home = directory.home();
        let home = home.as_mut().ok_or(OpenError::NoDirectory)?;
        if !home.has(name) {
            return Err(unknown());
        }
        if self.get(name).is_none() {
            let opened = home.opener().open(name, self.shared(config), &mut |_| {})?;
            let log = home.note_opened(name, opened);
            self.add(directory, log);
        }
        Ok(())
    }
}

/// Gives partitions the id of their topic that have none.
fn assign_topic_id(opened: &[Arc<Partition>], topic_id: Uuid) -> Result<(), OpenError> {
    for partition in opened.iter().filter(|partition| partition.reader().topic_id() != Some(topic_id)) {
        let assigned = match partition.with(|log| log.assign_topic_id(topic_id)) {
            Ok(Err(source)) => Err(OpenError::Partition { partition: partition.name().clone(), source }),
            Ok(Ok(())) => Ok(()),
            // Deleted, or its directory closed, since it was opened.
            Err(_) => Err(OpenError::UnknownPartition { partition: partition.name().clone() }),
        };
        assigned?;
    }
    Ok(())
}

/// Why no directory takes a partition.
fn refusal(wanted: Option<&Arc<Directory>>) -> OpenError {
    match wanted.and_then(|directory| directory.committer.failed()) {
        Some(cause) => OpenError::DirectoryFailed { cause: cause.to_string() },
        None => OpenError::NoDirectory,
    }
}

/// Puts each partition where the fewest are, of the directories that take more; `None` where none does.
fn place<'a>(
    partitions: BTreeSet<&'a TopicPartition>,
    candidates: &[&'a Arc<Directory>],
) -> Option<Vec<(&'a Arc<Directory>, Vec<&'a TopicPartition>)>> {
    let counted = |directory: &&'a Arc<Directory>| Some((takes(directory)?, *directory, Vec::new()));
    let mut placed: Vec<_> = candidates.iter().filter_map(counted).collect();
    for partition in partitions {
        let (count, _, names) = placed.iter_mut().min_by_key(|(count, ..)| *count)?;
        *count += 1;
        names.push(partition);
    }
    let filled = placed.into_iter().filter(|(_, _, names)| !names.is_empty());
    Some(filled.map(|(_, directory, names)| (directory, names)).collect())
}

/// How many partitions a directory has that takes more.
fn takes(directory: &Directory) -> Option<usize> {
    let is_sound = directory.committer.failed().is_none();
    directory.home().as_ref().filter(|_| is_sound).map(|home| home.partitions().len())
}
