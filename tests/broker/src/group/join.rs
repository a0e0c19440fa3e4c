//! JoinGroup: who is let in, and whether that begins a rebalance.
//!
//! Follows `GroupMetadataManager.classicGroupJoin` and what it calls. Keeps: every join is answered at once or waits in one
//! member.

use super::{
    ClassicGroup, Client, Effects, GroupConfig, Protocol, RequestId, State,
    classic::{Member, refused_join},
    owned,
};
use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{JoinGroupRequest, JoinGroupResponse, join_group_request::JoinGroupRequestProtocol},
    protocol::StrBytes,
};
use uuid::Uuid;

/// The first version in which a member without an id is given one and has to come again (KIP-394).
const FIRST_VERSION_WITH_KNOWN_ID: i16 = 4;
/// The first version in which a leader can be told that there is nothing to assign (KIP-814).
pub(super) const FIRST_VERSION_WITH_SKIP_ASSIGNMENT: i16 = 9;
/// How long the first join of a member waits for its answer at most (`classicGroupNewMemberJoinTimeoutMs`).
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60_000;

/// A JoinGroup request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Join<'a> {
    /// Its number, under which the answer comes.
    pub(crate) id: RequestId,
    /// What it says.
    pub(crate) request: &'a JoinGroupRequest,
    /// In which version.
    pub(crate) version: i16,
    /// Who sent it.
    pub(crate) client: &'a Client,
    /// For the id of a new member.
    pub(crate) unique: Uuid,
    /// The time.
    pub(crate) now_ms: i64,
}

impl Join<'_> {
    pub(super) fn protocols(&self) -> Vec<Protocol> {
        let taken = |protocol: &JoinGroupRequestProtocol| Protocol {
            name: owned(&protocol.name),
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        };
        self.request.protocols.iter().map(taken).collect()
    }

    /// Before version 1 there was one time-out for both.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        if self.version == 0 { self.request.session_timeout_ms } else { self.request.rebalance_timeout_ms }
    }

    /// As Kafka makes ids: `ClassicGroup.generateMemberId`.
    fn new_member_id(&self) -> StrBytes {
        let front = self.request.group_instance_id.as_deref().unwrap_or(&self.client.id);
        format!("{front}-{}", self.unique).into()
    }

    fn member(&self, member_id: StrBytes) -> Member {
        Member {
            id: member_id,
            instance_id: self.request.group_instance_id.as_deref().map(owned),
            client: self.client.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms(),
            session_timeout_ms: self.request.session_timeout_ms,
            protocols: self.protocols(),
            assignment: Bytes::new(),
            is_new: true,
            awaits_join: Some(self.id),
            awaits_sync: None,
            // A new member does not know its id yet, so it cannot send heartbeats; and a join that waits shows nothing of a
            // connection that broke. It has this long, and joins again if it is still there.
            session_ends_ms: Some(self.now_ms.saturating_add(NEW_MEMBER_JOIN_TIMEOUT_MS)),
        }
    }
}

impl ClassicGroup {
    /// Somebody joins, for the first time or again.
    pub(crate) fn join(&mut self, join: &Join<'_>, config: &GroupConfig, effects: &mut Effects) {
        let member_id = &join.request.member_id;
        if !self.accepts(member_id, config.max_size) {
            self.remove(member_id, effects);
            effects.join(join.id, refused_join(ResponseError::GroupMaxSizeReached, StrBytes::new()));
            return;
        }
        if !self.supports(&join.request.protocol_type, &join.protocols()) {
            effects.join(join.id, refused_join(ResponseError::InconsistentGroupProtocol, member_id.clone()));
        } else if member_id.is_empty() {
            self.join_new(join, config, effects);
        } else {
            self.join_again(join, config, effects);
        }
    }

    /// Whether there is room (`acceptJoiningMember`). While a group rebalances those count who have come: where there are
    /// too many the last ones have to go.
    fn accepts(&self, member_id: &StrBytes, max_size: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(|member| member.awaits_join.is_some())
                    || self.members.values().filter(|member| member.awaits_join.is_some()).count() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < max_size
            }
        }
    }

    fn join_new(&mut self, join: &Join<'_>, config: &GroupConfig, effects: &mut Effects) {
        let member_id = join.new_member_id();
        if let Some(instance_id) = &join.request.group_instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static_member(join, &old_id, member_id, config, effects),
                None => self.take_in(join, member_id, config, effects),
            }
        } else if join.version >= FIRST_VERSION_WITH_KNOWN_ID {
            let until = join.now_ms.saturating_add(i64::from(join.request.session_timeout_ms));
            self.pending_joins.insert(member_id.clone(), until);
            effects.join(join.id, refused_join(ResponseError::MemberIdRequired, member_id));
        } else {
            self.take_in(join, member_id, config, effects);
        }
    }

    fn take_in(&mut self, join: &Join<'_>, member_id: StrBytes, config: &GroupConfig, effects: &mut Effects) {
        self.add(join.member(member_id), &join.request.protocol_type);
        if self.state == State::PreparingRebalance
            && let Some(initial) = self.join_timer.as_mut().and_then(|timer| timer.initial.as_mut())
        {
            initial.member_came = true;
        }
        self.prepare_rebalance_or_complete_join(config, join.now_ms, effects);
    }

    /// `classicGroupJoinExistingMember`
    fn join_again(&mut self, join: &Join<'_>, config: &GroupConfig, effects: &mut Effects) {
        let (member_id, instance_id) = (&join.request.member_id, join.request.group_instance_id.as_ref());
        if self.pending_joins.contains_key(member_id) {
            if instance_id.is_some() {
                // A pending member was given its id without an instance id: it does not have one now.
                effects.join(join.id, refused_join(ResponseError::UnknownMemberId, member_id.clone()));
                return;
            }
            self.take_in(join, owned(member_id), config, effects);
            return;
        }
        if let Err(error) = self.check_member(member_id, instance_id) {
            effects.join(join.id, refused_join(error, member_id.clone()));
            return;
        }
        let says_the_same = self.members.get(member_id).is_some_and(|member| member.protocols == join.protocols());
        let is_leader = self.is_leader(member_id);
        match self.state {
            // It did not hear that it had joined: it is told again. The leader may want another assignment, of topics that
            // changed, so in a stable group its join always is a new one.
            State::CompletingRebalance if says_the_same => effects.join(join.id, self.joined(member_id)),
            State::Stable if says_the_same && !is_leader => effects.join(join.id, self.joined(member_id)),
            State::Empty => effects.join(join.id, refused_join(ResponseError::UnknownMemberId, member_id.clone())),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(member_id, join, effects);
                self.prepare_rebalance_or_complete_join(config, join.now_ms, effects);
            }
        }
    }

    /// A member joins again with what it says now. An earlier join of it that still waits is of a connection that is gone.
    pub(super) fn update(&mut self, member_id: &StrBytes, join: &Join<'_>, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.protocols = join.protocols();
        member.rebalance_timeout_ms = join.rebalance_timeout_ms();
        member.session_timeout_ms = join.request.session_timeout_ms;
        if let Some(earlier) = member.awaits_join.replace(join.id) {
            effects.join(earlier, refused_join(ResponseError::RebalanceInProgress, member_id.clone()));
        }
    }

    /// What a member of this generation is told; the leader, who is in it.
    pub(super) fn joined(&self, member_id: &StrBytes) -> JoinGroupResponse {
        let members = if self.is_leader(member_id) { self.members_for_leader() } else { Vec::new() };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_leader(self.leader.clone().unwrap_or_default())
            .with_member_id(member_id.clone())
            .with_members(members)
    }
}
