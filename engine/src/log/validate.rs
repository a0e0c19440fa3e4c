//! Checking what a producer sent, before any lock is taken.
//!
//! Follows `LogValidator.validateMessagesAndAssignOffsets` and the checks in front of it in
//! `UnifiedLog.analyzeAndValidateRecords`, and is stricter where Kafka trusts: inner offsets of a batch that is stored as
//! it came must be 0, 1, 2 and so on. Pure: time is an argument.

use super::error::LogError;
use crate::{
    config::{CompressionType, LogConfig, MessageTimestampType},
    error::KafkaErrorCode,
    format::{
        FormatError,
        batch::{self, Batch, BatchHeader, Frame, TimestampType},
        builder::{BatchBuilder, NewRecord},
        compression::{Codec, Compression},
        control::EndTxnMarker,
        record::{Record, Records},
    },
    types::{LeaderEpoch, Offset, Timestamp},
};

/// Who appends at a leader (`AppendOrigin`): decides which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AppendOrigin {
    /// A producer: every rule.
    #[default]
    Client,
    /// A coordinator of groups or transactions: it may write control batches, and its sequences are not looked at.
    Coordinator,
    /// The leader of a Raft quorum, whose batches carry their epoch already: as a coordinator, and nothing is asked of
    /// transactions.
    RaftLeader,
}

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
    origin: AppendOrigin,
}

/// Most bytes that the records of one batch may decompress to, unless the host says otherwise.
const DEFAULT_DECOMPRESSED_BYTES: u64 = 128 << 20;
/// More bytes than an end marker has.
const MARKER_BYTES: u64 = 4 << 10;

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
            origin: AppendOrigin::Client,
        }
    }

    /// The rules for another appender than a producer.
    #[must_use]
    pub fn with_origin(mut self, origin: AppendOrigin) -> Self {
        self.origin = origin;
        self
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

/// One batch that passed every check and lacks only its offset and leader epoch, in the buffer in which it came: a `Vec<u8>`, a
/// borrowed `&mut [u8]`, or what the host received the request in.
#[derive(Debug, Clone)]
pub struct ValidatedBatch<B = Vec<u8>> {
    buffer: B,
    /// The batch to be stored, where it is not the one at the buffer's begin.
    rebuilt: Option<Box<[u8]>>,
    header: BatchHeader,
    marker: Option<EndTxnMarker>,
    origin: AppendOrigin,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> ValidatedBatch<B> {
    /// The batch as it will be stored, but for offset and epoch.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.rebuilt {
            None => self.buffer.as_ref().get(..self.header.size()).unwrap_or_default(),
            Some(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.rebuilt {
            None => self.buffer.as_mut().get_mut(..self.header.size()).unwrap_or_default(),
            Some(bytes) => bytes,
        }
    }

    /// The buffer back in which the batch came, to be filled again. What is in it then is unspecified.
    #[must_use]
    pub fn into_buffer(self) -> B {
        self.buffer
    }
}

impl<B> ValidatedBatch<B> {
    /// Its header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The marker, if it is a batch that ends a transaction.
    #[must_use]
    pub fn marker(&self) -> Option<EndTxnMarker> {
        self.marker
    }

    /// The time that it was stamped with, in ms, if the topic wants that.
    #[must_use]
    pub fn log_append_time(&self) -> Option<Timestamp> {
        let is_stamped = self.header.attributes().timestamp_type() == TimestampType::LogAppendTime;
        self.header.max_timestamp().filter(|_| is_stamped)
    }

    pub(super) fn origin(&self) -> AppendOrigin {
        self.origin
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> ValidatedBatch<B> {
    pub(super) fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Result<(), LogError> {
        if self.origin == AppendOrigin::RaftLeader && self.header.leader_epoch() != Some(leader_epoch) {
            return Err(invalid("the batch of a Raft leader does not carry its epoch"));
        }
        batch::assign_in_place(self.bytes_mut(), base_offset, leader_epoch)?;
        self.header = BatchHeader::decode(self.bytes())?;
        Ok(())
    }
}

/// Checks the one batch of a produce request: checksum, structure, every record, and the topic's rules. Bytes behind the
/// batch that are no whole batch are cut off, as Kafka does. Costs one pass over the bytes; a compressed batch is
/// decompressed to be looked at. Nothing is copied: offsets, epoch and time are written into the buffer itself, unless the topic
/// wants another codec. So a request's bytes go to the log from where they were received, borrowed or owned:
///
/// ```
/// # use duramen::{LogConfig, ValidationPolicy, format::builder::BatchBuilder, validate};
/// # let mut request = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"hello")).build()?;
/// let batch = validate(&mut request[..], &ValidationPolicy::from_config(&LogConfig::default()), 1_700_000_000_000)?;
/// # assert_eq!(batch.header().records_count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
/// * [`LogError::NothingToAppend`]: there is no whole batch;
/// * [`LogError::Format`]: the batch is damaged, of magic 0 or 1, or its codec refuses it;
/// * [`LogError::MessageTooLarge`]: it exceeds `max.message.bytes`, as sent or after recompression;
/// * [`LogError::InvalidRecord`]: there are several batches, or a rule is broken; with the indexes of the records.
pub fn validate<B: AsRef<[u8]> + AsMut<[u8]>>(
    buffer: B,
    policy: &ValidationPolicy,
    now_ms: Timestamp,
) -> Result<ValidatedBatch<B>, LogError> {
    let sent = buffer.as_ref();
    let len = check_set(sent, policy)?;
    let batch = Batch::parse(sent.get(..len).unwrap_or_default())?;
    check_batch(batch.header(), policy.origin)?;
    let marker = read_marker(&batch)?;
    let mut scratch = Vec::new();
    let found = check_records(&batch, &mut scratch, policy, now_ms)?;
    let header = batch.header().clone();
    let rebuilt = found.rebuilt.map(|builder| builder.build().map(Vec::into_boxed_slice)).transpose()?;
    let mut validated = ValidatedBatch { buffer, rebuilt, header, marker, origin: policy.origin };
    check_size(validated.bytes().len(), policy)?;
    let max_timestamp = match policy.timestamp_type {
        TimestampType::LogAppendTime => now_ms,
        TimestampType::CreateTime => found.max_timestamp,
    };
    batch::stamp_in_place(validated.bytes_mut(), policy.timestamp_type, max_timestamp)?;
    validated.header = BatchHeader::decode(validated.bytes())?;
    Ok(validated)
}

/// What can be told of every batch without looking into it, and then that there is just one; its size.
fn check_set(bytes: &[u8], policy: &ValidationPolicy) -> Result<usize, LogError> {
    let mut sizes = Vec::new();
    let mut rest = bytes;
    while let Some(batch) = Frame::first_batch(rest)? {
        let frame = Frame::decode(batch)?;
        frame.check_magic()?;
        if policy.origin == AppendOrigin::Client && frame.base_offset != 0 {
            return Err(invalid("a producer's batch begins at offset 0"));
        }
        check_size(batch.len(), policy)?;
        batch::check_crc(batch)?;
        sizes.push(batch.len());
        rest = rest.get(batch.len()..).unwrap_or_default();
    }
    match sizes.as_slice() {
        [] => Err(LogError::NothingToAppend),
        [size] => Ok(*size),
        _ => Err(invalid("a produce request holds one batch, not several")),
    }
}

fn check_size(size: usize, policy: &ValidationPolicy) -> Result<(), LogError> {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    if size <= policy.max_message_bytes {
        return Ok(());
    }
    Err(LogError::MessageTooLarge { size, limit: policy.max_message_bytes })
}

fn check_batch(header: &BatchHeader, origin: AppendOrigin) -> Result<(), LogError> {
    let range = i64::from(header.last_offset_delta()) + 1;
    if header.records_count() <= 0 {
        return Err(invalid("the batch says that it has no records"));
    }
    if range != i64::from(header.records_count()) {
        return Err(invalid("the range of offsets differs from the number of records"));
    }
    if origin != AppendOrigin::Client {
        return Ok(());
    }
    if header.attributes().is_control() {
        return Err(invalid("a producer may not write control batches"));
    }
    match header.producer() {
        Some(producer) if producer.base_sequence.is_none() => Err(invalid("a producer id comes without a sequence")),
        Some(producer) if producer.epoch < 0 => Err(invalid("a producer id comes without an epoch")),
        None if header.attributes().is_transactional() => {
            Err(invalid("a transactional batch comes without a producer id"))
        }
        _ => Ok(()),
    }
}

fn read_marker(batch: &Batch<'_>) -> Result<Option<EndTxnMarker>, LogError> {
    if !batch.header().attributes().is_control() || batch.header().producer().is_none() {
        return Ok(None);
    }
    match batch.records(&mut Vec::new(), MARKER_BYTES)?.next() {
        Some(record) => Ok(EndTxnMarker::decode(&record?)?),
        None => Ok(None),
    }
}

/// What looking at every record yields.
struct Found {
    /// Greatest timestamp; -1 if there is none.
    max_timestamp: Timestamp,
    /// The batch to be stored instead, if not the one that came.
    rebuilt: Option<BatchBuilder>,
}

/// Looks at every record. A batch is built anew when the topic has another codec, and when the offsets inside a
/// compressed one are not consecutive.
fn check_records(
    batch: &Batch<'_>,
    scratch: &mut Vec<u8>,
    policy: &ValidationPolicy,
    now_ms: Timestamp,
) -> Result<Found, LogError> {
    let header = batch.header();
    let codec = header.attributes().codec()?;
    let target = policy.compression.unwrap_or(Compression::with_default_level(codec));
    let in_place = target.codec() == codec || (codec == Codec::None && header.attributes().is_control());
    let records = batch.records(scratch, policy.decompressed_bytes)?;
    let mut rebuilt = (!in_place).then(|| builder_like(header, target));
    let mut max_timestamp = -1;
    let mut faults = Faults::default();
    for (index, record) in records.clone().enumerate() {
        let record = record.map_err(misshapen)?;
        if usize::try_from(record.offset_delta()) != Ok(index) && rebuilt.is_none() {
            if codec == Codec::None {
                faults.record(index, "its offset is not the next one", KafkaErrorCode::InvalidRecord);
                continue;
            }
            rebuilt = Some(copy_of_first(builder_like(header, target), records.clone(), index)?);
        }
        if policy.keys_required && record.key().is_none() {
            faults.record(index, "a compacted topic takes no record without a key", KafkaErrorCode::InvalidRecord);
        } else if let Some(why) = timestamp_fault(&record, header, policy, now_ms) {
            faults.record(index, why, KafkaErrorCode::InvalidTimestamp);
        }
        max_timestamp = max_timestamp.max(record.timestamp().unwrap_or(-1));
        if let Some(builder) = &mut rebuilt {
            push_copy(builder, &record);
        }
    }
    faults.into_result()?;
    Ok(Found { max_timestamp, rebuilt })
}

/// The builder with the first records of a batch, which were found to be in order before one that is not.
fn copy_of_first(mut builder: BatchBuilder, records: Records<'_>, count: usize) -> Result<BatchBuilder, LogError> {
    for record in records.take(count) {
        push_copy(&mut builder, &record?);
    }
    Ok(builder)
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

/// In a batch whose checksum is right, a record cut short is invalid; only a batch cut short is corrupt.
fn misshapen(error: FormatError) -> LogError {
    match error {
        FormatError::Truncated { .. } => invalid(&error.to_string()),
        other => other.into(),
    }
}

fn invalid(why: &str) -> LogError {
    LogError::InvalidRecord { why: why.to_owned(), invalid_records: Vec::new(), code: KafkaErrorCode::InvalidRecord }
}
