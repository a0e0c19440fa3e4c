//! Files of segments that have left the log: renamed at once, removed later.
//!
//! The new name says to recovery that the file is a leftover, so nothing depends on when it is unlinked; that can take
//! long for a large file and happens when the host asks for it. Readers keep what they have open.

use super::{Log, LogError};
use crate::{
    format::names::{self, Suffix},
    segment::Segment,
    storage::remove_if_there,
    types::{Offset, Timestamp},
};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

/// Retired files by the time at which they may go.
#[derive(Debug, Default)]
pub(super) struct Retired(VecDeque<(Timestamp, PathBuf)>);

impl Log {
    /// Gives the files of a segment, and the snapshot of its base unless that is to stay, their retired names. The
    /// directory is not synced: the caller does that once for all.
    pub(super) fn retire_segment(
        &mut self,
        segment: &Segment,
        keep_snapshot: bool,
        now_ms: Timestamp,
    ) -> Result<(), LogError> {
        segment.detach();
        for path in segment.files().all() {
            self.retire_file(path, now_ms)?;
        }
        if !keep_snapshot {
            self.retire_snapshot(segment.base_offset(), now_ms)?;
        }
        Ok(())
    }

    fn retire_snapshot(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        self.snapshots.forget(offset);
        self.retire_file(self.dir.join(names::snapshot(offset)), now_ms)
    }

    /// A derived file that is not there never was. Where a full disk has no space for another name the file goes at once.
    fn retire_file(&mut self, path: PathBuf, now_ms: Timestamp) -> Result<(), LogError> {
        let retired = retired_name(&path);
        match self.storage().rename(&path, &retired) {
            Err(error) if error.is_not_found() && path.extension().is_none_or(|extension| extension != "log") => {
                return Ok(());
            }
            Err(error) if error.is_disk_full() => return Ok(remove_if_there(self.storage(), &path)?),
            renamed => renamed?,
        }
        let delay_ms = i64::try_from(self.config().file_delete_delay_ms).unwrap_or(i64::MAX);
        self.retired.0.push_back((now_ms.saturating_add(delay_ms), retired));
        Ok(())
    }

    /// Unlinks the retired files whose `file.delete.delay.ms` has passed; how many. Those that are left when the log is
    /// dropped are removed when it is opened again.
    ///
    /// # Errors
    /// [`LogError::Storage`]; the file is tried again next time.
    pub fn remove_retired_files(&mut self, now_ms: Timestamp) -> Result<usize, LogError> {
        let mut removed = 0;
        while let Some((_, path)) = self.retired.0.front().filter(|(due_ms, _)| *due_ms <= now_ms) {
            remove_if_there(self.storage(), path)?;
            self.retired.0.pop_front();
            removed += 1;
        }
        Ok(removed)
    }

    /// When the next retired file may be unlinked, in ms.
    #[must_use]
    pub fn next_removal_ms(&self) -> Option<Timestamp> {
        self.retired.0.front().map(|(due_ms, _)| *due_ms)
    }
}

fn retired_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(Suffix::Deleted.text());
    PathBuf::from(name)
}
