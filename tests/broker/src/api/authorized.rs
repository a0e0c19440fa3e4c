//! What a client may do: without an authorizer, everything (`AuthHelper.authorizedOperations`).

/// Bits of `AclOperation`: what can be done with a topic (`AclEntry.supportedOperations`): read, write, create, delete, alter,
/// describe, describe and alter its configuration.
const ON_TOPIC: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// And with the cluster: create, alter, describe, act as a broker, describe and alter configurations, write idempotently.
const ON_CLUSTER: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// The value where nobody asked.
const NOT_ASKED: i32 = i32::MIN;

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut rest = operations;
    while let [operation, others @ ..] = rest {
        bits |= 1 << *operation;
        rest = others;
    }
    bits
}

/// What may be done with a topic, for whoever asks.
pub(super) fn on_topic(is_asked: bool) -> i32 {
    if is_asked { ON_TOPIC } else { NOT_ASKED }
}

/// What may be done with the cluster, for whoever asks.
pub(super) fn on_cluster(is_asked: bool) -> i32 {
    if is_asked { ON_CLUSTER } else { NOT_ASKED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_that_kafka_answers() {
        assert_eq!((on_topic(true), on_cluster(true)), (3576, 8096));
        assert_eq!((on_topic(false), on_cluster(false)), (i32::MIN, i32::MIN));
    }
}
