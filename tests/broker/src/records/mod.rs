//! Floor 1: what the internal topics hold, as values: keys and values in Kafka's own schemas.
//!
//! Pure: no file, no clock, no panic on any input. Reads every version that Kafka reads, and writes the one that Kafka 4.3.0
//! writes.

pub(crate) mod fields;
pub(crate) mod offsets;
pub(crate) mod transactions;
