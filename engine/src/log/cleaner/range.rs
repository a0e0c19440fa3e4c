//! What of a log a cleaning would take: from facts of its segments to offsets, bytes and the dirty ratio.
//!
//! Follows `LogCleanerManager.cleanableOffsets`, `calculateCleanableBytes`, `maxCompactionDelay` and `LogToClean`. Pure.

use crate::{
    config::LogConfig,
    types::{Offset, Timestamp},
};

/// What the decision needs to know of one sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentFacts {
    pub(super) base_offset: Offset,
    pub(super) size: u64,
    /// Greatest timestamp of a record, else when the file was last modified; asked for only if there is a least lag.
    pub(super) largest_timestamp: Option<Timestamp>,
    /// Greatest timestamp of the first batch.
    pub(super) first_timestamp: Option<Timestamp>,
}

/// What the decision needs to know of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogFacts {
    /// Where the last cleaning ended.
    pub(super) checkpoint: Option<Offset>,
    pub(super) log_start: Offset,
    pub(super) last_stable: Offset,
    pub(super) log_end: Offset,
    pub(super) active_base: Offset,
    pub(super) active_size: u64,
}

/// What a cleaning of a log would take, and whether it is worth it. Plain values; see [`crate::Log::log_to_clean`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogToClean {
    /// First offset that no cleaning has seen, inclusive.
    pub first_dirty_offset: Offset,
    /// First offset that may not be cleaned yet, exclusive end of the cleaning; the base of a segment.
    pub first_uncleanable_offset: Offset,
    /// Bytes of the segments below the first dirty offset.
    pub clean_bytes: u64,
    /// Bytes of the segments between the two offsets.
    pub cleanable_bytes: u64,
    /// By how many ms `max.compaction.lag.ms` has passed for the oldest dirty segment; 0 while it has not.
    pub compaction_delay_ms: u64,
    /// Whether the checkpoint did not fit the log: the host stores `first_dirty_offset` in its place.
    pub force_update_checkpoint: bool,
    /// Whether the log's configuration wants it cleaned now.
    pub is_eligible: bool,
}

impl LogToClean {
    /// The part of the bytes that is dirty, 0 to 1; a host cleans the log with the greatest first. 0 for an empty log.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a ratio needs no more than 53 bits
    pub fn cleanable_ratio(&self) -> f64 {
        let total = self.clean_bytes.saturating_add(self.cleanable_bytes);
        if total == 0 { 0.0 } else { self.cleanable_bytes as f64 / total as f64 }
    }
}

/// First dirty offset, and whether the checkpoint has to be replaced by it.
pub(super) fn first_dirty(log: &LogFacts) -> (Offset, bool) {
    match log.checkpoint {
        Some(checkpoint) if checkpoint < log.log_start || checkpoint > log.log_end => (log.log_start, true),
        Some(checkpoint) => (checkpoint, false),
        None => (log.log_start, false),
    }
}

/// Decides on a log with these sealed segments, ascending.
pub(super) fn decide(log: &LogFacts, sealed: &[SegmentFacts], config: &LogConfig, now_ms: Timestamp) -> LogToClean {
    let (first_dirty_offset, force_update_checkpoint) = first_dirty(log);
    let dirty = if first_dirty_offset >= log.active_base { &[] } else { from_floor(sealed, first_dirty_offset) };
    let uncleanable = log.last_stable.min(log.active_base).min(first_in_lag(dirty, config, now_ms));
    let uncleanable = first_dirty_offset.max(uncleanable);
    let first_uncleanable_offset = if uncleanable > log.active_base {
        log.active_base
    } else {
        let below = sealed.iter().rev().find(|segment| segment.base_offset <= uncleanable);
        below.or(sealed.first()).map_or(log.active_base, |segment| {
            if uncleanable == log.active_base { log.active_base } else { segment.base_offset }
        })
    };
    let clean = sealed.iter().filter(|segment| segment.base_offset < first_dirty_offset);
    let active = if log.active_base < first_dirty_offset { log.active_size } else { 0 };
    let clean_bytes = clean.map(|segment| segment.size).sum::<u64>().saturating_add(active);
    let cleanable =
        if first_dirty_offset < first_uncleanable_offset { from_floor(sealed, first_dirty_offset) } else { &[] };
    let cleanable_bytes =
        cleanable.iter().take_while(|segment| segment.base_offset < first_uncleanable_offset).map(|s| s.size).sum();
    let compaction_delay_ms = compaction_delay_ms(dirty, config, now_ms);
    let to_clean = LogToClean {
        first_dirty_offset,
        first_uncleanable_offset,
        clean_bytes,
        cleanable_bytes,
        compaction_delay_ms,
        force_update_checkpoint,
        is_eligible: false,
    };
    let is_eligible = (compaction_delay_ms > 0 && cleanable_bytes > 0)
        || to_clean.cleanable_ratio() > config.min_cleanable_dirty_ratio;
    LogToClean { is_eligible, ..to_clean }
}

/// The segments from the one that holds an offset on.
pub(super) fn from_floor(sealed: &[SegmentFacts], offset: Offset) -> &[SegmentFacts] {
    let above = sealed.partition_point(|segment| segment.base_offset <= offset);
    sealed.get(above.saturating_sub(1)..).unwrap_or_default()
}

/// Base of the first dirty segment with a record younger than `min.compaction.lag.ms`.
fn first_in_lag(dirty: &[SegmentFacts], config: &LogConfig, now_ms: Timestamp) -> Offset {
    let oldest_ms = now_ms.saturating_sub(i64::try_from(config.min_compaction_lag_ms).unwrap_or(i64::MAX));
    let young = |segment: &&SegmentFacts| segment.largest_timestamp.is_some_and(|largest| largest > oldest_ms);
    if config.min_compaction_lag_ms == 0 {
        return Offset::MAX;
    }
    dirty.iter().find(young).map_or(Offset::MAX, |segment| segment.base_offset)
}

fn compaction_delay_ms(dirty: &[SegmentFacts], config: &LogConfig, now_ms: Timestamp) -> u64 {
    let lag_ms = i64::try_from(config.max_compaction_lag_ms).unwrap_or(i64::MAX);
    let clean_until_ms = now_ms.saturating_sub(lag_ms);
    let earliest = dirty.iter().filter_map(|segment| segment.first_timestamp).filter(|timestamp| *timestamp > 0).min();
    earliest.map_or(0, |earliest| u64::try_from(clean_until_ms.saturating_sub(earliest)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn segment(base_offset: Offset, time: Timestamp) -> SegmentFacts {
        SegmentFacts { base_offset, size: 100, largest_timestamp: Some(time), first_timestamp: Some(time) }
    }

    fn sealed() -> [SegmentFacts; 3] {
        [segment(0, 1000), segment(10, 2000), segment(20, 3000)]
    }

    fn log() -> LogFacts {
        LogFacts { checkpoint: None, log_start: 0, last_stable: 35, log_end: 35, active_base: 30, active_size: 50 }
    }

    fn decided(log: LogFacts, config: &LogConfig, now_ms: Timestamp) -> (Offset, Offset, u64, u64) {
        let found = decide(&log, &sealed(), config, now_ms);
        (found.first_dirty_offset, found.first_uncleanable_offset, found.clean_bytes, found.cleanable_bytes)
    }

    // M 203, 206, 208
    #[test]
    fn range_follows_checkpoint_stable_offset_and_active_segment() {
        let config = LogConfig::default();
        let checkpoint = |offset| LogFacts { checkpoint: Some(offset), ..log() };
        let stable = |last_stable| LogFacts { last_stable, ..log() };
        let cases = [
            ("all dirty", log(), (0, 30, 0, 300)),
            ("half clean", checkpoint(10), (10, 30, 100, 200)),
            ("dirty from the middle of a segment", checkpoint(15), (15, 30, 200, 200)),
            ("all clean", checkpoint(30), (30, 30, 300, 0)),
            ("dirty inside the active segment", checkpoint(33), (33, 30, 350, 0)),
            ("undecided data in the second segment", stable(15), (0, 10, 0, 100)),
            ("undecided data at a base", stable(20), (0, 20, 0, 200)),
            ("undecided from the start", stable(5), (0, 0, 0, 0)),
            ("log start raised", LogFacts { log_start: 12, ..log() }, (12, 30, 200, 200)),
        ];
        for (name, log, expected) in cases {
            assert_eq!(decided(log, &config, 0), expected, "{name}");
        }
    }

    // M 205
    #[test]
    fn checkpoint_outside_the_log_starts_over_and_is_replaced() {
        let with = |checkpoint| LogFacts { checkpoint, log_start: 10, ..log() };
        assert_eq!(first_dirty(&with(Some(9))), (10, true));
        assert_eq!(first_dirty(&with(Some(36))), (10, true));
        assert_eq!(first_dirty(&with(Some(35))), (35, false));
        assert_eq!(first_dirty(&with(None)), (10, false));
    }

    // M 207
    #[test]
    fn segment_within_the_least_lag_ends_the_range() {
        let config = LogConfig { min_compaction_lag_ms: 500, ..LogConfig::default() };
        assert_eq!(decided(log(), &config, 2499), (0, 10, 0, 100));
        assert_eq!(decided(log(), &config, 2500), (0, 20, 0, 200));
        assert_eq!(decided(log(), &config, 3500), (0, 30, 0, 300));
        let dirty = LogFacts { checkpoint: Some(20), ..log() };
        assert_eq!(decided(dirty, &config, 2499), (20, 20, 200, 0));
    }

    // M 203
    #[test]
    fn ratio_must_exceed_the_least_one_unless_the_greatest_lag_has_passed() {
        let config = LogConfig { min_cleanable_dirty_ratio: 1.0 / 3.0, ..LogConfig::default() };
        let at = |checkpoint, config: &LogConfig, now_ms| {
            decide(&LogFacts { checkpoint: Some(checkpoint), ..log() }, &sealed(), config, now_ms)
        };
        assert!(!at(20, &config, 0).is_eligible);
        assert!(at(10, &config, 0).is_eligible);
        let lag = LogConfig { max_compaction_lag_ms: DAY_MS, ..config };
        let due = 3000 + i64::try_from(DAY_MS).unwrap_or(0);
        assert!(!at(20, &lag, due).is_eligible);
        assert_eq!(at(20, &lag, due + 1).compaction_delay_ms, 1);
        assert!(at(20, &lag, due + 1).is_eligible);
        assert!(!at(30, &lag, i64::MAX).is_eligible);
    }
}
