//! Producer snapshots: what was known of every producer up to some offset.

use super::{bytes::Reader, error::FormatError};
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// The only version.
pub const VERSION: i16 = 1;
/// Bytes before the entries.
pub const HEADER_SIZE: usize = 10;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 46;
/// A number further ahead is no version that Kafka will have.
const MAX_VERSIONS_AHEAD: i16 = 50;
/// The checksum covers everything from here on.
const CRC_FROM: usize = 6;

/// The last batch of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBatch {
    /// Sequence of its last record; `None` if the batch had none.
    pub last_sequence: Option<i32>,
    /// Its last offset, inclusive.
    pub last_offset: Offset,
    /// Last offset less first offset.
    pub offset_delta: i32,
    /// Its greatest timestamp, in ms; not stored on its own (the entry's stands for it).
    pub timestamp: Timestamp,
}

/// One producer in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerSnapshotEntry {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Its last batch in that epoch.
    pub last_batch: Option<LastBatch>,
    /// When it last wrote, in ms.
    pub timestamp: Timestamp,
    /// Epoch of the coordinator that wrote its last marker.
    pub coordinator_epoch: Option<i32>,
    /// First offset of its open transaction.
    pub current_txn_first_offset: Option<Offset>,
}

/// Reads a snapshot.
///
/// # Errors
/// [`FormatError::UnsupportedVersion`] for another version; [`FormatError::Truncated`], [`FormatError::Invalid`] or
/// [`FormatError::Checksum`] for damage.
pub fn decode(bytes: &[u8]) -> Result<Vec<ProducerSnapshotEntry>, FormatError> {
    let mut reader = Reader::new("producer snapshot", bytes);
    let version = reader.i16()?;
    let stored = reader.u32()?;
    let computed = crc32c::crc32c(bytes.get(CRC_FROM..).unwrap_or_default());
    if stored != computed {
        return Err(FormatError::Checksum { what: "producer snapshot", stored, computed });
    }
    // Only now, and only newer ones: zeros or garbage that a crash left are damage and no other version. Nor is one far
    // ahead: the checksum does not cover the version.
    if version > VERSION && version < VERSION.saturating_add(MAX_VERSIONS_AHEAD) {
        return Err(FormatError::UnsupportedVersion { what: "producer snapshot", version: i64::from(version) });
    }
    if version != VERSION {
        let why = "there never was such a version";
        return Err(FormatError::Invalid { what: "producer snapshot's version", value: i64::from(version), why });
    }
    let count = reader.i32()?;
    let present = reader.rest().len() / ENTRY_SIZE;
    let invalid = |why| FormatError::Invalid { what: "producer snapshot's entries", value: i64::from(count), why };
    if usize::try_from(count) != Ok(present) {
        return Err(invalid("the file holds another number"));
    }
    if !reader.rest().len().is_multiple_of(ENTRY_SIZE) {
        return Err(invalid("the file does not end with an entry"));
    }
    let entries = reader.rest().chunks_exact(ENTRY_SIZE);
    entries.map(|entry| decode_entry(&mut Reader::new("producer snapshot entry", entry))).collect()
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<ProducerSnapshotEntry, FormatError> {
    let producer_id = reader.i64()?;
    let producer_epoch = reader.i16()?;
    let last_sequence = reader.i32()?;
    let last_offset = reader.i64()?;
    let offset_delta = reader.i32()?;
    let timestamp = reader.i64()?;
    let coordinator_epoch = reader.i32()?;
    let current_txn_first_offset = reader.i64()?;
    Ok(ProducerSnapshotEntry {
        producer_id,
        producer_epoch,
        last_batch: (last_offset >= 0).then_some(LastBatch {
            last_sequence: (last_sequence >= 0).then_some(last_sequence),
            last_offset,
            offset_delta,
            timestamp,
        }),
        timestamp,
        coordinator_epoch: (coordinator_epoch >= 0).then_some(coordinator_epoch),
        current_txn_first_offset: (current_txn_first_offset >= 0).then_some(current_txn_first_offset),
    })
}

/// The bytes of a snapshot, entries in the order given.
#[must_use]
pub fn encode(entries: &[ProducerSnapshotEntry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(entries.len().saturating_mul(ENTRY_SIZE).saturating_add(HEADER_SIZE));
    body.extend(i32::try_from(entries.len()).unwrap_or(i32::MAX).to_be_bytes());
    for entry in entries {
        let batch = entry.last_batch;
        body.extend(entry.producer_id.to_be_bytes());
        body.extend(entry.producer_epoch.to_be_bytes());
        body.extend(batch.and_then(|batch| batch.last_sequence).unwrap_or(-1).to_be_bytes());
        body.extend(batch.map_or(-1, |batch| batch.last_offset).to_be_bytes());
        body.extend(batch.map_or(0, |batch| batch.offset_delta).to_be_bytes());
        body.extend(entry.timestamp.to_be_bytes());
        body.extend(entry.coordinator_epoch.unwrap_or(-1).to_be_bytes());
        body.extend(entry.current_txn_first_offset.unwrap_or(-1).to_be_bytes());
    }
    let mut bytes = Vec::with_capacity(body.len().saturating_add(CRC_FROM));
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(crc32c::crc32c(&body).to_be_bytes());
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn entry() -> ProducerSnapshotEntry {
        let timestamp = 1_700_000_000_005;
        ProducerSnapshotEntry {
            producer_id: 4001,
            producer_epoch: 3,
            last_batch: Some(LastBatch { last_sequence: Some(1), last_offset: 101, offset_delta: 1, timestamp }),
            timestamp,
            coordinator_epoch: Some(12),
            current_txn_first_offset: None,
        }
    }

    #[test]
    fn snapshots_have_the_bytes_of_kafka() {
        assert_eq!(encode(&[]), [0, 1, 0x48, 0x67, 0x4b, 0xc7, 0, 0, 0, 0]);
        let bytes = encode(&[entry()]);
        assert_eq!(&bytes[..10], &[0, 1, 0xc0, 0xe5, 0x5e, 0xa8, 0, 0, 0, 1]);
        assert_eq!(decode(&bytes).unwrap(), [entry()]);
    }

    // M 153
    #[test]
    fn every_damaged_byte_is_found() {
        let bytes = encode(&[entry()]);
        for at in 0..bytes.len() {
            let mut harmed = bytes.clone();
            harmed[at] ^= 1;
            assert!(decode(&harmed).is_err(), "byte {at}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn newer_version_is_told_from_damage() {
        let mut bytes = encode(&[]);
        bytes[1] = 2;
        assert!(matches!(decode(&bytes), Err(FormatError::UnsupportedVersion { version: 2, .. })));
    }

    #[test]
    fn zeros_of_any_length_are_damage_and_no_version() {
        for len in 0..100 {
            assert!(
                !matches!(decode(&vec![0; len]), Ok(_) | Err(FormatError::UnsupportedVersion { .. })),
                "{len} zeros"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
