//! Values as the messages have them.

use duramen::format::uuid::Uuid;
use kafka_protocol::{
    messages::{BrokerId, TopicName},
    protocol::StrBytes,
};

/// An id for a message.
pub(super) fn to_wire(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id.bytes())
}

/// An id of a message.
pub(super) fn from_wire(id: uuid::Uuid) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A text for a message.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name for a message.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A list of this broker alone: the replicas of every partition.
pub(super) fn only(node_id: i32) -> Vec<BrokerId> {
    vec![BrokerId(node_id)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let id = Uuid::from_bytes(std::array::from_fn(|byte| u8::try_from(byte).unwrap_or(0)));
        assert_eq!(from_wire(to_wire(id)), id);
        assert_eq!(to_wire(id).to_string().replace('-', ""), id.hex());
    }
}
