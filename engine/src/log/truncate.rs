//! Cutting a log: at an offset, or wholly.
//!
//! What is lowered in the checkpoints is durable before anything is cut; segments go newest first, each durably; the cut
//! itself is durable before the log takes appends again. A crash at any step leaves a prefix of the log.

use super::{
    Log, LogError,
    epochs::EpochCache,
    open,
    rebuild::Rebuild,
    state::{LogOffsetMetadata, LogOffsets, Segments, View},
};
use crate::{
    segment::{IndexLimits, Segment, SegmentError},
    types::{Offset, Timestamp},
};
use std::sync::Arc;

/// A cut inside a batch, which goes whole: the log ends in a gap that no file tells of.
#[derive(Debug, Clone, Copy)]
pub(super) struct CutInBatch {
    log_end: Offset,
    /// Where the last batch ends: the next open finds the log's end there.
    end_on_disk: Offset,
}

impl CutInBatch {
    /// Whether no batch behind the cut is durable yet.
    fn is_end_of(&self, view: &View) -> bool {
        view.recovery_point <= self.log_end && view.log_end.segment_base_offset < self.log_end
    }
}

impl Log {
    /// Removes every record at or above `offset`; whether there was any (`UnifiedLog.truncateTo`). An offset inside a
    /// batch cuts the whole batch, and the log then ends at `offset` with a gap below it. At or above the log end no
    /// record goes, but an epoch that began there without a record is forgotten.
    ///
    /// Readers keep the bytes of slices that they hold.
    ///
    /// # Errors
    /// [`LogError::InvalidArgument`] for a negative offset; otherwise as [`Log::flush`].
    pub fn truncate_to(&mut self, offset: Offset, now_ms: Timestamp) -> Result<bool, LogError> {
        self.check_writable()?;
        if offset < 0 {
            return Err(LogError::InvalidArgument { what: "offset", value: offset, why: "it is negative" });
        }
        let view = self.shared.view();
        if offset >= view.log_end.offset {
            let mut epochs = view.epochs.clone();
            if epochs.truncate_from_end(view.log_end.offset) {
                self.publish_epochs(epochs)?;
            }
            return Ok(false);
        }
        if view.segments().first().is_none_or(|first| first.base_offset() > offset) {
            self.truncate_fully_and_start_at(offset, None, now_ms)?;
            return Ok(true);
        }
        self.revoke_cleaning();
        self.leave_journal()?;
        self.note_cut();
        let end_on_disk = self.end_on_disk(offset)?;
        let recovery_point = self.lower_checkpoints(end_on_disk)?;
        let result = self.cut_to(offset, recovery_point, now_ms);
        result.map_err(|error| self.poison(error))?;
        self.cut_in_batch = (end_on_disk < offset).then_some(CutInBatch { log_end: offset, end_on_disk });
        Ok(true)
    }

    /// The offsets as checkpoints may tell them: as [`Log::offsets`], but behind a cut inside a batch recovery point and log
    /// start are not above the end that the next open finds. [`LogDirectory`](crate::LogDirectory) takes these.
    #[must_use]
    pub fn offsets_to_checkpoint(&self) -> LogOffsets {
        let view = self.shared.read();
        let mut offsets = view.offsets();
        if let Some(cut) = self.cut_in_batch.filter(|cut| cut.is_end_of(&view)) {
            offsets.recovery_point = offsets.recovery_point.min(cut.end_on_disk);
            offsets.log_start = offsets.log_start.min(cut.end_on_disk);
        }
        offsets
    }

    /// Lowers what is known to be durable, on the disk and here: a checkpoint written after a cut that failed must not
    /// promise what it took away. The recovery point as it was, for after a cut that did not fail.
    fn lower_checkpoints(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.checkpoints.lower(&self.shared.partition, offset)?;
        let mut view = self.shared.write();
        let recovery_point = view.recovery_point;
        view.recovery_point = recovery_point.min(offset);
        Ok(recovery_point)
    }

    /// Where recovery finds the end of the log after a cut at an offset: behind the last batch that lies below it.
    fn end_on_disk(&self, offset: Offset) -> Result<Offset, LogError> {
        let last = self.shared.read().segments().floor(offset).map(Arc::clone).ok_or_else(open::no_segment)?;
        let log = last.log()?;
        let end_from = |from: u64| {
            let mut end = last.base_offset();
            last.scan_for(&log, from, |header| {
                let stays = header.last_offset() < offset;
                end = if stays { header.next_offset() } else { end };
                !stays
            })?;
            Ok::<_, SegmentError>(end)
        };
        let from = last.lookup_entry(offset.saturating_sub(1))?.map_or(0, |entry| u64::from(entry.position));
        match end_from(from) {
            // The index may lie.
            Err(SegmentError::Corrupt { .. }) if from > 0 => Ok(end_from(0)?),
            end => Ok(end?),
        }
    }

    fn cut_to(&mut self, offset: Offset, recovery_point: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        let view = self.shared.view();
        let mut segments = view.segments().clone();
        self.remove_newest_while(&mut segments, |base_offset| base_offset > offset)?;
        let last = segments.active().map(Arc::clone).ok_or_else(open::no_segment)?;
        let cut = match last.locate(offset)? {
            Some(found) => last.truncate(offset, found.position)?,
            None => last.truncate(offset, last.size())?,
        };
        let first_timestamp = self.first_timestamp(&cut)?;
        segments.insert(Arc::clone(&cut));
        let mut epochs = view.epochs.clone();
        if epochs.truncate_from_end(offset) {
            self.publish_epochs(epochs)?;
        }
        let log_start = view.log_start.min(offset);
        let rebuild = Rebuild {
            storage: &*self.shared.storage,
            segments: &segments,
            log_start,
            now_ms,
            expiration_ms: self.producer_id_expiration_ms,
        };
        rebuild.run(&mut self.producers, &mut self.snapshots, offset)?;
        self.snapshots.commit()?;
        let mut view = self.shared.write();
        view.set_segments(segments);
        view.log_start = log_start;
        view.log_end = LogOffsetMetadata { offset, segment_base_offset: cut.base_offset(), position: cut.size() };
        view.recovery_point = recovery_point.min(offset);
        view.high_watermark = view.high_watermark.clamp(log_start, offset);
        self.producers.on_high_watermark(view.high_watermark);
        view.first_unstable = self.producers.first_unstable_offset();
        drop(view);
        self.segment_first_timestamp = first_timestamp;
        if cut.size() == 0 {
            cut.set_created_ms(now_ms);
        }
        Ok(())
    }

    /// Removes every record and begins anew at `offset`; with `log_start_offset` below it if given
    /// (`UnifiedLog.truncateFullyAndStartAt`). Epochs and producers are forgotten.
    ///
    /// # Errors
    /// [`LogError::InvalidArgument`] for a negative offset or a log start above it; otherwise as [`Log::flush`].
    pub fn truncate_fully_and_start_at(
        &mut self,
        offset: Offset,
        log_start_offset: Option<Offset>,
        now_ms: Timestamp,
    ) -> Result<(), LogError> {
        self.check_writable()?;
        let log_start = log_start_offset.unwrap_or(offset);
        if log_start < 0 || log_start > offset {
            let why = "it is negative or above the offset to start at";
            return Err(LogError::InvalidArgument { what: "log start offset", value: log_start, why });
        }
        self.leave_journal()?;
        self.note_cut();
        // Between the steps the log ends where the old one began.
        let recovery_point = self.lower_checkpoints(log_start.min(self.first_base_offset()))?;
        self.revoke_cleaning();
        let result = self.start_over(offset, log_start, recovery_point.min(offset));
        result.map_err(|error| self.poison(error))?;
        self.active()?.set_created_ms(now_ms);
        self.segment_first_timestamp = None;
        self.cut_in_batch = None;
        Ok(())
    }

    /// Steps, and what recovery finds after each: newer segments removed (a prefix of the log); the oldest one emptied
    /// (an empty log where the old one began); the new one made (an empty log at `offset`, or, if that lies below, still
    /// the one before); the oldest one removed.
    fn start_over(&mut self, offset: Offset, log_start: Offset, recovery_point: Offset) -> Result<(), LogError> {
        let mut segments = self.shared.read().segments().clone();
        let oldest = segments.first().map(Arc::clone).ok_or_else(open::no_segment)?;
        self.remove_newest_while(&mut segments, |base_offset| base_offset > oldest.base_offset())?;
        let emptied = oldest.truncate(oldest.base_offset(), 0)?;
        self.snapshots.retain(|_| false);
        self.snapshots.on_log_start(offset);
        self.snapshots.commit()?;
        self.publish_epochs(EpochCache::default())?;
        let limits = IndexLimits::from_config(&self.config());
        if emptied.base_offset() == offset {
            segments.insert(emptied);
        } else {
            let segment = Segment::create(&self.shared.storage, Arc::clone(&self.dir), offset, limits, None)
                .map_err(SegmentError::from)?;
            self.storage().sync_dir(&self.dir)?;
            open::remove_segment(self.storage(), &self.dir, &emptied)?;
            segments.remove(emptied.base_offset());
            segments.insert(Arc::new(segment));
        }
        self.producers.reset_to(&[], offset, 0, 0);
        let mut view = self.shared.write();
        view.set_segments(segments);
        view.log_start = log_start;
        view.high_watermark = offset;
        view.first_unstable = None;
        view.recovery_point = recovery_point;
        view.log_end = LogOffsetMetadata { offset, segment_base_offset: offset, position: 0 };
        Ok(())
    }

    fn remove_newest_while(
        &mut self,
        segments: &mut Segments,
        unwanted: impl Fn(Offset) -> bool,
    ) -> Result<(), LogError> {
        while let Some(newest) = segments.active().map(Arc::clone).filter(|newest| unwanted(newest.base_offset())) {
            open::remove_segment(self.storage(), &self.dir, &newest)?;
            segments.remove(newest.base_offset());
            self.snapshots.remove(newest.base_offset());
        }
        Ok(())
    }
}
