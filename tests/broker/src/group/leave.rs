//! LeaveGroup: members that go, alone or several at a time.
//!
//! Follows `GroupMetadataManager.classicGroupLeave`.

use super::{ClassicGroup, Effects};
use kafka_protocol::{
    ResponseError,
    messages::{
        LeaveGroupRequest, LeaveGroupResponse, leave_group_request::MemberIdentity,
        leave_group_response::MemberResponse,
    },
    protocol::StrBytes,
};

/// The first version in which several members can leave at a time.
const FIRST_BATCHED_VERSION: i16 = 3;

impl ClassicGroup {
    /// Members leave.
    pub(crate) fn leave(
        &mut self,
        request: &LeaveGroupRequest,
        version: i16,
        now_ms: i64,
        effects: &mut Effects,
    ) -> LeaveGroupResponse {
        let (mut gone, mut answers) = (Vec::new(), Vec::new());
        for identity in identities(request, version) {
            // Who is named twice has gone the second time.
            let leaving = self
                .leaving(&identity)
                .and_then(|id| if gone.contains(&id) { Err(ResponseError::UnknownMemberId) } else { Ok(id) });
            answers.push((identity, leaving.map(|id| gone.push(id))));
        }
        self.let_go(&gone, now_ms, effects);
        response(answers, version)
    }

    /// Which member is meant. An administrator removes a static member by its instance id alone.
    fn leaving(&self, identity: &MemberIdentity) -> Result<StrBytes, ResponseError> {
        let (member_id, instance_id) = (&identity.member_id, identity.group_instance_id.as_ref());
        if member_id.is_empty() {
            let known = instance_id.and_then(|instance_id| self.static_members.get(instance_id));
            return known.cloned().ok_or(ResponseError::UnknownMemberId);
        }
        if !self.pending_joins.contains_key(member_id) {
            self.check_member(member_id, instance_id)?;
        }
        Ok(member_id.clone())
    }
}

/// What is answered to somebody who leaves a group that does not exist.
pub(crate) fn leave_unknown_group(request: &LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let unknown = |identity| (identity, Err(ResponseError::UnknownMemberId));
    response(identities(request, version).into_iter().map(unknown).collect(), version)
}

fn identities(request: &LeaveGroupRequest, version: i16) -> Vec<MemberIdentity> {
    if version < FIRST_BATCHED_VERSION {
        return vec![MemberIdentity::default().with_member_id(request.member_id.clone())];
    }
    request.members.clone()
}

fn response(answers: Vec<(MemberIdentity, Result<(), ResponseError>)>, version: i16) -> LeaveGroupResponse {
    let code = |result: &Result<(), ResponseError>| result.err().map_or(0, |error| error.code());
    if version < FIRST_BATCHED_VERSION {
        let result = answers.first().map_or(0, |(_, result)| code(result));
        return LeaveGroupResponse::default().with_error_code(result);
    }
    let members = answers.into_iter().map(|(identity, result)| {
        MemberResponse::default()
            .with_member_id(identity.member_id)
            .with_group_instance_id(identity.group_instance_id)
            .with_error_code(code(&result))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
