//! Which neighbouring segments become one. Pure.

use crate::types::Offset;

/// What the grouping needs to know of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentSize {
    pub(super) base_offset: Offset,
    pub(super) log_bytes: u64,
    pub(super) offset_index_bytes: u64,
    pub(super) time_index_bytes: u64,
}

/// What a group may not exceed.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupLimits {
    pub(super) log_bytes: u64,
    pub(super) index_bytes: u64,
    /// Last offset of a segment minus its base.
    pub(super) relative_offset: i64,
}

/// How many segments each group takes, in order (`Cleaner.groupSegmentsBySize`). `end` is the first offset behind all.
pub(super) fn group(segments: &[SegmentSize], limits: GroupLimits, end: Offset) -> Vec<usize> {
    let mut groups = Vec::new();
    let mut rest = segments;
    while let Some((first, mut others)) = rest.split_first() {
        let mut sum = *first;
        let mut count = 1;
        while let Some((next, behind)) = others.split_first() {
            // Where the candidate ends is not looked up: it ends before the one after it begins.
            let last_offset = behind.first().map_or(end, |after| after.base_offset).saturating_sub(1);
            let merged = SegmentSize {
                base_offset: sum.base_offset,
                log_bytes: sum.log_bytes.saturating_add(next.log_bytes),
                offset_index_bytes: sum.offset_index_bytes.saturating_add(next.offset_index_bytes),
                time_index_bytes: sum.time_index_bytes.saturating_add(next.time_index_bytes),
            };
            let too_far = last_offset.saturating_sub(sum.base_offset) > limits.relative_offset;
            if merged.log_bytes > limits.log_bytes
                || merged.offset_index_bytes > limits.index_bytes
                || merged.time_index_bytes > limits.index_bytes
                || (next.log_bytes != 0 && too_far)
            {
                break;
            }
            (sum, others) = (merged, behind);
            count += 1;
        }
        groups.push(count);
        rest = others;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GroupLimits = GroupLimits { log_bytes: 300, index_bytes: 80, relative_offset: 1000 };

    fn segment(base_offset: Offset, log_bytes: u64) -> SegmentSize {
        SegmentSize { base_offset, log_bytes, offset_index_bytes: 8, time_index_bytes: 12 }
    }

    fn segments(count: i64) -> Vec<SegmentSize> {
        (0..count).map(|n| segment(n * 10, 100)).collect()
    }

    // M 196
    #[test]
    fn groups_fill_up_to_each_limit() {
        let cases = [
            ("by size", LIMITS, vec![3, 3, 1]),
            ("one each", GroupLimits { log_bytes: 1, ..LIMITS }, vec![1; 7]),
            ("by offset index", GroupLimits { log_bytes: 9999, index_bytes: 24, ..LIMITS }, vec![2, 2, 2, 1]),
            ("by time index", GroupLimits { log_bytes: 9999, index_bytes: 36, ..LIMITS }, vec![3, 3, 1]),
            ("all", GroupLimits { log_bytes: 9999, index_bytes: 9999, ..LIMITS }, vec![7]),
            ("by offset range", GroupLimits { log_bytes: 9999, index_bytes: 9999, relative_offset: 39 }, vec![4, 3]),
        ];
        for (name, limits, expected) in cases {
            assert_eq!(group(&segments(7), limits, 70), expected, "{name}");
        }
        assert!(group(&[], LIMITS, 0).is_empty());
    }

    // M 196
    #[test]
    fn empty_segment_joins_beyond_the_offset_range() {
        let far = [segment(0, 100), segment(5000, 0), segment(9000, 100)];
        assert_eq!(group(&far, LIMITS, 9001), [2, 1]);
    }

    // M 196
    #[test]
    fn last_segment_is_taken_to_reach_the_end() {
        let two = [segment(0, 100), segment(500, 100)];
        assert_eq!(group(&two, LIMITS, 1001), [2]);
        assert_eq!(group(&two, LIMITS, 1002), [1, 1]);
    }
}
