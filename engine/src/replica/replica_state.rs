//! What a leader knows of one follower, from its fetches.
//!
//! Keeps: the time a follower was last caught up never goes back within one leadership.

use super::{BrokerEpoch, FollowerFetch};
use crate::types::{Offset, Timestamp};

/// One follower as its leader sees it (`ReplicaState`).
///
/// A follower that fetches at offset `n` has everything below `n`: its fetch is its acknowledgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaState {
    last_fetch: Option<LastFetch>,
    last_caught_up_ms: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastFetch {
    log_start: Offset,
    log_end: Offset,
    broker_epoch: Option<BrokerEpoch>,
    /// The leader's log end when this fetch arrived, or where its epoch began if it was elected anew since.
    leader_log_end: Offset,
    /// When this fetch arrived; `None` if it does not count as a sign of life in the present leader epoch.
    at_ms: Option<Timestamp>,
}

impl ReplicaState {
    /// A follower of a leader that has just begun: in sync as of now, or not known to have ever been.
    pub(super) fn new(in_sync: bool, now_ms: Timestamp) -> Self {
        Self { last_fetch: None, last_caught_up_ms: in_sync.then_some(now_ms) }
    }

    /// The same follower when its leader was elected anew (`Replica.resetReplicaState`). What it has is still known;
    /// whether it keeps up must be shown again by one that was not in sync.
    pub(super) fn re_elected(self, in_sync: bool, now_ms: Timestamp, leader_log_end: Offset) -> Self {
        let at_ms = in_sync.then_some(now_ms);
        Self {
            last_fetch: self.last_fetch.map(|fetch| LastFetch { leader_log_end, at_ms, ..fetch }),
            last_caught_up_ms: at_ms,
        }
    }

    /// Next log offset of the follower; `None` before its first fetch.
    #[must_use]
    pub fn log_end(&self) -> Option<Offset> {
        self.last_fetch.map(|fetch| fetch.log_end)
    }

    /// First readable offset of the follower; `None` before its first fetch.
    #[must_use]
    pub fn log_start(&self) -> Option<Offset> {
        self.last_fetch.map(|fetch| fetch.log_start)
    }

    /// When it last had everything that the leader had, in ms; `None` if never.
    #[must_use]
    pub fn last_caught_up_ms(&self) -> Option<Timestamp> {
        self.last_caught_up_ms
    }

    /// Incarnation with which it last fetched: `None` before its first fetch, `Some(None)` if the fetch did not say.
    #[must_use]
    pub fn broker_epoch(&self) -> Option<Option<BrokerEpoch>> {
        self.last_fetch.map(|fetch| fetch.broker_epoch)
    }

    /// Whether it has all that the leader has, or had so within the last `max_lag_ms` (inclusive).
    #[must_use]
    pub fn is_caught_up(&self, leader_log_end: Offset, now_ms: Timestamp, max_lag_ms: Timestamp) -> bool {
        self.log_end() == Some(leader_log_end)
            || self.last_caught_up_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= max_lag_ms)
    }

    /// Takes note of a fetch (`Replica.updateFetchStateOrThrow`). One that reaches the leader's log end is caught up
    /// now. One that reaches the log end of the fetch before was caught up then: under steady load a follower never
    /// sees the end, and yet keeps up.
    pub(super) fn on_fetch(&mut self, fetch: &FollowerFetch, leader_log_end: Offset, now_ms: Timestamp) {
        let caught_up_ms = if fetch.fetch_offset >= leader_log_end {
            Some(now_ms)
        } else {
            self.last_fetch.filter(|last| fetch.fetch_offset >= last.leader_log_end).and_then(|last| last.at_ms)
        };
        self.last_caught_up_ms = self.last_caught_up_ms.max(caught_up_ms);
        self.last_fetch = Some(LastFetch {
            log_start: fetch.log_start,
            log_end: fetch.fetch_offset,
            broker_epoch: fetch.broker_epoch,
            leader_log_end: self.last_fetch.map_or(leader_log_end, |last| last.leader_log_end.max(leader_log_end)),
            at_ms: Some(now_ms),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch_at(offset: Offset) -> FollowerFetch {
        FollowerFetch { fetch_offset: offset, ..FollowerFetch::new(2, 0) }
    }

    // M 241
    #[test]
    fn caught_up_is_now_at_the_end_or_then_at_the_end_of_the_fetch_before() {
        // (fetch offset, leader's log end, time, last caught up)
        let fetches = [
            (0, 10, 100, None),
            (5, 20, 200, None),
            (20, 30, 300, Some(200)),
            (29, 40, 400, Some(200)),
            (40, 50, 500, Some(400)),
            (50, 50, 600, Some(600)),
            (50, 60, 700, Some(600)),
        ];
        let mut state = ReplicaState::new(false, 0);
        for (offset, leader_log_end, now_ms, caught_up) in fetches {
            state.on_fetch(&fetch_at(offset), leader_log_end, now_ms);
            assert_eq!((state.log_end(), state.last_caught_up_ms()), (Some(offset), caught_up), "at {now_ms}");
        }
    }

    #[test]
    fn a_new_leader_trusts_the_in_sync_for_a_while() {
        let in_sync = ReplicaState::new(true, 1000);
        assert!(in_sync.is_caught_up(50, 1030, 30));
        assert!(!in_sync.is_caught_up(50, 1031, 30));
        assert!(!ReplicaState::new(false, 1000).is_caught_up(50, 1000, 30));
    }

    #[test]
    fn a_follower_at_the_log_end_is_caught_up_however_long_ago_it_fetched() {
        let mut state = ReplicaState::new(false, 0);
        state.on_fetch(&fetch_at(10), 10, 100);
        assert!(state.is_caught_up(10, 1_000_000, 30));
        assert!(!state.is_caught_up(11, 1_000_000, 30));
    }

    #[test]
    fn re_election_keeps_what_is_known_and_asks_for_a_fetch_before_it_trusts() {
        let mut state = ReplicaState::new(false, 0);
        state.on_fetch(&fetch_at(10), 20, 100);
        let mut out_of_sync = state.re_elected(false, 200, 20);
        assert_eq!((out_of_sync.log_end(), out_of_sync.last_caught_up_ms()), (Some(10), None));
        out_of_sync.on_fetch(&fetch_at(20), 30, 300);
        assert_eq!(out_of_sync.last_caught_up_ms(), None, "the fetch before was in another epoch");
        assert_eq!(state.re_elected(true, 200, 20).last_caught_up_ms(), Some(200));
    }
}
