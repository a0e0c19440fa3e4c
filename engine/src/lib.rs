//! Kafka's partition log as a library.

pub mod error;
pub mod format;
pub mod storage;
mod types;

pub use error::KafkaErrorCode;
pub use types::{InvalidTopic, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
