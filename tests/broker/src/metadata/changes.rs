//! What a controller decides, for a cluster of one node: which records a change consists of.
//!
//! Pure: from an image and a wish to records. Follows Kafka's `ReplicationControlManager`, `ConfigurationControlManager`,
//! `ProducerIdControlManager` and `ClusterControlManager`, as far as one node needs them.

use super::{
    MetadataError, Node, features,
    image::{Configs, Image, TopicImage},
    log::MAX_BATCH_RECORDS,
    record::{
        BROKER_RESOURCE, BrokerRegistrationChange, Endpoint, PartitionChange, PartitionRecord, Record, RegisterBroker,
        TOPIC_RESOURCE,
    },
};
use duramen::{TopicPartition, format::uuid::Uuid};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// The records of a change, or why it is not made.
pub(super) type Decision = Result<Vec<Record>, MetadataError>;

/// The listener's name and `SecurityProtocol.PLAINTEXT`.
const LISTENER: (&str, i16) = ("PLAINTEXT", 0);

/// Where new partitions go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement<'a> {
    pub(super) node_id: i32,
    pub(super) directory_ids: &'a [Uuid],
}

impl Placement<'_> {
    /// The directory of a new partition. Where there are several, it is not known before the partition is made: it is left
    /// open (`DirectoryId.UNASSIGNED`), and Kafka assigns what it finds when it takes over.
    fn directory(&self) -> Uuid {
        match self.directory_ids {
            [only] => *only,
            _ => Uuid::ZERO,
        }
    }

    fn partitions(&self, topic_id: Uuid, numbers: Range<i32>) -> impl Iterator<Item = Record> {
        let (node_id, directory) = (self.node_id, self.directory());
        numbers.map(move |partition_id| {
            Record::Partition(PartitionRecord {
                partition_id,
                topic_id,
                replicas: vec![node_id],
                isr: vec![node_id],
                leader: node_id,
                directories: vec![directory],
                ..PartitionRecord::default()
            })
        })
    }
}

/// A new topic of a name and an id.
pub(super) fn create_topic(
    image: &Image,
    placement: Placement<'_>,
    (name, id): (&str, Uuid),
    partitions: i32,
    configs: &Configs,
) -> Decision {
    TopicPartition::new(name, 0)?;
    if image.topic(name).is_some() {
        return Err(MetadataError::TopicExists { name: name.to_owned() });
    }
    if let Some(known) = colliding(image, name) {
        return Err(MetadataError::TopicCollides { name: name.to_owned(), known: known.name.clone() });
    }
    if partitions < 1 {
        return Err(MetadataError::InvalidPartitions { wanted: partitions, why: "a topic has at least one" });
    }
    check_size(partitions, configs.len())?;
    let mut records = vec![Record::Topic { name: name.to_owned(), topic_id: id }];
    records.extend(configs.iter().map(|(key, value)| config(TOPIC_RESOURCE, name, key, Some(value.clone()))));
    records.extend(placement.partitions(id, 0..partitions));
    Ok(records)
}

/// A topic whose name differs only by `.` and `_` (`Topic.hasCollision`).
fn colliding<'a>(image: &'a Image, name: &str) -> Option<&'a Arc<TopicImage>> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let unified = |name: &str| name.replace('.', "_");
    let wanted = unified(name);
    image.topics().find(|topic| unified(&topic.name) == wanted)
}

/// More partitions for a topic, `total` in all.
pub(super) fn create_partitions(topic: &TopicImage, placement: Placement<'_>, total: i32) -> Decision {
    let wrong = |why| MetadataError::InvalidPartitions { wanted: total, why };
    let present = i32::try_from(topic.partitions.len()).map_err(|_| wrong("there are more than can be counted"))?;
    if total <= present {
        return Err(wrong("the topic has as many already, and none is taken away"));
    }
    check_size(total - present, 0)?;
    Ok(placement.partitions(topic.id, present..total).collect())
}

/// Looks at the size of a change before its records are made: somebody may ask for two milliards of partitions.
fn check_size(partitions: i32, configs: usize) -> Result<(), MetadataError> {
    let records = usize::try_from(partitions).unwrap_or(usize::MAX).saturating_add(configs).saturating_add(1);
    if records > MAX_BATCH_RECORDS {
        return Err(MetadataError::TooLarge { records, limit: MAX_BATCH_RECORDS });
    }
    Ok(())
}

/// Other values for properties, of which the last of a name counts. What is so already takes no record.
pub(super) fn set_configs(
    resource_type: i8,
    resource_name: &str,
    known: Option<&Configs>,
    changes: &[(String, Option<String>)],
) -> Vec<Record> {
    let last: BTreeMap<_, _> = changes.iter().map(|(name, value)| (name, value)).collect();
    let changed = last.into_iter().filter(|(name, value)| known.and_then(|known| known.get(*name)) != value.as_ref());
    changed.map(|(name, value)| config(resource_type, resource_name, name, value.clone())).collect()
}

fn config(resource_type: i8, resource_name: &str, name: &str, value: Option<String>) -> Record {
    Record::Config { resource_type, resource_name: resource_name.to_owned(), name: name.to_owned(), value }
}

/// The next producer ids, as many as wanted.
pub(super) fn allocate_producer_ids(image: &Image, node_id: i32, count: i32) -> Decision {
    if count < 1 {
        return Ok(Vec::new());
    }
    let next_producer_id =
        image.next_producer_id().checked_add(i64::from(count)).ok_or(MetadataError::ProducerIdsExhausted)?;
    let broker_epoch = image.broker(node_id).map_or(-1, |broker| broker.epoch);
    Ok(vec![Record::ProducerIds { broker_id: node_id, broker_epoch, next_producer_id }])
}

/// What a cluster begins with, as one transaction. With eligible leader replicas the least number of in-sync replicas has to be
/// the same everywhere, so it is written down (`ConfigurationControlManager.maybeGenerateElrSafetyRecords`).
pub(super) fn bootstrap(records: Vec<Record>) -> Vec<Record> {
    let mut all = vec![Record::BeginTransaction { name: Some("Bootstrap records".to_owned()) }];
    let has_elr = records.iter().any(features::turns_on_eligible_leader_replicas);
    all.extend(records);
    all.extend(has_elr.then(|| config(BROKER_RESOURCE, "", "min.insync.replicas", Some("1".to_owned()))));
    all.push(Record::EndTransaction);
    all
}

/// Every partition must be this node's alone: it can lead no other.
pub(super) fn check_replicas(image: &Image, node_id: i32) -> Result<(), MetadataError> {
    for topic in image.topics() {
        let other = topic.partitions.iter().position(|partition| partition.replicas.as_slice() != [node_id]);
        if let Some(partition) = other {
            let replicas = topic.partitions.get(partition).map(|partition| partition.replicas.clone());
            let (topic, replicas) = (topic.name.clone(), replicas.unwrap_or_default());
            return Err(MetadataError::OtherReplicas { topic, partition, replicas });
        }
    }
    Ok(())
}

/// The broker announces itself, ready to lead. Its epoch is the offset of this record.
pub(super) fn registration(node: &Node, incarnation_id: Uuid, broker_epoch: i64, directory_ids: &[Uuid]) -> Record {
    let (name, security_protocol) = LISTENER;
    let endpoint = Endpoint { name: name.to_owned(), host: node.host.clone(), port: node.port, security_protocol };
    let mut log_dirs = directory_ids.to_vec();
    log_dirs.sort_unstable();
    Record::RegisterBroker(RegisterBroker {
        broker_id: node.id,
        incarnation_id,
        broker_epoch,
        endpoints: vec![endpoint],
        features: features::supported(),
        rack: node.rack.clone(),
        log_dirs,
        ..RegisterBroker::default()
    })
}

/// The node becomes the leader of all partitions, and the only one in sync: there is no other to be eligible.
pub(super) fn elections(image: &Image, node_id: i32) -> Vec<Record> {
    let elected = PartitionChange {
        leader: Some(node_id),
        isr: Some(vec![node_id]),
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..PartitionChange::default()
    };
    change_all(image, &elected).collect()
}

/// No partition is led any more, and the broker is fenced. With eligible leader replicas it is no longer in sync either, but
/// eligible, and the last one that was: without that word a controller would never elect it again after a crash.
pub(super) fn resignation(image: &Image, node_id: i32) -> Vec<Record> {
    let mut leaderless = PartitionChange { leader: Some(-1), ..PartitionChange::default() };
    if features::has_eligible_leader_replicas(image) {
        leaderless.isr = Some(Vec::new());
        leaderless.eligible_leader_replicas = Some(vec![node_id]);
        leaderless.last_known_elr = Some(vec![node_id]);
    }
    let mut records: Vec<_> = change_all(image, &leaderless).collect();
    records.extend(image.broker(node_id).map(|broker| {
        Record::BrokerRegistrationChange(BrokerRegistrationChange {
            broker_id: node_id,
            broker_epoch: broker.epoch,
            fenced: 1,
            ..BrokerRegistrationChange::default()
        })
    }));
    records
}

/// The same change of every partition.
fn change_all<'a>(image: &'a Image, change: &'a PartitionChange) -> impl Iterator<Item = Record> + 'a {
    image.topics().flat_map(move |topic| {
        (0..).zip(&topic.partitions).map(move |(partition_id, _)| {
            Record::PartitionChange(PartitionChange { partition_id, topic_id: topic.id, ..change.clone() })
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: Uuid = Uuid::from_bytes([1; 16]);
    const PLACEMENT: Placement<'_> = Placement { node_id: 1, directory_ids: &[Uuid::from_bytes([2; 16])] };

    fn image_with(topics: &[&str]) -> Image {
        let mut image = Image::default();
        for (number, name) in (10..).zip(topics) {
            let id = Uuid::from_bytes([number; 16]);
            let records = create_topic(&image, PLACEMENT, (name, id), 2, &Configs::new()).unwrap();
            records.iter().for_each(|record| image.apply(record).unwrap());
        }
        image
    }

    fn refusal(image: &Image, name: &str, partitions: i32) -> i16 {
        create_topic(image, PLACEMENT, (name, ID), partitions, &Configs::new()).unwrap_err().kafka_error_code()
    }

    #[test]
    fn topics_that_cannot_be_are_refused_with_kafkas_codes() {
        let image = image_with(&["a", "b.c"]);
        assert_eq!(refusal(&image, "a", 1), 36);
        assert_eq!(refusal(&image, "b_c", 1), 17);
        assert_eq!(refusal(&image, "b/c", 1), 17);
        assert_eq!(refusal(&image, "d", 0), 37);
        assert_eq!(refusal(&image, "d", i32::MAX), 44);
        assert!(create_topic(&image, PLACEMENT, ("bc", ID), 1, &Configs::new()).is_ok());
    }

    #[test]
    fn partitions_are_added_and_never_taken_away() {
        let image = image_with(&["a"]);
        let topic = image.topic("a").unwrap();
        assert_eq!(create_partitions(topic, PLACEMENT, 5).unwrap().len(), 3);
        for total in [2, 1, 0, -1] {
            assert_eq!(create_partitions(topic, PLACEMENT, total).unwrap_err().kafka_error_code(), 37);
        }
        assert_eq!(create_partitions(topic, PLACEMENT, i32::MAX).unwrap_err().kafka_error_code(), 44);
    }

    #[test]
    fn properties_that_stay_as_they_are_take_no_record() {
        let known = Configs::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let changes = [("a", Some("9")), ("a", Some("1")), ("b", None), ("c", None), ("d", Some("4"))];
        let changes = changes.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        let records = set_configs(2, "t", Some(&known), &changes);
        assert_eq!(records, [config(2, "t", "b", None), config(2, "t", "d", Some("4".to_owned()))]);
    }

    #[test]
    fn leaders_change_with_resignation_and_election() {
        let mut image = image_with(&["a", "b"]);
        let leaders = |image: &Image| {
            let partitions = image.topics().flat_map(|topic| topic.partitions.clone());
            partitions.map(|partition| (partition.leader, partition.leader_epoch)).collect::<Vec<_>>()
        };
        resignation(&image, 1).iter().for_each(|record| image.apply(record).unwrap());
        assert_eq!(leaders(&image), [(None, 1); 4]);
        elections(&image, 1).iter().for_each(|record| image.apply(record).unwrap());
        assert_eq!(leaders(&image), [(Some(1), 2); 4]);
    }

    #[test]
    fn partitions_of_other_nodes_are_noticed() {
        let mut image = image_with(&["a"]);
        assert!(check_replicas(&image, 1).is_ok());
        let topic_id = image.topic("a").unwrap().id;
        let replicas = Some(vec![1, 2]);
        let change = PartitionChange { partition_id: 1, topic_id, replicas, ..PartitionChange::default() };
        image.apply(&Record::PartitionChange(change)).unwrap();
        assert!(matches!(check_replicas(&image, 1), Err(MetadataError::OtherReplicas { partition: 1, .. })));
    }

    #[test]
    fn producer_ids_end_some_day() {
        let mut image = Image::default();
        let last = Record::ProducerIds { broker_id: 1, broker_epoch: 0, next_producer_id: i64::MAX - 5 };
        image.apply(&last).unwrap();
        assert!(allocate_producer_ids(&image, 1, 5).is_ok());
        assert!(allocate_producer_ids(&image, 1, 6).is_err());
        assert_eq!(allocate_producer_ids(&image, 1, 0).unwrap(), []);
    }

    #[test]
    fn several_directories_leave_open_where_a_partition_is() {
        let ids = [ID, Uuid::from_bytes([2; 16])];
        assert_eq!(Placement { node_id: 1, directory_ids: &ids }.directory(), Uuid::ZERO);
        assert_eq!(PLACEMENT.directory(), PLACEMENT.directory_ids[0]);
    }
}
