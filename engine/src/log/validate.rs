//! Checking what a producer sent, before any lock is taken.
//!
//! Follows `LogValidator.validateMessagesAndAssignOffsets` and the checks in front of it in
//! `UnifiedLog.analyzeAndValidateRecords`, and is stricter where Kafka trusts: inner offsets must be 0, 1, 2 and so on
//! whether or not the batch is compressed. Pure: time is an argument.

use super::error::LogError;
use crate::{
    config::{CompressionType, LogConfig, MessageTimestampType},
    error::KafkaErrorCode,
    format::{
        FormatError,
        batch::{self, Batch, BatchHeader, Batches, TimestampType},
        builder::{BatchBuilder, NewRecord},
        compression::Compression,
        record::Record,
    },
    types::Timestamp,
};

/// What a partition accepts of producers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidationPolicy {
    max_message_bytes: u64,
    keys_required: bool,
    timestamp_type: TimestampType,
    before_max_ms: u64,
    after_max_ms: u64,
    compression: Option<Compression>,
    decompressed_bytes: u64,
}

/// Most bytes that the records of one batch may decompress to, unless the host says otherwise.
const DEFAULT_DECOMPRESSED_BYTES: u64 = 128 << 20;

impl ValidationPolicy {
    /// The rules of a topic's configuration.
    #[must_use]
    pub fn from_config(config: &LogConfig) -> Self {
        Self {
            max_message_bytes: u64::from(config.max_message_bytes),
            keys_required: config.cleanup_policy.compact,
            timestamp_type: match config.message_timestamp_type {
                MessageTimestampType::CreateTime => TimestampType::CreateTime,
                MessageTimestampType::LogAppendTime => TimestampType::LogAppendTime,
            },
            before_max_ms: config.message_timestamp_before_max_ms,
            after_max_ms: config.message_timestamp_after_max_ms,
            compression: target_compression(config),
            decompressed_bytes: DEFAULT_DECOMPRESSED_BYTES,
        }
    }

    /// Refuses batches whose records decompress to more than `bytes` (inclusive; default 128 MiB).
    #[must_use]
    pub fn with_decompressed_bytes(mut self, bytes: u64) -> Self {
        self.decompressed_bytes = bytes;
        self
    }
}

/// What the topic recompresses to; `None` leaves batches as the producer compressed them.
fn target_compression(config: &LogConfig) -> Option<Compression> {
    match config.compression_type {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Compression::None),
        CompressionType::Gzip => Some(Compression::Gzip { level: config.compression_gzip_level }),
        CompressionType::Snappy => Some(Compression::Snappy),
        CompressionType::Lz4 => Some(Compression::Lz4 { level: config.compression_lz4_level }),
        CompressionType::Zstd => Some(Compression::Zstd { level: config.compression_zstd_level }),
    }
}

/// One batch of a producer that passed every check and lacks only its offset and leader epoch.
#[derive(Debug, Clone)]
pub struct ValidatedBatch {
    bytes: Vec<u8>,
    header: BatchHeader,
}

impl ValidatedBatch {
    /// The batch as it will be stored, but for offset and epoch.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes back, for instance to use the buffer again.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn assign(&mut self, base_offset: i64, leader_epoch: i32) -> Result<(), FormatError> {
        batch::assign_in_place(&mut self.bytes, base_offset, leader_epoch)?;
        self.header = BatchHeader::decode(&self.bytes)?;
        Ok(())
    }
}

/// Checks the one batch of a produce request: checksum, structure, every record, and the topic's rules. Bytes behind the
/// batch that are no whole batch are cut off, as Kafka does. Costs one pass over the bytes; a compressed batch is
/// decompressed to be looked at.
///
/// ```
/// use duramen::{LogConfig, ValidationPolicy, format::builder::BatchBuilder, validate};
/// let bytes = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"hello")).build()?;
/// let batch = validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), 1_700_000_000_000)?;
/// assert_eq!(batch.header().records_count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// * [`LogError::Format`]: the batch is cut short, damaged, of magic 0 or 1, or its codec refuses it;
/// * [`LogError::MessageTooLarge`]: it exceeds `max.message.bytes`, as sent or after recompression;
/// * [`LogError::InvalidRecord`]: there is not exactly one batch, or a rule is broken; with the indexes of the records.
pub fn validate(mut bytes: Vec<u8>, policy: &ValidationPolicy, now_ms: Timestamp) -> Result<ValidatedBatch, LogError> {
    let size = only_batch_size(&bytes)?;
    bytes.truncate(size);
    check_size(size, policy)?;
    let batch = Batch::parse(&bytes)?;
    check_batch(batch.header())?;
    batch.check_crc()?;
    let codec = batch.header().attributes().codec()?;
    let recompress = policy.compression.filter(|target| target.codec() != codec);
    let mut scratch = Vec::new();
    let (max_timestamp, rebuilt) = check_records(&batch, &mut scratch, policy, recompress, now_ms)?;
    let (timestamp_type, max_timestamp) = match policy.timestamp_type {
        TimestampType::CreateTime => (TimestampType::CreateTime, max_timestamp),
        TimestampType::LogAppendTime => (TimestampType::LogAppendTime, now_ms),
    };
    if let Some(builder) = rebuilt {
        bytes = builder.build()?;
        check_size(bytes.len(), policy)?;
    }
    batch::stamp_in_place(&mut bytes, timestamp_type, max_timestamp)?;
    let header = BatchHeader::decode(&bytes)?;
    Ok(ValidatedBatch { bytes, header })
}

fn only_batch_size(bytes: &[u8]) -> Result<usize, LogError> {
    let mut batches = Batches::new(bytes);
    let first = match batches.next() {
        Some(first) => first?,
        None if bytes.is_empty() => return Err(invalid("there is no batch to append")),
        None => return Err(Batch::parse(bytes).map_or_else(LogError::from, |_| invalid("there is no batch to append"))),
    };
    if batches.next().transpose()?.is_some() {
        return Err(invalid("a produce request holds one batch, not several"));
    }
    Ok(first.bytes().len())
}

fn check_size(size: usize, policy: &ValidationPolicy) -> Result<(), LogError> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    if size <= policy.max_message_bytes {
        return Ok(());
    }
    Err(LogError::MessageTooLarge { size, limit: policy.max_message_bytes })
}

fn check_batch(header: &BatchHeader) -> Result<(), LogError> {
    let range = i64::from(header.last_offset_delta()) + 1;
    if header.base_offset() != 0 {
        return Err(invalid("a producer's batch begins at offset 0"));
    }
    if header.records_count() <= 0 {
        return Err(invalid("the batch says that it has no records"));
    }
    if range != i64::from(header.records_count()) {
        return Err(invalid("the range of offsets differs from the number of records"));
    }
    if header.attributes().is_control() {
        return Err(invalid("a producer may not write control batches"));
    }
    match header.producer() {
        Some(producer) if producer.base_sequence.is_none() => Err(invalid("a producer id comes without a sequence")),
        None if header.attributes().is_transactional() => {
            Err(invalid("a transactional batch comes without a producer id"))
        }
        _ => Ok(()),
    }
}

/// Looks at every record; the greatest timestamp (-1 if none), and the batch rebuilt if it has to be recompressed.
fn check_records(
    batch: &Batch<'_>,
    scratch: &mut Vec<u8>,
    policy: &ValidationPolicy,
    recompress: Option<Compression>,
    now_ms: Timestamp,
) -> Result<(Timestamp, Option<BatchBuilder>), LogError> {
    let mut rebuilt = recompress.map(|compression| builder_like(batch.header(), compression));
    let mut max_timestamp = -1;
    let mut faults = Faults::default();
    for (index, record) in batch.records(scratch, policy.decompressed_bytes)?.enumerate() {
        let record = record?;
        if usize::try_from(record.offset_delta()) != Ok(index) {
            faults.record(index, "its offset is not the next one", KafkaErrorCode::InvalidRecord);
        }
        if policy.keys_required && record.key().is_none() {
            faults.record(index, "a compacted topic takes no record without a key", KafkaErrorCode::InvalidRecord);
        }
        if let Some(why) = timestamp_fault(&record, batch.header(), policy, now_ms) {
            faults.record(index, why, KafkaErrorCode::InvalidTimestamp);
        }
        max_timestamp = max_timestamp.max(record.timestamp().unwrap_or(-1));
        if let Some(builder) = &mut rebuilt {
            push_copy(builder, &record);
        }
    }
    faults.into_result()?;
    Ok((max_timestamp, rebuilt))
}

fn timestamp_fault(
    record: &Record<'_>,
    header: &BatchHeader,
    policy: &ValidationPolicy,
    now_ms: Timestamp,
) -> Option<&'static str> {
    let exceeds = |ms: i64, limit: u64| u64::try_from(ms).is_ok_and(|ms| ms > limit);
    match (policy.timestamp_type, record.timestamp()) {
        (TimestampType::CreateTime, Some(timestamp)) => {
            if exceeds(now_ms.saturating_sub(timestamp), policy.before_max_ms) {
                return Some("its timestamp is older than message.timestamp.before.max.ms allows");
            }
            exceeds(timestamp.saturating_sub(now_ms), policy.after_max_ms)
                .then_some("its timestamp is further ahead than message.timestamp.after.max.ms allows")
        }
        _ => (header.attributes().timestamp_type() == TimestampType::LogAppendTime)
            .then_some("a producer may not set the type LogAppendTime"),
    }
}

fn builder_like(header: &BatchHeader, compression: Compression) -> BatchBuilder {
    let mut builder = BatchBuilder::new().compression(compression);
    if let Some(producer) = header.producer() {
        builder = builder.producer(producer.id, producer.epoch, producer.base_sequence.unwrap_or(-1));
    }
    if header.attributes().is_transactional() { builder.transactional() } else { builder }
}

fn push_copy(builder: &mut BatchBuilder, record: &Record<'_>) {
    let headers: Vec<_> = record.headers().collect();
    builder.push(&NewRecord {
        timestamp: record.timestamp(),
        key: record.key(),
        value: record.value(),
        headers: &headers,
        offset_delta: None,
    });
}

/// Every record at fault; a fault of time outranks the others, as in `LogValidator.processRecordErrors`.
#[derive(Default)]
struct Faults {
    records: Vec<usize>,
    worst: Option<(&'static str, KafkaErrorCode)>,
}

impl Faults {
    fn record(&mut self, index: usize, why: &'static str, code: KafkaErrorCode) {
        if self.records.last() != Some(&index) {
            self.records.push(index);
        }
        if self.worst.is_none_or(|(_, worst)| worst != KafkaErrorCode::InvalidTimestamp)
            && (code == KafkaErrorCode::InvalidTimestamp || self.worst.is_none())
        {
            self.worst = Some((why, code));
        }
    }

    fn into_result(self) -> Result<(), LogError> {
        match self.worst {
            None => Ok(()),
            Some((why, code)) => Err(LogError::InvalidRecord {
                why: format!("a record is refused: {why}"),
                invalid_records: self.records,
                code,
            }),
        }
    }
}

fn invalid(why: &str) -> LogError {
    LogError::InvalidRecord { why: why.to_owned(), invalid_records: Vec::new(), code: KafkaErrorCode::InvalidRecord }
}
