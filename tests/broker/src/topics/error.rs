//! Why a topic cannot be opened or changed.

use super::properties::{ChangeError, PropertyError};
use crate::metadata::MetadataError;
use duramen::{ConfigError, InvalidTopic, KafkaErrorCode, LogError, OpenError, PartitionError};
use kafka_protocol::ResponseError;
use tokio::task::JoinError;

/// A topic cannot be opened, or a change of it was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    /// A name that no topic may have.
    #[error("'{name}' is no topic's name: {why}")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The name differs from a topic's only by `.` and `_`, which metrics cannot tell from each other.
    #[error("Topic '{name}' collides with existing topic: {known}")]
    Collides {
        /// The name.
        name: String,
        /// The topic that is there.
        known: String,
    },
    /// There is a topic of this name.
    #[error("Topic '{name}' already exists.")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no topic of this name.
    #[error("The topic '{name}' does not exist.")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The broker lives by this topic.
    #[error("The topic '{name}' is the broker's own.")]
    Internal {
        /// The name.
        name: String,
    },
    /// A property that topics do not have, or a value that it cannot have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A property cannot be changed in this way.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A property of the broker that cannot be changed, or not to this value.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// What the metadata say of a topic cannot be used.
    #[error("topic '{topic}': {source}")]
    Stored {
        /// The topic.
        topic: String,
        /// Which property, and why.
        source: ConfigError,
    },
    /// The metadata refuse, or cannot be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A partition's files cannot be made, opened or removed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A partition is gone.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A partition's log refuses.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The thread that made the change ended before it was made.
    #[error("the change was broken off: {0}")]
    Broken(#[from] JoinError),
}

impl TopicError {
    /// Kafka's code for this error, as responses have it.
    pub(crate) fn kafka_error_code(&self) -> i16 {
        match self {
            Self::InvalidName { .. } | Self::Collides { .. } => KafkaErrorCode::InvalidTopic.code(),
            Self::Exists { .. } => ResponseError::TopicAlreadyExists.code(),
            Self::Unknown { .. } => KafkaErrorCode::UnknownTopicOrPartition.code(),
            Self::Internal { .. } => ResponseError::TopicDeletionDisabled.code(),
            Self::Config(error) | Self::Stored { source: error, .. } => error.kafka_error_code().code(),
            Self::Change(_) => KafkaErrorCode::InvalidConfig.code(),
            Self::Property(_) => KafkaErrorCode::InvalidRequest.code(),
            Self::Metadata(error) => error.kafka_error_code(),
            Self::Open(error) => error.kafka_error_code().code(),
            Self::Partition(error) => error.kafka_error_code().code(),
            Self::Log(error) => error.kafka_error_code().code(),
            Self::Broken(_) => KafkaErrorCode::UnknownServerError.code(),
        }
    }
}

impl From<InvalidTopic> for TopicError {
    fn from(error: InvalidTopic) -> Self {
        Self::InvalidName { name: error.name, why: error.why }
    }
}
