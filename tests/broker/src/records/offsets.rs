//! The records of `__consumer_offsets`: committed offsets, and what a group of the classic protocol is.
//!
//! Knows nothing of groups at work. Keeps: what is written is read back as it was; keys are the bytes that Kafka gives them,
//! for compaction compares bytes. Schemas: `OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey`, `GroupMetadataValue`;
//! versions as in `GroupCoordinatorRecordHelpers`.

use super::fields::{Encoding, FieldReader, FieldWriter, RecordError};
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// The version of an offset's key; 0 is the same.
const OFFSET_KEY_VERSION: i16 = 1;
/// The version of a group's key.
const GROUP_KEY_VERSION: i16 = 2;
/// The version of an offset's value, unless the client asked for a time to keep it.
const OFFSET_VALUE_VERSION: i16 = 4;
/// The only version of an offset's value that has a time to keep it.
const EXPIRING_OFFSET_VALUE_VERSION: i16 = 1;
/// The version of a group's value.
const GROUP_VALUE_VERSION: i16 = 3;
/// The tag of the topic's id in an offset's value.
const TOPIC_ID_TAG: u32 = 0;
/// What the schemas have for "none".
const NONE: i64 = -1;

/// What a record of `__consumer_offsets` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// The offset that a group committed for a partition.
    Offset(OffsetKey),
    /// A group of the classic protocol.
    Group(StrBytes),
    /// Something of another version: the newer kinds of groups, which this broker does not have.
    Other(i16),
}

/// The key of a committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OffsetKey {
    /// The group's id.
    pub(crate) group: StrBytes,
    /// The topic's name.
    pub(crate) topic: StrBytes,
    /// The partition's number.
    pub(crate) partition: i32,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetCommit {
    /// The next offset that the group wants to consume.
    pub(crate) offset: i64,
    /// The epoch of the record before it, if the client said.
    pub(crate) leader_epoch: Option<i32>,
    /// What the client wrote beside it.
    pub(crate) metadata: StrBytes,
    /// When it was committed, in ms.
    pub(crate) commit_timestamp_ms: i64,
    /// When it may go, in ms, if the client asked for a time (OffsetCommit up to version 4).
    pub(crate) expire_timestamp_ms: Option<i64>,
    /// The topic's id; nil where it was not known.
    pub(crate) topic_id: Uuid,
}

/// A group of the classic protocol, as it is to be found after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupMetadata {
    /// The kind of its members, such as `consumer`; empty if there never was one.
    pub(crate) protocol_type: StrBytes,
    /// Its generation.
    pub(crate) generation: i32,
    /// The protocol that was chosen; `None` while there are no members.
    pub(crate) protocol: Option<StrBytes>,
    /// The member that assigns.
    pub(crate) leader: Option<StrBytes>,
    /// Since when it is in its state, in ms.
    pub(crate) state_since_ms: Option<i64>,
    /// Its members.
    pub(crate) members: Vec<MemberMetadata>,
}

/// A member of a [`GroupMetadata`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberMetadata {
    /// The id that the coordinator gave it.
    pub(crate) member_id: StrBytes,
    /// The id that its owner gave it: a static member.
    pub(crate) group_instance_id: Option<StrBytes>,
    /// As the client calls itself.
    pub(crate) client_id: StrBytes,
    /// Where it came from.
    pub(crate) client_host: StrBytes,
    /// How long a rebalance waits for it, in ms.
    pub(crate) rebalance_timeout_ms: i32,
    /// How long it may be silent, in ms.
    pub(crate) session_timeout_ms: i32,
    /// What it said of itself for the protocol that was chosen.
    pub(crate) subscription: Bytes,
    /// What it was assigned.
    pub(crate) assignment: Bytes,
}

impl Key {
    /// Reads a key.
    pub(crate) fn decode(key: Bytes) -> Result<Self, RecordError> {
        let mut reader = FieldReader::new(key);
        match reader.i16()? {
            0 | OFFSET_KEY_VERSION => {
                let (group, topic, partition) = (reader.string()?, reader.string()?, reader.i32()?);
                Ok(Self::Offset(OffsetKey { group, topic, partition }))
            }
            GROUP_KEY_VERSION => Ok(Self::Group(reader.string()?)),
            other => Ok(Self::Other(other)),
        }
    }
}

impl OffsetKey {
    /// The key's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut writer = FieldWriter::new(OFFSET_KEY_VERSION, Encoding::Plain);
        writer.string(&self.group).string(&self.topic).i32(self.partition);
        writer.finish()
    }
}

/// The bytes of a group's key.
pub(crate) fn encode_group_key(group: &str) -> Result<Vec<u8>, RecordError> {
    let mut writer = FieldWriter::new(GROUP_KEY_VERSION, Encoding::Plain);
    writer.string(group);
    writer.finish()
}

impl OffsetCommit {
    /// Reads a value of any version.
    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let mut reader = FieldReader::new(value);
        let version = known_version(reader.i16()?)?;
        if version >= 4 {
            reader.set_encoding(Encoding::Compact);
        }
        let offset = reader.i64()?;
        let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
        let metadata = reader.string()?;
        let commit_timestamp_ms = reader.i64()?;
        let expire_timestamp_ms = if version == EXPIRING_OFFSET_VALUE_VERSION { reader.i64()? } else { NONE };
        let mut topic_id = Uuid::nil();
        reader.tagged(|tag, bytes| {
            if tag == TOPIC_ID_TAG {
                topic_id = Uuid::from_slice(&bytes).map_err(|_| RecordError::Truncated)?;
            }
            Ok(())
        })?;
        Ok(Self {
            offset,
            leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: (expire_timestamp_ms != NONE).then_some(expire_timestamp_ms),
            topic_id,
        })
    }

    /// The value's bytes. One that has a time to be kept is written in the old version that can say so, which knows neither
    /// leader epoch nor topic id (`GroupCoordinatorRecordHelpers.offsetCommitValueVersion`).
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        if let Some(expire_timestamp_ms) = self.expire_timestamp_ms {
            let mut writer = FieldWriter::new(EXPIRING_OFFSET_VALUE_VERSION, Encoding::Plain);
            writer.i64(self.offset).string(&self.metadata).i64(self.commit_timestamp_ms).i64(expire_timestamp_ms);
            return writer.finish();
        }
        let mut writer = FieldWriter::new(OFFSET_VALUE_VERSION, Encoding::Compact);
        writer.i64(self.offset).i32(self.leader_epoch.unwrap_or(-1)).string(&self.metadata);
        writer.i64(self.commit_timestamp_ms);
        if self.topic_id.is_nil() {
            writer.tagged(&[]);
        } else {
            writer.tagged(&[(TOPIC_ID_TAG, self.topic_id.as_bytes())]);
        }
        writer.finish()
    }
}

impl GroupMetadata {
    /// Reads a value of any version.
    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let mut reader = FieldReader::new(value);
        let version = known_version(reader.i16()?)?;
        if version >= 4 {
            reader.set_encoding(Encoding::Compact);
        }
        let protocol_type = reader.string()?;
        let generation = reader.i32()?;
        let protocol = reader.nullable_string()?;
        let leader = reader.nullable_string()?;
        let state_since_ms = if version >= 2 { reader.i64()? } else { NONE };
        let mut members = Vec::new();
        for _ in 0..reader.len()? {
            members.push(MemberMetadata::decode(&mut reader, version)?);
        }
        reader.tagged(|_, _| Ok(()))?;
        let state_since_ms = (state_since_ms != NONE).then_some(state_since_ms);
        Ok(Self { protocol_type, generation, protocol, leader, state_since_ms, members })
    }

    /// The value's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut writer = FieldWriter::new(GROUP_VALUE_VERSION, Encoding::Plain);
        writer.string(&self.protocol_type).i32(self.generation);
        writer.nullable_string(self.protocol.as_deref()).nullable_string(self.leader.as_deref());
        writer.i64(self.state_since_ms.unwrap_or(NONE)).len(self.members.len());
        for member in &self.members {
            writer.string(&member.member_id).nullable_string(member.group_instance_id.as_deref());
            writer.string(&member.client_id).string(&member.client_host);
            writer.i32(member.rebalance_timeout_ms).i32(member.session_timeout_ms);
            writer.bytes(&member.subscription).bytes(&member.assignment);
        }
        writer.finish()
    }
}

impl MemberMetadata {
    fn decode(reader: &mut FieldReader, version: i16) -> Result<Self, RecordError> {
        let member_id = reader.string()?;
        let group_instance_id = if version >= 3 { reader.nullable_string()? } else { None };
        let (client_id, client_host) = (reader.string()?, reader.string()?);
        let rebalance_timeout_ms = if version >= 1 { Some(reader.i32()?) } else { None };
        let session_timeout_ms = reader.i32()?;
        let (subscription, assignment) = (reader.bytes()?, reader.bytes()?);
        reader.tagged(|_, _| Ok(()))?;
        Ok(Self {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            // Before version 1 the session's time-out was the rebalance's too.
            rebalance_timeout_ms: rebalance_timeout_ms.filter(|ms| *ms >= 0).unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}

/// Both values have the versions 0 to 4.
fn known_version(version: i16) -> Result<i16, RecordError> {
    if (0..=4).contains(&version) { Ok(version) } else { Err(RecordError::UnknownVersion(version)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use duramen::format::batch::Batches;
    use std::path::Path;

    fn unhex(text: &str) -> Bytes {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect::<Vec<_>>().into()
    }

    fn commit() -> OffsetCommit {
        OffsetCommit {
            offset: 2,
            leader_epoch: None,
            metadata: StrBytes::from_static_str("note"),
            commit_timestamp_ms: 1_795_378_279_555,
            expire_timestamp_ms: None,
            topic_id: Uuid::nil(),
        }
    }

    /// As Kafka 4.3.0 wrote it for a transaction of a Java client.
    #[test]
    fn offset_value_has_the_bytes_of_kafka() {
        let bytes = unhex("0004 0000000000000002 ffffffff 056e6f7465 000001a204e27483 00");
        assert_eq!(OffsetCommit::decode(bytes.clone()).unwrap(), commit());
        assert_eq!(commit().encode().unwrap(), bytes);
    }

    /// As Kafka 4.3.0 wrote it when the last member of a group of a Java client had left.
    #[test]
    fn value_of_a_group_without_members_has_the_bytes_of_kafka() {
        let bytes = unhex("0003 0008 636f6e73756d6572 00000002 ffff ffff 000001a204e27af4 00000000");
        let group = GroupMetadata::decode(bytes.clone()).unwrap();
        assert_eq!((&*group.protocol_type, group.generation, &group.protocol), ("consumer", 2, &None));
        assert_eq!((group.leader.clone(), group.state_since_ms), (None, Some(1_795_378_281_204)));
        assert_eq!(group.encode().unwrap(), bytes);
    }

    #[test]
    fn keys_have_the_bytes_of_kafka() {
        let group = unhex("0002 000d 67726f75702d636c6173736963");
        assert_eq!(Key::decode(group.clone()).unwrap(), Key::Group(StrBytes::from_static_str("group-classic")));
        assert_eq!(encode_group_key("group-classic").unwrap(), group);
        let key =
            OffsetKey { group: StrBytes::from_static_str("g"), topic: StrBytes::from_static_str("t"), partition: 258 };
        let bytes = unhex("0001 0001 67 0001 74 00000102");
        assert_eq!(key.encode().unwrap(), bytes);
        assert_eq!(Key::decode(bytes).unwrap(), Key::Offset(key.clone()));
        assert_eq!(Key::decode(unhex("0000 0001 67 0001 74 00000102")).unwrap(), Key::Offset(key));
        assert_eq!(Key::decode(unhex("0003 000e 00")).unwrap(), Key::Other(3));
    }

    #[test]
    fn offset_values_of_every_version_are_read_and_an_unknown_one_refused() {
        let base = OffsetCommit { commit_timestamp_ms: 7, ..commit() };
        let read = |text: &str| OffsetCommit::decode(unhex(text));
        let offset_metadata = "0000000000000002 0004 6e6f7465";
        let time = "0000000000000007";
        assert_eq!(read(&format!("0000 {offset_metadata} {time}")), Ok(base.clone()));
        let expiring = OffsetCommit { expire_timestamp_ms: Some(9), ..base.clone() };
        assert_eq!(read(&format!("0001 {offset_metadata} {time} 0000000000000009")), Ok(expiring.clone()));
        assert_eq!(OffsetCommit::decode(expiring.encode().unwrap().into()), Ok(expiring));
        assert_eq!(read(&format!("0002 {offset_metadata} {time}")), Ok(base.clone()));
        let with_epoch = OffsetCommit { leader_epoch: Some(5), ..base };
        assert_eq!(read(&format!("0003 0000000000000002 00000005 0004 6e6f7465 {time}")), Ok(with_epoch.clone()));
        let with_id = OffsetCommit { topic_id: Uuid::from_u128(0xabc), ..with_epoch };
        assert_eq!(OffsetCommit::decode(with_id.encode().unwrap().into()), Ok(with_id));
        assert_eq!(read("0005 00"), Err(RecordError::UnknownVersion(5)));
    }

    fn member(version: i16) -> MemberMetadata {
        MemberMetadata {
            member_id: StrBytes::from_static_str("m"),
            group_instance_id: (version >= 3).then(|| StrBytes::from_static_str("i")),
            client_id: StrBytes::from_static_str("c"),
            client_host: StrBytes::from_static_str("/h"),
            rebalance_timeout_ms: if version >= 1 { 60_000 } else { 10_000 },
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(b"sub"),
            assignment: Bytes::from_static(b"asg"),
        }
    }

    #[test]
    fn group_values_of_every_version_are_read() {
        let tail = "00000003 737562 00000003 617367";
        let member_of = |version: i16| match version {
            0 => format!("0001 6d 0001 63 0002 2f68 00002710 {tail}"),
            1 | 2 => format!("0001 6d 0001 63 0002 2f68 0000ea60 00002710 {tail}"),
            3 => format!("0001 6d 0001 69 0001 63 0002 2f68 0000ea60 00002710 {tail}"),
            _ => "026d 0269 0263 032f68 0000ea60 00002710 04737562 04617367 00".to_owned(),
        };
        for version in 0..=4 {
            let since = if version >= 2 { "0000000000000007" } else { "" };
            let text = match version {
                4 => format!("0004 0263 00000005 0272 026d {since} 02 {} 00", member_of(4)),
                _ => format!("{version:04x} 0001 63 00000005 0001 72 0001 6d {since} 00000001 {}", member_of(version)),
            };
            let group = GroupMetadata::decode(unhex(&text)).unwrap();
            let expected = GroupMetadata {
                protocol_type: StrBytes::from_static_str("c"),
                generation: 5,
                protocol: Some(StrBytes::from_static_str("r")),
                leader: Some(StrBytes::from_static_str("m")),
                state_since_ms: (version >= 2).then_some(7),
                members: vec![member(version)],
            };
            assert_eq!(group, expected, "version {version}");
            assert_eq!(GroupMetadata::decode(group.encode().unwrap().into()), Ok(expected));
        }
    }

    /// Every record of a classic group that real Kafka left in the golden directory is read, and written to the same bytes.
    #[test]
    fn records_of_kafka_are_written_as_kafka_wrote_them() {
        let path = "../golden/internals/dir/__consumer_offsets-0/00000000000000000000.log";
        let log = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let (mut offsets, mut groups, mut others) = (0, 0, 0);
        for batch in Batches::new(&log) {
            let (batch, mut scratch) = (batch.unwrap(), Vec::new());
            if batch.header().attributes().is_control() {
                continue;
            }
            for record in batch.records(&mut scratch, 1 << 20).unwrap() {
                let record = record.unwrap();
                let (key, value) = (record.key().unwrap(), record.value().map(Bytes::copy_from_slice));
                match (Key::decode(Bytes::copy_from_slice(key)).unwrap(), value) {
                    (Key::Offset(offset), Some(value)) => {
                        assert_eq!(offset.encode().unwrap(), key);
                        assert_eq!(OffsetCommit::decode(value.clone()).unwrap().encode().unwrap(), value);
                        offsets += 1;
                    }
                    (Key::Group(group), Some(value)) => {
                        assert_eq!(encode_group_key(&group).unwrap(), key);
                        assert_eq!(GroupMetadata::decode(value.clone()).unwrap().encode().unwrap(), value);
                        groups += 1;
                    }
                    _ => others += 1,
                }
            }
        }
        assert_eq!((offsets, groups, others), (5, 3, 9));
    }
}
