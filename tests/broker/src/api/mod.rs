//! Floor 6: one file for each kind of request, from a decoded request to a response.
//!
//! Owns what the broker consists of, and which request goes where. Knows nothing of sockets.

mod alter_configs;
mod alter_partition_reassignments;
mod altering;
mod api_versions;
mod authorized;
mod counting;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod dispatch;
mod elect_leaders;
mod fetch;
mod find_coordinator;
#[cfg(test)]
mod fixtures;
mod groups;
mod incremental_alter_configs;
mod list_config_resources;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod refusal;
mod transactions;
mod update_features;
mod wire;

pub(crate) use dispatch::{ANSWERED, ForRequest, Outcome, handle, is_answered, with_type_of};

use crate::{
    config::BrokerConfig,
    coordinator::Coordinators,
    stop::Stop,
    topics::{Hosted, Topics},
};
use duramen::KafkaErrorCode;
use std::{cmp::Ordering, sync::Arc};

/// What the broker consists of.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) topics: Topics,
    /// Who looks after groups and transactions.
    pub(crate) coordinators: Coordinators,
    /// Says that the broker ends, so that nobody waits for long.
    pub(crate) stop: Stop,
}

/// Who asks, and how.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The version of the request.
    pub(crate) version: i16,
    /// What the client calls itself; empty if it does not.
    pub(crate) client_id: String,
    /// Where it comes from, as Kafka writes it: `/127.0.0.1`.
    pub(crate) client_host: String,
}

/// Whether the leader epoch that a client goes by is the partition's; -1 goes by none (`Partition.checkCurrentLeaderEpoch`).
///
/// # Errors
/// [`KafkaErrorCode::FencedLeaderEpoch`] for an older one, [`KafkaErrorCode::UnknownLeaderEpoch`] for a newer one.
pub(crate) fn check_epoch(hosted: &Hosted, current: i32) -> Result<(), KafkaErrorCode> {
    match current.cmp(&hosted.leader_epoch) {
        _ if current < 0 => Ok(()),
        Ordering::Less => Err(KafkaErrorCode::FencedLeaderEpoch),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(KafkaErrorCode::UnknownLeaderEpoch),
    }
}
