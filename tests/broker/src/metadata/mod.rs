//! Floor 3: what the cluster consists of, in `__cluster_metadata-0` as Kafka's controller keeps it.
//!
//! Owns: the metadata log and its files; the decisions of a controller for a cluster of one node; the [`Image`] that everybody
//! reads. Knows nothing of the partitions' logs and of requests. Keeps: a change is in the image only once it is durable in the
//! log, and the image is what a replay of the log would make; real Kafka can take the directories over at any orderly end,
//! and this broker those of a Kafka of one node.
//!
//! Snapshots are read and never made: what this broker writes is small, and a Kafka that takes over makes one when it wants.

mod changes;
mod error;
mod features;
mod flexible;
mod home;
mod ids;
mod image;
mod log;
mod quorum;
mod record;
mod replay;

pub(crate) use error::MetadataError;
pub(crate) use features::{Direction, FeatureUpdate, OFFERED as OFFERED_FEATURES};
pub(crate) use image::{Configs, Image, TopicImage};
pub(crate) use log::METADATA_TOPIC;

use changes::Decision;
use duramen::{LogManager, ProducerId, Timestamp, format::uuid::Uuid};
use home::Home;
use log::{MAX_BATCH_RECORDS, MetadataLog};
use record::Record;
use replay::{Item, Replay, walk};
use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

/// The node whose metadata these are.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// `node.id`.
    pub(crate) id: i32,
    /// The log directories, in the order of the settings; the first gets the metadata of a new cluster.
    pub(crate) directories: Vec<PathBuf>,
    /// Where clients reach the broker.
    pub(crate) host: String,
    /// And at which port.
    pub(crate) port: u16,
    /// `broker.rack`.
    pub(crate) rack: Option<String>,
    /// The id that a new cluster is to get; one is drawn otherwise. Of a cluster that is there, what it has to be.
    pub(crate) cluster_id: Option<String>,
}

/// The term in which the node leads the metadata log, as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// The epoch.
    pub(crate) leader_epoch: i32,
    /// By which directory the voters know this node; nil where they are known by their numbers alone.
    pub(crate) directory_id: Uuid,
}

/// The cluster's metadata: read by anybody at any time, changed by one after the other.
///
/// Every change blocks the thread until it is durable; call it where that is allowed.
#[derive(Debug)]
pub(crate) struct Metadata {
    node: Node,
    home: Home,
    term: Term,
    /// Guards the log: held by a change from its decision until it is in the image.
    log: Mutex<MetadataLog>,
    /// Guards which image is the newest, for the moment of taking or replacing it.
    image: RwLock<Arc<Image>>,
}

impl Metadata {
    /// Reads the metadata in the node's log directories, or formats new ones, and takes the cluster over: begins a term as
    /// leader of the log, announces the broker, and makes it the leader of all partitions. Their leader epochs go up, as they
    /// do in Kafka whenever a broker comes back: records that a crash took from a log, and those that got their offsets
    /// afterwards, are of different epochs, so that a consumer can tell.
    ///
    /// The manager must have the same directories open, and not yet have loaded the log of the metadata. To be called before
    /// `LogManager::load`, which would open that with a topic's configuration.
    ///
    /// # Errors
    /// [`MetadataError`]: the directories are not of this node alone, or what is in them cannot be read.
    pub(crate) fn open(manager: &LogManager, node: &Node) -> Result<Self, MetadataError> {
        let now_ms = machine_time_ms();
        let home = Home::open(node, now_ms)?;
        let (log, image) = MetadataLog::open(manager, &home, node, now_ms)?;
        let term = log.term();
        let image = RwLock::new(Arc::new(image));
        let metadata = Self { node: node.clone(), home, term, log: Mutex::new(log), image };
        metadata.take_over(now_ms)?;
        if let Some(broker) = metadata.image().broker(node.id) {
            manager.set_broker_epoch(broker.epoch);
        }
        Ok(metadata)
    }

    /// What a controller does when it becomes active (`ActivationRecordsGenerator`), and what follows from the broker's
    /// registration.
    fn take_over(&self, now_ms: Timestamp) -> Result<(), MetadataError> {
        let mut log = self.lock();
        if self.image().feature(features::METADATA_VERSION) == 0 {
            self.write(&mut log, &changes::bootstrap(self.bootstrap_records()?), now_ms)?;
        }
        features::check(&self.image())?;
        changes::check_replicas(&self.image(), self.node.id)?;
        let incarnation_id = ids::random()?;
        let broker =
            changes::registration(&self.node, incarnation_id, self.image().next_offset(), self.home.directory_ids());
        self.write(&mut log, &[broker], now_ms)?;
        self.write_all(&mut log, &changes::elections(&self.image(), self.node.id), now_ms)
    }

    /// What a cluster without metadata begins with: what its directory was formatted with, or what is the newest here.
    fn bootstrap_records(&self) -> Result<Vec<Record>, MetadataError> {
        let Some(checkpoint) = self.home.bootstrap_checkpoint()? else { return Ok(features::of_new_cluster()) };
        let mut records = Vec::new();
        walk(&checkpoint, "bootstrap.checkpoint", 0, |item| {
            if let Item::Metadata(record) = item {
                records.push(record);
            }
            Ok(())
        })?;
        Ok(records)
    }

    /// What the cluster consists of now.
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The term in which the node leads the log.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// The cluster's id, in text.
    pub(crate) fn cluster_id(&self) -> &str {
        self.home.cluster_id()
    }

    /// Makes a topic with these partitions and these properties of its own, which are not looked at.
    ///
    /// # Errors
    /// [`MetadataError::InvalidTopic`], [`MetadataError::TopicCollides`], [`MetadataError::TopicExists`],
    /// [`MetadataError::InvalidPartitions`], [`MetadataError::TooLarge`]; or the log fails.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &BTreeMap<String, String>,
    ) -> Result<Arc<TopicImage>, MetadataError> {
        let id = ids::random()?;
        let image =
            self.change(|image| changes::create_topic(image, self.placement(), (name, id), partitions, configs))?;
        topic(&image, name)
    }

    /// Removes a topic with its properties; what it was.
    ///
    /// # Errors
    /// [`MetadataError::UnknownTopic`]; or the log fails.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<Arc<TopicImage>, MetadataError> {
        let mut deleted = None;
        self.change(|image| {
            let topic = topic(image, name)?;
            let record = Record::RemoveTopic { topic_id: topic.id };
            deleted = Some(topic);
            Ok(vec![record])
        })?;
        deleted.ok_or_else(|| MetadataError::UnknownTopic { name: name.to_owned() })
    }

    /// Gives a topic more partitions, `total` in all.
    ///
    /// # Errors
    /// [`MetadataError::UnknownTopic`], [`MetadataError::InvalidPartitions`], [`MetadataError::TooLarge`]; or the log fails.
    pub(crate) fn create_partitions(&self, name: &str, total: i32) -> Result<Arc<TopicImage>, MetadataError> {
        let image = self.change(|image| changes::create_partitions(&*topic(image, name)?, self.placement(), total))?;
        topic(&image, name)
    }

    /// Sets properties of a topic, or takes them back where there is no value. They are not looked at.
    ///
    /// # Errors
    /// [`MetadataError::UnknownTopic`]; or the log fails.
    pub(crate) fn set_topic_configs(
        &self,
        name: &str,
        changes: &[(String, Option<String>)],
    ) -> Result<Arc<TopicImage>, MetadataError> {
        let image = self.change(|image| {
            Ok(changes::set_configs(record::TOPIC_RESOURCE, name, Some(&topic(image, name)?.configs), changes))
        })?;
        topic(&image, name)
    }

    /// Sets properties of this broker, or takes them back where there is no value. They are not looked at.
    ///
    /// # Errors
    /// The log fails.
    pub(crate) fn set_broker_configs(&self, changes: &[(String, Option<String>)]) -> Result<(), MetadataError> {
        let id = self.node.id;
        let set = |image: &Image| {
            changes::set_configs(record::BROKER_RESOURCE, &id.to_string(), image.broker_configs(id), changes)
        };
        self.change(|image| Ok(set(image))).map(drop)
    }

    /// As [`Metadata::set_broker_configs`], for all brokers of the cluster, also those that come later.
    ///
    /// # Errors
    /// The log fails.
    pub(crate) fn set_cluster_configs(&self, changes: &[(String, Option<String>)]) -> Result<(), MetadataError> {
        let set = |image: &Image| changes::set_configs(record::BROKER_RESOURCE, "", image.cluster_configs(), changes);
        self.change(|image| Ok(set(image))).map(drop)
    }

    /// Gives features other levels, all of them or none; or only says whether that can be.
    ///
    /// # Errors
    /// [`MetadataError::FeatureUpdate`]; or the log fails.
    pub(crate) fn update_features(&self, updates: &[FeatureUpdate], validate_only: bool) -> Result<(), MetadataError> {
        if validate_only {
            return features::update(&self.image(), updates).map(drop);
        }
        self.change(|image| features::update(image, updates)).map(drop)
    }

    /// Producer ids that nobody else ever gets.
    ///
    /// # Errors
    /// [`MetadataError::ProducerIdsExhausted`]; or the log fails.
    pub(crate) fn allocate_producer_ids(&self, count: i32) -> Result<Range<ProducerId>, MetadataError> {
        let mut first = 0;
        let image = self.change(|image| {
            first = image.next_producer_id();
            changes::allocate_producer_ids(image, self.node.id, count)
        })?;
        Ok(first..image.next_producer_id())
    }

    /// Takes the broker out of office, as Kafka's does before it ends: fenced, and no partition led. Whoever opens the
    /// directories next need not wait for its session to end. No change is made afterwards; a second call does nothing.
    ///
    /// # Errors
    /// The log fails.
    pub(crate) fn close(&self) -> Result<(), MetadataError> {
        let mut log = self.lock();
        if self.image().broker(self.node.id).is_some_and(|broker| broker.fenced) {
            return Ok(());
        }
        let records = changes::resignation(&self.image(), self.node.id);
        self.write_all(&mut log, &records, machine_time_ms())?;
        log.close();
        Ok(())
    }

    fn placement(&self) -> changes::Placement<'_> {
        changes::Placement { node_id: self.node.id, directory_ids: self.home.directory_ids() }
    }

    fn lock(&self) -> MutexGuard<'_, MetadataLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides on a change by the newest image, and makes it; the image with it.
    fn change(&self, decide: impl FnOnce(&Image) -> Decision) -> Result<Arc<Image>, MetadataError> {
        let mut log = self.lock();
        let records = decide(&self.image())?;
        self.write(&mut log, &records, machine_time_ms())?;
        Ok(self.image())
    }

    /// Makes a change that may take several batches, of which each counts alone.
    fn write_all(&self, log: &mut MetadataLog, records: &[Record], now_ms: Timestamp) -> Result<(), MetadataError> {
        records.chunks(MAX_BATCH_RECORDS).try_for_each(|records| self.write(log, records, now_ms))
    }

    /// Applies records to the image as a replay would, and makes them durable, before anybody sees it.
    fn write(&self, log: &mut MetadataLog, records: &[Record], now_ms: Timestamp) -> Result<(), MetadataError> {
        if records.is_empty() {
            return Ok(());
        }
        let image = self.image();
        let mut replay = Replay::of(Image::clone(&image));
        replay.records(records)?;
        let next_offset = log.append(records, image.feature(features::METADATA_VERSION), now_ms)?;
        let (mut next, _) = replay.finish();
        next.advance_to(next_offset);
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }
}

fn topic(image: &Image, name: &str) -> Result<Arc<TopicImage>, MetadataError> {
    image.topic(name).map(Arc::clone).ok_or_else(|| MetadataError::UnknownTopic { name: name.to_owned() })
}

fn machine_time_ms() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
