//! How much a partition may grow before a long poll wants to hear of it.
//!
//! Pure. A poll over many partitions wakes when their sum reaches a minimum. Were it told of each append, a busy partition
//! would pay for every idle poll at every append. So the missing bytes are shared out: each partition is silent until it has
//! grown by its allotment. Keeps: what all of them may grow by in silence is less than what is missing, so the sum cannot
//! reach the minimum unnoticed. Half stays in reserve at first; a partition that uses up its allotment gets half of the
//! reserve, and when that gets scarce everybody's is shared out anew. So the number of times a poll is touched grows with
//! the logarithm of its minimum, and not with the number of appends.

/// Who is to be heard of again, after how many more bytes. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allotment {
    /// The partition that was heard of; the others keep what they have.
    One(u64),
    /// Every partition.
    Every(u64),
}

/// Shares out `missing` bytes (above 0) among `partitions` (above 0), for the first time.
pub(super) fn share_out(missing: u64, partitions: u64) -> Allotment {
    Allotment::Every(share(missing, partitions))
}

/// What follows when one of the partitions was heard of, and the others may still grow by `unnoticed` bytes in silence.
pub(super) fn after_growth(missing: u64, unnoticed: u64, partitions: u64) -> Allotment {
    let share = share(missing, partitions);
    let reserve = missing.saturating_sub(unnoticed);
    let allotted = if partitions == 1 { reserve } else { reserve / 2 };
    if allotted >= share { Allotment::One(allotted) } else { Allotment::Every(share) }
}

fn share(missing: u64, partitions: u64) -> u64 {
    if partitions == 1 { missing } else { (missing / partitions.saturating_mul(2).max(1)).max(1) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_partition_is_heard_of_when_all_is_there() {
        assert_eq!(share_out(1000, 1), Allotment::Every(1000));
        assert_eq!(after_growth(400, 0, 1), Allotment::One(400));
    }

    #[test]
    fn any_byte_counts_when_the_minimum_is_one() {
        assert_eq!(share_out(1, 1000), Allotment::Every(1));
    }

    /// Partitions that grow by turns chosen at random: the minimum is never passed in silence.
    fn run(minimum: u64, growths: &[(usize, u64)], partitions: usize) -> Result<u64, TestCaseError> {
        let (mut now, mut next, mut touches) = (vec![0; partitions], vec![0; partitions], 0);
        let mut allotment = share_out(minimum, partitions as u64);
        let mut heard_of = 0;
        for (partition, bytes) in growths {
            match allotment {
                Allotment::One(more) => next[heard_of] = now[heard_of] + more,
                Allotment::Every(more) => next.iter_mut().zip(&now).for_each(|(next, now)| *next = now + more),
            }
            let at = partition % partitions;
            now[at] += bytes;
            let sum: u64 = now.iter().sum();
            if now[at] < next[at] {
                prop_assert!(sum < minimum, "{minimum} was reached in silence");
                allotment = Allotment::One(next[heard_of] - now[heard_of]);
                continue;
            }
            touches += 1;
            if sum >= minimum {
                return Ok(touches);
            }
            heard_of = at;
            let others = (0..partitions).filter(|other| *other != at);
            let unnoticed = others.map(|other| next[other] - 1 - now[other]).sum();
            allotment = after_growth(minimum - sum, unnoticed, partitions as u64);
        }
        Ok(touches)
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
    fn a_busy_partition_among_idle_ones_is_heard_of_seldom() {
        let growths = vec![(0, 1024); 1024];
        let touches = run(1 << 20, &growths, 1000).expect("never in silence");
        assert!(touches < 80, "{touches} touches for 1,024 appends");
    }
}
