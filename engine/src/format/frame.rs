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
