//! Records inside a batch: borrowed views and their iterator.

use super::{
    batch::{BatchHeader, TimestampType},
    bytes::Reader,
    error::FormatError,
};
use crate::types::{Offset, Timestamp};

/// One record, borrowed from its batch or from the buffer that it was decompressed into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    offset: Offset,
    timestamp: Timestamp,
    offset_delta: i32,
    body: &'a [u8],
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// Its offset in the partition.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Its timestamp in ms; `None` if it has none.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        (self.timestamp >= 0).then_some(self.timestamp)
    }

    /// Distance from the batch's base offset.
    #[must_use]
    pub fn offset_delta(&self) -> i32 {
        self.offset_delta
    }

    /// Its key; `None` if null.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Its value; `None` if null, which deletes the key on a compacted topic.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Key, value and headers as stored: what a rewritten batch takes over as it is.
    pub(crate) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Its headers in order; keys may repeat.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }
}

/// The headers of a record: pairs of key (UTF-8 by convention) and value (may be null).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Walked once when the record was decoded, so that nothing here can fail.
    bytes: &'a [u8],
    count: usize,
}

impl Headers<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new("header", self.bytes);
        let header = header(&mut reader).ok()?;
        self.bytes = reader.rest();
        self.count = self.count.saturating_sub(1);
        Some(header)
    }
}

type Header<'a> = (&'a [u8], Option<&'a [u8]>);

fn header<'a>(reader: &mut Reader<'a>) -> Result<Header<'a>, FormatError> {
    let key_len = reader.varint()?;
    let key = reader.take(usize::try_from(key_len).map_err(|_| negative("header key length", key_len))?)?;
    Ok((key, nullable(reader, "header value length")?))
}

/// Walks the records of one batch in order; yields nothing after an error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    reader: Reader<'a>,
    left: i32,
    base_offset: Offset,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
}

impl<'a> Records<'a> {
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Result<Self, FormatError> {
        if header.records_count() < 0 {
            return Err(negative("records count", header.records_count()));
        }
        let appended = header.attributes().timestamp_type() == TimestampType::LogAppendTime;
        Ok(Self {
            reader: Reader::new("record", payload),
            left: header.records_count(),
            base_offset: header.base_offset(),
            base_timestamp: header.raw_base_timestamp(),
            append_time: appended.then_some(header.raw_max_timestamp()),
        })
    }

    fn decode(&mut self) -> Result<Record<'a>, FormatError> {
        let len = self.reader.varint()?;
        let body = self.reader.take(usize::try_from(len).map_err(|_| negative("record length", len))?)?;
        let mut reader = Reader::new("record", body);
        reader.i8()?;
        let timestamp_delta = reader.varlong()?;
        let offset_delta = reader.varint()?;
        let body = reader.rest();
        let key = nullable(&mut reader, "key length")?;
        let value = nullable(&mut reader, "value length")?;
        let headers = headers(&mut reader)?;
        if !reader.rest().is_empty() {
            let value = i64::from(len);
            return Err(FormatError::Invalid { what: "record length", value, why: "bytes are left after the record" });
        }
        let offset = self.base_offset.checked_add(i64::from(offset_delta)).ok_or(FormatError::Invalid {
            what: "offset delta",
            value: i64::from(offset_delta),
            why: "the offset overflows",
        })?;
        // Java's addition wraps, and old data may rely on it to store any timestamp.
        let timestamp = self.append_time.unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta));
        Ok(Record { offset, timestamp, offset_delta, body, key, value, headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.reader.rest().is_empty() {
                return None;
            }
            let value = i64::try_from(self.reader.rest().len()).unwrap_or(i64::MAX);
            self.reader = Reader::new("record", &[]);
            let why = "that many bytes are left after the last record";
            return Some(Err(FormatError::Invalid { what: "records", value, why }));
        }
        let record = self.decode();
        self.left = self.left.saturating_sub(1);
        if record.is_err() {
            self.left = 0;
            self.reader = Reader::new("record", &[]);
        }
        Some(record)
    }
}

fn headers<'a>(reader: &mut Reader<'a>) -> Result<Headers<'a>, FormatError> {
    let declared = reader.varint()?;
    let count = usize::try_from(declared).map_err(|_| negative("headers count", declared))?;
    let bytes = reader.rest();
    if count > bytes.len() {
        let why = "there are fewer bytes than that";
        return Err(FormatError::Invalid { what: "headers count", value: i64::from(declared), why });
    }
    for _ in 0..count {
        header(reader)?;
    }
    Ok(Headers { bytes, count })
}

fn nullable<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<Option<&'a [u8]>, FormatError> {
    match reader.varint()? {
        -1 => Ok(None),
        len => Ok(Some(reader.take(usize::try_from(len).map_err(|_| negative(what, len))?)?)),
    }
}

fn negative(what: &'static str, value: i32) -> FormatError {
    FormatError::Invalid { what, value: i64::from(value), why: "it is negative" }
}
