//! What the directory's threads do with a partition.

use super::{Candidate, Partition};
use crate::{
    log::{Log, LogError, PendingFlush, Roll},
    manager::{
        checkpointing::Entry,
        waiting::{Mark, Position, Wakes},
    },
    segment::SegmentError,
};
use std::sync::{Arc, atomic::Ordering};

/// What became of the wish to sync a log.
#[derive(Debug)]
pub(in crate::manager) enum Begun {
    /// This has to be synced, to be durable up to the mark.
    Flush(PendingFlush, Mark),
    /// Somebody has the log: try again.
    Busy,
    /// There is nothing to do.
    Nothing,
}

impl Partition {
    /// The lowest mark of bytes that the journal has, and that the segments' files do not have or are not found in.
    pub(in crate::manager) fn oldest_mark(&self) -> Option<u64> {
        let (active, roll) = self.reader.newest();
        let gathered = active.and_then(|active| active.oldest_mark());
        gathered.into_iter().chain(roll.map(|roll| roll.oldest_mark())).min()
    }

    /// A roll that is under way.
    pub(in crate::manager) fn roll(&self) -> Option<Arc<Roll>> {
        self.reader.newest().1
    }

    /// Whether it holds memory.
    pub(in crate::manager) fn is_gathering(&self) -> bool {
        self.reader.active_segment().is_some_and(|active| active.is_gathering())
    }

    /// Whether nothing was appended since this was asked last, and memory is held.
    pub(in crate::manager) fn is_idle(&self) -> bool {
        let end = self.watch.get(Position::LogEnd);
        self.seen_end.swap(end, Ordering::Relaxed) == end && self.is_gathering()
    }

    /// Writes gathered bytes with a lower mark to the segment's file.
    pub(in crate::manager) fn spill_before(&self, mark: u64, now: u64) -> Result<(), LogError> {
        match self.reader.active_segment() {
            Some(active) => Ok(active.spill_before(mark, now).map_err(SegmentError::from)?),
            None => Ok(()),
        }
    }

    /// Writes everything to the segment's file and lets go of the memory, if nothing is being appended right now; `now` is the
    /// mark of frames that are added now. A disk that stands still meanwhile holds up nobody who appends.
    pub(in crate::manager) fn rest(&self, now: u64) -> Result<(), LogError> {
        self.spill_before(u64::MAX, now)?;
        match self.try_lock() {
            Some(mut guard) => guard.as_mut().map_or(Ok(()), |state| state.log.spill()),
            None => Ok(()),
        }
    }

    /// Notes that the segments have durably what frames below `mark` say, and where the next such moment will be; `now` is
    /// the mark of frames that are added now.
    pub(in crate::manager) fn on_checkpoint(&self, mark: u64, now: u64) {
        // Whoever has the log may be waiting for the thread that calls this.
        let Some(mut guard) = self.try_lock() else { return };
        let Some(state) = guard.as_mut() else { return };
        if let Some(candidate) = state.candidate.filter(|candidate| candidate.mark < mark) {
            state.log.raise_recovery_point(candidate.offset, candidate.cuts);
            state.candidate = None;
        }
        if state.candidate.is_none() && state.log.is_in_journal() && state.is_in_journal_up_to_its_end() {
            let offset = state.log.offsets().log_end;
            state.candidate = Some(Candidate { mark: now, offset, cuts: state.log.cuts() });
        }
    }

    /// Asks for what a recovery found and is not known to be durable to be made so.
    pub(in crate::manager) fn flush_recovered(&self) {
        if self.flushed() < self.watch.get(Position::LogEnd) {
            self.committer.request_flush(self.name());
        }
    }

    /// Begins a sync of the log, unless somebody else has it right now.
    pub(in crate::manager) fn begin_flush(&self) -> Begun {
        let Some(mut guard) = self.try_lock() else { return Begun::Busy };
        let Some(state) = guard.as_mut() else { return Begun::Nothing };
        let end = state.marks.end();
        let wakes = match state.log.begin_flush() {
            Ok(Some(flush)) => return Begun::Flush(flush, end),
            Ok(None) => self.watch.advance(&[(Position::Flushed, end)]),
            Err(error) => self.watch.fail(error.to_string().into()),
        };
        let poison = state.log.poison_cause();
        drop(guard);
        self.report_poison(poison);
        wakes.fire();
        Begun::Nothing
    }

    /// Ends a sync of the log, and tells whoever waits.
    pub(in crate::manager) fn finish_flush(
        &self,
        flush: &PendingFlush,
        end: Mark,
        result: std::io::Result<()>,
    ) -> Wakes {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return Wakes::default() };
        match state.log.finish_flush(flush, result) {
            Ok(recovery_point) if recovery_point >= end.offset => self.watch.advance(&[(Position::Flushed, end)]),
            // The log was cut meanwhile: those who waited were told.
            Ok(_) => Wakes::default(),
            Err(error) => {
                drop(guard);
                self.report_poison(Some(error.to_string()));
                Wakes::default()
            }
        }
    }

    /// Whether no sync of the log's files has failed. Waits for one that is under way. Takes no lock: whoever has the log
    /// may be waiting for the caller.
    pub(in crate::manager) fn is_sound(&self) -> bool {
        self.reader.active_segment().is_none_or(|active| active.is_sound())
    }

    /// Tells everybody who waits that nothing will come.
    pub(in crate::manager) fn fail(&self, cause: &str) {
        self.watch.fail(cause.into()).fire();
    }

    /// Takes the log out, to be closed or deleted; nobody gets it any more.
    pub(in crate::manager) fn take(&self) -> Option<Log> {
        let log = self.lock().take().map(|state| state.log);
        self.watch.close().fire();
        log
    }

    /// Makes the journal forget the log, durably, and takes it away; where that fails it stays. Its segments get everything first,
    /// unless the disk has no space and the log `is_deleted`: that makes space.
    pub(in crate::manager) fn take_out_of_journal(&self, is_deleted: bool) -> Result<(), LogError> {
        let mut guard = self.lock();
        if let Some(state) = guard.as_mut() {
            match state.log.leave_journal() {
                Err(LogError::DiskFull(_)) if is_deleted => state.log.discard()?,
                left => left?,
            }
        }
        drop(guard.take());
        drop(guard);
        self.watch.close().fire();
        Ok(())
    }

    /// What the checkpoints say of the log, if it is still there.
    pub(in crate::manager) fn checkpoint_entry(&self) -> Option<Entry> {
        self.lock().as_ref().map(|state| Entry::of(self.name(), &state.log))
    }
}
