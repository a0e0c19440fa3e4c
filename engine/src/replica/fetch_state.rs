//! Where a follower is in fetching from its leader.
//!
//! Knows nothing of the log: it is told what was cut and appended. Keeps: an answer counts only for the very question
//! that is open.

use super::{
    BrokerEpoch, BrokerId, EpochEndOffset, FollowerFetch, LocalOffsets,
    truncation::{Truncation, truncation_offset},
};
use crate::types::{LeaderEpoch, Offset};

/// What a follower does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchPhase {
    /// It fetches.
    Fetching,
    /// It asks the leader where this epoch ends (`OffsetsForLeaderEpoch`), and cuts by the answer.
    AskingEpochEnd(LeaderEpoch),
    /// It knows no epoch of its records: it cuts to its high watermark, at this offset.
    TruncatingTo(Offset),
}

/// One follower's fetching from one leader, in one leader epoch (`PartitionFetchState`).
///
/// ```
/// use duramen::replica::{FetchPhase, FetchState, LocalOffsets};
/// let log = LocalOffsets { log_start: 0, high_watermark: 6, log_end: 9 };
/// let state = FetchState::new(4, &log, Some(3));
/// assert_eq!((state.phase(), state.fetch_offset()), (FetchPhase::Fetching, 9));
/// assert_eq!(state.fetch(2, None, &log).last_fetched_epoch, Some(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchState {
    leader_epoch: LeaderEpoch,
    fetch_offset: Offset,
    last_fetched_epoch: Option<LeaderEpoch>,
    truncating: bool,
    truncates_on_fetch: bool,
}

impl FetchState {
    /// Begins to follow: at the log end if the epoch of the last record is known, since the leader then tells of a
    /// divergence as it is fetched from; otherwise at the high watermark, to which the log is first cut
    /// (`ReplicaManager.initialFetchOffset`).
    #[must_use]
    pub fn new(leader_epoch: LeaderEpoch, local: &LocalOffsets, latest_epoch: Option<LeaderEpoch>) -> Self {
        Self {
            leader_epoch,
            fetch_offset: if latest_epoch.is_some() { local.log_end } else { local.high_watermark },
            last_fetched_epoch: latest_epoch,
            truncating: latest_epoch.is_none(),
            truncates_on_fetch: true,
        }
    }

    /// Begins to follow a leader that does not tell of divergence on fetch, or the local log from another directory:
    /// asks for the end of the epoch before it fetches.
    #[must_use]
    pub fn asking_first(leader_epoch: LeaderEpoch, local: &LocalOffsets, latest_epoch: Option<LeaderEpoch>) -> Self {
        Self {
            leader_epoch,
            fetch_offset: local.high_watermark,
            last_fetched_epoch: latest_epoch,
            truncating: true,
            truncates_on_fetch: false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn phase(&self) -> FetchPhase {
        match (self.truncating, self.last_fetched_epoch) {
            (false, _) => FetchPhase::Fetching,
            (true, Some(epoch)) => FetchPhase::AskingEpochEnd(epoch),
            (true, None) => FetchPhase::TruncatingTo(self.fetch_offset),
        }
    }

    /// The next offset to fetch, inclusive.
    #[must_use]
    pub fn fetch_offset(&self) -> Offset {
        self.fetch_offset
    }

    /// The leader's epoch.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The fetch to send.
    #[must_use]
    pub fn fetch(&self, replica: BrokerId, broker_epoch: Option<BrokerEpoch>, local: &LocalOffsets) -> FollowerFetch {
        FollowerFetch {
            replica,
            broker_epoch,
            current_leader_epoch: Some(self.leader_epoch),
            fetch_offset: self.fetch_offset,
            log_start: local.log_start,
            last_fetched_epoch: self.last_fetched_epoch.filter(|_| self.truncates_on_fetch),
        }
    }

    /// Whether an answer to this fetch still matters: the follower did not move on since (`processFetchRequest`).
    #[must_use]
    pub fn awaits(&self, fetch: &FollowerFetch) -> bool {
        !self.truncating
            && fetch.fetch_offset == self.fetch_offset
            && fetch.current_leader_epoch == Some(self.leader_epoch)
    }

    /// Where to cut by the leader's word of where an epoch ends. `own` is where that epoch ends in the local log: what
    /// [`crate::LogReader::end_offset_for_epoch`] says of the answer's epoch. Cut, then tell [`FetchState::on_truncation`].
    #[must_use]
    pub fn truncation(
        &self,
        answer: EpochEndOffset,
        own: Option<(LeaderEpoch, Offset)>,
        local: &LocalOffsets,
    ) -> Truncation {
        truncation_offset(answer, own, self.fetch_offset, local)
    }

    /// The log was cut, or begun anew, and now ends there; `latest_epoch` is that of what is left. A follower that
    /// truncates on fetch goes on fetching either way: if the logs still part, the leader says so again.
    pub fn on_truncation(&mut self, done: Truncation, latest_epoch: Option<LeaderEpoch>) {
        self.fetch_offset = done.offset;
        self.last_fetched_epoch = latest_epoch;
        self.truncating = !(self.truncates_on_fetch || done.complete);
    }

    /// Records were appended up to `next_offset`, exclusive; `last_epoch` is that of the last one.
    pub fn on_records(&mut self, next_offset: Offset, last_epoch: Option<LeaderEpoch>) {
        self.fetch_offset = next_offset;
        self.last_fetched_epoch = last_epoch.or(self.last_fetched_epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: LocalOffsets = LocalOffsets { log_start: 0, high_watermark: 6, log_end: 9 };

    // M 246
    #[test]
    fn a_log_without_epochs_is_cut_to_its_high_watermark_first() {
        let mut state = FetchState::new(4, &LOCAL, None);
        assert_eq!(state.phase(), FetchPhase::TruncatingTo(6));
        let fetch = state.fetch(2, None, &LOCAL);
        assert!(!state.awaits(&fetch), "it must not fetch yet");
        state.on_truncation(Truncation { offset: 6, complete: true }, None);
        assert_eq!((state.phase(), state.fetch_offset()), (FetchPhase::Fetching, 6));
    }

    // M 246
    #[test]
    fn an_unknown_epoch_takes_another_round_when_asking_first() {
        let mut state = FetchState::asking_first(4, &LOCAL, Some(3));
        assert_eq!(state.phase(), FetchPhase::AskingEpochEnd(3));
        let answer = EpochEndOffset { leader_epoch: Some(2), end_offset: Some(8) };
        let cut = state.truncation(answer, Some((1, 5)), &LOCAL);
        assert_eq!(cut, Truncation { offset: 5, complete: false });
        state.on_truncation(cut, Some(1));
        assert_eq!(state.phase(), FetchPhase::AskingEpochEnd(1));
        let local = LocalOffsets { log_end: 5, ..LOCAL };
        let answer = EpochEndOffset { leader_epoch: Some(1), end_offset: Some(4) };
        let cut = state.truncation(answer, Some((1, 5)), &local);
        state.on_truncation(cut, Some(1));
        assert_eq!((state.phase(), state.fetch_offset()), (FetchPhase::Fetching, 4));
        assert_eq!(state.fetch(2, None, &local).last_fetched_epoch, None);
    }

    // M 246
    #[test]
    fn an_answer_without_an_offset_falls_back_to_the_high_watermark() {
        let state = FetchState::asking_first(4, &LOCAL, Some(3));
        let answer = EpochEndOffset { leader_epoch: None, end_offset: None };
        assert_eq!(state.truncation(answer, None, &LOCAL), Truncation { offset: 6, complete: true });
    }

    #[test]
    fn answers_to_what_is_no_longer_asked_are_not_awaited() {
        let mut state = FetchState::new(4, &LOCAL, Some(3));
        let fetch = state.fetch(2, Some(1), &LOCAL);
        assert!(state.awaits(&fetch));
        assert!(!FetchState::new(5, &LOCAL, Some(3)).awaits(&fetch), "a later leader epoch");
        state.on_records(12, Some(4));
        assert!(!state.awaits(&fetch), "it has moved on");
        assert_eq!(state.fetch(2, Some(1), &LOCAL).last_fetched_epoch, Some(4));
    }
}
