//! Record batches of magic 2: the header, views over borrowed bytes, and the changes that a leader makes in place.
//!
//! Knows nothing of files. The checksum covers everything from the attributes on, so a leader assigns base offset and
//! leader epoch without touching it.

pub use super::{
    frame::{FRAME_SIZE, Frame, LOG_OVERHEAD, MAGIC, MIN_BATCH_LENGTH},
    in_place::{assign_in_place, stamp_in_place},
};

use super::{
    bytes::Reader,
    compression::{self, Codec},
    error::FormatError,
    record::Records,
};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Position of the base offset in a batch.
pub const BASE_OFFSET_AT: usize = 0;
/// Position of the batch length.
pub const BATCH_LENGTH_AT: usize = 8;
/// Position of the partition leader epoch.
pub const LEADER_EPOCH_AT: usize = 12;
/// Position of the magic byte.
pub const MAGIC_AT: usize = 16;
/// Position of the checksum.
pub const CRC_AT: usize = 17;
/// Position of the attributes; the checksum covers everything from here to the end.
pub const ATTRIBUTES_AT: usize = 21;
/// Position of the last offset delta.
pub const LAST_OFFSET_DELTA_AT: usize = 23;
/// Position of the base timestamp.
pub const BASE_TIMESTAMP_AT: usize = 27;
/// Position of the maximum timestamp.
pub const MAX_TIMESTAMP_AT: usize = 35;
/// Position of the producer id.
pub const PRODUCER_ID_AT: usize = 43;
/// Position of the producer epoch.
pub const PRODUCER_EPOCH_AT: usize = 51;
/// Position of the base sequence.
pub const BASE_SEQUENCE_AT: usize = 53;
/// Position of the number of records.
pub const RECORDS_COUNT_AT: usize = 57;
/// Bytes of the header; the records follow.
pub const HEADER_SIZE: usize = 61;

pub(super) const CODEC_MASK: i16 = 0x07;
pub(super) const TIMESTAMP_TYPE_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;

/// Whose clock a batch's timestamps are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's: every record has its own.
    #[default]
    CreateTime,
    /// The broker's: every record has the batch's maximum timestamp.
    LogAppendTime,
}

/// The attribute word of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(i16);

impl Attributes {
    /// The word for a new batch.
    #[must_use]
    pub fn new(codec: Codec, timestamp_type: TimestampType, transactional: bool, control: bool) -> Self {
        let bit = |set: bool, bit: i16| if set { bit } else { 0 };
        Self(
            i16::from(codec.id())
                | bit(timestamp_type == TimestampType::LogAppendTime, TIMESTAMP_TYPE_BIT)
                | bit(transactional, TRANSACTIONAL_BIT)
                | bit(control, CONTROL_BIT),
        )
    }

    /// The word as stored.
    #[must_use]
    pub fn bits(self) -> i16 {
        self.0
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for the codec numbers 5 to 7, which mean nothing.
    pub fn codec(self) -> Result<Codec, FormatError> {
        Codec::from_id(u8::try_from(self.0 & CODEC_MASK).unwrap_or_default())
    }

    /// Whose clock the timestamps are.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & TIMESTAMP_TYPE_BIT == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds control records, which consumers never see.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is a delete horizon.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON_BIT != 0
    }

    /// The same word with another timestamp type, and, as in Kafka, without unknown bits.
    #[must_use]
    pub(super) fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        let known = CODEC_MASK | TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT;
        let stamp = if timestamp_type == TimestampType::LogAppendTime { TIMESTAMP_TYPE_BIT } else { 0 };
        Self((self.0 & known) | stamp)
    }
}

/// What the producer of a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerIdentity {
    /// Its id, 0 or greater.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the batch's first record; `None` on control batches.
    pub base_sequence: Option<i32>,
}

/// The 61 bytes in front of a batch's records.
///
/// ```
/// use duramen::format::{batch::Batch, builder::BatchBuilder};
/// let bytes = BatchBuilder::new().record(1_700_000_000_000, Some(b"key"), Some(b"value")).build()?;
/// let header = Batch::parse(&bytes)?.header().clone();
/// assert_eq!((header.base_offset(), header.next_offset(), header.records_count()), (0, 1, 1));
/// # Ok::<(), duramen::format::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    base_offset: Offset,
    size: usize,
    leader_epoch: LeaderEpoch,
    crc: u32,
    attributes: Attributes,
    last_offset_delta: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; the records need not be there.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] under 61 bytes, [`FormatError::UnsupportedVersion`] for another magic than 2,
    /// [`FormatError::Invalid`] when a length, a delta or the resulting last offset is impossible.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header = Self::decode_anywhere(bytes)?;
        if header.base_offset < 0 {
            let (value, why) = (header.base_offset, "it is negative");
            return Err(FormatError::Invalid { what: "base offset", value, why });
        }
        Ok(header)
    }

    /// As [`BatchHeader::decode`], but takes a negative base offset: what a leader sends is first compared with the log.
    pub(crate) fn decode_anywhere(bytes: &[u8]) -> Result<Self, FormatError> {
        let frame = Frame::decode(bytes)?;
        frame.check_magic()?;
        if frame.size < HEADER_SIZE {
            let value = i64::try_from(frame.size).unwrap_or(i64::MAX);
            return Err(FormatError::Invalid {
                what: "batch size",
                value,
                why: "it is below the 61 bytes of a header",
            });
        }
        let mut reader = Reader::new("batch header", bytes);
        reader.take(LEADER_EPOCH_AT)?;
        let leader_epoch = reader.i32()?;
        reader.i8()?;
        let header = Self {
            base_offset: frame.base_offset,
            size: frame.size,
            leader_epoch,
            crc: reader.u32()?,
            attributes: Attributes(reader.i16()?),
            last_offset_delta: reader.i32()?,
            base_timestamp: reader.i64()?,
            max_timestamp: reader.i64()?,
            producer_id: reader.i64()?,
            producer_epoch: reader.i16()?,
            base_sequence: reader.i32()?,
            records_count: reader.i32()?,
        };
        header.check_offsets()?;
        Ok(header)
    }

    fn check_offsets(&self) -> Result<(), FormatError> {
        let invalid = |what, value, why| Err(FormatError::Invalid { what, value, why });
        if self.last_offset_delta < 0 {
            return invalid("last offset delta", i64::from(self.last_offset_delta), "it is negative");
        }
        if self.base_offset.checked_add(i64::from(self.last_offset_delta)).is_none_or(|last| last == i64::MAX) {
            return invalid("base offset", self.base_offset, "the last offset overflows");
        }
        Ok(())
    }

    /// Offset of the first record as it was first written.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Last offset of the batch, inclusive, whether or not its record is still there.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the last one.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// Distance from the first to the last offset, 0 or greater.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    /// All bytes of the batch: header and records.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The epoch of the leader that appended it; `None` in a producer's request.
    #[must_use]
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        (self.leader_epoch >= 0).then_some(self.leader_epoch)
    }

    /// The stored checksum.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Codec and flags.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// The time that the records' deltas count from, in ms; a delete horizon if the attribute says so; `None` if unset.
    #[must_use]
    pub fn base_timestamp(&self) -> Option<Timestamp> {
        (self.base_timestamp != -1).then_some(self.base_timestamp)
    }

    /// The greatest timestamp of a record, or the append time, in ms; `None` if no record has one.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<Timestamp> {
        (self.max_timestamp >= 0).then_some(self.max_timestamp)
    }

    /// When the tombstones or the marker in the batch may go, in ms, if a cleaner has decided on it.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<Timestamp> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Who produced it; `None` unless the producer is idempotent or transactional.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerIdentity> {
        (self.producer_id >= 0).then(|| ProducerIdentity {
            id: self.producer_id,
            epoch: self.producer_epoch,
            base_sequence: self.base_sequence(),
        })
    }

    /// Sequence of the first record as stored; some clients write one without a producer id.
    #[must_use]
    pub fn base_sequence(&self) -> Option<i32> {
        (self.base_sequence >= 0).then_some(self.base_sequence)
    }

    /// Sequence of the last record: after 2147483647 comes 0 (`DefaultRecordBatch.incrementSequence`).
    #[must_use]
    pub fn last_sequence(&self) -> Option<i32> {
        Some(add_sequence(self.base_sequence()?, self.last_offset_delta))
    }

    /// Records physically present; what the bytes claim, so possibly negative or too large.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    pub(super) fn raw_base_timestamp(&self) -> Timestamp {
        self.base_timestamp
    }

    pub(super) fn raw_max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }
}

/// Advances a sequence number modulo 2^31.
#[must_use]
pub fn add_sequence(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence).saturating_add(i64::from(delta)) & i64::from(i32::MAX);
    i32::try_from(sum).unwrap_or_default()
}

/// One whole batch in borrowed bytes.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the front of `bytes`. Checks the header, not the checksum.
    ///
    /// # Errors
    /// As [`BatchHeader::decode`], and [`FormatError::Truncated`] when the batch is longer than `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let header = BatchHeader::decode(bytes)?;
        let (bytes, _) = bytes.split_at_checked(header.size).ok_or_else(|| truncated(header.size, bytes.len()))?;
        Ok(Self { header, bytes })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as stored, compressed or not.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_SIZE..).unwrap_or_default()
    }

    /// The checksum that the bytes really have.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        compute_crc(self.bytes)
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// [`FormatError::Checksum`] when the bytes were changed since it was computed.
    pub fn check_crc(&self) -> Result<(), FormatError> {
        check_crc(self.bytes)
    }

    /// The records in order. Compressed ones are first decompressed into `scratch`, at most `limit` bytes.
    ///
    /// ```
    /// use duramen::format::{batch::Batch, builder::BatchBuilder};
    /// let bytes = BatchBuilder::new().record(5, None, Some(b"v")).build()?;
    /// let batch = Batch::parse(&bytes)?;
    /// let mut scratch = Vec::new();
    /// for record in batch.records(&mut scratch, 1 << 20)? {
    ///     assert_eq!(record?.value(), Some(&b"v"[..]));
    /// }
    /// # Ok::<(), duramen::format::FormatError>(())
    /// ```
    ///
    /// # Errors
    /// What the codec says of the bytes, or [`FormatError::LimitExceeded`].
    pub fn records<'b>(&'b self, scratch: &'b mut Vec<u8>, limit: u64) -> Result<Records<'b>, FormatError> {
        let codec = self.header.attributes.codec()?;
        let payload = if codec == Codec::None {
            self.payload()
        } else {
            scratch.clear();
            compression::decompress(codec, self.payload(), limit, scratch)?;
            scratch
        };
        Records::new(&self.header, payload)
    }
}

fn compute_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default())
}

/// Compares the checksum of the one batch that `batch` is, whatever its header says.
///
/// # Errors
/// [`FormatError::Truncated`] for less than a header; [`FormatError::Checksum`] when the bytes were changed since it was
/// computed.
pub fn check_crc(batch: &[u8]) -> Result<(), FormatError> {
    let mut reader = Reader::new("batch header", batch);
    reader.take(CRC_AT)?;
    let stored = reader.u32()?;
    if batch.len() < HEADER_SIZE {
        return Err(truncated(HEADER_SIZE, batch.len()));
    }
    let computed = compute_crc(batch);
    if computed == stored {
        return Ok(());
    }
    Err(FormatError::Checksum { what: "record batch", stored, computed })
}

pub(super) fn truncated(need: usize, have: usize) -> FormatError {
    let size = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    FormatError::Truncated { what: "batch", need: size(need), have: size(have) }
}

/// Walks the batches in a buffer. Ends without an error before a batch that the buffer does not hold whole; after an
/// error it yields nothing more.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet walked; at the end, those of an incomplete last batch.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.len() < FRAME_SIZE {
            return None;
        }
        let parsed = match Frame::decode(self.rest) {
            Ok(frame) if frame.size > self.rest.len() => return None,
            Ok(_) => Batch::parse(self.rest),
            Err(error) => Err(error),
        };
        self.rest = match &parsed {
            Ok(batch) => self.rest.get(batch.bytes.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(parsed)
    }
}
