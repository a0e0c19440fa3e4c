//! What the same bytes cost without an engine: plain system calls, and a ring.

mod background;
mod buffer;
mod files;
pub(crate) mod group_commit;
mod journal;
pub(crate) mod model;
pub(crate) mod raw_journal;
mod ring;
mod segments;
