//! Partitions that leave a log directory: renamed first, removed later.
//!
//! The rename takes a partition out of the directory at once and for good, whatever happens afterwards: what is found under
//! such a name when the directory is opened is removed then. Only files that a log makes are removed; if there is anything
//! else in the directory, that stays, and the directory with it.

use super::{LogDirectory, OpenError, directory::file_error};
use crate::{
    format::{
        checkpoint,
        names::{self, DirectoryKind, DirectoryName, FileName},
        uuid::Uuid,
    },
    storage::{self, EntryKind, StorageError},
    types::{Timestamp, TopicPartition},
};
use std::{
    collections::{BTreeSet, VecDeque},
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
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
    /// [`OpenError::UnknownPartition`]; [`OpenError::Storage`]: the partition is then still there, or is not.
    pub fn delete(&mut self, partition: &TopicPartition) -> Result<(), OpenError> {
        self.delete_all(std::slice::from_ref(partition))
    }

    /// As [`LogDirectory::delete`], for many, which are gone durably together: a topic of 1,000 partitions waits for the
    /// syncs of one.
    ///
    /// # Errors
    /// [`OpenError::UnknownPartition`] of the first that is not there: none was deleted. [`OpenError::Storage`]: each of them
    /// is then still there, or is not.
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

    /// Steps, and what the next open finds after each: renamed one after the other and the directory synced (those partitions
    /// are gone; what the checkpoints still say of them is dropped); checkpoints written (nothing). `moved` gets the names
    /// of the directories that were renamed, also where it fails afterwards.
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
        let mut renamed = Ok(());
        for partition in partitions {
            if gone.contains(partition) {
                continue;
            }
            self.logs.remove(partition);
            let name = PathBuf::from(DirectoryName::format(partition, kind, unique_id()));
            renamed = self.storage.rename(Path::new(&partition.to_string()), &name);
            if renamed.is_err() {
                break;
            }
            moved.push(name);
            gone.insert(partition);
        }
        self.found.retain(|known| !gone.contains(known));
        self.uncleanable.retain(|known| !gone.contains(known));
        self.storage.sync_dir(Path::new(""))?;
        self.checkpoints.retain(|known| !gone.contains(known)).map_err(file_error(names::RECOVERY_POINT_CHECKPOINT))?;
        let before = self.high_watermarks.len();
        self.high_watermarks.retain(|known, _| !gone.contains(known));
        if self.high_watermarks.len() != before {
            let bytes = checkpoint::encode_offsets(&self.high_watermarks);
            storage::write_atomically(&*self.storage, Path::new(names::HIGH_WATERMARK_CHECKPOINT), &bytes)?;
        }
        Ok(renamed?)
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
            if !self.remove_directory(name)? {
                kept.push(name.clone());
            }
            self.deleted.0.pop_front();
        }
        Ok(kept)
    }

    /// Whether the directory is gone.
    pub(super) fn remove_directory(&self, dir: &Path) -> Result<bool, StorageError> {
        let entries = match self.storage.list(dir) {
            Err(error) if error.is_not_found() => return Ok(true),
            entries => entries?,
        };
        for entry in entries {
            if entry.kind == EntryKind::File && FileName::parse(&entry.name.to_string_lossy()) != FileName::Foreign {
                self.storage.unlink(&dir.join(&entry.name))?;
            }
        }
        match self.storage.remove_dir(dir) {
            Err(error) if error.source.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
            removed => removed.map(|()| true),
        }
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
