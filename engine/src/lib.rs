//! Kafka's partition log as a library.
//!
//! A log directory holds partitions; a partition is a log of record batches, in Kafka's own files byte for byte. Real
//! Kafka opens what this crate writes, and the other way round.
//!
//! * [`LogManager`]: several directories for any number of threads; a [`Partition`] appends, reads and waits, and an append
//!   gives a [`Ticket`] for its being durable: for brokers;
//! * [`LogDirectory`]: one directory for one thread: open it, get the logs in it, close it in order;
//! * [`Log`]: the one writer of a partition: append as leader or follower, flush, roll, truncate;
//! * [`LogReader`]: any number of readers: by offset, by time, zero-copy through [`FileSlice`];
//! * [`validate`]: what a producer sent, checked before any lock;
//! * [`replica`]: what leader and followers of a partition decide: in-sync replicas, high watermark, acks, election;
//! * [`mod@format`]: every byte on disk, as values;
//! * [`storage`]: the door to the disk, to be replaced by a simulated one in tests.

mod config;
pub mod error;
pub mod format;
mod log;
mod manager;
pub mod replica;
mod segment;
pub mod storage;
mod types;

pub use config::{CleanupPolicy, CompressionType, ConfigError, LogConfig, MessageTimestampType};
pub use error::KafkaErrorCode;
pub use log::{
    ActiveProducer, AppendAsLeader, AppendInfo, AppendOrigin, Checkpoints, Cleaned, CleanerControl, CleanerOptions,
    CleanerProgress, CleanerStats, Cleaning, Corruption, Cut, ExpiredSegment, Fetch, Fetched, Isolation, Log, LogError,
    LogOffsetMetadata, LogOffsets, LogReader, LogToClean, OnCorruption, OpenOptions, ProducedBatch, RecoveryProgress,
    RecoveryReport, Removed, RemovedRecords, RetentionReason, SegmentSummary, TimestampAndOffset, TimestampQuery,
    ValidatedBatch, ValidationPolicy, VerificationGuard, VerifiedProducer, validate,
};
pub use manager::{
    Append, Background, Completion, CompletionQueue, DirectoryMetrics, DirectoryOptions, DirectoryReport, Durability,
    Event, EventHandler, HighWatermarkPolicy, Histogram, JournalError, JournalReplay, Lag, LoadProgress, LogDirectory,
    LogManager, LongPoll, Maintenance, ManagerOptions, OpenError, Partition, PartitionError, Position, Retention, Room,
    Ticket, TryAppendError, WaitError,
};
pub use segment::{Damage, FileSlice, SegmentError, SliceBytes, SlicePart};
pub use types::{InvalidTopic, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
