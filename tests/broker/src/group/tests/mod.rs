//! A group with a clock, and clients that join it, for tests.

#![allow(clippy::unwrap_used)]

mod members;
mod random;

use super::*;
use crate::records::offsets::GroupMetadata;
use bytes::Bytes;
use duramen::KafkaErrorCode;
use kafka_protocol::{
    ResponseError,
    messages::{
        GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use std::collections::BTreeMap;
use uuid::Uuid;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A group with a clock, the answers that came, and the stores that are on their way.
struct World {
    group: ClassicGroup,
    config: GroupConfig,
    now_ms: i64,
    next_request: RequestId,
    joins: BTreeMap<RequestId, JoinGroupResponse>,
    syncs: BTreeMap<RequestId, SyncGroupResponse>,
    stores: Vec<Store>,
    last_stored: Option<GroupMetadata>,
}

/// How a test's client joins.
#[derive(Debug, Clone)]
struct Joiner {
    version: i16,
    member_id: StrBytes,
    instance_id: Option<StrBytes>,
    protocols: Vec<(&'static str, &'static str)>,
}

fn joiner() -> Joiner {
    Joiner { version: 9, member_id: StrBytes::new(), instance_id: None, protocols: vec![("range", "a")] }
}

impl World {
    fn new(initial_rebalance_delay_ms: i32) -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms, max_size: 4, ..GroupConfig::default() };
        let (joins, syncs) = (BTreeMap::new(), BTreeMap::new());
        let group = ClassicGroup::new(text("g"), 0);
        Self { group, config, now_ms: 0, next_request: 0, joins, syncs, stores: Vec::new(), last_stored: None }
    }

    fn request(&mut self) -> RequestId {
        self.next_request += 1;
        self.next_request
    }

    /// Takes what a call wants done, and does what is due, as the owner of a group does.
    fn settle(&mut self, mut effects: Effects) {
        loop {
            for (request, response) in effects.joins.drain(..) {
                assert!(self.joins.insert(request, response).is_none(), "join {request} was answered twice");
            }
            for (request, response) in effects.syncs.drain(..) {
                assert!(self.syncs.insert(request, response).is_none(), "sync {request} was answered twice");
            }
            self.stores.append(&mut effects.store);
            if self.group.next_deadline_ms().is_none_or(|at_ms| at_ms > self.now_ms) {
                return;
            }
            self.group.tick(self.now_ms, &mut effects);
        }
    }

    fn join(&mut self, joiner: &Joiner) -> RequestId {
        let id = self.request();
        let protocols = joiner.protocols.iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(Bytes::from_static(metadata.as_bytes()))
        });
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(joiner.member_id.clone())
            .with_group_instance_id(joiner.instance_id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect());
        let client = Client { id: "client".to_owned(), host: "/127.0.0.1".to_owned() };
        let unique = Uuid::from_u128(u128::from(id));
        let mut effects = Effects::default();
        let join =
            Join { id, request: &request, version: joiner.version, client: &client, unique, now_ms: self.now_ms };
        self.group.join(&join, &self.config, &mut effects);
        self.settle(effects);
        id
    }

    /// Joins as clients do: once more with the id, where one is given.
    fn join_fully(&mut self, joiner: &mut Joiner) -> RequestId {
        let id = self.join(joiner);
        match self.joins.get(&id) {
            Some(response) if response.error_code == ResponseError::MemberIdRequired.code() => {
                joiner.member_id = response.member_id.clone();
                self.join(joiner)
            }
            _ => id,
        }
    }

    fn sync(&mut self, member_id: &StrBytes, generation: i32, assignments: &[(&StrBytes, &'static str)]) -> RequestId {
        let id = self.request();
        let assignments = assignments.iter().map(|(member, assignment)| {
            let assignment = Bytes::from_static(assignment.as_bytes());
            SyncGroupRequestAssignment::default().with_member_id((*member).clone()).with_assignment(assignment)
        });
        let request = SyncGroupRequest::default()
            .with_generation_id(generation)
            .with_member_id(member_id.clone())
            .with_assignments(assignments.collect());
        let mut effects = Effects::default();
        self.group.sync(id, &request, &mut effects);
        self.settle(effects);
        id
    }

    fn heartbeat(&mut self, member_id: &StrBytes, generation: i32) -> Result<(), ResponseError> {
        let request = HeartbeatRequest::default().with_member_id(member_id.clone()).with_generation_id(generation);
        let result = self.group.heartbeat(&request, self.now_ms);
        self.settle(Effects::default());
        result
    }

    fn leave(&mut self, member_id: &StrBytes) -> i16 {
        let member = MemberIdentity::default().with_member_id(member_id.clone());
        let request = LeaveGroupRequest::default().with_members(vec![member]);
        let mut effects = Effects::default();
        let response = self.group.leave(&request, 5, self.now_ms, &mut effects);
        self.settle(effects);
        response.members[0].error_code
    }

    /// Ends the oldest store.
    fn end_store(&mut self, result: Result<(), KafkaErrorCode>) {
        if self.stores.is_empty() {
            return;
        }
        let Store { group, purpose } = self.stores.remove(0);
        assert_eq!(GroupMetadata::decode(group.encode().unwrap().into()), Ok(group.clone()));
        // What is found after a failure nobody knows.
        self.last_stored = result.is_ok().then_some(group);
        let mut effects = Effects::default();
        self.group.stored(purpose, result, self.now_ms, &mut effects);
        self.settle(effects);
    }

    fn pass(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while let Some(at_ms) = self.group.next_deadline_ms().filter(|at_ms| *at_ms <= until_ms) {
            self.now_ms = at_ms;
            self.settle(Effects::default());
        }
        self.now_ms = until_ms;
    }

    fn joined(&self, request: RequestId) -> &JoinGroupResponse {
        let response = &self.joins[&request];
        assert_eq!(response.error_code, 0, "{response:?}");
        response
    }

    fn join_error(&self, request: RequestId) -> i16 {
        self.joins[&request].error_code
    }

    /// A stable group of these members, in order of joining; the first is the leader.
    fn stable(&mut self, joiners: &mut [Joiner]) {
        for joiner in joiners.iter_mut() {
            self.join_fully(joiner);
            self.pass(0);
        }
        // Who is in a rebalance already joins again.
        for _ in 0..2 {
            for joiner in joiners.iter_mut().filter(|joiner| joiner.instance_id.is_none()) {
                self.join(joiner);
            }
            self.pass(i64::from(self.config.initial_rebalance_delay_ms));
        }
        let generation = self.group.generation;
        let ids: Vec<StrBytes> = self.group.members.keys().cloned().collect();
        let leader = self.group.leader.clone().unwrap();
        let assignments: Vec<_> = ids.iter().map(|id| (id, "parts")).collect();
        let syncs: Vec<_> = ids.iter().filter(|id| **id != leader).map(|id| self.sync(id, generation, &[])).collect();
        let last = self.sync(&leader, generation, &assignments);
        self.end_store(Ok(()));
        assert_eq!(self.group.state, State::Stable);
        for sync in syncs.into_iter().chain([last]) {
            assert_eq!(&self.syncs[&sync].assignment[..], b"parts");
        }
    }
}
