//! The changes that a leader makes to a batch where it lies.

use super::{
    batch::{
        ATTRIBUTES_AT, BASE_OFFSET_AT, BatchHeader, CRC_AT, HEADER_SIZE, LEADER_EPOCH_AT, MAX_TIMESTAMP_AT,
        TimestampType, truncated,
    },
    error::FormatError,
};
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// Assigns base offset and leader epoch to the batch at the front of `bytes`; both lie outside the checksum.
///
/// # Errors
/// [`FormatError::Truncated`] when `bytes` hold no header.
pub fn assign_in_place(bytes: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) -> Result<(), FormatError> {
    put(bytes, BASE_OFFSET_AT, base_offset.to_be_bytes())?;
    put(bytes, LEADER_EPOCH_AT, leader_epoch.to_be_bytes())
}

/// Sets timestamp type and maximum timestamp of the one batch that `bytes` hold, and its checksum anew, as
/// `DefaultRecordBatch.setMaxTimestamp` does. Does nothing when both are as wanted.
///
/// # Errors
/// As [`BatchHeader::decode`].
pub fn stamp_in_place(
    bytes: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp: Timestamp,
) -> Result<(), FormatError> {
    let header = BatchHeader::decode(bytes)?;
    if header.attributes().timestamp_type() == timestamp_type && header.raw_max_timestamp() == max_timestamp {
        return Ok(());
    }
    let attributes = header.attributes().with_timestamp_type(timestamp_type);
    put(bytes, ATTRIBUTES_AT, attributes.bits().to_be_bytes())?;
    put(bytes, MAX_TIMESTAMP_AT, max_timestamp.to_be_bytes())?;
    let crc = crc32c::crc32c(bytes.get(ATTRIBUTES_AT..header.size()).unwrap_or_default());
    put(bytes, CRC_AT, crc.to_be_bytes())
}

/// Overwrites one field of a batch's header.
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) -> Result<(), FormatError> {
    let have = bytes.len();
    let slot = bytes.get_mut(at..at.saturating_add(N)).ok_or_else(|| truncated(HEADER_SIZE, have))?;
    slot.copy_from_slice(&field);
    Ok(())
}
