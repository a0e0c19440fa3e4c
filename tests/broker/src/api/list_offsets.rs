//! ListOffsets: offsets by time, and the ends of a log. Versions 1 to 11; 11 has the form of 10 and one more question.

use super::{Broker, RequestContext};
use crate::topics::Hosted;
use duramen::{Isolation, KafkaErrorCode, LogOffsets, Offset, TimestampQuery};
use kafka_protocol::{
    ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};
use std::collections::HashSet;

/// The `replica_id` of consumers.
const CONSUMER: i32 = -1;
/// The number of an isolation level that sees committed records alone.
const READ_COMMITTED: i8 = 1;
/// The first version that carries leader epochs.
const FIRST_WITH_EPOCHS: i16 = 4;

/// What stands for a question in the place of a time (`ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An answer: offset, time and leader epoch, where there are such.
type Found = (Option<Offset>, Option<i64>, Option<i32>);

/// Answers it. Follows `KafkaApis.handleListOffsetRequest` and `ReplicaManager.fetchOffset`.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = isolation_of(request.replica_id.0, request.isolation_level);
    let twice = named_twice(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answer = |asked: &ListOffsetsPartition| {
            let index = asked.partition_index;
            let answer = if twice.contains(&(topic.name.to_string(), index)) {
                Err(ResponseError::InvalidRequest.code())
            } else if !is_known(asked.timestamp, context.version) {
                Err(ResponseError::UnsupportedVersion.code())
            } else {
                let hosted = broker.topics.partition(&topic.name, index);
                hosted.and_then(|hosted| find(&hosted, asked, isolation)).map_err(KafkaErrorCode::code)
            };
            response(index, answer, context.version)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// How far the asker sees.
fn isolation_of(replica_id: i32, level: i8) -> Isolation {
    match (replica_id, level) {
        (CONSUMER, READ_COMMITTED) => Isolation::ReadCommitted,
        (CONSUMER, _) => Isolation::HighWatermark,
        _ => Isolation::LogEnd,
    }
}

fn named_twice(request: &ListOffsetsRequest) -> HashSet<(String, i32)> {
    let mut seen = HashSet::new();
    let all = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|asked| (&topic.name, asked.partition_index)));
    all.filter(|(name, index)| !seen.insert((name.to_string(), *index)))
        .map(|(name, index)| (name.to_string(), index))
        .collect()
}

/// Whether a time is one, or a question of this version (`KafkaApis.isListOffsetsTimestampUnsupported`).
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. | LATEST | EARLIEST => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        EARLIEST_PENDING_UPLOAD => version >= 11,
        _ => false,
    }
}

/// Answers for one partition. Follows `Partition.fetchOffsetForTimestamp`.
fn find(hosted: &Hosted, asked: &ListOffsetsPartition, isolation: Isolation) -> Result<Found, KafkaErrorCode> {
    super::check_epoch(hosted, asked.current_leader_epoch)?;
    let reader = hosted.partition.reader();
    let query = match asked.timestamp {
        LATEST => TimestampQuery::Latest,
        EARLIEST | EARLIEST_LOCAL => TimestampQuery::Earliest,
        MAX_TIMESTAMP => TimestampQuery::MaxTimestamp,
        // Nothing is kept anywhere else.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok((None, None, None)),
        timestamp => TimestampQuery::At(timestamp),
    };
    let end = readable_end(&reader.offsets(), isolation);
    let found = reader.offset_for_timestamp(query, isolation).map_err(|error| error.kafka_error_code())?;
    let Some(found) = found else { return Ok((None, None, None)) };
    let offset = Some(found.offset);
    match query {
        TimestampQuery::Latest => Ok((offset, None, Some(hosted.leader_epoch))),
        TimestampQuery::Earliest => Ok((offset, None, found.leader_epoch)),
        // A record that the asker cannot read yet is none.
        _ if found.offset >= end => Ok((None, None, None)),
        _ => Ok((offset, found.timestamp, found.leader_epoch)),
    }
}

/// Where the asker sees the log end, exclusive.
fn readable_end(offsets: &LogOffsets, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::LogEnd => offsets.log_end,
        Isolation::HighWatermark => offsets.high_watermark,
        Isolation::ReadCommitted => offsets.last_stable,
    }
}

fn response(index: i32, answer: Result<Found, i16>, version: i16) -> ListOffsetsPartitionResponse {
    let (error_code, (offset, timestamp, epoch)) = match answer {
        Ok(found) => (0, found),
        Err(error_code) => (error_code, (None, None, None)),
    };
    let epoch = epoch.filter(|_| version >= FIRST_WITH_EPOCHS).unwrap_or(-1);
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(error_code)
        .with_offset(offset.unwrap_or(-1))
        .with_timestamp(timestamp.unwrap_or(-1))
        .with_leader_epoch(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_known_from_their_version_on() {
        for (timestamp, first) in [(-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            assert!(is_known(timestamp, first) && !is_known(timestamp, first - 1), "{timestamp}");
        }
        assert!(is_known(0, 1) && is_known(-1, 1) && is_known(-2, 1) && !is_known(-7, 11));
    }

    #[test]
    fn only_consumers_see_less_than_the_log_end() {
        assert_eq!(isolation_of(-1, 1), Isolation::ReadCommitted);
        assert_eq!(isolation_of(-1, 0), Isolation::HighWatermark);
        assert_eq!(isolation_of(-2, 1), Isolation::LogEnd);
    }
}
