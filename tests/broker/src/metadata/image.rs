//! What the cluster consists of at one moment.
//!
//! Owns: topics with their partitions and configurations, the node's and the cluster's configurations, feature levels,
//! brokers, and the next producer id; and what each record changes of it. Pure. Knows nothing of files. Keeps: partitions of a
//! topic are numbered from 0 without gaps; names and ids of topics are each other's inverse.

use super::record::{BROKER_RESOURCE, PartitionChange, PartitionRecord, Record, TOPIC_RESOURCE};
use duramen::{Offset, ProducerId, format::uuid::Uuid};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Names and values of one thing's configuration, as far as it was set.
pub(crate) type Configs = BTreeMap<String, String>;

/// What the cluster consists of at one moment; never changes once it is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    topics: BTreeMap<String, Arc<TopicImage>>,
    names: HashMap<Uuid, String>,
    /// By the name of the resource: a node's number, or nothing for what holds for all of them.
    broker_configs: BTreeMap<String, Configs>,
    features: BTreeMap<String, i16>,
    brokers: BTreeMap<i32, BrokerImage>,
    next_producer_id: ProducerId,
    next_offset: Offset,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicImage {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    /// By their numbers.
    pub(crate) partitions: Vec<PartitionImage>,
    /// What was set for the topic alone.
    pub(crate) configs: Configs,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionImage {
    /// Counts the changes of its leader.
    pub(crate) leader_epoch: i32,
    /// Counts all changes of it.
    pub(crate) partition_epoch: i32,
    /// The node that leads it, if one does: while this broker runs, this one.
    pub(crate) leader: Option<i32>,
    /// The nodes that are to have it.
    pub(crate) replicas: Vec<i32>,
}

/// A broker that announced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokerImage {
    /// Number of this announcement: the offset of its record.
    pub(crate) epoch: i64,
    /// Whether it may not lead anything.
    pub(crate) fenced: bool,
}

impl Image {
    /// A topic by its name.
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by its id.
    #[cfg(test)]
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// All topics, by ascending name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// What was set for one node's broker while it ran.
    pub(crate) fn broker_configs(&self, node_id: i32) -> Option<&Configs> {
        self.broker_configs.get(&node_id.to_string())
    }

    /// What was set for all brokers.
    pub(crate) fn cluster_configs(&self) -> Option<&Configs> {
        self.broker_configs.get("")
    }

    /// The level of a feature such as `metadata.version` or `transaction.version`; 0 is off.
    pub(crate) fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All features that are on, by ascending name.
    pub(crate) fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    /// A broker.
    pub(crate) fn broker(&self, node_id: i32) -> Option<&BrokerImage> {
        self.brokers.get(&node_id)
    }

    /// The first producer id that nobody got yet.
    pub(crate) fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Offset behind the last record that is in here.
    pub(crate) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Takes note that all records below an offset are in here.
    pub(super) fn advance_to(&mut self, next_offset: Offset) {
        self.next_offset = next_offset;
    }

    /// Changes what a record changes. Follows `MetadataDelta.replay`.
    ///
    /// # Errors
    /// Why the record does not fit to what is there; nothing is changed then.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), &'static str> {
        match record {
            Record::RegisterBroker(broker) => {
                let image = BrokerImage { epoch: broker.broker_epoch, fenced: broker.fenced };
                self.brokers.insert(broker.broker_id, image);
            }
            Record::BrokerRegistrationChange(change) => {
                let broker = self.brokers.get_mut(&change.broker_id).ok_or("there is no such broker")?;
                if broker.epoch != change.broker_epoch {
                    return Err("the broker has another epoch");
                }
                match change.fenced {
                    0 => {}
                    fenced => broker.fenced = fenced > 0,
                }
            }
            Record::Topic { name, topic_id } => return self.add_topic(name, *topic_id),
            Record::RemoveTopic { topic_id } => {
                let name = self.names.remove(topic_id).ok_or("there is no topic of this id")?;
                self.topics.remove(&name);
            }
            Record::Partition(record) => return self.topic_mut(record.topic_id)?.put_partition(record),
            Record::PartitionChange(change) => return self.topic_mut(change.topic_id)?.change_partition(change),
            Record::Config { resource_type: TOPIC_RESOURCE, resource_name, name, value } => {
                // A topic's configuration goes with it, so what belongs to no topic belongs to none that will be.
                if let Some(topic) = self.topics.get_mut(resource_name) {
                    set(&mut Arc::make_mut(topic).configs, name, value.as_deref());
                }
            }
            Record::Config { resource_type: BROKER_RESOURCE, resource_name, name, value } => {
                let configs = self.broker_configs.entry(resource_name.clone()).or_default();
                set(configs, name, value.as_deref());
                if configs.is_empty() {
                    self.broker_configs.remove(resource_name);
                }
            }
            Record::FeatureLevel { name, level: 0 } => {
                self.features.remove(name);
            }
            Record::FeatureLevel { name, level } => {
                self.features.insert(name.clone(), *level);
            }
            Record::ProducerIds { next_producer_id, .. } => self.next_producer_id = *next_producer_id,
            Record::Config { .. }
            | Record::NoOp
            | Record::BeginTransaction { .. }
            | Record::EndTransaction
            | Record::AbortTransaction { .. }
            | Record::Other { .. } => {}
        }
        Ok(())
    }

    fn add_topic(&mut self, name: &str, id: Uuid) -> Result<(), &'static str> {
        if self.topics.contains_key(name) || self.names.contains_key(&id) {
            return Err("there is a topic of this name or id");
        }
        let topic = TopicImage { name: name.to_owned(), id, partitions: Vec::new(), configs: Configs::new() };
        self.topics.insert(name.to_owned(), Arc::new(topic));
        self.names.insert(id, name.to_owned());
        Ok(())
    }

    /// A topic to be changed: a copy of its own, if somebody still has an image with it.
    fn topic_mut(&mut self, id: Uuid) -> Result<&mut TopicImage, &'static str> {
        let name = self.names.get(&id).ok_or("there is no topic of this id")?;
        self.topics.get_mut(name).map(Arc::make_mut).ok_or("there is no topic of this id")
    }
}

impl TopicImage {
    fn put_partition(&mut self, record: &PartitionRecord) -> Result<(), &'static str> {
        let index = usize::try_from(record.partition_id).map_err(|_| "the partition is negative")?;
        let partition = PartitionImage {
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            leader: (record.leader >= 0).then_some(record.leader),
            replicas: record.replicas.clone(),
        };
        let next = self.partitions.len();
        match self.partitions.get_mut(index) {
            Some(known) => *known = partition,
            None if index == next => self.partitions.push(partition),
            None => return Err("the partition before it is missing"),
        }
        Ok(())
    }

    /// Follows `PartitionRegistration.merge`.
    fn change_partition(&mut self, change: &PartitionChange) -> Result<(), &'static str> {
        let index = usize::try_from(change.partition_id).ok();
        let partition = index.and_then(|index| self.partitions.get_mut(index)).ok_or("there is no such partition")?;
        if let Some(leader) = change.leader {
            partition.leader = (leader >= 0).then_some(leader);
            partition.leader_epoch = partition.leader_epoch.saturating_add(1);
        }
        if let Some(replicas) = &change.replicas {
            partition.replicas.clone_from(replicas);
        }
        partition.partition_epoch = partition.partition_epoch.saturating_add(1);
        Ok(())
    }
}

fn set(configs: &mut Configs, name: &str, value: Option<&str>) {
    match value {
        Some(value) => configs.insert(name.to_owned(), value.to_owned()),
        None => configs.remove(name),
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(number: u8) -> Uuid {
        Uuid::from_bytes([number; 16])
    }

    fn topic(name: &str, number: u8) -> Record {
        Record::Topic { name: name.to_owned(), topic_id: id(number) }
    }

    fn partition(number: u8, partition_id: i32) -> Record {
        Record::Partition(PartitionRecord {
            partition_id,
            topic_id: id(number),
            replicas: vec![1],
            leader: 1,
            ..PartitionRecord::default()
        })
    }

    fn config(resource_type: i8, resource_name: &str, name: &str, value: Option<&str>) -> Record {
        let value = value.map(str::to_owned);
        Record::Config { resource_type, resource_name: resource_name.to_owned(), name: name.to_owned(), value }
    }

    fn image(records: &[Record]) -> Image {
        let mut image = Image::default();
        records.iter().for_each(|record| image.apply(record).unwrap());
        image
    }

    #[test]
    fn topic_is_found_by_name_and_id_until_it_is_removed() {
        let mut image = image(&[topic("a", 1), partition(1, 0), partition(1, 1), config(2, "a", "k", Some("v"))]);
        let found = Arc::clone(image.topic("a").unwrap());
        assert_eq!(image.topic_by_id(id(1)), Some(&found));
        assert_eq!((found.partitions.len(), found.configs["k"].as_str()), (2, "v"));
        image.apply(&Record::RemoveTopic { topic_id: id(1) }).unwrap();
        assert_eq!((image.topic("a"), image.topic_by_id(id(1))), (None, None));
        image.apply(&topic("a", 2)).unwrap();
        assert!(image.topic("a").unwrap().configs.is_empty(), "the configuration went with the topic");
    }

    #[test]
    fn change_of_a_partition_counts_its_epochs() {
        let mut image = image(&[topic("a", 1), partition(1, 0)]);
        let epochs = |image: &Image| {
            let partition = &image.topic("a").unwrap().partitions[0];
            (partition.leader, partition.leader_epoch, partition.partition_epoch)
        };
        let change = PartitionChange { topic_id: id(1), ..PartitionChange::default() };
        image.apply(&Record::PartitionChange(PartitionChange { leader: Some(-1), ..change.clone() })).unwrap();
        assert_eq!(epochs(&image), (None, 1, 1));
        image.apply(&Record::PartitionChange(PartitionChange { isr: Some(vec![1]), ..change.clone() })).unwrap();
        assert_eq!(epochs(&image), (None, 1, 2));
        image.apply(&Record::PartitionChange(PartitionChange { leader: Some(1), ..change })).unwrap();
        assert_eq!(epochs(&image), (Some(1), 2, 3));
    }

    #[test]
    fn shared_image_stays_as_it_was() {
        let mut image = image(&[topic("a", 1), partition(1, 0)]);
        let before = image.clone();
        image.apply(&partition(1, 1)).unwrap();
        image.apply(&config(2, "a", "k", Some("v"))).unwrap();
        assert_eq!(before.topic("a").unwrap().partitions.len(), 1);
        assert!(before.topic("a").unwrap().configs.is_empty());
    }

    #[test]
    fn configurations_of_brokers_are_set_and_taken_back() {
        let mut image = image(&[config(4, "", "k", Some("all")), config(4, "3", "k", Some("one"))]);
        assert_eq!(image.cluster_configs().unwrap()["k"], "all");
        assert_eq!(image.broker_configs(3).unwrap()["k"], "one");
        image.apply(&config(4, "3", "k", None)).unwrap();
        assert_eq!((image.broker_configs(3), image.cluster_configs().unwrap().len()), (None, 1));
    }

    #[test]
    fn records_that_do_not_fit_are_refused_and_change_nothing() {
        let whole = image(&[topic("a", 1), partition(1, 0)]);
        let change = PartitionChange { partition_id: 1, topic_id: id(1), ..PartitionChange::default() };
        let wrong = [
            topic("a", 2),
            topic("b", 1),
            partition(1, 2),
            partition(1, -1),
            partition(9, 0),
            Record::RemoveTopic { topic_id: id(9) },
            Record::PartitionChange(change),
        ];
        for record in wrong {
            let mut image = whole.clone();
            assert!(image.apply(&record).is_err(), "{record:?}");
            assert_eq!(image, whole, "{record:?}");
        }
    }
}
