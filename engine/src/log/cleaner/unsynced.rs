//! Files of outputs that are written and not yet durable.
//!
//! They are synced together, many at once: by then the disk has long begun with all but the last bytes, and it works on
//! one file while the next is written.

use crate::{
    log::LogError,
    segment::SegmentError,
    storage::{File, Op, Storage, StorageError},
};
use std::path::PathBuf;

/// Files that are kept open at most.
const MAX_FILES: usize = 64;

/// Written files, with their paths.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    files: Vec<(PathBuf, File)>,
}

impl Unsynced {
    /// Adds files; when there are too many, all are made durable.
    pub(super) fn add(&mut self, storage: &dyn Storage, files: Vec<(PathBuf, File)>) -> Result<(), LogError> {
        self.files.extend(files);
        if self.files.len() < MAX_FILES { Ok(()) } else { self.sync(storage) }
    }

    /// Makes everything in the files durable and lets go of them.
    pub(super) fn sync(&mut self, storage: &dyn Storage) -> Result<(), LogError> {
        let files = std::mem::take(&mut self.files);
        let mut ops: Vec<Op<'_>> = files.iter().map(|(_, file)| Op::sync(file)).collect();
        storage.run(&mut ops);
        for (op, (path, _)) in ops.iter_mut().zip(&files) {
            op.take_result().map_err(|error| SegmentError::from(StorageError::new("sync", path, error)))?;
        }
        Ok(())
    }
}
