//! A broker of one node on `duramen`, which speaks Kafka's protocol.
//!
//! [`Server::open`] and [`Server::run`] are all of its interface; the program is [`Server`] with arguments. `fuzz` is for the
//! fuzz target alone.

mod api;
mod config;
mod coordinator;
#[doc(hidden)]
pub mod fuzz;
mod group;
mod internal;
mod metadata;
mod net;
mod protocol;
mod records;
mod server;
mod stop;
mod topics;
mod trace;
mod transaction;

pub use config::{BrokerConfig, SettingError, Sources};
pub use server::{Server, StartError};
