//! The first bytes of a batch of any magic: where it ends, and what it is.

use super::{
    batch::{LEADER_EPOCH_AT, MAGIC_AT},
    bytes::Reader,
    error::FormatError,
};
use crate::types::Offset;

/// Bytes before what the batch length counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes that tell where a batch of any magic ends and what magic it has.
pub const FRAME_SIZE: usize = 17;
/// The only magic that is read and written.
pub const MAGIC: i8 = 2;
/// The smallest batch length that any magic allows (a magic 0 message without key and value).
pub const MIN_BATCH_LENGTH: i32 = 14;

/// The first bytes of a batch of any magic: where it ends, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Base offset (of magic 0 and 1: the last offset).
    pub base_offset: Offset,
    /// All bytes of the batch, at least 26.
    pub size: usize,
    /// Format version of the batch.
    pub magic: i8,
}

impl Frame {
    /// Reads the first [`FRAME_SIZE`] bytes of a batch, as `FileLogInputStream.nextBatch` does.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] when there are fewer bytes; [`FormatError::Invalid`] when the length is below 14.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new("batch", bytes);
        let base_offset = reader.i64()?;
        let length = reader.i32()?;
        reader.take(MAGIC_AT.saturating_sub(LEADER_EPOCH_AT))?;
        let magic = reader.i8()?;
        let size = usize::try_from(length).unwrap_or_default().saturating_add(LOG_OVERHEAD);
        if length < MIN_BATCH_LENGTH {
            let why = "it is below 14, the smallest of any format";
            return Err(FormatError::Invalid { what: "batch length", value: i64::from(length), why });
        }
        Ok(Self { base_offset, size, magic })
    }

    /// Refuses every magic but 2.
    ///
    /// # Errors
    /// [`FormatError::UnsupportedVersion`] for magic 0 and 1, and for what is newer.
    pub fn check_magic(&self) -> Result<(), FormatError> {
        if self.magic == MAGIC {
            return Ok(());
        }
        Err(FormatError::UnsupportedVersion { what: "record batch (magic)", version: i64::from(self.magic) })
    }

    /// The bytes of the first batch in `bytes`; `None` when they hold no whole batch
    /// (`ByteBufferLogInputStream.nextBatch`).
    ///
    /// # Errors
    /// As [`Frame::decode`].
    pub fn first_batch(bytes: &[u8]) -> Result<Option<&[u8]>, FormatError> {
        if bytes.len() < FRAME_SIZE {
            return Ok(None);
        }
        Ok(bytes.get(..Self::decode(bytes)?.size))
    }
}

/// Whether bytes with magic 0 or 1 are a message of that format. A crash can tear a batch so that its magic reads 0: then
/// the lengths of key and value do not add up to that of the message.
pub(crate) fn is_old_message(bytes: &[u8]) -> bool {
    lengths_of_old_message(bytes).is_ok_and(|(length, fields)| fields.is_none_or(|fields| fields == length))
}

/// What the length says, and what overhead, key and value come to; `None` where the value's length is out of sight.
fn lengths_of_old_message(bytes: &[u8]) -> Result<(i64, Option<i64>), FormatError> {
    let mut reader = Reader::new("old message", bytes);
    reader.take(LOG_OVERHEAD.saturating_sub(4))?;
    let length = i64::from(reader.i32()?);
    reader.u32()?;
    let mut overhead = i64::from(MIN_BATCH_LENGTH);
    if reader.i8()? == 1 {
        reader.i8()?;
        reader.i64()?;
        overhead = overhead.saturating_add(8);
    } else {
        reader.i8()?;
    }
    let key = i64::from(reader.i32()?);
    let invalid = FormatError::Invalid { what: "key length", value: key, why: "it does not fit the message" };
    if key < -1 || key > length {
        return Err(invalid);
    }
    let key = key.max(0);
    let value = match reader.take(usize::try_from(key).unwrap_or(usize::MAX)).and_then(|_| reader.i32()) {
        Ok(value) => i64::from(value).max(0),
        Err(_) => return Ok((length, None)),
    };
    Ok((length, Some(overhead.saturating_add(key).saturating_add(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(magic: u8, length: i32, key: i32, value: i32) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend(length.to_be_bytes());
        bytes.extend([1, 2, 3, 4, magic, 0]);
        if magic == 1 {
            bytes.extend([0; 8]);
        }
        bytes.extend(key.to_be_bytes());
        bytes.extend(vec![b'k'; usize::try_from(key).unwrap_or(0)]);
        bytes.extend(value.to_be_bytes());
        bytes
    }

    #[test]
    fn old_message_is_told_from_a_torn_batch_by_its_lengths() {
        assert!(is_old_message(&message(0, 14 + 3 + 5, 3, 5)));
        assert!(is_old_message(&message(1, 22 + 5, -1, 5)));
        assert!(is_old_message(&message(0, 14, -1, -1)), "a null message");
        assert!(is_old_message(message(0, 14 + 3000, 2995, 5).get(..61).unwrap_or_default()));
        assert!(!is_old_message(&message(0, 80, 0, 0)));
        assert!(!is_old_message(&message(0, 80, 81, 0)));
        let mut torn = vec![0; 8];
        torn.extend(80_i32.to_be_bytes());
        torn.extend([0; 49]);
        assert!(!is_old_message(&torn));
    }
}
