//! Where the files of a segment lie.

use crate::{
    format::names::{self, Suffix},
    types::Offset,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Paths of one base offset, relative to the log directory.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    dir: Arc<Path>,
    base_offset: Offset,
}

impl SegmentFiles {
    pub(crate) fn new(dir: impl Into<Arc<Path>>, base_offset: Offset) -> Self {
        Self { dir: dir.into(), base_offset }
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn dir(&self) -> &Arc<Path> {
        &self.dir
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join(names::log(self.base_offset))
    }

    pub(crate) fn offset_index(&self) -> PathBuf {
        self.dir.join(names::offset_index(self.base_offset))
    }

    pub(crate) fn time_index(&self) -> PathBuf {
        self.dir.join(names::time_index(self.base_offset))
    }

    pub(crate) fn txn_index(&self) -> PathBuf {
        self.dir.join(names::txn_index(self.base_offset))
    }

    /// The log and everything derived from it, in the order in which Kafka renames them.
    pub(crate) fn all(&self) -> [PathBuf; 4] {
        [self.log(), self.offset_index(), self.time_index(), self.txn_index()]
    }

    /// The same file with a suffix such as `.cleaned`.
    pub(crate) fn with_suffix(&self, path: &Path, suffix: Suffix) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix.text());
        PathBuf::from(name)
    }
}
