//! Truncations of a log, remembered for those who began to wait before them.
//!
//! Knows which offset a log was cut to since any moment; forgets what a later, lower cut covers. Keeps: cut counts and
//! offsets both ascend.

use crate::types::Offset;

/// Cuts remembered apart. With more, the oldest two become one at the lower offset, which may tell somebody who has been
/// waiting since before more than so many cuts that his records are gone when they are not.
const MAX_CUTS: usize = 32;

/// The truncations of one log while it is open.
#[derive(Debug, Default)]
pub(super) struct Cuts(Vec<Cut>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// How many there were with this one.
    count: u64,
    /// Everything at and above this offset went away.
    to: Offset,
}

impl Cuts {
    /// Remembers the cut with this count, one more than that of the last.
    pub(super) fn add(&mut self, count: u64, to: Offset) {
        self.0.retain(|cut| cut.to < to);
        self.0.push(Cut { count, to });
        if self.0.len() > MAX_CUTS
            && let [oldest, next, ..] = self.0.as_mut_slice()
        {
            next.to = oldest.to;
            self.0.remove(0);
        }
    }

    /// The lowest offset that the log was cut to after there had been `count` cuts.
    pub(super) fn lowest_since(&self, count: u64) -> Option<Offset> {
        self.0.iter().find(|cut| cut.count > count).map(|cut| cut.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowest_cut_since_any_moment_is_known() {
        let mut cuts = Cuts::default();
        let history = [50, 70, 20, 90, 90, 40];
        for (count, to) in (1..).zip(history) {
            cuts.add(count, to);
        }
        for since in 0..history.len() {
            let lowest = history[since..].iter().min().copied();
            assert_eq!(cuts.lowest_since(since as u64), lowest, "since {since}");
        }
        assert_eq!(cuts.lowest_since(history.len() as u64), None);
    }

    #[test]
    fn memory_of_cuts_is_bounded_and_errs_on_the_lower_side() {
        let mut cuts = Cuts::default();
        for count in 1..=100 {
            cuts.add(count, Offset::try_from(count).unwrap_or(0) * 10);
        }
        assert_eq!(cuts.0.len(), MAX_CUTS);
        assert_eq!(cuts.lowest_since(0), Some(10));
        assert_eq!(cuts.lowest_since(50), Some(10), "merged into the oldest");
        assert_eq!(cuts.lowest_since(90), Some(910));
    }
}
