//! DescribeConfigs (32): the properties of topics and of this broker, and where each value comes from.

use super::{Broker, RequestContext, refusal::Refusal, wire::text};
use crate::topics::{
    TopicError, check_name,
    properties::{self, Described, Synonym},
};
use kafka_protocol::{
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse,
        create_topics_response::CreatableTopicConfigs,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
    },
    protocol::StrBytes,
};

/// `ConfigResource.Type` of a topic.
pub(super) const TOPIC: i8 = 2;
/// `ConfigResource.Type` of a broker, or of all brokers under the empty name.
pub(super) const BROKER: i8 = 4;

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(broker, resource) {
            Ok(described) => {
                let asked = described.iter().filter(|it| is_asked(resource, it.name));
                answer.with_configs(asked.map(|it| tell(it, &request)).collect())
            }
            Err(refusal) => answer.with_error_code(refusal.code).with_error_message(refusal.text()),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// No names, or an empty list of them, are all (`ConfigHelper.describeConfigs`).
fn is_asked(resource: &DescribeConfigsResource, name: &str) -> bool {
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
}

fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Described>, Refusal> {
    let name = resource.resource_name.as_str();
    let levels = broker.topics.levels();
    match resource.resource_type {
        TOPIC => {
            check_name(name)?;
            let topic = broker.topics.topic(name).ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
            Ok(properties::describe_topic(&levels, &topic.image.configs).map_err(TopicError::from)?)
        }
        BROKER => Ok(match is_for_all(name, broker.config.node_id)? {
            true => properties::describe_cluster(&levels),
            false => properties::describe_broker(&levels),
        }),
        other => Err(Refusal::invalid_request(format!("Unsupported resource type: {other}"))),
    }
}

/// Whether the name of a broker resource stands for all brokers, or for this one.
///
/// # Errors
/// It is another one's.
pub(super) fn is_for_all(name: &str, node_id: i32) -> Result<bool, Refusal> {
    match name.parse::<i32>() {
        _ if name.is_empty() => Ok(true),
        Ok(id) if id == node_id => Ok(false),
        Ok(id) => {
            let message = format!("Unexpected broker id, expected {node_id} or empty string, but received {id}");
            Err(Refusal::invalid_request(message))
        }
        Err(_) => Err(Refusal::invalid_request(format!("Broker id must be an integer, but it is: {name}"))),
    }
}

fn tell(it: &Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = it.synonyms.iter().filter(|_| request.include_synonyms).map(tell_synonym);
    let documentation = properties::documentation(it.name).filter(|_| request.include_documentation);
    DescribeConfigsResourceResult::default()
        .with_name(it.name.into())
        .with_value(it.value.as_deref().map(text))
        .with_read_only(it.is_read_only)
        .with_config_source(it.source() as i8)
        .with_is_sensitive(it.is_sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(it.kind as i8)
        .with_documentation(documentation.map(StrBytes::from_static_str))
}

fn tell_synonym(synonym: &Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(synonym.name.into())
        .with_value(synonym.value.as_deref().map(text))
        .with_source(synonym.source as i8)
}

/// A property as the answer to a creation tells it.
pub(super) fn creatable(it: &Described) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(it.name.into())
        .with_value(it.value.as_deref().map(text))
        .with_read_only(it.is_read_only)
        .with_config_source(it.source() as i8)
        .with_is_sensitive(it.is_sensitive)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::fixtures::{Home, NODE_ID, context},
        *,
    };

    async fn ask(home: &Home, resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        handle(&home.broker, &context(4), request).await.results.remove(0)
    }

    #[tokio::test]
    async fn topic_is_described_with_synonyms_and_types() {
        let home = Home::new();
        home.create("a", 1, &[("retention.ms", "5")]).await;
        let result = ask(&home, TOPIC, "a", Some(&["retention.ms"])).await;
        let [config] = result.configs.as_slice() else { panic!("{result:?}") };
        assert_eq!((config.value.as_deref(), config.config_source, config.config_type), (Some("5"), 1, 5));
        let synonyms: Vec<_> = config.synonyms.iter().map(|it| (it.name.as_str(), it.source)).collect();
        assert_eq!(synonyms, [("retention.ms", 1)]);
        assert_eq!(ask(&home, TOPIC, "a", None).await.configs.len(), 33);
        assert_eq!(ask(&home, TOPIC, "a", Some(&[])).await.configs.len(), 33);
    }

    #[tokio::test]
    async fn documentation_is_told_where_it_is_asked_for() {
        let home = Home::new();
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text(&NODE_ID.to_string()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        for wanted in [true, false] {
            let request = request.clone().with_include_documentation(wanted);
            let result = handle(&home.broker, &context(4), request).await.results.remove(0);
            let is_documented = |name: &str| {
                result.configs.iter().find(|config| config.name.as_str() == name).unwrap().documentation.is_some()
            };
            assert_eq!((is_documented("num.partitions"), is_documented("ssl.protocol")), (wanted, false));
        }
    }

    #[tokio::test]
    async fn cluster_is_described_with_what_was_set_for_all() {
        let home = Home::new();
        let set = |_: &_| Ok(vec![("log.segment.bytes".to_owned(), Some("5000000".to_owned()))]);
        home.broker.topics.alter_broker(true, false, set).await.unwrap();
        let result = ask(&home, BROKER, "", Some(&["log.segment.bytes", "log.retention.ms"])).await;
        let [config] = result.configs.as_slice() else { panic!("{result:?}") };
        assert_eq!((config.value.as_deref(), config.config_source), (Some("5000000"), 3));
        home.create("a", 1, &[]).await;
        let result = ask(&home, TOPIC, "a", Some(&["segment.bytes"])).await;
        let synonyms: Vec<_> = result.configs[0].synonyms.iter().map(|it| (it.name.as_str(), it.source)).collect();
        assert_eq!(synonyms, [("log.segment.bytes", 3), ("log.segment.bytes", 5)]);
    }

    #[tokio::test]
    async fn broker_is_described_with_what_is_set() {
        let home = Home::new();
        let id = NODE_ID.to_string();
        let result = ask(&home, BROKER, &id, Some(&["num.partitions"])).await;
        let [config] = result.configs.as_slice() else { panic!("{result:?}") };
        assert_eq!((config.value.as_deref(), config.config_source, config.read_only), (Some("4"), 4, true));
        assert!(ask(&home, BROKER, &id, None).await.configs.len() > 300);
    }

    #[tokio::test]
    async fn what_is_not_there_has_its_error() {
        let home = Home::new();
        let table = [(TOPIC, "none", 3), (TOPIC, "a b", 17), (BROKER, "9", 42), (BROKER, "x", 42), (77, "x", 42)];
        for (resource_type, name, code) in table {
            assert_eq!(ask(&home, resource_type, name, None).await.error_code, code, "{resource_type} {name}");
        }
    }
}
