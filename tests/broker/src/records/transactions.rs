//! What `__transaction_state` holds: for each transactional id the newest state of its transaction.
//!
//! Owns the bytes of `TransactionLogKey` and `TransactionLogValue`; knows nothing of what the states mean. A record without a
//! value says that the id is forgotten. All numbers are big-endian; v1 is "flexible": lengths are unsigned varints of one more
//! (0 is null), and fields that have their default are left out of the tagged ones.
//!
//! | key v0 | |
//! |---|---|
//! | i16 version, always 0 | string transactional id |
//!
//! | value | v0 | v1 |
//! |---|---|---|
//! | version | i16 | i16 |
//! | producer id, epoch, timeout in ms, status | i64 i16 i32 i8 | the same |
//! | partitions: topic, indexes | null in state Empty | the same, tagged fields behind each topic |
//! | last update, start, in ms | i64 i64, -1 is none | the same |
//! | tag 0: previous producer id | | i64, default -1 |
//! | tag 1: next producer id | | i64, default -1 |
//! | tag 2: the client's transaction version | | i16, default 0 |
//! | tag 3: next producer epoch | | i16, default -1; Kafka 4.3.0 knows it and never writes it |

use super::fields::{Encoding, FieldReader, FieldWriter, RecordError};
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

/// The newest version of the value, written since `transaction.version` 1.
pub(crate) const NEWEST_VALUE_VERSION: i16 = 1;

/// The only version of the key.
const KEY_VERSION: i16 = 0;
/// "No id", "no epoch" and "no time".
const NONE: i64 = -1;
/// Tags of the value.
const PREVIOUS_PRODUCER_ID_TAG: u32 = 0;
const NEXT_PRODUCER_ID_TAG: u32 = 1;
const CLIENT_VERSION_TAG: u32 = 2;
const NEXT_PRODUCER_EPOCH_TAG: u32 = 3;

/// Topics with the indexes of some of their partitions.
pub(crate) type TopicPartitions = Vec<(StrBytes, Vec<i32>)>;

/// The state of one transaction, as it is stored (`TransactionLogValue`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionLogValue {
    /// The producer id that the transactional id has.
    pub(crate) producer_id: i64,
    /// The one that it had before the state was entered.
    pub(crate) previous_producer_id: Option<i64>,
    /// The one that it gets when the transaction is complete, because there are no more epochs of the present one.
    pub(crate) next_producer_id: Option<i64>,
    /// The producer's epoch.
    pub(crate) producer_epoch: i16,
    /// Reserved by Kafka.
    pub(crate) next_producer_epoch: Option<i16>,
    /// How long a transaction may take, in ms.
    pub(crate) timeout_ms: i32,
    /// The state's number.
    pub(crate) status: i8,
    /// Topics and indexes of the partitions in the transaction, in the order of the record; `None` in state Empty.
    pub(crate) partitions: Option<TopicPartitions>,
    /// When the state was entered, in ms.
    pub(crate) last_update_ms: i64,
    /// When the transaction began, in ms.
    pub(crate) start_ms: Option<i64>,
    /// The version of the transaction protocol that the client speaks.
    pub(crate) client_transaction_version: i16,
}

/// The key of a transactional id.
pub(crate) fn encode_key(transactional_id: &str) -> Result<Vec<u8>, RecordError> {
    let mut writer = FieldWriter::new(KEY_VERSION, Encoding::Plain);
    writer.string(transactional_id);
    writer.finish()
}

/// The transactional id that a key names.
pub(crate) fn decode_key(bytes: Bytes) -> Result<StrBytes, RecordError> {
    let mut reader = FieldReader::new(bytes);
    match reader.i16()? {
        KEY_VERSION => reader.string(),
        version => Err(RecordError::UnknownVersion(version)),
    }
}

impl TransactionLogValue {
    /// The bytes of the value. Version 0 has no room for the tagged fields, and leaves them out.
    pub(crate) fn encode(&self, version: i16) -> Result<Vec<u8>, RecordError> {
        let mut writer = FieldWriter::new(version, encoding(version)?);
        writer.i64(self.producer_id).i16(self.producer_epoch).i32(self.timeout_ms).i8(self.status);
        writer.nullable_len(self.partitions.as_ref().map(Vec::len));
        for (topic, indexes) in self.partitions.iter().flatten() {
            writer.string(topic).len(indexes.len());
            for index in indexes {
                writer.i32(*index);
            }
            writer.tagged(&[]);
        }
        writer.i64(self.last_update_ms).i64(self.start_ms.unwrap_or(NONE));
        if version > 0 {
            self.put_tagged(&mut writer);
        }
        writer.finish()
    }

    fn put_tagged(&self, writer: &mut FieldWriter) {
        let client_version = Some(self.client_transaction_version).filter(|version| *version != 0);
        let fields = [
            (PREVIOUS_PRODUCER_ID_TAG, self.previous_producer_id.map(|id| id.to_be_bytes().to_vec())),
            (NEXT_PRODUCER_ID_TAG, self.next_producer_id.map(|id| id.to_be_bytes().to_vec())),
            (CLIENT_VERSION_TAG, client_version.map(|version| version.to_be_bytes().to_vec())),
            (NEXT_PRODUCER_EPOCH_TAG, self.next_producer_epoch.map(|epoch| epoch.to_be_bytes().to_vec())),
        ];
        let fields = fields.iter().filter_map(|(tag, field)| field.as_ref().map(|field| (*tag, field.as_slice())));
        writer.tagged(&fields.collect::<Vec<_>>());
    }

    /// The value that the bytes hold. Tagged fields that nobody knows yet are skipped.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let mut reader = FieldReader::new(bytes);
        reader.set_encoding(encoding(reader.clone().i16()?)?);
        reader.i16()?;
        let mut value = Self {
            producer_id: reader.i64()?,
            previous_producer_id: None,
            next_producer_id: None,
            producer_epoch: reader.i16()?,
            next_producer_epoch: None,
            timeout_ms: reader.i32()?,
            status: reader.i8()?,
            partitions: partitions(&mut reader)?,
            last_update_ms: reader.i64()?,
            start_ms: some(reader.i64()?),
            client_transaction_version: 0,
        };
        reader.tagged(|tag, field| value.take_tagged(tag, FieldReader::new(field)))?;
        Ok(value)
    }

    fn take_tagged(&mut self, tag: u32, mut field: FieldReader) -> Result<(), RecordError> {
        match tag {
            PREVIOUS_PRODUCER_ID_TAG => self.previous_producer_id = some(field.i64()?),
            NEXT_PRODUCER_ID_TAG => self.next_producer_id = some(field.i64()?),
            CLIENT_VERSION_TAG => self.client_transaction_version = field.i16()?,
            NEXT_PRODUCER_EPOCH_TAG => self.next_producer_epoch = Some(field.i16()?).filter(|epoch| *epoch >= 0),
            _ => {}
        }
        Ok(())
    }
}

fn encoding(version: i16) -> Result<Encoding, RecordError> {
    match version {
        0 => Ok(Encoding::Plain),
        NEWEST_VALUE_VERSION => Ok(Encoding::Compact),
        _ => Err(RecordError::UnknownVersion(version)),
    }
}

fn some(stored: i64) -> Option<i64> {
    (stored != NONE).then_some(stored)
}

fn partitions(reader: &mut FieldReader) -> Result<Option<TopicPartitions>, RecordError> {
    let Some(topics) = reader.nullable_len()? else {
        return Ok(None);
    };
    // Both grow as the bytes come, so that a number that lies costs nothing.
    let mut partitions = Vec::new();
    for _ in 0..topics {
        let topic = reader.string()?;
        let indexes = (0..reader.len()?).map(|_| reader.i32()).collect::<Result<_, _>>()?;
        reader.tagged(|_, _| Ok(()))?;
        partitions.push((topic, indexes));
    }
    Ok(Some(partitions))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use duramen::format::batch::Batches;

    /// Keys and values of the partition that Kafka 4.3.0 left behind.
    fn golden() -> Vec<(Bytes, Bytes)> {
        let log = "golden/internals/dir/__transaction_state-0/00000000000000000000.log";
        let bytes = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(log)).unwrap();
        let mut scratch = Vec::new();
        let mut records = Vec::new();
        for batch in Batches::new(&bytes) {
            for record in batch.unwrap().records(&mut scratch, 0).unwrap() {
                let record = record.unwrap();
                let field = |field: Option<&[u8]>| Bytes::copy_from_slice(field.unwrap());
                records.push((field(record.key()), field(record.value())));
            }
        }
        records
    }

    fn value() -> TransactionLogValue {
        TransactionLogValue {
            producer_id: 4001,
            previous_producer_id: Some(4000),
            next_producer_id: Some(4002),
            producer_epoch: 7,
            next_producer_epoch: Some(0),
            timeout_ms: 60_000,
            status: 2,
            partitions: Some(vec![("orders".into(), vec![0, 2]), ("__consumer_offsets".into(), vec![17])]),
            last_update_ms: 1_700_000_000_010,
            start_ms: Some(1_700_000_000_000),
            client_transaction_version: 2,
        }
    }

    #[test]
    fn records_of_kafka_encode_to_the_bytes_that_they_were_read_from() {
        let records = golden();
        assert_eq!(records.len(), 40);
        for (key, bytes) in &records {
            let id = decode_key(key.clone()).unwrap();
            assert_eq!(&encode_key(&id).unwrap(), key);
            let value = TransactionLogValue::decode(bytes.clone()).unwrap();
            assert_eq!(&value.encode(NEWEST_VALUE_VERSION).unwrap(), bytes);
        }
        let open = TransactionLogValue::decode(records[39].1.clone()).unwrap();
        assert_eq!(decode_key(records[39].0.clone()).unwrap().as_str(), "java-open");
        assert_eq!(open.partitions, Some(vec![("transactions-of-clients".into(), vec![0])]));
        assert_eq!((open.status, open.timeout_ms, open.client_transaction_version), (1, 600_000, 2));
        assert_eq!((open.previous_producer_id, open.next_producer_id), (Some(2), None));
    }

    #[test]
    fn every_field_survives_version_1_and_the_old_ones_survive_version_0() {
        let full = value();
        assert_eq!(TransactionLogValue::decode(full.encode(1).unwrap().into()), Ok(full.clone()));
        let old = TransactionLogValue {
            previous_producer_id: None,
            next_producer_id: None,
            next_producer_epoch: None,
            client_transaction_version: 0,
            ..full.clone()
        };
        assert_eq!(TransactionLogValue::decode(full.encode(0).unwrap().into()), Ok(old));
        for version in [0, 1] {
            let empty = TransactionLogValue { partitions: None, start_ms: None, ..full.clone() };
            let decoded = TransactionLogValue::decode(empty.encode(version).unwrap().into()).unwrap();
            assert_eq!((decoded.partitions, decoded.start_ms), (None, None));
        }
        assert!(full.encode(2).is_err());
    }

    #[test]
    fn record_that_ends_early_is_refused_wherever_it_ends() {
        for version in [0, 1] {
            let bytes = value().encode(version).unwrap();
            for len in 0..bytes.len() {
                assert!(
                    TransactionLogValue::decode(bytes[..len].to_vec().into()).is_err(),
                    "version {version}, {len} bytes"
                );
            }
        }
        let key = encode_key("id").unwrap();
        assert!((0..key.len()).all(|len| decode_key(key[..len].to_vec().into()).is_err()));
    }

    #[test]
    fn version_that_nobody_has_is_refused() {
        assert_eq!(decode_key(Bytes::from_static(&[0, 9, 0, 1, b'a'])), Err(RecordError::UnknownVersion(9)));
        assert_eq!(TransactionLogValue::decode(Bytes::from_static(&[0, 9])), Err(RecordError::UnknownVersion(9)));
    }

    #[test]
    fn tagged_field_that_nobody_knows_is_skipped() {
        let mut bytes = TransactionLogValue { next_producer_epoch: None, ..value() }.encode(1).unwrap();
        let count = bytes.len() - (2 + 8) - (2 + 8) - (2 + 2) - 1;
        assert_eq!(bytes[count], 3);
        bytes[count] = 4;
        bytes.extend([9, 2, 0xde, 0xad]);
        let decoded = TransactionLogValue::decode(bytes.into()).unwrap();
        assert_eq!(decoded, TransactionLogValue { next_producer_epoch: None, ..value() });
    }

    #[test]
    fn counts_that_lie_neither_panic_nor_cost_memory() {
        let bytes = value().encode(1).unwrap();
        for at in 0..bytes.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut harmed = bytes.clone();
                harmed[at] = byte;
                // Whatever it says: no panic, and no memory for what is not there.
                let decoded = TransactionLogValue::decode(harmed.into());
                assert!(decoded.is_err() || decoded.is_ok());
            }
        }
        let mut endless = bytes[..17].to_vec();
        endless.extend([0xff; 6]);
        assert!(TransactionLogValue::decode(endless.into()).is_err());
        assert!(encode_key(&"x".repeat(32_768)).is_err());
    }
}
