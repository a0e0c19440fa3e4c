//! ElectLeaders (43): one broker leads all partitions as it is.

use super::{Broker, RequestContext};
use duramen::KafkaErrorCode;
use kafka_protocol::{
    ResponseError,
    messages::{
        ElectLeadersRequest, ElectLeadersResponse,
        elect_leaders_response::{PartitionResult, ReplicaElectionResult},
    },
};

/// Answers a request. Where all partitions are asked for, those that need nothing are left out, so here all of them are
/// (`ReplicationControlManager.electLeaders`).
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let results = request.topic_partitions.unwrap_or_default().into_iter().map(|asked| {
        let partitions = asked.partitions.iter().map(|index| {
            let (code, message) = match broker.topics.partition(&asked.topic, *index) {
                Ok(_) => (ResponseError::ElectionNotNeeded.code(), "The leader is the one that is to lead."),
                Err(_) => (KafkaErrorCode::UnknownTopicOrPartition.code(), "There is no such partition."),
            };
            PartitionResult::default()
                .with_partition_id(*index)
                .with_error_code(code)
                .with_error_message(Some(message.into()))
        });
        let partitions = partitions.collect();
        ReplicaElectionResult::default().with_topic(asked.topic).with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fixtures::{Home, context},
            wire::topic_name,
        },
        *,
    };
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;

    #[tokio::test]
    async fn nothing_needs_an_election() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let asked = TopicPartitions::default().with_topic(topic_name("a")).with_partitions(vec![0, 1]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![asked]));
        let response = handle(&home.broker, &context(2), request).await;
        let codes = response.replica_election_results.iter().flat_map(|result| &result.partition_result);
        assert_eq!(codes.map(|result| result.error_code).collect::<Vec<_>>(), [84, 3]);
        let all = handle(&home.broker, &context(2), ElectLeadersRequest::default().with_topic_partitions(None)).await;
        assert!(all.error_code == 0 && all.replica_election_results.is_empty());
    }
}
