//! What the checkpoint files of a log directory say of its logs.
//!
//! Keeps: before a partition is made, nothing that they say of an older one of its name is left.

use super::{LogDirectory, OpenError, directory::DirectoryReport};
use crate::{
    format::{
        checkpoint::{self, OffsetCheckpoint},
        names,
    },
    log::{Log, LogError},
    storage::{self, Storage},
    types::{Offset, TopicPartition},
};
use std::path::Path;

/// More bytes than a checkpoint of a million partitions has.
const MAX_BYTES: u64 = 512 << 20;

/// What the checkpoints say of one log.
pub(super) struct Entry {
    partition: TopicPartition,
    recovery_point: Offset,
    /// `None` when it is the base of the first segment, which says so itself.
    log_start: Option<Offset>,
    high_watermark: Offset,
}

impl Entry {
    pub(super) fn of(partition: &TopicPartition, log: &Log) -> Self {
        let offsets = log.offsets_to_checkpoint();
        Self {
            partition: partition.clone(),
            recovery_point: offsets.recovery_point,
            log_start: (offsets.log_start != log.first_base_offset()).then_some(offsets.log_start),
            high_watermark: offsets.high_watermark,
        }
    }
}

impl LogDirectory {
    /// Writes the recovery points, log starts and high watermarks of all open logs.
    ///
    /// # Errors
    /// [`OpenError::Storage`]; the files are then as before or as wanted.
    pub fn checkpoint(&mut self) -> Result<(), OpenError> {
        let entries: Vec<_> = self.logs.iter().map(|(partition, log)| Entry::of(partition, log)).collect();
        self.write_checkpoints(|| entries)
    }

    /// Writes what a look at open logs finds, which others may change meanwhile.
    pub(super) fn write_checkpoints(&mut self, look: impl FnOnce() -> Vec<Entry>) -> Result<(), OpenError> {
        self.forget_gone()?;
        let mut entries = Vec::new();
        let offsets = |entry: &Entry| (entry.partition.clone(), entry.recovery_point, entry.log_start);
        let written = self.checkpoints.write_what_is_found(|| {
            entries = look();
            entries.iter().map(offsets).collect()
        });
        written.map_err(file_error(names::RECOVERY_POINT_CHECKPOINT))?;
        for entry in entries {
            self.high_watermarks.insert(entry.partition.clone(), entry.high_watermark);
        }
        self.write_high_watermarks(&self.high_watermarks)
    }

    fn write_high_watermarks(&self, high_watermarks: &OffsetCheckpoint) -> Result<(), OpenError> {
        let bytes = checkpoint::encode_offsets(high_watermarks);
        Ok(storage::write_atomically(&*self.storage, Path::new(names::HIGH_WATERMARK_CHECKPOINT), &bytes)?)
    }

    /// Drops what the files say of partitions that are not there, if they may say any of such.
    pub(super) fn forget_gone(&mut self) -> Result<(), OpenError> {
        if !self.tells_of_gone {
            return Ok(());
        }
        let is_here = |partition: &TopicPartition| self.has(partition);
        self.checkpoints.retain(is_here).map_err(file_error(names::RECOVERY_POINT_CHECKPOINT))?;
        let mut left = self.high_watermarks.clone();
        left.retain(|partition, _| self.has(partition));
        if left.len() != self.high_watermarks.len() {
            self.write_high_watermarks(&left)?;
            self.high_watermarks = left;
        }
        self.tells_of_gone = false;
        Ok(())
    }

    /// As [`LogDirectory::forget_gone`], but where the disk has no space that is left to the next checkpoint, or to who makes a
    /// partition.
    pub(super) fn forget_gone_if_there_is_space(&mut self) -> Result<(), OpenError> {
        match self.forget_gone() {
            Err(OpenError::Storage(error)) if error.is_disk_full() => Ok(()),
            forgotten => forgotten,
        }
    }
}

/// High watermarks that cannot be read count as 0: replicas find them again.
pub(super) fn read_high_watermarks(
    storage: &dyn Storage,
    report: &mut DirectoryReport,
) -> Result<OffsetCheckpoint, OpenError> {
    let bytes =
        storage::read_file(storage, Path::new(names::HIGH_WATERMARK_CHECKPOINT), MAX_BYTES)?.unwrap_or_default();
    Ok(checkpoint::decode_offsets(&bytes).unwrap_or_else(|_| {
        report.unreadable.push(names::HIGH_WATERMARK_CHECKPOINT);
        OffsetCheckpoint::default()
    }))
}

fn file_error(file: &'static str) -> impl FnOnce(LogError) -> OpenError {
    move |source| match source {
        LogError::Storage(error) | LogError::DiskFull(error) => OpenError::Storage(error),
        source => OpenError::File { file, source },
    }
}
