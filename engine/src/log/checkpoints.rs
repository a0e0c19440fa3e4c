//! The recovery points, log start offsets and cleaner points of all partitions of a log directory, and their files.
//!
//! Knows nothing of logs. Keeps: what is lowered is durable before the call returns, so that a log may then be cut; what
//! is raised reaches the disk when the host writes the checkpoints.

use super::{error::LogError, journalled::CommitJournal};
use crate::{
    format::{checkpoint::OffsetCheckpoint, names},
    storage::{self, Access, Storage, StorageError},
    types::{Offset, TopicPartition},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

/// More bytes than a checkpoint of a million partitions has.
const MAX_BYTES: u64 = 512 << 20;

/// The checkpoints of one log directory.
#[derive(Debug)]
pub struct Checkpoints {
    storage: Arc<dyn Storage>,
    /// Guards the maps as they are in the files; held while a file is written, so that writes keep their order.
    maps: Mutex<Maps>,
    /// The journal that may hold batches of the directory's logs, once there is one.
    journal: OnceLock<Weak<dyn CommitJournal>>,
    /// Why no log of the directory is written any more.
    failed: OnceLock<Arc<str>>,
}

#[derive(Debug, Default)]
struct Maps {
    recovery_points: OffsetCheckpoint,
    log_starts: OffsetCheckpoint,
    cleaner_points: OffsetCheckpoint,
    /// Whose entries were lowered or raised by their logs since the last look at all logs.
    touched: BTreeSet<TopicPartition>,
}

/// The recovery point of a partition, and its log start unless that is the base of the first segment.
type Entry = (TopicPartition, Offset, Option<Offset>);

impl Checkpoints {
    /// Reads the files; a missing one is empty, and so are cleaner points that cannot be read: cleaning then begins anew.
    ///
    /// # Errors
    /// [`LogError::Storage`], and [`LogError::Format`] for one of the others that cannot be read as a checkpoint.
    pub fn read(storage: Arc<dyn Storage>) -> Result<Self, LogError> {
        let maps = Maps {
            touched: BTreeSet::new(),
            recovery_points: read(&*storage, names::RECOVERY_POINT_CHECKPOINT)?,
            log_starts: read(&*storage, names::LOG_START_CHECKPOINT)?,
            cleaner_points: match read(&*storage, names::CLEANER_CHECKPOINT) {
                Err(LogError::Format(_)) => OffsetCheckpoint::default(),
                read => read?,
            },
        };
        Ok(Self { storage, maps: Mutex::new(maps), journal: OnceLock::new(), failed: OnceLock::new() })
    }

    /// Checkpoints without an entry, which replace unreadable files when they are next written.
    #[must_use]
    pub fn empty(storage: Arc<dyn Storage>) -> Self {
        Self { storage, maps: Mutex::new(Maps::default()), journal: OnceLock::new(), failed: OnceLock::new() }
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition's recovery point as it is in the file.
    #[must_use]
    pub fn recovery_point(&self, partition: &TopicPartition) -> Option<Offset> {
        self.maps().recovery_points.get(partition).copied()
    }

    /// The partition's log start offset as it is in the file.
    #[must_use]
    pub fn log_start(&self, partition: &TopicPartition) -> Option<Offset> {
        self.maps().log_starts.get(partition).copied()
    }

    /// Where the partition's last cleaning ended, as it is in the file.
    #[must_use]
    pub fn cleaner_point(&self, partition: &TopicPartition) -> Option<Offset> {
        self.maps().cleaner_points.get(partition).copied()
    }

    /// Remembers where a cleaning ended, and writes the file.
    ///
    /// # Errors
    /// [`LogError::Storage`]; the file is then as before or as wanted.
    pub fn write_cleaner_point(&self, partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        let mut maps = self.maps();
        Ok(self.change(&mut maps.cleaner_points, names::CLEANER_CHECKPOINT, |points| {
            points.insert(partition.clone(), offset);
            true
        })?)
    }

    /// Forgets every partition that `keep` does not want, and writes the files that had one of them.
    ///
    /// # Errors
    /// [`LogError::Storage`]; a file is then as before or as wanted.
    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) -> Result<(), LogError> {
        self.maps().touched.retain(&keep);
        self.change_each(|offsets| {
            let before = offsets.len();
            offsets.retain(|partition, _| keep(partition));
            offsets.len() != before
        })
    }

    /// Replaces the entries of the given partitions and writes both files. A log start of `None` is left out of its
    /// file, as Kafka does when it equals the first segment's base.
    ///
    /// # Errors
    /// [`LogError::Storage`]; the files are then as before or as wanted.
    pub fn write(&self, entries: &[Entry]) -> Result<(), LogError> {
        self.write_entries(&mut self.maps(), entries)
    }

    /// As [`Checkpoints::write`], of logs that others go on with meanwhile: where one lowered or raised its entry since the
    /// `look` at them began, that holds.
    pub(crate) fn write_what_is_found(&self, look: impl FnOnce() -> Vec<Entry>) -> Result<(), LogError> {
        self.maps().touched.clear();
        let mut entries = look();
        let mut maps = self.maps();
        entries.retain(|(partition, ..)| !maps.touched.contains(partition));
        self.write_entries(&mut maps, &entries)
    }

    fn write_entries(&self, maps: &mut Maps, entries: &[Entry]) -> Result<(), LogError> {
        self.change(&mut maps.recovery_points, names::RECOVERY_POINT_CHECKPOINT, |points| {
            points.extend(entries.iter().map(|(partition, recovery_point, _)| (partition.clone(), *recovery_point)));
            true
        })?;
        Ok(self.change(&mut maps.log_starts, names::LOG_START_CHECKPOINT, |starts| {
            for (partition, _, log_start) in entries {
                match log_start {
                    Some(log_start) => starts.insert(partition.clone(), *log_start),
                    None => starts.remove(partition),
                };
            }
            true
        })?)
    }

    /// Raises the log start of one partition to `offset`; durable when it returns. What lies below may then lose files in
    /// any order.
    pub(crate) fn raise_log_start(&self, partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        let mut maps = self.maps();
        maps.touched.insert(partition.clone());
        Ok(self.change(&mut maps.log_starts, names::LOG_START_CHECKPOINT, |starts| {
            let is_higher = starts.get(partition).is_none_or(|known| *known < offset);
            if is_higher {
                starts.insert(partition.clone(), offset);
            }
            is_higher
        })?)
    }

    /// Says which journal may hold batches of the directory's logs.
    pub(crate) fn set_journal(&self, journal: Weak<dyn CommitJournal>) {
        // There is one for as long as the directory is open.
        let _ = self.journal.set(journal);
    }

    /// From now on no log of the directory is written: a write or a sync for all of them has failed. The first cause is the one
    /// to tell.
    pub(crate) fn fail(&self, cause: &Arc<str>) {
        if self.failed.set(Arc::clone(cause)).is_ok() {
            // As where the sync of a log fails: the next open must not believe the page cache.
            let _ = self.storage.open(Path::new(names::FAILED_SYNC), Access::Create);
        }
    }

    /// Why no log of the directory is written any more, if that is so.
    pub(crate) fn failure(&self) -> Option<&Arc<str>> {
        self.failed.get()
    }

    /// Makes the journal forget a partition, durably.
    pub(crate) fn forget_in_journal(&self, partition: &TopicPartition) -> Result<(), LogError> {
        match self.journal.get().map(Weak::upgrade) {
            None => Ok(()),
            Some(Some(journal)) => journal.forget(partition),
            Some(None) => Err(LogError::Poisoned { cause: "its log manager is gone".into() }),
        }
    }

    /// Lowers the entries of one partition to at most `offset`; durable when it returns. Costs nothing when they are
    /// low enough.
    pub(crate) fn lower(&self, partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        let is_above = |offsets: &OffsetCheckpoint| offsets.get(partition).is_some_and(|known| *known > offset);
        let mut maps = self.maps();
        maps.touched.insert(partition.clone());
        let is_low = ![&maps.recovery_points, &maps.log_starts, &maps.cleaner_points].into_iter().any(is_above);
        drop(maps);
        if is_low {
            return Ok(());
        }
        self.change_each(|offsets| match offsets.get_mut(partition) {
            Some(known) if *known > offset => {
                *known = offset;
                true
            }
            _ => false,
        })
    }

    /// Lowers the recovery points of partitions to at most these offsets; durable when it returns.
    pub(crate) fn lower_recovery_points(&self, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), StorageError> {
        let mut maps = self.maps();
        self.change(&mut maps.recovery_points, names::RECOVERY_POINT_CHECKPOINT, |points| {
            let mut is_changed = false;
            for (partition, offset) in offsets {
                if let Some(known) = points.get_mut(partition).filter(|known| **known > *offset) {
                    *known = *offset;
                    is_changed = true;
                }
            }
            is_changed
        })
    }

    /// Makes the same change to all three.
    fn change_each(&self, change: impl Fn(&mut OffsetCheckpoint) -> bool) -> Result<(), LogError> {
        let mut maps = self.maps();
        let Maps { recovery_points, log_starts, cleaner_points, .. } = &mut *maps;
        self.change(recovery_points, names::RECOVERY_POINT_CHECKPOINT, &change)?;
        self.change(log_starts, names::LOG_START_CHECKPOINT, &change)?;
        Ok(self.change(cleaner_points, names::CLEANER_CHECKPOINT, &change)?)
    }

    /// Writes a file if `change` says that it changed anything. Where that fails the map stays as the file may still be.
    fn change(
        &self,
        offsets: &mut OffsetCheckpoint,
        name: &str,
        change: impl FnOnce(&mut OffsetCheckpoint) -> bool,
    ) -> Result<(), StorageError> {
        let mut changed = offsets.clone();
        if change(&mut changed) {
            write(&*self.storage, name, &changed)?;
            *offsets = changed;
        }
        Ok(())
    }
}

fn read(storage: &dyn Storage, name: &str) -> Result<OffsetCheckpoint, LogError> {
    let bytes = storage::read_file(storage, Path::new(name), MAX_BYTES)?.unwrap_or_default();
    Ok(crate::format::checkpoint::decode_offsets(&bytes)?)
}

fn write(storage: &dyn Storage, name: &str, offsets: &OffsetCheckpoint) -> Result<(), StorageError> {
    storage::write_atomically(storage, Path::new(name), &crate::format::checkpoint::encode_offsets(offsets))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::open_best;

    #[test]
    fn what_a_log_says_of_itself_during_the_look_at_all_holds() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::empty(open_best(dir.path()).unwrap().0);
        let [cut, trimmed, other] = [0, 1, 2].map(|number| TopicPartition::new("orders", number).unwrap());
        let entries: Vec<_> = [&cut, &trimmed, &other].map(|partition| (partition.clone(), 50, Some(10))).into();
        checkpoints.write(&entries).unwrap();
        let later = || {
            // Found before the log of one is cut, and before another's segments go.
            let found = [&cut, &trimmed, &other].map(|partition| (partition.clone(), 60, Some(10))).into();
            checkpoints.lower(&cut, 5).unwrap();
            checkpoints.raise_log_start(&trimmed, 30).unwrap();
            found
        };
        checkpoints.write_what_is_found(later).unwrap();
        let points = [&cut, &trimmed, &other].map(|partition| checkpoints.recovery_point(partition).unwrap());
        let starts = [&cut, &trimmed, &other].map(|partition| checkpoints.log_start(partition).unwrap());
        assert_eq!((points, starts), ([5, 50, 60], [5, 30, 10]));
        checkpoints.write_what_is_found(|| entries).unwrap();
        assert_eq!(checkpoints.recovery_point(&cut), Some(50), "by the next look it is as found");
    }
}
