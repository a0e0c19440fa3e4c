//! The producer snapshots of one partition: which there are, reading and writing them.
//!
//! What is decided is only noted; [`Snapshots::commit`] carries it out. So an open can decide everything before it
//! changes anything. Snapshots are derived: one that a crash loses or leaves behind is made anew or removed.

use super::{error::LogError, producers::ProducerState};
use crate::{
    format::{
        FormatError, names,
        snapshot::{self, ProducerSnapshotEntry},
    },
    segment::SegmentError,
    storage::{self, File, Replacement, Storage, StorageError, remove_if_there},
    types::Offset,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// More bytes than a snapshot of ten million producers has.
const MAX_BYTES: u64 = 512 << 20;

/// What is to happen to a snapshot file.
#[derive(Debug)]
enum Change {
    Write(Vec<u8>),
    Remove,
}

/// What was decided and is to be carried out.
#[derive(Debug)]
pub(super) struct Changes {
    storage: Arc<dyn Storage>,
    dir: Arc<Path>,
    left: BTreeMap<Offset, Change>,
}

/// The snapshot files of one partition, by the offset up to which (exclusive) each holds.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Ascending.
    offsets: Vec<Offset>,
    changes: Changes,
    /// A state as of here or before is not written (`ProducerStateManager.lastSnapOffset`).
    last: Offset,
}

impl Snapshots {
    /// Those that there are, ascending.
    pub(super) fn new(
        storage: &Arc<dyn Storage>,
        dir: impl Into<Arc<Path>>,
        offsets: impl IntoIterator<Item = Offset>,
    ) -> Self {
        let changes = Changes { storage: Arc::clone(storage), dir: dir.into(), left: BTreeMap::new() };
        Self { offsets: offsets.into_iter().collect(), changes, last: 0 }
    }

    /// The oldest and the newest.
    pub(super) fn range(&self) -> Option<(Offset, Offset)> {
        Some((*self.offsets.first()?, *self.offsets.last()?))
    }

    /// Forgets which state was written last, as for a log without any.
    pub(super) fn restart(&mut self) {
        self.last = 0;
    }

    /// Wants the state written, unless that of its end or of a later one was.
    pub(super) fn take(&mut self, state: &ProducerState) {
        if state.end_offset() > self.last {
            self.changes.left.insert(state.end_offset(), Change::Write(snapshot::encode(&state.snapshot())));
            if let Err(place) = self.offsets.binary_search(&state.end_offset()) {
                self.offsets.insert(place, state.end_offset());
            }
            self.last = state.end_offset();
        }
    }

    /// The log starts here from now on.
    pub(super) fn on_log_start(&mut self, log_start: Offset) {
        self.last = self.offsets.last().copied().unwrap_or(log_start);
    }

    /// The newest snapshot that can be read, or none from `log_start` on; damaged ones go, as in Kafka.
    pub(super) fn load_newest(
        &mut self,
        log_start: Offset,
    ) -> Result<Option<(Offset, Vec<ProducerSnapshotEntry>)>, LogError> {
        while let Some(&offset) = self.offsets.last() {
            if let Some(entries) = self.read(offset)? {
                self.last = offset;
                return Ok(Some((offset, entries)));
            }
            self.remove(offset);
        }
        self.last = log_start;
        Ok(None)
    }

    fn read(&self, offset: Offset) -> Result<Option<Vec<ProducerSnapshotEntry>>, LogError> {
        let decoded = match self.changes.left.get(&offset) {
            Some(Change::Write(bytes)) => snapshot::decode(bytes),
            Some(Change::Remove) => return Ok(None),
            None => {
                let bytes = storage::read_file(&*self.changes.storage, &self.changes.path(offset), MAX_BYTES)?
                    .unwrap_or_default();
                snapshot::decode(&bytes)
            }
        };
        match decoded {
            Ok(entries) => Ok(Some(entries)),
            Err(source @ FormatError::UnsupportedVersion { .. }) => {
                Err(SegmentError::Derived { file: "producer snapshot", base_offset: offset, source }.into())
            }
            Err(_) => Ok(None),
        }
    }

    /// Wants every snapshot gone that `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(Offset) -> bool) {
        let unwanted: Vec<Offset> = self.offsets.iter().copied().filter(|offset| !keep(*offset)).collect();
        unwanted.into_iter().for_each(|offset| self.remove(offset));
    }

    pub(super) fn remove(&mut self, offset: Offset) {
        if let Ok(place) = self.offsets.binary_search(&offset) {
            self.offsets.remove(place);
            self.changes.left.insert(offset, Change::Remove);
        }
    }

    /// Leaves the file of this offset to the caller.
    pub(super) fn forget(&mut self, offset: Offset) {
        self.offsets.retain(|other| *other != offset);
        self.changes.left.remove(&offset);
    }

    /// Wants those gone that belong to no segment, but for the newest if it lies beyond the last base: that one is of a
    /// clean close (`ProducerStateManager.removeStraySnapshots`).
    pub(super) fn remove_strays(&mut self, bases: &[Offset]) {
        let newest_stray = self.offsets.iter().copied().rfind(|offset| bases.binary_search(offset).is_err());
        let kept = newest_stray.filter(|stray| bases.last().is_none_or(|last| stray >= last));
        self.retain(|offset| bases.binary_search(&offset).is_ok() || Some(offset) == kept);
    }

    /// Carries out what was decided: every file written is durable when this returns, its name after the next sync of
    /// the directory.
    pub(super) fn commit(&mut self) -> Result<(), LogError> {
        for (offset, file) in self.write()? {
            let synced = storage::sync(&*self.changes.storage, &file);
            synced.map_err(|error| self.changes.failed("sync", offset, error))?;
        }
        Ok(())
    }

    /// As [`Snapshots::commit`], but leaves it to the caller to sync the files written.
    pub(super) fn write(&mut self) -> Result<Vec<(Offset, File)>, LogError> {
        Ok(self.changes.write()?)
    }

    /// Leaves it to somebody else to carry out what was decided: until then these snapshots cannot be read.
    pub(super) fn hand_over(&mut self) -> Changes {
        let Changes { storage, dir, left } = &mut self.changes;
        Changes { storage: Arc::clone(storage), dir: dir.clone(), left: std::mem::take(left) }
    }
}

impl Changes {
    /// Writes and removes files; what is left when this fails can be tried again. Somebody has to sync those written: a
    /// power failure before may leave any content. Who reads the directory meanwhile finds each whole, or not at all.
    pub(super) fn write(&mut self) -> Result<Vec<(Offset, File)>, SegmentError> {
        let mut written = Vec::new();
        while let Some((&offset, change)) = self.left.first_key_value() {
            let path = self.path(offset);
            match change {
                Change::Remove => remove_if_there(&*self.storage, &path)?,
                Change::Write(bytes) => {
                    let (replacement, file) = Replacement::write(&*self.storage, &path, bytes)?;
                    replacement.rename(&*self.storage)?;
                    written.push((offset, file));
                }
            }
            self.left.remove(&offset);
        }
        Ok(written)
    }

    fn failed(&self, operation: &'static str, offset: Offset, error: std::io::Error) -> SegmentError {
        StorageError::new(operation, &self.path(offset), error).into()
    }

    fn path(&self, offset: Offset) -> PathBuf {
        self.dir.join(names::snapshot(offset))
    }
}
