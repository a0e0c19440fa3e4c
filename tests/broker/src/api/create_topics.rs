//! CreateTopics (19): topics with partitions and properties; on one broker there is one way to place them.

use super::{
    Broker, RequestContext,
    counting::times,
    describe_configs::creatable,
    refusal::Refusal,
    wire::{from_wire, to_wire, topic_name},
};
use crate::{
    metadata::Configs,
    metadata::METADATA_TOPIC,
    topics::{check_new, properties},
};
use duramen::KafkaErrorCode;
use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic},
        create_topics_response::CreatableTopicResult,
    },
};
use std::collections::BTreeSet;

/// A request can make so many partitions, all its topics together (`ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`).
pub(super) const MAX_PARTITIONS: i32 = 10_000;

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times = times(request.topics.iter().map(|topic| topic.name.clone()));
    let mut results = Vec::with_capacity(times.len());
    for topic in &request.topics {
        let result = match times.remove(&topic.name) {
            // Answered already, once for all.
            None => continue,
            Some(1) => create(broker, topic, request.validate_only).await,
            Some(_) => Err(Refusal::invalid_request("Duplicate topic name.")),
        };
        results.push(result.unwrap_or_else(|refusal| refused(topic, &refusal)));
    }
    CreateTopicsResponse::default().with_topics(results)
}

fn refused(topic: &CreatableTopic, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(refusal.code)
        .with_error_message(refusal.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

async fn create(broker: &Broker, topic: &CreatableTopic, validate_only: bool) -> Result<CreatableTopicResult, Refusal> {
    let name = topic.name.as_str();
    if name == METADATA_TOPIC {
        return Err(Refusal::invalid_request(format!("Creation of internal topic {name} is prohibited.")));
    }
    check_new(&broker.topics.metadata().image(), name)?;
    let configs = configs(topic)?;
    let described = properties::describe_topic(&broker.topics.levels(), &configs);
    let described = described.map_err(|error| Refusal::from(crate::topics::TopicError::from(error)))?;
    let partitions = partitions(topic, broker.config.node_id, broker.config.num_partitions)?;
    let id = match validate_only {
        // Like Kafka's, one that no topic will have.
        true => from_wire(uuid::Uuid::new_v4()),
        false => broker.topics.create(name, partitions, &configs).await?.id,
    };
    Ok(CreatableTopicResult::default()
        .with_name(topic_name(name))
        .with_topic_id(to_wire(id))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(Some(described.iter().map(creatable).collect())))
}

fn configs(topic: &CreatableTopic) -> Result<Configs, Refusal> {
    let mut configs = Configs::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            return Err(Refusal { code: KafkaErrorCode::InvalidConfig.code(), message });
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(configs)
}

/// How many partitions a topic is to have (`ReplicationControlManager.createTopic`).
fn partitions(topic: &CreatableTopic, node_id: i32, default: i32) -> Result<i32, Refusal> {
    if !topic.assignments.is_empty() {
        return assigned_partitions(topic, node_id);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
    }
    let partitions = match topic.num_partitions {
        -1 => default,
        wanted if wanted > 0 => wanted,
        _ => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
    };
    if topic.replication_factor > 1 {
        let factor = topic.replication_factor;
        let message = format!("The replication factor of {factor} cannot be reached: there is one broker.");
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
    }
    if partitions > MAX_PARTITIONS {
        return Err(Refusal::new(
            ResponseError::PolicyViolation,
            "Excessively large number of partitions per request.",
        ));
    }
    Ok(partitions)
}

fn assigned_partitions(topic: &CreatableTopic, node_id: i32) -> Result<i32, Refusal> {
    if topic.replication_factor != -1 || topic.num_partitions != -1 {
        let message = "A manual partition assignment was specified, but the replication factor or the number of partitions \
                       was not set to -1.";
        return Err(Refusal::invalid_request(message));
    }
    let invalid = |message: &str| Refusal::new(ResponseError::InvalidReplicaAssignment, message);
    let mut indexes = BTreeSet::new();
    for CreatableReplicaAssignment { partition_index, broker_ids, .. } in &topic.assignments {
        if !indexes.insert(*partition_index) {
            return Err(invalid(&format!(
                "Found multiple manual partition assignments for partition {partition_index}"
            )));
        }
        check_assignment(broker_ids.iter().map(|id| id.0), node_id)?;
    }
    if !(0..).zip(&indexes).all(|(expected, index)| expected == *index) {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence"));
    }
    i32::try_from(indexes.len()).map_err(|_| invalid("there are too many partitions"))
}

/// Checks that a partition is to be on this broker and nowhere else
/// (`ReplicationControlManager.validateManualPartitionAssignment`).
pub(super) fn check_assignment(brokers: impl IntoIterator<Item = i32>, node_id: i32) -> Result<(), Refusal> {
    let brokers: Vec<i32> = brokers.into_iter().collect();
    let message = match brokers.as_slice() {
        [only] if *only == node_id => return Ok(()),
        [] => "The manual partition assignment includes an empty replica list.".to_owned(),
        several => match several.iter().find(|broker| **broker != node_id) {
            Some(other) => {
                format!("The manual partition assignment includes broker {other}, but no such broker is registered.")
            }
            None => format!("The manual partition assignment includes the broker {node_id} more than once."),
        },
    };
    Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::fixtures::{Home, NODE_ID, append, context},
        *,
    };
    use kafka_protocol::messages::{BrokerId, create_topics_request::CreatableTopicConfig};

    fn topic(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(factor)
    }

    fn configured(name: &str, value: Option<&'static str>) -> CreatableTopic {
        let config = CreatableTopicConfig::default().with_name("retention.ms".into()).with_value(value.map(Into::into));
        topic(name, 1, 1).with_configs(vec![config])
    }

    fn assigned(partitions: &[(i32, &[i32])]) -> CreatableTopic {
        let assignments = partitions.iter().map(|(index, brokers)| {
            let brokers = brokers.iter().map(|id| BrokerId(*id)).collect();
            CreatableReplicaAssignment::default().with_partition_index(*index).with_broker_ids(brokers)
        });
        topic("assigned", -1, -1).with_assignments(assignments.collect())
    }

    async fn ask(home: &Home, topics: Vec<CreatableTopic>, validate_only: bool) -> Vec<CreatableTopicResult> {
        let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only);
        handle(&home.broker, &context(7), request).await.topics
    }

    #[tokio::test]
    async fn topic_can_be_produced_to_when_it_is_answered() {
        let home = Home::new();
        let results = ask(&home, vec![configured("a", Some("5")), topic("b", -1, -1)], false).await;
        let (a, b) = (&results[0], &results[1]);
        assert_eq!((a.error_code, a.num_partitions, a.replication_factor), (0, 1, 1));
        assert_eq!((b.error_code, b.num_partitions), (0, 4));
        let topic = home.broker.topics.topic("a").unwrap();
        assert_eq!(a.topic_id, to_wire(topic.image.id));
        append(&topic.partitions[0], 1);
        let configs = a.configs.as_ref().unwrap();
        let retention = configs.iter().find(|config| config.name.as_str() == "retention.ms").unwrap();
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
        assert!(configs.len() > 30);
    }

    #[tokio::test]
    async fn each_topic_has_its_own_error_and_nothing_of_it_is_made() {
        let home = Home::new();
        home.create("known.a", 1, &[]).await;
        let table = [
            (topic("known.a", 1, 1), 36),
            (topic("known_a", 1, 1), 17),
            (topic("a b", 1, 1), 17),
            (topic("", 1, 1), 17),
            (topic("__cluster_metadata", 1, 1), 42),
            (topic("p0", 0, 1), 37),
            (topic("p2", -2, 1), 37),
            (topic("f0", 1, 0), 38),
            (topic("f2", 1, 2), 38),
            (topic("many", 10_001, 1), 44),
            (configured("c1", Some("x")), 40),
            (configured("c2", None), 40),
        ];
        let (topics, expected): (Vec<_>, Vec<_>) = table.into_iter().unzip();
        let results = ask(&home, topics, false).await;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, expected);
        assert!(results.iter().all(|result| result.error_message.is_some()));
        assert_eq!(home.broker.topics.hosting().sorted().len(), 1);
        let twice = ask(&home, vec![topic("twice", 1, 1), topic("twice", 2, 1), topic("once", 1, 1)], false).await;
        let told: Vec<_> = twice.iter().map(|result| (result.name.as_str(), result.error_code)).collect();
        assert_eq!(told, [("twice", 42), ("once", 0)]);
    }

    #[tokio::test]
    async fn validating_makes_nothing() {
        let home = Home::new();
        let results = ask(&home, vec![topic("a", 3, 1), topic("b", 0, 1)], true).await;
        assert_eq!((results[0].error_code, results[0].num_partitions, results[1].error_code), (0, 3, 37));
        assert!(home.broker.topics.topic("a").is_none());
    }

    #[test]
    fn assignments_are_to_this_broker_and_without_gaps() {
        const HERE: &[i32] = &[NODE_ID];
        assert_eq!(partitions(&assigned(&[(1, HERE), (0, HERE)]), NODE_ID, 9), Ok(2));
        let wrong: [&[(i32, &[i32])]; 5] =
            [&[(0, &[7])], &[(0, HERE), (2, HERE)], &[(0, &[])], &[(0, &[NODE_ID, NODE_ID])], &[(0, HERE), (0, HERE)]];
        for assignment in wrong {
            assert_eq!(partitions(&assigned(assignment), NODE_ID, 9).unwrap_err().code, 39, "{assignment:?}");
        }
        let numbered = assigned(&[(0, HERE)]).with_num_partitions(1);
        assert_eq!(partitions(&numbered, NODE_ID, 9).unwrap_err().code, 42);
    }
}
