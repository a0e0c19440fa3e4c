//! IncrementalAlterConfigs (44): single properties set, taken back, appended to, subtracted from.

use super::{
    Broker, RequestContext,
    altering::{alter, named_twice},
    counting::{has_duplicates, times},
    describe_configs::TOPIC,
    refusal::Refusal,
};
use crate::{
    metadata::Configs,
    topics::{
        TopicError,
        properties::{self, Changes, Operation},
    },
};
use kafka_protocol::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    incremental_alter_configs_request::AlterConfigsResource,
    incremental_alter_configs_response::AlterConfigsResourceResponse,
};

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let named = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let times = times(request.resources.iter().map(named));
    for resource in &request.resources {
        let result = match times.get(&named(resource)) {
            Some(1) => change(broker, resource, request.validate_only).await,
            _ => Err(named_twice()),
        };
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match result {
            Ok(()) => answer,
            Err(refusal) => answer.with_error_code(refusal.code).with_error_message(refusal.text()),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// What is to be done with one property.
#[derive(Debug)]
struct Step {
    name: String,
    operation: Operation,
    value: Option<String>,
}

async fn change(broker: &Broker, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    if has_duplicates(resource.configs.iter().map(|config| &config.name)) {
        return Err(Refusal::invalid_request("Error due to duplicate config keys"));
    }
    let mut steps = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let operation = Operation::from_id(config.config_operation);
        let operation = operation
            .ok_or_else(|| Refusal::invalid_request(format!("Unknown operation {}", config.config_operation)))?;
        let value = config.value.as_ref().map(|value| value.to_string());
        if value.is_none() && operation != Operation::Delete {
            return Err(Refusal::invalid_request(format!("Null value not supported for : {}", config.name)));
        }
        steps.push(Step { name: config.name.to_string(), operation, value });
    }
    let (is_topic, name) = (resource.resource_type == TOPIC, resource.resource_name.as_str());
    alter(broker, (resource.resource_type, name), validate_only, move |set| changes(set, &steps, is_topic)).await
}

fn changes(set: &Configs, steps: &[Step], is_topic: bool) -> Result<Changes, TopicError> {
    let change = |Step { name, operation, value }: &Step| {
        let (kind, default) = match is_topic {
            true => (properties::kind_of_topic_property(name), properties::default_of_topic_property(name)),
            false => {
                let default = properties::default_of_broker_property(name);
                (properties::kind_of_broker_property(name), default.map(str::to_owned))
            }
        };
        let property = (name.as_str(), kind, default.as_deref());
        Ok((name.clone(), properties::changed(property, set, *operation, value.as_deref())?))
    };
    steps.iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::{
            describe_configs::BROKER,
            fixtures::{Home, NODE_ID, context},
            wire::text,
        },
        *,
    };
    use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;

    fn resource(resource_type: i8, name: &str, steps: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
        let configs = steps.iter().map(|(name, operation, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(*operation)
                .with_value(value.map(text))
        });
        AlterConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_configs(configs.collect())
    }

    async fn ask(home: &Home, resources: Vec<AlterConfigsResource>, validate_only: bool) -> Vec<i16> {
        let request =
            IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(validate_only);
        handle(&home.broker, &context(1), request).await.responses.iter().map(|response| response.error_code).collect()
    }

    #[tokio::test]
    async fn properties_are_set_appended_to_subtracted_from_and_taken_back() {
        let home = Home::new();
        home.create("a", 1, &[("segment.ms", "9")]).await;
        let own = |home: &Home| home.broker.topics.topic("a").unwrap().image.configs.clone();
        let steps = [("retention.ms", 0, Some("5")), ("cleanup.policy", 2, Some("compact")), ("segment.ms", 1, None)];
        assert_eq!(ask(&home, vec![resource(TOPIC, "a", &steps)], true).await, [0]);
        assert_eq!(own(&home).len(), 1);
        assert_eq!(ask(&home, vec![resource(TOPIC, "a", &steps)], false).await, [0]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(own(&home), Configs::from([pair("retention.ms", "5"), pair("cleanup.policy", "delete,compact")]));
        let policy = home.broker.topics.partition("a", 0).unwrap().config.cleanup_policy;
        assert!(policy.compact && policy.delete);
        let less = [("cleanup.policy", 3, Some("delete"))];
        assert_eq!(ask(&home, vec![resource(TOPIC, "a", &less)], false).await, [0]);
        assert_eq!(own(&home).get("cleanup.policy").unwrap(), "compact");
    }

    #[tokio::test]
    async fn what_cannot_be_has_its_error_and_changes_nothing() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let id = NODE_ID.to_string();
        let one = |name, operation, value| resource(TOPIC, "a", &[(name, operation, value)]);
        let table = [
            (one("retention.ms", 0, Some("x")), 40),
            (one("no.such.name", 0, Some("x")), 40),
            (one("retention.ms", 2, Some("1")), 40),
            (one("retention.ms", 0, None), 42),
            (one("retention.ms", 9, Some("1")), 42),
            (resource(TOPIC, "a", &[("segment.ms", 0, Some("1")), ("segment.ms", 1, None)]), 42),
            (resource(TOPIC, "none", &[("retention.ms", 0, Some("1"))]), 3),
            (resource(TOPIC, "a b", &[("retention.ms", 0, Some("1"))]), 17),
            (resource(BROKER, &id, &[("node.id", 0, Some("1"))]), 42),
            (resource(BROKER, "9", &[("log.retention.ms", 0, Some("1"))]), 42),
            (resource(77, "a", &[]), 42),
        ];
        for (resource, code) in table {
            assert_eq!(ask(&home, vec![resource.clone()], false).await, [code], "{resource:?}");
        }
        let twice = vec![one("segment.ms", 0, Some("1")), one("segment.ms", 0, Some("2"))];
        assert_eq!(ask(&home, twice, false).await, [42, 42]);
        assert!(home.broker.topics.topic("a").unwrap().image.configs.is_empty());
    }

    #[tokio::test]
    async fn broker_and_cluster_are_changed_while_they_run() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let retention = || home.broker.topics.partition("a", 0).unwrap().config.retention_ms;
        let set = |name, value| resource(BROKER, name, &[("log.retention.ms", 0, Some(value))]);
        assert_eq!(ask(&home, vec![set("", "7")], false).await, [0]);
        assert_eq!(retention(), Some(7));
        assert_eq!(ask(&home, vec![set(&NODE_ID.to_string(), "8")], false).await, [0]);
        assert_eq!(retention(), Some(8));
    }
}
