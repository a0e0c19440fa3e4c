//! Which segments are too old, too many, or below the log start; and removing them.
//!
//! The decision is pure. Keeps: only whole segments below the high watermark go, the oldest first; the log start is
//! moved and published before any file loses its name; one segment always stays.

use super::{Log, LogError, state::Segments};
use crate::{
    config::LogConfig,
    segment::Segment,
    types::{Offset, Timestamp},
};
use std::{fmt, sync::Arc};

/// Records may lie ahead of the clock by so much at least, in ms, before a segment's age is told by its file.
const AHEAD_MS: u64 = 3_600_000;

/// Why a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionReason {
    /// All of it lies below the log start offset.
    LogStart,
    /// Without it the log still holds `retention.bytes`.
    Size,
    /// Its newest record is older than `retention.ms`.
    Time,
}

impl fmt::Display for RetentionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogStart => "lies below the log start offset",
            Self::Size => "exceeds retention.bytes",
            Self::Time => "is older than retention.ms",
        })
    }
}

/// A segment that retention removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredSegment {
    /// Its base offset.
    pub base_offset: Offset,
    /// Bytes of its log file.
    pub size: u64,
    /// Why it goes.
    pub reason: RetentionReason,
}

/// What the decision knows of a segment.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    base_offset: Offset,
    /// Base of the next segment; of the last one, the log end.
    end_offset: Offset,
    size: u64,
    is_last: bool,
    /// The time that its age counts from, in ms.
    newest_ms: Timestamp,
}

/// What the decision knows of the log.
#[derive(Debug, Clone, Copy)]
struct Limits {
    high_watermark: Offset,
    log_start: Offset,
    retention_bytes: Option<u64>,
    retention_ms: Option<u64>,
    now_ms: Timestamp,
}

/// The segments that go, oldest first: three passes, each from the oldest on up to the first that may stay
/// (`UnifiedLog.deleteOldSegments`).
fn expired(candidates: &[Candidate], limits: &Limits) -> Vec<ExpiredSegment> {
    let mut left = candidates;
    let mut gone = Vec::new();
    for reason in [RetentionReason::LogStart, RetentionReason::Size, RetentionReason::Time] {
        let total: u64 = left.iter().map(|candidate| candidate.size).sum();
        let mut excess = limits.retention_bytes.and_then(|limit| total.checked_sub(limit));
        while let Some((oldest, rest)) = left.split_first() {
            let is_empty_active = oldest.is_last && oldest.size == 0;
            if is_empty_active || limits.high_watermark < oldest.end_offset {
                break;
            }
            let goes = match reason {
                RetentionReason::LogStart => !oldest.is_last && oldest.end_offset <= limits.log_start,
                RetentionReason::Size => {
                    excess = excess.and_then(|excess| excess.checked_sub(oldest.size));
                    excess.is_some()
                }
                RetentionReason::Time => limits.retention_ms.is_some_and(|limit| {
                    let age_ms = limits.now_ms.saturating_sub(oldest.newest_ms);
                    u64::try_from(age_ms).is_ok_and(|age_ms| age_ms > limit)
                }),
            };
            if !goes {
                break;
            }
            gone.push(ExpiredSegment { base_offset: oldest.base_offset, size: oldest.size, reason });
            left = rest;
        }
    }
    gone
}

/// The greatest timestamp of a segment if its age counts from it; else, when its file was last written to counts. One
/// further in the future than producers may write would pin the segment, and all after it, until then: it counts as none.
/// Kafka warns and waits.
fn credible_ms(greatest: Option<Timestamp>, config: &LogConfig, now_ms: Timestamp) -> Option<Timestamp> {
    let bound_ms =
        config.retention_ms.unwrap_or(0).max(AHEAD_MS).min(config.message_timestamp_after_max_ms.max(AHEAD_MS));
    let latest_ms = now_ms.saturating_add(i64::try_from(bound_ms).unwrap_or(i64::MAX));
    greatest.filter(|greatest| *greatest <= latest_ms)
}

impl Log {
    /// The segments that [`Log::delete_old_segments`] would remove now, oldest first, and why.
    ///
    /// # Errors
    /// [`LogError::Segment`] or [`LogError::Storage`] when a segment cannot be looked at.
    pub fn expired_segments(&self, now_ms: Timestamp) -> Result<Vec<ExpiredSegment>, LogError> {
        let config = self.config();
        let view = self.shared.view();
        let mut candidates = Vec::new();
        for segment in view.segments().iter() {
            let next = view.segments().higher(segment.base_offset());
            let greatest = segment.greatest_timestamp()?.map(|entry| entry.timestamp);
            let newest_ms = match credible_ms(greatest, &config, now_ms) {
                Some(newest_ms) => newest_ms,
                None => segment.modified_ms()?,
            };
            candidates.push(Candidate {
                base_offset: segment.base_offset(),
                end_offset: next.map_or(view.log_end.offset, |next| next.base_offset()),
                size: segment.size(),
                is_last: next.is_none(),
                newest_ms,
            });
        }
        let by_policy = config.cleanup_policy.delete;
        let limits = Limits {
            high_watermark: view.high_watermark,
            log_start: view.log_start,
            retention_bytes: config.retention_bytes.filter(|_| by_policy),
            retention_ms: config.retention_ms.filter(|_| by_policy),
            now_ms,
        };
        Ok(expired(&candidates, &limits))
    }

    /// Removes the segments that lie below the log start offset, and, if `cleanup.policy` says so, those that exceed
    /// `retention.bytes` or are older than `retention.ms`; what was removed. Only segments below the high watermark go, and
    /// for some milliseconds after a roll that a commit journal covers none that it sealed.
    /// The log start offset moves up to the first segment that stays. If all of them go, a new one is begun first.
    ///
    /// The files are renamed; [`Log::remove_retired_files`] unlinks them after `file.delete.delay.ms`. Readers keep the
    /// bytes of slices that they hold. Follows `UnifiedLog.deleteOldSegments`.
    ///
    /// # Errors
    /// [`LogError::Storage`], [`LogError::Segment`]; [`LogError::Poisoned`].
    pub fn delete_old_segments(&mut self, now_ms: Timestamp) -> Result<Vec<ExpiredSegment>, LogError> {
        self.check_writable()?;
        let mut expired = self.expired_segments(now_ms)?;
        if let Some(rolling_from) = self.rolling_from()? {
            expired.retain(|segment| segment.base_offset < rolling_from);
        }
        let is_last = |segment: &ExpiredSegment| self.shared.read().segments().higher(segment.base_offset).is_none();
        if expired.last().is_some_and(is_last) {
            match self.roll(now_ms) {
                // What lies before it can go all the same, and makes space.
                Err(LogError::DiskFull(_)) if expired.len() > 1 => drop(expired.pop()),
                rolled => drop(rolled?),
            }
        }
        let Some(last) = expired.last() else {
            return Ok(expired);
        };
        let segments = self.shared.read().segments().clone();
        let Some(first_kept) = segments.higher(last.base_offset).map(|segment| segment.base_offset()) else {
            return Ok(Vec::new());
        };
        self.increment_log_start_offset(first_kept)?;
        let gone: Vec<_> = segments.below(first_kept).iter().map(Arc::clone).collect();
        // A crash may keep an older name and lose a newer one: nobody reads below the log start. Without space to say so, they go
        // one after the other.
        let at_once = match gone.len() {
            1 => 1,
            all => match self.checkpoints.raise_log_start(&self.shared.partition, first_kept) {
                Err(LogError::Storage(error)) if error.is_disk_full() => 1,
                raised => raised.map(|()| all)?,
            },
        };
        self.forget_segments(&segments, &gone);
        for some in gone.chunks(at_once.max(1)) {
            for segment in some {
                self.retire_segment(segment, false, now_ms).map_err(|error| self.poison(error))?;
            }
            self.storage().sync_dir(&self.dir).map_err(|error| self.poison(error))?;
        }
        Ok(expired)
    }

    /// Takes segments out of the log: readers do not find them any more.
    fn forget_segments(&self, segments: &Segments, gone: &[Arc<Segment>]) {
        let mut left = segments.clone();
        left.remove_all(gone);
        self.shared.write().set_segments(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of 100 bytes and 10 offsets, a second apart, the last one active.
    fn candidates(count: i64) -> Vec<Candidate> {
        let candidate = |n: i64| Candidate {
            base_offset: n * 10,
            end_offset: n * 10 + 10,
            size: 100,
            is_last: n + 1 == count,
            newest_ms: n * 1000,
        };
        (0..count).map(candidate).collect()
    }

    fn limits() -> Limits {
        Limits { high_watermark: 1000, log_start: 0, retention_bytes: None, retention_ms: None, now_ms: 10_000 }
    }

    fn gone(limits: Limits) -> Vec<(Offset, RetentionReason)> {
        expired(&candidates(5), &limits).iter().map(|segment| (segment.base_offset, segment.reason)).collect()
    }

    // M 43
    #[test]
    fn size_retention_never_goes_below_the_limit() {
        use RetentionReason::Size;
        assert_eq!(gone(Limits { retention_bytes: Some(500), ..limits() }), []);
        assert_eq!(gone(Limits { retention_bytes: Some(401), ..limits() }), []);
        assert_eq!(gone(Limits { retention_bytes: Some(400), ..limits() }), [(0, Size)]);
        assert_eq!(gone(Limits { retention_bytes: Some(150), ..limits() }), [(0, Size), (10, Size), (20, Size)]);
        assert_eq!(gone(Limits { retention_bytes: Some(0), ..limits() }).len(), 5);
    }

    // M 44
    #[test]
    fn time_retention_is_strict_and_stops_at_the_first_that_stays() {
        use RetentionReason::Time;
        assert_eq!(gone(Limits { retention_ms: Some(10_000), ..limits() }), []);
        assert_eq!(gone(Limits { retention_ms: Some(9_999), ..limits() }), [(0, Time)]);
        let mut pinned = candidates(3);
        pinned[0].newest_ms = 20_000;
        assert!(expired(&pinned, &Limits { retention_ms: Some(0), ..limits() }).is_empty());
    }

    // M 46
    #[test]
    fn nothing_at_or_above_the_high_watermark_goes() {
        for high_watermark in 0..=50 {
            let expired = gone(Limits { retention_ms: Some(0), high_watermark, ..limits() });
            assert_eq!(i64::try_from(expired.len()).unwrap_or(-1), high_watermark / 10);
        }
    }

    #[test]
    fn passes_follow_each_other() {
        use RetentionReason::{LogStart, Size, Time};
        let all = Limits { log_start: 10, retention_bytes: Some(300), retention_ms: Some(7_500), ..limits() };
        assert_eq!(gone(all), [(0, LogStart), (10, Size), (20, Time)]);
    }

    // M 46
    #[test]
    fn active_segment_stays_for_a_log_start_and_when_it_is_empty() {
        assert_eq!(gone(Limits { log_start: 50, ..limits() }).len(), 4);
        let mut empty = candidates(2);
        empty[1].size = 0;
        assert_eq!(expired(&empty, &Limits { retention_ms: Some(0), ..limits() }).len(), 1);
    }

    #[test]
    fn far_future_timestamp_counts_as_none() {
        let config = LogConfig::default();
        let credible = |greatest| credible_ms(greatest, &config, 1000);
        assert_eq!(credible(None), None);
        assert_eq!(credible(Some(5000)), Some(5000));
        assert_eq!(credible(Some(1000 + 3_600_000)), Some(1000 + 3_600_000));
        assert_eq!(credible(Some(1001 + 3_600_000)), None);
        assert_eq!(credible(Some(i64::MAX)), None);
    }
}
