//! Floor 1: bytes as values.
//!
//! Every byte that Kafka keeps on disk is decoded and encoded here and nowhere else; `docs/FORMAT.md` describes them.
//! Pure: no file, no clock, no panic on any input, and no allocation sized by what the input claims. Reading borrows;
//! what decodes encodes to the same bytes.

pub mod batch;
pub mod builder;
mod bytes;
pub mod checkpoint;
pub mod clean_shutdown;
pub mod compression;
pub mod control;
mod error;
pub(crate) mod frame;
mod in_place;
pub mod index_entry;
pub mod journal;
pub mod meta_properties;
pub mod names;
pub mod partition_metadata;
pub mod record;
pub(crate) mod rewrite;
pub mod snapshot;
pub mod uuid;
mod varint;

pub use error::FormatError;
