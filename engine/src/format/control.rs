//! Control records: the markers that end transactions, and the kinds that only KRaft writes.

use super::{bytes::Reader, error::FormatError, record::Record};

/// Version that is written of the key and of an end marker's value.
pub const VERSION: i16 = 0;
/// Bytes of a control record's key.
pub const KEY_SIZE: usize = 4;
/// Bytes of an end marker's value.
pub const END_TXN_VALUE_SIZE: usize = 6;

/// What a control record says (`ControlRecordType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The producer's transaction is aborted.
    Abort,
    /// The producer's transaction is committed.
    Commit,
    /// KRaft: a leader took office.
    LeaderChange,
    /// KRaft: a snapshot begins.
    SnapshotHeader,
    /// KRaft: a snapshot ends.
    SnapshotFooter,
    /// KRaft: the protocol's version.
    KraftVersion,
    /// KRaft: the voters.
    KraftVoters,
    /// A kind that this engine has not heard of; it must be skipped.
    Unknown(i16),
}

impl ControlType {
    /// Reads a control record's key. A newer version than 0 is read as 0.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] under four bytes, [`FormatError::Invalid`] for a negative version.
    pub fn decode(key: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new("control record key", key);
        check_version("control record version", reader.i16()?)?;
        Ok(Self::from_id(reader.i16()?))
    }

    fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KraftVersion,
            6 => Self::KraftVoters,
            other => Self::Unknown(other),
        }
    }

    /// The number in the key.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KraftVersion => 5,
            Self::KraftVoters => 6,
            Self::Unknown(other) => other,
        }
    }

    /// The key of a control record of this kind.
    #[must_use]
    pub fn encode(self) -> [u8; KEY_SIZE] {
        let [a, b] = VERSION.to_be_bytes();
        let [c, d] = self.id().to_be_bytes();
        [a, b, c, d]
    }
}

/// The record that ends a transaction (`EndTransactionMarker`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndTxnMarker {
    /// Committed or aborted.
    pub committed: bool,
    /// Epoch of the coordinator that wrote it; an older one is fenced.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the marker out of a control batch's record; `None` if it is a control record of another kind.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] for a short key or value, [`FormatError::Invalid`] for a negative version.
    pub fn decode(record: &Record<'_>) -> Result<Option<Self>, FormatError> {
        let committed = match ControlType::decode(record.key().unwrap_or_default())? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return Ok(None),
        };
        let mut reader = Reader::new("end transaction marker", record.value().unwrap_or_default());
        check_version("end transaction marker version", reader.i16()?)?;
        Ok(Some(Self { committed, coordinator_epoch: reader.i32()? }))
    }

    /// Kind of the control record.
    #[must_use]
    pub fn control_type(self) -> ControlType {
        if self.committed { ControlType::Commit } else { ControlType::Abort }
    }

    /// The value of the control record.
    #[must_use]
    pub fn encode_value(self) -> [u8; END_TXN_VALUE_SIZE] {
        let [a, b] = VERSION.to_be_bytes();
        let [c, d, e, f] = self.coordinator_epoch.to_be_bytes();
        [a, b, c, d, e, f]
    }
}

fn check_version(what: &'static str, version: i16) -> Result<(), FormatError> {
    if version >= 0 {
        return Ok(());
    }
    Err(FormatError::Invalid { what, value: i64::from(version), why: "it is negative" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::{batch::Batch, builder::BatchBuilder};

    fn decoded(key: &[u8], value: &[u8]) -> Result<Option<EndTxnMarker>, FormatError> {
        let bytes = BatchBuilder::new().record(0, Some(key), Some(value)).build().unwrap();
        let mut scratch = Vec::new();
        let batch = Batch::parse(&bytes).unwrap();
        let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
        EndTxnMarker::decode(&record)
    }

    // M 235
    #[test]
    fn end_marker_of_any_later_version_is_read_and_a_negative_one_refused() {
        let commit = EndTxnMarker { committed: true, coordinator_epoch: 27 };
        assert_eq!(commit.encode_value(), [0, 0, 0, 0, 0, 27]);
        for committed in [true, false] {
            let marker = EndTxnMarker { committed, ..commit };
            assert_eq!(decoded(&marker.control_type().encode(), &marker.encode_value()), Ok(Some(marker)));
        }
        let longer = [0, 5, 0, 0, 0, 27, 1, 2, 3];
        assert_eq!(decoded(&[0, 9, 0, 1], &longer), Ok(Some(commit)), "later versions begin alike");
        assert!(matches!(decoded(&[0, 0, 0, 1], &[0xff, 0xff, 0, 0, 0, 27]), Err(FormatError::Invalid { .. })));
        assert!(matches!(decoded(&[0xff, 0xff, 0, 1], &longer), Err(FormatError::Invalid { .. })));
        assert!(matches!(decoded(&[0, 0, 0, 1], &[0, 0, 0]), Err(FormatError::Truncated { .. })));
        assert!(matches!(decoded(&[0, 0, 0], &longer), Err(FormatError::Truncated { .. })));
    }

    // M 235
    #[test]
    fn control_record_of_another_kind_is_no_end_marker() {
        for id in [2, 3, 4, 5, 6, 7, -1] {
            let kind = ControlType::from_id(id);
            assert_eq!(kind.id(), id);
            assert_eq!(ControlType::decode(&kind.encode()), Ok(kind));
            assert_eq!(decoded(&kind.encode(), b""), Ok(None));
        }
        assert_eq!(ControlType::decode(&[0, 0, 0, 99]), Ok(ControlType::Unknown(99)));
    }
}
