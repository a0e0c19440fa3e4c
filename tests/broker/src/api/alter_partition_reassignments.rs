//! AlterPartitionReassignments (45): with one broker every partition is where it can be.

use super::{Broker, RequestContext, create_topics::check_assignment, refusal::Refusal};
use kafka_protocol::{
    ResponseError,
    messages::{
        AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
        alter_partition_reassignments_request::ReassignablePartition,
        alter_partition_reassignments_response::{ReassignablePartitionResponse, ReassignableTopicResponse},
    },
};

/// Answers a request (`ReplicationControlManager.alterPartitionReassignments`). The one assignment that is valid is the one that
/// there is, so nothing ever changes.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let refusal = check(broker, &topic.name, asked).err();
            ReassignablePartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(refusal.as_ref().map_or(0, |refusal| refusal.code))
                .with_error_message(refusal.and_then(|refusal| refusal.text()))
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(responses.collect())
}

fn check(broker: &Broker, topic: &str, asked: &ReassignablePartition) -> Result<(), Refusal> {
    let index = asked.partition_index;
    if broker.topics.partition(topic, index).is_err() {
        let message = match broker.topics.topic(topic) {
            Some(_) => format!("Unable to find partition {topic}:{index}."),
            None => format!("Unable to find a topic named {topic}."),
        };
        return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, message));
    }
    match &asked.replicas {
        Some(replicas) => check_assignment(replicas.iter().map(|id| id.0), broker.config.node_id),
        None => Err(Refusal::new(ResponseError::NoReassignmentInProgress, "No partition reassignment is in progress.")),
    }
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
    use kafka_protocol::messages::{BrokerId, alter_partition_reassignments_request::ReassignableTopic};

    #[tokio::test]
    async fn partition_can_stay_where_it_is_and_go_nowhere() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let ask = async |topic: &str, index, replicas: Option<&[i32]>| {
            let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
            let partition = ReassignablePartition::default().with_partition_index(index).with_replicas(replicas);
            let topic = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let mut response = handle(&home.broker, &context(1), request).await;
            response.responses.remove(0).partitions.remove(0).error_code
        };
        assert_eq!(ask("a", 0, Some(&[NODE_ID])).await, 0);
        assert_eq!(ask("a", 0, None).await, 85);
        for replicas in [&[][..], &[NODE_ID + 1], &[NODE_ID, NODE_ID]] {
            assert_eq!(ask("a", 0, Some(replicas)).await, 39, "{replicas:?}");
        }
        assert_eq!((ask("a", 1, Some(&[NODE_ID])).await, ask("b", 0, Some(&[NODE_ID])).await), (3, 3));
    }
}
