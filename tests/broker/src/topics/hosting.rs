//! What this broker hosts at one moment: topics by name and by id, with their open partitions.
//!
//! A value that never changes once it is shared, so that it is looked at without waiting for anybody.

use crate::metadata::TopicImage;
use duramen::{KafkaErrorCode, LogConfig, Partition, format::uuid::Uuid};
use std::{collections::HashMap, sync::Arc};

/// A partition that can be read and appended to.
#[derive(Debug)]
pub(crate) struct Hosted {
    /// The engine's partition.
    pub(crate) partition: Arc<Partition>,
    /// The epoch in which this broker leads it.
    pub(crate) leader_epoch: i32,
    /// The configuration that it goes by.
    pub(crate) config: Arc<LogConfig>,
    /// Its topic's id.
    pub(crate) topic_id: Uuid,
}

/// A topic with all its partitions open.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Its name, shared with whoever asks for the name of an id.
    pub(crate) name: Arc<str>,
    /// What the metadata say of it.
    pub(crate) image: Arc<TopicImage>,
    /// By their numbers.
    pub(crate) partitions: Vec<Arc<Hosted>>,
}

impl Topic {
    /// A topic of these open partitions.
    pub(super) fn new(image: Arc<TopicImage>, config: &Arc<LogConfig>, partitions: Vec<Arc<Partition>>) -> Self {
        let hosted = image.partitions.iter().zip(partitions).map(|(described, partition)| {
            let (leader_epoch, config, topic_id) = (described.leader_epoch, Arc::clone(config), image.id);
            Arc::new(Hosted { partition, leader_epoch, config, topic_id })
        });
        let partitions = hosted.collect();
        Self { name: image.name.as_str().into(), image, partitions }
    }

    /// The same partitions, with what the metadata say now and another configuration.
    pub(super) fn reconfigured(&self, image: Arc<TopicImage>, config: &Arc<LogConfig>) -> Self {
        Self::new(image, config, self.partitions.iter().map(|hosted| Arc::clone(&hosted.partition)).collect())
    }

    /// A partition by its number.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Hosted>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// All topics of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosting {
    topics: HashMap<Arc<str>, Arc<Topic>>,
    names: HashMap<Uuid, Arc<str>>,
}

impl Hosting {
    /// A topic by its name.
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic by its id.
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// A partition, by its topic's name.
    ///
    /// # Errors
    /// [`KafkaErrorCode::UnknownTopicOrPartition`].
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Result<&Arc<Hosted>, KafkaErrorCode> {
        let found = self.topic(topic).and_then(|topic| topic.partition(index));
        found.ok_or(KafkaErrorCode::UnknownTopicOrPartition)
    }

    /// The name of the topic with an id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// All topics, by ascending name.
    pub(crate) fn sorted(&self) -> Vec<&Arc<Topic>> {
        let mut all: Vec<_> = self.topics.values().collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// With this topic, in place of one of its name.
    pub(super) fn with(&self, topic: Topic) -> Self {
        let mut next = self.without(&topic.name);
        next.names.insert(topic.image.id, Arc::clone(&topic.name));
        next.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        next
    }

    /// Without the topic of this name.
    pub(super) fn without(&self, name: &str) -> Self {
        let mut next = self.clone();
        if let Some(topic) = next.topics.remove(name) {
            next.names.remove(&topic.image.id);
        }
        next
    }
}

impl FromIterator<Topic> for Hosting {
    fn from_iter<T: IntoIterator<Item = Topic>>(topics: T) -> Self {
        let mut all = Self::default();
        for topic in topics {
            all.names.insert(topic.image.id, Arc::clone(&topic.name));
            all.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        }
        all
    }
}
