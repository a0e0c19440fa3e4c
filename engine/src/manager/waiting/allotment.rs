//! How much a partition may grow before a long poll wants to hear of it.
//!
//! Pure. A poll over many partitions wakes when their sum reaches a minimum. Were it told of each append, a busy partition
//! would pay for every idle poll at every append. So the missing bytes are shared out: each partition is silent until it has
//! grown by its allotment. Keeps: what all of them may grow by in silence is less than what is missing, so the sum cannot
//! reach the minimum unnoticed. An eighth is shared out evenly, the rest is the reserve; a partition that uses up its
//! allotment gets twice what it grew by, and when the reserve gets scarce what is missing is shared out anew. So a poll is
//! touched, and looks at all of its partitions, a number of times that grows with the logarithm of its minimum.

/// The part of what is missing that is shared out evenly.
const EVENLY: u64 = 8;

/// What each of `partitions` (above 0) gets of `missing` bytes (above 0). Never 0.
pub(super) fn share(missing: u64, partitions: u64) -> u64 {
    if partitions == 1 { missing } else { (missing / partitions.saturating_mul(EVENLY).max(1)).max(1) }
}

/// What a partition gets that was heard of after it grew by `grown` bytes, of the `reserve`: what is missing, less what the
/// others may grow by in silence. Nothing if that is below the `share` that everybody got: it is time to share out anew.
pub(super) fn after_growth(reserve: u64, grown: u64, share: u64, partitions: u64) -> Option<u64> {
    if reserve == 0 {
        return None;
    }
    let at_most = if partitions == 1 { reserve } else { (reserve / 2).max(1) };
    let wanted = if partitions == 1 { reserve } else { grown.saturating_mul(2).max(share) };
    (at_most >= share || partitions == 1).then_some(wanted.min(at_most))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_partition_is_heard_of_when_all_is_there() {
        assert_eq!(share(1000, 1), 1000);
        assert_eq!(after_growth(400, 600, 1000, 1), Some(400));
    }

    #[test]
    fn any_byte_counts_when_the_minimum_is_one() {
        assert_eq!(share(1, 1000), 1);
    }

    #[test]
    fn scarce_reserve_is_shared_out_anew() {
        assert_eq!(after_growth(0, 10, 1, 9), None);
        assert_eq!(after_growth(19, 10, 10, 9), None);
        assert_eq!(after_growth(20, 10, 10, 9), Some(10));
        assert_eq!(after_growth(1000, 10, 10, 9), Some(20));
        assert_eq!(after_growth(1, 10, 1, 9), Some(1));
    }

    /// Partitions that grow by turns chosen at random: the minimum is never passed in silence. How often the poll was
    /// touched, and how often everything was shared out anew.
    fn run(minimum: u64, growths: &[(usize, u64)], partitions: usize) -> Result<(usize, usize), TestCaseError> {
        let count = partitions as u64;
        let mut even = share(minimum, count);
        let (mut now, mut from, mut next) = (vec![0; partitions], vec![0; partitions], vec![even; partitions]);
        let (mut touches, mut anew) = (0, 0);
        for (partition, bytes) in growths {
            let at = partition % partitions;
            now[at] += bytes;
            let sum: u64 = now.iter().sum();
            if now[at] < next[at] {
                prop_assert!(sum < minimum, "{minimum} was reached in silence");
                continue;
            }
            touches += 1;
            let silent: u64 = (0..partitions).filter(|other| *other != at).map(|other| next[other] - 1).sum();
            let reserve = minimum.saturating_sub(silent + now[at]);
            if let Some(more) = after_growth(reserve, now[at] - from[at], even, count) {
                (from[at], next[at]) = (now[at], now[at] + more);
            } else if sum >= minimum {
                break;
            } else {
                anew += 1;
                even = share(minimum - sum, count);
                from.copy_from_slice(&now);
                next.iter_mut().zip(&now).for_each(|(next, now)| *next = now + even);
            }
        }
        Ok((touches, anew))
    }

    proptest! {
        #[test]
        fn minimum_is_never_reached_in_silence(
            minimum in 1u64..100_000,
            partitions in 1usize..20,
            growths in prop::collection::vec((0usize..20, 1u64..5_000), 0..300),
        ) {
            run(minimum, &growths, partitions)?;
        }
    }

    #[test]
    fn busy_partitions_among_idle_ones_are_heard_of_seldom() {
        for busy in [1, 7] {
            let growths: Vec<_> = (0..1024).map(|append| (append % busy, 1024)).collect();
            let (touches, anew) = run(1 << 20, &growths, 1000).expect("never in silence");
            assert!(touches < 120 && anew < 8, "{touches} touches, {anew} times anew, for 1,024 appends of {busy}");
        }
    }
}
