//! Requests about groups and their offsets: passed on to their coordinator.

use super::{
    Broker, RequestContext,
    wire::{from_wire, text},
};
use crate::{
    coordinator::{
        groups::{Client, GroupCoordinator},
        transactions::{Admitted, CONSUMER_OFFSETS},
    },
    protocol::{FIRST_OFFSETS_WITH_IDS, OffsetCommit, OffsetFetch},
    transaction::{Appending, Producer},
};
use duramen::VerificationGuard;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchResponse,
    SyncGroupRequest, SyncGroupResponse, TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
    delete_groups_response::DeletableGroupResult,
    describe_groups_response::DescribedGroup,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::OffsetFetchResponseGroup,
    txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
};
use std::sync::Arc;

/// Answers a JoinGroup.
pub(crate) async fn join(broker: &Broker, context: &RequestContext, request: JoinGroupRequest) -> JoinGroupResponse {
    let client = Client { id: context.client_id.clone(), host: context.client_host.clone() };
    match broker.coordinators.groups().await {
        Ok(groups) => groups.join_group(&client, context.version, request).await,
        Err(code) => JoinGroupResponse::default().with_error_code(code.code()).with_member_id(request.member_id),
    }
}

/// Answers a SyncGroup.
pub(crate) async fn sync(broker: &Broker, context: &RequestContext, request: SyncGroupRequest) -> SyncGroupResponse {
    match broker.coordinators.groups().await {
        Ok(groups) => groups.sync_group(context.version, request).await,
        Err(code) => SyncGroupResponse::default().with_error_code(code.code()),
    }
}

/// Answers a Heartbeat.
pub(crate) async fn heartbeat(broker: &Broker, _: &RequestContext, request: HeartbeatRequest) -> HeartbeatResponse {
    match broker.coordinators.groups().await {
        Ok(groups) => groups.heartbeat(&request),
        Err(code) => HeartbeatResponse::default().with_error_code(code.code()),
    }
}

/// Answers a LeaveGroup.
pub(crate) async fn leave(broker: &Broker, context: &RequestContext, request: LeaveGroupRequest) -> LeaveGroupResponse {
    match broker.coordinators.groups().await {
        Ok(groups) => groups.leave_group(context.version, &request),
        Err(code) => LeaveGroupResponse::default().with_error_code(code.code()),
    }
}

/// Gives the topics of a request of a version that names them by their ids their names. One that there is not keeps none
/// (`KafkaApis.handleOffsetCommitRequest` and `fetchOffsetsForGroup`).
fn name_topics<'a>(broker: &Broker, version: i16, topics: impl Iterator<Item = (&'a mut TopicName, uuid::Uuid)>) {
    if version < FIRST_OFFSETS_WITH_IDS {
        return;
    }
    let hosting = broker.topics.hosting();
    for (name, id) in topics {
        *name = TopicName(hosting.name_of(from_wire(id)).map(|name| text(name)).unwrap_or_default());
    }
}

/// Answers an OffsetCommit.
pub(crate) async fn commit(
    broker: &Broker,
    context: &RequestContext,
    OffsetCommit(mut request): OffsetCommit,
) -> OffsetCommitResponse {
    name_topics(broker, context.version, request.topics.iter_mut().map(|topic| (&mut topic.name, topic.topic_id)));
    let code = match broker.coordinators.groups().await {
        Ok(groups) => return groups.offset_commit(context.version, request).await,
        Err(code) => code.code(),
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        let refused = OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
        refused.with_topic_id(topic.topic_id).with_name(topic.name)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Answers an OffsetFetch.
pub(crate) async fn fetch(
    broker: &Broker,
    context: &RequestContext,
    OffsetFetch(mut request): OffsetFetch,
) -> OffsetFetchResponse {
    let topics = request.groups.iter_mut().flat_map(|group| group.topics.iter_mut().flatten());
    name_topics(broker, context.version, topics.map(|topic| (&mut topic.name, topic.topic_id)));
    let code = match broker.coordinators.groups().await {
        Ok(groups) => return groups.offset_fetch(context.version, request).await,
        Err(code) => code.code(),
    };
    let groups = request.groups.into_iter();
    let groups =
        groups.map(|group| OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(code));
    OffsetFetchResponse::default().with_error_code(code).with_groups(groups.collect())
}

/// Answers a TxnOffsetCommit: like records of the producer, the offsets have to belong to its transaction.
pub(crate) async fn commit_in_transaction(
    broker: &Broker,
    context: &RequestContext,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let code = match broker.coordinators.groups().await {
        Err(code) => code.code(),
        Ok(groups) => match admitted(broker, context.version, groups, &request).await {
            Ok(guard) => return groups.txn_offset_commit(request, guard).await,
            Err(code) => code,
        },
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// Asks the transaction's coordinator for the group's partition of the internal topic.
async fn admitted(
    broker: &Broker,
    version: i16,
    groups: &Arc<GroupCoordinator>,
    request: &TxnOffsetCommitRequest,
) -> Result<Option<VerificationGuard>, i16> {
    let transactions = broker.coordinators.transactions().await.map_err(|error| error.code())?;
    let hosted = broker.topics.partition(CONSUMER_OFFSETS, groups.partition_for(&request.group_id));
    let partition = Arc::clone(&hosted.map_err(|code| code.code())?.partition);
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let admitted = [Admitted { partition, base_sequence: None }];
    let appending = Appending::Offsets(version);
    let mut admissions = transactions.admit(&request.transactional_id, producer, appending, &admitted).await;
    admissions.pop().unwrap_or(Ok(None)).map_err(|error| error.code())
}

/// Answers a DescribeGroups.
pub(crate) async fn describe(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    match broker.coordinators.groups().await {
        Ok(groups) => groups.describe_groups(context.version, &request),
        Err(code) => {
            let groups = request.groups.into_iter();
            let groups =
                groups.map(|group| DescribedGroup::default().with_group_id(group).with_error_code(code.code()));
            DescribeGroupsResponse::default().with_groups(groups.collect())
        }
    }
}

/// Answers a ListGroups.
pub(crate) async fn list(broker: &Broker, _: &RequestContext, request: ListGroupsRequest) -> ListGroupsResponse {
    // Where nobody ever asked for a group there is none.
    broker.coordinators.opened_groups().map_or_else(ListGroupsResponse::default, |groups| groups.list_groups(&request))
}

/// Answers a DeleteGroups.
pub(crate) async fn delete(broker: &Broker, _: &RequestContext, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    match broker.coordinators.groups().await {
        Ok(groups) => groups.delete_groups(&request).await,
        Err(code) => {
            let groups = request.groups_names.into_iter();
            let results =
                groups.map(|group| DeletableGroupResult::default().with_group_id(group).with_error_code(code.code()));
            DeleteGroupsResponse::default().with_results(results.collect())
        }
    }
}

/// Answers an OffsetDelete.
pub(crate) async fn delete_offsets(
    broker: &Broker,
    _: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    match broker.coordinators.groups().await {
        Ok(groups) => groups.offset_delete(&request).await,
        Err(code) => OffsetDeleteResponse::default().with_error_code(code.code()),
    }
}
