//! DeleteRecords (21): moves the first readable offset of partitions up.

use super::{Broker, RequestContext};
use crate::topics::{Hosted, is_internal};
use duramen::{KafkaErrorCode, Offset};
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    },
};
use tokio::task::spawn_blocking;

/// The offset that stands for the high watermark (`DeleteRecordsRequest.HIGH_WATERMARK`).
const HIGH_WATERMARK: Offset = -1;
/// Told of a partition that failed (`DeleteRecordsResponse.INVALID_LOW_WATERMARK`).
const NO_LOW_WATERMARK: Offset = -1;

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let deleted = delete(broker, &topic.name, partition.partition_index, partition.offset).await;
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match deleted {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(code) => answer.with_low_watermark(NO_LOW_WATERMARK).with_error_code(code),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

/// The low watermark afterwards, or an error code (`ReplicaManager.deleteRecordsOnLocalLog`).
async fn delete(broker: &Broker, topic: &str, index: i32, offset: Offset) -> Result<Offset, i16> {
    if is_internal(topic) {
        return Err(KafkaErrorCode::InvalidTopic.code());
    }
    let hosted = broker.topics.partition(topic, index).map_err(KafkaErrorCode::code)?;
    let policy = hosted.config.cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ResponseError::PolicyViolation.code());
    }
    let moved = spawn_blocking(move || move_log_start(&hosted, offset)).await;
    moved.unwrap_or(Err(KafkaErrorCode::UnknownServerError)).map_err(KafkaErrorCode::code)
}

/// Waits for the disk if the log is not durable up to there.
fn move_log_start(hosted: &Hosted, offset: Offset) -> Result<Offset, KafkaErrorCode> {
    let moved = hosted.partition.with(|log| {
        let offset = if offset == HIGH_WATERMARK { log.offsets().high_watermark } else { offset };
        if offset < 0 {
            return Err(KafkaErrorCode::OffsetOutOfRange);
        }
        log.increment_log_start_offset(offset).map_err(|error| error.kafka_error_code())?;
        Ok(log.offsets().log_start)
    });
    moved.map_err(|error| error.kafka_error_code())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{
            fixtures::{Home, append, context},
            wire::topic_name,
        },
        *,
    };
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    async fn ask(home: &Home, topic: &str, index: i32, offset: Offset) -> (Offset, i16) {
        let partition = DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let result = handle(&home.broker, &context(2), request).await.topics.remove(0).partitions.remove(0);
        (result.low_watermark, result.error_code)
    }

    #[tokio::test]
    async fn log_start_moves_up_and_never_down() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let hosted = home.broker.topics.partition("a", 0).unwrap();
        append(&hosted, 10);
        assert_eq!(ask(&home, "a", 0, 4).await, (4, 0));
        assert_eq!(ask(&home, "a", 0, 2).await, (4, 0));
        assert_eq!(hosted.partition.offsets().log_start, 4);
        assert_eq!(ask(&home, "a", 0, HIGH_WATERMARK).await, (10, 0));
        drop(hosted);
        let home = home.reopened();
        assert_eq!(home.broker.topics.partition("a", 0).unwrap().partition.offsets().log_start, 10);
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_has_its_error() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        home.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
        home.create("neither", 1, &[("cleanup.policy", "")]).await;
        home.create("__consumer_offsets", 1, &[]).await;
        assert_eq!(ask(&home, "a", 0, 1).await, (-1, 1));
        assert_eq!(ask(&home, "a", 0, -2).await, (-1, 1));
        assert_eq!(ask(&home, "a", 1, 0).await, (-1, 3));
        assert_eq!(ask(&home, "compacted", 0, 0).await, (-1, 44));
        assert_eq!(ask(&home, "neither", 0, 0).await, (0, 0));
        assert_eq!(ask(&home, "__consumer_offsets", 0, 0).await, (-1, 17));
    }
}
