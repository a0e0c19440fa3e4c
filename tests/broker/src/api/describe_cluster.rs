//! DescribeCluster (60): the cluster's id, and its one broker.

use super::{Broker, RequestContext, authorized, wire::text};
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, DescribeClusterRequest, DescribeClusterResponse, describe_cluster_response::DescribeClusterBroker,
    },
};

/// Endpoints of brokers (`EndpointType`).
const BROKERS: i8 = 1;
/// Endpoints of controllers, of which there are none here.
const CONTROLLERS: i8 = 2;

/// Answers a request (`AuthHelper.computeDescribeClusterResponse`).
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    // Before version 1 the type is not in the request.
    let endpoint_type = if context.version == 0 { BROKERS } else { request.endpoint_type };
    let error = match endpoint_type {
        BROKERS => None,
        CONTROLLERS => {
            Some((ResponseError::MismatchedEndpointType, "This endpoint is a broker's, not a controller's."))
        }
        _ => Some((ResponseError::UnsupportedEndpointType, "There is no such type of endpoint.")),
    };
    let operations = authorized::on_cluster(request.include_cluster_authorized_operations);
    let response =
        DescribeClusterResponse::default().with_endpoint_type(BROKERS).with_cluster_authorized_operations(operations);
    if let Some((error, message)) = error {
        return response.with_error_code(error.code()).with_error_message(Some(message.into()));
    }
    let (host, port) = broker.config.advertised();
    let node_id = BrokerId(broker.config.node_id);
    let this = DescribeClusterBroker::default().with_broker_id(node_id).with_host(text(&host)).with_port(port.into());
    response
        .with_cluster_id(text(broker.topics.metadata().cluster_id()))
        .with_controller_id(node_id)
        .with_brokers(vec![this])
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{Home, NODE_ID, context},
        *,
    };

    #[tokio::test]
    async fn one_broker_is_told_and_no_controllers() {
        let home = Home::new();
        let ask = async |version, endpoint_type| {
            let request = DescribeClusterRequest::default()
                .with_endpoint_type(endpoint_type)
                .with_include_cluster_authorized_operations(true);
            handle(&home.broker, &context(version), request).await
        };
        let response = ask(2, BROKERS).await;
        assert_eq!(response.cluster_id.as_str(), home.broker.topics.metadata().cluster_id());
        assert_eq!((response.controller_id.0, response.cluster_authorized_operations), (NODE_ID, 8096));
        let ids: Vec<_> = response.brokers.iter().map(|broker| (broker.broker_id.0, broker.port)).collect();
        assert_eq!(ids, [(NODE_ID, 9092)]);
        assert_eq!((ask(1, CONTROLLERS).await.error_code, ask(1, 7).await.error_code), (114, 115));
    }
}
