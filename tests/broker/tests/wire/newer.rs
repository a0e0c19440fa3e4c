//! Versions that `kafka-protocol` does not know yet: their requests are written here byte by byte.

use super::{
    broker,
    client::Connection,
    requests::{begin, list, name},
};
use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{
        ApiKey, MetadataRequest, OffsetCommitResponse, OffsetFetchResponse, ResponseHeader, WriteTxnMarkersResponse,
        metadata_request::MetadataRequestTopic, offset_fetch_response::OffsetFetchResponseGroup,
    },
    protocol::{Decodable, HeaderVersion},
};
use uuid::Uuid;

const NOBODYS: Uuid = Uuid::from_u128(7);

/// Sends a body, and reads the answer.
fn ask<T: Decodable + HeaderVersion>(connection: &mut Connection, key: ApiKey, version: i16, body: &[u8]) -> T {
    connection.send_body(key as i16, version, body).unwrap();
    let mut frame = connection.read_frame().unwrap();
    ResponseHeader::decode(&mut frame, T::header_version(version)).unwrap();
    // `kafka-protocol` knows these answers, or they are as those of the version below.
    let response = T::decode(&mut frame, version).or_else(|_| T::decode(&mut frame, version - 1)).unwrap();
    assert!(frame.is_empty(), "an answer has bytes too many");
    response
}

/// A compact text or array: its length, which is the number of its bytes or elements and one, and what is in it.
fn compact(len: usize, bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(len).unwrap() + 1], bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    compact(text.len(), text.as_bytes())
}

fn id_of(connection: &mut Connection, topic: &str) -> Uuid {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    connection.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic]))).unwrap().topics[0].topic_id
}

/// Commits an offset of a partition in the name of nobody; the answer's id and error.
fn commit(connection: &mut Connection, topic: Uuid, partition: i32, offset: i64) -> (Uuid, i16) {
    let epoch = 0_i32;
    let fields = [&partition.to_be_bytes()[..], &offset.to_be_bytes(), &epoch.to_be_bytes(), &text("note"), &[0]];
    let topic = [&topic.as_bytes()[..], &compact(1, &fields.concat()), &[0]].concat();
    let (generation, no_member, no_instance) = (-1_i32, text(""), [0]);
    let front = [&text("group")[..], &generation.to_be_bytes(), &no_member, &no_instance].concat();
    let body = [&front[..], &compact(1, &topic), &[0]].concat();
    let mut response: OffsetCommitResponse = ask(connection, ApiKey::OffsetCommit, 10, &body);
    let topic = response.topics.remove(0);
    (topic.topic_id, topic.partitions[0].error_code)
}

/// Fetches offsets of the group's first two partitions of some topics, or of all.
fn fetch(connection: &mut Connection, topics: Option<&[Uuid]>) -> OffsetFetchResponseGroup {
    let indexes = compact(2, &[0_i32.to_be_bytes(), 1_i32.to_be_bytes()].concat());
    let topic = |id: &Uuid| [&id.as_bytes()[..], &indexes, &[0]].concat();
    let all = |topics: &[Uuid]| compact(topics.len(), &topics.iter().map(topic).collect::<Vec<_>>().concat());
    let topics = topics.map_or(vec![0], all);
    let (no_member, no_epoch, require_stable) = ([0], -1_i32, [1]);
    let group = [&text("group")[..], &no_member, &no_epoch.to_be_bytes(), &topics, &[0]].concat();
    let body = [&compact(1, &group)[..], &require_stable, &[0]].concat();
    let mut response: OffsetFetchResponse = ask(connection, ApiKey::OffsetFetch, 10, &body);
    response.groups.remove(0)
}

/// Id, offsets and errors of each topic.
fn told(group: &OffsetFetchResponseGroup) -> Vec<(Uuid, Vec<(i64, i16)>)> {
    let topics = group.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| (partition.committed_offset, partition.error_code));
        (topic.topic_id, partitions.collect())
    });
    topics.collect()
}

#[test]
fn offsets_are_committed_and_fetched_by_the_ids_of_topics() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let (orders, keyed) = (id_of(&mut connection, "orders"), id_of(&mut connection, "keyed"));
    assert_eq!(commit(&mut connection, orders, 1, 70), (orders, 0));
    assert_eq!(commit(&mut connection, orders, 9, 70), (orders, 3), "no such partition");
    for id in [NOBODYS, Uuid::nil()] {
        assert_eq!(commit(&mut connection, id, 0, 70), (id, 100), "no such topic");
    }
    let group = fetch(&mut connection, Some(&[orders, NOBODYS, keyed]));
    let expected =
        [(orders, vec![(-1, 0), (70, 0)]), (keyed, vec![(-1, 0), (-1, 0)]), (NOBODYS, vec![(-1, 100), (-1, 100)])];
    assert_eq!((group.error_code, told(&group)), (0, expected.to_vec()));
    assert_eq!(told(&fetch(&mut connection, None)), [(orders, vec![(70, 0)])]);
    assert_eq!(told(&fetch(&mut connection, Some(&[]))), []);
    broker.stop();
}

#[test]
fn log_directories_of_version_5_say_that_none_is_cordoned() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let mut answer = |version: i16| {
        // No topics: all. The form of both versions is the same.
        connection.send_body(ApiKey::DescribeLogDirs as i16, version, &[0, 0]).unwrap();
        connection.read_frame().unwrap()
    };
    let (older, newer) = (answer(4), answer(5));
    let volume = |frame: &Bytes, behind: usize| {
        let mut sizes = frame.slice(frame.len() - behind - 16..);
        (sizes.get_i64(), sizes.get_i64())
    };
    // Behind the sizes of the volume stand the new field, and the tagged fields of the directory and of the answer.
    let ((total, usable), (known, _)) = (volume(&newer, 3), volume(&older, 2));
    assert!(total == known && usable > 0 && usable <= total);
    assert_eq!(newer[newer.len() - 3..], [0, 0, 0]);
    assert_eq!((newer.len(), newer.slice(4..newer.len() - 19)), (older.len() + 1, older.slice(4..older.len() - 18)));
    broker.stop();
}

/// Ends the transaction of [`begin`]; the answer's error.
fn end(connection: &mut Connection, epoch: i16, transaction_version: Option<u8>) -> i16 {
    let (producer, commits, coordinator_epoch) = (77_i64, [1], 0_i32);
    let topic = [&text("orders")[..], &compact(1, &0_i32.to_be_bytes()), &[0]].concat();
    let front = [&producer.to_be_bytes()[..], &epoch.to_be_bytes(), &commits, &compact(1, &topic)].concat();
    let version = transaction_version.map_or(vec![], |version| vec![version]);
    let marker = [&front[..], &coordinator_epoch.to_be_bytes(), &version, &[0]].concat();
    let body = [&compact(1, &marker)[..], &[0]].concat();
    let asked = if transaction_version.is_some() { 2 } else { 1 };
    let response: WriteTxnMarkersResponse = ask(connection, ApiKey::WriteTxnMarkers, asked, &body);
    response.markers[0].topics[0].partitions[0].error_code
}

#[test]
fn marker_of_the_newer_transaction_protocol_needs_a_newer_epoch() {
    let (_directory, broker) = broker(&[("transaction.partition.verification.enable", "false")]);
    let mut connection = broker.connect();
    assert_eq!(connection.ask(9, &begin("orders", 0)).unwrap().responses[0].partition_responses[0].error_code, 0);
    let invalid_producer_epoch = 47;
    assert_eq!(end(&mut connection, 0, Some(2)), invalid_producer_epoch);
    assert_eq!(end(&mut connection, 1, Some(2)), 0);
    assert_eq!(end(&mut connection, 1, None), 0, "the older protocol ends it with the same epoch");
    assert_eq!(list(&mut connection, 5, "orders", 0, -1).offset, 3);
    broker.stop();
}
