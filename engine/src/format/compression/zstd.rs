//! Zstandard, by libzstd.
//!
//! Written is one frame without checksum, as by Kafka. Unlike Kafka's, which come from a stream of unknown length, it
//! declares the content's size and takes no larger window than that needs, so readers need no more memory than the
//! content. Read are any number of frames in a row, as the library's stream reader does; a frame cut short is an error.

use std::cell::Cell;
use std::io::{self, Write};

use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
use zstd::stream::write;
use zstd::stream::zio::Reader;
use zstd::zstd_safe::{self, DCtx, DParameter, ResetDirective, WriteBuf};

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
pub(super) fn decoder(input: &[u8]) -> Result<Stream<Reader<&[u8], Context>>, FormatError> {
    let context = Context::take().map_err(|error| Codec::Zstd.refuses(error))?;
    Ok(Stream::new(Codec::Zstd, input.len(), Reader::new(input, context)))
}

/// Bytes of a context that is kept at most, its window included: clients' default windows have up to 8 MiB.
const SPARE_BYTES_MAX: usize = 10 << 20;

thread_local! {
    /// A context takes longer to make than a small batch to decode, so that each thread keeps one.
    static SPARE: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// What libzstd decodes with; none only while it is dropped.
pub(super) struct Context(Option<DCtx<'static>>);

impl Context {
    fn take() -> io::Result<Self> {
        if let Some(context) = SPARE.with(Cell::take) {
            return Ok(Self(Some(context)));
        }
        let mut context = DCtx::try_create().ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(named)?;
        Ok(Self(Some(context)))
    }

    fn get(&mut self) -> io::Result<&mut DCtx<'static>> {
        self.0.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(mut context) = self.0.take()
            && context.reset(ResetDirective::SessionOnly).is_ok()
            && context.sizeof() <= SPARE_BYTES_MAX
        {
            // A thread that ends has no use for it.
            SPARE.try_with(|spare| spare.set(Some(context))).ok();
        }
    }
}

impl Operation for Context {
    fn run<C: WriteBuf + ?Sized>(
        &mut self,
        input: &mut InBuffer<'_>,
        output: &mut OutBuffer<'_, C>,
    ) -> io::Result<usize> {
        self.get()?.decompress_stream(output, input).map_err(named)
    }

    fn finish<C: WriteBuf + ?Sized>(&mut self, _: &mut OutBuffer<'_, C>, finished_frame: bool) -> io::Result<usize> {
        if finished_frame { Ok(0) } else { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete frame")) }
    }

    fn reinit(&mut self) -> io::Result<()> {
        self.get()?.reset(ResetDirective::SessionOnly).map(drop).map_err(named)
    }
}

fn named(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
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
