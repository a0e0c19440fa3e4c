//! Writing record batches.

use super::{
    batch::{self, Attributes, ProducerIdentity, TimestampType},
    compression::{self, Compression},
    control::EndTxnMarker,
    error::FormatError,
    varint::{put_varint, put_varlong, varlong_len},
};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// A record to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Timestamp in ms, 0 or greater; `None` writes none.
    pub timestamp: Option<Timestamp>,
    /// Key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// Headers in order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// Distance from the base offset; `None` is one more than the record before.
    pub offset_delta: Option<i32>,
}

/// Builds one record batch. A mistake in a record is remembered and returned by [`BatchBuilder::build`].
///
/// ```
/// use duramen::format::{builder::{BatchBuilder, NewRecord}, compression::{Codec, Compression}};
/// let bytes = BatchBuilder::new()
///     .compression(Compression::with_default_level(Codec::Lz4))
///     .record(1_700_000_000_000, Some(b"key"), Some(b"value"))
///     .append(NewRecord { value: Some(b"no key"), headers: &[(b"h", None)], ..NewRecord::default() })
///     .build()?;
/// assert_eq!(duramen::format::batch::Batch::parse(&bytes)?.header().last_offset(), 1);
/// # Ok::<(), duramen::format::FormatError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    compression: Compression,
    append_time: Option<Timestamp>,
    producer: Option<ProducerIdentity>,
    transactional: bool,
    control: bool,
    records: Vec<u8>,
    count: i32,
    last_offset_delta: i32,
    base_timestamp: Option<Timestamp>,
    max_timestamp: Timestamp,
    mistake: Option<FormatError>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch as a producer would send it: base offset 0, no leader epoch, no codec.
    #[must_use]
    pub fn new() -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            compression: Compression::None,
            append_time: None,
            producer: None,
            transactional: false,
            control: false,
            records: Vec::new(),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: None,
            max_timestamp: -1,
            mistake: None,
        }
    }

    /// Offset of the first record, as on a follower.
    #[must_use]
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Epoch of the leader that wrote the batch.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// How the records are compressed.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Makes it a LogAppendTime batch: all records get this time in ms.
    #[must_use]
    pub fn append_time(mut self, append_time: Timestamp) -> Self {
        self.append_time = Some(append_time);
        self
    }

    /// Makes it a batch of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = Some(ProducerIdentity { id, epoch, base_sequence: Some(base_sequence) });
        self
    }

    /// Makes it part of the producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.transactional = true;
        self
    }

    /// Makes it a control batch: the key of each record says what it is ([`ControlType`](super::control::ControlType)). For
    /// what KRaft writes; [`end_txn_marker`] makes those that end transactions.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// Adds a record.
    #[must_use]
    pub fn record(self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.append(NewRecord { timestamp: Some(timestamp), key, value, ..NewRecord::default() })
    }

    /// Adds a record with all that one can have.
    #[must_use]
    pub fn append(mut self, record: NewRecord<'_>) -> Self {
        self.push(&record);
        self
    }

    /// Adds a record to a builder that is held by reference.
    pub fn push(&mut self, record: &NewRecord<'_>) {
        if let Err(mistake) = self.try_push(record) {
            self.mistake.get_or_insert(mistake);
        }
    }

    /// Bytes that the batch has so far, before compression.
    #[must_use]
    pub fn uncompressed_size(&self) -> usize {
        self.records.len().saturating_add(batch::HEADER_SIZE)
    }

    /// Records so far.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.count
    }

    fn try_push(&mut self, record: &NewRecord<'_>) -> Result<(), FormatError> {
        let timestamp = record.timestamp.unwrap_or(-1);
        let offset_delta = record.offset_delta.unwrap_or_else(|| self.last_offset_delta.saturating_add(1));
        if record.timestamp.is_some_and(|timestamp| timestamp < 0) {
            return Err(invalid("timestamp", timestamp, "it is negative"));
        }
        if offset_delta <= self.last_offset_delta {
            return Err(invalid("offset delta", i64::from(offset_delta), "it does not exceed the one before"));
        }
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        put_record(&mut self.records, timestamp.wrapping_sub(base_timestamp), offset_delta, record)?;
        self.count = self.count.checked_add(1).ok_or_else(|| invalid("records count", i64::MAX, "it overflows"))?;
        self.last_offset_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// The finished batch.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for a batch without records, a negative timestamp, offsets that do not ascend, a
    /// transactional batch without a producer, a negative producer field, or a batch of 2 GiB or more; what the codec
    /// says if the records cannot be compressed.
    pub fn build(&self) -> Result<Vec<u8>, FormatError> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        self.check()?;
        let mut bytes = vec![0; batch::HEADER_SIZE];
        compression::compress(self.compression, &self.records, &mut bytes)?;
        let length = i32::try_from(bytes.len().saturating_sub(batch::LOG_OVERHEAD))
            .map_err(|_| invalid("batch length", i64::MAX, "it exceeds 2147483647"))?;
        let header = self.header(length);
        if let Some(front) = bytes.get_mut(..batch::HEADER_SIZE) {
            front.copy_from_slice(&header);
        }
        let crc = crc32c::crc32c(bytes.get(batch::ATTRIBUTES_AT..).unwrap_or_default());
        if let Some(slot) = bytes.get_mut(batch::CRC_AT..batch::ATTRIBUTES_AT) {
            slot.copy_from_slice(&crc.to_be_bytes());
        }
        Ok(bytes)
    }

    fn check(&self) -> Result<(), FormatError> {
        if self.count == 0 {
            return Err(invalid("records count", 0, "a batch holds at least one record"));
        }
        match self.producer {
            None if self.transactional => Err(invalid("producer id", -1, "a transactional batch needs one")),
            Some(producer) if producer.id < 0 => Err(invalid("producer id", producer.id, "it is negative")),
            Some(producer) if producer.epoch < 0 => {
                Err(invalid("producer epoch", i64::from(producer.epoch), "it is negative"))
            }
            Some(ProducerIdentity { base_sequence: Some(sequence), .. }) if sequence < 0 => {
                Err(invalid("base sequence", i64::from(sequence), "it is negative"))
            }
            _ => Ok(()),
        }
    }

    /// The header with a checksum of zero.
    fn header(&self, length: i32) -> Vec<u8> {
        let timestamp_type =
            if self.append_time.is_some() { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let attributes = Attributes::new(self.compression.codec(), timestamp_type, self.transactional, self.control);
        let sequence = self.producer.and_then(|producer| producer.base_sequence);
        let mut header = Vec::with_capacity(batch::HEADER_SIZE);
        header.extend(self.base_offset.to_be_bytes());
        header.extend(length.to_be_bytes());
        header.extend(self.leader_epoch.to_be_bytes());
        header.extend(batch::MAGIC.to_be_bytes());
        header.extend([0; 4]);
        header.extend(attributes.bits().to_be_bytes());
        header.extend(self.last_offset_delta.to_be_bytes());
        header.extend(self.base_timestamp.unwrap_or(-1).to_be_bytes());
        header.extend(self.append_time.unwrap_or(self.max_timestamp).to_be_bytes());
        header.extend(self.producer.map_or(-1, |producer| producer.id).to_be_bytes());
        header.extend(self.producer.map_or(-1, |producer| producer.epoch).to_be_bytes());
        header.extend(sequence.unwrap_or(-1).to_be_bytes());
        header.extend(self.count.to_be_bytes());
        header
    }
}

/// The batch that ends a transaction: one control record of 78 bytes in all.
///
/// # Errors
/// [`FormatError::Invalid`] when an id, an epoch or the timestamp is negative.
pub fn end_txn_marker(
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    marker: EndTxnMarker,
    timestamp: Timestamp,
) -> Result<Vec<u8>, FormatError> {
    let mut builder = BatchBuilder::new();
    builder.producer = Some(ProducerIdentity { id: producer_id, epoch: producer_epoch, base_sequence: None });
    builder.transactional = true;
    builder.control = true;
    builder.record(timestamp, Some(&marker.control_type().encode()), Some(&marker.encode_value())).build()
}

fn put_record(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    record: &NewRecord<'_>,
) -> Result<(), FormatError> {
    let body = body_len(timestamp_delta, offset_delta, record);
    put_len(out, body)?;
    out.push(0);
    put_varlong(out, timestamp_delta);
    put_varint(out, offset_delta);
    put_nullable(out, record.key)?;
    put_nullable(out, record.value)?;
    put_len(out, record.headers.len())?;
    for (key, value) in record.headers {
        put_len(out, key.len())?;
        out.extend_from_slice(key);
        put_nullable(out, *value)?;
    }
    Ok(())
}

fn body_len(timestamp_delta: i64, offset_delta: i32, record: &NewRecord<'_>) -> usize {
    let number = |len: usize| varlong_len(i64::try_from(len).unwrap_or(i64::MAX));
    let bytes = |bytes: &[u8]| number(bytes.len()).saturating_add(bytes.len());
    let nullable = |value: Option<&[u8]>| value.map_or(1, bytes);
    let headers = record.headers.iter().fold(number(record.headers.len()), |sum, (key, value)| {
        sum.saturating_add(bytes(key)).saturating_add(nullable(*value))
    });
    [
        1,
        varlong_len(timestamp_delta),
        varlong_len(i64::from(offset_delta)),
        nullable(record.key),
        nullable(record.value),
    ]
    .into_iter()
    .fold(headers, usize::saturating_add)
}

fn put_nullable(out: &mut Vec<u8>, value: Option<&[u8]>) -> Result<(), FormatError> {
    match value {
        None => put_varint(out, -1),
        Some(value) => {
            put_len(out, value.len())?;
            out.extend_from_slice(value);
        }
    }
    Ok(())
}

fn put_len(out: &mut Vec<u8>, len: usize) -> Result<(), FormatError> {
    let len = i32::try_from(len).map_err(|_| invalid("record length", i64::MAX, "it exceeds 2147483647"))?;
    put_varint(out, len);
    Ok(())
}

fn invalid(what: &'static str, value: i64, why: &'static str) -> FormatError {
    FormatError::Invalid { what, value, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::{batch::Batch, control::ControlType};
    use proptest::prelude::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
    }

    /// Two records as a producer writes them, by Kafka's own builder.
    fn plain_vector() -> Vec<u8> {
        unhex(
            "0000000000000064 0000004d 00000007 02 ff6f60a4 0000 00000001 0000018bcfe56800 0000018bcfe56805
             ffffffffffffffff ffff ffffffff 00000002 1a000000046b310a68656c6c6f00 1a000a0201000402680278026e01",
        )
    }

    #[test]
    fn batch_of_two_records_has_the_bytes_of_kafka() {
        let built = BatchBuilder::new()
            .base_offset(100)
            .leader_epoch(7)
            .record(1_700_000_000_000, Some(b"k1"), Some(b"hello"))
            .append(NewRecord {
                timestamp: Some(1_700_000_000_005),
                value: Some(b""),
                headers: &[(b"h", Some(b"x")), (b"n", None)],
                ..NewRecord::default()
            })
            .build()
            .unwrap();
        assert_eq!(built, plain_vector());
    }

    #[test]
    fn records_of_a_kafka_batch_are_read() {
        let bytes = plain_vector();
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        let mut scratch = Vec::new();
        let records: Vec<_> = batch.records(&mut scratch, 0).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(
            (records[0].offset(), records[0].key(), records[0].value()),
            (100, Some(&b"k1"[..]), Some(&b"hello"[..]))
        );
        assert_eq!(
            (records[1].offset(), records[1].timestamp(), records[1].key()),
            (101, Some(1_700_000_000_005), None)
        );
        let headers: Vec<_> = records[1].headers().collect();
        assert_eq!(headers, [(&b"h"[..], Some(&b"x"[..])), (&b"n"[..], None)]);
    }

    // M 229
    #[test]
    fn assigning_offset_and_epoch_leaves_the_checksum_valid() {
        let mut bytes = plain_vector();
        batch::assign_in_place(&mut bytes, 250, 9).unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert_eq!((batch.header().base_offset(), batch.header().leader_epoch()), (250, Some(9)));
        assert_eq!(batch.header().crc(), 0xff6f_60a4);
    }

    // M 229
    #[test]
    fn stamping_log_append_time_gives_all_records_that_time() {
        let mut bytes = plain_vector();
        batch::stamp_in_place(&mut bytes, TimestampType::LogAppendTime, 1_800_000_000_000).unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch, 0).unwrap() {
            assert_eq!(record.unwrap().timestamp(), Some(1_800_000_000_000));
        }
    }

    // M 235
    #[test]
    fn commit_marker_has_the_bytes_of_kafka() {
        let marker = EndTxnMarker { committed: true, coordinator_epoch: 12 };
        let mut bytes = end_txn_marker(4001, 3, marker, 1_700_000_000_010).unwrap();
        batch::assign_in_place(&mut bytes, 102, 7).unwrap();
        let kafka = unhex(
            "0000000000000066 00000042 00000007 02 f5a53c67 0030 00000000 0000018bcfe5680a 0000018bcfe5680a
             0000000000000fa1 0003 ffffffff 00000001 20000000080000000 10c00000000000c00",
        );
        assert_eq!(bytes, kafka);
        let batch = Batch::parse(&bytes).unwrap();
        let mut scratch = Vec::new();
        let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
        assert_eq!(EndTxnMarker::decode(&record).unwrap(), Some(marker));
        assert_eq!(ControlType::decode(record.key().unwrap()).unwrap(), ControlType::Commit);
    }

    #[test]
    fn batch_emptied_by_compaction_keeps_its_offsets_and_sequence() {
        let bytes = unhex(
            "0000000000000064 00000031 00000007 02 2d4d8b7a 0000 00000001 ffffffffffffffff 0000018bcfe56805
             0000000000000fa1 0003 00000000 00000000",
        );
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        let header = batch.header();
        assert_eq!((header.base_offset(), header.last_offset(), header.records_count()), (100, 101, 0));
        assert_eq!((header.base_timestamp(), header.last_sequence()), (None, Some(1)));
        assert_eq!(batch.records(&mut Vec::new(), 0).unwrap().count(), 0);
    }

    // M 230
    #[test]
    fn tombstone_with_a_delete_horizon_keeps_its_own_time() {
        let bytes = unhex(
            "00000000000000c8 0000003d 00000007 02 6b59969d 0040 00000000 0000018bd50bc400 0000018bcfe56800
             ffffffffffffffff ffff ffffffff 00000001 1600ffefb25200046b310100",
        );
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.header().delete_horizon_ms(), Some(1_700_086_400_000));
        let mut scratch = Vec::new();
        let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
        assert_eq!(
            (record.timestamp(), record.key(), record.value()),
            (Some(1_700_000_000_000), Some(&b"k1"[..]), None)
        );
    }

    // M 229
    #[test]
    fn sequence_after_the_largest_is_zero() {
        assert_eq!(batch::add_sequence(i32::MAX, 1), 0);
        assert_eq!(batch::add_sequence(2_147_483_637, 20), 9);
        assert_eq!(batch::add_sequence(5, 0), 5);
    }

    #[test]
    fn builder_refuses_what_kafka_refuses() {
        let record = |builder: BatchBuilder| builder.record(1, None, None).build();
        assert!(BatchBuilder::new().build().is_err());
        assert!(record(BatchBuilder::new().transactional()).is_err());
        assert!(record(BatchBuilder::new().producer(1, -1, 0)).is_err());
        assert!(record(BatchBuilder::new().producer(1, 0, -1)).is_err());
        assert!(BatchBuilder::new().record(-5, None, None).build().is_err());
        let repeated = NewRecord { offset_delta: Some(0), ..NewRecord::default() };
        assert!(BatchBuilder::new().append(repeated).append(repeated).build().is_err());
    }

    // M 229
    #[test]
    fn every_byte_after_the_checksum_is_covered_by_it() {
        let bytes = plain_vector();
        for at in 0..bytes.len() {
            let mut harmed = bytes.clone();
            harmed[at] ^= 0x01;
            let caught = Batch::parse(&harmed).and_then(|batch| batch.check_crc()).is_err();
            let outside = at < batch::BATCH_LENGTH_AT || (batch::LEADER_EPOCH_AT..batch::MAGIC_AT).contains(&at);
            assert_eq!(caught, !outside, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for batch in batch::Batches::new(&bytes).flatten() {
                let _ = batch.check_crc();
            }
        }

        // M 228
        #[test]
        fn harmed_records_never_panic(at in 61_usize..89, value: u8) {
            let mut bytes = plain_vector();
            bytes[at] = value;
            let batch = Batch::parse(&bytes).unwrap();
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch, 1 << 20).unwrap().flatten() {
                prop_assert_eq!(record.headers().count(), record.headers().len());
            }
        }

        // M 228
        #[test]
        fn records_built_are_the_records_read(
            records in proptest::collection::vec((0_i64..1 << 45, any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>()), 1..20)
        ) {
            let mut builder = BatchBuilder::new().base_offset(7);
            for (timestamp, key, value) in &records {
                builder = builder.record(*timestamp, key.as_deref(), value.as_deref());
            }
            let bytes = builder.build().unwrap();
            let batch = Batch::parse(&bytes).unwrap();
            let mut scratch = Vec::new();
            let read: Vec<_> = batch
                .records(&mut scratch, 0).unwrap()
                .map(|record| record.map(|r| (r.timestamp().unwrap(), r.key().map(<[u8]>::to_vec), r.value().map(<[u8]>::to_vec))))
                .collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, records);
        }
    }
}
