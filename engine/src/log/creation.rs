//! The files of new logs, many made durable at once.
//!
//! Knows nothing of open logs: what it leaves is an empty log, to be opened as any other. But for the topic's id no file of it
//! has a byte, so only directory entries have to be made durable, in any order: a crash before that leaves the log whole, or
//! without a file or two, which an open makes again, or not at all.

use super::removal::remove_directory;
use crate::{
    config::LogConfig,
    format::{names, partition_metadata, uuid::Uuid},
    segment::{IndexLimits, Segment},
    storage::{Access, Op, Replacement, Storage, StorageError},
    types::TopicPartition,
};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// With more new directories than this one sync of the file system costs less than a sync of each.
const MAX_DIRECTORY_SYNCS: usize = 8;

/// Why new logs were not made.
#[derive(Debug)]
pub(crate) struct NotMade {
    pub(crate) source: StorageError,
    /// Whether nothing of them is left, also after a power failure; otherwise any of them may be there, whole or to be
    /// completed by an open.
    pub(crate) is_taken_back: bool,
}

/// Makes the directories and files of new, empty logs, with their topic's id if there is one; durable when this returns. What is
/// there already stays. Where it fails, what it made is taken back.
///
/// Steps, and what an open finds after each: a directory made (nothing, or an empty log, whose files it makes); its files
/// made (the same); the id written under another name and synced (an empty log without an id); renamed (the same, or with
/// its id); all made durable together (every log, empty).
pub(crate) fn create(
    storage: &Arc<dyn Storage>,
    partitions: &[&TopicPartition],
    topic_id: Option<Uuid>,
    config: &LogConfig,
) -> Result<(), NotMade> {
    let dirs: Vec<_> = partitions.iter().map(|partition| PathBuf::from(partition.to_string())).collect();
    let mut new = Vec::new();
    let made = make(storage, &dirs, &mut new, topic_id, config);
    made.map_err(|source| {
        let is_taken_back = take_back(&**storage, &new).is_ok_and(|all| all) && !source.is_failed_sync();
        NotMade { source, is_taken_back }
    })
}

/// As [`create`]; `new` gets the directories that were not there.
fn make<'a>(
    storage: &Arc<dyn Storage>,
    dirs: &'a [PathBuf],
    new: &mut Vec<&'a Path>,
    topic_id: Option<Uuid>,
    config: &LogConfig,
) -> Result<(), StorageError> {
    for dir in dirs {
        if made(storage.create_dir(dir))?.is_some() {
            new.push(dir.as_path());
            let preallocate = config.preallocate.then_some(u64::from(config.segment_bytes));
            Segment::create(storage, dir.as_path(), 0, IndexLimits::from_config(config), preallocate)?;
            create_epoch_file(&**storage, dir)?;
        }
    }
    let are_many = dirs.len() > MAX_DIRECTORY_SYNCS;
    if let Some(topic_id) = topic_id {
        write_ids(&**storage, new, topic_id, are_many)?;
    }
    if are_many {
        return storage.sync_all();
    }
    dirs.iter().try_for_each(|dir| storage.sync_dir(dir))?;
    storage.sync_dir(Path::new(""))
}

/// Removes directories just made; whether all are gone.
fn take_back(storage: &dyn Storage, new: &[&Path]) -> Result<bool, StorageError> {
    let mut are_gone = true;
    for dir in new {
        are_gone &= remove_directory(storage, dir)?;
    }
    if !new.is_empty() {
        storage.sync_dir(Path::new(""))?;
    }
    Ok(are_gone)
}

/// Writes the topic's id into directories, whose entries are not durable yet.
fn write_ids(storage: &dyn Storage, dirs: &[&Path], topic_id: Uuid, are_many: bool) -> Result<(), StorageError> {
    let bytes = partition_metadata::encode(topic_id);
    let write = |dir: &&Path| {
        let (id, file) = Replacement::write(storage, &dir.join(names::PARTITION_METADATA), &bytes)?;
        // Thousands of files need not be open at once.
        Ok((id, (!are_many).then_some(file)))
    };
    let written = dirs.iter().map(write).collect::<Result<Vec<_>, StorageError>>()?;
    if are_many {
        storage.sync_all()?;
    }
    let mut syncs: Vec<_> = written.iter().filter_map(|(_, file)| file.as_ref()).map(Op::sync).collect();
    storage.run(&mut syncs);
    for (sync, dir) in syncs.iter_mut().zip(dirs) {
        sync.take_result().map_err(|error| StorageError::new("sync the topic's id in", dir, error))?;
    }
    drop(syncs);
    written.into_iter().try_for_each(|(id, _)| id.rename(storage))
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
