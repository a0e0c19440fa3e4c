//! A group's members, and what follows from who they are: the leader, the protocol, the topics.
//!
//! Knows nothing of the order of a rebalance. Keeps: the leader is a member; a static member's id leads to a member.

use super::{Client, Effects, Protocol, RequestId, State, owned};
use crate::records::fields::FieldReader;
use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        GroupId, JoinGroupResponse, SyncGroupResponse,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        join_group_response::JoinGroupResponseMember,
        list_groups_response::ListedGroup,
    },
    protocol::StrBytes,
};
use std::collections::{BTreeMap, BTreeSet};

/// The kind of members whose subscriptions a broker can read.
const CONSUMER: &str = "consumer";

/// One group of the classic protocol.
#[derive(Debug, Clone)]
pub(crate) struct ClassicGroup {
    pub(super) id: StrBytes,
    pub(super) state: State,
    /// The state before: a rebalance that began with an empty group gives more members time to come.
    pub(super) previous: State,
    pub(super) state_since_ms: Option<i64>,
    pub(super) protocol_type: Option<StrBytes>,
    pub(super) generation: i32,
    pub(super) protocol: Option<StrBytes>,
    pub(super) leader: Option<StrBytes>,
    pub(super) members: BTreeMap<StrBytes, Member>,
    /// Member ids by the ids that their owners gave them.
    pub(super) static_members: BTreeMap<StrBytes, StrBytes>,
    /// Members that were given an id and have not joined with it yet, and until when they may, in ms.
    pub(super) pending_joins: BTreeMap<StrBytes, i64>,
    /// Members of this generation that have not asked for their assignment yet.
    pub(super) pending_syncs: BTreeSet<StrBytes>,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_timer_ms: Option<i64>,
}

/// When a rebalance stops waiting for members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinTimer {
    pub(super) at_ms: i64,
    /// The first rebalance of an empty group is put off again while members come.
    pub(super) initial: Option<InitialDelay>,
}

/// How far the first rebalance of an empty group can still be put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// How long it waits now, in ms.
    pub(super) delay_ms: i64,
    /// How long it may wait after that, in ms.
    pub(super) remaining_ms: i64,
    /// Whether a member came meanwhile.
    pub(super) member_came: bool,
}

/// A member of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: StrBytes,
    pub(super) instance_id: Option<StrBytes>,
    pub(super) client: Client,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// It has not learnt its id yet, so its session does not count; but its first join must not wait for ever.
    pub(super) is_new: bool,
    pub(super) awaits_join: Option<RequestId>,
    pub(super) awaits_sync: Option<RequestId>,
    /// Until when it may be silent, in ms; `None` while it waits for an answer itself.
    pub(super) session_ends_ms: Option<i64>,
}

impl Member {
    /// What it says of itself for a protocol.
    pub(super) fn metadata(&self, protocol: Option<&StrBytes>) -> Bytes {
        let found = self.protocols.iter().find(|known| Some(&known.name) == protocol);
        found.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn restart_session(&mut self, now_ms: i64) {
        self.session_ends_ms = Some(now_ms.saturating_add(i64::from(self.session_timeout_ms)));
    }

    /// Whether it waits for an answer of a group that it is known to, and so is alive.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaits_join.is_some() || self.awaits_sync.is_some())
    }
}

/// Who commits offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetCommitter<'a> {
    /// The generation that it belongs to; negative if none.
    pub(crate) generation: i32,
    /// Its member id; empty if none.
    pub(crate) member_id: &'a StrBytes,
    /// The id that its owner gave it.
    pub(crate) instance_id: Option<&'a StrBytes>,
    /// Whether it commits within a transaction.
    pub(crate) is_transactional: bool,
}

impl ClassicGroup {
    /// A group that nobody has joined yet.
    pub(crate) fn new(id: StrBytes, now_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            previous: State::Empty,
            state_since_ms: Some(now_ms),
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            join_timer: None,
            sync_timer_ms: None,
        }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether there is nothing to remember of it: nobody joined, and nobody is about to.
    pub(crate) fn is_untouched(&self) -> bool {
        self.is_deletable() && self.generation == 0 && self.protocol_type.is_none()
    }

    /// Whether it can be deleted: nobody is in it or about to be.
    pub(crate) fn is_deletable(&self) -> bool {
        self.state == State::Empty && self.pending_joins.is_empty()
    }

    /// Since when it is in its state, in ms, if that is known.
    pub(crate) fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    /// Whether it ever had members.
    pub(crate) fn has_protocol_type(&self) -> bool {
        self.protocol_type.is_some()
    }

    /// Whether its members are consumers, whose subscriptions a broker can read.
    pub(crate) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(super) fn enter(&mut self, state: State, now_ms: i64) {
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    pub(super) fn is_leader(&self, member_id: &StrBytes) -> bool {
        self.leader.as_ref() == Some(member_id)
    }

    /// The member of this id, unless it is another instance's now (`ClassicGroup.validateMember`).
    pub(super) fn check_member(
        &self,
        member_id: &StrBytes,
        instance_id: Option<&StrBytes>,
    ) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(known) if known != member_id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Whether offsets may be committed, and if a member commits them its session begins anew
    /// (`ClassicGroup.validateOffsetCommit`, `OffsetMetadataManager.validateOffsetCommit`).
    pub(crate) fn check_offset_commit(
        &mut self,
        committer: OffsetCommitter<'_>,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let OffsetCommitter { generation, member_id, instance_id, is_transactional } = committer;
        let is_empty = self.state == State::Empty;
        if generation < 0 && is_empty {
            return Ok(());
        }
        let says_who = generation >= 0 || !member_id.is_empty() || instance_id.is_some();
        if says_who {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ResponseError::IllegalGeneration);
            }
        } else if !is_transactional && !is_empty {
            return Err(ResponseError::UnknownMemberId);
        }
        if is_transactional {
            return Ok(());
        }
        if self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        if matches!(self.state, State::Stable | State::PreparingRebalance)
            && let Some(member) = self.members.get_mut(member_id)
        {
            member.restart_session(now_ms);
        }
        Ok(())
    }

    /// Whether a member with these protocols fits in (`ClassicGroup.supportsProtocols`).
    pub(super) fn supports(&self, protocol_type: &StrBytes, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.is_known_to_all(&protocol.name))
    }

    fn is_known_to_all(&self, name: &StrBytes) -> bool {
        self.members.values().all(|member| member.protocols.iter().any(|known| known.name == *name))
    }

    /// The protocol that most members like best among those that all know (`ClassicGroup.selectProtocol`). Where votes are
    /// equal, the one first in order of names: the same members always get the same.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let first = self.members.values().next()?;
        let candidates: BTreeSet<&StrBytes> =
            first.protocols.iter().map(|protocol| &protocol.name).filter(|name| self.is_known_to_all(name)).collect();
        let mut votes: BTreeMap<&StrBytes, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().map(|protocol| &protocol.name).find(|name| candidates.contains(name));
            if let Some(vote) = vote {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().max().copied();
        votes.into_iter().find(|(_, count)| Some(*count) == most).map(|(name, _)| name.clone())
    }

    /// Takes a member in.
    pub(super) fn add(&mut self, member: Member, protocol_type: &StrBytes) {
        if self.members.is_empty() {
            self.protocol_type = Some(owned(protocol_type));
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_joins.remove(&member.id);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Lets a member go. If it waits for an answer it is told that it is not known any more, so that it joins anew if it is
    /// still there.
    pub(super) fn remove(&mut self, member_id: &StrBytes, effects: &mut Effects) {
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
        let Some(mut member) = self.members.remove(member_id) else { return };
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        answer_member(&mut member, ResponseError::UnknownMemberId, StrBytes::new(), effects);
    }

    /// The members with their subscriptions, as the leader is told.
    pub(super) fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let described = |member: &Member| {
            JoinGroupResponseMember::default()
                .with_member_id(member.id.clone())
                .with_group_instance_id(member.instance_id.clone())
                .with_metadata(member.metadata(self.protocol.as_ref()))
        };
        self.members.values().map(described).collect()
    }

    /// The topics that the members consume; `None` if nobody can tell (`ClassicGroup.computeSubscribedTopics`).
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<StrBytes>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(topics_of(member.metadata(self.protocol.as_ref()))?);
        }
        Some(topics)
    }

    /// Whether the offsets of a topic may not be deleted (`ClassicGroup.isSubscribedToTopic`).
    pub(crate) fn is_subscribed_to(&self, topic: &StrBytes) -> bool {
        self.subscribed_topics().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// For ListGroups.
    pub(crate) fn listed(&self) -> ListedGroup {
        ListedGroup::default()
            .with_group_id(GroupId(self.id.clone()))
            .with_protocol_type(self.protocol_type.clone().unwrap_or_default())
            .with_group_state(StrBytes::from_static_str(self.state.name()))
            .with_group_type(StrBytes::from_static_str("classic"))
    }

    /// For DescribeGroups: what members said is told while the group is stable only (`ClassicGroup.describe`).
    pub(crate) fn described(&self) -> DescribedGroup {
        let is_stable = self.state == State::Stable;
        let described = |member: &Member| {
            let described = DescribedGroupMember::default()
                .with_member_id(member.id.clone())
                .with_group_instance_id(member.instance_id.clone())
                .with_client_id(member.client.id.clone().into())
                .with_client_host(member.client.host.clone().into())
                .with_member_assignment(member.assignment.clone());
            if is_stable {
                return described.with_member_metadata(member.metadata(self.protocol.as_ref()));
            }
            described
        };
        let protocol = self.protocol.clone().filter(|_| is_stable);
        DescribedGroup::default()
            .with_group_id(GroupId(self.id.clone()))
            .with_group_state(StrBytes::from_static_str(self.state.name()))
            .with_protocol_type(self.protocol_type.clone().unwrap_or_default())
            .with_protocol_data(protocol.unwrap_or_default())
            .with_members(self.members.values().map(described).collect())
    }

    /// Tells whoever waits that the group is to be asked for elsewhere or later (`GroupMetadataManager.onUnloaded`).
    pub(crate) fn unload(&mut self, error: ResponseError, effects: &mut Effects) {
        for member in self.members.values_mut() {
            let member_id = member.id.clone();
            answer_member(member, error, member_id, effects);
        }
    }
}

/// Answers what a member waits for with an error.
pub(super) fn answer_member(member: &mut Member, error: ResponseError, member_id: StrBytes, effects: &mut Effects) {
    if let Some(request) = member.awaits_join.take() {
        effects.join(request, refused_join(error, member_id));
    }
    if let Some(request) = member.awaits_sync.take() {
        effects.sync(request, SyncGroupResponse::default().with_error_code(error.code()));
    }
}

/// A JoinGroup response that says no.
pub(crate) fn refused_join(error: ResponseError, member_id: StrBytes) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(None)
        .with_member_id(member_id)
}

/// The topics of a consumer's subscription, by the front that all its versions share (`ConsumerProtocol`).
fn topics_of(subscription: Bytes) -> Option<Vec<StrBytes>> {
    let mut reader = FieldReader::new(subscription);
    let version = reader.i16().ok()?;
    if version < 0 {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..reader.len().ok()? {
        topics.push(reader.string().ok()?);
    }
    Some(topics)
}
