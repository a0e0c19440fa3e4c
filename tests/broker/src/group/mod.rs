//! Floor 1: one consumer group of the classic protocol, as a state machine, and the offsets that it committed.
//!
//! Knows no clock, no files, no sockets: time and fresh ids come in with each call, and what is to happen outside goes out as
//! [`Effects`]: requests to be answered, records to be stored. Timers are deadlines in the state; whoever owns a group calls
//! [`ClassicGroup::tick`] when the next one has passed. Follows `GroupMetadataManager`, `ClassicGroup` and
//! `OffsetMetadataManager` of Kafka 4.3.0.
//!
//! Keeps: a request that waits is answered once; all members of a generation are told the same generation, protocol and
//! leader; a group without members is empty.

mod classic;
mod join;
mod leave;
mod offsets;
mod rebalance;
mod static_member;
mod stored;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use classic::{ClassicGroup, OffsetCommitter, refused_join};
pub(crate) use join::Join;
pub(crate) use leave::leave_unknown_group;
pub(crate) use offsets::{Committed, GroupOffsets};
pub(crate) use static_member::as_response_error;
pub(crate) use stored::{Purpose, Store};
pub(crate) use sync::refused_sync;

use kafka_protocol::{
    messages::{JoinGroupResponse, SyncGroupResponse},
    protocol::StrBytes,
};
use std::fmt;

/// What the broker's configuration says of groups, by Kafka's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub(crate) min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub(crate) max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`
    pub(crate) initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub(crate) max_size: usize,
    /// `offset.metadata.max.bytes`
    pub(crate) offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in ms
    pub(crate) offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub(crate) offsets_retention_check_interval_ms: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: usize::try_from(i32::MAX).unwrap_or(usize::MAX),
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// As the client calls itself.
    pub(crate) id: String,
    /// Where it comes from; Kafka writes a `/` before the address.
    pub(crate) host: String,
}

/// The number that the owner of a group gave to a request that may have to wait.
pub(crate) type RequestId = u64;

/// What is to happen outside of the group after a call. Records are appended in the order of the calls.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Answers to JoinGroup requests, of this call or an earlier one.
    pub(crate) joins: Vec<(RequestId, JoinGroupResponse)>,
    /// Answers to SyncGroup requests, of this call or an earlier one.
    pub(crate) syncs: Vec<(RequestId, SyncGroupResponse)>,
    /// The group as it is to be found after a restart. When it is durable, or is not going to be, the owner calls
    /// [`ClassicGroup::stored`] with the purpose.
    pub(crate) store: Vec<Store>,
}

impl Effects {
    /// Whether nothing is to happen.
    pub(crate) fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.syncs.is_empty() && self.store.is_empty()
    }

    fn join(&mut self, request: RequestId, response: JoinGroupResponse) {
        self.joins.push((request, response));
    }

    fn sync(&mut self, request: RequestId, response: SyncGroupResponse) {
        self.syncs.push((request, response));
    }
}

/// A copy of a request's string that does not keep the request's buffer.
pub(crate) fn owned(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Where a group stands (`ClassicGroupState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// It has no members, and perhaps offsets.
    Empty,
    /// It waits for its members to join again.
    PreparingRebalance,
    /// It waits for the leader's assignment.
    CompletingRebalance,
    /// Every member has, or can have, its assignment.
    Stable,
}

impl State {
    /// As clients are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A protocol that a member can work with, and what it says of itself for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// Its name, such as `range`.
    pub(crate) name: StrBytes,
    /// The member's subscription.
    pub(crate) metadata: bytes::Bytes,
}
