//! Floor 2: one partition of an internal topic: records are appended to it, and all of them are read back.
//!
//! Knows nothing of what the records say. Keeps: records have the order in which they were appended; who waits for an append
//! hears only once it is as durable as the broker's acknowledgements are.

use duramen::{
    AppendAsLeader, AppendOrigin, Durability, Isolation, KafkaErrorCode, LeaderEpoch, LogConfig, LogError, Offset,
    Partition, PartitionError, ProducerEpoch, ProducerId, Ticket, Timestamp, ValidationPolicy, VerificationGuard,
    format::{batch::Batch, builder::BatchBuilder, control::EndTxnMarker},
    validate,
};
use std::sync::Arc;

/// Bytes that a batch may decompress to; other brokers may have written compressed ones.
const DECOMPRESSED_BYTES: u64 = 128 << 20;

/// One partition of an internal topic, of which this broker is the only writer.
#[derive(Debug)]
pub(crate) struct InternalLog {
    partition: Arc<Partition>,
    policy: ValidationPolicy,
    durability: Durability,
    leader_epoch: LeaderEpoch,
}

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// What it is about.
    pub(crate) key: Vec<u8>,
    /// What holds from now on; `None` is a tombstone: nothing does.
    pub(crate) value: Option<Vec<u8>>,
}

/// The transaction that records are appended in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InTransaction {
    /// Whose transaction it is.
    pub(crate) producer_id: ProducerId,
    /// The producer's epoch.
    pub(crate) producer_epoch: ProducerEpoch,
    /// Proves that the partition belongs to it; `None` where it is open there already.
    pub(crate) guard: Option<VerificationGuard>,
}

/// A record that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed<'a> {
    /// Its offset.
    pub(crate) offset: Offset,
    /// Whose transaction it belongs to, or ends.
    pub(crate) producer: Option<(ProducerId, ProducerEpoch)>,
    /// What it is.
    pub(crate) content: Content<'a>,
}

/// What a [`Replayed`] record is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    /// A record with a key; `None` as a value is a tombstone.
    Keyed(&'a [u8], Option<&'a [u8]>),
    /// The end of a transaction.
    Marker(EndTxnMarker),
}

/// An append that was made: it can be read, and is on its way to the disk.
#[derive(Debug)]
#[must_use = "nobody hears whether it became durable"]
pub(crate) struct Appended {
    /// The offset of its first record.
    pub(crate) base_offset: Offset,
    ticket: Ticket,
}

impl Appended {
    /// Waits until it is as durable as was asked for.
    pub(crate) async fn durable(self) -> Result<(), KafkaErrorCode> {
        self.ticket.await.map_err(|error| error.kafka_error_code())
    }
}

impl InternalLog {
    /// `leader_epoch` is this broker's, with which it writes.
    pub(crate) fn new(
        partition: Arc<Partition>,
        config: &LogConfig,
        durability: Durability,
        leader_epoch: LeaderEpoch,
    ) -> Self {
        let policy = ValidationPolicy::from_config(config).with_origin(AppendOrigin::Coordinator);
        Self { partition, policy, durability, leader_epoch }
    }

    /// The number of the partition.
    pub(crate) fn partition(&self) -> i32 {
        self.partition.name().partition()
    }

    /// Appends these records as one batch and waits until they are as durable as was asked for. No records, nothing done.
    pub(crate) async fn append(&self, records: &[Keyed], now_ms: Timestamp) -> Result<(), KafkaErrorCode> {
        match self.begin(records, None, now_ms)? {
            Some(appended) => appended.durable().await,
            None => Ok(()),
        }
    }

    /// Appends these records as one batch, and leaves waiting to the caller, who may hold a lock that gives records their
    /// order. Blocks only while the log directory has as much on its way to the disk as it may have. `None` without records.
    pub(crate) fn begin(
        &self,
        records: &[Keyed],
        transaction: Option<InTransaction>,
        now_ms: Timestamp,
    ) -> Result<Option<Appended>, KafkaErrorCode> {
        if records.is_empty() {
            return Ok(None);
        }
        let bytes = batch_of(records, transaction, now_ms).map_err(|error| error.kafka_error_code())?;
        let batch = validate(bytes, &self.policy, now_ms).map_err(|error| error.kafka_error_code())?;
        let guard = transaction.and_then(|transaction| transaction.guard);
        let append = AppendAsLeader::new(self.leader_epoch, now_ms).with_guard(guard);
        let appended = self.partition.append_as_leader(batch, append, self.durability);
        let appended = appended.map_err(|error: PartitionError| error.kafka_error_code())?;
        Ok(Some(Appended { base_offset: appended.info.first_offset, ticket: appended.into_ticket() }))
    }

    /// Everything that was appended before this call being as durable as acknowledgements are: what a reader is told after
    /// that cannot be taken back by a crash. `None` if it is now.
    pub(crate) fn settled(&self) -> Result<Option<Ticket>, KafkaErrorCode> {
        let is_settled = match self.durability {
            Durability::Written => true,
            Durability::Flushed => self.partition.flushed() >= self.partition.offsets().log_end,
        };
        if is_settled {
            return Ok(None);
        }
        self.partition.flush().map(Some).map_err(|error| error.kafka_error_code())
    }

    /// Gives every record from the log start on to `each`, in order, and the markers that end transactions.
    ///
    /// # Errors
    /// What reading fails with, or a batch that cannot be read.
    pub(crate) fn replay(&self, mut each: impl FnMut(Replayed<'_>)) -> Result<(), LogError> {
        let log_start = self.partition.offsets().log_start;
        let mut scratch = Vec::new();
        let replayed = self
            .partition
            .reader()
            .for_each_batch(log_start, Isolation::LogEnd, |batch| replay_batch(batch, &mut scratch, &mut each));
        replayed.map(|_| ())
    }
}

/// A coordinator's records carry no producer unless they belong to a transaction. Like Kafka's their sequence is always 0: it
/// is not looked at.
fn batch_of(
    records: &[Keyed],
    transaction: Option<InTransaction>,
    now_ms: Timestamp,
) -> Result<Vec<u8>, duramen::format::FormatError> {
    let mut builder = BatchBuilder::new();
    if let Some(InTransaction { producer_id, producer_epoch, .. }) = transaction {
        builder = builder.producer(producer_id, producer_epoch, 0).transactional();
    }
    for Keyed { key, value } in records {
        builder = builder.record(now_ms, Some(key), value.as_deref());
    }
    builder.build()
}

fn replay_batch(batch: &Batch<'_>, scratch: &mut Vec<u8>, each: &mut impl FnMut(Replayed<'_>)) -> Result<(), LogError> {
    let attributes = batch.header().attributes();
    let identity = batch.header().producer().filter(|_| attributes.is_transactional());
    let producer = identity.map(|identity| (identity.id, identity.epoch));
    for record in batch.records(scratch, DECOMPRESSED_BYTES)? {
        let record = record?;
        let content = if attributes.is_control() {
            EndTxnMarker::decode(&record)?.map(Content::Marker)
        } else {
            record.key().map(|key| Content::Keyed(key, record.value()))
        };
        if let Some(content) = content {
            each(Replayed { offset: record.offset(), producer, content });
        }
    }
    Ok(())
}
