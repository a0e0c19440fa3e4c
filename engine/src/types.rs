//! The words that every floor shares: offsets, epochs, ids, and the name of a partition.
//!
//! Owns no bytes and no files. Offsets count records, positions are bytes in a file; the two are different integer
//! types, so that one cannot be passed for the other.

use std::{fmt, sync::Arc};

/// A record's place in its partition: 0 for the first record ever, never reused.
pub type Offset = i64;

/// Term number of a partition's leader, stamped on every batch.
pub type LeaderEpoch = i32;

/// Identity of an idempotent or transactional producer.
pub type ProducerId = i64;

/// Incarnation of a producer; a newer one fences the older.
pub type ProducerEpoch = i16;

/// Milliseconds since 1970-01-01 UTC, as records and clocks carry it.
pub type Timestamp = i64;

/// The largest topic name, in bytes.
const MAX_TOPIC_LEN: usize = 249;

/// A topic and one of its partitions. Holds only names that Kafka accepts, so a path built from it stays inside the
/// log directory.
///
/// ```
/// use duramen::TopicPartition;
/// let orders = TopicPartition::new("orders", 0)?;
/// assert_eq!(orders.to_string(), "orders-0");
/// assert!(TopicPartition::new("../etc", 0).is_err());
/// # Ok::<(), duramen::InvalidTopic>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

/// A name that Kafka does not accept for a topic, or a negative partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not a topic partition: {why}")]
pub struct InvalidTopic {
    /// What was offered.
    pub name: String,
    /// The rule it breaks.
    pub why: &'static str,
}

impl TopicPartition {
    /// Checks the name by Kafka's rule (`Topic.validate`): 1 to 249 characters of `[a-zA-Z0-9._-]`, not `.` or `..`.
    ///
    /// # Errors
    /// [`InvalidTopic`] when the name breaks the rule or `partition` is negative.
    pub fn new(topic: &str, partition: i32) -> Result<Self, InvalidTopic> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let why = if topic.is_empty() {
            "the name is empty"
        } else if topic.len() > MAX_TOPIC_LEN {
            "the name is longer than 249 characters"
        } else if topic == "." || topic == ".." {
            "the name is a directory of its own"
        } else if !topic.bytes().all(allowed) {
            "the name holds a character outside [a-zA-Z0-9._-]"
        } else if partition < 0 {
            "the partition is negative"
        } else {
            return Ok(Self { topic: topic.into(), partition });
        };
        Err(InvalidTopic { name: format!("{topic}-{partition}"), why })
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number, from 0.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
