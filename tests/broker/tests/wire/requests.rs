//! The requests of these tests.

use super::client::Connection;
use bytes::Bytes;
use duramen::format::builder::BatchBuilder;
use kafka_protocol::{
    messages::{
        FetchRequest, ListOffsetsRequest, ProduceRequest, TopicName, TransactionalId,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::ListOffsetsPartitionResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
    protocol::StrBytes,
};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A batch of records of this value.
pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    let add = |builder: BatchBuilder, value: &&[u8]| builder.record(now_ms(), Some(b"key"), Some(value));
    values.iter().fold(BatchBuilder::new(), add).build().unwrap().into()
}

pub(crate) fn produce(topic: &str, index: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(index).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Produces a batch with all acks, and gives the answer.
pub(crate) fn put(connection: &mut Connection, topic: &str, index: i32, records: Bytes) -> PartitionProduceResponse {
    let mut response = connection.ask(9, &produce(topic, index, -1, records)).unwrap();
    response.responses.remove(0).partition_responses.remove(0)
}

/// A fetch of one partition, which does not wait.
pub(crate) fn fetch(topic: &str, index: i32, offset: i64) -> FetchRequest {
    let partition =
        FetchPartition::default().with_partition(index).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    fetch_of(topic, vec![partition])
}

pub(crate) fn fetch_of(topic: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(partitions);
    FetchRequest::default().with_max_bytes(50 << 20).with_min_bytes(1).with_topics(vec![topic])
}

/// Fetches one partition, and gives the answer.
pub(crate) fn get(connection: &mut Connection, version: i16, request: &FetchRequest) -> PartitionData {
    let mut response = connection.ask(version, request).unwrap();
    response.responses.remove(0).partitions.remove(0)
}

/// Produces the first batch of a transaction.
pub(crate) fn begin(topic: &str, index: i32) -> ProduceRequest {
    let records = BatchBuilder::new().producer(77, 0, 0).transactional().record(now_ms(), None, Some(b"open")).build();
    let id = TransactionalId(StrBytes::from_static_str("nobody"));
    produce(topic, index, -1, records.unwrap().into()).with_transactional_id(Some(id))
}

/// A question for an offset.
pub(crate) fn offset_query(topic: &str, index: i32, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic])
}

/// Asks for an offset.
pub(crate) fn list(
    connection: &mut Connection,
    version: i16,
    topic: &str,
    index: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let mut response = connection.ask(version, &offset_query(topic, index, timestamp)).unwrap();
    response.topics.remove(0).partitions.remove(0)
}
