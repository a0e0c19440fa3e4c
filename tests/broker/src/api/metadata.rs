//! Metadata (3): the broker, and topics with their partitions. A topic that is not there is made on the way, if the client and
//! the settings allow it, and answered finished: a client that has to ask again loses what it meant to send meanwhile.

use super::{
    Broker, RequestContext, authorized,
    wire::{from_wire, only, text, to_wire, topic_name},
};
use crate::topics::{Hosting, Topic, TopicError, check_name, is_internal};
use duramen::{KafkaErrorCode, format::uuid::Uuid};
use kafka_protocol::{
    messages::{
        BrokerId, MetadataRequest, MetadataResponse, TopicName,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// From this version on no topics are none, and null is all.
const NULL_IS_ALL: i16 = 1;
/// From this version on topics can be asked for by id alone (`KafkaApis.handleTopicMetadataRequest`).
const BY_ID: i16 = 12;

/// Answers a request.
pub(crate) async fn handle(broker: &Broker, context: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let answer = empty_answer(broker, &request);
    if !is_valid(context.version, &request) {
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            let code = KafkaErrorCode::InvalidRequest.code();
            without_partitions(topic.name, code).with_topic_id(topic.topic_id)
        });
        return answer.with_topics(topics.collect());
    }
    let mut found = select(&broker.topics.hosting(), context.version, &request);
    let mut missing = Vec::new();
    for name in std::mem::take(&mut found.missing) {
        match create(broker, &request, &name).await {
            Ok(topic) => found.topics.push(topic),
            Err(code) => missing.push(without_partitions(Some(TopicName(name)), code)),
        }
    }
    let operations = authorized::on_topic(request.include_topic_authorized_operations);
    let unknown = found
        .unknown_ids
        .into_iter()
        .map(|id| without_partitions(None, KafkaErrorCode::UnknownTopicId.code()).with_topic_id(to_wire(id)));
    let known = found.topics.iter().map(|topic| describe(topic, broker.config.node_id));
    let topics = unknown.chain(known).chain(missing);
    answer.with_topics(topics.map(|topic| topic.with_topic_authorized_operations(operations)).collect())
}

fn empty_answer(broker: &Broker, request: &MetadataRequest) -> MetadataResponse {
    let (host, port) = broker.config.advertised();
    let node_id = BrokerId(broker.config.node_id);
    let this = MetadataResponseBroker::default().with_node_id(node_id).with_host(text(&host)).with_port(port.into());
    MetadataResponse::default()
        .with_brokers(vec![this])
        .with_cluster_id(Some(text(broker.topics.metadata().cluster_id())))
        .with_controller_id(node_id)
        .with_cluster_authorized_operations(authorized::on_cluster(request.include_cluster_authorized_operations))
}

/// Before version 12 every topic has a name and none an id.
fn is_valid(version: i16, request: &MetadataRequest) -> bool {
    let mut topics = request.topics.iter().flatten();
    version >= BY_ID || topics.all(|topic| topic.name.is_some() && topic.topic_id.is_nil())
}

/// What is there of what a request asks for.
#[derive(Debug, Default)]
struct Selection {
    topics: Vec<Arc<Topic>>,
    unknown_ids: Vec<Uuid>,
    missing: Vec<StrBytes>,
}

/// Finds what is asked for, each once. Ids win over names: where there is one, all topics are asked for by id.
fn select(hosting: &Hosting, version: i16, request: &MetadataRequest) -> Selection {
    let asked = match &request.topics {
        Some(asked) if version >= NULL_IS_ALL || !asked.is_empty() => asked,
        _ => return Selection { topics: hosting.sorted().into_iter().cloned().collect(), ..Selection::default() },
    };
    let mut found = Selection::default();
    let ids: Vec<_> = asked.iter().map(|topic| from_wire(topic.topic_id)).filter(|id| !id.is_zero()).collect();
    let mut seen = HashSet::new();
    for id in &ids {
        match hosting.topic_by_id(*id) {
            _ if !seen.insert(*id) => {}
            Some(topic) => found.topics.push(Arc::clone(topic)),
            None => found.unknown_ids.push(*id),
        }
    }
    let names = asked.iter().filter(|_| ids.is_empty()).filter_map(|topic| topic.name.as_ref());
    let mut seen = HashSet::new();
    for name in names {
        match hosting.topic(name) {
            _ if !seen.insert(name.as_str()) => {}
            Some(topic) => found.topics.push(Arc::clone(topic)),
            None => found.missing.push(name.0.clone()),
        }
    }
    found
}

/// Makes a topic that was asked for and is not there; the code that is answered where that is not to be.
async fn create(broker: &Broker, request: &MetadataRequest, name: &str) -> Result<Arc<Topic>, i16> {
    check_name(name).map_err(|error| error.kafka_error_code())?;
    let unknown = KafkaErrorCode::UnknownTopicOrPartition.code();
    if !request.allow_auto_topic_creation || !broker.config.auto_create_topics || is_internal(name) {
        return Err(unknown);
    }
    match broker.topics.create(name, broker.config.num_partitions, &BTreeMap::new()).await {
        // Somebody else was faster.
        Ok(_) | Err(TopicError::Exists { .. }) => broker.topics.topic(name).ok_or(unknown),
        Err(error) => Err(error.kafka_error_code()),
    }
}

fn without_partitions(name: Option<TopicName>, code: i16) -> MetadataResponseTopic {
    let is_internal = name.as_ref().is_some_and(|name| is_internal(name));
    MetadataResponseTopic::default().with_name(name).with_error_code(code).with_is_internal(is_internal)
}

fn describe(topic: &Topic, node_id: i32) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(index, hosted)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(node_id))
            .with_leader_epoch(hosted.leader_epoch)
            .with_replica_nodes(only(node_id))
            .with_isr_nodes(only(node_id))
    });
    without_partitions(Some(topic_name(&topic.name)), 0)
        .with_topic_id(to_wire(topic.image.id))
        .with_partitions(partitions.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::fixtures::{Home, NODE_ID, append, context},
        *,
    };
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;

    fn named(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default()
            .with_topics(Some(names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(false)
    }

    fn by_id(ids: &[Uuid]) -> MetadataRequest {
        let topic = |id: &Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(to_wire(*id));
        named(&[]).with_topics(Some(ids.iter().map(topic).collect()))
    }

    fn told(response: &MetadataResponse) -> Vec<(&str, i16, usize)> {
        let tell = |topic: &'_ MetadataResponseTopic| (topic.error_code, topic.partitions.len());
        let names = response.topics.iter().map(|topic| topic.name.as_ref().map_or("", |name| name.as_str()));
        names.zip(response.topics.iter().map(tell)).map(|(name, (code, partitions))| (name, code, partitions)).collect()
    }

    #[tokio::test]
    async fn missing_topic_is_made_and_answered_finished() {
        let home = Home::new();
        let request = named(&["new"]).with_allow_auto_topic_creation(true);
        let response = handle(&home.broker, &context(11), request).await;
        assert_eq!(told(&response), [("new", 0, 4)]);
        let id = home.broker.topics.topic("new").unwrap().image.id;
        assert_eq!(from_wire(response.topics[0].topic_id), id);
        let partition = &response.topics[0].partitions[3];
        assert_eq!((partition.leader_id.0, partition.isr_nodes[0].0, partition.partition_index), (NODE_ID, NODE_ID, 3));
        append(&home.broker.topics.partition("new", 3).unwrap(), 1);
        // Two at once make one.
        let (other, version) = (named(&["other"]).with_allow_auto_topic_creation(true), context(11));
        let (one, two) =
            tokio::join!(handle(&home.broker, &version, other.clone()), handle(&home.broker, &version, other.clone()));
        assert_eq!(told(&one), [("other", 0, 4)]);
        assert_eq!(one.topics, two.topics);
    }

    #[tokio::test]
    async fn what_is_not_there_has_its_error_and_comes_last() {
        let home = Home::new();
        home.create("b", 1, &[]).await;
        home.create("a", 2, &[]).await;
        let response = handle(&home.broker, &context(9), named(&["none", "b", "a b", "a", "b"])).await;
        assert_eq!(told(&response), [("b", 0, 1), ("a", 0, 2), ("none", 3, 0), ("a b", 17, 0)]);
        let request = named(&["a b", "__consumer_offsets"]).with_allow_auto_topic_creation(true);
        let response = handle(&home.broker, &context(9), request).await;
        assert_eq!(told(&response), [("a b", 17, 0), ("__consumer_offsets", 3, 0)]);
        assert!(response.topics[1].is_internal);
    }

    #[tokio::test]
    async fn null_is_all_and_nothing_is_all_in_version_0_alone() {
        let home = Home::new();
        home.create("b", 1, &[]).await;
        home.create("a", 1, &[]).await;
        let ask = async |version, request| {
            let response = handle(&home.broker, &context(version), request).await;
            told(&response).iter().map(|(name, ..)| (*name).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ask(1, named(&[]).with_topics(None)).await, ["a", "b"]);
        assert_eq!(ask(0, named(&[])).await, ["a", "b"]);
        assert!(ask(1, named(&[])).await.is_empty());
    }

    #[tokio::test]
    async fn topics_are_found_by_id_from_version_12_on() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let (id, unknown) = (home.broker.topics.topic("a").unwrap().image.id, Uuid::from_bytes([9; 16]));
        let response = handle(&home.broker, &context(12), by_id(&[id, unknown])).await;
        assert_eq!(told(&response), [("", 100, 0), ("a", 0, 1)]);
        assert_eq!((response.topics[0].name.as_ref(), from_wire(response.topics[0].topic_id)), (None, unknown));
        let response = handle(&home.broker, &context(11), by_id(&[id])).await;
        assert_eq!(response.topics[0].error_code, KafkaErrorCode::InvalidRequest.code());
    }

    #[tokio::test]
    async fn broker_is_told_with_cluster_and_operations() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let response = handle(&home.broker, &context(8), named(&["a"])).await;
        let broker = &response.brokers[0];
        let (host, port) = home.broker.config.advertised();
        assert_eq!((broker.node_id.0, broker.host.as_str(), broker.port), (NODE_ID, host.as_str(), port.into()));
        assert_eq!(response.cluster_id.as_deref(), Some(home.broker.topics.metadata().cluster_id()));
        assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
        let request = named(&["a"])
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true);
        let response = handle(&home.broker, &context(8), request).await;
        assert_eq!(
            (response.topics[0].topic_authorized_operations, response.cluster_authorized_operations),
            (3576, 8096)
        );
    }
}
