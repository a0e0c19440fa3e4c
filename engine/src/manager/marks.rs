//! How many bytes of a log lie below an offset, for the offsets that can be waited for.
//!
//! Knows the ends of recent appends. Keeps: counts never decrease while the log only grows; an offset inside an append
//! counts as the append's begin.

use super::waiting::Mark;
use crate::types::Offset;
use std::collections::VecDeque;

/// More ends than this are thinned out.
const MAX_ENDS: usize = 4096;

/// Ends of appends and the bytes below them, ascending; the first is the lowest that can be asked for.
#[derive(Debug)]
pub(super) struct Marks {
    ends: VecDeque<Mark>,
}

impl Marks {
    /// Of a log that ends here. Bytes count from any place.
    pub(super) fn new(end: Offset) -> Self {
        Self { ends: VecDeque::from([Mark { offset: end, bytes: 0 }]) }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Mark {
        self.ends.back().copied().unwrap_or_default()
    }

    /// Adds an append that ends at `offset`.
    pub(super) fn append(&mut self, offset: Offset, bytes: u64) -> Mark {
        let end = Mark { offset, bytes: self.end().bytes + bytes };
        if self.ends.len() >= MAX_ENDS {
            let mut is_kept = false;
            self.ends.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        self.ends.push_back(end);
        end
    }

    /// The mark of an offset: itself, with the bytes of the appends that end at or below it.
    pub(super) fn at(&self, offset: Offset) -> Mark {
        if offset == self.end().offset {
            return self.end();
        }
        let above = self.ends.partition_point(|end| end.offset <= offset);
        let below = above.checked_sub(1).and_then(|index| self.ends.get(index)).or(self.ends.front());
        Mark { offset, bytes: below.map_or(0, |below| below.bytes) }
    }

    /// Nobody will ask for an offset below this one.
    pub(super) fn forget_below(&mut self, offset: Offset) {
        while self.ends.get(1).is_some_and(|next| next.offset <= offset) {
            self.ends.pop_front();
        }
    }

    /// The log ends at `offset` now, where it was cut or begun anew.
    pub(super) fn cut(&mut self, offset: Offset) {
        let mark = self.at(offset);
        while self.ends.back().is_some_and(|end| end.offset >= offset) {
            self.ends.pop_back();
        }
        self.ends.push_back(mark);
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
    fn many_marks_are_thinned_out_and_stay_in_order() {
        let mut marks = Marks::new(0);
        for offset in 1..100_000 {
            marks.append(offset, 1);
        }
        assert!(marks.ends.len() <= MAX_ENDS);
        assert_eq!(marks.end(), mark(99_999, 99_999));
        let found: Vec<u64> = (0..100_000).map(|offset| marks.at(offset).bytes).collect();
        assert!(found.is_sorted());
    }
}
