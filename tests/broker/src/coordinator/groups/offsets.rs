//! Committing and fetching offsets, within transactions and without.
//!
//! Follows `OffsetMetadataManager` and the part of `KafkaApis` that leaves out topics which do not exist. An offset shows as
//! soon as its record is in the log; whoever fetches it waits until that record is durable, so that nobody ever sees an offset
//! that a crash takes back.

use super::{GroupCoordinator, KnownTopic, Shared, members::check_group_id, shard::durable};
use crate::{
    coordinator::clock::wall_ms,
    group::{Committed, GroupOffsets, OffsetCommitter, as_response_error, owned},
    internal::{Appended, InTransaction, Keyed},
    protocol::FIRST_OFFSETS_WITH_IDS,
    records::offsets::{OffsetCommit, OffsetKey},
};
use duramen::{KafkaErrorCode, ProducerId, VerificationGuard};
use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TxnOffsetCommitRequest,
        TxnOffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
        txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

/// The first version of OffsetCommit in which a group that does not exist has an error of its own.
const FIRST_COMMIT_VERSION_WITH_UNKNOWN_GROUP: i16 = 9;
/// The first version of OffsetFetch that has an error for a group as a whole.
const FIRST_FETCH_VERSION_WITH_GROUP_ERROR: i16 = 2;
/// The first version of OffsetFetch that asks for several groups.
const FIRST_FETCH_VERSION_WITH_GROUPS: i16 = 8;
/// "No time asked for."
const DEFAULT_RETENTION: i64 = -1;

/// A commit of any kind.
struct Commit<'a> {
    group: &'a StrBytes,
    transaction: Option<InTransaction>,
    committer: OffsetCommitter<'a>,
    offsets: Vec<(StrBytes, i32, OffsetCommit)>,
    /// What a client of a generation is told of a group that does not exist.
    unknown_group: ResponseError,
}

/// One offset to be committed, of either request.
struct Offered<'a> {
    topic: &'a StrBytes,
    /// Of a request that names topics by their ids.
    topic_id: Option<Uuid>,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&'a StrBytes>,
    expire_timestamp_ms: Option<i64>,
}

impl GroupCoordinator {
    /// Answers an OffsetCommit once its offsets are durable.
    pub(crate) async fn offset_commit(&self, version: i16, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let now_ms = wall_ms();
        let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms != DEFAULT_RETENTION);
        let expire_timestamp_ms = retention_ms.map(|ms| now_ms.saturating_add(ms));
        let (mut offsets, mut topics) = (Vec::new(), Vec::new());
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let offered = Offered {
                    topic: &topic.name,
                    topic_id: (version >= FIRST_OFFSETS_WITH_IDS).then_some(topic.topic_id),
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref(),
                    expire_timestamp_ms,
                };
                let taken = self.offered(&offered, true, now_ms).map(|commit| offsets.push(commit));
                let answer = OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index);
                partitions.push(answer.with_error_code(code(taken)));
            }
            let answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
            topics.push(answer.with_topic_id(topic.topic_id).with_partitions(partitions));
        }
        let unknown_group = match version {
            FIRST_COMMIT_VERSION_WITH_UNKNOWN_GROUP.. => ResponseError::GroupIdNotFound,
            _ => ResponseError::IllegalGeneration,
        };
        let commit = Commit {
            group: &request.group_id,
            transaction: None,
            committer: OffsetCommitter {
                generation: request.generation_id_or_member_epoch,
                member_id: &request.member_id,
                instance_id: request.group_instance_id.as_ref(),
                is_transactional: false,
            },
            offsets,
            unknown_group,
        };
        if let Err(error) = self.commit(&commit).await {
            let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|partition| partition.error_code == 0).for_each(|partition| {
                partition.error_code = error.code();
            });
        }
        OffsetCommitResponse::default().with_topics(topics)
    }

    /// Answers a TxnOffsetCommit once its offsets are durable. The partition of `__consumer_offsets` has to belong to the
    /// transaction by then, which the guard proves: whoever calls sees to that.
    pub(crate) async fn txn_offset_commit(
        &self,
        request: TxnOffsetCommitRequest,
        guard: Option<VerificationGuard>,
    ) -> TxnOffsetCommitResponse {
        let now_ms = wall_ms();
        let (mut offsets, mut topics) = (Vec::new(), Vec::new());
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let offered = Offered {
                    topic: &topic.name,
                    topic_id: None,
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref(),
                    expire_timestamp_ms: None,
                };
                let taken = self.offered(&offered, false, now_ms).map(|commit| offsets.push(commit));
                let answer = TxnOffsetCommitResponsePartition::default();
                let answer = answer.with_partition_index(partition.partition_index);
                partitions.push(answer.with_error_code(code(taken)));
            }
            let answer = TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone());
            topics.push(answer.with_partitions(partitions));
        }
        let commit = Commit {
            group: &request.group_id,
            transaction: Some(InTransaction {
                producer_id: request.producer_id.0,
                producer_epoch: request.producer_epoch,
                guard,
            }),
            committer: OffsetCommitter {
                generation: request.generation_id,
                member_id: &request.member_id,
                instance_id: request.group_instance_id.as_ref(),
                is_transactional: true,
            },
            offsets,
            unknown_group: ResponseError::IllegalGeneration,
        };
        let committed = match check_group_id(&request.group_id) {
            Ok(()) => self.commit(&commit).await,
            Err(error) => Err(error),
        };
        if let Err(error) = committed {
            let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|partition| partition.error_code == 0).for_each(|partition| {
                partition.error_code = error.code();
            });
        }
        TxnOffsetCommitResponse::default().with_topics(topics)
    }

    /// An offset as it is stored, if it can be. Kafka stores the topic's id with offsets outside of transactions.
    fn offered(
        &self,
        offered: &Offered<'_>,
        with_topic_id: bool,
        now_ms: i64,
    ) -> Result<(StrBytes, i32, OffsetCommit), ResponseError> {
        let is_meant = |known: &KnownTopic| offered.topic_id.is_none_or(|id| id == known.id);
        let known = (self.dependencies.topic)(offered.topic).filter(is_meant).ok_or(match offered.topic_id {
            Some(_) => ResponseError::UnknownTopicId,
            None => ResponseError::UnknownTopicOrPartition,
        })?;
        if !(0..known.partitions).contains(&offered.partition) {
            return Err(ResponseError::UnknownTopicOrPartition);
        }
        let metadata = offered.metadata.cloned().unwrap_or_default();
        if metadata.len() > self.dependencies.config.offset_metadata_max_bytes {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        let commit = OffsetCommit {
            offset: offered.offset,
            leader_epoch: Some(offered.leader_epoch).filter(|epoch| *epoch >= 0),
            metadata: owned(&metadata),
            commit_timestamp_ms: now_ms,
            expire_timestamp_ms: offered.expire_timestamp_ms,
            topic_id: if with_topic_id { known.id } else { Uuid::nil() },
        };
        Ok((owned(offered.topic), offered.partition, commit))
    }

    async fn commit(&self, commit: &Commit<'_>) -> Result<(), ResponseError> {
        let appended = self.begin_commit(commit)?;
        durable(appended).await
    }

    fn begin_commit(&self, commit: &Commit<'_>) -> Result<Option<Appended>, ResponseError> {
        let (index, mut shared) = self.lock(commit.group)?;
        let committer = commit.committer;
        if !shared.groups.contains_key(commit.group) {
            // Of a consumer that uses the group for its offsets alone.
            if committer.generation >= 0 {
                return Err(commit.unknown_group);
            }
            shared.get_or_create(&owned(commit.group), self.clock.steady_ms());
        }
        let checked = shared
            .groups
            .get_mut(commit.group)
            .map(|group| group.classic.check_offset_commit(committer, self.clock.steady_ms()));
        let appended = match checked.unwrap_or(Err(ResponseError::CoordinatorNotAvailable)) {
            Ok(()) => append(&shared, commit),
            Err(error) => Err(error),
        };
        if let Ok(Some(appended)) = &appended {
            show(&mut shared, commit, appended.base_offset);
        }
        // A group that was made and then refused is forgotten, and one that a member keeps alive has its deadline noted.
        self.change(index, &mut shared, commit.group, |_, _, _| ());
        appended
    }

    /// A transaction that committed offsets is decided: its marker is in this partition of `__consumer_offsets`. To be called
    /// before the producer can begin its next transaction.
    pub(crate) fn end_transaction(&self, offsets_partition: i32, producer: ProducerId, is_committed: bool) {
        let Ok(index) = usize::try_from(offsets_partition) else { return };
        let Some(shard) = self.shards.get(index) else { return };
        let mut shared = shard.lock();
        for id in shared.transactions.remove(&producer).unwrap_or_default() {
            self.change(index, &mut shared, &id, |group, _, _| group.offsets.end_transaction(producer, is_committed));
        }
    }

    /// Answers an OffsetFetch.
    pub(crate) async fn offset_fetch(&self, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
        if version >= FIRST_FETCH_VERSION_WITH_GROUPS {
            let mut groups = Vec::with_capacity(request.groups.len());
            for group in &request.groups {
                groups.push(self.fetch(version, group, request.require_stable).await);
            }
            return OffsetFetchResponse::default().with_groups(groups);
        }
        let topics = request.topics.map(|topics| {
            let new = |topic: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
                let new = OffsetFetchRequestTopics::default().with_name(topic.name);
                new.with_partition_indexes(topic.partition_indexes)
            };
            topics.into_iter().map(new).collect()
        });
        let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(topics);
        let fetched = self.fetch(version, &group, request.require_stable).await;
        if version < FIRST_FETCH_VERSION_WITH_GROUP_ERROR && fetched.error_code != 0 {
            return error_for_each_partition(group, fetched.error_code);
        }
        let topics = fetched.topics.into_iter().map(as_older_topic).collect();
        OffsetFetchResponse::default().with_error_code(fetched.error_code).with_topics(topics)
    }

    async fn fetch(
        &self,
        version: i16,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> OffsetFetchResponseGroup {
        let response = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
        let found = self.lock(&request.group_id).map(|(_, shared)| {
            let topics = self.found(version, &shared, request, require_stable);
            (topics, shared.log.settled())
        });
        let (topics, settled) = match found {
            Ok(found) => found,
            Err(error) => return response.with_error_code(error.code()),
        };
        let settled = match settled {
            Ok(Some(ticket)) => ticket.await.map_err(|error| error.kafka_error_code()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match settled {
            Ok(()) => response.with_topics(topics),
            Err(error) => response.with_error_code(as_response_error(error).code()),
        }
    }

    /// The offsets asked for; all of the group if no topics are named. Of a version with ids, topics have theirs: one that
    /// there is not has an error in a request, and is left out of all, for the version cannot name it.
    fn found(
        &self,
        version: i16,
        shared: &Shared,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> Vec<OffsetFetchResponseTopics> {
        let offsets = shared.groups.get(&request.group_id.0).map(|group| &group.offsets);
        let has_ids = version >= FIRST_OFFSETS_WITH_IDS;
        match &request.topics {
            Some(topics) => {
                let (unknown, known): (Vec<_>, Vec<_>) = topics.iter().partition(|it| has_ids && it.name.is_empty());
                let known = known.into_iter().map(|wanted| found_of(offsets, wanted, require_stable));
                known.chain(unknown.into_iter().map(not_found)).collect()
            }
            None => {
                let all = offsets.into_iter().flat_map(GroupOffsets::committed).filter_map(|(name, known)| {
                    let id = if has_ids { (self.dependencies.topic)(name)?.id } else { Uuid::nil() };
                    let wanted = OffsetFetchRequestTopics::default().with_name(name.clone().into());
                    let wanted = wanted.with_partition_indexes(known.keys().copied().collect());
                    Some(found_of(offsets, &wanted, require_stable).with_topic_id(id))
                });
                all.collect()
            }
        }
    }
}

/// The offsets of one topic.
fn found_of(
    offsets: Option<&GroupOffsets>,
    wanted: &OffsetFetchRequestTopics,
    require_stable: bool,
) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| {
        let answer = OffsetFetchResponsePartitions::default().with_partition_index(*index);
        if require_stable && offsets.is_some_and(|offsets| offsets.is_pending(&wanted.name, *index)) {
            return none(answer).with_error_code(ResponseError::UnstableOffsetCommit.code());
        }
        match offsets.and_then(|offsets| offsets.get(&wanted.name, *index)) {
            Some(commit) if is_of(commit, wanted.topic_id) => answer
                .with_committed_offset(commit.offset)
                .with_committed_leader_epoch(commit.leader_epoch.unwrap_or(-1))
                .with_metadata(Some(commit.metadata.clone())),
            _ => none(answer),
        }
    };
    let partitions = wanted.partition_indexes.iter().map(partition).collect();
    let answer = OffsetFetchResponseTopics::default().with_name(wanted.name.clone()).with_topic_id(wanted.topic_id);
    answer.with_partitions(partitions)
}

/// Whether an offset was committed for the topic with this id, as far as both are known: a topic can be made anew under its
/// name (`OffsetMetadataManager.isMismatchedTopicId`).
fn is_of(commit: &OffsetCommit, topic_id: Uuid) -> bool {
    commit.topic_id.is_nil() || topic_id.is_nil() || commit.topic_id == topic_id
}

/// A topic of which only the id is known, and to nobody.
fn not_found(wanted: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| {
        let answer = none(OffsetFetchResponsePartitions::default().with_partition_index(*index));
        answer.with_error_code(ResponseError::UnknownTopicId.code())
    };
    let partitions = wanted.partition_indexes.iter().map(partition).collect();
    OffsetFetchResponseTopics::default().with_topic_id(wanted.topic_id).with_partitions(partitions)
}

fn append(shared: &Shared, commit: &Commit<'_>) -> Result<Option<Appended>, ResponseError> {
    let record = |(topic, partition, value): &(StrBytes, i32, OffsetCommit)| {
        let key = OffsetKey { group: commit.group.clone(), topic: topic.clone(), partition: *partition };
        Ok(Keyed { key: key.encode()?, value: Some(value.encode()?) })
    };
    let records = commit.offsets.iter().map(record).collect();
    shared.append(records, commit.transaction).map_err(|error| match error {
        KafkaErrorCode::InvalidProducerEpoch => ResponseError::InvalidProducerEpoch,
        KafkaErrorCode::InvalidTxnState => ResponseError::InvalidTxnState,
        error => as_response_error(error),
    })
}

/// Shows what was appended.
fn show(shared: &mut Shared, commit: &Commit<'_>, base_offset: i64) {
    if let Some(transaction) = commit.transaction {
        shared.transactions.entry(transaction.producer_id).or_default().insert(owned(commit.group));
    }
    let Some(group) = shared.groups.get_mut(commit.group) else { return };
    for (record_offset, (topic, partition, value)) in (base_offset..).zip(&commit.offsets) {
        let committed = Committed { record_offset, commit: value.clone() };
        match commit.transaction {
            Some(InTransaction { producer_id, .. }) => {
                group.offsets.commit_pending(producer_id, topic.clone(), *partition, committed)
            }
            None => group.offsets.commit(topic.clone(), *partition, committed),
        }
    }
}

/// Nothing was committed.
fn none(answer: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartitions {
    answer.with_committed_offset(-1).with_committed_leader_epoch(-1).with_metadata(Some(StrBytes::new()))
}

fn as_older_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let older = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let partitions = topic.partitions.into_iter().map(older).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}

fn error_for_each_partition(group: OffsetFetchRequestGroup, error_code: i16) -> OffsetFetchResponse {
    let failed = |index| {
        let answer = none(OffsetFetchResponsePartitions::default().with_partition_index(index));
        answer.with_error_code(error_code)
    };
    let topics = group.topics.unwrap_or_default().into_iter().map(|topic| {
        let partitions = topic.partition_indexes.into_iter().map(failed).collect();
        as_older_topic(OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions))
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}
