//! From what a producer sent for a partition to a batch that may be appended there: all checks that need no lock.

use super::{Broker, Refusal, RequestContext, Topic};
use crate::{
    protocol::{PartitionData, TopicData, TopicKey},
    topics::{Hosted, is_internal},
};
use bytes::Bytes;
use duramen::{
    KafkaErrorCode, ValidatedBatch, ValidationPolicy, VerificationGuard,
    format::{
        batch::{BatchHeader, HEADER_SIZE},
        compression::Codec,
        uuid::Uuid,
    },
    validate,
};
use kafka_protocol::ResponseError;
use std::sync::Arc;

/// The one client that may write to Kafka's own topics (`AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT: &str = "__admin_client";
/// The first version whose clients may compress with zstd.
const FIRST_WITH_ZSTD: i16 = 7;
/// A batch of more bytes is checked where the thread may be kept: the checksum alone takes tens of microseconds.
const QUICK_BYTES: usize = 64 << 10;

/// A batch that passed every check, and where it goes.
pub(super) struct Prepared {
    pub(super) hosted: Arc<Hosted>,
    pub(super) batch: ValidatedBatch,
    /// Proof that its transaction's coordinator knows of it, where the log asks for one.
    pub(super) guard: Option<VerificationGuard>,
}

/// What the checks of one request go by.
pub(super) struct Preparation<'a> {
    pub(super) broker: &'a Broker,
    pub(super) context: &'a RequestContext,
    pub(super) acks: i16,
    pub(super) now_ms: i64,
}

impl Preparation<'_> {
    /// Checks the batches of a topic.
    pub(super) fn topic(&self, topic: TopicData) -> Topic<Prepared> {
        let name = self.name_of(&topic.topic);
        let part = |PartitionData { index, records }| {
            let prepared = match &name {
                Ok(name) => self.partition(name, &topic.topic, index, records),
                Err(code) => Err(Refusal::from(*code)),
            };
            (index, prepared)
        };
        let parts = topic.partitions.into_iter().map(part).collect();
        Topic { key: topic.topic, parts }
    }

    fn name_of(&self, key: &TopicKey) -> Result<Arc<str>, KafkaErrorCode> {
        match key {
            TopicKey::Name(name) => Ok(name.as_str().into()),
            TopicKey::Id(id) => {
                let name = self.broker.topics.name_of(Uuid::from_bytes(*id));
                name.ok_or(KafkaErrorCode::UnknownTopicId)
            }
        }
    }

    fn partition(&self, name: &str, key: &TopicKey, index: i32, records: Option<Bytes>) -> Result<Prepared, Refusal> {
        if !(-1..=1).contains(&self.acks) {
            return Err(Refusal::from(KafkaErrorCode::InvalidRequiredAcks));
        }
        if is_internal(name) && self.context.client_id != ADMIN_CLIENT {
            return Err(Refusal::new(KafkaErrorCode::InvalidTopic, format!("Cannot append to internal topic {name}")));
        }
        let hosted = self.broker.topics.partition(name, index)?;
        if matches!(key, TopicKey::Id(id) if hosted.topic_id.bytes() != *id) {
            // It was deleted and made again since its name was looked up.
            return Err(Refusal::from(KafkaErrorCode::UnknownTopicId));
        }
        if self.acks == -1 && hosted.config.min_insync_replicas > 1 {
            return Err(Refusal::from(KafkaErrorCode::NotEnoughReplicas));
        }
        let records = records.unwrap_or_default();
        let codec = codec_of(&records);
        if codec == Some(Codec::Zstd) && self.context.version < FIRST_WITH_ZSTD {
            return Err(Refusal::from(KafkaErrorCode::UnsupportedCompressionType));
        }
        let policy = ValidationPolicy::from_config(&hosted.config);
        // Offsets are written into the bytes, and those of the request are shared with the names in it.
        let check = || validate(records.to_vec(), &policy, self.now_ms);
        let is_quick = records.len() <= QUICK_BYTES && codec.is_none_or(|codec| codec == Codec::None);
        let batch = if is_quick { check() } else { tokio::task::block_in_place(check) };
        Ok(Prepared { hosted, batch: batch?, guard: None })
    }
}

/// The codec of a batch, as far as one can be told.
fn codec_of(records: &[u8]) -> Option<Codec> {
    let header = records.get(..HEADER_SIZE)?;
    BatchHeader::decode(header).ok()?.attributes().codec().ok()
}

/// The error of transactions of several producers in one request.
pub(super) fn mixed_producers() -> Refusal {
    let code = ResponseError::InvalidProducerIdMapping.code();
    Refusal::with_code(code, Some("Transactional records contained more than one producer ID".to_owned()))
}
