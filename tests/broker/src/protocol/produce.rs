//! A produce request, read by hand: the only one that may be large, so room is made for what it holds and for nothing that it
//! says it holds; and the records stay where they were received.
//!
//! Follows `ProduceRequest.json`, versions 3 to 13.

use super::{Malformed, reader::Reader};
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

/// The first version with compact lengths and tagged fields.
const FIRST_FLEXIBLE: i16 = 9;
/// The first version that names topics by their ids.
const FIRST_WITH_IDS: i16 = 13;
/// Most topics, and most partitions, of a request. A topic without partitions takes eight bytes on the wire and ten times that
/// here.
const MAX_ELEMENTS: usize = 1 << 17;

/// What a producer wants to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Produce {
    pub(crate) transactional_id: Option<StrBytes>,
    /// How many replicas have to have it: none, the leader, or (-1) all in sync.
    pub(crate) acks: i16,
    /// How long to wait for that, in ms.
    pub(crate) timeout_ms: i32,
    pub(crate) topics: Vec<TopicData>,
}

/// The part of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicData {
    pub(crate) topic: TopicKey,
    pub(crate) partitions: Vec<PartitionData>,
}

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicKey {
    /// By its name.
    Name(StrBytes),
    /// By its id, most significant byte first.
    Id([u8; 16]),
}

/// The part of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionData {
    pub(crate) index: i32,
    pub(crate) records: Option<Bytes>,
}

impl Produce {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`Malformed`] when it is no request of that version.
    pub(crate) fn decode(bytes: Bytes, version: i16) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, version >= FIRST_FLEXIBLE).with_max_elements(MAX_ELEMENTS);
        let transactional_id = reader.nullable_text()?;
        let (acks, timeout_ms) = (reader.i16()?, reader.i32()?);
        let topics = reader.array(|reader| topic(reader, version >= FIRST_WITH_IDS))?;
        reader.end()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

fn topic(reader: &mut Reader, has_id: bool) -> Result<TopicData, Malformed> {
    let topic = if has_id { TopicKey::Id(reader.id()?) } else { TopicKey::Name(reader.text()?) };
    let partitions = reader.array(partition)?;
    reader.end()?;
    Ok(TopicData { topic, partitions })
}

fn partition(reader: &mut Reader) -> Result<PartitionData, Malformed> {
    let (index, records) = (reader.i32()?, reader.nullable_bytes()?);
    reader.end()?;
    Ok(PartitionData { index, records })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{
            ProduceRequest, TopicName, TransactionalId,
            produce_request::{PartitionProduceData, TopicProduceData},
        },
        protocol::Encodable,
    };

    const NAME: &str = "orders";

    fn theirs(version: i16) -> Bytes {
        let partition = |index, records: Option<&'static [u8]>| {
            PartitionProduceData::default().with_index(index).with_records(records.map(Bytes::from_static))
        };
        let partitions = vec![partition(0, Some(b"batch")), partition(7, None), partition(3, Some(b""))];
        let named = TopicProduceData::default().with_partition_data(partitions);
        let topic =
            if version < FIRST_WITH_IDS { named.with_name(TopicName(StrBytes::from_static_str(NAME))) } else { named };
        let request = ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("me"))))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    #[test]
    fn every_version_reads_as_it_was_written() {
        for version in 3..=13 {
            let request = Produce::decode(theirs(version), version).unwrap();
            assert_eq!(request.transactional_id.as_deref(), Some("me"));
            assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
            let topic = match version {
                13 => TopicKey::Id([0; 16]),
                _ => TopicKey::Name(StrBytes::from_static_str(NAME)),
            };
            let partition = |index, records: Option<&'static [u8]>| PartitionData {
                index,
                records: records.map(Bytes::from_static),
            };
            let partitions = vec![partition(0, Some(b"batch")), partition(7, None), partition(3, Some(b""))];
            assert_eq!(request.topics, [TopicData { topic, partitions }], "version {version}");
        }
    }

    #[test]
    fn records_are_not_copied() {
        let bytes = theirs(9);
        let request = Produce::decode(bytes.clone(), 9).unwrap();
        let records = request.topics[0].partitions[0].records.clone().unwrap();
        assert!(bytes.as_ptr_range().contains(&records.as_ptr()));
    }

    #[test]
    fn every_truncation_is_an_error() {
        for version in [3, 9, 13] {
            let whole = theirs(version);
            for len in 0..whole.len() {
                assert!(Produce::decode(whole.slice(..len), version).is_err(), "version {version}, {len} bytes");
            }
        }
    }

    #[test]
    fn lying_counts_and_too_many_elements_are_errors() {
        let begin = [0xff, 0xff, 0, 1, 0, 0, 0, 0];
        let lying = [&begin[..], &i32::MAX.to_be_bytes(), &[0; 40]].concat();
        assert!(Produce::decode(lying.into(), 3).is_err());
        let count = i32::try_from(MAX_ELEMENTS).unwrap();
        let topics = |count: i32| {
            let mut bytes = [&begin[..], &count.to_be_bytes()].concat();
            bytes.resize(bytes.len() + 6 * usize::try_from(count).unwrap(), 0);
            Bytes::from(bytes)
        };
        assert_eq!(Produce::decode(topics(count), 3).unwrap().topics.len(), MAX_ELEMENTS);
        assert!(Produce::decode(topics(count + 1), 3).is_err());
    }

    #[test]
    fn every_damage_is_an_error_or_another_request() {
        for version in [3, 9, 13] {
            let whole = theirs(version);
            for at in 0..whole.len() {
                for value in 0..=u8::MAX {
                    let mut damaged = whole.to_vec();
                    damaged[at] = value;
                    drop(Produce::decode(damaged.into(), version));
                }
            }
        }
    }
}
