//! A group as it is stored, and as it is found again.
//!
//! Follows `GroupCoordinatorRecordHelpers.newGroupMetadataRecord` and `GroupMetadataManager.replay`.

use super::{ClassicGroup, Client, Effects, Protocol, State, classic::Member};
use crate::records::offsets::{GroupMetadata, MemberMetadata};
use bytes::Bytes;
use duramen::KafkaErrorCode;
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// A group's record to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// What is stored.
    pub(crate) group: GroupMetadata,
    /// What waits for it.
    pub(crate) purpose: Purpose,
}

/// What happens once a group's record is stored.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Nothing: the last member has gone.
    Emptied,
    /// The members of a generation get their assignments.
    Assignment(Assigned),
    /// The new incarnation of a static member gets the place of the old one.
    StaticMember(Replaced),
}

/// What the leader of a generation assigned.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(super) generation: i32,
    pub(super) assignments: BTreeMap<StrBytes, Bytes>,
}

/// A static member that came back, and what it was before.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub(super) generation: i32,
    pub(super) old_id: StrBytes,
    pub(super) new_id: StrBytes,
    pub(super) old_leader: Option<StrBytes>,
    pub(super) old_protocols: Vec<Protocol>,
    pub(super) old_rebalance_timeout_ms: i32,
    pub(super) old_session_timeout_ms: i32,
    pub(super) skips_assignment: bool,
}

impl ClassicGroup {
    pub(super) fn store(&self, purpose: Purpose) -> Store {
        let assignment = |member: &Member| match &purpose {
            Purpose::Assignment(assigned) => assigned.assignments.get(&member.id).cloned().unwrap_or_default(),
            Purpose::Emptied | Purpose::StaticMember(_) => member.assignment.clone(),
        };
        let stored = |member: &Member| MemberMetadata {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client.id.clone().into(),
            client_host: member.client.host.clone().into(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_ref()),
            assignment: assignment(member),
        };
        let group = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: self.members.values().map(stored).collect(),
        };
        Store { group, purpose }
    }

    /// A record of the group is durable, or could not be made so.
    pub(crate) fn stored(
        &mut self,
        purpose: Purpose,
        result: Result<(), KafkaErrorCode>,
        now_ms: i64,
        effects: &mut Effects,
    ) {
        match purpose {
            Purpose::Emptied => {}
            Purpose::Assignment(assigned) => self.assignment_stored(assigned, result, now_ms, effects),
            Purpose::StaticMember(replaced) => self.replacement_stored(&replaced, result, now_ms, effects),
        }
    }

    /// The group that a record tells of. Its members have a session from now on to show that they are there.
    pub(crate) fn from_stored(id: StrBytes, stored: GroupMetadata, now_ms: i64) -> Self {
        let state = if stored.members.is_empty() { State::Empty } else { State::Stable };
        let mut group = Self::new(id, now_ms);
        (group.state, group.previous) = (state, state);
        group.state_since_ms = stored.state_since_ms;
        group.protocol_type = Some(stored.protocol_type).filter(|protocol_type| !protocol_type.is_empty());
        group.generation = stored.generation;
        group.protocol = stored.protocol;
        let protocol_name = group.protocol.clone().unwrap_or_default();
        for member in stored.members {
            let mut member = found_member(member, &protocol_name);
            member.restart_session(now_ms);
            if let Some(instance_id) = &member.instance_id {
                group.static_members.insert(instance_id.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), member);
        }
        let leader = stored.leader.filter(|leader| group.members.contains_key(leader));
        group.leader = leader.or_else(|| group.members.keys().next().cloned());
        group
    }

    /// After it was found: a group that has become too large since is asked to join again.
    pub(crate) fn found(&mut self, max_size: usize, now_ms: i64, effects: &mut Effects) {
        if self.members.len() > max_size {
            self.begin_rebalance(now_ms, effects);
        }
    }
}

fn found_member(stored: MemberMetadata, protocol_name: &StrBytes) -> Member {
    Member {
        id: stored.member_id,
        instance_id: stored.group_instance_id,
        client: Client { id: stored.client_id.to_string(), host: stored.client_host.to_string() },
        rebalance_timeout_ms: stored.rebalance_timeout_ms,
        session_timeout_ms: stored.session_timeout_ms,
        protocols: vec![Protocol { name: protocol_name.clone(), metadata: stored.subscription }],
        assignment: stored.assignment,
        is_new: false,
        awaits_join: None,
        awaits_sync: None,
        session_ends_ms: None,
    }
}
