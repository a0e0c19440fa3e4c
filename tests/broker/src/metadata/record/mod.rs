//! The records of `__cluster_metadata`, as values.
//!
//! Owns: the frame in front of each, and the schemas of those that say something about topics, configurations, this node and
//! producer ids. Knows nothing of offsets and of what a record does. Others are kept as bytes. Keeps: what decodes encodes to
//! the same bytes in the same version, but for tagged fields that are not known here.

mod broker;
mod partition;

pub(super) use broker::{BrokerRegistrationChange, Endpoint, RegisterBroker};
pub(super) use partition::{PartitionChange, PartitionRecord};

use super::flexible::{Malformed, Reader, Writer};
use duramen::format::uuid::Uuid;

/// The version of the frame (`AbstractApiMessageSerde`): frame version, key and version, then the message.
const FRAME_VERSION: u32 = 1;

/// The metadata version from which on a partition has eligible leader replicas (`MetadataVersion.IBP_4_0_IV1`).
const ELIGIBLE_LEADER_REPLICAS: i16 = 23;

/// `ConfigResource.Type` of a topic's configuration.
pub(super) const TOPIC_RESOURCE: i8 = 2;
/// `ConfigResource.Type` of a broker's, or of all brokers' under the empty name.
pub(super) const BROKER_RESOURCE: i8 = 4;

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// The bytes do not follow the record's schema.
    #[error("{record} is malformed: {source}")]
    Malformed {
        /// The record's name.
        record: &'static str,
        /// What is wrong.
        source: Malformed,
    },
    /// A record that matters, in a version that is not known here.
    #[error("{record} has version {version}, and versions up to {known} are known")]
    UnsupportedVersion {
        /// The record's name.
        record: &'static str,
        /// Its version.
        version: u32,
        /// The highest known.
        known: u32,
    },
}

/// One record of the metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    RegisterBroker(RegisterBroker),
    Topic {
        name: String,
        topic_id: Uuid,
    },
    Partition(PartitionRecord),
    Config {
        resource_type: i8,
        resource_name: String,
        name: String,
        value: Option<String>,
    },
    PartitionChange(PartitionChange),
    RemoveTopic {
        topic_id: Uuid,
    },
    FeatureLevel {
        name: String,
        level: i16,
    },
    ProducerIds {
        broker_id: i32,
        broker_epoch: i64,
        next_producer_id: i64,
    },
    BrokerRegistrationChange(BrokerRegistrationChange),
    NoOp,
    BeginTransaction {
        name: Option<String>,
    },
    EndTransaction,
    AbortTransaction {
        reason: Option<String>,
    },
    /// One that says nothing of what is kept here, as it came: quotas, credentials, tokens, controllers.
    Other {
        key: u32,
        bytes: Vec<u8>,
    },
}

/// The kinds that are read: key, name, highest version.
const KNOWN: [(u32, &str, u32); 13] = [
    (0, "RegisterBrokerRecord", 4),
    (2, "TopicRecord", 0),
    (3, "PartitionRecord", 2),
    (4, "ConfigRecord", 0),
    (5, "PartitionChangeRecord", 2),
    (9, "RemoveTopicRecord", 0),
    (12, "FeatureLevelRecord", 0),
    (15, "ProducerIdsRecord", 0),
    (17, "BrokerRegistrationChangeRecord", 3),
    (20, "NoOpRecord", 0),
    (23, "BeginTransactionRecord", 0),
    (24, "EndTransactionRecord", 0),
    (25, "AbortTransactionRecord", 0),
];

impl Record {
    /// Reads the value of a record of the log; also the version in which it was written.
    ///
    /// # Errors
    /// [`RecordError`]: an unknown version of a known record, bytes that are none, or bytes behind it. A record of an unknown
    /// key is no error.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, u32), RecordError> {
        let mut reader = Reader::new(bytes);
        let (frame_version, key, version) =
            frame(&mut reader).map_err(|source| RecordError::Malformed { record: "a record's frame", source })?;
        if frame_version != FRAME_VERSION {
            let record = "a record's frame";
            return Err(RecordError::UnsupportedVersion { record, version: frame_version, known: FRAME_VERSION });
        }
        let Some((_, record, known)) = KNOWN.into_iter().find(|known| known.0 == key) else {
            return Ok((Self::Other { key, bytes: bytes.to_vec() }, version));
        };
        if version > known {
            return Err(RecordError::UnsupportedVersion { record, version, known });
        }
        let decoded = Self::read(&mut reader, key, version);
        let whole = decoded.and_then(|decoded| match reader.is_at_end() {
            true => Ok(decoded),
            false => Err(Malformed("there are bytes behind it")),
        });
        Ok((whole.map_err(|source| RecordError::Malformed { record, source })?, version))
    }

    /// The name of the record, for messages.
    pub(super) fn name(&self) -> &'static str {
        KNOWN.into_iter().find(|known| known.0 == self.key()).map_or("another record", |known| known.1)
    }

    /// The message of a known key.
    fn read(r: &mut Reader<'_>, key: u32, version: u32) -> Result<Self, Malformed> {
        let record = match key {
            0 => return Ok(Self::RegisterBroker(RegisterBroker::read(r, version)?)),
            3 => return Ok(Self::Partition(PartitionRecord::read(r, version)?)),
            5 => return Ok(Self::PartitionChange(PartitionChange::read(r)?)),
            17 => return Ok(Self::BrokerRegistrationChange(BrokerRegistrationChange::read(r)?)),
            23 => return Ok(Self::BeginTransaction { name: one_text(r)? }),
            25 => return Ok(Self::AbortTransaction { reason: one_text(r)? }),
            2 => Self::Topic { name: r.string()?, topic_id: r.uuid()? },
            4 => Self::Config {
                resource_type: r.i8()?,
                resource_name: r.string()?,
                name: r.string()?,
                value: r.nullable_string()?,
            },
            9 => Self::RemoveTopic { topic_id: r.uuid()? },
            12 => Self::FeatureLevel { name: r.string()?, level: r.i16()? },
            15 => Self::ProducerIds { broker_id: r.i32()?, broker_epoch: r.i64()?, next_producer_id: r.i64()? },
            20 => Self::NoOp,
            _ => Self::EndTransaction,
        };
        r.no_tagged()?;
        Ok(record)
    }

    fn key(&self) -> u32 {
        match self {
            Self::RegisterBroker(_) => 0,
            Self::Topic { .. } => 2,
            Self::Partition(_) => 3,
            Self::Config { .. } => 4,
            Self::PartitionChange(_) => 5,
            Self::RemoveTopic { .. } => 9,
            Self::FeatureLevel { .. } => 12,
            Self::ProducerIds { .. } => 15,
            Self::BrokerRegistrationChange(_) => 17,
            Self::NoOp => 20,
            Self::BeginTransaction { .. } => 23,
            Self::EndTransaction => 24,
            Self::AbortTransaction { .. } => 25,
            Self::Other { key, .. } => *key,
        }
    }

    /// The version in which a cluster of this metadata version has the record (`MetadataVersion.partitionRecordVersion` and
    /// its like), for those that are written here. The oldest cluster that is opened is of 3.7-IV2, from which on partitions
    /// have directories.
    pub(super) fn version_for(&self, metadata_version: i16) -> u32 {
        match self {
            Self::Partition(_) | Self::PartitionChange(_) if metadata_version < ELIGIBLE_LEADER_REPLICAS => 1,
            Self::Partition(_) | Self::PartitionChange(_) => 2,
            Self::RegisterBroker(_) => 3,
            _ => 0,
        }
    }

    /// The value of a record of the log.
    pub(super) fn encode(&self, version: u32) -> Vec<u8> {
        if let Self::Other { bytes, .. } = self {
            return bytes.clone();
        }
        Writer::field(|w| {
            w.unsigned(FRAME_VERSION);
            w.unsigned(self.key());
            w.unsigned(version);
            self.write(w, version);
        })
    }

    fn write(&self, w: &mut Writer, version: u32) {
        match self {
            Self::RegisterBroker(record) => return record.write(w, version),
            Self::Partition(record) => return record.write(w, version),
            Self::PartitionChange(record) => return record.write(w, version),
            Self::BrokerRegistrationChange(record) => return record.write(w, version),
            Self::BeginTransaction { name: text } | Self::AbortTransaction { reason: text } => {
                return w.tagged([(0, text.as_ref().map(|text| Writer::field(|w| w.string(text))))]);
            }
            Self::Topic { name, topic_id } => {
                w.string(name);
                w.uuid(*topic_id);
            }
            Self::Config { resource_type, resource_name, name, value } => {
                w.i8(*resource_type);
                w.string(resource_name);
                w.string(name);
                w.nullable_string(value.as_deref());
            }
            Self::RemoveTopic { topic_id } => w.uuid(*topic_id),
            Self::FeatureLevel { name, level } => {
                w.string(name);
                w.i16(*level);
            }
            Self::ProducerIds { broker_id, broker_epoch, next_producer_id } => {
                w.i32(*broker_id);
                w.i64(*broker_epoch);
                w.i64(*next_producer_id);
            }
            Self::NoOp | Self::EndTransaction | Self::Other { .. } => {}
        }
        w.tagged([]);
    }
}

fn frame(reader: &mut Reader<'_>) -> Result<(u32, u32, u32), Malformed> {
    Ok((reader.unsigned()?, reader.unsigned()?, reader.unsigned()?))
}

/// The one tagged field of a record that has nothing else.
fn one_text(r: &mut Reader<'_>) -> Result<Option<String>, Malformed> {
    let mut text = None;
    r.tagged(|tag, field| {
        if tag == 0 {
            text = field.nullable_string()?;
        }
        Ok(())
    })?;
    Ok(text)
}

fn ids(ids: &[i32]) -> Vec<u8> {
    Writer::field(|w| w.array(ids, |w, id| w.i32(*id)))
}

fn uuids(ids: &[Uuid]) -> Vec<u8> {
    Writer::field(|w| w.array(ids, |w, id| w.uuid(*id)))
}

fn number(value: i8) -> Vec<u8> {
    Writer::field(|w| w.i8(value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Bytes of hexadecimal digits.
    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
    }

    #[test]
    fn record_of_kafka_is_read_and_written() {
        // From a bootstrap.checkpoint of Kafka 4.3.0.
        let bytes = unhex("01 0c 00 11 6d657461646174612e76657273696f6e 001e 00");
        let (record, version) = Record::decode(&bytes).unwrap();
        assert_eq!(record, Record::FeatureLevel { name: "metadata.version".to_owned(), level: 30 });
        assert_eq!(record.encode(version), bytes);
    }

    #[test]
    fn every_kind_comes_back_in_every_version_that_has_all_its_fields() {
        let id = Uuid::from_bytes([7; 16]);
        let endpoint =
            Endpoint { name: "PLAINTEXT".to_owned(), host: "h".to_owned(), port: 65_535, security_protocol: 3 };
        let registration = RegisterBroker {
            broker_id: 3,
            is_migrating_zk_broker: true,
            incarnation_id: id,
            broker_epoch: 12,
            endpoints: vec![endpoint],
            features: vec![("metadata.version".to_owned(), 17, 30)],
            rack: Some("r".to_owned()),
            fenced: true,
            in_controlled_shutdown: true,
            log_dirs: vec![id],
            cordoned_log_dirs: Some(vec![]),
        };
        let partition = PartitionRecord {
            partition_id: 5,
            topic_id: id,
            replicas: vec![3],
            isr: vec![3],
            removing_replicas: vec![4],
            adding_replicas: vec![5, 6],
            leader: -1,
            leader_recovery_state: 1,
            leader_epoch: 2,
            partition_epoch: 300,
            directories: vec![id],
            eligible_leader_replicas: Some(vec![3]),
            last_known_elr: Some(vec![]),
        };
        let change = PartitionChange {
            partition_id: 5,
            topic_id: id,
            isr: Some(vec![]),
            leader: Some(-1),
            replicas: Some(vec![1, 2]),
            removing_replicas: Some(vec![2]),
            adding_replicas: Some(vec![1]),
            leader_recovery_state: Some(0),
            directories: Some(vec![id]),
            eligible_leader_replicas: Some(vec![3]),
            last_known_elr: Some(vec![3]),
        };
        let of_broker = BrokerRegistrationChange {
            broker_id: 3,
            broker_epoch: 8,
            fenced: -1,
            in_controlled_shutdown: 1,
            log_dirs: vec![id],
            cordoned_log_dirs: Some(vec![id]),
        };
        let records = [
            (Record::RegisterBroker(registration), 4),
            (Record::Partition(partition), 2),
            (Record::PartitionChange(change), 2),
            (Record::BrokerRegistrationChange(of_broker), 3),
            (Record::RemoveTopic { topic_id: id }, 0),
            (Record::AbortTransaction { reason: Some("why".to_owned()) }, 0),
            (Record::BeginTransaction { name: None }, 0),
            (Record::NoOp, 0),
        ];
        for (record, version) in records {
            assert_eq!(Record::decode(&record.encode(version)).unwrap(), (record, version));
        }
    }

    #[test]
    fn older_clusters_get_older_versions() {
        let change = PartitionChange { eligible_leader_replicas: Some(vec![1]), ..PartitionChange::default() };
        let record = Record::PartitionChange(change);
        let (read, version) = Record::decode(&record.encode(record.version_for(22))).unwrap();
        assert_eq!((read, version), (Record::PartitionChange(PartitionChange::default()), 1));
    }

    #[test]
    fn unknown_version_of_a_known_record_is_refused_and_an_unknown_key_is_not() {
        let error = Record::decode(&unhex("01 03 03 00")).unwrap_err();
        assert_eq!(error, RecordError::UnsupportedVersion { record: "PartitionRecord", version: 3, known: 2 });
        assert!(matches!(Record::decode(&unhex("02 03 00 00")), Err(RecordError::UnsupportedVersion { .. })));
        let other = unhex("01 63 09 ffff");
        let (record, version) = Record::decode(&other).unwrap();
        assert_eq!((record.encode(version), version), (other, 9));
    }

    #[test]
    fn damaged_records_are_refused() {
        let whole = Record::Topic { name: "orders".to_owned(), topic_id: Uuid::from_bytes([1; 16]) }.encode(0);
        for len in 0..whole.len() {
            assert!(Record::decode(&whole[..len]).is_err(), "{len} bytes");
        }
        let mut longer = whole;
        longer.push(0);
        assert!(matches!(Record::decode(&longer), Err(RecordError::Malformed { record: "TopicRecord", .. })));
    }
}
