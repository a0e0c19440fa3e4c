//! Partitions that leave a log directory: renamed first, removed later.
//!
//! The rename takes a partition out of the directory at once and for good, whatever happens afterwards: what is found under
//! such a name when the directory is opened is removed then. Only files that a log makes are removed; if there is anything
//! else in the directory, that stays, and the directory with it.

use super::{LogDirectory, OpenError};
use crate::{
    format::{
        names::{DirectoryKind, DirectoryName, FileName},
        uuid::Uuid,
    },
    log::removal::remove_directory,
    storage::Entry,
    types::{Timestamp, TopicPartition},
};
use std::{
    collections::{BTreeSet, VecDeque},
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

/// Directories of deleted partitions by the time at which their files may go.
#[derive(Debug, Default)]
pub(super) struct Deleted(VecDeque<(Timestamp, PathBuf)>);

impl Deleted {
    /// Those that were there when the log directory was opened wait once more.
    pub(super) fn found(names: &[String], now_ms: Timestamp, delay_ms: u64) -> Self {
        Self(names.iter().map(|name| (due_ms(now_ms, delay_ms), PathBuf::from(name))).collect())
    }
}

fn due_ms(now_ms: Timestamp, delay_ms: u64) -> Timestamp {
    now_ms.saturating_add(i64::try_from(delay_ms).unwrap_or(i64::MAX))
}

impl LogDirectory {
    /// Takes a partition out of the directory. Its files go when `file_delete_delay_ms` has passed and
    /// [`LogDirectory::remove_deleted_files`] is called, now or after the next open; readers keep the bytes of slices that
    /// they hold. Follows `LogManager.asyncDelete`.
    ///
    /// ```
    /// use duramen::{LogConfig, LogDirectory, TopicPartition};
    /// # let dir = tempfile::tempdir()?;
    /// let mut directory = LogDirectory::open(dir.path())?;
    /// let orders = TopicPartition::new("orders", 0)?;
    /// directory.get_or_create(&orders, &LogConfig::default())?;
    /// directory.delete(&orders)?;
    /// assert!(directory.partitions().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OpenError::UnknownPartition`]; [`OpenError::Storage`]: the partition is then still there, or is not, as
    /// [`LogDirectory::partitions`] says. Where the sync of the directory failed nobody knows that: it counts as there, and
    /// the directory's logs take no appends any more until it is opened again. A full disk is no reason to fail.
    pub fn delete(&mut self, partition: &TopicPartition) -> Result<(), OpenError> {
        self.delete_all(std::slice::from_ref(partition))
    }

    /// As [`LogDirectory::delete`], for many, which are gone durably together: a topic of 1,000 partitions waits for the
    /// syncs of one.
    ///
    /// # Errors
    /// [`OpenError::UnknownPartition`] of the first that is not there: none was deleted. [`OpenError::Storage`]: each of them
    /// is then still there, or is not, as there.
    pub fn delete_all(&mut self, partitions: &[TopicPartition]) -> Result<(), OpenError> {
        let mut names = Vec::with_capacity(partitions.len());
        let moved = self.move_away(partitions, DirectoryKind::Delete, &mut names);
        let due_ms = due_ms(self.now_ms(), self.options.file_delete_delay_ms);
        self.deleted.0.extend(names.into_iter().map(|name| (due_ms, name)));
        moved
    }

    /// Takes a partition that the cluster's metadata does not place here out of the directory, but keeps its files under
    /// another name, for somebody to look at (`LogManager.addStrayLog`).
    ///
    /// # Errors
    /// As [`LogDirectory::delete`].
    pub fn set_aside_as_stray(&mut self, partition: &TopicPartition) -> Result<(), OpenError> {
        let mut names = Vec::with_capacity(1);
        let moved = self.move_away(std::slice::from_ref(partition), DirectoryKind::Stray, &mut names);
        self.report.stray.extend(names.iter().map(|name| name.to_string_lossy().into_owned()));
        moved
    }

    /// Whether nothing but files of a log lies in a directory.
    fn is_all_ours(&self, dir: &Path) -> bool {
        let is_ours = |entry: &Entry| FileName::parse(&entry.name.to_string_lossy()) != FileName::Foreign;
        self.storage.list(dir).is_ok_and(|entries| entries.iter().all(is_ours))
    }

    /// Steps, and what the next open finds after each: renamed one after the other and the directory synced (those partitions
    /// are gone; what the checkpoints still say of them is dropped); checkpoints written, if there is space (nothing). `moved`
    /// gets the names of the directories that were renamed, also where it fails afterwards. On a disk too full for another name
    /// the files of a deleted partition are removed instead, the oldest first (a part of it).
    fn move_away(
        &mut self,
        partitions: &[TopicPartition],
        kind: DirectoryKind,
        moved: &mut Vec<PathBuf>,
    ) -> Result<(), OpenError> {
        if let Some(unknown) = partitions.iter().find(|partition| !self.has(partition)) {
            return Err(OpenError::UnknownPartition { partition: unknown.clone() });
        }
        let mut gone = BTreeSet::new();
        let mut first_failure = Ok(());
        for partition in partitions {
            if gone.contains(partition) {
                continue;
            }
            self.logs.remove(partition);
            let dir = PathBuf::from(partition.to_string());
            let name = PathBuf::from(DirectoryName::format(partition, kind, unique_id()));
            let taken_away = match self.storage.rename(&dir, &name) {
                // There is no space for another name.
                Err(error) if error.is_disk_full() && kind == DirectoryKind::Delete && self.is_all_ours(&dir) => {
                    remove_directory(&*self.storage, &dir).map(drop)
                }
                renamed => renamed.map(|()| moved.push(name)),
            };
            match taken_away {
                Ok(()) => drop(gone.insert(partition)),
                Err(error) => first_failure = first_failure.and(Err(error)),
            }
        }
        if let Err(error) = self.storage.sync_dir(Path::new("")) {
            // Each of them may come back, so none may be made anew, here or elsewhere.
            self.fail(&error);
            return Err(error.into());
        }
        self.found.retain(|known| !gone.contains(known));
        self.uncleanable.retain(|known| !gone.contains(known));
        self.tells_of_gone = true;
        self.forget_gone_if_there_is_space()?;
        Ok(first_failure?)
    }

    /// Removes the files of deleted partitions whose time has come; names of directories that stay because something else
    /// lies in them.
    ///
    /// # Errors
    /// [`OpenError::Storage`]; what is left is tried again next time.
    pub fn remove_deleted_files(&mut self) -> Result<Vec<PathBuf>, OpenError> {
        let now_ms = self.now_ms();
        let mut kept = Vec::new();
        while let Some((_, name)) = self.deleted.0.front().filter(|(due_ms, _)| *due_ms <= now_ms) {
            if !remove_directory(&*self.storage, name)? {
                kept.push(name.clone());
            }
            self.deleted.0.pop_front();
        }
        Ok(kept)
    }
}

/// An id that nothing else has.
pub(super) fn unique_id() -> Uuid {
    let half = || RandomState::new().hash_one(()).to_be_bytes();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(half().into_iter().chain(half())) {
        *to = from;
    }
    Uuid::from_bytes(bytes)
}
