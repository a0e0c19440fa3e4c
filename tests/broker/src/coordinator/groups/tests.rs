//! The coordinator on a real log: what is answered, what is found again, and what clients can read of it.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::internal::Keyed;
use bytes::{Bytes, BytesMut};
use duramen::{
    AppendAsLeader, AppendOrigin, Durability, HighWatermarkPolicy, LogConfig, LogManager, ManagerOptions,
    TopicPartition, ValidationPolicy,
    format::{builder::end_txn_marker, control::EndTxnMarker},
    validate,
};
use kafka_protocol::{
    messages::{
        DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
        LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
        OffsetFetchResponse, SyncGroupRequest, TxnOffsetCommitRequest,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        sync_group_request::SyncGroupRequestAssignment,
        txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic},
    },
    protocol::{Encodable, StrBytes},
};
use std::{path::Path, sync::Mutex};

const PARTITIONS: i32 = 3;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

/// A coordinator over logs of a directory.
struct Broker {
    manager: LogManager,
    groups: Arc<GroupCoordinator>,
    notes: Arc<Mutex<Vec<String>>>,
}

fn open(directory: &Path, config: GroupConfig, partitions: i32) -> Broker {
    let options =
        ManagerOptions { high_watermark: HighWatermarkPolicy::LogEnd, journal_bytes: 0, ..ManagerOptions::default() };
    let manager = LogManager::open(&[directory], options).unwrap();
    let log_config = LogConfig::default();
    let log = |index| {
        let partition = TopicPartition::new("__consumer_offsets", index).unwrap();
        let partition = manager.get_or_create(&partition, &log_config).unwrap();
        InternalLog::new(partition, &log_config, Durability::Flushed, 0)
    };
    let logs = (0..partitions).map(log).collect();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&notes);
    let dependencies = GroupDependencies {
        config,
        topic: Box::new(|name| (name == "orders").then_some(KnownTopic { id: Uuid::from_u128(0x77), partitions: 4 })),
        note: Box::new(move |note| taken.lock().unwrap().push(note.to_owned())),
    };
    let groups = GroupCoordinator::open(dependencies, logs).unwrap();
    Broker { manager, groups, notes }
}

fn at_once() -> GroupConfig {
    GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() }
}

impl Broker {
    async fn join(&self, group: &str, member_id: &StrBytes) -> JoinGroupResponse {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription());
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(group))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(member_id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let client = Client { id: "tests".to_owned(), host: "/127.0.0.1".to_owned() };
        self.groups.join_group(&client, 9, request).await
    }

    /// One member, alone in its group and assigned.
    async fn single_member(&self, group: &str) -> (StrBytes, i32) {
        let id = self.join(group, &StrBytes::new()).await.member_id;
        let joined = self.join(group, &id).await;
        assert_eq!((joined.error_code, &joined.leader), (0, &id));
        let assignment = SyncGroupRequestAssignment::default().with_member_id(id.clone());
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id(joined.generation_id)
            .with_member_id(id.clone())
            .with_assignments(vec![assignment.with_assignment(Bytes::from_static(b"parts"))]);
        let synced = self.groups.sync_group(4, request).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"parts"[..]));
        (id, joined.generation_id)
    }

    async fn commit(&self, group: &str, member: Option<(&StrBytes, i32)>, topic: &str, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(1)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("note")));
        let topic = OffsetCommitRequestTopic::default().with_name(text(topic).into());
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_member_id(member.map(|(id, _)| id.clone()).unwrap_or_default())
            .with_generation_id_or_member_epoch(member.map_or(-1, |(_, generation)| generation))
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        self.groups.offset_commit(8, request).await.topics[0].partitions[0].error_code
    }

    async fn commit_in_transaction(&self, group: &str, producer: (i64, i16), offset: i64) -> i16 {
        let partition =
            TxnOffsetCommitRequestPartition::default().with_partition_index(1).with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(text("orders").into());
        let request = TxnOffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_producer_id(producer.0.into())
            .with_producer_epoch(producer.1)
            .with_generation_id(-1)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        self.groups.txn_offset_commit(request, None).await.topics[0].partitions[0].error_code
    }

    async fn fetch(&self, group: &str, require_stable: bool) -> (i64, i16) {
        let topic = OffsetFetchRequestTopics::default().with_name(text("orders").into());
        let topic = topic.with_partition_indexes(vec![1]);
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(require_stable);
        let response = self.groups.offset_fetch(8, request).await;
        let partition = &response.groups[0].topics[0].partitions[0];
        (partition.committed_offset, partition.error_code)
    }

    /// As the coordinator of transactions does.
    fn end_transaction(&self, group: &str, producer: (i64, i16), committed: bool) {
        let index = self.groups.partition_for(group);
        let partition = self.manager.get(&TopicPartition::new("__consumer_offsets", index).unwrap()).unwrap();
        let marker = EndTxnMarker { committed, coordinator_epoch: 0 };
        let bytes = end_txn_marker(producer.0, producer.1, marker, 1_000).unwrap();
        let policy = ValidationPolicy::from_config(&LogConfig::default()).with_origin(AppendOrigin::Coordinator);
        let batch = validate(bytes, &policy, 1_000).unwrap();
        partition.append_as_leader(batch, AppendAsLeader::new(0, 1_000), Durability::Written).unwrap();
        self.groups.end_transaction(index, producer.0, committed);
    }

    fn close(self) {
        self.groups.close();
        self.manager.close().unwrap();
    }
}

/// Of a consumer of the topic `orders`.
fn subscription() -> Bytes {
    Bytes::from_static(b"\x00\x01\x00\x00\x00\x01\x00\x06orders\xff\xff\xff\xff\x00\x00\x00\x00")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_and_offsets_are_found_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    let (id, generation) = broker.single_member("g").await;
    assert_eq!(broker.commit("g", Some((&id, generation)), "orders", 42).await, 0);
    assert_eq!(broker.commit("simple", None, "orders", 7).await, 0);
    broker.close();

    let broker = open(directory.path(), at_once(), PARTITIONS);
    assert_eq!((broker.fetch("g", true).await, broker.fetch("simple", false).await), ((42, 0), (7, 0)));
    let beat = HeartbeatRequest::default().with_group_id(group_id("g")).with_member_id(id.clone());
    assert_eq!(broker.groups.heartbeat(&beat.clone().with_generation_id(generation)).error_code, 0);
    let described =
        broker.groups.describe_groups(5, &DescribeGroupsRequest::default().with_groups(vec![group_id("g")]));
    let group = &described.groups[0];
    assert_eq!((&*group.group_state, &*group.protocol_data), ("Stable", "range"));
    assert_eq!(&group.members[0].member_assignment[..], b"parts");
    assert_eq!(&group.members[0].client_host[..], "/127.0.0.1");
    let identity = MemberIdentity::default().with_member_id(id);
    let leave = LeaveGroupRequest::default().with_group_id(group_id("g")).with_members(vec![identity]);
    assert_eq!(broker.groups.leave_group(4, &leave).members[0].error_code, 0);
    broker.close();

    let broker = open(directory.path(), at_once(), PARTITIONS);
    assert_eq!(broker.groups.heartbeat(&beat).error_code, ResponseError::UnknownMemberId.code());
    let (_, next) = broker.single_member("g").await;
    assert_eq!(next, generation + 2, "the generation without members counts");
    assert_eq!(broker.notes.lock().unwrap().as_slice(), &[] as &[String]);
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_of_a_stranger_or_for_an_unknown_topic_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    assert_eq!(broker.commit("g", Some((&text("x"), 3)), "orders", 1).await, ResponseError::IllegalGeneration.code());
    assert_eq!(broker.commit("g", None, "no-topic", 1).await, ResponseError::UnknownTopicOrPartition.code());
    let (id, generation) = broker.single_member("g").await;
    let wrong = broker.commit("g", Some((&id, generation + 1)), "orders", 1).await;
    assert_eq!(wrong, ResponseError::IllegalGeneration.code());
    assert_eq!(broker.commit("g", None, "orders", 1).await, ResponseError::UnknownMemberId.code());
    assert_eq!(broker.fetch("g", true).await, (-1, 0));
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offset_of_a_transaction_shows_once_it_is_committed_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    assert_eq!(broker.commit("g", None, "orders", 1).await, 0);
    assert_eq!(broker.commit_in_transaction("g", (9, 0), 5).await, 0);
    let unstable = (-1, ResponseError::UnstableOffsetCommit.code());
    assert_eq!((broker.fetch("g", true).await, broker.fetch("g", false).await), (unstable, (1, 0)));
    broker.close();

    let broker = open(directory.path(), at_once(), PARTITIONS);
    assert_eq!((broker.fetch("g", true).await, broker.fetch("g", false).await), (unstable, (1, 0)));
    broker.end_transaction("g", (9, 0), true);
    assert_eq!(broker.fetch("g", true).await, (5, 0));
    assert_eq!(broker.commit_in_transaction("g", (9, 0), 6).await, 0);
    broker.end_transaction("g", (9, 0), false);
    assert_eq!(broker.fetch("g", true).await, (5, 0));
    let fenced = broker.commit_in_transaction("g", (9, -1), 7).await;
    assert_ne!(fenced, 0, "an epoch that is none");
    broker.close();

    let broker = open(directory.path(), at_once(), PARTITIONS);
    assert_eq!(broker.fetch("g", true).await, (5, 0));
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_groups_and_offsets_stay_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    let (id, generation) = broker.single_member("busy").await;
    broker.commit("busy", Some((&id, generation)), "orders", 1).await;
    for simple in ["a", "b", "c"] {
        broker.commit(simple, None, "orders", 2).await;
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(["busy", "a", "nobody", ""].map(group_id).to_vec());
    let codes: Vec<i16> =
        broker.groups.delete_groups(&delete).await.results.iter().map(|result| result.error_code).collect();
    let (not_empty, not_found) = (ResponseError::NonEmptyGroup.code(), ResponseError::GroupIdNotFound.code());
    assert_eq!(codes, [not_empty, 0, not_found, not_found]);
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
    let topic = OffsetDeleteRequestTopic::default().with_name(text("orders").into()).with_partitions(vec![partition]);
    let offset_delete =
        |group: &str| OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(vec![topic.clone()]);
    let subscribed = broker.groups.offset_delete(&offset_delete("busy")).await;
    assert_eq!(subscribed.topics[0].partitions[0].error_code, ResponseError::GroupSubscribedToTopic.code());
    assert_eq!(broker.groups.offset_delete(&offset_delete("b")).await.topics[0].partitions[0].error_code, 0);
    broker.groups.topic_deleted("no-topic");
    assert_eq!(broker.fetch("c", false).await, (2, 0));
    broker.close();

    let broker = open(directory.path(), at_once(), PARTITIONS);
    let listed = broker.groups.list_groups(&ListGroupsRequest::default());
    let mut names: Vec<String> = listed.groups.iter().map(|group| group.group_id.to_string()).collect();
    names.sort();
    assert_eq!(names, ["busy", "c"]);
    let stable = ListGroupsRequest::default().with_states_filter(vec![text("stable")]);
    assert_eq!(broker.groups.list_groups(&stable).groups.len(), 1);
    broker.groups.topic_deleted("orders");
    assert_eq!(broker.fetch("busy", false).await, (-1, 0));
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_were_kept_long_enough_go_and_their_group_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let config = GroupConfig { offsets_retention_ms: 0, ..at_once() };
    let broker = open(directory.path(), config, PARTITIONS);
    let (id, generation) = broker.single_member("busy").await;
    broker.commit("busy", Some((&id, generation)), "orders", 1).await;
    broker.commit("simple", None, "orders", 2).await;
    broker.groups.expire_offsets();
    assert_eq!((broker.fetch("busy", true).await, broker.fetch("simple", true).await), ((1, 0), (-1, 0)));
    assert_eq!(broker.groups.list_groups(&ListGroupsRequest::default()).groups.len(), 1);
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_that_falls_silent_is_left_behind_by_the_timer() {
    let directory = tempfile::tempdir().unwrap();
    let config = GroupConfig { min_session_timeout_ms: 1, ..at_once() };
    let broker = open(directory.path(), config, PARTITIONS);
    let request = |member_id: &StrBytes| {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription());
        JoinGroupRequest::default()
            .with_group_id(group_id("g"))
            .with_session_timeout_ms(100)
            .with_rebalance_timeout_ms(600_000)
            .with_member_id(member_id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    };
    let client = Client::default();
    let silent = broker.groups.join_group(&client, 3, request(&StrBytes::new())).await;
    assert_eq!((silent.error_code, silent.members.len()), (0, 1));
    // The second waits for the first to join again, which it never does.
    let second = broker.groups.join_group(&client, 3, request(&StrBytes::new())).await;
    assert_eq!((second.error_code, second.generation_id), (0, silent.generation_id + 1));
    assert_eq!((second.members.len(), &second.leader), (1, &second.member_id));
    broker.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_answered_when_the_coordinator_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), GroupConfig::default(), PARTITIONS);
    let id = broker.join("g", &StrBytes::new()).await.member_id;
    let groups = Arc::clone(&broker.groups);
    let waiting = async { broker.join("g", &id).await };
    let close = async {
        let describe = DescribeGroupsRequest::default().with_groups(vec![group_id("g")]);
        while groups.describe_groups(5, &describe).groups[0].members.is_empty() {
            tokio::task::yield_now().await;
        }
        groups.close();
    };
    let (response, ()) = tokio::join!(waiting, close);
    assert_eq!(response.error_code, ResponseError::NotCoordinator.code());
    let late = broker.join("g", &id).await;
    assert_eq!(late.error_code, ResponseError::CoordinatorNotAvailable.code());
    broker.close();
}

/// Joins, assigns as the leader, and beats until somebody else comes; ends once the group has this many members.
async fn consume_until(groups: Arc<GroupCoordinator>, members: usize) -> i32 {
    let (client, mut id) = (Client::default(), StrBytes::new());
    loop {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription());
        let request = JoinGroupRequest::default()
            .with_group_id(group_id("g"))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let joined = groups.join_group(&client, 9, request).await;
        id = joined.member_id.clone();
        if joined.error_code != 0 {
            assert_eq!(joined.error_code, ResponseError::MemberIdRequired.code());
            continue;
        }
        let size = u8::try_from(joined.members.len()).unwrap();
        let assigned = joined.members.iter().map(|member| {
            let assignment = SyncGroupRequestAssignment::default().with_member_id(member.member_id.clone());
            assignment.with_assignment(Bytes::copy_from_slice(&[size]))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id(joined.generation_id)
            .with_member_id(id.clone())
            .with_assignments(assigned.collect());
        let synced = groups.sync_group(4, request).await;
        if synced.error_code == 0 && synced.assignment[..] == [u8::try_from(members).unwrap()] {
            return joined.generation_id;
        }
        let beat = HeartbeatRequest::default().with_group_id(group_id("g")).with_member_id(id.clone());
        let beat = beat.with_generation_id(joined.generation_id);
        while synced.error_code == 0 && groups.heartbeat(&beat).error_code == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_come_at_once_end_up_in_one_generation() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(consume_until(Arc::clone(&broker.groups), 8))).collect();
    let mut generations = Vec::new();
    for task in tasks {
        generations.push(task.await.unwrap());
    }
    assert!(generations.windows(2).all(|pair| pair[0] == pair[1]), "{generations:?}");
    broker.close();
}

fn encodes(message: &impl Encodable, version: i16) {
    message.encode(&mut BytesMut::new(), version).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_can_be_written_in_every_version_good_or_bad() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    let groups = &broker.groups;
    let client = Client::default();
    let (id, generation) = broker.single_member("g").await;
    broker.commit("g", Some((&id, generation)), "orders", 3).await;
    for version in 0..=9 {
        for group in ["", "g", "new"] {
            let request = JoinGroupRequest::default().with_group_id(group_id(group)).with_session_timeout_ms(10_000);
            encodes(&groups.join_group(&client, version, request).await, version);
        }
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(&format!("v{version}")))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range"))]);
        let first = groups.join_group(&client, version, request.clone()).await;
        encodes(&first, version);
        encodes(&groups.join_group(&client, version, request.with_member_id(first.member_id)).await, version);
    }
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default().with_groups(["g", "none", ""].map(group_id).to_vec());
        let request = request.with_include_authorized_operations(version >= 3);
        encodes(&groups.describe_groups(version, &request), version);
    }
    for version in 0..=5 {
        encodes(&groups.list_groups(&ListGroupsRequest::default()), version);
        encodes(&groups.sync_group(version, SyncGroupRequest::default().with_group_id(group_id("g"))).await, version);
        for group in ["", "g", "none"] {
            let members = if version >= 3 { vec![MemberIdentity::default().with_member_id(text("x"))] } else { vec![] };
            let request = LeaveGroupRequest::default().with_group_id(group_id(group)).with_members(members);
            encodes(&groups.leave_group(version, &request), version);
        }
    }
    for version in 1..=10 {
        encodes(&fetch_in(&broker, version, "g", version >= 2).await, version);
        encodes(&fetch_in(&broker, version, "none", false).await, version);
    }
    broker.groups.close();
    for version in 1..=10 {
        let response = fetch_in(&broker, version, "g", false).await;
        encodes(&response, version);
        if version == 1 {
            let code = response.topics[0].partitions[0].error_code;
            assert_eq!(code, ResponseError::CoordinatorNotAvailable.code());
        }
    }
    broker.close();
}

async fn fetch_in(broker: &Broker, version: i16, group: &str, all_topics: bool) -> OffsetFetchResponse {
    let request = if version >= 8 {
        let topic = OffsetFetchRequestTopics::default().with_name(text("orders").into());
        let topics = (!all_topics).then(|| vec![topic.with_partition_indexes(vec![1, 2])]);
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(topics);
        OffsetFetchRequest::default().with_groups(vec![group])
    } else {
        let topic = OffsetFetchRequestTopic::default().with_name(text("orders").into());
        let topics = (!all_topics).then(|| vec![topic.with_partition_indexes(vec![1, 2])]);
        OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(topics)
    };
    broker.groups.offset_fetch(version, request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_belong_to_the_topic_with_the_id() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), PARTITIONS);
    let (known, former) = (Uuid::from_u128(0x77), Uuid::from_u128(0x78));
    let commit = async |name: &str, id, partition| {
        let partition =
            OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(5);
        let topic = OffsetCommitRequestTopic::default().with_name(text(name).into()).with_topic_id(id);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        let response = broker.groups.offset_commit(10, request).await;
        assert_eq!(response.topics[0].topic_id, id);
        response.topics[0].partitions[0].error_code
    };
    let (unknown_id, unknown) = (ResponseError::UnknownTopicId.code(), ResponseError::UnknownTopicOrPartition.code());
    // Between the look-up of its name and the commit a topic can be deleted, and made anew.
    for (name, id, partition, code) in [
        ("orders", known, 1, 0),
        ("orders", former, 1, unknown_id),
        ("", former, 1, unknown_id),
        ("orders", known, 9, unknown),
    ] {
        assert_eq!(commit(name, id, partition).await, code, "{name} {id} {partition}");
    }
    let fetch = async |version, name: &str, id| {
        let topic = OffsetFetchRequestTopics::default().with_name(text(name).into()).with_topic_id(id);
        let topics = Some(vec![topic.with_partition_indexes(vec![1])]);
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(topics);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let topic = broker.groups.offset_fetch(version, request).await.groups.remove(0).topics.remove(0);
        (topic.topic_id, topic.partitions[0].committed_offset, topic.partitions[0].error_code)
    };
    assert_eq!(fetch(10, "orders", known).await, (known, 5, 0));
    assert_eq!(fetch(10, "orders", former).await, (former, -1, 0));
    assert_eq!(fetch(10, "", former).await, (former, -1, unknown_id));
    assert_eq!(fetch(9, "orders", Uuid::nil()).await, (Uuid::nil(), 5, 0));
    let all = fetch_in(&broker, 10, "g", true).await.groups.remove(0);
    assert_eq!((all.topics[0].topic_id, all.topics[0].partitions[0].committed_offset), (known, 5));
    broker.close();
}

#[tokio::test]
async fn group_belongs_to_the_partition_that_kafka_would_say() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path(), at_once(), 50);
    // `Utils.abs("my-group".hashCode()) % 50` and the like, by Java.
    for (group, partition) in [("", 0), ("a", 47), ("group-classic", partition_by_java("group-classic"))] {
        assert_eq!(broker.groups.partition_for(group), partition, "{group}");
    }
    broker.close();
}

/// Java's `String.hashCode`, in wider numbers.
fn partition_by_java(text: &str) -> i32 {
    let hash = text.bytes().fold(0_i64, |hash, byte| (hash * 31 + i64::from(byte)) & 0xffff_ffff);
    let signed = if hash > i64::from(i32::MAX) { hash - (1 << 32) } else { hash };
    i32::try_from(signed.abs() % 50).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_cannot_be_read_is_noted_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = ManagerOptions { journal_bytes: 0, ..ManagerOptions::default() };
    let manager = LogManager::open(&[directory.path()], options).unwrap();
    let partition = TopicPartition::new("__consumer_offsets", 0).unwrap();
    let partition = manager.get_or_create(&partition, &LogConfig::default()).unwrap();
    let log = InternalLog::new(partition, &LogConfig::default(), Durability::Flushed, 0);
    let keyed = |key: &[u8]| Keyed { key: key.to_vec(), value: Some(vec![0, 9]) };
    log.append(&[keyed(&[0, 2, 0, 1, b'g']), keyed(&[0, 3, 0, 0]), keyed(&[1])], 1_000).await.unwrap();
    manager.close().unwrap();
    let broker = open(directory.path(), at_once(), 1);
    let notes = broker.notes.lock().unwrap().clone();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(broker.groups.list_groups(&ListGroupsRequest::default()).groups.is_empty());
    broker.close();
}

/// Real Kafka's `__consumer_offsets` after a few Java clients: a group of the classic protocol that all have left, one of the
/// newer protocol, and the offsets that a transaction committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_kafka_left_are_found() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/internals/dir/__consumer_offsets-0");
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("__consumer_offsets-0");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(golden).unwrap().map(|file| file.unwrap()) {
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let broker = open(directory.path(), at_once(), 1);
    let mut listed = Vec::new();
    for group in broker.groups.list_groups(&ListGroupsRequest::default()).groups {
        let wanted = OffsetFetchRequestGroup::default().with_group_id(group.group_id.clone()).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![wanted]).with_require_stable(true);
        let fetched = broker.groups.offset_fetch(8, request).await;
        let topic = &fetched.groups[0].topics[0];
        let offsets: Vec<i64> = topic.partitions.iter().map(|partition| partition.committed_offset).collect();
        listed.push((group.group_id.to_string(), group.protocol_type.to_string(), topic.name.to_string(), offsets));
    }
    listed.sort();
    let found = |group: &str, protocol_type: &str, offset| {
        let topic = "transactions-of-clients".to_owned();
        (group.to_owned(), protocol_type.to_owned(), topic, vec![offset])
    };
    let expected = [("group-classic", "consumer", 1), ("group-consumer", "", 1), ("txn-group", "", 2)];
    assert_eq!(listed, expected.map(|(group, protocol_type, offset)| found(group, protocol_type, offset)));
    let notes = broker.notes.lock().unwrap().clone();
    assert_eq!(notes, ["__consumer_offsets-0: 9 records of newer kinds of groups are left alone"]);
    broker.close();
}
