//! The files of new logs, many made durable at once.
//!
//! Knows nothing of open logs: what it leaves is an empty log, to be opened as any other. No file of it has a byte, so only
//! directory entries have to be made durable, in any order: a crash before that leaves the log whole, or without a file or
//! two, which an open makes again, or not at all.

use crate::{
    config::LogConfig,
    format::names,
    segment::{IndexLimits, Segment},
    storage::{Access, Storage, StorageError},
    types::TopicPartition,
};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// With more new directories than this one sync of the file system costs less than a sync of each.
const MAX_DIRECTORY_SYNCS: usize = 8;

/// Makes the directories and files of new, empty logs, durable when this returns. What is there already stays.
///
/// Steps, and what an open finds after each: a directory made (nothing, or an empty log, whose files it makes); its files
/// made (the same); all made durable together (every log, empty).
pub(crate) fn create(
    storage: &Arc<dyn Storage>,
    partitions: &[&TopicPartition],
    config: &LogConfig,
) -> Result<(), StorageError> {
    let dirs: Vec<_> = partitions.iter().map(|partition| PathBuf::from(partition.to_string())).collect();
    for dir in &dirs {
        if made(storage.create_dir(dir))?.is_some() {
            let preallocate = config.preallocate.then_some(u64::from(config.segment_bytes));
            Segment::create(storage, dir, 0, IndexLimits::from_config(config), preallocate)?;
            create_epoch_file(&**storage, dir)?;
        }
    }
    if dirs.len() > MAX_DIRECTORY_SYNCS {
        return storage.sync_all();
    }
    dirs.iter().try_for_each(|dir| storage.sync_dir(dir))?;
    storage.sync_dir(Path::new(""))
}

/// Makes an empty leader-epoch checkpoint, as Kafka has it in a new log, if there is none; whether it did.
pub(super) fn create_epoch_file(storage: &dyn Storage, dir: &Path) -> Result<bool, StorageError> {
    Ok(made(storage.open(&dir.join(names::LEADER_EPOCH_CHECKPOINT), Access::Create))?.is_some())
}

/// `None` where the name is taken.
fn made<T>(result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match result {
        Err(error) if error.source.kind() == ErrorKind::AlreadyExists => Ok(None),
        result => result.map(Some),
    }
}
