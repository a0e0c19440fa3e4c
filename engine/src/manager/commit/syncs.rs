//! Group commits, and freeing room in the journal.

use super::{Committer, FREE_FROM};
use crate::{
    log::LogError,
    manager::{
        events::Event,
        histogram::Recorder,
        journal::Journal,
        partition::{Begun, Partition},
        waiting::Wakes,
    },
    storage::Op,
    types::TopicPartition,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// From here on partitions that gather slowly are written in part, so that room can be freed at all.
const SPILL_FROM: u64 = 800;
/// Up to where they are written then.
const SPILL_TO_FREE: u64 = 500;
/// A checkpoint that frees less of the journal, in thousandths, is put off while it is busy.
const WORTH_FREEING: u64 = 200;
/// Segments synced at once, each with its file open.
const FILES_AT_ONCE: usize = 256;

impl Committer {
    /// Does what is asked for; whether anything was.
    pub(in crate::manager) fn step_sync(&self) -> bool {
        let asked = std::mem::take(&mut *self.requests());
        if self.failed.get().is_some() {
            return false;
        }
        if asked.room {
            self.tell_of_room_by_thread(false);
        }
        if asked.journal {
            self.make_journal_for_appends();
        }
        if !asked.flushes.is_empty() {
            self.group_commit(&asked.flushes);
        }
        if !asked.rolls.is_empty() {
            self.note_outcome(self.end_rolls(&self.known(&asked.rolls)));
        }
        if asked.checkpoint || asked.checkpoint_anyway {
            self.note_outcome(self.checkpoint(asked.checkpoint_anyway));
            self.tell_of_room_by_thread(false);
        }
        !asked.is_empty()
    }

    fn note_outcome(&self, outcome: Result<(), LogError>) {
        match outcome {
            Ok(()) => {}
            // What could not be written stays in memory and in the journal.
            Err(LogError::DiskFull(refused)) => self.space.note_full(&refused.path, &self.events),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Those of these partitions that are there.
    fn known(&self, names: &BTreeSet<TopicPartition>) -> Vec<Arc<Partition>> {
        let known = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter_map(|name| known.get(name)?.upgrade()).collect()
    }

    /// Waits until something is asked for, the time has passed, or the work is to end; whether something is asked for.
    pub(in crate::manager) fn wait_for_requests(&self, timeout: Duration) -> bool {
        let mut requests = self.requests();
        if requests.is_empty() && !self.is_stopping() {
            requests = self.requested.wait_timeout(requests, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
        !requests.is_empty()
    }

    /// Ends the threads.
    pub(in crate::manager) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // Under the lock, so that nobody goes to sleep without having seen it.
        drop(self.requests());
        self.requested.notify_all();
        self.stop_stepping();
    }

    pub(in crate::manager) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Lets partitions to which nothing was appended since the last time write what they gathered, and hold no memory.
    pub(in crate::manager) fn tick(&self) {
        let partitions = self.partitions();
        let mut idle = partitions.iter().filter(|partition| partition.is_idle());
        // What is appended meanwhile may bear an earlier mark than it has to.
        let now = self.journal.get().map_or(0, |journal| journal.mark());
        let rested = idle.try_for_each(|partition| partition.rest(now));
        // While it is written the checkpoints are asked for by how full it is.
        let rests = |journal: &Journal| self.seen_mark.swap(journal.mark(), Ordering::Relaxed) == journal.mark();
        let is_left_over = self.journal.get().is_some_and(|journal| rests(journal) && journal.fill_per_mille() > 0);
        self.space.tick(&self.events);
        self.retry_stalled();
        self.forget_released();
        if self.pool.in_use() == 0 {
            self.pool.trim();
        }
        match rested {
            Ok(()) => {}
            Err(LogError::DiskFull(_)) => self.space.note_refusal(&self.events),
            Err(error) => return self.fail(&error.to_string()),
        }
        if is_left_over {
            self.request(|requests| requests.checkpoint_anyway = true);
        }
        self.tell_of_room(true);
    }

    /// Moves all work on, on this thread, and tells those who wait for room; whether anything was done.
    pub(in crate::manager) fn poll(&self) -> bool {
        let (was_asked, got_on) = self.step_all();
        self.tell_of_room(got_on);
        was_asked || got_on
    }

    /// Moves all work on, on this thread; whether anything was asked for, and whether the journal got on.
    pub(super) fn step_all(&self) -> (bool, bool) {
        (self.step_sync(), self.poll_journal())
    }

    /// Syncs the logs of all these partitions, as many at once as may be open.
    fn group_commit(&self, names: &BTreeSet<TopicPartition>) {
        self.known(names).chunks(FILES_AT_ONCE).for_each(|some| self.commit_together(some));
    }

    fn commit_together(&self, partitions: &[Arc<Partition>]) {
        let mut begun = Vec::new();
        for partition in partitions {
            match partition.begin_flush() {
                Begun::Flush(flush, end) => begun.push((partition, (flush, end))),
                Begun::Busy => self.request_flush(partition.name()),
                Begun::Nothing => {}
            }
        }
        let mut ops: Vec<_> = begun.iter().map(|(_, (flush, _))| Op::sync(&flush.file)).collect();
        let begun_at = Instant::now();
        self.storage.run(&mut ops);
        self.note_sync(&self.metrics.group_commit_us, begun_at.elapsed());
        self.metrics.group_commit_sizes.record(u64::try_from(ops.len()).unwrap_or(0));
        self.metrics.group_commits.add(1);
        self.metrics.group_commit_files.add(u64::try_from(ops.len()).unwrap_or(0));
        let mut wakes = Wakes::default();
        for (op, (partition, (flush, end))) in ops.iter_mut().zip(&begun) {
            wakes.append(partition.finish_flush(flush, *end, op.take_result().map(drop)));
        }
        wakes.fire();
    }

    /// Syncs the file system.
    pub(super) fn sync_all(&self) -> Result<(), LogError> {
        let begun_at = Instant::now();
        self.storage.sync_all()?;
        self.note_sync(&self.metrics.sync_all_us, begun_at.elapsed());
        self.metrics.sync_all.add(1);
        Ok(())
    }

    fn note_sync(&self, times: &Recorder, took: Duration) {
        times.record_time(took);
        if took > self.options.slow_sync {
            self.events.note(Event::SlowSync { took });
        }
    }

    /// Frees room in the journal: what its oldest blocks hold is made durable in the segments.
    ///
    /// Steps, and what a replay does after a crash behind each: pieces written (it writes them again); segments synced (the
    /// same); the anchor moved (it begins with a later block).
    fn checkpoint(&self, anyway: bool) -> Result<(), LogError> {
        let Some(journal) = self.journal.get() else { return Ok(()) };
        self.retry_stalled();
        self.forget_released();
        let fill = journal.fill_per_mille();
        let is_short = self.trim_kept() > 0;
        let durable = journal.durable();
        let now = journal.mark();
        let partitions = self.partitions();
        self.end_rolls(&partitions)?;
        self.choose_piece_bytes(&partitions);
        // A block may find no place in a journal that is far from full.
        let must_free = fill >= SPILL_FROM || is_short || anyway;
        let must_reach = if must_free { journal.mark_to_free(SPILL_TO_FREE) } else { 0 };
        let mut reached = durable;
        for partition in &partitions {
            let Some(oldest) = partition.oldest_mark() else { continue };
            if oldest < must_reach && is_short {
                partition.rest(now)?;
            } else if oldest < must_reach {
                partition.spill_before(must_reach, now)?;
            }
            reached = reached.min(partition.oldest_mark().unwrap_or(durable));
        }
        // A sync costs the same whatever it frees.
        let frees = journal.per_mille_below(reached);
        if frees == 0 || (frees < WORTH_FREEING && fill < SPILL_FROM && !anyway) {
            return Ok(());
        }
        self.sync_all()?;
        // A sync of a segment that failed beside this one may have taken along what this one should have written.
        if !partitions.iter().all(|partition| partition.is_sound()) {
            self.fail("a sync of a segment failed");
            return Ok(());
        }
        journal.free_before(reached)?;
        self.free_from.store(FREE_FROM, Ordering::Relaxed);
        self.metrics.checkpoints.add(1);
        self.space.note_written();
        journal.wake();
        for partition in &partitions {
            partition.on_checkpoint(reached, journal.mark());
        }
        Ok(())
    }

    /// Tries again to write what the disk had no room for.
    pub(in crate::manager) fn retry_stalled(&self) {
        self.space.retry();
        let stalled = std::mem::take(&mut *self.stalled.lock().unwrap_or_else(PoisonError::into_inner));
        self.write_pieces(stalled.into_iter());
    }
}
