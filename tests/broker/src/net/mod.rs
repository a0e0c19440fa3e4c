//! Floor 7: sockets: who may connect, requests in, responses out.
//!
//! Owns the listener, one task for each connection, and the end of both. Knows nothing of what requests mean. Keeps: requests
//! of a connection are handled one after the other and answered in their order; what a connection holds in memory is bounded,
//! whatever its peer sends or does not read.

mod budget;
mod connection;
mod listener;
mod send;

pub(crate) use listener::serve;
