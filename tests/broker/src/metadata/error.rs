//! Why metadata cannot be read or changed.

use super::{flexible::Malformed, record::RecordError};
use duramen::{
    InvalidTopic, KafkaErrorCode, LogError, OpenError, PartitionError, WaitError, format::FormatError,
    storage::StorageError,
};
use kafka_protocol::ResponseError;
use std::{io, path::PathBuf};

/// The cluster's metadata cannot be opened, or a change of them was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    /// The log of the metadata cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log of the metadata does not take an append.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// Whether an append is durable is not known. No further change is made.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The log of the metadata cannot be read, or does not take a batch.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Bytes that should be batches are not.
    #[error("{file}: {source}")]
    Format {
        /// Where they are.
        file: String,
        /// What is wrong.
        source: FormatError,
    },
    /// A batch cannot be made of what was asked for.
    #[error(transparent)]
    Batch(#[from] FormatError),
    /// A file beside the log cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log of the metadata cannot be read.
    #[error("the metadata log: {0}")]
    Read(#[source] io::Error),
    /// The system has no random numbers.
    #[error("no random number for an id: {0}")]
    Random(#[source] io::Error),
    /// A record cannot be read.
    #[error("{file}, offset {offset}: {source}")]
    Record {
        /// Where it is.
        file: String,
        /// Its offset there.
        offset: i64,
        /// What is wrong.
        source: RecordError,
    },
    /// A record says something that does not fit to the ones before it.
    #[error("{file}, offset {offset}: {record}: {why}")]
    Inconsistent {
        /// Where it is.
        file: String,
        /// Its offset there.
        offset: i64,
        /// The record's name.
        record: &'static str,
        /// What does not fit.
        why: &'static str,
    },
    /// `quorum-state` cannot be read.
    #[error("quorum-state: {0}")]
    QuorumState(#[source] Malformed),
    /// A log directory belongs to another node or cluster, or to none.
    #[error("{}: {why}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The metadata are of a quorum that this node is not alone in.
    #[error("the metadata belong to the controllers {voters:?}, and this broker is one node alone")]
    OtherVoters {
        /// All of them.
        voters: Vec<i32>,
    },
    /// A partition has replicas on other nodes.
    #[error("partition {topic}-{partition} has replicas on {replicas:?}, and this broker is one node alone")]
    OtherReplicas {
        /// The topic.
        topic: String,
        /// The partition.
        partition: usize,
        /// Where it has replicas.
        replicas: Vec<i32>,
    },
    /// A feature of the cluster is at a level that is not known here.
    #[error("{feature} is at level {level}, and {min} to {max} are known")]
    UnsupportedFeature {
        /// The feature.
        feature: String,
        /// Its level.
        level: i16,
        /// The lowest level known.
        min: i16,
        /// The highest level known.
        max: i16,
    },
    /// A feature cannot have this level.
    #[error("Invalid update version {level} for feature {feature}. {why}")]
    FeatureUpdate {
        /// The feature.
        feature: String,
        /// The level.
        level: i16,
        /// Why not.
        why: String,
    },
    /// The log begins behind its snapshots.
    #[error("the metadata log begins at {log_start}, and its last snapshot ends at {snapshot_end}")]
    MissingSnapshot {
        /// The log's start.
        log_start: i64,
        /// End of the last snapshot, exclusive; 0 if there is none.
        snapshot_end: i64,
    },
    /// An earlier append ended in a way that leaves it open whether it is in the log.
    #[error("the metadata take no more changes until the broker is started again")]
    Poisoned,
    /// A name that is no topic's.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// The name differs from a topic's only by `.` and `_`, which metrics cannot tell from each other.
    #[error("topic '{name}' collides with the topic '{known}'")]
    TopicCollides {
        /// The name offered.
        name: String,
        /// The topic that is there.
        known: String,
    },
    /// There is a topic of this name.
    #[error("topic '{name}' already exists")]
    TopicExists {
        /// The name.
        name: String,
    },
    /// There is no topic of this name.
    #[error("there is no topic '{name}'")]
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// A number of partitions that a topic cannot have.
    #[error("{wanted} partitions: {why}")]
    InvalidPartitions {
        /// The number.
        wanted: i32,
        /// Why not.
        why: &'static str,
    },
    /// One change takes more records than one batch may have.
    #[error("the change takes {records} records, and one change may take {limit}")]
    TooLarge {
        /// So many.
        records: usize,
        /// At most, inclusive.
        limit: usize,
    },
    /// There are no more producer ids.
    #[error("all producer ids were given out")]
    ProducerIdsExhausted,
}

impl MetadataError {
    /// Kafka's code for this error, as responses have it.
    #[must_use]
    pub(crate) fn kafka_error_code(&self) -> i16 {
        match self {
            Self::Open(error) => error.kafka_error_code().code(),
            Self::Partition(error) => error.kafka_error_code().code(),
            Self::Wait(error) => error.kafka_error_code().code(),
            Self::Log(error) => error.kafka_error_code().code(),
            Self::Format { source, .. } | Self::Batch(source) => source.kafka_error_code().code(),
            Self::Storage(_) | Self::Read(_) | Self::Poisoned => KafkaErrorCode::KafkaStorageError.code(),
            Self::InvalidTopic(_) | Self::TopicCollides { .. } => KafkaErrorCode::InvalidTopic.code(),
            Self::TopicExists { .. } => ResponseError::TopicAlreadyExists.code(),
            Self::UnknownTopic { .. } => KafkaErrorCode::UnknownTopicOrPartition.code(),
            Self::InvalidPartitions { .. } => ResponseError::InvalidPartitions.code(),
            Self::TooLarge { .. } => ResponseError::PolicyViolation.code(),
            Self::FeatureUpdate { .. } => ResponseError::InvalidUpdateVersion.code(),
            Self::Random(_)
            | Self::Record { .. }
            | Self::Inconsistent { .. }
            | Self::QuorumState(_)
            | Self::Directory { .. }
            | Self::OtherVoters { .. }
            | Self::OtherReplicas { .. }
            | Self::UnsupportedFeature { .. }
            | Self::MissingSnapshot { .. }
            | Self::ProducerIdsExhausted => KafkaErrorCode::UnknownServerError.code(),
        }
    }
}
