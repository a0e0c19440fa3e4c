//! What an operation on a log can fail with.

use crate::{
    error::KafkaErrorCode,
    format::{FormatError, names, uuid::Uuid},
    segment::{Damage, SegmentError},
    storage::StorageError,
    types::{Offset, ProducerEpoch, ProducerId},
};

/// An operation on a partition's log failed. Unless the variant says otherwise nothing was written and nothing lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The disk is full. The log is as before the call; it takes appends again when there is space.
    #[error("the disk is full: {0}")]
    DiskFull(#[source] StorageError),
    /// An earlier write or sync failed in a way that leaves the end of the log unknown: it takes no appends until it is
    /// opened again. Reads go on.
    #[error("the log takes no more writes until it is opened again: {cause}")]
    Poisoned {
        /// The failure that did it.
        cause: String,
    },
    /// The memory in which appends gather is full: what was appended before has to reach the disk first. The log is as before
    /// the call.
    #[error("the memory for appends that are not on the disk yet is full")]
    NoMemory,
    /// Bytes below what was known to be durable are damaged. Nothing was changed.
    #[error(transparent)]
    Corrupt(#[from] Box<Corruption>),
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(SegmentError),
    /// Bytes that should be batches are not.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The offset is not in the log.
    #[error("offset {offset} is outside the log, which holds {log_start} to {log_end} (exclusive)")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// Next offset to be assigned.
        log_end: Offset,
    },
    /// There is no whole batch to append. Kafka's brokers answer such a request as done.
    #[error("there is no batch to append")]
    NothingToAppend,
    /// A producer's batch does not continue its sequence: one before it is missing, or it is older than the five batches
    /// that are remembered.
    #[error("producer {producer_id} epoch {producer_epoch}: sequence {sequence} came where {expected} was expected")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// Its epoch, as the batch says.
        producer_epoch: ProducerEpoch,
        /// The batch's first sequence.
        sequence: i32,
        /// The sequence that it should have begun with, or, while a transaction is being verified, at most.
        expected: i32,
    },
    /// A producer's epoch is older than the known one: another instance of it has taken over.
    #[error("producer {producer_id}: epoch {producer_epoch} was fenced by epoch {known}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch offered.
        producer_epoch: ProducerEpoch,
        /// The epoch known.
        known: ProducerEpoch,
    },
    /// A producer's batch does not fit the state of its transaction.
    #[error("producer {producer_id}: {why}")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
        /// The rule.
        why: &'static str,
    },
    /// An end marker comes from a coordinator that another one has replaced.
    #[error("producer {producer_id}: coordinator epoch {coordinator_epoch} was fenced by {known}")]
    TransactionCoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The coordinator's epoch.
        coordinator_epoch: i32,
        /// The epoch known.
        known: i32,
    },
    /// A batch is larger than `max.message.bytes`.
    #[error("a batch of {size} bytes exceeds max.message.bytes of {limit}")]
    MessageTooLarge {
        /// Bytes of the batch.
        size: u64,
        /// The limit, inclusive.
        limit: u64,
    },
    /// The set of batches is larger than `segment.bytes`.
    #[error("{size} bytes of batches exceed segment.bytes of {limit}")]
    RecordListTooLarge {
        /// Bytes of the set.
        size: u64,
        /// The limit, inclusive.
        limit: u64,
    },
    /// A batch, or records in it, break a rule. No record of the set was written.
    #[error("{why}{}", records_suffix(invalid_records))]
    InvalidRecord {
        /// The rule.
        why: String,
        /// Indexes of the offending records in the batch, ascending; empty when the batch as a whole is meant.
        invalid_records: Vec<usize>,
        /// `InvalidRecord` or `InvalidTimestamp`.
        code: KafkaErrorCode,
    },
    /// A follower's batches do not come after the log's end.
    #[error("batches {first_offset} to {last_offset} begin below the log end {log_end}")]
    UnexpectedAppendOffset {
        /// First offset of the set.
        first_offset: Offset,
        /// Last offset of the set.
        last_offset: Offset,
        /// Next offset of the log.
        log_end: Offset,
    },
    /// A follower's batches do not ascend among themselves.
    #[error("last offset {last_offset} does not exceed {previous} of the batch before")]
    OffsetsOutOfOrder {
        /// Last offset of the offending batch.
        last_offset: Offset,
        /// Last offset of the batch before.
        previous: Offset,
    },
    /// The partition belongs to another topic.
    #[error("topic id {offered} was offered, but the partition has {known}")]
    InconsistentTopicId {
        /// The id offered.
        offered: Uuid,
        /// The id stored.
        known: Uuid,
    },
    /// A cleaning was given up, by its control or because the log changed under it. Its outputs are of no use; another
    /// one can begin.
    #[error("the cleaning was aborted: {why}")]
    CleaningAborted {
        /// Why.
        why: &'static str,
    },
    /// An argument that no log can serve.
    #[error("{what} is {value}: {why}")]
    InvalidArgument {
        /// The argument.
        what: &'static str,
        /// Its value.
        value: i64,
        /// The rule.
        why: &'static str,
    },
}

/// Damage to bytes that were durable: not a torn tail, so nothing was cut. The host chooses what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{partition}/{} at byte {position}: {damage}; the log is whole below offset {last_good}, \
     and was durable below {recovery_point}{}",
    names::log(*segment),
    next_good.map_or(String::new(), |next| format!("; whole batches go on at offset {next}"))
)]
pub struct Corruption {
    /// The partition's directory.
    pub partition: String,
    /// Base offset of the damaged segment.
    pub segment: Offset,
    /// Where in the segment's log file the damage begins, in bytes.
    pub position: u64,
    /// What is there instead of a batch.
    pub damage: Damage,
    /// Every offset below is whole, exclusive.
    pub last_good: Offset,
    /// The next offset at which a whole batch begins, if one was found behind the damage.
    pub next_good: Option<Offset>,
    /// Everything below, exclusive, had been flushed.
    pub recovery_point: Offset,
}

impl LogError {
    /// Kafka's code for this error, as a broker would answer.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        match self {
            Self::Storage(_)
            | Self::DiskFull(_)
            | Self::Poisoned { .. }
            | Self::Corrupt(_)
            | Self::Segment(_)
            | Self::NoMemory => KafkaErrorCode::KafkaStorageError,
            Self::Format(error) => error.kafka_error_code(),
            Self::OffsetOutOfRange { .. } => KafkaErrorCode::OffsetOutOfRange,
            Self::MessageTooLarge { .. } => KafkaErrorCode::MessageTooLarge,
            Self::RecordListTooLarge { .. } => KafkaErrorCode::RecordListTooLarge,
            Self::InvalidRecord { code, .. } => *code,
            Self::NothingToAppend => KafkaErrorCode::InvalidRecord,
            Self::OutOfOrderSequence { .. } => KafkaErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch { .. } => KafkaErrorCode::InvalidProducerEpoch,
            Self::InvalidTxnState { .. } => KafkaErrorCode::InvalidTxnState,
            Self::TransactionCoordinatorFenced { .. } => KafkaErrorCode::TransactionCoordinatorFenced,
            Self::UnexpectedAppendOffset { .. } | Self::OffsetsOutOfOrder { .. } | Self::CleaningAborted { .. } => {
                KafkaErrorCode::UnknownServerError
            }
            Self::InconsistentTopicId { .. } => KafkaErrorCode::InconsistentTopicId,
            Self::InvalidArgument { .. } => KafkaErrorCode::InvalidRequest,
        }
    }

    /// Whether the log refuses every further write until it is opened again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Poisoned { .. })
    }
}

impl From<SegmentError> for LogError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Storage(error) if error.is_disk_full() => Self::DiskFull(error),
            SegmentError::Storage(error) => Self::Storage(error),
            other => Self::Segment(other),
        }
    }
}

fn records_suffix(invalid_records: &[usize]) -> String {
    if invalid_records.is_empty() { String::new() } else { format!(" (records {invalid_records:?})") }
}
