//! The offset and time index of a sealed segment, read from their files through read-only maps.

use super::{SegmentError, files::SegmentFiles};
use crate::{
    format::index_entry::{OffsetIndexEntry, OffsetIndexView, TimeIndexEntry, TimeIndexView},
    storage::{Access, MappedFile, Storage, StorageError},
    types::{Offset, Timestamp},
};
use std::path::Path;

/// Both index files of one segment.
#[derive(Debug)]
pub(crate) struct SealedIndex {
    base_offset: Offset,
    offsets: MappedFile,
    times: MappedFile,
}

impl SealedIndex {
    /// Maps both files; `None` when one is missing, is larger than the log could need, or has no last time.
    pub(crate) fn open(
        storage: &dyn Storage,
        files: &SegmentFiles,
        base_offset: Offset,
        log_size: u64,
    ) -> Result<Option<Self>, SegmentError> {
        let (Some(offsets), Some(times)) =
            (map(storage, &files.offset_index(), log_size)?, map(storage, &files.time_index(), log_size)?)
        else {
            return Ok(None);
        };
        let index = Self { base_offset, offsets, times };
        // No batch has a timestamp, or the file was lost or harmed: only the log can tell.
        let unknown = log_size > 0 && index.time_view().last().is_none();
        Ok((!unknown).then_some(index))
    }

    fn offset_view(&self) -> OffsetIndexView<'_> {
        OffsetIndexView::new(self.offsets.as_slice(), self.base_offset)
    }

    fn time_view(&self) -> TimeIndexView<'_> {
        TimeIndexView::new(self.times.as_slice(), self.base_offset)
    }

    pub(crate) fn entries(&self) -> (usize, usize) {
        (self.offset_view().len(), self.time_view().len())
    }

    /// Every entry of both; `None` if one of them cannot be decoded.
    pub(crate) fn all_entries(&self) -> Option<(Vec<OffsetIndexEntry>, Vec<TimeIndexEntry>)> {
        let offsets = self.offset_view();
        let times = self.time_view();
        let offsets = (0..offsets.len()).map(|n| offsets.entry(n)).collect::<Option<_>>()?;
        let times = (0..times.len()).map(|n| times.entry(n)).collect::<Option<_>>()?;
        Some((offsets, times))
    }

    pub(crate) fn lookup(&self, target: Offset) -> Option<OffsetIndexEntry> {
        self.offset_view().lookup(target)
    }

    pub(crate) fn upper_bound(&self, position: u64) -> Option<OffsetIndexEntry> {
        self.offset_view().upper_bound(u32::try_from(position).ok()?)
    }

    pub(crate) fn lookup_time(&self, timestamp: Timestamp) -> Option<TimeIndexEntry> {
        self.time_view().lookup(timestamp)
    }

    pub(crate) fn last_time_entry(&self) -> Option<TimeIndexEntry> {
        self.time_view().last()
    }
}

/// Maps a file if it is there and its length is one that an index of such a log can have.
fn map(storage: &dyn Storage, path: &Path, log_size: u64) -> Result<Option<MappedFile>, StorageError> {
    let file = match storage.open(path, Access::Read) {
        Err(error) if error.is_not_found() => return Ok(None),
        opened => opened?,
    };
    let named = |error| StorageError::new("map", path, error);
    let len = storage.len(&file).map_err(named)?;
    if len > log_size {
        return Ok(None);
    }
    Ok(Some(MappedFile::open(&file, len).map_err(named)?))
}
