//! The broker as a program: arguments, signals.

use clap::{Parser, ValueEnum};
use duramen::Durability;
use duramen_broker::{BrokerConfig, Server, Sources};
use std::{error::Error, fs, path::PathBuf, process::ExitCode};
use tokio::{
    runtime::Runtime,
    select,
    signal::unix::{Signal, SignalKind, signal},
};

/// A broker of one node that speaks Kafka's protocol, on duramen.
///
/// Standard clients produce, consume, join groups and run transactions on it. It replicates nothing. Its log directories are
/// Kafka's: real Kafka can take them over.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A log directory; made if it is not there, and /tmp/kafka-logs if none is given, as with Kafka. Give it several times for
    /// several, which are filled evenly. Each wants 512 MiB for its commit journal.
    #[arg(long = "dir", value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Where to listen; any address, port 9092, if nothing is said. Port 0 is any that is free. There is no authentication.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where clients are to find it, if that is not where it listens (by this machine's name, where it listens on any address).
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The number of this node (1, if nothing is said).
    #[arg(long, value_name = "N")]
    node_id: Option<i32>,
    /// What an acknowledged append survives: power loss, or, as in Kafka, the death of the process.
    #[arg(long, value_enum, default_value_t = Ack::Flushed)]
    ack: Ack,
    /// A properties file with Kafka's broker settings.
    #[arg(long, value_name = "FILE")]
    properties: Option<PathBuf>,
    /// One of Kafka's broker settings, as in num.partitions=4.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ack {
    /// The death of the process.
    Written,
    /// Power loss.
    Flushed,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is a name and a value, with = between them")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duramen-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let read = |path: &PathBuf| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let properties = arguments.properties.as_ref().map(read).transpose()?;
    let config = BrokerConfig::from_sources(Sources {
        properties,
        set: arguments.settings,
        directories: arguments.directories,
        listen: arguments.listen,
        advertise: arguments.advertise,
        node_id: arguments.node_id,
        ack: match arguments.ack {
            Ack::Written => Durability::Written,
            Ack::Flushed => Durability::Flushed,
        },
    })?;
    Runtime::new()?.block_on(async {
        let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let server = Server::open(config).await?;
        Ok(server.run(end(signals)).await?)
    })
}

async fn end((mut terminate, mut interrupt): (Signal, Signal)) {
    select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
