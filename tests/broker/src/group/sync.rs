//! SyncGroup and Heartbeat: how members get their assignments, and how they stay.
//!
//! Follows `GroupMetadataManager.classicGroupSync` and `classicGroupHeartbeat`. Keeps: an assignment is given out only once it
//! is stored.

use super::{ClassicGroup, Effects, Purpose, RequestId, State, static_member::as_response_error, stored::Assigned};
use bytes::Bytes;
use duramen::KafkaErrorCode;
use kafka_protocol::{
    ResponseError,
    messages::{HeartbeatRequest, SyncGroupRequest, SyncGroupResponse},
    protocol::StrBytes,
};
use std::collections::BTreeMap;

impl ClassicGroup {
    /// A member wants its assignment; the leader brings all of them.
    pub(crate) fn sync(&mut self, id: RequestId, request: &SyncGroupRequest, effects: &mut Effects) {
        let member_id = &request.member_id;
        if let Err(error) = self.check_sync(request) {
            effects.sync(id, refused_sync(error));
            return;
        }
        match self.state {
            State::Empty => effects.sync(id, refused_sync(ResponseError::UnknownMemberId)),
            State::PreparingRebalance => effects.sync(id, refused_sync(ResponseError::RebalanceInProgress)),
            State::CompletingRebalance => self.wait_for_assignment(id, request, effects),
            State::Stable => {
                self.note_sync(member_id);
                let assignment = self.members.get(member_id).map(|member| member.assignment.clone());
                effects.sync(id, self.assigned(assignment.unwrap_or_default()));
            }
        }
    }

    /// `validateSyncGroup`
    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ResponseError> {
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |said: &Option<StrBytes>, is: &Option<StrBytes>| said.is_some() && is.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn wait_for_assignment(&mut self, id: RequestId, request: &SyncGroupRequest, effects: &mut Effects) {
        let member_id = &request.member_id;
        self.note_sync(member_id);
        if let Some(earlier) = self.members.get_mut(member_id).and_then(|member| member.awaits_sync.replace(id)) {
            // Of a connection that is gone.
            effects.sync(earlier, refused_sync(ResponseError::RebalanceInProgress));
        }
        if self.is_leader(member_id) {
            let brought = request.assignments.iter();
            let assignments: BTreeMap<StrBytes, Bytes> = brought
                .filter(|assignment| self.members.contains_key(&assignment.member_id))
                .map(|given| (given.member_id.clone(), Bytes::copy_from_slice(&given.assignment)))
                .collect();
            let store = self.store(Purpose::Assignment(Assigned { generation: self.generation, assignments }));
            effects.store.push(store);
        }
    }

    fn note_sync(&mut self, member_id: &StrBytes) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.sync_timer_ms = None;
        }
    }

    /// The leader's assignment is stored, or cannot be. If another generation began meanwhile it is of no use any more.
    pub(super) fn assignment_stored(
        &mut self,
        assigned: Assigned,
        result: Result<(), KafkaErrorCode>,
        now_ms: i64,
        effects: &mut Effects,
    ) {
        if self.state != State::CompletingRebalance || self.generation != assigned.generation {
            return;
        }
        if let Err(error) = result {
            self.refuse_assignments(as_response_error(error), now_ms, effects);
            self.begin_rebalance(now_ms, effects);
            return;
        }
        self.enter(State::Stable, now_ms);
        let Assigned { mut assignments, .. } = assigned;
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let assignment = assignments.remove(&id).unwrap_or_default();
            let response = self.assigned(assignment.clone());
            self.answer_sync(&id, assignment, response, now_ms, effects);
        }
    }

    /// Takes all assignments back, and tells those who wait (`resetAndPropagateAssignmentWithError`).
    pub(super) fn refuse_assignments(&mut self, error: ResponseError, now_ms: i64, effects: &mut Effects) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.answer_sync(&id, Bytes::new(), refused_sync(error), now_ms, effects);
        }
    }

    fn answer_sync(
        &mut self,
        member_id: &StrBytes,
        assignment: Bytes,
        response: SyncGroupResponse,
        now_ms: i64,
        effects: &mut Effects,
    ) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.assignment = assignment;
        if let Some(request) = member.awaits_sync.take() {
            effects.sync(request, response);
            // While it waited its session did not count.
            member.restart_session(now_ms);
        }
    }

    fn assigned(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.clone())
            .with_protocol_name(self.protocol.clone())
            .with_assignment(assignment)
    }

    /// A member says that it is there, and is told what the group does.
    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now_ms: i64) -> Result<(), ResponseError> {
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if self.state == State::Empty {
            return Err(ResponseError::UnknownMemberId);
        }
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.restart_session(now_ms);
        }
        if self.state == State::PreparingRebalance { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }
}

/// A SyncGroup response that says no.
pub(crate) fn refused_sync(error: ResponseError) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.code())
}
