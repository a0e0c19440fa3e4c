//! DescribeAcls (29): there are none, as in Kafka without an authorizer.

use super::{Broker, RequestContext, wire::text};
use kafka_protocol::{
    ResponseError,
    messages::{DescribeAclsRequest, DescribeAclsResponse},
};

/// Answers a request (`AclApis.handleDescribeAcls`).
pub(crate) async fn handle(_: &Broker, _: &RequestContext, _: DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(text("No Authorizer is configured on the broker")))
}
