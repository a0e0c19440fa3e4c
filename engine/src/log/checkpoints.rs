//! The recovery points, log start offsets and cleaner points of all partitions of a log directory, and their files.
//!
//! Knows nothing of logs. Keeps: what is lowered is durable before the call returns, so that a log may then be cut; what
//! is raised reaches the disk when the host writes the checkpoints.

use super::error::LogError;
use crate::{
    format::{checkpoint::OffsetCheckpoint, names},
    storage::{self, Storage},
    types::{Offset, TopicPartition},
};
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// More bytes than a checkpoint of a million partitions has.
const MAX_BYTES: u64 = 512 << 20;

/// The checkpoints of one log directory.
#[derive(Debug)]
pub struct Checkpoints {
    storage: Arc<dyn Storage>,
    /// Guards the maps as they are in the files; held while a file is written, so that writes keep their order.
    maps: Mutex<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    recovery_points: OffsetCheckpoint,
    log_starts: OffsetCheckpoint,
    cleaner_points: OffsetCheckpoint,
}

impl Checkpoints {
    /// Reads the files; a missing one is empty, and so are cleaner points that cannot be read: cleaning then begins anew.
    ///
    /// # Errors
    /// [`LogError::Storage`], and [`LogError::Format`] for one of the others that cannot be read as a checkpoint.
    pub fn read(storage: Arc<dyn Storage>) -> Result<Self, LogError> {
        let maps = Maps {
            recovery_points: read(&*storage, names::RECOVERY_POINT_CHECKPOINT)?,
            log_starts: read(&*storage, names::LOG_START_CHECKPOINT)?,
            cleaner_points: match read(&*storage, names::CLEANER_CHECKPOINT) {
                Err(LogError::Format(_)) => OffsetCheckpoint::default(),
                read => read?,
            },
        };
        Ok(Self { storage, maps: Mutex::new(maps) })
    }

    /// Checkpoints without an entry, which replace unreadable files when they are next written.
    #[must_use]
    pub fn empty(storage: Arc<dyn Storage>) -> Self {
        Self { storage, maps: Mutex::new(Maps::default()) }
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
        maps.cleaner_points.insert(partition.clone(), offset);
        write(&*self.storage, names::CLEANER_CHECKPOINT, &maps.cleaner_points)
    }

    /// Forgets every partition that `keep` does not want, and writes the files that had one of them.
    ///
    /// # Errors
    /// [`LogError::Storage`]; a file is then as before or as wanted.
    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) -> Result<(), LogError> {
        let mut maps = self.maps();
        let Maps { recovery_points, log_starts, cleaner_points } = &mut *maps;
        for (map, name) in [
            (recovery_points, names::RECOVERY_POINT_CHECKPOINT),
            (log_starts, names::LOG_START_CHECKPOINT),
            (cleaner_points, names::CLEANER_CHECKPOINT),
        ] {
            let before = map.len();
            map.retain(|partition, _| keep(partition));
            if map.len() != before {
                write(&*self.storage, name, map)?;
            }
        }
        Ok(())
    }

    /// Replaces the entries of the given partitions and writes both files. A log start of `None` is left out of its
    /// file, as Kafka does when it equals the first segment's base.
    ///
    /// # Errors
    /// [`LogError::Storage`]; the files are then as before or as wanted.
    pub fn write(&self, entries: &[(TopicPartition, Offset, Option<Offset>)]) -> Result<(), LogError> {
        let mut maps = self.maps();
        for (partition, recovery_point, log_start) in entries {
            maps.recovery_points.insert(partition.clone(), *recovery_point);
            match log_start {
                Some(log_start) => maps.log_starts.insert(partition.clone(), *log_start),
                None => maps.log_starts.remove(partition),
            };
        }
        write(&*self.storage, names::RECOVERY_POINT_CHECKPOINT, &maps.recovery_points)?;
        write(&*self.storage, names::LOG_START_CHECKPOINT, &maps.log_starts)
    }

    /// Raises the log start of one partition to `offset`; durable when it returns. What lies below may then lose files in
    /// any order.
    pub(crate) fn raise_log_start(&self, partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        let mut maps = self.maps();
        if maps.log_starts.get(partition).is_none_or(|known| *known < offset) {
            maps.log_starts.insert(partition.clone(), offset);
            write(&*self.storage, names::LOG_START_CHECKPOINT, &maps.log_starts)?;
        }
        Ok(())
    }

    /// Lowers the entries of one partition to at most `offset`; durable when it returns. Costs nothing when they are
    /// low enough.
    pub(crate) fn lower(&self, partition: &TopicPartition, offset: Offset) -> Result<(), LogError> {
        let mut maps = self.maps();
        if lower(&mut maps.recovery_points, partition, offset) {
            write(&*self.storage, names::RECOVERY_POINT_CHECKPOINT, &maps.recovery_points)?;
        }
        if lower(&mut maps.log_starts, partition, offset) {
            write(&*self.storage, names::LOG_START_CHECKPOINT, &maps.log_starts)?;
        }
        if lower(&mut maps.cleaner_points, partition, offset) {
            write(&*self.storage, names::CLEANER_CHECKPOINT, &maps.cleaner_points)?;
        }
        Ok(())
    }
}

fn lower(map: &mut OffsetCheckpoint, partition: &TopicPartition, offset: Offset) -> bool {
    match map.get_mut(partition) {
        Some(known) if *known > offset => {
            *known = offset;
            true
        }
        _ => false,
    }
}

fn read(storage: &dyn Storage, name: &str) -> Result<OffsetCheckpoint, LogError> {
    let bytes = storage::read_file(storage, Path::new(name), MAX_BYTES)?.unwrap_or_default();
    Ok(crate::format::checkpoint::decode_offsets(&bytes)?)
}

fn write(storage: &dyn Storage, name: &str, offsets: &OffsetCheckpoint) -> Result<(), LogError> {
    storage::write_atomically(storage, Path::new(name), &crate::format::checkpoint::encode_offsets(offsets))?;
    Ok(())
}
