//! Cutting one segment, beside readers that may hold bytes of it.

use super::{Segment, SegmentError};
use crate::{
    format::names::Suffix,
    storage::{self, Access, StorageError},
    types::Offset,
};
use std::sync::{Arc, atomic::Ordering};

impl Segment {
    /// Whether the file was cut below this object.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    /// Claims the file for a cut in place at `position`; false if a reader may hold bytes above.
    fn claim_for_cut(&self, position: u64) -> bool {
        self.replaced.store(true, Ordering::SeqCst);
        let free = self.handed_out.load(Ordering::SeqCst) <= position;
        if !free {
            self.replaced.store(false, Ordering::SeqCst);
        }
        free
    }

    /// The segment cut at byte `position`, where the batch of `offset` begins, to take this one's place; durable when it
    /// returns. If a reader may hold bytes above, the rest moves to a new file.
    ///
    /// Steps, and what recovery finds after each: copy below a `.cleaned` name and sync it (an unfinished copy, which
    /// is removed); rename over the log and sync the directory (the shorter log).
    pub(crate) fn truncate(&self, offset: Offset, position: u64) -> Result<Arc<Self>, SegmentError> {
        self.spill()?;
        let mut live = self.live_index()?;
        live.truncate(offset);
        let txns = self.txns()?.truncated(offset);
        let segment = Arc::new(if self.claim_for_cut(position) {
            let log = self.log_to_write()?;
            self.storage.set_len(&log, position).map_err(|error| self.log_error("truncate", error))?;
            self.sync()?;
            let cut =
                Self::open(&self.storage, Arc::clone(self.files.dir()), self.base_offset(), self.limits, position);
            cut.handles.adopt_log(&*self.storage, log);
            cut
        } else {
            self.copy_below(position)?
        });
        segment.set_created_ms(self.created_ms.load(Ordering::Relaxed));
        segment.raise_from_tail(&mut live)?;
        segment.set_live_index(live);
        segment.replace_txns(txns)?;
        Ok(segment)
    }

    fn copy_below(&self, position: u64) -> Result<Self, SegmentError> {
        let from = self.log()?;
        let path = self.files.log();
        let copy = self.files.with_suffix(&path, Suffix::Cleaned);
        match self.storage.unlink(&copy) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let to = self.storage.open(&copy, Access::Create)?;
        storage::copy(&*self.storage, (&from, 0), &to, position).map_err(|error| self.log_error("copy", error))?;
        self.sync_one(&to).map_err(|error| StorageError::new("sync", &copy, error))?;
        self.detach();
        self.storage.rename(&copy, &path)?;
        self.storage.sync_dir(self.files.dir())?;
        let copied = Self::open(&self.storage, Arc::clone(self.files.dir()), self.base_offset(), self.limits, position);
        copied.handles.adopt_log(&*self.storage, Arc::new(to));
        Ok(copied)
    }
}
