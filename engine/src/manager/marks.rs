//! How many bytes of a log lie below an offset, for the offsets that can be waited for.
//!
//! Knows the ends of recent appends. Keeps: counts never decrease while the log only grows; an offset inside an append
//! counts as the append's begin.

use super::waiting::Mark;
use crate::types::Offset;
use std::collections::VecDeque;

/// More ends than this are thinned out.
const MAX_ENDS: usize = 4096;

/// Ends of appends and the bytes below them. The last two are apart: where everything is committed at once nobody asks for
/// more, and an append touches no further memory.
#[derive(Debug)]
pub(super) struct Marks {
    end: Mark,
    /// The end before.
    previous: Mark,
    /// Those before it, ascending.
    earlier: VecDeque<Mark>,
    /// Nobody asks for an offset below this one.
    lowest: Offset,
}

impl Marks {
    /// Of a log that ends here. Bytes count from any place.
    pub(super) fn new(end: Offset) -> Self {
        let mark = Mark { offset: end, bytes: 0 };
        Self { end: mark, previous: mark, earlier: VecDeque::new(), lowest: end }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Mark {
        self.end
    }

    /// Adds an append that ends at `offset`.
    pub(super) fn append(&mut self, offset: Offset, bytes: u64) -> Mark {
        let end = Mark { offset, bytes: self.end.bytes + bytes };
        // What can be asked for is counted from the end so far, if that is low enough.
        if self.end.offset > self.lowest {
            self.keep_previous();
        }
        self.previous = std::mem::replace(&mut self.end, end);
        end
    }

    fn keep_previous(&mut self) {
        if self.earlier.len() >= MAX_ENDS {
            let mut is_kept = false;
            self.earlier.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        self.earlier.push_back(self.previous);
    }

    /// The mark of an offset: itself, with the bytes of the appends that end at or below it.
    pub(super) fn at(&self, offset: Offset) -> Mark {
        let below = [self.end, self.previous].into_iter().find(|end| end.offset <= offset);
        let bytes = below.map_or_else(|| self.earlier_at(offset), |below| below.bytes);
        Mark { offset, bytes }
    }

    fn earlier_at(&self, offset: Offset) -> u64 {
        let above = self.earlier.partition_point(|end| end.offset <= offset);
        let below = above.checked_sub(1).and_then(|index| self.earlier.get(index)).or(self.earlier.front());
        below.unwrap_or(&self.previous).bytes
    }

    /// Nobody will ask for an offset below this one.
    pub(super) fn forget_below(&mut self, offset: Offset) {
        self.lowest = offset;
        while !self.earlier.is_empty() && self.earlier.get(1).unwrap_or(&self.previous).offset <= offset {
            self.earlier.pop_front();
        }
    }

    /// The log ends at `offset` now, where it was cut or begun anew.
    pub(super) fn cut(&mut self, offset: Offset) {
        let end = self.at(offset);
        let lower: Vec<Mark> =
            self.earlier.drain(..).chain([self.previous, self.end]).filter(|end| end.offset < offset).collect();
        self.earlier = lower.into();
        self.previous = self.earlier.pop_back().unwrap_or(end);
        self.end = end;
        self.lowest = self.lowest.min(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: Offset, bytes: u64) -> Mark {
        Mark { offset, bytes }
    }

    #[test]
    fn marks_count_whole_appends_below_an_offset() {
        let mut marks = Marks::new(10);
        marks.append(15, 500);
        marks.append(20, 300);
        let found = [9, 10, 12, 15, 19, 20].map(|offset| marks.at(offset).bytes);
        assert_eq!(found, [0, 0, 0, 500, 500, 800]);
        marks.forget_below(16);
        assert_eq!([15, 17, 20].map(|offset| marks.at(offset).bytes), [500, 500, 800]);
        marks.cut(17);
        assert_eq!(marks.end(), mark(17, 500));
        assert_eq!(marks.append(18, 1), mark(18, 501));
    }

    #[test]
    fn random_marks_are_those_of_all_appends() {
        let mut seed = 88_172_645_463_325_252_u64;
        let mut below = |bound: i64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            i64::try_from(seed % bound.unsigned_abs()).unwrap_or(0)
        };
        let (mut marks, mut all, mut lowest) = (Marks::new(0), vec![mark(0, 0)], 0);
        for _ in 0..20_000 {
            let end = all.last().copied().unwrap_or_default();
            match below(10) {
                0 => {
                    // Not below what can be asked for: what was forgotten is not known any more.
                    let to = lowest + below(end.offset - lowest + 1);
                    let kept = all.iter().rev().find(|end| end.offset <= to).copied().unwrap_or_default();
                    all.retain(|end| end.offset < to);
                    all.push(mark(to, kept.bytes));
                    marks.cut(to);
                }
                1..4 => {
                    lowest += below(end.offset - lowest + 1);
                    marks.forget_below(lowest);
                }
                _ => {
                    let new = mark(end.offset + 1 + below(5), end.bytes + below(100).unsigned_abs());
                    all.push(new);
                    assert_eq!(marks.append(new.offset, new.bytes - end.bytes), new);
                }
            }
            let end = all.last().copied().unwrap_or_default();
            assert_eq!(marks.end(), end);
            for offset in [lowest, lowest + below(end.offset - lowest + 1), end.offset] {
                let known = all.iter().rev().find(|end| end.offset <= offset).copied().unwrap_or_default();
                assert_eq!(marks.at(offset), mark(offset, known.bytes), "of {offset}, the lowest {lowest}");
            }
        }
    }

    #[test]
    fn many_marks_are_thinned_out_and_stay_in_order() {
        let mut marks = Marks::new(0);
        for offset in 1..100_000 {
            marks.append(offset, 1);
        }
        assert!(marks.earlier.len() <= MAX_ENDS);
        assert_eq!(marks.end(), mark(99_999, 99_999));
        let found: Vec<u64> = (0..100_000).map(|offset| marks.at(offset).bytes).collect();
        assert!(found.is_sorted());
    }
}
