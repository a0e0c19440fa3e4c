//! gzip: deflate in members of RFC 1952, by zlib-rs.
//!
//! Written is one member without name and time. Read are any number of members in a row, each with its checksum and
//! size verified. Bytes behind the last member are an error, where Java's reader drops them in silence.

use std::io::Write;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Codec;
use super::decompressor::Stream;
use crate::format::error::FormatError;

/// Appends one member.
pub(super) fn compress(level: Option<u32>, input: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = GzEncoder::new(output, level);
    encoder.write_all(input).and_then(|()| encoder.try_finish()).map_err(|error| Codec::Gzip.refuses(error))
}

/// A decoder of all members of `input`.
pub(super) fn decoder(input: &[u8]) -> Stream<MultiGzDecoder<&[u8]>> {
    Stream::new(Codec::Gzip, input.len(), MultiGzDecoder::new(input))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::format::compression::tests::{RECORDS, decoded};

    fn member(input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        compress(None, input, &mut output).unwrap();
        output
    }

    #[test]
    fn header_written_has_neither_name_nor_time() {
        // Magic, deflate, no flags, no time; behind it extra flags and the operating system.
        assert_eq!(member(&RECORDS)[..8], [0x1F, 0x8B, 8, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn members_in_a_row_are_read() {
        let input = [member(b"abc"), member(b""), member(b"def")].concat();
        assert_eq!(decoded(Codec::Gzip, &input), Ok(b"abcdef".to_vec()));
    }

    #[test]
    fn header_with_all_optional_fields_is_read() {
        let mut input = Vec::new();
        let mut encoder = flate2::GzBuilder::new()
            .mtime(1)
            .filename("name")
            .comment("comment")
            .extra(vec![1; 9])
            .write(&mut input, flate2::Compression::best());
        encoder.write_all(&RECORDS).unwrap();
        encoder.finish().unwrap();
        assert_eq!(decoded(Codec::Gzip, &input), Ok(RECORDS.to_vec()));
    }

    #[test]
    fn bytes_behind_last_member_are_refused() {
        for garbage in [b"\0".as_slice(), b"garbage", b"\x1F\x8B", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            let input = [member(b"abc").as_slice(), garbage].concat();
            assert!(matches!(decoded(Codec::Gzip, &input), Err(FormatError::Compression { .. })), "{garbage:?}");
        }
    }

    #[test]
    fn trailer_bit_flipped_is_refused() {
        let good = member(&RECORDS);
        for bit in (good.len() - 8) * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decoded(Codec::Gzip, &bad), Err(FormatError::Compression { .. })), "bit {bit}");
        }
    }
}
