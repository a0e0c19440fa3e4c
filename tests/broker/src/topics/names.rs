//! Names of topics: which are allowed, which collide, which are the broker's own.

use super::TopicError;
use crate::metadata::Image;
use duramen::TopicPartition;

/// The topics that hold Kafka's own state (`Topic.INTERNAL_TOPICS`).
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Whether Kafka keeps state of its own in the topic (`Topic.isInternal`).
pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks a name by Kafka's rule (`Topic.validate`).
///
/// # Errors
/// [`TopicError::InvalidName`].
pub(crate) fn check(name: &str) -> Result<(), TopicError> {
    match TopicPartition::new(name, 0) {
        Ok(_) => Ok(()),
        Err(error) => Err(TopicError::InvalidName { name: name.to_owned(), why: error.why }),
    }
}

/// Checks whether a topic of this name can be made (`ReplicationControlManager.validateNewTopicNames`).
///
/// # Errors
/// [`TopicError::InvalidName`], [`TopicError::Exists`], [`TopicError::Collides`].
pub(crate) fn check_new(image: &Image, name: &str) -> Result<(), TopicError> {
    check(name)?;
    if image.topic(name).is_some() {
        return Err(TopicError::Exists { name: name.to_owned() });
    }
    // Only names with one of the two can collide, and most have none.
    if name.contains(['.', '_']) {
        let plain = |name: &str| name.replace('.', "_");
        let new = plain(name);
        if let Some(known) = image.topics().find(|topic| plain(&topic.name) == new) {
            return Err(TopicError::Collides { name: name.to_owned(), known: known.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for name in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(matches!(check(name), Err(TopicError::InvalidName { .. })), "{name}");
        }
    }

    #[test]
    fn own_topics_are_known() {
        assert!(is_internal("__consumer_offsets") && is_internal("__transaction_state"));
        assert!(!is_internal("orders") && !is_internal("__cluster_metadata"));
    }
}
