//! What a producer is told: offsets, or why not.

use super::{Broker, Topic};
use crate::protocol::TopicKey;
use duramen::{AppendInfo, KafkaErrorCode, LogError, Offset, PartitionError, Timestamp};
use kafka_protocol::{
    messages::{
        BrokerId, ProduceResponse, TopicName,
        produce_response::{
            BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
        },
    },
    protocol::StrBytes,
};
use std::fmt::{self, Display};

/// The first versions that tell the log start, the records in error, and the leader.
const FIRST_WITH_LOG_START: i16 = 5;
const FIRST_WITH_RECORD_ERRORS: i16 = 8;
const FIRST_WITH_LEADER: i16 = 10;

/// What was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    base_offset: Offset,
    log_append_time: Option<Timestamp>,
    log_start_offset: Offset,
}

impl From<AppendInfo> for Appended {
    fn from(info: AppendInfo) -> Self {
        let AppendInfo { first_offset, log_append_time, log_start_offset, .. } = info;
        Self { base_offset: first_offset, log_append_time, log_start_offset }
    }
}

/// Why nothing was, or may not have been, appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: i16,
    message: Option<String>,
    /// Indexes in the batch of the records that are the reason.
    records: Vec<i32>,
}

impl Refusal {
    /// With a message for people.
    pub(super) fn new(code: KafkaErrorCode, message: impl Display) -> Self {
        Self::with_code(code.code(), Some(message.to_string()))
    }

    /// With a code of the protocol.
    pub(super) fn with_code(code: i16, message: Option<String>) -> Self {
        Self { code, message, records: Vec::new() }
    }
}

impl From<KafkaErrorCode> for Refusal {
    fn from(code: KafkaErrorCode) -> Self {
        Self::with_code(code.code(), None)
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        let records = match &error {
            LogError::InvalidRecord { invalid_records, .. } => {
                invalid_records.iter().map(|index| i32::try_from(*index).unwrap_or(i32::MAX)).collect()
            }
            _ => Vec::new(),
        };
        Self { records, ..Self::new(error.kafka_error_code(), error) }
    }
}

impl From<PartitionError> for Refusal {
    fn from(error: PartitionError) -> Self {
        match error {
            PartitionError::Log(error) => Self::from(error),
            other => Self::new(other.kafka_error_code(), other),
        }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}", self.code)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ", {message}"))
    }
}

/// Who leads every partition here, for producers that were sent to the wrong place.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    node_id: i32,
    host: StrBytes,
    port: u16,
}

impl Leader {
    pub(super) fn of(broker: &Broker) -> Self {
        let (host, port) = broker.config.advertised();
        Self { node_id: broker.config.node_id, host: StrBytes::from_string(host), port }
    }

    fn endpoint(&self) -> NodeEndpoint {
        NodeEndpoint::default()
            .with_node_id(BrokerId(self.node_id))
            .with_host(self.host.clone())
            .with_port(i32::from(self.port))
    }
}

/// The response.
pub(super) fn response(version: i16, leader: &Leader, topics: Vec<Topic<Appended>>) -> ProduceResponse {
    let mut is_elsewhere = false;
    let mut responses = Vec::with_capacity(topics.len());
    for Topic { key, parts } in topics {
        let mut partitions = Vec::with_capacity(parts.len());
        for (index, result) in parts {
            let answer = partition(version, index, result);
            let moved = answer.error_code == KafkaErrorCode::NotLeaderOrFollower.code() && version >= FIRST_WITH_LEADER;
            is_elsewhere |= moved;
            partitions.push(if moved { with_leader(answer, leader) } else { answer });
        }
        responses.push(topic(key).with_partition_responses(partitions));
    }
    let endpoints = if is_elsewhere { vec![leader.endpoint()] } else { Vec::new() };
    ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints)
}

fn topic(key: TopicKey) -> TopicProduceResponse {
    match key {
        TopicKey::Name(name) => TopicProduceResponse::default().with_name(TopicName(name)),
        TopicKey::Id(id) => TopicProduceResponse::default().with_topic_id(uuid::Uuid::from_bytes(id)),
    }
}

/// The partition is being opened or deleted: this node is asked again, and says then what there is.
fn with_leader(answer: PartitionProduceResponse, leader: &Leader) -> PartitionProduceResponse {
    let unknown_epoch = -1;
    let current = LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader.node_id)).with_leader_epoch(unknown_epoch);
    answer.with_current_leader(current)
}

fn partition(version: i16, index: i32, result: Result<Appended, Refusal>) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(appended) => {
            let answer = answer
                .with_base_offset(appended.base_offset)
                .with_log_append_time_ms(appended.log_append_time.unwrap_or(-1));
            if version < FIRST_WITH_LOG_START {
                answer
            } else {
                answer.with_log_start_offset(appended.log_start_offset)
            }
        }
        Err(refusal) => {
            let answer = answer.with_error_code(refusal.code).with_base_offset(-1).with_log_append_time_ms(-1);
            if version < FIRST_WITH_RECORD_ERRORS { answer } else { with_reasons(answer, refusal) }
        }
    }
}

fn with_reasons(answer: PartitionProduceResponse, refusal: Refusal) -> PartitionProduceResponse {
    let message = refusal.message.map(StrBytes::from_string);
    let error = |index: i32| {
        BatchIndexAndErrorMessage::default().with_batch_index(index).with_batch_index_error_message(message.clone())
    };
    let errors = refusal.records.iter().map(|index| error(*index)).collect();
    answer.with_record_errors(errors).with_error_message(message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    fn answered(version: i16, result: Result<Appended, Refusal>) -> ProduceResponse {
        let leader = Leader { node_id: 1, host: StrBytes::from_static_str("localhost"), port: 9092 };
        let key = match version {
            13.. => TopicKey::Id([7; 16]),
            _ => TopicKey::Name(StrBytes::from_static_str("orders")),
        };
        let response = response(version, &leader, vec![Topic { key, parts: vec![(3, result)] }]);
        response.encode(&mut BytesMut::new(), version).unwrap();
        response
    }

    fn all_versions() -> impl Iterator<Item = i16> {
        3..=13
    }

    #[test]
    fn offsets_and_times_are_told_in_every_version() {
        for version in all_versions() {
            let appended = Appended { base_offset: 40, log_append_time: Some(99), log_start_offset: 5 };
            let partition = answered(version, Ok(appended)).responses.remove(0).partition_responses.remove(0);
            assert_eq!((partition.index, partition.base_offset, partition.log_append_time_ms), (3, 40, 99));
            assert_eq!(partition.log_start_offset, if version >= 5 { 5 } else { -1 });
        }
    }

    #[test]
    fn records_in_error_are_told_where_the_version_can() {
        for version in all_versions() {
            let code = KafkaErrorCode::InvalidTimestamp;
            let error = LogError::InvalidRecord { why: "too old".to_owned(), invalid_records: vec![2, 4], code };
            let partition = answered(version, Err(error.into())).responses.remove(0).partition_responses.remove(0);
            assert_eq!((partition.error_code, partition.base_offset), (32, -1));
            let indexes: Vec<_> = partition.record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(indexes, if version >= 8 { vec![2, 4] } else { vec![] });
            assert_eq!(partition.error_message.is_some(), version >= 8);
        }
    }

    #[test]
    fn wrong_leader_is_told_with_the_right_one() {
        for version in all_versions() {
            let response = answered(version, Err(KafkaErrorCode::NotLeaderOrFollower.into()));
            let partition = &response.responses[0].partition_responses[0];
            let leader = if version >= 10 { 1 } else { -1 };
            assert_eq!(partition.current_leader.leader_id.0, leader, "version {version}");
            assert_eq!(response.node_endpoints.len(), usize::from(version >= 10));
        }
    }
}
