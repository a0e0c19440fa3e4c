//! The LZ4 frame as Kafka writes and reads it, around blocks by `lz4_flex`. Its integers are little-endian.
//!
//! ```text
//! magic     u32 = 184D2204
//! FLG       bits 6-7 version = 1, 5 blocks independent = 1, 4 block checksums, 3 content size, 2 content checksum,
//!           0-1 reserved
//! BD        bits 4-6 largest block: 4 = 64 KiB, 5 = 256 KiB, 6 = 1 MiB, 7 = 4 MiB; others reserved
//! size      u64, if FLG says so; ignored
//! HC        second byte of the xxHash32 over FLG, BD and size
//! block     u32 stored length, its top bit set when stored as is; the bytes; u32 xxHash32 of them if FLG says so
//! ...       more blocks
//! end mark  a block length of 0 (with either top bit)
//! checksum  u32, if FLG says so; skipped without a look
//! ```
//!
//! Follows Kafka's `Lz4BlockInputStream` and `Lz4BlockOutputStream`: reading stops at the end mark, whatever comes
//! behind it. Of magic 0 batches, whose HC was computed over more bytes, this knows nothing.
#![allow(clippy::little_endian_bytes, reason = "the LZ4 frame is little-endian, alone among Kafka's formats")]

use lz4_flex::block::{self, DecompressError};
use twox_hash::XxHash32;

use super::Codec;
use super::decompressor::{Decode, Sink};
use crate::format::bytes::Reader;
use crate::format::error::FormatError;

const MAGIC: u32 = 0x184D_2204;

/// Magic, FLG, BD and HC of every frame written: independent blocks of 64 KiB and nothing else.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82];
const END_MARK: [u8; 4] = [0; 4];

/// Decoded bytes per block that is written.
const BLOCK_BYTES: usize = 64 * 1024;

/// In a block's length: the block is stored as is.
const STORED_AS_IS: u32 = 1 << 31;

/// A byte of an LZ4 block decodes to at most so many: it adds 255 to the length of a match.
const EXPANSION_MAX: usize = 255;

/// What a block gets lent first, in bytes: so many times its own size, and no less than this.
const USUAL_EXPANSION: usize = 4;
const FIRST_LENT_BYTES: usize = 1024;

/// Appends a frame.
pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
    output.extend_from_slice(&HEADER);
    let mut scratch = vec![0; block::get_maximum_output_size(input.len().min(BLOCK_BYTES))];
    for content in input.chunks(BLOCK_BYTES) {
        let len = block::compress_into(content, &mut scratch).map_err(|error| Codec::Lz4.refuses(error))?;
        if len < content.len() {
            append_block(scratch.get(..len).unwrap_or_default(), 0, output)?;
        } else {
            append_block(content, STORED_AS_IS, output)?;
        }
    }
    output.extend_from_slice(&END_MARK);
    Ok(())
}

fn append_block(bytes: &[u8], flag: u32, output: &mut Vec<u8>) -> Result<(), FormatError> {
    let length = u32::try_from(bytes.len()).map_err(|error| Codec::Lz4.refuses(error))?;
    output.extend_from_slice(&(length | flag).to_le_bytes());
    output.extend_from_slice(bytes);
    Ok(())
}

/// A frame whose header was read, and its blocks not yet decoded.
pub(super) struct Frame<'a> {
    rest: Reader<'a>,
    descriptor: Descriptor,
}

/// What a frame's header says.
struct Descriptor {
    block_bytes_max: usize,
    has_block_checksums: bool,
    has_content_size: bool,
    has_content_checksum: bool,
}

impl<'a> Frame<'a> {
    /// Reads and verifies the header.
    pub(super) fn new(input: &'a [u8]) -> Result<Self, FormatError> {
        let mut rest = Reader::new("lz4 frame", input);
        let magic = u32_le(&mut rest)?;
        if magic != MAGIC {
            return Err(invalid("lz4 magic", magic, "must be 184d2204"));
        }
        let mut header = rest.clone();
        let flags = u8_of(&mut header)?;
        let descriptor = Descriptor::decode(flags, u8_of(&mut header)?)?;
        let hashed = rest.take(if descriptor.has_content_size { 10 } else { 2 })?;
        let stored = u32::from(u8_of(&mut rest)?);
        let computed = (XxHash32::oneshot(0, hashed) >> 8) & 0xFF;
        verify("lz4 frame header", stored, computed)?;
        Ok(Self { rest, descriptor })
    }

    fn take_block(&mut self, len: u32) -> Result<&'a [u8], FormatError> {
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        if size > self.descriptor.block_bytes_max {
            return Err(invalid("lz4 block length", len, "more than the frame's header allows"));
        }
        let block = self.rest.take(size)?;
        if self.descriptor.has_block_checksums {
            verify("lz4 block", u32_le(&mut self.rest)?, XxHash32::oneshot(0, block))?;
        }
        Ok(block)
    }

    /// A block does not say what it decodes to, and zeros have to be written into all that it is lent: it gets more
    /// only when little is not enough.
    fn append_decoded(block: &[u8], block_bytes_max: usize, sink: &mut Sink<'_>) -> Result<(), FormatError> {
        let most = block.len().saturating_mul(EXPANSION_MAX).min(block_bytes_max);
        let lent_most = most.min(sink.room());
        let mut lent = block.len().saturating_mul(USUAL_EXPANSION).max(FIRST_LENT_BYTES);
        loop {
            lent = lent.min(lent_most);
            let mut too_small = None;
            sink.append(lent, |into| match block::decompress_into(block, into) {
                Err(error @ DecompressError::OutputTooSmall { .. }) => {
                    too_small = Some(error);
                    Ok(0)
                }
                result => result.map_err(|error| Codec::Lz4.refuses(error)),
            })?;
            match too_small {
                None => return Ok(()),
                Some(_) if lent < lent_most => lent = lent.saturating_mul(USUAL_EXPANSION),
                Some(_) if lent < most => return Err(sink.limit_exceeded()),
                Some(error) => return Err(Codec::Lz4.refuses(error)),
            }
        }
    }
}

impl Decode for Frame<'_> {
    fn append_piece(&mut self, sink: &mut Sink<'_>) -> Result<bool, FormatError> {
        let word = u32_le(&mut self.rest)?;
        let len = word & !STORED_AS_IS;
        if len == 0 {
            if self.descriptor.has_content_checksum {
                self.rest.take(size_of::<u32>())?;
            }
            return Ok(false);
        }
        let block = self.take_block(len)?;
        if word & STORED_AS_IS == 0 {
            Self::append_decoded(block, self.descriptor.block_bytes_max, sink)?;
        } else {
            sink.append(block.len(), |into| {
                into.copy_from_slice(block);
                Ok(block.len())
            })?;
        }
        Ok(true)
    }
}

impl Descriptor {
    fn decode(flags: u8, block_descriptor: u8) -> Result<Self, FormatError> {
        let refuse = |value: u8, why| Err(invalid("lz4 frame descriptor", u32::from(value), why));
        if flags >> 6 != 1 {
            return Err(FormatError::UnsupportedVersion { what: "lz4 frame", version: i64::from(flags >> 6) });
        }
        if flags & 0b10_0000 == 0 {
            return refuse(flags, "its blocks depend on each other");
        }
        if flags & 0b11 != 0 {
            return refuse(flags, "reserved bits are set");
        }
        if block_descriptor & 0b1000_1111 != 0 {
            return refuse(block_descriptor, "reserved bits are set");
        }
        Ok(Self {
            block_bytes_max: match block_descriptor >> 4 {
                4 => 64 * 1024,
                5 => 256 * 1024,
                6 => 1024 * 1024,
                7 => 4 * 1024 * 1024,
                _ => return refuse(block_descriptor, "block size codes are 4 to 7"),
            },
            has_block_checksums: flags & 0b1_0000 != 0,
            has_content_size: flags & 0b1000 != 0,
            has_content_checksum: flags & 0b100 != 0,
        })
    }
}

fn u8_of(reader: &mut Reader<'_>) -> Result<u8, FormatError> {
    Ok(reader.i8()?.cast_unsigned())
}

fn u32_le(reader: &mut Reader<'_>) -> Result<u32, FormatError> {
    Ok(reader.u32()?.swap_bytes())
}

fn invalid(what: &'static str, value: u32, why: &'static str) -> FormatError {
    FormatError::Invalid { what, value: i64::from(value), why }
}

fn verify(what: &'static str, stored: u32, computed: u32) -> Result<(), FormatError> {
    if stored == computed { Ok(()) } else { Err(FormatError::Checksum { what, stored, computed }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::format::compression::tests::{RECORDS, decoded};

    /// A frame with a right header checksum around `body`.
    fn frame(flags: u8, block_descriptor: u8, content_size: &[u8], body: &[u8]) -> Vec<u8> {
        let mut descriptor = vec![flags, block_descriptor];
        descriptor.extend_from_slice(content_size);
        let hash = XxHash32::oneshot(0, &descriptor).to_le_bytes();
        [&MAGIC.to_le_bytes(), descriptor.as_slice(), &hash[1..2], body].concat()
    }

    fn block(bytes: &[u8], flag: u32) -> Vec<u8> {
        let mut output = Vec::new();
        append_block(bytes, flag, &mut output).unwrap();
        output
    }

    fn stored(bytes: &[u8]) -> Vec<u8> {
        block(bytes, STORED_AS_IS)
    }

    /// One zero, then as many more as `stored_bytes` bytes can say.
    fn dense_block(stored_bytes: usize) -> Vec<u8> {
        let mut block = vec![0x1F, 0, 1, 0];
        block.resize(stored_bytes - 2, 0xFF);
        block.extend_from_slice(&[0, 0]);
        block
    }

    #[test]
    fn frame_written_equals_worked_example() {
        let mut output = Vec::new();
        compress(&RECORDS, &mut output).unwrap();
        let mut expected = vec![0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82, 0x1C, 0, 0, 0x80];
        expected.extend_from_slice(&RECORDS);
        expected.extend_from_slice(&[0; 4]);
        assert_eq!(output, expected);
        assert_eq!(decoded(Codec::Lz4, &expected), Ok(RECORDS.to_vec()));
    }

    #[test]
    fn header_written_carries_its_checksum() {
        assert_eq!(frame(0x60, 0x40, &[], &[]), HEADER);
    }

    // M 234
    #[test]
    fn header_bit_flipped_is_refused() {
        let good = frame(0x60, 0x40, &[], &[stored(b"abc"), END_MARK.to_vec()].concat());
        for bit in 0..HEADER.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(Codec::Lz4, &bad).is_err(), "bit {bit}");
        }
        let mut bad = good;
        bad[6] ^= 1;
        let error = FormatError::Checksum { what: "lz4 frame header", stored: 0x83, computed: 0x82 };
        assert_eq!(decoded(Codec::Lz4, &bad), Err(error));
    }

    // M 234
    #[test]
    fn descriptor_outside_kafkas_subset_is_refused() {
        for (flags, block_descriptor) in
            [(0x40, 0x40), (0x61, 0x40), (0x62, 0x40), (0x60, 0x41), (0x60, 0x48), (0x60, 0xC0), (0x60, 0x30)]
        {
            let error = decoded(Codec::Lz4, &frame(flags, block_descriptor, &[], &END_MARK)).unwrap_err();
            assert!(
                matches!(error, FormatError::Invalid { what: "lz4 frame descriptor", .. }),
                "{flags:x} {block_descriptor:x}: {error}"
            );
        }
        for (flags, version) in [(0x20, 0), (0xA0, 2), (0xE0, 3)] {
            let error = FormatError::UnsupportedVersion { what: "lz4 frame", version };
            assert_eq!(decoded(Codec::Lz4, &frame(flags, 0x40, &[], &END_MARK)), Err(error));
        }
    }

    #[test]
    fn content_size_is_ignored() {
        let body = [stored(b"abc"), END_MARK.to_vec()].concat();
        for size in [0, 3, u64::MAX] {
            let input = frame(0x68, 0x40, &size.to_le_bytes(), &body);
            assert_eq!(decoded(Codec::Lz4, &input), Ok(b"abc".to_vec()));
        }
    }

    #[test]
    fn content_checksum_is_skipped_but_must_be_there() {
        let wrong = frame(0x64, 0x40, &[], &[stored(b"abc"), END_MARK.to_vec(), vec![1, 2, 3, 4]].concat());
        assert_eq!(decoded(Codec::Lz4, &wrong), Ok(b"abc".to_vec()));
        let error = FormatError::Truncated { what: "lz4 frame", need: 4, have: 3 };
        assert_eq!(decoded(Codec::Lz4, &wrong[..wrong.len() - 1]), Err(error));
    }

    // M 234
    #[test]
    fn block_checksum_is_verified() {
        let checksum = XxHash32::oneshot(0, b"abc");
        let body = |sum: u32| [stored(b"abc"), sum.to_le_bytes().to_vec(), END_MARK.to_vec()].concat();
        assert_eq!(decoded(Codec::Lz4, &frame(0x70, 0x40, &[], &body(checksum))), Ok(b"abc".to_vec()));
        let error = FormatError::Checksum { what: "lz4 block", stored: checksum ^ 1, computed: checksum };
        assert_eq!(decoded(Codec::Lz4, &frame(0x70, 0x40, &[], &body(checksum ^ 1))), Err(error));
    }

    #[test]
    fn block_of_declared_maximum_is_read_and_one_byte_more_refused() {
        for (code, most) in [(0x40, 1 << 16), (0x50, 1 << 18), (0x60, 1 << 20), (0x70, 1 << 22)] {
            let full = vec![9; most];
            let input = frame(0x60, code, &[], &[stored(&full), END_MARK.to_vec()].concat());
            assert!(decoded(Codec::Lz4, &input).unwrap() == full, "{code:x}");
            let over = frame(0x60, code, &[], &[stored(&vec![9; most + 1]), END_MARK.to_vec()].concat());
            assert!(matches!(decoded(Codec::Lz4, &over), Err(FormatError::Invalid { what: "lz4 block length", .. })));
        }
    }

    // M 234
    #[test]
    fn block_that_expands_past_declared_maximum_is_refused() {
        let dense = block(&dense_block(1024), 0);
        let small = frame(0x60, 0x40, &[], &[dense.clone(), END_MARK.to_vec()].concat());
        assert!(matches!(decoded(Codec::Lz4, &small), Err(FormatError::Compression { .. })));
        let large = frame(0x60, 0x50, &[], &[dense, END_MARK.to_vec()].concat());
        assert!(decoded(Codec::Lz4, &large).unwrap().len() > 1 << 16);
    }

    #[test]
    fn block_length_of_zero_stored_as_is_ends_the_frame() {
        let input = frame(0x60, 0x40, &[], &[stored(b"abc"), stored(&[])].concat());
        assert_eq!(decoded(Codec::Lz4, &input), Ok(b"abc".to_vec()));
    }

    #[test]
    fn bytes_behind_end_mark_are_ignored() {
        let input = frame(0x60, 0x40, &[], &[stored(b"abc"), END_MARK.to_vec(), b"more".to_vec()].concat());
        assert_eq!(decoded(Codec::Lz4, &input), Ok(b"abc".to_vec()));
    }

    #[test]
    fn end_mark_missing_is_refused() {
        let error = FormatError::Truncated { what: "lz4 frame", need: 4, have: 0 };
        assert_eq!(decoded(Codec::Lz4, &frame(0x60, 0x40, &[], &stored(b"abc"))), Err(error));
    }

    #[test]
    fn block_that_does_not_shrink_is_stored_as_is() {
        let noise: Vec<u8> = (0..70_000u32).flat_map(|n| XxHash32::oneshot(n, &[]).to_le_bytes()).collect();
        let mut output = Vec::new();
        compress(&noise, &mut output).unwrap();
        assert_eq!(output.len(), HEADER.len() + noise.len() + 5 * 4 + END_MARK.len());
        assert!(decoded(Codec::Lz4, &output).unwrap() == noise);
    }
}
