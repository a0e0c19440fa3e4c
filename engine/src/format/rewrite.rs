//! Batches as compaction leaves them: with fewer records, with a delete horizon, or with no record at all.
//!
//! What a producer or a follower recognises a batch by never changes: base offset, last offset, producer, sequence,
//! leader epoch, flags and codec. Follows `MemoryRecords.buildRetainedRecordsInto` and
//! `DefaultRecordBatch.writeEmptyHeader`. Pure.

use super::{
    batch::{
        ATTRIBUTES_AT, BASE_TIMESTAMP_AT, BATCH_LENGTH_AT, Batch, CODEC_MASK, CONTROL_BIT, CRC_AT, DELETE_HORIZON_BIT,
        HEADER_SIZE, LOG_OVERHEAD, MAX_TIMESTAMP_AT, RECORDS_COUNT_AT, TIMESTAMP_TYPE_BIT, TRANSACTIONAL_BIT,
        TimestampType,
    },
    compression::{self, Codec, Compression},
    error::FormatError,
    in_place::put,
    record::Record,
    varint::{put_varint, put_varlong, varlong_len},
};
use crate::types::Timestamp;

/// A record that stays, borrowed from its batch: what a rewritten batch needs of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptRecord<'a> {
    /// -1 if it has none.
    timestamp: Timestamp,
    offset_delta: i32,
    /// Key, value and headers as stored.
    body: &'a [u8],
}

impl<'a> KeptRecord<'a> {
    pub(crate) fn new(record: &Record<'a>) -> Self {
        Self { timestamp: record.timestamp().unwrap_or(-1), offset_delta: record.offset_delta(), body: record.body() }
    }
}

/// Appends to `out` the batch with these records alone, at least one, ascending. With a delete horizon the base
/// timestamp is that, else the timestamp of the first record. `scratch` is used for records to be compressed.
///
/// # Errors
/// [`FormatError::Invalid`] for a batch of 2 GiB or more; what the codec says. `out` is then as it was.
pub(crate) fn rebuild(
    batch: &Batch<'_>,
    records: &[KeptRecord<'_>],
    delete_horizon_ms: Option<Timestamp>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let start = out.len();
    let result = append_rebuilt(batch, records, delete_horizon_ms, scratch, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append_rebuilt(
    batch: &Batch<'_>,
    records: &[KeptRecord<'_>],
    delete_horizon_ms: Option<Timestamp>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let start = out.len();
    let attributes = batch.header().attributes();
    let codec = attributes.codec()?;
    // Kafka takes a negative horizon for none.
    let horizon = delete_horizon_ms.filter(|horizon| *horizon >= 0);
    let first_timestamp = records.first().map_or(-1, |first| first.timestamp);
    let base_timestamp = horizon.unwrap_or(first_timestamp);
    out.extend_from_slice(batch.bytes().get(..HEADER_SIZE).unwrap_or_default());
    if codec == Codec::None {
        put_records(out, records, base_timestamp)?;
    } else {
        scratch.clear();
        put_records(scratch, records, base_timestamp)?;
        compression::compress(Compression::with_default_level(codec), scratch, out)?;
    }
    let known = CODEC_MASK | TIMESTAMP_TYPE_BIT | TRANSACTIONAL_BIT | CONTROL_BIT;
    let max_timestamp = match attributes.timestamp_type() {
        TimestampType::LogAppendTime => batch.header().raw_max_timestamp(),
        TimestampType::CreateTime => records.iter().map(|record| record.timestamp).max().unwrap_or(-1),
    };
    let fields = Fields {
        attributes: (attributes.bits() & known) | if horizon.is_some() { DELETE_HORIZON_BIT } else { 0 },
        base_timestamp,
        max_timestamp,
        records_count: i32::try_from(records.len()).unwrap_or(i32::MAX),
    };
    seal(out.get_mut(start..).unwrap_or_default(), &fields)
}

/// Appends to `out` the header of a batch without records: no codec, no base timestamp, no delete horizon.
///
/// # Errors
/// None that a parsed batch can cause.
pub(crate) fn empty(batch: &Batch<'_>, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let start = out.len();
    let known = TIMESTAMP_TYPE_BIT | TRANSACTIONAL_BIT | CONTROL_BIT;
    let fields = Fields {
        attributes: batch.header().attributes().bits() & known,
        base_timestamp: -1,
        max_timestamp: batch.header().raw_max_timestamp(),
        records_count: 0,
    };
    out.extend_from_slice(batch.bytes().get(..HEADER_SIZE).unwrap_or_default());
    seal(out.get_mut(start..).unwrap_or_default(), &fields)
}

/// The header fields that a rewrite changes, besides length and checksum.
struct Fields {
    attributes: i16,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    records_count: i32,
}

/// Writes what changed into the header at the front of a whole batch.
fn seal(bytes: &mut [u8], fields: &Fields) -> Result<(), FormatError> {
    let length = bytes.len().saturating_sub(LOG_OVERHEAD);
    let length = i32::try_from(length).map_err(|_| FormatError::Invalid {
        what: "batch length",
        value: i64::MAX,
        why: "it exceeds 2147483647",
    })?;
    put(bytes, BATCH_LENGTH_AT, length.to_be_bytes())?;
    put(bytes, ATTRIBUTES_AT, fields.attributes.to_be_bytes())?;
    put(bytes, BASE_TIMESTAMP_AT, fields.base_timestamp.to_be_bytes())?;
    put(bytes, MAX_TIMESTAMP_AT, fields.max_timestamp.to_be_bytes())?;
    put(bytes, RECORDS_COUNT_AT, fields.records_count.to_be_bytes())?;
    let crc = crc32c::crc32c(bytes.get(ATTRIBUTES_AT..).unwrap_or_default());
    put(bytes, CRC_AT, crc.to_be_bytes())
}

fn put_records(out: &mut Vec<u8>, records: &[KeptRecord<'_>], base_timestamp: Timestamp) -> Result<(), FormatError> {
    for record in records {
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let len = 1_usize
            .saturating_add(varlong_len(timestamp_delta))
            .saturating_add(varlong_len(i64::from(record.offset_delta)))
            .saturating_add(record.body.len());
        let len = i32::try_from(len).map_err(|_| FormatError::Invalid {
            what: "record length",
            value: i64::MAX,
            why: "it exceeds 2147483647",
        })?;
        put_varint(out, len);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, record.offset_delta);
        out.extend_from_slice(record.body);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::{
        batch::assign_in_place,
        builder::{BatchBuilder, NewRecord},
    };

    fn codecs() -> Vec<Codec> {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].into()
    }

    fn source(codec: Codec) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new().compression(Compression::with_default_level(codec)).producer(9, 3, 40).transactional();
        for n in 0..4_i64 {
            let text = format!("value {n}");
            let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", None)];
            builder = builder.append(NewRecord {
                timestamp: Some(1000 + 10 * n),
                key: Some(b"key"),
                value: Some(text.as_bytes()),
                headers: &headers,
                offset_delta: None,
            });
        }
        let mut bytes = builder.build().unwrap();
        assign_in_place(&mut bytes, 70, 5).unwrap();
        bytes
    }

    fn rebuilt(bytes: &[u8], keep: &[i64], horizon: Option<Timestamp>) -> Vec<u8> {
        let batch = Batch::parse(bytes).unwrap();
        let mut decompressed = Vec::new();
        let records: Vec<_> = batch
            .records(&mut decompressed, 1 << 20)
            .unwrap()
            .map(Result::unwrap)
            .filter(|r| keep.contains(&r.offset()))
            .collect();
        let kept: Vec<_> = records.iter().map(KeptRecord::new).collect();
        let mut out = b"before".to_vec();
        rebuild(&batch, &kept, horizon, &mut Vec::new(), &mut out).unwrap();
        out.split_off(6)
    }

    // M 231
    #[test]
    fn rebuilt_batch_keeps_its_identity_and_its_records() {
        for codec in codecs() {
            let original = source(codec);
            let bytes = rebuilt(&original, &[71, 73], None);
            let (old, new) = (Batch::parse(&original).unwrap(), Batch::parse(&bytes).unwrap());
            new.check_crc().unwrap();
            let (old, header) = (old.header(), new.header());
            assert_eq!(header.size(), bytes.len());
            assert_eq!((header.base_offset(), header.last_offset()), (70, 73));
            assert_eq!((header.producer(), header.leader_epoch()), (old.producer(), old.leader_epoch()));
            assert_eq!((header.attributes(), header.records_count()), (old.attributes(), 2));
            assert_eq!((header.base_timestamp(), header.max_timestamp()), (Some(1010), Some(1030)));
            let mut scratch = Vec::new();
            let records: Vec<_> = new.records(&mut scratch, 1 << 20).unwrap().map(Result::unwrap).collect();
            let found: Vec<_> = records.iter().map(|r| (r.offset(), r.timestamp(), r.value())).collect();
            assert_eq!(found, [(71, Some(1010), Some(&b"value 1"[..])), (73, Some(1030), Some(&b"value 3"[..]))]);
            assert!(records.iter().all(|record| record.headers().count() == 1));
        }
    }

    // M 230
    #[test]
    fn rebuilt_batch_with_a_horizon_counts_its_times_from_there() {
        let original = source(Codec::None);
        let bytes = rebuilt(&original, &[70, 72], Some(5_000_000));
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.header().delete_horizon_ms(), Some(5_000_000));
        assert_eq!(batch.header().max_timestamp(), Some(1020));
        let mut scratch = Vec::new();
        let times: Vec<_> = batch.records(&mut scratch, 0).unwrap().map(|r| r.unwrap().timestamp()).collect();
        assert_eq!(times, [Some(1000), Some(1020)]);
        assert_eq!(rebuilt(&bytes, &[72], None).len(), rebuilt(&original, &[72], None).len());
    }

    // M 231
    #[test]
    fn batch_rebuilt_with_all_its_records_is_the_same() {
        let original = source(Codec::None);
        assert_eq!(rebuilt(&original, &[70, 71, 72, 73], None), original);
    }

    // M 231
    #[test]
    fn emptied_batch_is_a_header() {
        for codec in codecs() {
            let original = source(codec);
            let batch = Batch::parse(&original).unwrap();
            let mut out = Vec::new();
            empty(&batch, &mut out).unwrap();
            let emptied = Batch::parse(&out).unwrap();
            emptied.check_crc().unwrap();
            let header = emptied.header();
            assert_eq!((out.len(), header.records_count()), (HEADER_SIZE, 0));
            assert_eq!((header.base_offset(), header.last_offset()), (70, 73));
            assert_eq!((header.last_sequence(), header.base_timestamp()), (Some(43), None));
            assert_eq!(header.max_timestamp(), Some(1030));
            assert!(header.attributes().is_transactional());
            assert_eq!(header.attributes().codec().unwrap(), Codec::None);
        }
    }
}
