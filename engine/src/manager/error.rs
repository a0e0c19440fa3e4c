//! Why a log directory cannot be opened.

use super::journal::JournalError;
use crate::{config::ConfigError, error::KafkaErrorCode, log::LogError, storage::StorageError, types::TopicPartition};
use std::path::PathBuf;

/// A log directory, or a partition in it, cannot be opened. Nothing was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{} is locked by another owner", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A log manager cannot work with an option.
    #[error("option {option} is {value}: {why}")]
    InvalidOption {
        /// Its name in [`ManagerOptions`](crate::ManagerOptions).
        option: &'static str,
        /// What was wanted.
        value: u64,
        /// What can be wanted.
        why: &'static str,
    },
    /// A log cannot go by a configuration; see [`LogConfig::validate`](crate::LogConfig::validate).
    #[error("configuration {0}")]
    InvalidConfig(#[from] ConfigError),
    /// The directory itself fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file of the directory cannot be read as what it is.
    #[error("{file}: {source}")]
    File {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        source: LogError,
    },
    /// The commit journal cannot be replayed. It is still there.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A partition cannot be opened.
    #[error("partition {partition}: {source}")]
    Partition {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        source: LogError,
    },
    /// A partition is in two of the directories.
    #[error("partition {partition} is in two log directories: {} and {}", first.display(), second.display())]
    Duplicate {
        /// The partition.
        partition: TopicPartition,
        /// One of the directories, as it was given; `number N` for a storage of the host's.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// No directory takes partitions: all have failed or are closed, or there is none of this number.
    #[error("there is no log directory that works")]
    NoDirectory,
    /// The directory failed while it was open.
    #[error("the log directory failed: {cause}")]
    DirectoryFailed {
        /// The first failure.
        cause: String,
    },
    /// No directory of this name was set aside.
    #[error("there is no stray or future directory {name}")]
    UnknownDirectory {
        /// The name.
        name: String,
    },
    /// The partition is not there.
    #[error("there is no partition {partition}")]
    UnknownPartition {
        /// The partition.
        partition: TopicPartition,
    },
}

impl OpenError {
    /// Kafka's code for this error.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        match self {
            Self::Locked { .. }
            | Self::Storage(_)
            | Self::Journal(_)
            | Self::Duplicate { .. }
            | Self::NoDirectory
            | Self::DirectoryFailed { .. } => KafkaErrorCode::KafkaStorageError,
            Self::InvalidOption { .. } | Self::InvalidConfig(_) => KafkaErrorCode::InvalidConfig,
            Self::File { source, .. } | Self::Partition { source, .. } => source.kafka_error_code(),
            Self::UnknownPartition { .. } | Self::UnknownDirectory { .. } => KafkaErrorCode::UnknownTopicOrPartition,
        }
    }
}
