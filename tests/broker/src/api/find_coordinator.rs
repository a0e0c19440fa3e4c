//! FindCoordinator (10): always this node, once it coordinates.

use super::{Broker, RequestContext, wire::text};
use kafka_protocol::{
    ResponseError,
    messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator},
};

/// From this version on several keys are asked for.
const SEVERAL: i16 = 4;
/// The kinds of keys, as clients write them.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers a request (`KafkaApis.handleFindCoordinatorRequest`).
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let found = match request.key_type {
        GROUP => broker.coordinators.groups().await.map(|_| ()).map_err(|code| code.code()),
        TRANSACTION => broker.coordinators.transactions().await.map(|_| ()).map_err(|code| code.code()),
        _ => Err(ResponseError::InvalidRequest.code()),
    };
    let code = found.err().unwrap_or_default();
    let (host, port) = match code {
        0 => broker.config.advertised(),
        _ => (String::new(), 0),
    };
    let node_id = BrokerId(if code == 0 { broker.config.node_id } else { -1 });
    let port = if code == 0 { i32::from(port) } else { -1 };
    if context.version < SEVERAL {
        let response = FindCoordinatorResponse::default().with_error_code(code);
        return response.with_node_id(node_id).with_host(text(&host)).with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        let coordinator = Coordinator::default().with_key(key).with_error_code(code);
        coordinator.with_node_id(node_id).with_host(text(&host)).with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
