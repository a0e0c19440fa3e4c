//! How often a quantity had which size: counts in buckets that double.
//!
//! Knows nothing of what is counted. Keeps: a fixed 264 bytes; recording is two additions to memory and takes no lock.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Buckets: the last one takes everything from 2^30 on, in microseconds 18 minutes.
const BUCKETS: usize = 32;

/// A histogram that any thread adds to.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Recorder {
    pub(crate) fn record(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Records a time in whole microseconds.
    pub(crate) fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records the microseconds since a moment.
    pub(crate) fn record_since(&self, begun: Instant) {
        self.record_time(begun.elapsed());
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: array::from_fn(|number| self.buckets.get(number).map_or(0, |it| it.load(Ordering::Relaxed))),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// The number of binary digits.
fn bucket_of(value: u64) -> usize {
    usize::try_from(u64::BITS - value.leading_zeros()).map_or(BUCKETS - 1, |digits| digits.min(BUCKETS - 1))
}

/// The largest value of a bucket.
fn bound_of(bucket: usize) -> u64 {
    if bucket == BUCKETS - 1 { u64::MAX } else { (1 << bucket) - 1 }
}

/// How often a quantity had which size, since the directory was opened. Sizes are known within a factor of two.
///
/// ```
/// use duramen::Histogram;
/// // As Prometheus wants it: cumulative, each bucket with its largest value, the last one without bound.
/// fn export(name: &str, histogram: &Histogram) -> String {
///     let mut lines = String::new();
///     for (at_most, count) in histogram.cumulative() {
///         let at_most = if at_most == u64::MAX { "+Inf".into() } else { at_most.to_string() };
///         lines += &format!("{name}_bucket{{le=\"{at_most}\"}} {count}\n");
///     }
///     lines + &format!("{name}_sum {}\n{name}_count {}\n", histogram.sum(), histogram.count())
/// }
/// assert!(export("sync_us", &Histogram::default()).ends_with("sync_us_sum 0\nsync_us_count 0\n"));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Histogram {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum, exact.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Their mean, exact; 0 if there were none.
    #[must_use]
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count()).unwrap_or(0)
    }

    /// A value that at least `per_mille` thousandths of all values do not exceed: 500 for the median, 999 for the slowest in a
    /// thousand. At most twice the true one; [`u64::MAX`] from 2^30 on; 0 if there were none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let wanted = u128::from(self.count()) * u128::from(per_mille.min(1000));
        let reached = |(_, count): &(u64, u64)| u128::from(*count) * 1000 >= wanted && *count > 0;
        self.cumulative().find(reached).map_or(0, |(at_most, _)| at_most)
    }

    /// The buckets in ascending order: the largest value of each, inclusive, and how many values there were up to it. The last
    /// one is [`u64::MAX`] and has them all.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().scan(0, |below, (bucket, count)| {
            *below += count;
            Some((bound_of(bucket), *below))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let recorder = Recorder::default();
        values.iter().for_each(|value| recorder.record(*value));
        recorder.snapshot()
    }

    #[test]
    fn value_lies_in_the_bucket_whose_bound_is_the_next_not_below_it() {
        for (value, bound) in [(0, 0), (1, 1), (2, 3), (3, 3), (4, 7), ((1 << 30) - 1, (1 << 30) - 1)] {
            let found = of(&[value]);
            let first = found.cumulative().find(|(_, count)| *count > 0);
            assert_eq!(first, Some((bound, 1)), "{value}");
        }
        for value in [1 << 30, u64::MAX] {
            assert_eq!(of(&[value]).quantile(1000), u64::MAX);
        }
    }

    #[test]
    fn quantiles_are_bounds_of_the_values_below_them() {
        let values: Vec<u64> = (1..=1000).collect();
        let histogram = of(&values);
        assert_eq!((histogram.count(), histogram.sum(), histogram.mean()), (1000, 500_500, 500));
        let found = [0, 1, 500, 990, 1000, 2000].map(|per_mille| histogram.quantile(per_mille));
        assert_eq!(found, [1, 1, 511, 1023, 1023, 1023]);
        assert_eq!(histogram.cumulative().last(), Some((u64::MAX, 1000)));
    }

    #[test]
    fn nothing_recorded_is_nothing() {
        let none = Histogram::default();
        assert_eq!((none.count(), none.sum(), none.mean(), none.quantile(500)), (0, 0, 0, 0));
    }
}
