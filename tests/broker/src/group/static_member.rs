//! A static member that comes back: its new incarnation takes the place of the old one, without a rebalance where the group is
//! stable and nothing changes (KIP-345, KIP-814).
//!
//! Follows `updateStaticMemberThenRebalanceOrCompleteJoin` and `ClassicGroup.replaceStaticMember`.

use super::{
    ClassicGroup, Effects, GroupConfig, Join, Purpose, State,
    classic::{answer_member, refused_join},
    join::FIRST_VERSION_WITH_SKIP_ASSIGNMENT,
    stored::Replaced,
};
use duramen::KafkaErrorCode;
use kafka_protocol::{ResponseError, protocol::StrBytes};

impl ClassicGroup {
    /// The member of an instance id joins without a member id: it was started anew.
    pub(super) fn replace_static_member(
        &mut self,
        join: &Join<'_>,
        old_id: &StrBytes,
        new_id: StrBytes,
        config: &GroupConfig,
        effects: &mut Effects,
    ) {
        let Some(old) = self.members.get(old_id) else {
            effects.join(join.id, refused_join(ResponseError::UnknownMemberId, StrBytes::new()));
            return;
        };
        let replaced = Replaced {
            generation: self.generation,
            old_id: old_id.clone(),
            new_id: new_id.clone(),
            old_leader: self.leader.clone(),
            old_protocols: old.protocols.clone(),
            old_rebalance_timeout_ms: old.rebalance_timeout_ms,
            old_session_timeout_ms: old.session_timeout_ms,
            skips_assignment: join.version >= FIRST_VERSION_WITH_SKIP_ASSIGNMENT,
        };
        self.rename(old_id, &new_id, effects);
        self.update(&new_id, join, effects);
        if let Some(member) = self.members.get_mut(&new_id) {
            member.restart_session(join.now_ms);
        }
        if self.state == State::Stable && self.protocol == self.select_protocol() {
            effects.store.push(self.store(Purpose::StaticMember(replaced)));
        } else {
            // While the leader assigns, the old id may be in what it does: everybody joins again.
            self.prepare_rebalance_or_complete_join(config, join.now_ms, effects);
        }
    }

    /// Gives a static member another id. Whoever waits under the old one is fenced.
    fn rename(&mut self, old_id: &StrBytes, new_id: &StrBytes, effects: &mut Effects) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        answer_member(&mut member, ResponseError::FencedInstanceId, old_id.clone(), effects);
        member.id = new_id.clone();
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.pending_syncs.remove(old_id) {
            self.pending_syncs.insert(new_id.clone());
        }
        self.members.insert(new_id.clone(), member);
    }

    /// The new incarnation is stored, or cannot be: then the old one is put back.
    pub(super) fn replacement_stored(
        &mut self,
        replaced: &Replaced,
        result: Result<(), KafkaErrorCode>,
        now_ms: i64,
        effects: &mut Effects,
    ) {
        let new_id = &replaced.new_id;
        let Some(member) = self.members.get_mut(new_id) else { return };
        if let Err(error) = result {
            if let Some(request) = member.awaits_join.take() {
                effects.join(request, refused_join(as_response_error(error), StrBytes::new()));
            }
            member.protocols.clone_from(&replaced.old_protocols);
            member.rebalance_timeout_ms = replaced.old_rebalance_timeout_ms;
            member.session_timeout_ms = replaced.old_session_timeout_ms;
            member.restart_session(now_ms);
            self.rename(new_id, &replaced.old_id, effects);
            return;
        }
        // If a rebalance began meanwhile, the join waits for that.
        if self.state != State::Stable || self.generation != replaced.generation {
            return;
        }
        let Some(request) = member.awaits_join.take() else { return };
        // While it waited its session did not count.
        member.restart_session(now_ms);
        let response = self.joined(new_id);
        if replaced.skips_assignment {
            // The leader goes on watching the topics; what it would assign now nobody would get.
            let is_leader = self.is_leader(new_id);
            effects.join(request, response.with_skip_assignment(is_leader));
        } else {
            // An older client that does not recognise itself as the leader does not assign either.
            let leader = replaced.old_leader.clone().unwrap_or_default();
            effects.join(request, response.with_members(Vec::new()).with_leader(leader));
        }
    }
}

/// What a client is told of a record that could not be stored (`appendGroupMetadataErrorToResponseError`).
pub(crate) fn as_response_error(error: KafkaErrorCode) -> ResponseError {
    match error {
        KafkaErrorCode::UnknownTopicOrPartition
        | KafkaErrorCode::NotEnoughReplicas
        | KafkaErrorCode::RequestTimedOut => ResponseError::CoordinatorNotAvailable,
        KafkaErrorCode::NotLeaderOrFollower | KafkaErrorCode::KafkaStorageError => ResponseError::NotCoordinator,
        _ => ResponseError::UnknownServerError,
    }
}
