//! When the active segment is full. Pure.

use crate::{
    config::LogConfig,
    segment::MAX_RELATIVE_OFFSET,
    types::{Offset, Timestamp},
};

/// What the decision needs to know of the active segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActiveSegment {
    pub(super) base_offset: Offset,
    pub(super) size: u64,
    pub(super) index_full: bool,
    pub(super) created_ms: Timestamp,
    /// Greatest timestamp of the first batch.
    pub(super) first_timestamp: Option<Timestamp>,
    pub(super) jitter_ms: u64,
}

/// What the decision needs to know of the batches to be appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming {
    pub(super) size: u64,
    pub(super) max_timestamp: Option<Timestamp>,
    pub(super) last_offset: Offset,
}

/// Whether the active segment has to be rolled first (`LogSegment.shouldRoll`).
pub(super) fn should_roll(active: &ActiveSegment, incoming: &Incoming, config: &LogConfig, now_ms: Timestamp) -> bool {
    let over_size = active.size > u64::from(config.segment_bytes).saturating_sub(incoming.size);
    let over_age = active.size > 0 && is_over_age(active, incoming, config, now_ms);
    let over_offset = incoming.last_offset.saturating_sub(active.base_offset) > MAX_RELATIVE_OFFSET;
    over_size || over_age || active.index_full || over_offset
}

/// Age is counted in record time when the segment's first batch has one, else by the clock.
fn is_over_age(active: &ActiveSegment, incoming: &Incoming, config: &LogConfig, now_ms: Timestamp) -> bool {
    let waited_ms = match active.first_timestamp {
        Some(first) => incoming.max_timestamp.unwrap_or(-1).saturating_sub(first),
        None => now_ms.saturating_sub(active.created_ms),
    };
    let limit_ms = max_segment_ms(config).saturating_sub(active.jitter_ms);
    i64::try_from(limit_ms).is_ok_and(|limit_ms| waited_ms > limit_ms)
}

/// A compacted topic also rolls in time for its greatest compaction lag.
pub(super) fn max_segment_ms(config: &LogConfig) -> u64 {
    if config.cleanup_policy.compact { config.segment_ms.min(config.max_compaction_lag_ms) } else { config.segment_ms }
}

/// The part of `segment.jitter.ms` that the segment of this base offset rolls earlier, from a seed of the host's.
pub(super) fn jitter_ms(config: &LogConfig, seed: u64, base_offset: Offset) -> u64 {
    let bound = config.segment_jitter_ms.min(config.segment_ms);
    // One round of splitmix64: neighbouring segments and logs get unrelated numbers.
    let mut mixed = seed ^ base_offset.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LogConfig {
        LogConfig { segment_bytes: 1000, segment_ms: 100, ..LogConfig::default() }
    }

    fn active() -> ActiveSegment {
        ActiveSegment {
            base_offset: 0,
            size: 500,
            index_full: false,
            created_ms: 1000,
            first_timestamp: Some(5000),
            jitter_ms: 0,
        }
    }

    fn incoming() -> Incoming {
        Incoming { size: 500, max_timestamp: Some(5000), last_offset: 10 }
    }

    // M 19
    #[test]
    fn set_that_exactly_fills_the_segment_does_not_roll() {
        assert!(!should_roll(&active(), &incoming(), &config(), 0));
        assert!(should_roll(&active(), &Incoming { size: 501, ..incoming() }, &config(), 0));
    }

    // M 16
    #[test]
    fn age_counts_in_record_time_and_not_by_the_clock() {
        let at = |max_timestamp| Incoming { max_timestamp, ..incoming() };
        assert!(!should_roll(&active(), &at(Some(5100)), &config(), i64::MAX));
        assert!(should_roll(&active(), &at(Some(5101)), &config(), 0));
        assert!(!should_roll(&active(), &at(None), &config(), i64::MAX));
    }

    // M 16
    #[test]
    fn age_counts_by_the_clock_when_the_first_batch_has_no_time() {
        let active = ActiveSegment { first_timestamp: None, ..active() };
        assert!(!should_roll(&active, &incoming(), &config(), 1100));
        assert!(should_roll(&active, &incoming(), &config(), 1101));
    }

    // M 15
    #[test]
    fn empty_segment_never_rolls_by_age() {
        let active = ActiveSegment { size: 0, first_timestamp: None, ..active() };
        assert!(!should_roll(&active, &incoming(), &config(), i64::MAX));
    }

    // M 107, 109
    #[test]
    fn offsets_out_of_range_and_full_indexes_roll() {
        let far = Incoming { last_offset: MAX_RELATIVE_OFFSET + 1, ..incoming() };
        assert!(should_roll(&active(), &far, &config(), 0));
        let reach = Incoming { last_offset: MAX_RELATIVE_OFFSET, ..incoming() };
        assert!(!should_roll(&active(), &reach, &config(), 0));
        assert!(should_roll(&ActiveSegment { index_full: true, ..active() }, &incoming(), &config(), 0));
    }

    // M 18
    #[test]
    fn jitter_stays_below_its_bound_and_differs() {
        let config = LogConfig { segment_jitter_ms: 50, ..config() };
        let drawn: Vec<u64> = (0..100).map(|base| jitter_ms(&config, 7, base)).collect();
        assert!(drawn.iter().all(|jitter| *jitter < 50));
        assert!(drawn.iter().any(|jitter| *jitter != drawn[0]));
        assert_eq!(jitter_ms(&LogConfig::default(), 7, 3), 0);
    }

    #[test]
    fn compacted_topic_rolls_in_time_for_its_lag() {
        let mut config = LogConfig { max_compaction_lag_ms: 10, ..config() };
        assert_eq!(max_segment_ms(&config), 100);
        config.cleanup_policy.compact = true;
        assert_eq!(max_segment_ms(&config), 10);
    }
}
