//! DescribeQuorum (55): who keeps the metadata log: this node alone.

use super::{
    Broker, RequestContext,
    wire::{text, to_wire},
};
use crate::metadata::METADATA_TOPIC;
use duramen::KafkaErrorCode;
use kafka_protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, TopicName,
    describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData},
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers a request. Whoever asks for anything but the one partition of the log hears for all that there is none
/// (`KafkaRaftClient.handleDescribeQuorumRequest`).
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let is_the_log = match request.topics.as_slice() {
        [topic] => {
            topic.topic_name.as_str() == METADATA_TOPIC
                && matches!(topic.partitions.as_slice(), [it] if it.partition_index == 0)
        }
        _ => false,
    };
    if !is_the_log {
        return unknown(request);
    }
    let node_id = BrokerId(broker.config.node_id);
    let (host, port) = broker.config.advertised();
    let listener = Listener::default().with_name("PLAINTEXT".into()).with_host(text(&host)).with_port(port);
    let log = TopicData::default()
        .with_topic_name(TopicName(METADATA_TOPIC.into()))
        .with_partitions(vec![partition(broker, node_id)]);
    DescribeQuorumResponse::default()
        .with_topics(vec![log])
        .with_nodes(vec![Node::default().with_node_id(node_id).with_listeners(vec![listener])])
}

fn partition(broker: &Broker, node_id: BrokerId) -> PartitionData {
    let metadata = broker.topics.metadata();
    let term = metadata.term();
    let end = metadata.image().next_offset();
    // The leader has always just caught up with itself (`LeaderState.describeReplicaState`).
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let voter = ReplicaState::default()
        .with_replica_id(node_id)
        .with_replica_directory_id(to_wire(term.directory_id))
        .with_log_end_offset(end)
        .with_last_fetch_timestamp(now_ms)
        .with_last_caught_up_timestamp(now_ms);
    PartitionData::default()
        .with_leader_id(node_id)
        .with_leader_epoch(term.leader_epoch)
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}

fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            PartitionData::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(KafkaErrorCode::UnknownTopicOrPartition.code())
        });
        let partitions = partitions.collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fixtures::{Home, NODE_ID, context},
            wire::topic_name,
        },
        *,
    };
    use kafka_protocol::messages::describe_quorum_request;

    async fn ask(home: &Home, topic: &str, partition: i32) -> PartitionData {
        let partition = describe_quorum_request::PartitionData::default().with_partition_index(partition);
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let mut response = handle(&home.broker, &context(2), request).await;
        response.topics.remove(0).partitions.remove(0)
    }

    #[tokio::test]
    async fn node_leads_alone_and_a_later_start_is_a_later_term() {
        let home = Home::new();
        let first = ask(&home, METADATA_TOPIC, 0).await;
        assert_eq!((first.error_code, first.leader_id.0, first.leader_epoch), (0, NODE_ID, 1));
        let [voter] = first.current_voters.as_slice() else { panic!("{first:?}") };
        assert_eq!((voter.replica_id.0, voter.log_end_offset), (NODE_ID, first.high_watermark));
        home.create("a", 1, &[]).await;
        let second = ask(&home, METADATA_TOPIC, 0).await;
        assert!(second.high_watermark > first.high_watermark, "{second:?}");
        let third = ask(&home.reopened(), METADATA_TOPIC, 0).await;
        assert!(third.leader_epoch > 1 && third.high_watermark > second.high_watermark, "{third:?}");
    }

    #[tokio::test]
    async fn other_logs_are_unknown() {
        let home = Home::new();
        for (topic, partition) in [(METADATA_TOPIC, 1), ("a", 0)] {
            assert_eq!(ask(&home, topic, partition).await.error_code, 3, "{topic}-{partition}");
        }
    }
}
