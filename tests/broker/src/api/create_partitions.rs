//! CreatePartitions (37): more partitions for topics.

use super::{
    Broker, RequestContext,
    counting::times,
    create_topics::{MAX_PARTITIONS, check_assignment},
    refusal::Refusal,
};
use crate::topics::TopicError;
use kafka_protocol::{
    ResponseError,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
    },
};

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut times = times(request.topics.iter().map(|topic| topic.name.clone()));
    let mut results = Vec::with_capacity(times.len());
    for topic in &request.topics {
        let result = match times.remove(&topic.name) {
            // Answered already, once for all.
            None => continue,
            Some(1) => grow(broker, topic, request.validate_only).await,
            Some(_) => Err(Refusal::invalid_request("Duplicate topic name.")),
        };
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        results.push(match result {
            Ok(()) => answer,
            Err(refusal) => answer.with_error_code(refusal.code).with_error_message(refusal.text()),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn grow(broker: &Broker, topic: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let name = topic.name.as_str();
    let known = broker.topics.topic(name).ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
    check(topic, known.partitions.len(), broker.config.node_id)?;
    if !validate_only {
        broker.topics.create_partitions(name, topic.count).await?;
    }
    Ok(())
}

/// Checks what a topic is to become (`ReplicationControlManager.createPartitions`).
fn check(topic: &CreatePartitionsTopic, known: usize, node_id: i32) -> Result<(), Refusal> {
    let known = i32::try_from(known).unwrap_or(i32::MAX);
    let (name, count) = (topic.name.as_str(), topic.count);
    if count <= known {
        let message = match count == known {
            true => format!("Topic already has {known} partition(s)."),
            false => format!("The topic {name} currently has {known} partition(s); {count} would not be an increase."),
        };
        return Err(Refusal::new(ResponseError::InvalidPartitions, message));
    }
    let more = count - known;
    if more > MAX_PARTITIONS {
        return Err(Refusal::new(
            ResponseError::PolicyViolation,
            "Excessively large number of partitions per request.",
        ));
    }
    let Some(assignments) = &topic.assignments else { return Ok(()) };
    if i32::try_from(assignments.len()) != Ok(more) {
        let assigned = assignments.len();
        let message = format!(
            "Attempted to add {more} additional partition(s), but only {assigned} assignment(s) were specified."
        );
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    }
    assignments.iter().try_for_each(|assignment| check_assignment(assignment.broker_ids.iter().map(|id| id.0), node_id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{
            fixtures::{Home, NODE_ID, append, context},
            wire::topic_name,
        },
        *,
    };
    use kafka_protocol::messages::{BrokerId, create_partitions_request::CreatePartitionsAssignment};

    fn to(name: &str, count: i32) -> CreatePartitionsTopic {
        CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None)
    }

    fn assigned(count: i32, brokers: &[i32]) -> CreatePartitionsTopic {
        let assignment = |id: &i32| CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(*id)]);
        to("a", count).with_assignments(Some(brokers.iter().map(assignment).collect()))
    }

    async fn ask(home: &Home, topics: Vec<CreatePartitionsTopic>, validate_only: bool) -> Vec<i16> {
        let request = CreatePartitionsRequest::default().with_topics(topics).with_validate_only(validate_only);
        handle(&home.broker, &context(3), request).await.results.iter().map(|result| result.error_code).collect()
    }

    #[tokio::test]
    async fn topics_grow() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        assert_eq!(ask(&home, vec![to("a", 3)], true).await, [0]);
        assert_eq!(home.broker.topics.topic("a").unwrap().partitions.len(), 1);
        assert_eq!(ask(&home, vec![to("a", 3)], false).await, [0]);
        append(&home.broker.topics.partition("a", 2).unwrap(), 1);
        assert_eq!(ask(&home, vec![assigned(4, &[NODE_ID])], false).await, [0]);
    }

    #[tokio::test]
    async fn what_is_no_growth_is_refused() {
        let home = Home::new();
        home.create("a", 2, &[]).await;
        assert_eq!(ask(&home, vec![to("a", 2)], false).await, [37]);
        assert_eq!(ask(&home, vec![to("a", 1)], false).await, [37]);
        assert_eq!(ask(&home, vec![to("a", -1)], false).await, [37]);
        assert_eq!(ask(&home, vec![to("none", 3)], false).await, [3]);
        assert_eq!(ask(&home, vec![to("a", 20_000)], false).await, [44]);
        assert_eq!(ask(&home, vec![assigned(3, &[NODE_ID, NODE_ID])], false).await, [39]);
        assert_eq!(ask(&home, vec![assigned(3, &[7])], false).await, [39]);
        assert_eq!(ask(&home, vec![to("a", 3), to("a", 4)], false).await, [42]);
        assert_eq!(home.broker.topics.topic("a").unwrap().partitions.len(), 2);
    }
}
