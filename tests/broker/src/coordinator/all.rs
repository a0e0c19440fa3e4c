//! Both coordinators, each over its internal topic: opened at start where that is there, else when somebody first asks.
//!
//! Owns when they are opened and closed, and what they need of the rest of the broker. Knows nothing of requests.

use super::{
    groups::{GroupConfig, GroupCoordinator, GroupDependencies, KnownTopic},
    transactions::{
        CONSUMER_OFFSETS, Partitions, ProducerIds, TRANSACTION_STATE, TransactionConfig, TransactionCoordinator,
        TransactionDependencies,
    },
};
use crate::{
    config::BrokerConfig,
    internal::InternalLog,
    topics::{Topic, TopicError, Topics},
    trace::{note, now_ms},
    transaction::TransactionVersion,
};
use duramen::{KafkaErrorCode, Partition};
use kafka_protocol::ResponseError;
use std::{collections::BTreeMap, fmt::Display, ops::Range, sync::Arc};
use tokio::{
    sync::OnceCell,
    task::{block_in_place, spawn_blocking},
};

/// The coordinators of this broker.
#[derive(Debug)]
pub(crate) struct Coordinators {
    topics: Topics,
    config: Arc<BrokerConfig>,
    groups: OnceCell<Arc<GroupCoordinator>>,
    transactions: OnceCell<Arc<TransactionCoordinator>>,
}

impl Coordinators {
    /// Coordinators that nobody asked for yet.
    pub(crate) fn new(topics: Topics, config: Arc<BrokerConfig>) -> Self {
        Self { topics, config, groups: OnceCell::new(), transactions: OnceCell::new() }
    }

    /// Goes on with what an earlier start of the broker left.
    ///
    /// # Errors
    /// The code of what reading an internal topic failed with; the reason is noted.
    pub(crate) async fn resume(&self) -> Result<(), ResponseError> {
        if self.topics.topic(CONSUMER_OFFSETS).is_some() {
            self.groups().await?;
        }
        if self.topics.topic(TRANSACTION_STATE).is_some() {
            self.transactions().await?;
        }
        Ok(())
    }

    /// The coordinator of groups; makes its topic if there is none.
    ///
    /// # Errors
    /// The code of what making or reading the topic failed with; the reason is noted.
    pub(crate) async fn groups(&self) -> Result<&Arc<GroupCoordinator>, ResponseError> {
        self.groups.get_or_try_init(|| self.open_groups()).await
    }

    /// The coordinator of groups, if somebody asked for it.
    pub(crate) fn opened_groups(&self) -> Option<&Arc<GroupCoordinator>> {
        self.groups.get()
    }

    /// The coordinator of transactions; makes its topic if there is none.
    ///
    /// # Errors
    /// As [`Coordinators::groups`].
    pub(crate) async fn transactions(&self) -> Result<&Arc<TransactionCoordinator>, ResponseError> {
        self.transactions.get_or_try_init(|| self.open_transactions()).await
    }

    /// Answers whoever waits in a group, so that their connections can end.
    pub(crate) fn close_groups(&self) {
        if let Some(groups) = self.groups.get() {
            groups.close();
        }
    }

    /// Waits for the steps of transactions that are under way; what was decided goes on after the next start.
    pub(crate) async fn close_transactions(&self) {
        if let Some(transactions) = self.transactions.get() {
            transactions.close().await;
        }
    }

    async fn open_groups(&self) -> Result<Arc<GroupCoordinator>, ResponseError> {
        let settings = &self.config.groups;
        let (partitions, segment_bytes) = (settings.topic_num_partitions, settings.topic_segment_bytes);
        let topic = self.internal_topic(CONSUMER_OFFSETS, partitions, segment_bytes, "producer").await?;
        let logs = self.logs(&topic);
        let topics = self.topics.clone();
        let dependencies = GroupDependencies {
            config: GroupConfig {
                min_session_timeout_ms: settings.min_session_timeout_ms,
                max_session_timeout_ms: settings.max_session_timeout_ms,
                initial_rebalance_delay_ms: settings.initial_rebalance_delay_ms,
                max_size: usize::try_from(settings.max_size).unwrap_or_default(),
                offset_metadata_max_bytes: usize::try_from(settings.offset_metadata_max_bytes).unwrap_or_default(),
                offsets_retention_ms: settings.offsets_retention_ms,
                offsets_retention_check_interval_ms: in_ms(settings.offsets_retention_check_interval),
            },
            topic: Box::new(move |name| topics.topic(name).map(|topic| known(&topic))),
            note: Box::new(|line| note(line)),
        };
        let opened = spawn_blocking(move || GroupCoordinator::open(dependencies, logs)).await;
        opened.map_err(|error| unusable(CONSUMER_OFFSETS, error))?.map_err(|error| unusable(CONSUMER_OFFSETS, error))
    }

    async fn open_transactions(&self) -> Result<Arc<TransactionCoordinator>, ResponseError> {
        let groups = Arc::clone(self.groups().await?);
        let settings = &self.config.transactions;
        let (partitions, segment_bytes) = (settings.topic_num_partitions, settings.topic_segment_bytes);
        let topic = self.internal_topic(TRANSACTION_STATE, partitions, segment_bytes, "uncompressed").await?;
        let epochs: Vec<_> = topic.partitions.iter().map(|hosted| hosted.leader_epoch).collect();
        let logs: Vec<_> = self.logs(&topic).into_iter().zip(epochs).collect();
        let config = TransactionConfig {
            max_timeout_ms: settings.max_timeout_ms,
            expiration_ms: settings.id_expiration_ms.into(),
            abort_interval: settings.abort_timed_out_interval,
            expire_interval: settings.remove_expired_interval,
            verifies: settings.verify_partitions,
            durability: self.config.ack,
            ..TransactionConfig::default()
        };
        let (of_group, of_version) = (Arc::clone(&groups), self.topics.clone());
        let dependencies = TransactionDependencies {
            partitions: Arc::new(self.topics.clone()),
            producer_ids: Arc::new(self.topics.clone()),
            offsets_partition: Box::new(move |group| of_group.partition_for(group)),
            offsets_ended: Box::new(move |partition, producer, is_committed| {
                groups.end_transaction(partition, producer, is_committed);
            }),
            version: Box::new(move || {
                TransactionVersion::from_level(of_version.metadata().image().feature("transaction.version"))
            }),
            now_ms: Box::new(now_ms),
            note: Box::new(|line| note(line)),
        };
        let opened = spawn_blocking(move || TransactionCoordinator::open(config, logs, dependencies)).await;
        let opened = opened.map_err(|error| unusable(TRANSACTION_STATE, error))?;
        let opened = opened.map_err(|error| unusable(TRANSACTION_STATE, error))?;
        opened.start();
        Ok(opened)
    }

    /// An internal topic, made if it is not there.
    async fn internal_topic(
        &self,
        name: &str,
        partitions: i32,
        segment_bytes: i32,
        compression: &str,
    ) -> Result<Arc<Topic>, ResponseError> {
        if self.topics.topic(name).is_none() {
            let configs = BTreeMap::from([
                ("cleanup.policy".to_owned(), "compact".to_owned()),
                ("compression.type".to_owned(), compression.to_owned()),
                ("segment.bytes".to_owned(), segment_bytes.to_string()),
            ]);
            match self.topics.create(name, partitions, &configs).await {
                Ok(_) | Err(TopicError::Exists { .. }) => {}
                Err(error) => return Err(unusable(name, error)),
            }
        }
        self.topics.topic(name).ok_or(ResponseError::CoordinatorNotAvailable)
    }

    fn logs(&self, topic: &Topic) -> Vec<InternalLog> {
        let log = |hosted: &Arc<crate::topics::Hosted>| {
            InternalLog::new(Arc::clone(&hosted.partition), &hosted.config, self.config.ack, hosted.leader_epoch)
        };
        topic.partitions.iter().map(log).collect()
    }
}

impl Partitions for Topics {
    fn partition(&self, topic: &str, index: i32) -> Option<(Arc<Partition>, i32)> {
        let hosted = Topics::partition(self, topic, index).ok()?;
        Some((Arc::clone(&hosted.partition), hosted.leader_epoch))
    }
}

impl ProducerIds for Topics {
    fn allocate(&self, count: i32) -> Result<Range<i64>, KafkaErrorCode> {
        let allocated = block_in_place(|| self.metadata().allocate_producer_ids(count));
        allocated.map_err(|error| {
            note(format_args!("there are no producer ids: {error}"));
            KafkaErrorCode::UnknownServerError
        })
    }
}

fn known(topic: &Topic) -> KnownTopic {
    KnownTopic {
        id: uuid::Uuid::from_bytes(topic.image.id.bytes()),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    }
}

fn in_ms(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unusable(what: &str, error: impl Display) -> ResponseError {
    note(format_args!("{what} cannot be used: {error}"));
    ResponseError::CoordinatorNotAvailable
}
