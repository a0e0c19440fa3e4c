//! DescribeProducers (61): the producers that partitions remember, and their open transactions.

use super::{Broker, RequestContext};
use crate::topics::Hosted;
use duramen::{ActiveProducer, KafkaErrorCode};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId,
    describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
};

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let answer = PartitionResponse::default().with_partition_index(*index);
            match broker.topics.partition(&topic.name, *index).and_then(|hosted| producers(&hosted)) {
                Ok(producers) => answer.with_active_producers(producers),
                Err(code) => answer.with_error_code(code.code()),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producers(hosted: &Hosted) -> Result<Vec<ProducerState>, KafkaErrorCode> {
    let active = hosted.partition.with(|log| log.active_producers());
    Ok(active.map_err(|error| error.kafka_error_code())?.iter().map(tell).collect())
}

fn tell(producer: &ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.producer_epoch))
        .with_last_sequence(producer.last_sequence.unwrap_or(-1))
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch.unwrap_or(-1))
        .with_current_txn_start_offset(producer.current_txn_first_offset.unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{
            fixtures::{Home, append_transactional, context},
            wire::topic_name,
        },
        *,
    };
    use kafka_protocol::messages::describe_producers_request::TopicRequest;

    #[tokio::test]
    async fn producers_are_told_with_their_transactions() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        append_transactional(&home.broker.topics.partition("a", 0).unwrap(), 7);
        let topic =
            |name: &str, indexes| TopicRequest::default().with_name(topic_name(name)).with_partition_indexes(indexes);
        let request =
            DescribeProducersRequest::default().with_topics(vec![topic("a", vec![0, 1]), topic("none", vec![0])]);
        let response = handle(&home.broker, &context(0), request).await;
        let known = &response.topics[0].partitions[0];
        let [producer] = known.active_producers.as_slice() else { panic!("{known:?}") };
        assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (7, 0, 0));
        assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, 0));
        assert_eq!((response.topics[0].partitions[1].error_code, response.topics[1].partitions[0].error_code), (3, 3));
    }
}
