//! The codecs of record batches: what Kafka calls `compression.type`.
//!
//! Owns the five codecs, the framing that Kafka puts around three of them, and the rules that keep hostile data from
//! taking memory. Knows nothing of batches: it is given the bytes after a batch's header, which are one compressed
//! stream, and hands back the records in a row. A batch without records (compaction leaves such) has no stream, not
//! an empty one; no codec but [`Codec::None`] accepts zero bytes.
//!
//! # Memory
//!
//! Decoding takes a `limit` in bytes, inclusive, and grows with the bytes that really come out. No size that the data
//! claims is believed before it is checked against the limit and against what the bytes present can expand to.
//!
//! | codec | held by [`Decompressor`] beside a piece | a piece is at most |
//! |---|---|---|
//! | none | nothing | 64 KiB |
//! | gzip | window, tables and the member's header as stored; the first two below 64 KiB | 64 KiB |
//! | snappy | nothing | one block: what the chunk declares, at most 22 times its stored size |
//! | lz4 | nothing | one block: what the frame declares, 64 KiB to 4 MiB |
//! | zstd | the window that the frame declares, at most 128 MiB, and tables, together below 129 MiB | 64 KiB |
//!
//! A thread that decoded zstd keeps what it took, if that is no more than 10 MiB, for its next batch. A piece never
//! exceeds the limit. [`decompress`] decodes straight into the caller's vector, whose capacity it never
//! raises above length + limit; an allocator that cannot grow in place holds the vector before and after for a moment.

mod decompressor;
#[cfg(feature = "gzip")]
mod gzip;
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(test)]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt::Display;

use super::error::FormatError;
pub use decompressor::{Decompressor, decompress};

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
///
/// Follows Kafka's `CompressionType`.
///
/// ```
/// use duramen::format::compression::Codec;
///
/// assert_eq!(Codec::from_id(4)?, Codec::Zstd);
/// assert_eq!(Codec::Zstd.name(), "zstd");
/// # Ok::<(), duramen::format::FormatError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not compressed.
    None,
    /// Deflate in gzip members (RFC 1952).
    Gzip,
    /// Snappy blocks in the framing of the xerial library.
    Snappy,
    /// LZ4 blocks in an LZ4 frame.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

impl Codec {
    /// All codecs, by ascending id.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this id, 0 to 4, as in Kafka's `CompressionType.forId`.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for every other id.
    pub fn from_id(id: u8) -> Result<Self, FormatError> {
        Self::ALL.get(usize::from(id)).copied().ok_or(FormatError::Invalid {
            what: "compression codec",
            value: i64::from(id),
            why: "codecs are 0 to 4",
        })
    }

    /// Its id in a batch's attributes, 0 to 4.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name in `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The error for data that this codec refuses.
    fn refuses(self, why: impl Display) -> FormatError {
        FormatError::Compression { codec: self.name(), why: why.to_string() }
    }
}

/// How to compress: a codec and, where it has one, its level.
///
/// Levels trade time for size and never change the format. Follows Kafka's `Compression` and the bounds that its
/// `CompressionType` sets. [`Compression::with_level`] checks the level; so does [`compress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Leaves the bytes as they are.
    None,
    /// [`Codec::Gzip`].
    Gzip {
        /// 1 to 9; none is zlib's default, which Kafka writes as -1.
        level: Option<u32>,
    },
    /// [`Codec::Snappy`], which has no levels.
    Snappy,
    /// [`Codec::Lz4`].
    Lz4 {
        /// 1 to 17. Checked and otherwise without effect: there is one compressor here, the fast one. Kafka's takes
        /// the fast one at 9, its default, and slower ones at the other levels; readers see no difference.
        level: u32,
    },
    /// [`Codec::Zstd`].
    Zstd {
        /// -131072 to 22.
        level: i32,
    },
}

impl Compression {
    /// `codec` at Kafka's default level: gzip at zlib's own, lz4 at 9, zstd at 3.
    #[must_use]
    pub fn with_default_level(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip { level: None },
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4 { level: 9 },
            Codec::Zstd => Self::Zstd { level: 3 },
        }
    }

    /// `codec` at the level that Kafka's `compression.<codec>.level` names; for gzip, -1 is the default.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] when the level is out of the codec's bounds, or the codec has no levels.
    pub fn with_level(codec: Codec, level: i32) -> Result<Self, FormatError> {
        let outside = |what, why| FormatError::Invalid { what, value: i64::from(level), why };
        let compression = match codec {
            Codec::None | Codec::Snappy => return Err(outside("compression level", "this codec has no levels")),
            Codec::Gzip if level == -1 => Self::Gzip { level: None },
            Codec::Gzip => Self::Gzip { level: Some(u32::try_from(level).map_err(|_| outside("gzip level", GZIP))?) },
            Codec::Lz4 => Self::Lz4 { level: u32::try_from(level).map_err(|_| outside("lz4 level", LZ4))? },
            Codec::Zstd => Self::Zstd { level },
        };
        compression.check_level()?;
        Ok(compression)
    }

    /// The codec alone.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip { .. } => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 { .. } => Codec::Lz4,
            Self::Zstd { .. } => Codec::Zstd,
        }
    }

    fn check_level(self) -> Result<(), FormatError> {
        let (what, value, bounds, why) = match self {
            Self::None | Self::Snappy | Self::Gzip { level: None } => return Ok(()),
            Self::Gzip { level: Some(level) } => ("gzip level", i64::from(level), 1..=9, GZIP),
            Self::Lz4 { level } => ("lz4 level", i64::from(level), 1..=17, LZ4),
            Self::Zstd { level } => ("zstd level", i64::from(level), -131_072..=22, ZSTD),
        };
        if bounds.contains(&value) { Ok(()) } else { Err(FormatError::Invalid { what, value, why }) }
    }
}

const GZIP: &str = "levels are 1 to 9, and -1 for the default";
const LZ4: &str = "levels are 1 to 17";
const ZSTD: &str = "levels are -131072 to 22";

/// Appends `input`, compressed, to `output`; after an error `output` is as it was.
///
/// ```
/// use duramen::format::compression::{Codec, Compression, compress, decompress};
///
/// let mut stored = Vec::new();
/// compress(Compression::with_default_level(Codec::Lz4), b"records", &mut stored)?;
/// let mut records = Vec::new();
/// decompress(Codec::Lz4, &stored, 1_048_576, &mut records)?;
/// assert_eq!(records, b"records");
/// # Ok::<(), duramen::format::FormatError>(())
/// ```
///
/// # Errors
/// [`FormatError::Invalid`] for a level out of bounds, [`FormatError::CodecUnavailable`] for a codec that this build
/// lacks, [`FormatError::Compression`] when the codec itself fails.
pub fn compress(compression: Compression, input: &[u8], output: &mut Vec<u8>) -> Result<(), FormatError> {
    compression.check_level()?;
    let start = output.len();
    let result = match compression {
        Compression::None => {
            output.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Compression::Gzip { level } => gzip::compress(level, input, output),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::compress(input, output),
        Compression::Lz4 { level: _ } => lz4::compress(input, output),
        #[cfg(feature = "zstd")]
        Compression::Zstd { level } => zstd::compress(level, input, output),
        #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "zstd")))]
        left_out => Err(FormatError::CodecUnavailable { codec: left_out.codec().name() }),
    };
    if result.is_err() {
        output.truncate(start);
    }
    result
}
