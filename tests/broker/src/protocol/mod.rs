//! Floor 0: what stands on the wire, as bytes and as values.
//!
//! Owns frames, request headers, decoding that no request can misuse, and responses whose record bytes stay in their files.
//! Knows nothing of connections, partitions or what a request asks for. Keeps: no allocation here is larger than a small
//! multiple of the bytes that were received.

mod decode;
mod fetch;
mod frame;
mod header;
mod newer;
mod produce;
mod reader;
mod reply;
mod rewritable;

pub(crate) use fetch::{Endpoint, FetchAnswer, FetchedPartition, FetchedTopic};
pub(crate) use frame::{FrameError, Frames};
pub(crate) use header::RequestHeader;
pub(crate) use newer::{
    DescribedLogDirs, FIRST_OFFSETS_WITH_IDS, OffsetCommit, OffsetFetch, Readable, Writable, WriteTxnMarkers, form,
};
pub(crate) use produce::{PartitionData, Produce, TopicData, TopicKey};
pub(crate) use reply::{Reply, ReplyBuilder};
pub(crate) use rewritable::Rewritable;

/// Bytes that are no request, or a response that cannot be written: the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);
