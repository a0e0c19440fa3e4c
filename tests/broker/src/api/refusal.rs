//! Why a part of a request is not done, as responses say it.

use crate::topics::TopicError;
use duramen::KafkaErrorCode;
use kafka_protocol::{ResponseError, protocol::StrBytes};

/// An error code, and a sentence for whoever looks for the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i16,
    pub(super) message: String,
}

impl Refusal {
    /// With an error of the protocol.
    pub(super) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { code: error.code(), message: message.into() }
    }

    /// A request that contradicts itself.
    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self { code: KafkaErrorCode::InvalidRequest.code(), message: message.into() }
    }

    /// The sentence, for a message.
    pub(super) fn text(&self) -> Option<StrBytes> {
        Some(StrBytes::from_string(self.message.clone()))
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        Self { code: error.kafka_error_code(), message: error.to_string() }
    }
}
