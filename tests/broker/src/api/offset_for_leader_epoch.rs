//! OffsetForLeaderEpoch (23): where an epoch ends, by which a consumer finds out whether what it read is still there.

use super::{Broker, RequestContext, check_epoch};
use crate::topics::Hosted;
use duramen::{KafkaErrorCode, LeaderEpoch, Offset};
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_request::OffsetForLeaderPartition,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};

/// An epoch that is not given, and one of which nothing is known.
const NO_EPOCH: LeaderEpoch = -1;
/// Told with [`NO_EPOCH`].
const NO_OFFSET: Offset = -1;

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let ends = topic.partitions.iter().map(|asked| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            let hosted = broker.topics.partition(&topic.topic, asked.partition);
            match hosted.and_then(|hosted| end_of(&hosted, asked)) {
                Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
                Err(code) => answer.with_leader_epoch(NO_EPOCH).with_end_offset(NO_OFFSET).with_error_code(code.code()),
            }
        });
        let ends = ends.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(ends)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

/// The largest known epoch that is not above the one asked for, and its end (`Partition.lastOffsetForLeaderEpoch`).
fn end_of(hosted: &Hosted, asked: &OffsetForLeaderPartition) -> Result<(LeaderEpoch, Offset), KafkaErrorCode> {
    check_epoch(hosted, asked.current_leader_epoch)?;
    let known = hosted.partition.reader().end_offset_for_epoch(asked.leader_epoch);
    Ok(known.filter(|_| asked.leader_epoch >= 0).unwrap_or((NO_EPOCH, NO_OFFSET)))
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
    use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;

    async fn ask(home: &Home, topic: &str, current: LeaderEpoch, epoch: LeaderEpoch) -> (i16, LeaderEpoch, Offset) {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let end = handle(&home.broker, &context(4), request).await.topics.remove(0).partitions.remove(0);
        (end.error_code, end.leader_epoch, end.end_offset)
    }

    #[tokio::test]
    async fn epochs_end_where_the_next_begins() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let first = home.broker.topics.partition("a", 0).unwrap();
        // Of an empty partition the epoch is known too.
        assert_eq!(ask(&home, "a", -1, first.leader_epoch).await, (0, first.leader_epoch, 0));
        append(&first, 3);
        let epoch = first.leader_epoch;
        drop(first);
        let home = home.reopened();
        let second = home.broker.topics.partition("a", 0).unwrap();
        append(&second, 2);
        assert_eq!(ask(&home, "a", -1, epoch).await, (0, epoch, 3));
        assert_eq!(ask(&home, "a", second.leader_epoch, second.leader_epoch).await, (0, second.leader_epoch, 5));
        assert_eq!(ask(&home, "a", -1, second.leader_epoch + 1).await, (0, NO_EPOCH, NO_OFFSET));
        assert_eq!(ask(&home, "a", -1, -1).await, (0, NO_EPOCH, NO_OFFSET));
        assert_eq!(ask(&home, "a", epoch, epoch).await, (74, NO_EPOCH, NO_OFFSET));
        assert_eq!(ask(&home, "a", second.leader_epoch + 1, epoch).await, (75, NO_EPOCH, NO_OFFSET));
        assert_eq!(ask(&home, "none", -1, epoch).await, (3, NO_EPOCH, NO_OFFSET));
    }
}
