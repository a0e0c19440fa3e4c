//! Zstandard, by libzstd.
//!
//! Written is one frame without checksum, as by Kafka. Unlike Kafka's, which come from a stream of unknown length, it
//! declares the content's size and takes no larger window than that needs, so readers need no more memory than the
//! content. Read are any number of frames in a row, as the library's stream reader does; a frame cut short is an error.

use std::io::Write;

use zstd::stream::{read, write};

use super::Codec;
use super::decompressor::Stream;
use crate::format::error::FormatError;

/// The binary logarithm of the largest window in bytes that is accepted: 128 MiB, libzstd's own default and so
/// Kafka's. It bounds the memory that a frame can claim.
const WINDOW_LOG_MAX: u32 = 27;

/// Appends one frame.
pub(super) fn compress(level: i32, input: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
    let refuses = |error| Codec::Zstd.refuses(error);
    let mut encoder = write::Encoder::new(output, level).map_err(refuses)?;
    encoder.set_pledged_src_size(u64::try_from(input.len()).ok()).map_err(refuses)?;
    encoder.write_all(input).and_then(|()| encoder.do_finish()).map_err(refuses)
}

/// A decoder of all frames of `input`.
pub(super) fn decoder(input: &[u8]) -> Result<Stream<read::Decoder<'static, &[u8]>>, FormatError> {
    let refuses = |error| Codec::Zstd.refuses(error);
    let mut decoder = read::Decoder::with_buffer(input).map_err(refuses)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(refuses)?;
    Ok(Stream::new(Codec::Zstd, decoder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::format::compression::tests::{RECORDS, decoded};

    const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

    fn frame(input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        compress(3, input, &mut output).unwrap();
        output
    }

    /// A frame of one raw block, with a window of 2^`window_log` bytes and no content size, as Kafka writes.
    fn raw_frame(window_log: u8, bytes: &[u8]) -> Vec<u8> {
        let block_header = u8::try_from(bytes.len()).unwrap() << 3 | 1;
        [MAGIC.as_slice(), &[0, (window_log - 10) << 3, block_header, 0, 0], bytes].concat()
    }

    #[test]
    fn frame_written_declares_size_and_no_checksum() {
        // Descriptor: single segment, content size in one byte, no checksum, no dictionary; then the size.
        assert_eq!(frame(&RECORDS)[..6], [0x28, 0xB5, 0x2F, 0xFD, 0x20, 28]);
    }

    #[test]
    fn frame_written_as_a_stream_is_read() {
        let input = write_as_kafka(&RECORDS);
        assert_eq!(input[4], 0, "neither size nor checksum");
        assert_eq!(decoded(Codec::Zstd, &input), Ok(RECORDS.to_vec()));
    }

    fn write_as_kafka(input: &[u8]) -> Vec<u8> {
        let mut encoder = write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(input).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_in_a_row_are_read() {
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 7, 7];
        let input = [frame(b"abc").as_slice(), &skippable, &frame(b""), &write_as_kafka(b"def")].concat();
        assert_eq!(decoded(Codec::Zstd, &input), Ok(b"abcdef".to_vec()));
    }

    #[test]
    fn bytes_behind_last_frame_are_refused() {
        for garbage in [b"\0".as_slice(), b"garbage", &MAGIC] {
            let input = [frame(b"abc").as_slice(), garbage].concat();
            assert!(matches!(decoded(Codec::Zstd, &input), Err(FormatError::Compression { .. })), "{garbage:?}");
        }
    }

    #[test]
    fn window_of_the_maximum_is_read_and_a_larger_refused() {
        assert_eq!(decoded(Codec::Zstd, &raw_frame(27, b"abc")), Ok(b"abc".to_vec()));
        for window_log in [28, 31, 41] {
            let result = decoded(Codec::Zstd, &raw_frame(window_log, b"abc"));
            assert!(matches!(result, Err(FormatError::Compression { .. })), "{window_log}: {result:?}");
        }
    }

    #[test]
    fn content_size_of_an_exbibyte_is_refused() {
        let input = [MAGIC.as_slice(), &[0xE0], &(1u64 << 60).swap_bytes().to_be_bytes(), &[1, 0, 0]].concat();
        assert!(matches!(decoded(Codec::Zstd, &input), Err(FormatError::Compression { .. })));
    }

    #[test]
    fn checksum_in_a_frame_is_verified() {
        let mut encoder = write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&RECORDS).unwrap();
        let mut input = encoder.finish().unwrap();
        assert_eq!(decoded(Codec::Zstd, &input), Ok(RECORDS.to_vec()));
        *input.last_mut().unwrap() ^= 1;
        assert!(matches!(decoded(Codec::Zstd, &input), Err(FormatError::Compression { .. })));
    }
}
