//! Floor 5: groups and transactions over their internal topics: locks, clocks and tasks round the state machines.
//!
//! Knows nothing of sockets and frames: requests and responses are `kafka-protocol`'s.

mod all;
pub(crate) mod clock;
pub(crate) mod groups;
mod placing;
pub(crate) mod transactions;

pub(crate) use all::Coordinators;
