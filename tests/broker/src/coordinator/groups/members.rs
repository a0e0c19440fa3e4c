//! Joining, syncing, heartbeats, leaving.
//!
//! Follows `GroupCoordinatorService`: what it checks before a group is asked, and what a client is told of a group that does
//! not exist.

use super::{Client, GroupCoordinator};
use crate::group::{Join, leave_unknown_group, owned, refused_join, refused_sync};
use kafka_protocol::{
    ResponseError,
    messages::{
        HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
    },
    protocol::StrBytes,
};
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The first version of JoinGroup in which the protocol's name can be null.
const FIRST_JOIN_VERSION_WITH_NULL_NAME: i16 = 7;
/// The first version of SyncGroup in which a member has to say its protocol.
const FIRST_SYNC_VERSION_WITH_PROTOCOL: i16 = 5;

impl GroupCoordinator {
    /// Answers a JoinGroup: perhaps only after the group's other members have joined as well.
    pub(crate) async fn join_group(
        &self,
        client: &Client,
        version: i16,
        request: JoinGroupRequest,
    ) -> JoinGroupResponse {
        let response = match self.begin_join(client, version, &request) {
            Ok(answer) => answer.await.unwrap_or_else(|_| refused_join(ResponseError::NotCoordinator, StrBytes::new())),
            Err(error) => refused_join(error, request.member_id),
        };
        if version < FIRST_JOIN_VERSION_WITH_NULL_NAME && response.protocol_name.is_none() {
            return response.with_protocol_name(Some(StrBytes::new()));
        }
        response
    }

    fn begin_join(
        &self,
        client: &Client,
        version: i16,
        request: &JoinGroupRequest,
    ) -> Result<oneshot::Receiver<JoinGroupResponse>, ResponseError> {
        check_group_id(&request.group_id)?;
        let config = &self.dependencies.config;
        if !(config.min_session_timeout_ms..=config.max_session_timeout_ms).contains(&request.session_timeout_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        let (index, mut shared) = self.lock(&request.group_id)?;
        // Only a member that was never in the group makes it.
        if request.member_id.is_empty() {
            shared.get_or_create(&owned(&request.group_id), self.clock.steady_ms());
        }
        if !shared.groups.contains_key(&request.group_id.0) {
            return Err(ResponseError::UnknownMemberId);
        }
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let answer = shared.await_join(id);
        self.change(index, &mut shared, &request.group_id, |group, now_ms, effects| {
            let join = Join { id, request, version, client, unique: Uuid::new_v4(), now_ms };
            group.classic.join(&join, config, effects);
        });
        Ok(answer)
    }

    /// Answers a SyncGroup: perhaps only after the leader has brought the assignment and it is stored.
    pub(crate) async fn sync_group(&self, version: i16, request: SyncGroupRequest) -> SyncGroupResponse {
        match self.begin_sync(version, &request) {
            Ok(answer) => answer.await.unwrap_or_else(|_| refused_sync(ResponseError::NotCoordinator)),
            Err(error) => refused_sync(error),
        }
    }

    fn begin_sync(
        &self,
        version: i16,
        request: &SyncGroupRequest,
    ) -> Result<oneshot::Receiver<SyncGroupResponse>, ResponseError> {
        let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        if version >= FIRST_SYNC_VERSION_WITH_PROTOCOL && !says_protocol {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        check_group_id(&request.group_id)?;
        let (index, mut shared) = self.lock(&request.group_id)?;
        if !shared.groups.contains_key(&request.group_id.0) {
            return Err(ResponseError::UnknownMemberId);
        }
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let answer = shared.await_sync(id);
        self.change(index, &mut shared, &request.group_id, |group, _, effects| {
            group.classic.sync(id, request, effects);
        });
        Ok(answer)
    }

    /// Answers a Heartbeat.
    pub(crate) fn heartbeat(&self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let result = check_group_id(&request.group_id).and_then(|()| {
            let (index, mut shared) = self.lock(&request.group_id)?;
            let beat = self.change(index, &mut shared, &request.group_id, |group, now_ms, _| {
                group.classic.heartbeat(request, now_ms)
            });
            beat.unwrap_or(Err(ResponseError::UnknownMemberId))
        });
        HeartbeatResponse::default().with_error_code(result.err().map_or(0, |error| error.code()))
    }

    /// Answers a LeaveGroup.
    pub(crate) fn leave_group(&self, version: i16, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        let left = check_group_id(&request.group_id).and_then(|()| {
            let (index, mut shared) = self.lock(&request.group_id)?;
            Ok(self.change(index, &mut shared, &request.group_id, |group, now_ms, effects| {
                group.classic.leave(request, version, now_ms, effects)
            }))
        });
        match left {
            Ok(Some(response)) => response,
            Ok(None) => leave_unknown_group(request, version),
            Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
        }
    }
}

/// A group with members has an id. Offsets alone can be committed for the group without one, as old clients do.
pub(super) fn check_group_id(id: &StrBytes) -> Result<(), ResponseError> {
    if id.is_empty() { Err(ResponseError::InvalidGroupId) } else { Ok(()) }
}
