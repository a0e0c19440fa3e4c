//! Where Kafka replaces an offset while it only looks up its position, and the engine keeps the offset.
//!
//! Kafka's high watermark may be known by its offset alone. The first read that is bounded by it, and the first attempt to
//! raise it, looks up where that offset lies, and stores the base offset of the batch that it finds: inside a batch the
//! high watermark moves down, in a gap up. The last stable offset does the same where the log start lies inside an open
//! transaction. Here these moves are made with the engine's own calls or in the answers, so that scripts which reach them
//! can be compared further on. `docs/KAFKA.md` says what the engine does instead, and why.

use duramen::{Fetch, Isolation, Log, LogError, LogOffsetMetadata, LogOffsets};

/// What Kafka would hold instead of the engine's offsets.
#[derive(Debug, Default)]
pub(super) struct Slips {
    /// Whether the high watermark is known by its offset alone.
    offset_only: bool,
    /// A high watermark below the log start, which the engine does not take.
    below_log_start: Option<i64>,
    /// The first undecided offset as it was before a truncation, which Kafka forgets to look at again.
    stale_first_unstable: Option<Option<i64>>,
}

/// Where a look-up of this offset ends: at a batch.
pub(super) fn find(log: &Log, offset: i64) -> Result<Option<LogOffsetMetadata>, LogError> {
    let fetch = Fetch { offset, max_bytes: 1, isolation: Isolation::LogEnd, min_one_batch: true };
    match log.reader().read(fetch) {
        Ok(fetched) => Ok(fetched.start),
        Err(LogError::OffsetOutOfRange { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Base offset of the batch that a look-up of this offset finds. Below the log start nothing can be read, but the first
/// batch above may begin there.
fn look_up(log: &Log, offset: i64) -> Result<i64, LogError> {
    let log_start = log.offsets().log_start;
    let found = find(log, offset.max(log_start))?.map(|start| start.offset);
    Ok(found.filter(|base| offset >= log_start || *base <= offset).unwrap_or(offset))
}

impl Slips {
    pub(super) fn on_high_watermark_set(&mut self, offset_only: bool) {
        *self = Self { offset_only, ..Self::default() };
    }

    /// At the log end the position is known.
    pub(super) fn on_append(&mut self, log: &Log) {
        self.stale_first_unstable = None;
        self.on_roll(log);
    }

    /// As an append.
    pub(super) fn on_roll(&mut self, log: &Log) {
        let offsets = log.offsets();
        if self.high_watermark(&offsets) >= offsets.log_end {
            self.on_high_watermark_set(false);
        }
    }

    /// `before` is what the first undecided offset was.
    pub(super) fn on_truncation(&mut self, log: &Log, before: Option<i64>) {
        let offsets = log.offsets();
        if self.high_watermark(&offsets) >= offsets.log_end {
            self.on_high_watermark_set(false);
        } else {
            self.stale_first_unstable = Some(before);
        }
    }

    /// Moving the log start above the high watermark's offset sets that anew.
    pub(super) fn on_log_start(&mut self, moved: bool) {
        if moved {
            self.stale_first_unstable = None;
            self.offset_only |= self.below_log_start.take().is_some();
        }
    }

    /// The log start may not move above the high watermark, wherever Kafka has that.
    pub(super) fn check_log_start(&self, log: &Log, offset: i64) -> Result<(), LogError> {
        let offsets = log.offsets();
        let high_watermark = self.high_watermark(&offsets);
        if offset > high_watermark {
            let (log_start, log_end) = (offsets.log_start, high_watermark);
            return Err(LogError::OffsetOutOfRange { offset, log_start, log_end });
        }
        Ok(())
    }

    pub(super) fn high_watermark(&self, offsets: &LogOffsets) -> i64 {
        self.below_log_start.unwrap_or(offsets.high_watermark)
    }

    /// The first undecided offset below the high watermark, as Kafka looks it up.
    pub(super) fn last_stable(&self, log: &Log) -> i64 {
        let offsets = log.offsets();
        let high_watermark = self.high_watermark(&offsets);
        self.first_unstable(log).map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// Where the log start lies inside the transaction, its batch is looked up.
    pub(super) fn first_unstable(&self, log: &Log) -> Option<i64> {
        if let Some(stale) = self.stale_first_unstable {
            return stale;
        }
        let first = log.first_unstable_offset()?;
        Some(if first == log.offsets().log_start { look_up(log, first).unwrap_or(first) } else { first })
    }

    pub(super) fn bound(&self, log: &Log, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::LogEnd => log.offsets().log_end,
            Isolation::HighWatermark => self.high_watermark(&log.offsets()),
            Isolation::ReadCommitted => self.last_stable(log),
        }
    }

    /// A read up to the high watermark looks it up.
    pub(super) fn on_bounded_read(&mut self, log: &mut Log, isolation: Isolation) -> Result<(), LogError> {
        if isolation != Isolation::LogEnd { self.resolve(log) } else { Ok(()) }
    }

    fn resolve(&mut self, log: &mut Log) -> Result<(), LogError> {
        if !std::mem::take(&mut self.offset_only) {
            return Ok(());
        }
        let found = look_up(log, log.offsets().high_watermark)?;
        self.set(log, found);
        Ok(())
    }

    fn set(&mut self, log: &mut Log, offset: i64) {
        let moved = log.update_high_watermark(offset);
        self.stale_first_unstable = None;
        self.below_log_start = (offset < moved).then_some(offset);
    }

    /// Raises the high watermark to the batch that a look-up of `offset` finds; whether it moved.
    pub(super) fn increment_high_watermark(&mut self, log: &mut Log, offset: i64) -> Result<bool, LogError> {
        let offset = look_up(log, offset)?;
        if offset > log.offsets().log_end {
            return log.maybe_increment_high_watermark(offset).map(|moved| moved.is_some());
        }
        self.resolve(log)?;
        if offset <= self.high_watermark(&log.offsets()) {
            return Ok(false);
        }
        self.set(log, offset);
        Ok(true)
    }
}
