//! What both ways of altering properties share: whose they are, and making the change.

use super::{
    Broker,
    describe_configs::{BROKER, TOPIC, is_for_all},
    refusal::Refusal,
};
use crate::{
    metadata::Configs,
    topics::{TopicError, check_name, properties::Changes},
};

/// Changes the properties of a topic, of this broker or of all brokers, as `decide` says of what is set.
pub(super) async fn alter(
    broker: &Broker,
    (resource_type, name): (i8, &str),
    validate_only: bool,
    decide: impl FnOnce(&Configs) -> Result<Changes, TopicError> + Send + 'static,
) -> Result<(), Refusal> {
    match resource_type {
        TOPIC => {
            check_name(name)?;
            Ok(broker.topics.alter_topic(name, validate_only, decide).await?)
        }
        BROKER => {
            let for_all = is_for_all(name, broker.config.node_id)?;
            Ok(broker.topics.alter_broker(for_all, validate_only, decide).await?)
        }
        other => Err(Refusal::invalid_request(format!("Unsupported resource type: {other}"))),
    }
}

/// A resource that is named twice is altered not at all (`ConfigAdminManager.preprocess`).
pub(super) fn named_twice() -> Refusal {
    Refusal::invalid_request("Each resource must appear at most once.")
}
