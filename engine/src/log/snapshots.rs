//! The producer snapshots of one partition: which there are, reading and writing them.

use super::{error::LogError, producers::ProducerState};
use crate::{
    format::{
        FormatError, names,
        snapshot::{self, ProducerSnapshotEntry},
    },
    segment::SegmentError,
    storage::{self, Access, Storage, StorageError},
    types::Offset,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// More bytes than a snapshot of ten million producers has.
const MAX_BYTES: u64 = 512 << 20;

/// The snapshot files of one partition, by the offset up to which (exclusive) each holds.
#[derive(Debug)]
pub(super) struct Snapshots {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    offsets: BTreeSet<Offset>,
    /// The log start when the log was opened: nothing lies below it, so no snapshot is taken there.
    floor: Offset,
}

impl Snapshots {
    pub(super) fn new(storage: &Arc<dyn Storage>, dir: &Path, offsets: impl IntoIterator<Item = Offset>) -> Self {
        Self { storage: Arc::clone(storage), dir: dir.to_path_buf(), offsets: offsets.into_iter().collect(), floor: 0 }
    }

    pub(super) fn range(&self) -> Option<(Offset, Offset)> {
        Some((*self.offsets.first()?, *self.offsets.last()?))
    }

    pub(super) fn set_floor(&mut self, log_start: Offset) {
        self.floor = log_start;
    }

    /// Writes the state as of `offset`, durably, unless there is a snapshot of that offset or a later one.
    pub(super) fn take(&mut self, offset: Offset, state: &ProducerState) -> Result<(), LogError> {
        let latest = self.offsets.last().map_or(self.floor, |latest| self.floor.max(*latest));
        if offset > latest { self.retake(offset, state) } else { Ok(()) }
    }

    /// Writes the state as of `offset`, durably, over a snapshot of that offset.
    pub(super) fn retake(&mut self, offset: Offset, state: &ProducerState) -> Result<(), LogError> {
        let path = self.path(offset);
        let bytes = snapshot::encode(&state.snapshot());
        self.remove(offset)?;
        let file = self.storage.open(&path, Access::Create)?;
        storage::write_at(&*self.storage, &file, 0, &bytes)
            .and_then(|()| storage::sync(&*self.storage, &file))
            .map_err(|error| LogError::from(SegmentError::from(StorageError::new("write", &path, error))))?;
        self.offsets.insert(offset);
        Ok(())
    }

    /// The newest snapshot at or below `limit` that can be read. Damaged ones are removed, as Kafka does.
    pub(super) fn newest(&mut self, limit: Offset) -> Result<Option<(Offset, Vec<ProducerSnapshotEntry>)>, LogError> {
        while let Some(&offset) = self.offsets.range(..=limit).next_back() {
            match self.read(offset)? {
                Some(entries) => return Ok(Some((offset, entries))),
                None => self.remove(offset)?,
            }
        }
        Ok(None)
    }

    fn read(&self, offset: Offset) -> Result<Option<Vec<ProducerSnapshotEntry>>, LogError> {
        let bytes = storage::read_file(&*self.storage, &self.path(offset), MAX_BYTES)?.unwrap_or_default();
        match snapshot::decode(&bytes) {
            Ok(entries) => Ok(Some(entries)),
            Err(source @ FormatError::UnsupportedVersion { .. }) => {
                Err(SegmentError::Derived { file: "producer snapshot", base_offset: offset, source }.into())
            }
            Err(_) => Ok(None),
        }
    }

    /// Removes every snapshot that `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(Offset) -> bool) -> Result<(), LogError> {
        let unwanted: Vec<Offset> = self.offsets.iter().copied().filter(|offset| !keep(*offset)).collect();
        unwanted.into_iter().try_for_each(|offset| self.remove(offset))
    }

    fn remove(&mut self, offset: Offset) -> Result<(), LogError> {
        match self.storage.unlink(&self.path(offset)) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        self.offsets.remove(&offset);
        Ok(())
    }

    /// Removes those that belong to no segment, but for the newest if it lies beyond the last base: that one is of a
    /// clean close (`ProducerStateManager.removeStraySnapshots`).
    pub(super) fn remove_strays(&mut self, bases: &[Offset]) -> Result<(), LogError> {
        let beyond = self.offsets.last().copied().filter(|latest| bases.last().is_some_and(|last| latest > last));
        self.retain(|offset| bases.binary_search(&offset).is_ok() || Some(offset) == beyond)
    }

    fn path(&self, offset: Offset) -> PathBuf {
        self.dir.join(names::snapshot(offset))
    }
}
