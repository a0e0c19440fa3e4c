//! Floor 1: one transactional id, as a state machine: no clock, no files, no sockets.
//!
//! [`Metadata`] is what the log has of an id, [`Transaction`] decides what becomes of it: a request or the clock asks, and the
//! answer is what the log has to take before anybody is told. Follows `TransactionMetadata` and `TransactionCoordinator` of
//! Kafka 4.3.0 for both transaction versions. Knows nothing of how records and markers are written.
//!
//! ```text
//! Empty ----------> Ongoing ----> PrepareCommit ----> CompleteCommit
//!   ^  \              |  \                              |
//!   |   \ (v2)        |   \ (fence, time-out)           |   a Complete state is left as Empty is
//!   |    \            v    v                            |
//!   |     `---------> PrepareAbort -----> CompleteAbort |
//!   `---------------------------------------------------'   InitProducerId
//! ```
//!
//! Keeps: at most one state is on its way to the log; an epoch only grows, or begins at 0 with a new producer id; what was
//! prepared is completed the same way.

mod appending;
mod ending;
mod initializing;
mod machine;
mod metadata;
#[cfg(test)]
mod model;
mod state;

pub(crate) use appending::Appending;
pub(crate) use ending::EndTransaction;
pub(crate) use initializing::InitProducerId;
pub(crate) use machine::{Markers, Step, Transaction};
pub(crate) use metadata::{Metadata, Producer};
pub(crate) use state::{State, TransactionVersion};
