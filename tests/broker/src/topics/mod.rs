//! Floor 4: the engine's partitions by topic: look-up, creation, deletion, configuration.
//!
//! Owns: which partitions are open, and that the metadata, the engine and what is looked up go together. Knows nothing of
//! requests. Keeps: what can be looked up is open, leads in the epoch that the metadata say, and goes by the configuration
//! that is described; a topic can be looked up only once all of its partitions can be appended to, so no client is sent to a
//! partition that is not there.

mod error;
#[cfg(test)]
pub(crate) mod fixtures;
mod hosting;
mod names;
mod opening;
pub(crate) mod properties;

pub(crate) use error::TopicError;
pub(crate) use hosting::{Hosted, Hosting, Topic};
pub(crate) use names::{check as check_name, check_new, is_internal};

use crate::{
    config::BrokerConfig,
    metadata::{Configs, FeatureUpdate, Image, Metadata, TopicImage},
};
use duramen::{KafkaErrorCode, LogConfig, LogManager, TopicPartition, format::uuid::Uuid};
use properties::{Changes, Levels};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};
use tokio::{sync::Mutex, task::spawn_blocking};

/// The topics of this broker; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    shared: Arc<Shared>,
    /// One change at a time. Whoever waits for another's holds no thread meanwhile; the guard goes along with the change to
    /// its thread, which makes it to its end also when nobody waits for it any more.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Shared {
    manager: Arc<LogManager>,
    metadata: Metadata,
    config: Arc<BrokerConfig>,
    /// Guards which value is the newest, for a look-up or the moment of replacing it.
    hosting: RwLock<Arc<Hosting>>,
}

impl Topics {
    /// Opens every partition that the metadata name, makes those that are missing, and sets all others aside as strays. Blocks.
    ///
    /// # Errors
    /// [`TopicError`]: a log cannot be opened, or what the metadata say of a topic cannot be used.
    pub(crate) fn open(
        manager: Arc<LogManager>,
        metadata: Metadata,
        config: Arc<BrokerConfig>,
    ) -> Result<Self, TopicError> {
        let hosting = RwLock::new(Arc::new(open_all(&manager, &metadata.image(), &config)?));
        let shared = Shared { manager, metadata, config, hosting };
        Ok(Self { shared: Arc::new(shared), turn: Arc::default() })
    }

    /// The cluster's metadata.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    /// The engine.
    pub(crate) fn manager(&self) -> &Arc<LogManager> {
        &self.shared.manager
    }

    /// All topics of this moment.
    pub(crate) fn hosting(&self) -> Arc<Hosting> {
        Arc::clone(&self.shared.hosting())
    }

    /// A topic by its name.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.shared.hosting().topic(name).map(Arc::clone)
    }

    /// A partition to read from or append to. Cheap: for every produce and fetch.
    ///
    /// # Errors
    /// [`KafkaErrorCode::UnknownTopicOrPartition`].
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Result<Arc<Hosted>, KafkaErrorCode> {
        self.shared.hosting().partition(topic, index).map(Arc::clone)
    }

    /// The name of the topic with an id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        self.shared.hosting().name_of(id).map(Arc::clone)
    }

    /// What is set for the broker, at every level.
    pub(crate) fn levels(&self) -> Levels {
        self.shared.levels()
    }

    /// Makes a topic. Its partitions can be produced to when this returns.
    ///
    /// # Errors
    /// [`TopicError`]: nothing of it is left, but that the metadata may keep it where they cannot be written any more.
    pub(crate) async fn create(
        &self,
        name: &str,
        partitions: i32,
        configs: &BTreeMap<String, String>,
    ) -> Result<Arc<TopicImage>, TopicError> {
        let (name, configs) = (name.to_owned(), configs.clone());
        self.change(move |shared| shared.create(&name, partitions, &configs)).await
    }

    /// Deletes a topic. Whoever waits for something of its partitions is told that they are gone.
    ///
    /// # Errors
    /// [`TopicError::Metadata`]: it is still there. [`TopicError::Open`]: it is gone, and some of its files are still there;
    /// they become strays at the next start.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.change(move |shared| shared.delete(&name)).await
    }

    /// Gives a topic more partitions, `total` in all.
    ///
    /// # Errors
    /// [`TopicError`]. Where the new partitions cannot be opened the topic has them nevertheless, at the next start at the
    /// latest.
    pub(crate) async fn create_partitions(&self, name: &str, total: i32) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.change(move |shared| shared.create_partitions(&name, total)).await
    }

    /// Changes what is set for a topic. `decide` is told what is set, and says what changes; nobody else changes it meanwhile.
    /// With `validate_only` it is checked and not changed.
    ///
    /// # Errors
    /// That of `decide`, or another [`TopicError`]: nothing was changed.
    pub(crate) async fn alter_topic(
        &self,
        name: &str,
        validate_only: bool,
        decide: impl FnOnce(&Configs) -> Result<Changes, TopicError> + Send + 'static,
    ) -> Result<(), TopicError> {
        let name = name.to_owned();
        self.change(move |shared| shared.alter_topic(&name, validate_only, decide)).await
    }

    /// Changes what is set for this broker, or for all; see [`Topics::alter_topic`]. What topics fall back to is changed with
    /// it.
    ///
    /// # Errors
    /// That of `decide`, or another [`TopicError`]: nothing was changed.
    pub(crate) async fn alter_broker(
        &self,
        for_all: bool,
        validate_only: bool,
        decide: impl FnOnce(&Configs) -> Result<Changes, TopicError> + Send + 'static,
    ) -> Result<(), TopicError> {
        self.change(move |shared| shared.alter_broker(for_all, validate_only, decide)).await
    }

    /// Gives features other levels, all of them or none; or only says whether that can be.
    ///
    /// # Errors
    /// [`TopicError::Metadata`]: nothing was changed.
    pub(crate) async fn update_features(
        &self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.change(move |shared| Ok(shared.metadata.update_features(&updates, validate_only)?)).await
    }

    /// Makes a change on a thread that may block, when it is its turn.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Shared) -> Result<T, TopicError> + Send + 'static,
    ) -> Result<T, TopicError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || {
            let _turn = turn;
            change(&shared)
        })
        .await?
    }
}

impl Shared {
    fn hosting(&self) -> RwLockReadGuard<'_, Arc<Hosting>> {
        self.hosting.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn levels(&self) -> Levels {
        Levels::new(&self.metadata.image(), &self.config)
    }

    fn publish(&self, next: Hosting) {
        *self.hosting.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// Opens the partitions of a topic and lets it be looked up.
    fn host(&self, image: Arc<TopicImage>, config: LogConfig) -> Result<(), TopicError> {
        let partitions = opening::open_partitions(&self.manager, &image, &config)?;
        let topic = Topic::new(image, &Arc::new(config), partitions);
        let next = self.hosting().with(topic);
        self.publish(next);
        Ok(())
    }

    /// Steps, and what the next start finds after each: in the metadata (a topic whose partitions it makes); its partitions
    /// made (the topic).
    fn create(
        &self,
        name: &str,
        partitions: i32,
        configs: &BTreeMap<String, String>,
    ) -> Result<Arc<TopicImage>, TopicError> {
        check_new(&self.metadata.image(), name)?;
        let config = properties::log_config(&self.levels(), configs)?;
        let image = self.metadata.create_topic(name, partitions, configs)?;
        if let Err(error) = self.host(Arc::clone(&image), config) {
            // Nobody was told of it. What there is of its partitions has an id that no topic has.
            self.metadata.delete_topic(name)?;
            return Err(error);
        }
        Ok(image)
    }

    /// Steps, and what the next start finds after each: out of the metadata (strays); the partitions deleted (nothing).
    fn delete(&self, name: &str) -> Result<(), TopicError> {
        let image = self.metadata.delete_topic(name)?;
        let next = self.hosting().without(name);
        self.publish(next);
        let names = (0..).zip(&image.partitions).map(|(index, _)| TopicPartition::new(name, index));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        // Some may be missing: they could not be made when the topic was.
        names.retain(|name| self.manager.get(name).is_some());
        Ok(self.manager.delete_all(&names)?)
    }

    fn create_partitions(&self, name: &str, total: i32) -> Result<(), TopicError> {
        let image = self.metadata.create_partitions(name, total)?;
        let config = properties::log_config(&self.levels(), &image.configs)?;
        self.host(image, config)
    }

    fn alter_topic(
        &self,
        name: &str,
        validate_only: bool,
        decide: impl FnOnce(&Configs) -> Result<Changes, TopicError>,
    ) -> Result<(), TopicError> {
        let topic = self.hosting().topic(name).map(Arc::clone);
        let topic = topic.ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
        let changes = decide(&topic.image.configs)?;
        let mut overrides = topic.image.configs.clone();
        properties::apply(&mut overrides, &changes);
        let config = properties::log_config(&self.levels(), &overrides)?;
        if !validate_only {
            let image = self.metadata.set_topic_configs(name, &changes)?;
            self.reconfigure(&topic, image, config)?;
        }
        Ok(())
    }

    fn reconfigure(&self, topic: &Topic, image: Arc<TopicImage>, config: LogConfig) -> Result<(), TopicError> {
        self.manager.set_topic_config(&topic.name, &config)?;
        let next = self.hosting().with(topic.reconfigured(image, &Arc::new(config)));
        self.publish(next);
        Ok(())
    }

    fn alter_broker(
        &self,
        for_all: bool,
        validate_only: bool,
        decide: impl FnOnce(&Configs) -> Result<Changes, TopicError>,
    ) -> Result<(), TopicError> {
        let levels = self.levels();
        let changes = decide(levels.dynamic(for_all))?;
        properties::check_changes(&changes, for_all)?;
        let levels = levels.with(for_all, &changes);
        properties::log_config(&levels, &Configs::new())?;
        let hosting = Arc::clone(&self.hosting());
        let mut changed = Vec::new();
        for topic in hosting.sorted() {
            let config = properties::log_config(&levels, &topic.image.configs)?;
            if topic.partitions.first().is_some_and(|hosted| *hosted.config != config) {
                changed.push((topic, config));
            }
        }
        if validate_only {
            return Ok(());
        }
        match for_all {
            true => self.metadata.set_cluster_configs(&changes)?,
            false => self.metadata.set_broker_configs(&changes)?,
        }
        for (topic, config) in changed {
            self.reconfigure(topic, Arc::clone(&topic.image), config)?;
        }
        Ok(())
    }
}

/// Opens what the metadata name.
fn open_all(manager: &LogManager, image: &Image, config: &Arc<BrokerConfig>) -> Result<Hosting, TopicError> {
    let levels = Levels::new(image, config);
    let config_of = |topic: &TopicImage| {
        let config = properties::log_config(&levels, &topic.configs);
        config.map_err(|source| TopicError::Stored { topic: topic.name.clone(), source })
    };
    let configs = image.topics().map(|topic| Ok((topic.name.as_str(), Arc::new(config_of(topic)?))));
    let configs = configs.collect::<Result<_, TopicError>>()?;
    opening::load(manager, image, &configs)?;
    let open = |topic: &Arc<TopicImage>| {
        let config = configs.get(topic.name.as_str()).map(Arc::clone).unwrap_or_default();
        let partitions = opening::open_partitions(manager, topic, &config)?;
        Ok(Topic::new(Arc::clone(topic), &config, partitions))
    };
    image.topics().map(open).collect()
}

#[cfg(test)]
mod tests;
