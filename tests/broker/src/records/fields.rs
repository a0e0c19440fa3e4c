//! The fields that records of internal topics consist of, in the two encodings of Kafka's protocol: the older one, and the
//! compact one of flexible versions.
//!
//! Knows nothing of which record has which fields. Keeps: what is read never exceeds the bytes that are there.

use bytes::{Buf, BufMut, Bytes};
use kafka_protocol::protocol::StrBytes;

/// A key or value of an internal topic that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// It ends within a field, or a length in it reaches beyond its end.
    #[error("the record ends too early")]
    Truncated,
    /// A length is negative where there has to be one.
    #[error("a field that must be there is null")]
    Null,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// It has a version that this broker has not heard of.
    #[error("version {0} is not known")]
    UnknownVersion(i16),
    /// A string is longer than its length field can say.
    #[error("a string of {0} bytes is too long for a record")]
    TooLong(usize),
}

/// How lengths are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Lengths as fixed integers.
    Plain,
    /// Lengths as varints, one more than they are, and tagged fields at the end of each structure.
    Compact,
}

/// Reads the fields of one record in order.
#[derive(Debug, Clone)]
pub(crate) struct FieldReader {
    rest: Bytes,
    encoding: Encoding,
}

impl FieldReader {
    /// Starts at the front of `bytes`. What is read shares their memory.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, encoding: Encoding::Plain }
    }

    /// How the fields from here on are encoded.
    pub(crate) fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// Reads an int8.
    pub(crate) fn i8(&mut self) -> Result<i8, RecordError> {
        self.rest.try_get_i8().map_err(|_| RecordError::Truncated)
    }

    /// Reads an int16.
    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        self.rest.try_get_i16().map_err(|_| RecordError::Truncated)
    }

    /// Reads an int32.
    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        self.rest.try_get_i32().map_err(|_| RecordError::Truncated)
    }

    /// Reads an int64.
    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        self.rest.try_get_i64().map_err(|_| RecordError::Truncated)
    }

    /// Reads a string.
    pub(crate) fn string(&mut self) -> Result<StrBytes, RecordError> {
        self.nullable_string()?.ok_or(RecordError::Null)
    }

    /// Reads a string that may be null.
    pub(crate) fn nullable_string(&mut self) -> Result<Option<StrBytes>, RecordError> {
        let len = match self.encoding {
            Encoding::Plain => usize::try_from(self.i16()?).ok(),
            Encoding::Compact => self.compact_len()?,
        };
        len.map(|len| StrBytes::from_utf8(self.take(len)?).map_err(|_| RecordError::NotUtf8)).transpose()
    }

    /// Reads bytes.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let len = self.len()?;
        self.take(len)
    }

    /// Reads how many elements an array has. The caller allocates as it reads them: the number is what the bytes claim.
    pub(crate) fn len(&mut self) -> Result<usize, RecordError> {
        self.nullable_len()?.ok_or(RecordError::Null)
    }

    /// Reads how many elements an array has that may be null.
    pub(crate) fn nullable_len(&mut self) -> Result<Option<usize>, RecordError> {
        match self.encoding {
            Encoding::Plain => Ok(usize::try_from(self.i32()?).ok()),
            Encoding::Compact => self.compact_len(),
        }
    }

    /// Reads the tagged fields of a structure, and gives each to `each`. None in the older encoding.
    pub(crate) fn tagged(
        &mut self,
        mut each: impl FnMut(u32, Bytes) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if self.encoding == Encoding::Plain {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = usize::try_from(self.unsigned_varint()?).map_err(|_| RecordError::Truncated)?;
            each(tag, self.take(len)?)?;
        }
        Ok(())
    }

    fn compact_len(&mut self) -> Result<Option<usize>, RecordError> {
        let len = self.unsigned_varint()?.checked_sub(1);
        len.map(|len| usize::try_from(len).map_err(|_| RecordError::Truncated)).transpose()
    }

    fn unsigned_varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.rest.try_get_u8().map_err(|_| RecordError::Truncated)?;
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Truncated)
    }

    fn take(&mut self, len: usize) -> Result<Bytes, RecordError> {
        if len > self.rest.len() {
            return Err(RecordError::Truncated);
        }
        Ok(self.rest.split_to(len))
    }
}

/// Writes the fields of one record in order. A mistake is remembered and returned by [`FieldWriter::finish`].
#[derive(Debug)]
pub(crate) struct FieldWriter {
    bytes: Vec<u8>,
    encoding: Encoding,
    too_long: Option<usize>,
}

impl FieldWriter {
    /// Begins with the version that every key and value begins with.
    pub(crate) fn new(version: i16, encoding: Encoding) -> Self {
        Self { bytes: version.to_be_bytes().to_vec(), encoding, too_long: None }
    }

    /// The record.
    pub(crate) fn finish(self) -> Result<Vec<u8>, RecordError> {
        match self.too_long {
            Some(len) => Err(RecordError::TooLong(len)),
            None => Ok(self.bytes),
        }
    }

    /// Writes an int8.
    pub(crate) fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes.put_i8(value);
        self
    }

    /// Writes an int16.
    pub(crate) fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes.put_i16(value);
        self
    }

    /// Writes an int32.
    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.put_i32(value);
        self
    }

    /// Writes an int64.
    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.put_i64(value);
        self
    }

    /// Writes a string. A request of a flexible version can hold one that the older encoding cannot.
    pub(crate) fn string(&mut self, value: &str) -> &mut Self {
        match (self.encoding, i16::try_from(value.len())) {
            (Encoding::Compact, _) => self.compact_len(value.len()),
            (Encoding::Plain, Ok(len)) => self.bytes.put_i16(len),
            (Encoding::Plain, Err(_)) => self.too_long = Some(value.len()),
        }
        self.bytes.put_slice(value.as_bytes());
        self
    }

    /// Writes a string that may be null.
    pub(crate) fn nullable_string(&mut self, value: Option<&str>) -> &mut Self {
        match (value, self.encoding) {
            (Some(value), _) => return self.string(value),
            (None, Encoding::Plain) => self.bytes.put_i16(-1),
            (None, Encoding::Compact) => self.bytes.put_u8(0),
        }
        self
    }

    /// Writes bytes.
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.len(value.len());
        self.bytes.put_slice(value);
        self
    }

    /// Writes how many elements an array has.
    pub(crate) fn len(&mut self, len: usize) -> &mut Self {
        match self.encoding {
            Encoding::Plain => self.bytes.put_i32(i32::try_from(len).unwrap_or(i32::MAX)),
            Encoding::Compact => self.compact_len(len),
        }
        self
    }

    /// Writes how many elements an array has that may be null.
    pub(crate) fn nullable_len(&mut self, len: Option<usize>) -> &mut Self {
        match (len, self.encoding) {
            (Some(len), _) => return self.len(len),
            (None, Encoding::Plain) => self.bytes.put_i32(-1),
            (None, Encoding::Compact) => self.bytes.put_u8(0),
        }
        self
    }

    /// Writes the tagged fields of a structure, ascending by tag. None may be given in the older encoding.
    pub(crate) fn tagged(&mut self, fields: &[(u32, &[u8])]) -> &mut Self {
        if self.encoding == Encoding::Plain {
            debug_assert!(fields.is_empty(), "the older encoding has no tagged fields");
            return self;
        }
        self.unsigned_varint(fields.len());
        for (tag, bytes) in fields {
            self.unsigned_varint(usize::try_from(*tag).unwrap_or_default());
            self.unsigned_varint(bytes.len());
            self.bytes.put_slice(bytes);
        }
        self
    }

    fn compact_len(&mut self, len: usize) {
        self.unsigned_varint(len.saturating_add(1));
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.put_u8(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(u8::try_from(value).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(encoding: Encoding) -> Vec<u8> {
        let mut writer = FieldWriter::new(7, encoding);
        writer.i32(-2).i64(1 << 40).string("g\u{fc}t").nullable_string(None).nullable_string(Some("")).bytes(&[9; 200]);
        writer.len(0);
        if encoding == Encoding::Compact {
            writer.tagged(&[(0, b"zero"), (300, b"")]);
        }
        writer.finish().unwrap()
    }

    fn read(bytes: Vec<u8>, encoding: Encoding) -> Result<(), RecordError> {
        let mut reader = FieldReader::new(bytes.into());
        assert_eq!(reader.i16()?, 7);
        reader.set_encoding(encoding);
        assert_eq!((reader.i32()?, reader.i64()?), (-2, 1 << 40));
        assert_eq!(&*reader.string()?, "g\u{fc}t");
        assert_eq!(reader.nullable_string()?, None);
        assert_eq!(reader.nullable_string()?, Some(StrBytes::default()));
        assert_eq!(&reader.bytes()?[..], &[9; 200]);
        assert_eq!(reader.len()?, 0);
        let mut tags = Vec::new();
        reader.tagged(|tag, bytes| {
            tags.push((tag, bytes));
            Ok(())
        })?;
        if encoding == Encoding::Compact {
            assert_eq!(tags, [(0, Bytes::from_static(b"zero")), (300, Bytes::new())]);
        }
        Ok(())
    }

    #[test]
    fn fields_that_were_written_are_read_and_every_shorter_record_is_refused() {
        for encoding in [Encoding::Plain, Encoding::Compact] {
            let bytes = written(encoding);
            read(bytes.clone(), encoding).unwrap();
            for len in 2..bytes.len() {
                assert_eq!(read(bytes[..len].to_vec(), encoding), Err(RecordError::Truncated), "{len} bytes");
            }
        }
    }

    #[test]
    fn length_beyond_the_record_or_a_null_that_may_not_be_is_refused() {
        let read = |bytes: &'static [u8]| FieldReader::new(Bytes::from_static(bytes));
        assert_eq!(read(&[0x7f, 0xff, 1]).string(), Err(RecordError::Truncated));
        assert_eq!(read(&[0xff, 0xff]).string(), Err(RecordError::Null));
        assert_eq!(read(&[0, 1, 0xff]).string(), Err(RecordError::NotUtf8));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff]).len(), Err(RecordError::Null));
        let mut endless = read(&[0xff; 9]);
        endless.set_encoding(Encoding::Compact);
        assert_eq!(endless.bytes(), Err(RecordError::Truncated));
    }

    #[test]
    fn string_that_the_older_encoding_cannot_hold_is_refused() {
        let long = "x".repeat(32_768);
        let mut writer = FieldWriter::new(0, Encoding::Plain);
        writer.string(&long);
        assert_eq!(writer.finish(), Err(RecordError::TooLong(32_768)));
        let mut writer = FieldWriter::new(0, Encoding::Compact);
        writer.string(&long);
        assert_eq!(writer.finish().unwrap().len(), 2 + 3 + 32_768);
    }
}
