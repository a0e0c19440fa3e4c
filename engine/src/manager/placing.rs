//! Which directory a partition is in, and getting new ones in.
//!
//! Keeps: a partition is in one directory; one that is in none goes where the host wants it, or where the fewest are.

use super::{LogManager, OpenError, Partition, log_manager::Directory};
use crate::{config::LogConfig, format::uuid::Uuid, types::TopicPartition};
use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

/// A directory, and what is in it or is to be.
type Placed<'a> = (&'a Arc<Directory>, BTreeSet<&'a TopicPartition>);

impl LogManager {
    /// A partition, its log opened, or created if there is none: in the directory with the fewest. The configuration is used
    /// when the log is opened, that is, the first time.
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
    /// A crash on the way leaves of each new partition an empty log or nothing. Where it fails on the way, any of them may be
    /// there, empty; call it again, or delete them.
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
        // Two threads must not place one partition twice. Those that have their place wait for nobody.
        let is_new = closed.iter().any(|name| self.holder(name).is_none());
        let placing = is_new.then(|| self.placing.lock().unwrap_or_else(PoisonError::into_inner));
        for (directory, names) in self.place(&closed, wanted)? {
            self.open_in(directory, &names, topic_id, config)?;
        }
        drop(placing);
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

    /// Where partitions are, or are to be: in the directory that is wanted, if there is one.
    fn place<'a>(
        &'a self,
        partitions: &[&'a TopicPartition],
        wanted: Option<&Arc<Directory>>,
    ) -> Result<Vec<Placed<'a>>, OpenError> {
        let mut placed: Vec<Placed<'a>> =
            self.directories.iter().map(|directory| (directory, BTreeSet::new())).collect();
        let is_wanted = |directory: &&Arc<Directory>| wanted.is_none_or(|wanted| Arc::ptr_eq(wanted, directory));
        let count = |directory| Some(directory).filter(is_wanted).and_then(|directory| takes(directory));
        let mut counts: Vec<Option<usize>> = self.directories.iter().map(count).collect();
        for partition in partitions {
            let has = |directory: &Directory| directory.home().as_ref().is_some_and(|home| home.has(partition));
            if let Some((_, names)) = placed.iter_mut().find(|(directory, _)| has(directory)) {
                names.insert(partition);
                continue;
            }
            let emptiest = || {
                let counted = counts.iter().enumerate().filter_map(|(number, count)| Some((number, (*count)?)));
                counted.min_by_key(|(_, count)| *count).map(|(number, _)| number)
            };
            let number = emptiest().ok_or_else(|| refusal(wanted))?;
            if let (Some((_, names)), Some(count)) = (placed.get_mut(number), counts.get_mut(number)) {
                names.insert(partition);
                *count = count.map(|count| count + 1);
            }
        }
        Ok(placed)
    }

    /// Makes what is missing of partitions in one directory, and opens their logs.
    fn open_in(
        &self,
        directory: &Arc<Directory>,
        names: &BTreeSet<&TopicPartition>,
        topic_id: Option<Uuid>,
        config: &LogConfig,
    ) -> Result<(), OpenError> {
        if names.is_empty() {
            return Ok(());
        }
        let mut home = directory.home();
        let home = home.as_mut().ok_or(OpenError::NoDirectory)?;
        let new: Vec<_> = names.iter().copied().filter(|name| !home.has(name)).collect();
        // One alone without an id is made by its open.
        if new.len() > 1 || (topic_id.is_some() && !new.is_empty()) {
            home.opener().create(&new, topic_id, config)?;
            new.iter().for_each(|name| home.note_found(name));
        }
        for name in names {
            // Somebody else may have opened it meanwhile.
            if self.get(name).is_none() {
                let opened = home.opener().open(name, self.shared(config), &mut |_| {})?;
                let log = home.note_opened(name, opened);
                self.add(directory, log);
            }
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

/// How many partitions a directory has that takes more.
fn takes(directory: &Directory) -> Option<usize> {
    let is_sound = directory.committer.failed().is_none();
    directory.home().as_ref().filter(|_| is_sound).map(|home| home.partitions().len())
}
