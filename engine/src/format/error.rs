//! What can be wrong with bytes.

use crate::error::KafkaErrorCode;

/// Bytes that are not what they should be. Decoding returns it and never panics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end too early.
    #[error("{what}: {have} bytes where {need} are needed")]
    Truncated {
        /// The thing being decoded.
        what: &'static str,
        /// Bytes it needs.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// A field holds a value that it may not hold.
    #[error("{what} is {value}: {why}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: i64,
        /// The rule it breaks.
        why: &'static str,
    },
    /// Text that does not parse.
    #[error("{what}, line {line}: {why}")]
    Text {
        /// The file.
        what: &'static str,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A stored checksum differs from the computed one.
    #[error("{what}: stored checksum {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// The thing that carries it.
        what: &'static str,
        /// As stored.
        stored: u32,
        /// As computed over the bytes.
        computed: u32,
    },
    /// A version that this engine does not read. Magic 0 and 1 batches, which Kafka 4 dropped, come as this.
    #[error("{what} has version {version}, which is not supported")]
    UnsupportedVersion {
        /// The thing with a version.
        what: &'static str,
        /// Its version.
        version: i64,
    },
    /// A codec refused its input.
    #[error("{codec} data: {why}")]
    Compression {
        /// Name of the codec, as in `compression.type`.
        codec: &'static str,
        /// What it said.
        why: String,
    },
    /// A codec that this build was made without.
    #[error("codec {codec} was left out of this build")]
    CodecUnavailable {
        /// Name of the codec.
        codec: &'static str,
    },
    /// Decompressed data exceeds the limit that the caller set.
    #[error("{what} exceeds the limit of {limit} bytes")]
    LimitExceeded {
        /// The thing that is too large.
        what: &'static str,
        /// The limit in bytes, inclusive.
        limit: u64,
    },
}

impl FormatError {
    /// Kafka's code for this error.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        match self {
            Self::Checksum { .. } | Self::Truncated { .. } => KafkaErrorCode::CorruptMessage,
            Self::UnsupportedVersion { .. } => KafkaErrorCode::UnsupportedForMessageFormat,
            Self::CodecUnavailable { .. } => KafkaErrorCode::UnsupportedCompressionType,
            Self::LimitExceeded { .. } => KafkaErrorCode::MessageTooLarge,
            Self::Invalid { .. } | Self::Text { .. } | Self::Compression { .. } => KafkaErrorCode::InvalidRecord,
        }
    }
}
