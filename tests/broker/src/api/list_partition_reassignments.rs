//! ListPartitionReassignments (46): with one broker nothing ever moves.

use super::{Broker, RequestContext};
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

/// Answers a request.
pub(crate) async fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
