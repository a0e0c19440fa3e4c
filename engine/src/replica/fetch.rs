//! A follower's fetch, and what its leader makes of it.

use super::{BrokerEpoch, BrokerId, EpochEndOffset, LocalOffsets, ReplicaError};
use crate::types::{LeaderEpoch, Offset};

/// A follower's fetch of one partition. It says what the follower has: everything below `fetch_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The follower.
    pub replica: BrokerId,
    /// Its incarnation; `None` (-1 on the wire) is not checked.
    pub broker_epoch: Option<BrokerEpoch>,
    /// Epoch of the leader that it means; `None` is not checked.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Its log end, inclusive start of what it wants.
    pub fetch_offset: Offset,
    /// Its log start.
    pub log_start: Offset,
    /// Leader epoch of its last record; `None` turns truncation on fetch off.
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

impl FollowerFetch {
    /// A fetch that claims no epochs.
    #[must_use]
    pub fn new(replica: BrokerId, fetch_offset: Offset) -> Self {
        Self {
            replica,
            broker_epoch: None,
            current_leader_epoch: None,
            fetch_offset,
            log_start: 0,
            last_fetched_epoch: None,
        }
    }
}

/// A fetch that may be read for, and then counts as the follower's acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmittedFetch {
    pub(super) fetch: FollowerFetch,
    /// The leader's log end before the read: what is appended during the read does not count against the follower.
    pub(super) leader_log_end: Offset,
}

/// How a leader answers a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchVerdict {
    /// Its log agrees up to the fetch offset: read there, then tell [`super::LeaderState::on_follower_fetch`].
    Read(AdmittedFetch),
    /// The logs parted: answer without records, with the end of the last epoch that both may share. Such a fetch
    /// acknowledges nothing.
    Diverging(EpochEndOffset),
}

/// Compares a leader epoch of a request with this replica's (`Partition.checkCurrentLeaderEpoch`).
pub(super) fn check_epoch(requested: Option<LeaderEpoch>, current: LeaderEpoch) -> Result<(), ReplicaError> {
    match requested {
        Some(requested) if requested < current => Err(ReplicaError::FencedLeaderEpoch { requested, current }),
        Some(requested) if requested > current => Err(ReplicaError::UnknownLeaderEpoch { requested, current }),
        _ => Ok(()),
    }
}

/// Whether a follower's log parted from this one, by where the follower's last epoch ends here (`Partition.readRecords`).
pub(super) fn check_divergence(
    fetch: &FollowerFetch,
    log: &LocalOffsets,
    last_fetched_epoch_end: Option<(LeaderEpoch, Offset)>,
) -> Result<FetchVerdict, ReplicaError> {
    let (log_start, log_end) = (log.log_start, log.log_end);
    let out_of_range = ReplicaError::OffsetOutOfRange { offset: fetch.fetch_offset, log_start, log_end };
    if fetch.fetch_offset < log_start {
        return Err(out_of_range);
    }
    if let Some(last_fetched_epoch) = fetch.last_fetched_epoch {
        let Some((epoch, end_offset)) = last_fetched_epoch_end else {
            return Err(out_of_range);
        };
        if epoch < last_fetched_epoch || end_offset < fetch.fetch_offset {
            let end = EpochEndOffset { leader_epoch: Some(epoch), end_offset: Some(end_offset) };
            return Ok(FetchVerdict::Diverging(end));
        }
    }
    if fetch.fetch_offset > log_end {
        return Err(out_of_range);
    }
    Ok(FetchVerdict::Read(AdmittedFetch { fetch: *fetch, leader_log_end: log_end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LocalOffsets = LocalOffsets { log_start: 0, high_watermark: 0, log_end: 17 };

    /// Epochs and their first offsets; the present epoch, 10, has no record yet.
    const EPOCHS: [(LeaderEpoch, Offset); 6] = [(0, 0), (3, 2), (4, 8), (7, 13), (9, 14), (10, 17)];

    fn end_offset_for(epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let next = EPOCHS.iter().position(|(known, _)| *known > epoch);
        let (floor, _) = EPOCHS.iter().rfind(|(known, _)| *known <= epoch)?;
        match next {
            Some(next) => Some((*floor, EPOCHS[next].1)),
            None if epoch == 10 => Some((10, 17)),
            None => None,
        }
    }

    fn verdict(epoch: LeaderEpoch, offset: Offset, log: &LocalOffsets) -> Result<FetchVerdict, ReplicaError> {
        let fetch = FollowerFetch { last_fetched_epoch: Some(epoch), ..FollowerFetch::new(2, offset) };
        check_divergence(&fetch, log, end_offset_for(epoch))
    }

    // M 236
    #[test]
    fn divergence_is_told_with_the_end_of_the_last_shared_epoch() {
        for (asked, end) in
            [((2, 5), (0, 2)), ((0, 4), (0, 2)), ((6, 6), (4, 13)), ((5, 9), (4, 13)), ((10, 18), (10, 17))]
        {
            let diverging = EpochEndOffset { leader_epoch: Some(end.0), end_offset: Some(end.1) };
            assert_eq!(verdict(asked.0, asked.1, &LOG), Ok(FetchVerdict::Diverging(diverging)), "{asked:?}");
        }
        for (epoch, offset) in [(0, 2), (7, 14), (9, 17), (10, 17)] {
            assert!(matches!(verdict(epoch, offset, &LOG), Ok(FetchVerdict::Read(_))), "{epoch} {offset}");
        }
        assert!(matches!(verdict(11, 5, &LOG), Err(ReplicaError::OffsetOutOfRange { offset: 5, .. })));
    }

    // M 236
    #[test]
    fn below_the_log_start_is_out_of_range_even_if_the_epochs_diverge() {
        let log = LocalOffsets { log_start: 6, ..LOG };
        assert!(matches!(verdict(2, 5, &log), Err(ReplicaError::OffsetOutOfRange { .. })));
        assert!(matches!(verdict(3, 5, &log), Err(ReplicaError::OffsetOutOfRange { .. })));
    }

    #[test]
    fn without_a_last_epoch_only_the_range_counts() {
        for (offset, fine) in [(0, true), (17, true), (18, false), (-1, false)] {
            assert_eq!(check_divergence(&FollowerFetch::new(2, offset), &LOG, None).is_ok(), fine, "{offset}");
        }
    }

    // M 243
    #[test]
    fn older_epochs_are_fenced_and_newer_ones_unknown() {
        assert_eq!(check_epoch(None, 5), Ok(()));
        assert_eq!(check_epoch(Some(5), 5), Ok(()));
        assert_eq!(check_epoch(Some(4), 5), Err(ReplicaError::FencedLeaderEpoch { requested: 4, current: 5 }));
        assert_eq!(check_epoch(Some(6), 5), Err(ReplicaError::UnknownLeaderEpoch { requested: 6, current: 5 }));
    }
}
