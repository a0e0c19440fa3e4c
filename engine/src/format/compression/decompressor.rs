//! Decoding with a limit: the loop that all codecs share.
//!
//! Owns the limit and the growth of the output. A codec is a [`Decode`], which appends one piece at a time to a
//! [`Sink`]; it knows nothing of who reads the pieces.

use std::fmt;
use std::io::Read;

#[cfg(feature = "gzip")]
use super::gzip;
#[cfg(feature = "snappy")]
use super::snappy;
#[cfg(feature = "zstd")]
use super::zstd;
use super::{Codec, lz4};
use crate::format::error::FormatError;

/// The most that a codec without blocks of its own appends at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Decodes one compressed stream piece by piece, for callers that can stop early.
///
/// Holds one decoded piece and the codec's window; the [table of `compression`](super#memory) has the sizes. The end
/// of an lz4 frame is its end mark: bytes behind it are ignored, as Kafka's readers ignore them.
///
/// ```
/// use duramen::format::compression::{Codec, Compression, Decompressor, compress};
///
/// let mut stored = Vec::new();
/// compress(Compression::with_default_level(Codec::Lz4), &[7; 100_000], &mut stored)?;
/// let mut decompressor = Decompressor::new(Codec::Lz4, &stored, 1_048_576)?;
/// let mut first = [0; 4];
/// assert_eq!(decompressor.read(&mut first)?, 4);
/// assert_eq!(first, [7; 4]);
/// # Ok::<(), duramen::format::FormatError>(())
/// ```
pub struct Decompressor<'a> {
    decoder: Box<dyn Decode + 'a>,
    limit: u64,
    /// What may still come out, in bytes.
    remaining: usize,
    piece: Vec<u8>,
    /// Bytes of the piece that were read.
    position: usize,
    /// How decoding ended, once it has: every later read says the same.
    outcome: Option<Result<(), FormatError>>,
}

impl<'a> Decompressor<'a> {
    /// A decoder of `input` that hands out at most `limit` bytes.
    ///
    /// # Errors
    /// [`FormatError::CodecUnavailable`] for a codec that this build lacks; for a header that is wrong already, what
    /// [`Decompressor::read`] returns.
    pub fn new(codec: Codec, input: &'a [u8], limit: u64) -> Result<Self, FormatError> {
        let decoder = open(codec, input)?;
        let remaining = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self { decoder, limit, remaining, piece: Vec::new(), position: 0, outcome: None })
    }

    /// Fills `into` from the front and returns how many bytes, at least 1; 0 at the end, or when `into` is empty.
    ///
    /// The end is reached only when the whole stream proved sound. An error stays: later reads return it again.
    ///
    /// # Errors
    /// [`FormatError::LimitExceeded`] as soon as a piece is known to pass the limit, which may be before the limit's
    /// last byte is read. [`FormatError::Truncated`], [`FormatError::Invalid`], [`FormatError::Checksum`],
    /// [`FormatError::UnsupportedVersion`] or [`FormatError::Compression`] for data that is not what the codec writes.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, FormatError> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let unread = self.piece.get(self.position..).unwrap_or_default();
            if !unread.is_empty() {
                let count = unread.len().min(into.len());
                into.iter_mut().zip(unread).for_each(|(to, from)| *to = *from);
                self.position = self.position.saturating_add(count);
                return Ok(count);
            }
            if let Some(outcome) = &self.outcome {
                return outcome.clone().map(|()| 0);
            }
            self.decode_piece();
        }
    }

    fn decode_piece(&mut self) {
        self.piece.clear();
        self.position = 0;
        let mut sink = Sink { end: self.remaining, limit: self.limit, output: &mut self.piece };
        match self.decoder.append_piece(&mut sink) {
            Ok(true) => self.remaining = self.remaining.saturating_sub(self.piece.len()),
            Ok(false) => self.outcome = Some(Ok(())),
            Err(error) => {
                self.piece.clear();
                self.outcome = Some(Err(error));
            }
        }
    }
}

impl fmt::Debug for Decompressor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("limit", &self.limit)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// Appends what `input` decompresses to, at most `limit` bytes, to `output`; after an error `output` is as it was.
///
/// `output` grows with the bytes that come out, its capacity never beyond its length + `limit`. What counts as the end
/// is as for [`Decompressor`].
///
/// # Errors
/// [`FormatError::LimitExceeded`] when one byte more would come out; otherwise as [`Decompressor::new`] and
/// [`Decompressor::read`].
pub fn decompress(codec: Codec, input: &[u8], limit: u64, output: &mut Vec<u8>) -> Result<(), FormatError> {
    let mut decoder = open(codec, input)?;
    let start = output.len();
    let end = start.saturating_add(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut sink = Sink { output, end, limit };
    loop {
        match decoder.append_piece(&mut sink) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                output.truncate(start);
                return Err(error);
            }
        }
    }
}

fn open<'a>(codec: Codec, input: &'a [u8]) -> Result<Box<dyn Decode + 'a>, FormatError> {
    Ok(match codec {
        Codec::None => Box::new(Stream::new(codec, input.len(), input)),
        #[cfg(feature = "gzip")]
        Codec::Gzip => Box::new(gzip::decoder(input)),
        #[cfg(feature = "snappy")]
        Codec::Snappy => Box::new(snappy::Chunks::new(input)?),
        Codec::Lz4 => Box::new(lz4::Frame::new(input)?),
        #[cfg(feature = "zstd")]
        Codec::Zstd => Box::new(zstd::decoder(input)?),
        #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "zstd")))]
        left_out => return Err(FormatError::CodecUnavailable { codec: left_out.name() }),
    })
}

/// A stream being decoded.
pub(super) trait Decode: Send {
    /// Appends the next piece, which may be empty; false when with it the stream came to its sound end.
    fn append_piece(&mut self, sink: &mut Sink<'_>) -> Result<bool, FormatError>;
}

/// A vector and how far it may grow.
pub(super) struct Sink<'v> {
    output: &'v mut Vec<u8>,
    /// The length that `output` may reach, inclusive.
    end: usize,
    /// The limit that the caller set, for the error.
    limit: u64,
}

impl Sink<'_> {
    /// Bytes that may still be appended.
    pub(super) fn room(&self) -> usize {
        self.end.saturating_sub(self.output.len())
    }

    /// The error for data that does not fit.
    pub(super) fn limit_exceeded(&self) -> FormatError {
        FormatError::LimitExceeded { what: "decompressed data", limit: self.limit }
    }

    /// Lends `len` bytes (which hold zeros) to `fill` and keeps as many, from the front, as it says it wrote.
    pub(super) fn append(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, FormatError>,
    ) -> Result<usize, FormatError> {
        if len > self.room() {
            return Err(self.limit_exceeded());
        }
        let start = self.output.len();
        let needed = start.saturating_add(len);
        self.reserve(needed);
        self.output.resize(needed, 0);
        let written = fill(self.output.get_mut(start..).unwrap_or_default())?;
        self.output.truncate(start.saturating_add(written));
        Ok(written)
    }

    /// Makes the capacity at least `needed`: twice what it was, so that growing stays cheap, but never beyond the end.
    fn reserve(&mut self, needed: usize) {
        if needed > self.output.capacity() {
            let capacity = self.output.capacity().saturating_mul(2).max(needed).min(self.end);
            self.output.reserve_exact(capacity.saturating_sub(self.output.len()));
        }
    }
}

/// A codec that is a plain stream of bytes, without blocks that must be decoded whole.
pub(super) struct Stream<R> {
    codec: Codec,
    /// What the next piece may hold. Of a small input even the first piece is small, because zeros have to be written
    /// into all of it first.
    piece_bytes: usize,
    reader: R,
}

/// The first piece has room for an input that shrank to a part of this.
const USUAL_EXPANSION: usize = 4;
/// The least that a first piece may hold, in bytes.
const FIRST_PIECE_BYTES: usize = 1024;

impl<R: Read> Stream<R> {
    /// Reads what an input of so many bytes expands to.
    pub(super) fn new(codec: Codec, input_bytes: usize, reader: R) -> Self {
        let piece_bytes = input_bytes.saturating_mul(USUAL_EXPANSION).clamp(FIRST_PIECE_BYTES, PIECE_BYTES);
        Self { codec, piece_bytes, reader }
    }

    /// Fills a piece as far as there is something; how many bytes.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, FormatError> {
        let mut filled = 0_usize;
        loop {
            let rest = into.get_mut(filled..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(filled);
            }
            match self.reader.read(rest).map_err(|error| self.codec.refuses(error))? {
                0 => return Ok(filled),
                count => filled = filled.saturating_add(count),
            }
        }
    }

    /// Whether a byte follows, at the cost of that byte.
    fn has_more(&mut self) -> Result<bool, FormatError> {
        self.reader.read(&mut [0]).map(|count| count > 0).map_err(|error| self.codec.refuses(error))
    }
}

impl<R: Read + Send> Decode for Stream<R> {
    fn append_piece(&mut self, sink: &mut Sink<'_>) -> Result<bool, FormatError> {
        let len = sink.room().min(self.piece_bytes);
        if len == 0 {
            return if self.has_more()? { Err(sink.limit_exceeded()) } else { Ok(false) };
        }
        self.piece_bytes = PIECE_BYTES;
        Ok(sink.append(len, |into| self.fill(into))? == len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::format::compression::{Compression, compress};

    #[test]
    fn piece_of_a_bomb_stays_within_block_and_limit() {
        let mut bomb = Vec::new();
        compress(Compression::with_default_level(Codec::Lz4), &[0; 1 << 22], &mut bomb).unwrap();
        for (limit, most) in [(100, 100), (1_000_000, PIECE_BYTES)] {
            let mut decompressor = Decompressor::new(Codec::Lz4, &bomb, limit).unwrap();
            while decompressor.read(&mut [0; 5000]).is_ok() {}
            assert!(decompressor.piece.capacity() <= most, "{}", decompressor.piece.capacity());
        }
    }

    #[test]
    fn decompressor_moves_between_threads() {
        fn assert_send<T: Send>(_: &T) {}
        assert_send(&Decompressor::new(Codec::None, b"abc", 3).unwrap());
    }

    #[test]
    fn read_into_nothing_decodes_nothing() {
        let mut decompressor = Decompressor::new(Codec::None, b"abc", 3).unwrap();
        assert_eq!(decompressor.read(&mut []), Ok(0));
        let mut into = [0; 5];
        assert_eq!(decompressor.read(&mut into), Ok(3));
        assert_eq!(&into, b"abc\0\0");
        assert_eq!(decompressor.read(&mut into), Ok(0));
    }

    #[test]
    fn sink_grows_by_doubling_and_never_past_its_end() {
        let mut output = Vec::new();
        let mut sink = Sink { end: 100, limit: 100, output: &mut output };
        for (len, capacity) in [(30, 30), (10, 60), (30, 100), (30, 100)] {
            sink.append(len, |into| Ok(into.len())).unwrap();
            assert_eq!(sink.output.capacity(), capacity);
        }
        assert_eq!(sink.append(1, |_| Ok(1)), Err(sink.limit_exceeded()));
    }
}
