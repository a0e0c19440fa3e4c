//! Where a follower cuts its log so that it agrees with its leader's.

use super::LocalOffsets;
use crate::types::{LeaderEpoch, Offset};
use std::ops::{Range, RangeInclusive};

/// Where an epoch ends in the leader's log: its answer to `OffsetsForLeaderEpoch`, and the diverging epoch of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest epoch of the leader at or below the one asked for; `None` if the leader does not say.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Where that epoch ends, exclusive; `None` if the leader does not know.
    pub end_offset: Option<Offset>,
}

/// Where to cut (`OffsetTruncationState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// The log shall end here, exclusive.
    pub offset: Offset,
    /// Whether the logs then agree; otherwise the leader must be asked again, for an earlier epoch.
    pub complete: bool,
}

/// Where to cut by a leader's answer (`AbstractFetcherThread.getOffsetTruncationState`). `own` is where the answer's
/// epoch ends in the follower's log; `fetch_offset` stands in for an answer without an offset.
///
/// A follower that does not know the leader's epoch holds, above its own largest epoch below that one, only records of
/// epochs that the leader never had: they go first, and the question is asked again.
pub(super) fn truncation_offset(
    answer: EpochEndOffset,
    own: Option<(LeaderEpoch, Offset)>,
    fetch_offset: Offset,
    local: &LocalOffsets,
) -> Truncation {
    let Some(end_offset) = answer.end_offset else {
        return Truncation { offset: fetch_offset, complete: true };
    };
    let (offset, complete) = match (answer.leader_epoch, own) {
        (Some(epoch), Some((own_epoch, own_end))) if own_epoch != epoch => (own_end, false),
        (Some(_), Some((_, own_end))) => (end_offset.min(own_end), true),
        (None, _) | (Some(_), None) => (end_offset, true),
    };
    Truncation { offset: offset.min(local.log_end), complete }
}

/// What a follower does whose fetch offset is outside its leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRangeReset {
    /// The leader's log ends below the follower's, after an unclean election: cut there.
    TruncateTo(Offset),
    /// The leader's log begins above the follower's end: remove everything and begin there.
    StartOverAt(Offset),
    /// The leader's log has caught up meanwhile: go on at the follower's log end.
    Continue,
}

/// How a follower comes back into the range of its leader's log, from log start (inclusive) to log end (exclusive)
/// (`AbstractFetcherThread.fetchOffsetAndTruncate`).
///
/// ```
/// use duramen::replica::{OutOfRangeReset, reset_out_of_range};
/// assert_eq!(reset_out_of_range(10, 0..8), OutOfRangeReset::TruncateTo(8));
/// assert_eq!(reset_out_of_range(10, 12..20), OutOfRangeReset::StartOverAt(12));
/// assert_eq!(reset_out_of_range(10, 5..20), OutOfRangeReset::Continue);
/// ```
#[must_use]
pub fn reset_out_of_range(log_end: Offset, leader: Range<Offset>) -> OutOfRangeReset {
    if leader.end < log_end {
        OutOfRangeReset::TruncateTo(leader.end)
    } else if leader.start > log_end {
        OutOfRangeReset::StartOverAt(leader.start)
    } else {
        OutOfRangeReset::Continue
    }
}

/// What a follower does whose log ends inside a batch that its leader sent, so that the batch cannot be appended: it
/// cuts to the begin of the batch and appends it then. `None` if the log ends elsewhere, and the batch must be refused.
///
/// It happens when the leader's log start lies inside a batch: the follower was told to begin there, or that an epoch
/// ended there, since a leader that deleted records does not know where epochs ended below its log start. The leader's
/// batch is proof that the logs part at its begin, as a diverging epoch is.
///
/// Kafka does so for an empty follower alone (`Partition.appendRecordsToFollowerOrFutureReplica`); any other stops for
/// good.
///
/// ```
/// use duramen::replica::{LocalOffsets, OutOfRangeReset, reset_for_batch};
/// let empty = LocalOffsets { log_start: 5, high_watermark: 5, log_end: 5 };
/// assert_eq!(reset_for_batch(4..=6, &empty), Some(OutOfRangeReset::StartOverAt(4)));
/// assert_eq!(reset_for_batch(3..=4, &empty), None);
/// ```
#[must_use]
pub fn reset_for_batch(batch: RangeInclusive<Offset>, local: &LocalOffsets) -> Option<OutOfRangeReset> {
    let (start, log_end) = (*batch.start(), local.log_end);
    if start >= log_end || *batch.end() < log_end {
        return None;
    }
    let is_empty = local.log_start == log_end || start < local.log_start;
    Some(if is_empty { OutOfRangeReset::StartOverAt(start) } else { OutOfRangeReset::TruncateTo(start) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(log_start: Offset, log_end: Offset) -> LocalOffsets {
        LocalOffsets { log_start, high_watermark: log_start, log_end }
    }

    // M 246
    #[test]
    fn truncation_goes_to_the_shared_end_or_asks_again() {
        let end = |leader_epoch, end_offset| EpochEndOffset { leader_epoch, end_offset };
        // (the leader's answer, the end of that epoch here, cut, complete); the log ends at 100, the fetch offset is 40.
        for (answer, own, offset, complete) in [
            (end(None, None), None, 40, true),
            (end(Some(5), None), Some((5, 60)), 40, true),
            (end(None, Some(70)), None, 70, true),
            (end(None, Some(170)), None, 100, true),
            (end(Some(5), Some(70)), Some((5, 60)), 60, true),
            (end(Some(5), Some(50)), Some((5, 60)), 50, true),
            (end(Some(5), Some(170)), Some((5, 160)), 100, true),
            (end(Some(5), Some(70)), Some((4, 30)), 30, false),
            (end(Some(5), Some(70)), None, 70, true),
            (end(Some(5), Some(170)), None, 100, true),
        ] {
            let cut = truncation_offset(answer, own, 40, &local(0, 100));
            assert_eq!(cut, Truncation { offset, complete }, "{answer:?} {own:?}");
        }
    }

    // M 246
    #[test]
    fn fetch_out_of_range_is_settled_by_where_the_leaders_log_lies() {
        let (cut, over) = (OutOfRangeReset::TruncateTo, OutOfRangeReset::StartOverAt);
        for (log_end, leader, reset) in [
            (10, 0..9, cut(9)),
            (10, 0..0, cut(0)),
            (10, 0..10, OutOfRangeReset::Continue),
            (10, 10..20, OutOfRangeReset::Continue),
            (10, 11..20, over(11)),
            (0, 5..5, over(5)),
        ] {
            assert_eq!(reset_out_of_range(log_end, leader.clone()), reset, "{log_end} {leader:?}");
        }
    }

    // M 244
    #[test]
    fn a_log_that_ends_inside_a_batch_is_cut_to_its_begin() {
        let over = |offset| Some(OutOfRangeReset::StartOverAt(offset));
        let cut = |offset| Some(OutOfRangeReset::TruncateTo(offset));
        for (batch, log, reset) in [
            (3..=3, local(5, 5), None),
            (4..=6, local(5, 5), over(4)),
            (4..=5, local(5, 5), over(4)),
            (5..=6, local(5, 5), None),
            (3..=4, local(4, 7), None),
            (3..=7, local(4, 7), over(3)),
            (4..=7, local(4, 7), cut(4)),
            (6..=9, local(4, 7), cut(6)),
            (7..=9, local(4, 7), None),
        ] {
            assert_eq!(reset_for_batch(batch.clone(), &log), reset, "{batch:?} {log:?}");
        }
    }
}
