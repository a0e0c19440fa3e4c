//! What moves beside appends: high watermark, log start and leader epochs.

use super::{Log, LogError};
use crate::types::{LeaderEpoch, Offset};

impl Log {
    /// Records that an epoch of a new leader begins at the log end, durably, before it appends anything
    /// (`UnifiedLog.assignEpochStartOffset`). In a [`crate::LogManager`] it is durable with the first batch that carries it:
    /// no open keeps an epoch that begins at the end.
    ///
    /// # Errors
    /// [`LogError::InvalidArgument`] for a negative epoch or offset; [`LogError::Storage`] when it cannot be written.
    pub fn assign_epoch_start_offset(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), LogError> {
        self.check_writable()?;
        if epoch < 0 || start_offset < 0 {
            let value = i64::from(epoch).min(start_offset);
            return Err(LogError::InvalidArgument { what: "leader epoch", value, why: "it is negative" });
        }
        let (known, log_end) = {
            let view = self.shared.read();
            (view.epochs.clone(), view.log_end.offset)
        };
        let mut epochs = known.clone();
        match epochs.assign(epoch, start_offset) {
            false => Ok(()),
            // No open keeps an epoch that begins at the end and has no batch.
            true if start_offset == log_end => self.add_epochs(epochs, &known),
            true => self.publish_epochs(epochs),
        }
    }

    /// Moves the high watermark to `offset`, up or down, but not below the log start nor beyond the log end; where it is now
    /// (`UnifiedLog.updateHighWatermark`). For followers, whom a new leader may tell of a lower one; where it only ever rises there
    /// is [`Log::maybe_increment_high_watermark`]. Answers that were given stay given.
    pub fn update_high_watermark(&mut self, offset: Offset) -> Offset {
        let mut view = self.shared.write();
        view.high_watermark = offset.clamp(view.log_start, view.log_end.offset);
        self.producers.on_high_watermark(view.high_watermark);
        view.first_unstable = self.producers.first_unstable_offset();
        view.high_watermark
    }

    /// Says that there are no other replicas: the high watermark goes to the log end, and with it from now on.
    pub fn set_sole_replica(&mut self) {
        self.is_sole_replica = true;
        self.update_high_watermark(Offset::MAX);
    }

    /// Moves the high watermark up to `offset`, as a leader does once replicas have it; where it was, or `None` if it does
    /// not move (`UnifiedLog.maybeIncrementHighWatermark`).
    ///
    /// # Errors
    /// [`LogError::InvalidArgument`] above the log end.
    pub fn maybe_increment_high_watermark(&mut self, offset: Offset) -> Result<Option<Offset>, LogError> {
        let offsets = self.offsets();
        if offset > offsets.log_end {
            let why = "it lies above the log end";
            return Err(LogError::InvalidArgument { what: "high watermark", value: offset, why });
        }
        if offset <= offsets.high_watermark {
            return Ok(None);
        }
        self.update_high_watermark(offset);
        Ok(Some(offsets.high_watermark))
    }

    /// Moves the first readable offset up to `offset`; whether it moved (`UnifiedLog.maybeIncrementLogStartOffset`).
    /// The records below are gone for readers at once; their segments go with retention. Flushes first if the log is
    /// not durable up to there, so that after a crash the log never ends below its start.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] above the high watermark; as [`Log::flush`].
    pub fn increment_log_start_offset(&mut self, offset: Offset) -> Result<bool, LogError> {
        self.check_writable()?;
        let offsets = self.offsets();
        if offset > offsets.high_watermark {
            let (log_start, log_end) = (offsets.log_start, offsets.high_watermark);
            return Err(LogError::OffsetOutOfRange { offset, log_start, log_end });
        }
        if offset <= offsets.log_start {
            return Ok(false);
        }
        self.flush_up_to(offset)?;
        let mut epochs = self.shared.read().epochs.clone();
        if epochs.truncate_from_start(offset) {
            self.drop_oldest_epochs(epochs)?;
        }
        let mut view = self.shared.write();
        view.log_start = offset;
        self.producers.on_log_start(offset);
        self.snapshots.on_log_start(offset);
        view.first_unstable = self.producers.first_unstable_offset();
        Ok(true)
    }
}
