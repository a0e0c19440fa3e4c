//! Making the log file of a segment, with its name or, at first, without.

use super::{IndexLimits, IndexState, LiveIndex, Segment, TxnIndex};
use crate::{
    format::names::Suffix,
    storage::{Access, Storage, StorageError},
    types::Offset,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

impl Segment {
    /// Makes a new, empty segment; an older file of the name must be gone.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        dir: impl Into<Arc<Path>>,
        base_offset: Offset,
        limits: IndexLimits,
        preallocate_bytes: Option<u64>,
    ) -> Result<Self, StorageError> {
        let segment = Self::open(storage, dir, base_offset, limits, 0);
        segment.make_log(preallocate_bytes)?;
        Ok(segment)
    }

    /// As [`Segment::create`], but the log file is called as an unfinished copy, which an open removes, until
    /// [`Segment::give_name`].
    pub(crate) fn create_unnamed(
        storage: &Arc<dyn Storage>,
        dir: impl Into<Arc<Path>>,
        base_offset: Offset,
        limits: IndexLimits,
        preallocate_bytes: Option<u64>,
    ) -> Result<Self, StorageError> {
        let segment = Self { is_named: AtomicBool::new(false), ..Self::open(storage, dir, base_offset, limits, 0) };
        match storage.unlink(&segment.log_path()) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        segment.make_log(preallocate_bytes)?;
        Ok(segment)
    }

    fn make_log(&self, preallocate_bytes: Option<u64>) -> Result<(), StorageError> {
        let path = self.log_path();
        let file = self.storage.open(&path, Access::Create)?;
        if let Some(bytes) = preallocate_bytes
            && let Err(error) = self.storage.allocate(&file, bytes)
            && error.kind() != std::io::ErrorKind::Unsupported
        {
            return Err(StorageError::new("allocate", &path, error));
        }
        self.handles.set_index(&*self.storage, IndexState::Live(LiveIndex::new(self.base_offset(), self.limits)));
        self.handles.adopt_log(&*self.storage, Arc::new(file));
        *self.txns.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(TxnIndex::default()));
        Ok(())
    }

    /// Gives the log file of a segment that was made without one its name; durable after the next sync of the directory.
    pub(crate) fn give_name(&self) -> Result<(), StorageError> {
        self.storage.rename(&self.log_path(), &self.files.log())?;
        self.is_named.store(true, Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn log_path(&self) -> PathBuf {
        let path = self.files.log();
        if self.is_named.load(Ordering::SeqCst) { path } else { self.files.with_suffix(&path, Suffix::Cleaned) }
    }

    /// Opens by name; once more in case that the file was given its name meanwhile.
    pub(super) fn opened<T>(
        &self,
        open: impl Fn(&dyn Fn() -> PathBuf) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match open(&|| self.log_path()) {
            Err(error) if error.is_not_found() => open(&|| self.files.log()),
            result => result,
        }
    }
}
