//! Looking at groups, deleting them and their offsets; expiry.
//!
//! Follows `GroupCoordinatorService`, `GroupMetadataManager.describeGroups`, `listGroups`, `OffsetMetadataManager` and
//! `GroupCoordinatorShard.cleanupGroupMetadata`. Keeps: what is deleted is gone from the log's state too, by tombstones.

use super::{
    GroupCoordinator, Shared,
    members::check_group_id,
    shard::{Group, durable},
};
use crate::{
    coordinator::clock::wall_ms,
    group::{State, as_response_error},
    internal::{Appended, Keyed},
    records::{
        fields::RecordError,
        offsets::{OffsetKey, encode_group_key},
    },
};
use duramen::KafkaErrorCode;
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
        ListGroupsRequest, ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::DescribedGroup,
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
    },
    protocol::StrBytes,
};
use std::collections::BTreeSet;

/// The first version of DescribeGroups in which a group that does not exist is an error.
const FIRST_DESCRIBE_VERSION_WITH_UNKNOWN_GROUP: i16 = 6;
/// What everybody may do with a group where nobody checks: read, delete, describe, and describe and alter its configuration.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Records of one batch of tombstones: far below `max.message.bytes`.
const TOMBSTONES_PER_BATCH: usize = 1_000;

type Partitions = BTreeSet<(StrBytes, i32)>;

impl GroupCoordinator {
    /// Answers a DescribeGroups.
    pub(crate) fn describe_groups(&self, version: i16, request: &DescribeGroupsRequest) -> DescribeGroupsResponse {
        let operations = if request.include_authorized_operations { ALL_OPERATIONS } else { i32::MIN };
        let describe = |id: &GroupId| {
            let group = self.describe(version, id);
            if group.error_code == 0 { group.with_authorized_operations(operations) } else { group }
        };
        DescribeGroupsResponse::default().with_groups(request.groups.iter().map(describe).collect())
    }

    fn describe(&self, version: i16, id: &GroupId) -> DescribedGroup {
        let failed =
            |error: ResponseError| DescribedGroup::default().with_group_id(id.clone()).with_error_code(error.code());
        let shared = match self.lock(id) {
            Ok((_, shared)) => shared,
            Err(error) => return failed(error),
        };
        match shared.groups.get(&id.0) {
            Some(group) => group.classic.described(),
            None if version < FIRST_DESCRIBE_VERSION_WITH_UNKNOWN_GROUP => {
                DescribedGroup::default().with_group_id(id.clone()).with_group_state(StrBytes::from_static_str("Dead"))
            }
            None => failed(ResponseError::GroupIdNotFound)
                .with_group_state(StrBytes::from_static_str("Dead"))
                .with_error_message(Some(format!("Group {} not found.", id.as_str()).into())),
        }
    }

    /// Answers a ListGroups.
    pub(crate) fn list_groups(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let mut groups = Vec::new();
        for shard in &self.shards {
            let shared = shard.lock();
            let listed = shared.groups.values().map(|group| group.classic.listed());
            groups.extend(listed.filter(|group| {
                wanted(&request.states_filter, &group.group_state) && wanted(&request.types_filter, &group.group_type)
            }));
        }
        ListGroupsResponse::default().with_groups(groups)
    }

    /// Answers a DeleteGroups once nothing of the groups is left.
    pub(crate) async fn delete_groups(&self, request: &DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut results = Vec::with_capacity(request.groups_names.len());
        for id in &request.groups_names {
            let result = match self.begin_delete(id) {
                Ok(appended) => durable(appended).await,
                Err(error) => Err(error),
            };
            let answer = DeletableGroupResult::default().with_group_id(id.clone());
            results.push(answer.with_error_code(result.err().map_or(0, |error| error.code())));
        }
        DeleteGroupsResponse::default().with_results(results)
    }

    fn begin_delete(&self, id: &GroupId) -> Result<Option<Appended>, ResponseError> {
        let (_, mut shared) = self.lock(id)?;
        let group = shared.groups.get(&id.0).ok_or(ResponseError::GroupIdNotFound)?;
        if !group.classic.is_deletable() {
            return Err(ResponseError::NonEmptyGroup);
        }
        let partitions = group.offsets.partitions(None);
        bury(&mut shared, id, &partitions, true).map_err(as_response_error)
    }

    /// Answers an OffsetDelete once the offsets are gone.
    pub(crate) async fn offset_delete(&self, request: &OffsetDeleteRequest) -> OffsetDeleteResponse {
        let (appended, topics) = match self.begin_offset_delete(request) {
            Ok(begun) => begun,
            Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
        };
        match durable(appended).await {
            Ok(()) => OffsetDeleteResponse::default().with_topics(topics),
            Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
        }
    }

    fn begin_offset_delete(
        &self,
        request: &OffsetDeleteRequest,
    ) -> Result<(Option<Appended>, Vec<OffsetDeleteResponseTopic>), ResponseError> {
        let id = &request.group_id;
        check_group_id(id)?;
        let (_, mut shared) = self.lock(id)?;
        let group = shared.groups.get(&id.0).ok_or(ResponseError::GroupIdNotFound)?;
        if group.classic.state() != State::Empty && !group.classic.is_of_consumers() {
            return Err(ResponseError::NonEmptyGroup);
        }
        let (mut partitions, mut topics) = (Partitions::new(), Vec::new());
        for topic in &request.topics {
            let mut answers = Vec::new();
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let checked = self.check_offset_delete(group, &topic.name, index);
                if checked.is_ok() {
                    partitions.insert((topic.name.0.clone(), index));
                }
                let answer = OffsetDeleteResponsePartition::default().with_partition_index(index);
                answers.push(answer.with_error_code(checked.err().map_or(0, |error| error.code())));
            }
            let answer = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
            topics.push(answer.with_partitions(answers));
        }
        partitions.retain(|partition| group.offsets.partitions(Some(&partition.0)).contains(partition));
        let appended = bury(&mut shared, id, &partitions, false).map_err(as_response_error)?;
        Ok((appended, topics))
    }

    fn check_offset_delete(&self, group: &Group, topic: &StrBytes, partition: i32) -> Result<(), ResponseError> {
        let known = (self.dependencies.topic)(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
        if !(0..known.partitions).contains(&partition) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        if group.classic.state() != State::Empty && group.classic.is_subscribed_to(topic) {
            return Err(ResponseError::GroupSubscribedToTopic);
        }
        Ok(())
    }

    /// A topic was deleted: so are all offsets of it (`OffsetMetadataManager.onTopicPartitionsDeleted`).
    pub(crate) fn topic_deleted(&self, topic: &str) {
        let topic = StrBytes::from_string(topic.to_owned());
        for shard in &self.shards {
            let mut shared = shard.lock();
            for id in shared.group_ids() {
                let partitions = shared.groups.get(&id).map(|group| group.offsets.partitions(Some(&topic)));
                self.bury_and_note(&mut shared, &id, &partitions.unwrap_or_default(), false);
            }
        }
    }

    /// Forgets offsets that have been kept long enough, and groups of which nothing is left.
    pub(super) fn expire_offsets(&self) {
        let retention_ms = self.dependencies.config.offsets_retention_ms;
        for shard in &self.shards {
            let mut shared = shard.lock();
            for id in shared.group_ids() {
                let Some(group) = shared.groups.get(&id) else { continue };
                let expired: Partitions =
                    group.offsets.expired(&group.classic, retention_ms, wall_ms()).into_iter().collect();
                let nothing_left = expired == group.offsets.partitions(None);
                let is_over = nothing_left && group.classic.is_deletable();
                self.bury_and_note(&mut shared, &id, &expired, is_over);
            }
        }
    }

    /// Nobody waits for these tombstones: if one is lost, what it was for is found expired or deleted again.
    fn bury_and_note(&self, shared: &mut Shared, id: &StrBytes, partitions: &Partitions, with_group: bool) {
        if let Err(error) = bury(shared, id, partitions, with_group) {
            (self.dependencies.note)(&format!("offsets of group {id} could not be removed: {}", error.name()));
        }
    }
}

/// Appends tombstones for offsets, and for the group if it goes as well; then forgets them. What the last append says holds
/// for all.
fn bury(
    shared: &mut Shared,
    id: &StrBytes,
    partitions: &Partitions,
    with_group: bool,
) -> Result<Option<Appended>, KafkaErrorCode> {
    let keys: Result<Vec<Vec<u8>>, RecordError> = partitions
        .iter()
        .map(|(topic, partition)| OffsetKey { group: id.clone(), topic: topic.clone(), partition: *partition }.encode())
        .chain(with_group.then(|| encode_group_key(id)))
        .collect();
    let keys = keys.map_err(|_| KafkaErrorCode::InvalidRequest)?;
    let tombstones: Vec<Keyed> = keys.into_iter().map(|key| Keyed { key, value: None }).collect();
    let mut last = None;
    for batch in tombstones.chunks(TOMBSTONES_PER_BATCH) {
        last = shared.append(Ok(batch.to_vec()), None)?;
    }
    if let Some(group) = shared.groups.get_mut(id) {
        for (topic, partition) in partitions {
            group.offsets.remove(topic, *partition);
        }
    }
    if with_group {
        shared.groups.remove(id);
    }
    Ok(last)
}
