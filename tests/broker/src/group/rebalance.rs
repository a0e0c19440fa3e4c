//! A rebalance from its beginning to the next generation, and the deadlines of a group.
//!
//! Follows `GroupMetadataManager.prepareRebalance`, `completeClassicGroupJoin`, `tryCompleteInitialRebalanceElseSchedule`,
//! `expirePendingSync` and `expireClassicGroupMemberHeartbeat`. Keeps: a group that rebalances has a deadline.

use super::{
    ClassicGroup, Effects, GroupConfig, Purpose, State,
    classic::{InitialDelay, JoinTimer},
};
use kafka_protocol::{ResponseError, protocol::StrBytes};

impl ClassicGroup {
    /// After a member came: begins a rebalance, or ends the one that waited for it.
    pub(super) fn prepare_rebalance_or_complete_join(
        &mut self,
        config: &GroupConfig,
        now_ms: i64,
        effects: &mut Effects,
    ) {
        match self.state {
            State::Empty => self.begin_first_rebalance(config, now_ms),
            State::PreparingRebalance => self.complete_join_if_all_came(now_ms, effects),
            State::CompletingRebalance | State::Stable => self.begin_rebalance(now_ms, effects),
        }
    }

    /// The first member of an empty group is seldom alone for long: others get a moment to come, rather than a rebalance for
    /// each.
    fn begin_first_rebalance(&mut self, config: &GroupConfig, now_ms: i64) {
        let delay_ms = i64::from(config.initial_rebalance_delay_ms.max(0));
        let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
        self.enter(State::PreparingRebalance, now_ms);
        self.join_timer = Some(JoinTimer {
            at_ms: now_ms.saturating_add(delay_ms),
            initial: Some(InitialDelay { delay_ms, remaining_ms, member_came: false }),
        });
    }

    /// Asks everybody to join again. Those who wait for their assignment learn it at once, the others by their heartbeats.
    pub(super) fn begin_rebalance(&mut self, now_ms: i64, effects: &mut Effects) {
        if self.state == State::CompletingRebalance {
            self.refuse_assignments(ResponseError::RebalanceInProgress, now_ms, effects);
        }
        self.sync_timer_ms = None;
        self.enter(State::PreparingRebalance, now_ms);
        if self.all_came() {
            self.complete_join(now_ms, effects);
        } else {
            self.wait_for_members(now_ms);
        }
    }

    /// The slowest member's time-out; at least a millisecond, whatever clients say.
    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).fold(1, i64::max)
    }

    fn wait_for_members(&mut self, now_ms: i64) {
        let at_ms = now_ms.saturating_add(self.rebalance_timeout_ms());
        self.join_timer = Some(JoinTimer { at_ms, initial: None });
    }

    fn all_came(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.awaits_join.is_some())
    }

    /// `maybeCompleteJoinPhase`: the delay of a first rebalance is not cut short.
    pub(super) fn complete_join_if_all_came(&mut self, now_ms: i64, effects: &mut Effects) {
        if self.state == State::PreparingRebalance && self.previous != State::Empty && self.all_came() {
            self.complete_join(now_ms, effects);
        }
    }

    /// Begins the next generation with those who came, and with static members, who may come later.
    fn complete_join(&mut self, now_ms: i64, effects: &mut Effects) {
        self.join_timer = None;
        let stayed_away = |(id, member): (&StrBytes, &super::classic::Member)| {
            (member.awaits_join.is_none() && member.instance_id.is_none()).then(|| id.clone())
        };
        for id in self.members.iter().filter_map(stayed_away).collect::<Vec<_>>() {
            self.remove(&id, effects);
        }
        if !self.members.is_empty() && !self.has_leader_that_came() {
            // None but static members are left, and none of them came: they are waited for until their sessions end.
            self.wait_for_members(now_ms);
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.enter(State::Empty, now_ms);
            let store = self.store(Purpose::Emptied);
            effects.store.push(store);
        } else {
            self.protocol = self.select_protocol();
            self.enter(State::CompletingRebalance, now_ms);
            self.tell_generation(now_ms, effects);
        }
    }

    /// Makes a member that came the leader, if the leader did not come (`maybeElectNewJoinedLeader`).
    fn has_leader_that_came(&mut self) -> bool {
        let came = |id: &StrBytes| self.members.get(id).is_some_and(|member| member.awaits_join.is_some());
        if self.leader.as_ref().is_some_and(came) {
            return true;
        }
        let Some(leader) = self.members.keys().find(|id| came(id)).cloned() else { return false };
        self.leader = Some(leader);
        true
    }

    fn tell_generation(&mut self, now_ms: i64, effects: &mut Effects) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let response = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                if let Some(request) = member.awaits_join.take() {
                    effects.join(request, response);
                }
                member.is_new = false;
                member.restart_session(now_ms);
            }
            self.pending_syncs.insert(id);
        }
        self.sync_timer_ms = Some(now_ms.saturating_add(self.rebalance_timeout_ms()));
    }

    /// When [`ClassicGroup::tick`] has something to do; `None` if nothing is due at any time.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        let sessions = self.members.values().filter_map(|member| member.session_ends_ms);
        let pending = self.pending_joins.values().copied();
        let timers = self.join_timer.map(|timer| timer.at_ms).into_iter().chain(self.sync_timer_ms);
        sessions.chain(pending).chain(timers).min()
    }

    /// Does what is due: members that were silent too long go, a rebalance stops waiting.
    pub(crate) fn tick(&mut self, now_ms: i64, effects: &mut Effects) {
        self.expire_pending_joins(now_ms, effects);
        self.expire_sessions(now_ms, effects);
        if let Some(timer) = self.join_timer.filter(|timer| timer.at_ms <= now_ms) {
            self.join_time_is_up(timer, now_ms, effects);
        }
        if self.sync_timer_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.sync_time_is_up(now_ms, effects);
        }
    }

    fn expire_pending_joins(&mut self, now_ms: i64, effects: &mut Effects) {
        let before = self.pending_joins.len();
        self.pending_joins.retain(|_, until_ms| *until_ms > now_ms);
        if self.pending_joins.len() < before {
            self.complete_join_without(now_ms, effects);
        }
    }

    /// After somebody stayed away too long: if all others are here, even the first rebalance waits no longer
    /// (`removeMemberAndUpdateClassicGroup`).
    fn complete_join_without(&mut self, now_ms: i64, effects: &mut Effects) {
        if self.state == State::PreparingRebalance && self.all_came() {
            self.complete_join(now_ms, effects);
        }
    }

    fn expire_sessions(&mut self, now_ms: i64, effects: &mut Effects) {
        let mut gone = Vec::new();
        for (id, member) in &mut self.members {
            if member.session_ends_ms.is_some_and(|end_ms| end_ms <= now_ms) {
                member.session_ends_ms = None;
                if !member.is_waiting() {
                    gone.push(id.clone());
                }
            }
        }
        if !gone.is_empty() {
            self.let_go(&gone, now_ms, effects);
            self.complete_join_without(now_ms, effects);
        }
    }

    /// Lets members go, and has the others share what they had (`removeMemberAndUpdateClassicGroup`).
    pub(super) fn let_go(&mut self, gone: &[StrBytes], now_ms: i64, effects: &mut Effects) {
        if gone.is_empty() {
            return;
        }
        for id in gone {
            self.remove(id, effects);
        }
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.complete_join_if_all_came(now_ms, effects),
            State::CompletingRebalance | State::Stable => self.begin_rebalance(now_ms, effects),
        }
    }

    fn join_time_is_up(&mut self, timer: JoinTimer, now_ms: i64, effects: &mut Effects) {
        match timer.initial {
            Some(InitialDelay { delay_ms, remaining_ms, member_came: true }) if remaining_ms > 0 && delay_ms > 0 => {
                let next_ms = delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms.saturating_sub(delay_ms).max(0);
                self.join_timer = Some(JoinTimer {
                    at_ms: now_ms.saturating_add(next_ms),
                    initial: Some(InitialDelay { delay_ms: next_ms, remaining_ms, member_came: false }),
                });
            }
            _ => self.complete_join(now_ms, effects),
        }
    }

    /// Those who joined and did not ask for their assignment have gone.
    fn sync_time_is_up(&mut self, now_ms: i64, effects: &mut Effects) {
        self.sync_timer_ms = None;
        let gone: Vec<StrBytes> = self.pending_syncs.iter().cloned().collect();
        self.let_go(&gone, now_ms, effects);
    }
}
