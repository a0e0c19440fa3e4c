//! Putting the broker together, running it, and taking it apart in order.

use crate::{
    api::Broker,
    config::BrokerConfig,
    coordinator::Coordinators,
    metadata::{Metadata, MetadataError, Node},
    net,
    stop::{Stop, Stopper},
    topics::{TopicError, Topics},
    trace::note,
};
use duramen::{
    CleanerOptions, DirectoryOptions, Durability, EventHandler, HighWatermarkPolicy, LogManager, Maintenance,
    ManagerOptions, OpenError,
};
use std::{io, net::SocketAddr, path::Path, sync::Arc};
use tokio::{net::TcpListener, task::spawn_blocking};

/// The broker could not be started, or not be ended in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No log directory is given.
    #[error("no log directory is given: name one by --dir or log.dirs")]
    NoDirectory,
    /// The log directories cannot be opened or closed.
    #[error(transparent)]
    Logs(#[from] OpenError),
    /// The cluster's metadata cannot be read, or are of another node.
    #[error("{0}")]
    Metadata(String),
    /// A topic's logs cannot be opened.
    #[error("{0}")]
    Topics(String),
    /// An internal topic cannot be read.
    #[error("an internal topic cannot be read: {0}")]
    Coordinators(String),
    /// A thread of the broker failed.
    #[error("a thread failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<MetadataError> for StartError {
    fn from(error: MetadataError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl From<TopicError> for StartError {
    fn from(error: TopicError) -> Self {
        Self::Topics(error.to_string())
    }
}

/// A broker whose logs are open and that listens.
pub struct Server {
    listener: TcpListener,
    broker: Arc<Broker>,
    stopper: Stopper,
    address: SocketAddr,
}

impl Server {
    /// Opens the log directories and makes what is missing of them. Clients that connect meanwhile wait.
    ///
    /// Needs a runtime of tokio with several threads: what may take long is done with `block_in_place`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(mut config: BrokerConfig) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        config.listen = address;
        config.without_effect().for_each(|name| note(format_args!("{name} is taken, and has no effect here")));
        let config = Arc::new(config);
        let (stopper, stop) = Stop::pair();
        let topics = spawn_blocking({
            let config = Arc::clone(&config);
            move || open_topics(config)
        });
        let topics = topics.await??;
        let coordinators = Coordinators::new(topics.clone(), Arc::clone(&config));
        coordinators.resume().await.map_err(|code| StartError::Coordinators(code.to_string()))?;
        let broker = Arc::new(Broker { config, topics, coordinators, stop });
        Ok(Self { listener, broker, stopper, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future given is done, and closes everything in order: the next start needs no recovery.
    ///
    /// # Errors
    /// [`StartError::Logs`]: the next start recovers.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { listener, broker, stopper, address } = self;
        note(format_args!("listening on {address}"));
        let serving = tokio::spawn(net::serve(listener, Arc::clone(&broker)));
        until.await;
        note("ending: no more requests are taken");
        stopper.stop();
        broker.coordinators.close_groups();
        serving.await?;
        broker.coordinators.close_transactions().await;
        spawn_blocking(move || close(&broker)).await??;
        note("ended");
        Ok(())
    }
}

fn open_topics(config: Arc<BrokerConfig>) -> Result<Topics, StartError> {
    if config.directories.is_empty() {
        return Err(StartError::NoDirectory);
    }
    let directories: Vec<&Path> = config.directories.iter().map(AsRef::as_ref).collect();
    let manager = Arc::new(LogManager::open(&directories, options(&config))?);
    for (directory, report) in directories.iter().zip(manager.reports()) {
        let how = if report.clean {
            "was closed in order"
        } else {
            "is new or was not closed in order: its logs are recovered"
        };
        note(format_args!("{} {how}", directory.display()));
    }
    let (host, port) = config.advertised();
    let node = Node {
        id: config.node_id,
        directories: config.directories.clone(),
        host,
        port,
        rack: config.value("broker.rack").map(str::to_owned),
        cluster_id: None,
    };
    let metadata = Metadata::open(&manager, &node).inspect_err(|_| {
        // Directories that are refused, and were closed in order, stay so.
        if let Err(error) = manager.close() {
            note(format_args!("the log directories were not closed in order: {error}"));
        }
    })?;
    if config.ack == Durability::Flushed {
        manager.prepare()?;
    }
    Ok(Topics::open(manager, metadata, config)?)
}

fn options(config: &BrokerConfig) -> ManagerOptions {
    let upkeep = &config.upkeep;
    let directories = config.directories.clone();
    let cleaner = CleanerOptions {
        dedupe_buffer_bytes: upkeep.dedupe_buffer_bytes,
        io_buffer_bytes: upkeep.io_buffer_bytes,
        ..CleanerOptions::default()
    };
    ManagerOptions {
        directory: DirectoryOptions {
            producer_id_expiration_ms: upkeep.producer_id_expiration_ms,
            verify_transactions: config.transactions.verify_partitions,
            file_delete_delay_ms: config.log.file_delete_delay_ms,
            ..DirectoryOptions::default()
        },
        high_watermark: match config.ack {
            Durability::Flushed => HighWatermarkPolicy::Flushed,
            Durability::Written => HighWatermarkPolicy::LogEnd,
        },
        maintenance: Some(Maintenance {
            retention_interval: upkeep.retention_interval,
            checkpoint_interval: upkeep.checkpoint_interval,
            producer_check_interval: upkeep.producer_id_check_interval,
            cleaner_backoff: upkeep.cleaner_backoff,
            cleaner: upkeep.cleaner_enable.then_some(cleaner),
            bytes_per_second: upkeep.bytes_per_second,
        }),
        events: EventHandler::new(move |directory, event| match directories.get(directory) {
            Some(path) => note(format_args!("{}: {event}", path.display())),
            None => note(event),
        }),
        ..ManagerOptions::default()
    }
}

fn close(broker: &Broker) -> Result<(), StartError> {
    broker.topics.metadata().close()?;
    Ok(broker.topics.manager().close()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Sources;

    async fn open(dir: &Path, node_id: i32) -> Result<Server, StartError> {
        let sources = Sources {
            directories: vec![dir.to_path_buf()],
            listen: Some("127.0.0.1:0".to_owned()),
            node_id: Some(node_id),
            ..Sources::default()
        };
        Server::open(BrokerConfig::from_sources(sources).unwrap()).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn directory_of_another_node_is_refused_and_stays_closed_in_order() {
        let home = tempfile::tempdir().unwrap();
        open(home.path(), 1).await.unwrap().run(std::future::ready(())).await.unwrap();
        let marker = home.path().join(".kafka_cleanshutdown");
        assert!(marker.exists());
        assert!(open(home.path(), 7).await.is_err());
        assert!(marker.exists());
        open(home.path(), 1).await.unwrap();
    }
}
