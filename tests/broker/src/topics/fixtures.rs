//! Topics in a directory of their own, for tests.

#![allow(clippy::unwrap_used)]

use super::{Hosted, Topics};
use crate::{
    config::{BrokerConfig, Sources},
    metadata::{Metadata, Node},
};
use duramen::{
    AppendAsLeader, Durability, HighWatermarkPolicy, LogManager, ManagerOptions, ValidationPolicy,
    format::builder::BatchBuilder, validate,
};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use tempfile::TempDir;

pub(crate) const NODE_ID: i32 = 1;
const NOW_MS: i64 = 1_700_000_000_000;

/// Topics, and their directory until the test ends.
pub(crate) struct Home {
    pub(crate) topics: Topics,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    pub(crate) fn open(dir: TempDir) -> Self {
        let config = Arc::new(config(dir.path()));
        let topics = open(dir.path(), &config);
        Self { topics, config, dir }
    }

    /// Closes everything in order; what is left is the directory.
    pub(crate) fn close(self) -> TempDir {
        self.topics.metadata().close().unwrap();
        self.topics.manager().close().unwrap();
        self.dir
    }

    /// Closes everything in order and opens it again.
    pub(crate) fn reopened(self) -> Self {
        Self::open(self.close())
    }

    /// Makes a topic.
    pub(crate) async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs: BTreeMap<_, _> =
            configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.topics.create(name, partitions, &configs).await.unwrap();
    }
}

/// Four partitions for topics that do not say how many.
fn config(dir: &Path) -> BrokerConfig {
    let sources = Sources {
        set: vec![("num.partitions".to_owned(), "4".to_owned())],
        directories: vec![dir.to_path_buf()],
        node_id: Some(NODE_ID),
        ..Sources::default()
    };
    BrokerConfig::from_sources(sources).unwrap()
}

fn open(dir: &Path, config: &Arc<BrokerConfig>) -> Topics {
    let options =
        ManagerOptions { high_watermark: HighWatermarkPolicy::LogEnd, journal_bytes: 0, ..ManagerOptions::default() };
    let manager = Arc::new(LogManager::open(&[dir], options).unwrap());
    let node = Node {
        id: NODE_ID,
        directories: vec![dir.to_path_buf()],
        host: "localhost".to_owned(),
        port: 9092,
        rack: None,
        cluster_id: None,
    };
    let metadata = Metadata::open(&manager, &node).unwrap();
    Topics::open(manager, metadata, Arc::clone(config)).unwrap()
}

/// Appends so many batches of one record.
pub(crate) fn append(hosted: &Hosted, batches: usize) {
    (0..batches).for_each(|_| append_batch(hosted, BatchBuilder::new()));
}

/// Appends a batch of one record in a transaction of this producer.
pub(crate) fn append_transactional(hosted: &Hosted, producer_id: i64) {
    append_batch(hosted, BatchBuilder::new().producer(producer_id, 0, 0).transactional());
}

fn append_batch(hosted: &Hosted, builder: BatchBuilder) {
    let bytes = builder.record(NOW_MS, Some(b"key"), Some(b"value")).build().unwrap();
    let batch = validate(bytes, &ValidationPolicy::from_config(&hosted.config), NOW_MS).unwrap();
    let append = AppendAsLeader::new(hosted.leader_epoch, NOW_MS);
    hosted.partition.append_as_leader(batch, append, Durability::Written).unwrap();
}
