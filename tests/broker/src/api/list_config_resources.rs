//! ListConfigResources (74): what can have a configuration.

use super::{Broker, RequestContext, wire::text};
use kafka_protocol::{
    ResponseError,
    messages::{
        ListConfigResourcesRequest, ListConfigResourcesResponse, list_config_resources_response::ConfigResource,
    },
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
/// Subscriptions to clients' metrics, of which there are none here.
const CLIENT_METRICS: i8 = 16;
/// Groups with settings of their own, of which there are none here.
const GROUP: i8 = 32;

/// Answers a request (`KafkaApis.handleListConfigResources`). Before version 1 it is about clients' metrics alone.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let supported: &[i8] =
        if context.version == 0 { &[CLIENT_METRICS] } else { &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP] };
    let response = ListConfigResourcesResponse::default();
    if !request.resource_types.iter().all(|asked| supported.contains(asked)) {
        return response.with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let asked = if request.resource_types.is_empty() { supported } else { &request.resource_types };
    let resource = |kind, name: &str| ConfigResource::default().with_resource_type(kind).with_resource_name(text(name));
    let node_id = broker.config.node_id.to_string();
    let of_node = [BROKER_LOGGER, BROKER].into_iter().filter(|kind| asked.contains(kind));
    let mut resources: Vec<_> = of_node.map(|kind| resource(kind, &node_id)).collect();
    if asked.contains(&TOPIC) {
        resources.extend(broker.topics.metadata().image().topics().map(|topic| resource(TOPIC, &topic.name)));
    }
    response.with_config_resources(resources)
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{Home, NODE_ID, context},
        *,
    };

    #[tokio::test]
    async fn node_and_topics_are_listed_as_asked() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        let ask = async |version, types: &[i8]| {
            let request = ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
            let response = handle(&home.broker, &context(version), request).await;
            let listed = response.config_resources.iter().map(|it| (it.resource_type, it.resource_name.to_string()));
            (response.error_code, listed.collect::<Vec<_>>())
        };
        let id = NODE_ID.to_string();
        let topic = (TOPIC, "a".to_owned());
        assert_eq!(ask(1, &[]).await, (0, vec![(BROKER_LOGGER, id.clone()), (BROKER, id), topic.clone()]));
        assert_eq!(ask(1, &[TOPIC, GROUP]).await, (0, vec![topic]));
        assert_eq!(ask(0, &[]).await, (0, vec![]));
        assert_eq!(ask(1, &[7]).await, (35, vec![]));
    }
}
