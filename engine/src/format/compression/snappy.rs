//! Snappy in the framing of the xerial library, which Kafka's Java clients use.
//!
//! ```text
//! header  82 "SNAPPY" 00, i32 version = 1, i32 lowest version that can read it = 1
//! chunk   i32 length, then one raw Snappy block of that length, which begins with its decoded length as a varint
//! ...     more chunks, until the bytes end; a header may stand where a chunk could (streams in a row)
//! ```
//!
//! Also read, because clients wrote it: one raw block without any header. As Kafka's reader, this one looks at the
//! version alone. Unlike it, this one refuses 1 to 3 bytes behind the last chunk.

use snap::raw;

use super::Codec;
use super::decompressor::{Decode, Sink};
use crate::format::bytes::Reader;
use crate::format::error::FormatError;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSION: i32 = 1;

/// Decoded bytes per block that is written.
const BLOCK_BYTES: usize = 32 * 1024;

/// Snappy's densest element: a copy of 64 bytes takes 3.
const COPY_BYTES: usize = 64;
const COPY_STORED_BYTES: usize = 3;

/// Appends a header and the chunks.
pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSION.to_be_bytes());
    output.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = raw::Encoder::new();
    let mut block = vec![0; raw::max_compress_len(input.len().min(BLOCK_BYTES))];
    for chunk in input.chunks(BLOCK_BYTES) {
        let len = encoder.compress(chunk, &mut block).map_err(|error| Codec::Snappy.refuses(error))?;
        let length = i32::try_from(len).map_err(|error| Codec::Snappy.refuses(error))?;
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(block.get(..len).unwrap_or_default());
    }
    Ok(())
}

/// The chunks not yet decoded.
pub(super) struct Chunks<'a> {
    rest: Reader<'a>,
    /// Whether there is framing; without, the rest is one block.
    framed: bool,
}

impl<'a> Chunks<'a> {
    /// Starts at the front of `input`, which must not be empty.
    pub(super) fn new(input: &'a [u8]) -> Result<Self, FormatError> {
        if input.is_empty() {
            return Err(FormatError::Truncated { what: "snappy stream", need: 1, have: 0 });
        }
        Ok(Self { rest: Reader::new("snappy stream", input), framed: input.starts_with(&MAGIC) })
    }

    fn skip_headers(&mut self) -> Result<(), FormatError> {
        while self.framed && self.rest.rest().starts_with(&MAGIC) {
            self.rest.take(MAGIC.len())?;
            let version = self.rest.i32()?;
            self.rest.i32()?;
            if version < VERSION {
                return Err(FormatError::UnsupportedVersion { what: "snappy stream", version: i64::from(version) });
            }
        }
        Ok(())
    }

    fn take_block(&mut self) -> Result<&'a [u8], FormatError> {
        if !self.framed {
            return self.rest.take(self.rest.rest().len());
        }
        let length = self.rest.i32()?;
        let len = usize::try_from(length).map_err(|_| FormatError::Invalid {
            what: "snappy chunk length",
            value: i64::from(length),
            why: "must not be negative",
        })?;
        self.rest.take(len)
    }
}

impl Decode for Chunks<'_> {
    fn append_piece(&mut self, sink: &mut Sink<'_>) -> Result<bool, FormatError> {
        self.skip_headers()?;
        if self.rest.rest().is_empty() {
            return Ok(false);
        }
        let block = self.take_block()?;
        let len = decoded_len(block)?;
        sink.append(len, |into| {
            raw::Decoder::new().decompress(block, into).map_err(|error| Codec::Snappy.refuses(error))
        })?;
        Ok(true)
    }
}

/// What the block declares, once it is known that its bytes can expand to that.
fn decoded_len(block: &[u8]) -> Result<usize, FormatError> {
    let declared = raw::decompress_len(block).map_err(|error| Codec::Snappy.refuses(error))?;
    if declared > block.len().saturating_mul(COPY_BYTES) / COPY_STORED_BYTES {
        let stored = block.len();
        return Err(Codec::Snappy.refuses(format_args!("a block of {stored} bytes declares {declared} decoded")));
    }
    Ok(declared)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::format::compression::tests::{RECORDS, decoded};

    const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

    fn chunk(block: &[u8]) -> Vec<u8> {
        [&i32::try_from(block.len()).unwrap().to_be_bytes(), block].concat()
    }

    fn stream(blocks: &[&[u8]]) -> Vec<u8> {
        let chunks: Vec<u8> = blocks.iter().flat_map(|block| chunk(block)).collect();
        [HEADER.as_slice(), &chunks].concat()
    }

    /// `records`, at most 60 bytes, as one raw block with one literal.
    fn literal(bytes: &[u8]) -> Vec<u8> {
        let len = u8::try_from(bytes.len()).unwrap();
        [&[len, (len - 1) << 2], bytes].concat()
    }

    #[test]
    fn stream_written_equals_worked_example() {
        let mut output = Vec::new();
        compress(&RECORDS, &mut output).unwrap();
        let expected = [HEADER.as_slice(), &[0, 0, 0, 0x1E, 0x1C, 0x6C], &RECORDS].concat();
        assert_eq!(output, expected);
        assert_eq!(decoded(Codec::Snappy, &expected), Ok(RECORDS.to_vec()));
    }

    #[test]
    fn nothing_compressed_is_a_header() {
        let mut output = Vec::new();
        compress(&[], &mut output).unwrap();
        assert_eq!(output, HEADER);
        assert_eq!(decoded(Codec::Snappy, &HEADER), Ok(Vec::new()));
    }

    #[test]
    fn chunks_written_hold_32_kib() {
        let mut output = Vec::new();
        compress(&[0; 2 * BLOCK_BYTES + 1], &mut output).unwrap();
        let mut chunks = Chunks::new(&output).unwrap();
        chunks.skip_headers().unwrap();
        let sizes = [(); 3].map(|()| decoded_len(chunks.take_block().unwrap()).unwrap());
        assert_eq!(sizes, [BLOCK_BYTES, BLOCK_BYTES, 1]);
        assert!(chunks.rest.rest().is_empty());
    }

    #[test]
    fn raw_block_without_header_is_read() {
        assert_eq!(decoded(Codec::Snappy, &literal(&RECORDS)), Ok(RECORDS.to_vec()));
        assert_eq!(decoded(Codec::Snappy, &[0]), Ok(Vec::new()));
    }

    #[test]
    fn raw_block_with_bytes_behind_it_is_refused() {
        let input = [literal(b"abc"), literal(b"abc")].concat();
        assert!(matches!(decoded(Codec::Snappy, &input), Err(FormatError::Compression { .. })));
    }

    #[test]
    fn streams_in_a_row_are_read() {
        let one = stream(&[&literal(b"abc"), &literal(b"def")]);
        let input = [one.as_slice(), &HEADER, &one].concat();
        assert_eq!(decoded(Codec::Snappy, &input), Ok(b"abcdefabcdef".to_vec()));
    }

    #[test]
    fn chunk_of_an_empty_block_does_not_end_the_stream() {
        let input = stream(&[&[0], &literal(b"abc")]);
        assert_eq!(decoded(Codec::Snappy, &input), Ok(b"abc".to_vec()));
    }

    #[test]
    fn chunk_without_bytes_is_refused() {
        assert!(matches!(decoded(Codec::Snappy, &stream(&[&[]])), Err(FormatError::Compression { .. })));
    }

    #[test]
    fn version_zero_is_refused_and_later_ones_read() {
        let mut input = stream(&[&literal(b"abc")]);
        input[11] = 0;
        let error = FormatError::UnsupportedVersion { what: "snappy stream", version: 0 };
        assert_eq!(decoded(Codec::Snappy, &input), Err(error));
        input[11] = 2;
        input[15] = 2;
        assert_eq!(decoded(Codec::Snappy, &input), Ok(b"abc".to_vec()));
    }

    #[test]
    fn header_cut_short_is_refused() {
        for len in 8..HEADER.len() {
            assert!(matches!(decoded(Codec::Snappy, &HEADER[..len]), Err(FormatError::Truncated { .. })), "{len}");
        }
        let input = [stream(&[&literal(b"abc")]).as_slice(), &HEADER[..12]].concat();
        assert!(matches!(decoded(Codec::Snappy, &input), Err(FormatError::Truncated { .. })));
    }

    #[test]
    fn chunk_length_negative_is_refused() {
        let input = [HEADER.as_slice(), &[0xFF; 4], b"abc"].concat();
        let error = FormatError::Invalid { what: "snappy chunk length", value: -1, why: "must not be negative" };
        assert_eq!(decoded(Codec::Snappy, &input), Err(error));
    }

    #[test]
    fn chunk_length_past_the_end_is_refused() {
        let input = [HEADER.as_slice(), &i32::MAX.to_be_bytes(), b"abc"].concat();
        let error = FormatError::Truncated { what: "snappy stream", need: 0x7FFF_FFFF, have: 3 };
        assert_eq!(decoded(Codec::Snappy, &input), Err(error));
    }

    #[test]
    fn bytes_behind_last_chunk_are_refused() {
        for count in 1..4 {
            let input = [stream(&[&literal(b"abc")]), vec![0; count]].concat();
            assert!(matches!(decoded(Codec::Snappy, &input), Err(FormatError::Truncated { .. })), "{count}");
        }
    }

    #[test]
    fn declared_length_beyond_what_bytes_expand_to_is_refused_without_allocation() {
        let lie = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00, 0x61];
        for input in [lie.to_vec(), stream(&[&lie])] {
            let mut output = Vec::new();
            let result = crate::format::compression::decompress(Codec::Snappy, &input, u64::MAX, &mut output);
            assert!(matches!(result, Err(FormatError::Compression { .. })), "{result:?}");
            assert_eq!(output.capacity(), 0);
        }
    }

    #[test]
    fn densest_block_is_read() {
        // One literal zero, then 300 copies of 64 bytes from 1 byte back: 19,201 bytes.
        let mut block = vec![0x81, 0x96, 0x01, 0x00, 0x00];
        (0..300).for_each(|_| block.extend_from_slice(&[0xFE, 1, 0]));
        assert_eq!(decoded(Codec::Snappy, &block), Ok(vec![0; 19_201]));
    }
}
