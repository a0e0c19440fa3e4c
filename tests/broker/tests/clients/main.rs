//! Standard clients against the reference broker: the programs of `tests/broker/clients` produce, consume, join groups, run
//! transactions and administer, and say what they got.
//!
//! With `DURAMEN_BROKER_UNDER_TEST=kafka` the same tests run against real Kafka, which proves the tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod administration;
mod broker;
mod groups;
mod languages;
mod ledger;
mod producing;
mod programs;
mod stage;
mod transactions;
