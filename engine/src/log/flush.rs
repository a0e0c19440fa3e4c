//! What makes a log durable: flush, roll and close.

use super::{
    Log, LogError,
    state::{LogOffsetMetadata, LogOffsets},
};
use crate::{
    segment::{Gather, IndexLimits, Segment, SegmentError},
    storage::{File, StorageError},
    types::{Offset, Timestamp},
};
use std::sync::Arc;

impl Log {
    /// Makes every appended batch durable and moves the recovery point to the log end.
    ///
    /// # Errors
    /// [`LogError::Storage`] when the disk refuses: the log then takes no more appends, and the recovery point stays.
    /// [`LogError::Poisoned`] afterwards. [`LogError::DiskFull`] where a log manager gathers appends for which the disk has no
    /// space: everything is as before.
    pub fn flush(&mut self) -> Result<(), LogError> {
        self.flush_up_to(Offset::MAX)
    }

    /// Makes everything below `offset` (exclusive) durable and moves the recovery point there, at most to the log end
    /// (`UnifiedLog.flushUptoOffsetExclusive`). Costs nothing when the recovery point is there already.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub fn flush_up_to(&mut self, offset: Offset) -> Result<(), LogError> {
        self.check_writable()?;
        let offset = offset.min(self.shared.read().log_end.offset);
        if self.shared.read().recovery_point < offset {
            self.end_roll()?;
            let active = self.active()?;
            active.sync().map_err(|error| self.sync_failed(error))?;
            let mut view = self.shared.write();
            view.recovery_point = view.recovery_point.max(offset);
        }
        Ok(())
    }

    /// What the disk has no space for stays gathered, and nothing was synced; after any other failure nobody knows what is durable.
    pub(super) fn sync_failed(&mut self, error: StorageError) -> LogError {
        match error.is_disk_full() && !error.is_failed_sync() {
            true => LogError::DiskFull(error),
            false => self.poison(error),
        }
    }

    /// Flushes if `flush.ms` have passed since the last time; the host calls it now and then.
    ///
    /// # Errors
    /// As [`Log::flush`].
    pub fn flush_if_due(&mut self, now_ms: Timestamp) -> Result<bool, LogError> {
        let waited_ms = u64::try_from(now_ms.saturating_sub(self.last_flush_ms)).unwrap_or(0);
        if waited_ms < self.config().flush_ms {
            return Ok(false);
        }
        self.flush()?;
        self.last_flush_ms = now_ms;
        Ok(true)
    }

    /// Seals the active segment and begins a new one at the log end; its base offset. An empty active segment stays, and
    /// counts as new (`UnifiedLog.roll`).
    ///
    /// # Errors
    /// As [`Log::append_as_leader`].
    pub fn roll(&mut self, now_ms: Timestamp) -> Result<Offset, LogError> {
        self.check_writable()?;
        let log_end = self.shared.read().log_end.offset;
        self.roll_at(log_end, None, now_ms)?;
        Ok(log_end)
    }

    /// Begins a new segment at `base_offset`, which is at or above the log end.
    ///
    /// Steps, and what recovery finds after each: indexes, epochs and snapshot written, and these and the old segment synced
    /// (it is still the last one, and is read again); the epochs put in place (as before); the new, empty log file created and
    /// the directory synced (a sealed and an active segment). So a segment that has a successor is durable. Where batches
    /// `gather`, nobody waits for that: see [`super::rolling`].
    pub(super) fn roll_at(
        &mut self,
        base_offset: Offset,
        gather: Option<&Gather<'_>>,
        now_ms: Timestamp,
    ) -> Result<(), LogError> {
        self.end_roll()?;
        let active = self.active()?;
        self.producers.set_end_offset(base_offset);
        if active.base_offset() == base_offset {
            self.snapshots.take(&self.producers);
            self.snapshots.commit()?;
            self.flush_up_to(base_offset)?;
        } else if let Some(gather) = gather {
            self.begin_roll(active, base_offset, gather.mark)?;
        } else {
            self.flush_whole(&active)?;
            self.begin_segment(&active, base_offset)?;
        }
        self.active()?.set_created_ms(now_ms);
        self.segment_first_timestamp = None;
        Ok(())
    }

    /// Makes everything of the log durable, with what is derived from it: all is written first, and synced in one go.
    fn flush_whole(&mut self, active: &Segment) -> Result<(), LogError> {
        let epochs = self.begin_epoch_file()?;
        self.snapshots.take(&self.producers);
        let snapshots = self.snapshots.write()?;
        let beside: Vec<&File> =
            snapshots.iter().map(|(_, file)| file).chain(epochs.as_ref().map(|(_, file)| file)).collect();
        active.write_and_sync(&beside).map_err(|error| self.roll_failed(error))?;
        self.finish_epoch_file(epochs.map(|(epochs, _)| epochs))
    }

    fn begin_segment(&mut self, active: &Segment, base_offset: Offset) -> Result<(), LogError> {
        let config = self.config();
        let preallocate = config.preallocate.then_some(u64::from(config.segment_bytes));
        let limits = IndexLimits::from_config(&config);
        let segment = Segment::create(&self.shared.storage, Arc::clone(&self.dir), base_offset, limits, preallocate)
            .map_err(SegmentError::from)?;
        self.storage().sync_dir(&self.dir).map_err(|error| self.poison(error))?;
        active.release_index();
        let mut view = self.shared.write();
        let mut segments = view.segments().clone();
        segments.insert(Arc::new(segment));
        view.set_segments(segments);
        view.log_end = LogOffsetMetadata { offset: base_offset, segment_base_offset: base_offset, position: 0 };
        view.recovery_point = view.recovery_point.max(base_offset);
        Ok(())
    }

    /// A full disk leaves the log as it was; any other failure of a sync leaves its end unknown.
    fn roll_failed(&mut self, error: SegmentError) -> LogError {
        match error {
            SegmentError::Storage(error) => self.sync_failed(error),
            other => self.poison(other),
        }
    }

    /// Makes everything durable and leaves files from which the log opens without recovery, here and in Kafka: indexes
    /// with their last entries and a producer snapshot at the log end. The offsets that belong into the checkpoints.
    ///
    /// # Errors
    /// [`LogError::Storage`], [`LogError::DiskFull`] or [`LogError::Poisoned`]: the log must then be opened as unclean.
    pub fn close(mut self) -> Result<LogOffsets, LogError> {
        self.close_files()?;
        Ok(self.offsets_to_checkpoint())
    }

    /// As [`Log::close`], for who still asks the log afterwards.
    pub(crate) fn close_files(&mut self) -> Result<(), LogError> {
        self.check_writable()?;
        self.end_roll()?;
        let active = self.active()?;
        self.flush_whole(&active)?;
        let log_end = self.shared.read().log_end.offset;
        self.storage().sync_dir(&self.dir)?;
        self.shared.write().recovery_point = log_end;
        Ok(())
    }
}
