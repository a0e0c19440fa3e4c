//! What a log needs of whoever makes it durable without its segments, and what it gives to whoever syncs them.
//!
//! A commit journal makes appends durable before they reach their segment, and after a crash brings them there. So before
//! anything of the log is cut, the segments must have everything and the journal must not speak of the log any more.

use super::{Log, LogError};
use crate::{
    segment::Segment,
    storage::{File, StorageError},
    types::{Offset, TopicPartition},
};
use std::{fmt, sync::Arc};

/// A journal that may hold batches of logs.
pub(crate) trait CommitJournal: Send + Sync + fmt::Debug {
    /// Makes what was said of the partition void, durably.
    fn forget(&self, partition: &TopicPartition) -> Result<(), LogError>;
}

/// A sync of a log's active segment, to be run by the caller, without the log.
#[derive(Debug)]
pub(crate) struct PendingFlush {
    pub(crate) file: Arc<File>,
    segment: Arc<Segment>,
    offset: Offset,
    cuts: u64,
}

impl Log {
    /// Whether a commit journal may have frames of this log.
    pub(crate) fn is_in_journal(&self) -> bool {
        self.in_journal
    }

    /// Notes that a journal has frames of this log, or is about to have.
    pub(crate) fn note_journalled(&mut self) {
        self.in_journal = true;
    }

    /// Gives the segments everything, durably, and makes the journal forget the log.
    pub(crate) fn leave_journal(&mut self) -> Result<(), LogError> {
        self.end_roll()?;
        if !self.in_journal {
            return Ok(());
        }
        self.check_writable()?;
        let active = self.active()?;
        active.sync().map_err(|error| self.sync_failed(error))?;
        let mut view = self.shared.write();
        view.recovery_point = view.log_end.offset;
        drop(view);
        self.forget_in_journal()
    }

    /// Makes the journal forget the log, which is about to be deleted: what was gathered goes nowhere any more.
    pub(crate) fn discard(&mut self) -> Result<(), LogError> {
        let roll = self.shared.write().roll.take();
        if let Some(roll) = roll {
            roll.abandon();
        }
        self.active()?.discard();
        self.forget_in_journal()
    }

    fn forget_in_journal(&mut self) -> Result<(), LogError> {
        self.checkpoints.forget_in_journal(&self.shared.partition).map_err(|error| self.poison(error))?;
        self.in_journal = false;
        Ok(())
    }

    /// Writes what was gathered to the segment's file and lets go of its memory. Not durable by itself.
    pub(crate) fn spill(&mut self) -> Result<(), LogError> {
        let spilled = self.active()?.spill();
        match spilled {
            Err(error) if error.is_disk_full() => Err(LogError::DiskFull(error)),
            spilled => spilled.map_err(|error| self.poison(error)),
        }
    }

    /// Why the log takes nothing any more, if that is so.
    pub(crate) fn poison_cause(&self) -> Option<String> {
        self.poisoned.as_deref().map(str::to_owned)
    }

    /// How often the log was cut: what is known of its end holds only as long as this stays.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts
    }

    pub(super) fn note_cut(&mut self) {
        self.cuts += 1;
    }

    /// Begins to make everything durable: the file to be synced; `None` if everything is.
    pub(crate) fn begin_flush(&mut self) -> Result<Option<PendingFlush>, LogError> {
        self.check_writable()?;
        self.end_roll()?;
        let (offset, recovery_point) = {
            let view = self.shared.read();
            (view.log_end.offset, view.recovery_point)
        };
        if recovery_point >= offset {
            return Ok(None);
        }
        let segment = self.active()?;
        let file = segment.spill().and_then(|()| segment.log()).map_err(|error| self.poison(error))?;
        segment.note_sync().map_err(|error| self.poison(error))?;
        Ok(Some(PendingFlush { file, segment, offset, cuts: self.cuts }))
    }

    /// Ends what [`Log::begin_flush`] began: up to where the log is durable now.
    pub(crate) fn finish_flush(
        &mut self,
        flush: &PendingFlush,
        result: std::io::Result<()>,
    ) -> Result<Offset, LogError> {
        if let Err(error) = result {
            return Err(self.poison(StorageError::new("sync", &flush.segment.files().log(), error)));
        }
        Ok(self.raise_recovery_point(flush.offset, flush.cuts))
    }

    /// Notes that the segments have everything below `offset`, durably, unless the log was cut since it had been cut `cuts`
    /// times; the recovery point now.
    pub(crate) fn raise_recovery_point(&mut self, offset: Offset, cuts: u64) -> Offset {
        let mut view = self.shared.write();
        if cuts == self.cuts && self.poisoned.is_none() {
            view.recovery_point = view.recovery_point.max(offset.min(view.log_end.offset));
        }
        view.recovery_point
    }
}
