//! Base-128 integers with zigzag, as records carry them. Written in the shortest form; longer forms are read.

use super::{bytes::Reader, error::FormatError};

/// Most bytes of a 32-bit varint.
const VARINT_MAX: u32 = 5;
/// Most bytes of a 64-bit varint.
const VARLONG_MAX: u32 = 10;

impl Reader<'_> {
    /// A zigzag integer of up to five bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i32, FormatError> {
        let raw = self.base128(VARINT_MAX)?;
        // Kafka drops the bits beyond 32 that a fifth byte can carry.
        let bits = u32::try_from(raw & u64::from(u32::MAX)).unwrap_or_default();
        Ok((bits >> 1).cast_signed() ^ (bits & 1).cast_signed().wrapping_neg())
    }

    /// A zigzag integer of up to ten bytes.
    #[inline]
    pub(crate) fn varlong(&mut self) -> Result<i64, FormatError> {
        let bits = self.base128(VARLONG_MAX)?;
        Ok((bits >> 1).cast_signed() ^ (bits & 1).cast_signed().wrapping_neg())
    }

    #[inline]
    fn base128(&mut self, max_len: u32) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for index in 0..max_len {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f).wrapping_shl(index.wrapping_mul(7));
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FormatError::Invalid {
            what: "varint",
            value: i64::from(max_len),
            why: "it is longer than that many bytes",
        })
    }
}

/// Appends `value` in its shortest form.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends `value` in its shortest form.
pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut bits = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [.., low] = bits.to_be_bytes();
        bits >>= 7;
        if bits == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Bytes that `value` takes in its shortest form.
pub(crate) fn varlong_len(value: i64) -> usize {
    let bits = ((value << 1) ^ (value >> 63)).cast_unsigned() | 1;
    let significant = u64::BITS.saturating_sub(bits.leading_zeros());
    usize::try_from(significant.div_ceil(7)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    // M 227
    #[test]
    fn varint_vectors_encode_and_decode() {
        let vectors: [(i64, &[u8]); 10] = [
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (1_700_000_000_000, &[0x80, 0xa0, 0xab, 0xfe, 0xf9, 0x62]),
        ];
        for (value, bytes) in vectors {
            assert_eq!(encoded(value), bytes, "{value}");
            assert_eq!(Reader::new("test", bytes).varlong().unwrap(), value);
            if let Ok(small) = i32::try_from(value) {
                assert_eq!(Reader::new("test", bytes).varint().unwrap(), small);
            }
        }
    }

    // M 227
    #[test]
    fn varint_with_six_bytes_is_refused() {
        assert!(Reader::new("test", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).varint().is_err());
        assert!(Reader::new("test", &[0x80; 11]).varlong().is_err());
        assert!(Reader::new("test", &[0x80]).varint().is_err());
    }

    #[test]
    fn varint_longer_than_needed_is_read() {
        assert_eq!(Reader::new("test", &[0x82, 0x00]).varint().unwrap(), 1);
    }

    proptest! {
        // M 227
        #[test]
        fn varlong_round_trips_in_the_predicted_length(value: i64) {
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), varlong_len(value));
            let mut reader = Reader::new("test", &bytes);
            prop_assert_eq!(reader.varlong().unwrap(), value);
            prop_assert!(reader.rest().is_empty());
        }
    }
}
