//! The primitives of Kafka's flexible messages: what metadata records and KRaft's control records consist of.
//!
//! Owns: numbers, compact strings and arrays, tagged fields. Knows nothing of any record. Keeps: no panic on any input, no
//! allocation sized by what the input claims.

use duramen::format::uuid::Uuid;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

const TRUNCATED: Malformed = Malformed("it ends too early");

/// Reads a message from its first byte on.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const LEN: usize>(&mut self) -> Result<[u8; LEN], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    pub(super) fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    /// An unsigned varint of at most five bytes (`ByteUtils.readUnsignedVarint`).
    pub(super) fn unsigned(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a varint is longer than five bytes"))
    }

    /// A length that is stored one higher; `None` is null.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        let stored = usize::try_from(self.unsigned()?).map_err(|_| TRUNCATED)?;
        Ok(stored.checked_sub(1))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let Some(len) = self.length()? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a string is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        self.nullable_string()?.ok_or(Malformed("a string is null that must not be"))
    }

    pub(super) fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(len) = self.length()? else { return Ok(None) };
        // Every element has a byte at least, so a false length ends at the end of the input.
        (0..len).map(|_| element(self)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_array(element)?.ok_or(Malformed("an array is null that must not be"))
    }

    /// The tagged fields at the end of a struct; `field` leaves unread what it does not know.
    pub(super) fn tagged(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..self.unsigned()? {
            let tag = self.unsigned()?;
            let len = usize::try_from(self.unsigned()?).map_err(|_| TRUNCATED)?;
            field(tag, &mut Reader::new(self.take(len)?))?;
        }
        Ok(())
    }

    /// Tagged fields of which none is known.
    pub(super) fn no_tagged(&mut self) -> Result<(), Malformed> {
        self.tagged(|_, _| Ok(()))
    }
}

/// Writes a message.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// The bytes of one field.
    pub(super) fn field(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::default();
        write(&mut writer);
        writer.bytes
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.bytes.extend(value.bytes());
    }

    pub(super) fn unsigned(&mut self, mut value: u32) {
        while value > 0x7f {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push((value & 0x7f) as u8);
    }

    /// A length, stored one higher. Nothing here is anywhere near 4 GiB: the log takes no batch of more than 8 MiB.
    fn length(&mut self, len: usize) {
        self.unsigned(u32::try_from(len).unwrap_or(u32::MAX - 1).saturating_add(1));
    }

    pub(super) fn string(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend(value.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.unsigned(0),
        }
    }

    pub(super) fn array<T>(&mut self, values: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.length(values.len());
        values.iter().for_each(|value| element(self, value));
    }

    /// The tagged fields that there are, by ascending tag.
    pub(super) fn tagged<const LEN: usize>(&mut self, fields: [(u32, Option<Vec<u8>>); LEN]) {
        let present = fields.iter().filter_map(|(tag, field)| Some((*tag, field.as_ref()?)));
        self.unsigned(u32::try_from(present.clone().count()).unwrap_or(u32::MAX));
        for (tag, field) in present {
            self.unsigned(tag);
            self.unsigned(u32::try_from(field.len()).unwrap_or(u32::MAX));
            self.bytes.extend(field);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_strings_and_arrays_come_back() {
        let bytes = Writer::field(|w| {
            for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
                w.unsigned(value);
            }
            w.string("");
            w.nullable_string(None);
            w.array(&[1, -2], |w, value| w.i32(*value));
            w.bool(true);
            w.tagged([(0, None), (3, Some(vec![7]))]);
        });
        let mut reader = Reader::new(&bytes);
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            assert_eq!(reader.unsigned(), Ok(value));
        }
        assert_eq!(reader.string().as_deref(), Ok(""));
        assert_eq!(reader.nullable_string(), Ok(None));
        assert_eq!(reader.array(Reader::i32), Ok(vec![1, -2]));
        assert_eq!(reader.bool(), Ok(true));
        let mut tags = Vec::new();
        reader
            .tagged(|tag, field| {
                tags.push((tag, field.i8()?));
                Ok(())
            })
            .unwrap();
        assert_eq!(tags, [(3, 7)]);
        assert!(reader.is_at_end());
    }

    #[test]
    fn unknown_tagged_fields_are_skipped() {
        let bytes = Writer::field(|w| {
            w.tagged([(9, Some(vec![1, 2, 3]))]);
            w.i8(5);
        });
        let mut reader = Reader::new(&bytes);
        reader.no_tagged().unwrap();
        assert_eq!(reader.i8(), Ok(5));
    }

    #[test]
    fn false_lengths_and_endless_varints_are_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).array(Reader::i32), Err(TRUNCATED));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).string(), Err(TRUNCATED));
        assert!(Reader::new(&[0x80; 9]).unsigned().is_err());
        assert!(Reader::new(&[0]).string().is_err());
        assert!(Reader::new(&[2, 0xff]).string().is_err());
    }
}
