//! The metadata in directories of their own: formatted, changed, opened again; and those that Kafka wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kafka;

use super::*;
use duramen::{
    Fetch, HighWatermarkPolicy, Isolation, ManagerOptions, TopicPartition, format::control::ControlType,
    format::meta_properties::MetaProperties,
};
use duramen_tests::{golden::Case, random::Random};
use std::{fs, path::Path};
use tempfile::TempDir;

fn node(directory: &Path) -> Node {
    let directories = vec![directory.to_path_buf()];
    Node { id: 1, directories, host: "127.0.0.1".to_owned(), port: 9092, rack: None, cluster_id: None }
}

fn manager(node: &Node) -> LogManager {
    let paths: Vec<_> = node.directories.iter().map(PathBuf::as_path).collect();
    let options = ManagerOptions {
        high_watermark: HighWatermarkPolicy::LogEnd,
        journal_bytes: 4 << 20,
        ..ManagerOptions::default()
    };
    LogManager::open(&paths, options).unwrap()
}

/// Opens the metadata of a node, does something with them, and closes everything in order.
fn with_metadata<T>(node: &Node, with: impl FnOnce(&Metadata) -> T) -> T {
    let manager = manager(node);
    let metadata = Metadata::open(&manager, node).unwrap();
    let result = with(&metadata);
    metadata.close().unwrap();
    manager.close().unwrap();
    result
}

/// What a replay of the log alone makes of it.
fn replayed(manager: &LogManager) -> Image {
    let name = TopicPartition::new(METADATA_TOPIC, 0).unwrap();
    let partition = manager.get(&name).unwrap();
    let mut replay = Replay::default();
    while replay.next_offset() < partition.offsets().log_end {
        let fetch =
            Fetch { offset: replay.next_offset(), max_bytes: 999, isolation: Isolation::LogEnd, min_one_batch: true };
        replay.log(&partition.read(fetch).unwrap().records.unwrap().to_vec().unwrap()).unwrap();
    }
    replay.finish().0
}

fn configs(pairs: &[(&str, &str)]) -> Configs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn change(name: &str, value: Option<&str>) -> (String, Option<String>) {
    (name.to_owned(), value.map(str::to_owned))
}

fn leader_epochs(topic: &TopicImage) -> Vec<i32> {
    topic.partitions.iter().map(|partition| partition.leader_epoch).collect()
}

#[test]
fn new_directory_is_formatted_as_kafka_does() {
    let dir = TempDir::new().unwrap();
    let cluster_id = with_metadata(&node(dir.path()), |metadata| {
        assert_eq!(metadata.image().feature("metadata.version"), 30);
        assert_eq!(metadata.image().feature("transaction.version"), 2);
        assert_eq!(metadata.image().cluster_configs(), Some(&configs(&[("min.insync.replicas", "1")])));
        metadata.cluster_id().to_owned()
    });
    let properties = MetaProperties::decode(&fs::read(dir.path().join("meta.properties")).unwrap()).unwrap();
    assert_eq!(properties.get("cluster.id"), Some(cluster_id.as_str()));
    assert_eq!((properties.get("version"), properties.get("node.id")), (Some("1"), Some("1")));
    let log = dir.path().join("__cluster_metadata-0");
    let id = fs::read_to_string(log.join("partition.metadata")).unwrap();
    assert_eq!(id, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ");
    let again = with_metadata(&node(dir.path()), |metadata| metadata.cluster_id().to_owned());
    assert_eq!(again, cluster_id);
    let state = fs::read_to_string(log.join("quorum-state")).unwrap();
    assert!(state.contains(r#""leaderEpoch":2,"#), "the second term: {state}");
    assert!(!dir.path().join("journal").exists());
}

#[test]
fn changes_are_there_at_the_next_start_and_leader_epochs_went_up() {
    let dir = TempDir::new().unwrap();
    let (orders, next_id) = with_metadata(&node(dir.path()), |metadata| {
        let orders =
            metadata.create_topic("orders", 2, &configs(&[("retention.ms", "1000"), ("segment.ms", "7")])).unwrap();
        assert_eq!(leader_epochs(&orders), [0, 0]);
        metadata.create_topic("gone", 1, &Configs::new()).unwrap();
        assert_eq!(metadata.delete_topic("gone").unwrap().name, "gone");
        metadata.create_partitions("orders", 3).unwrap();
        metadata.set_topic_configs("orders", &[change("retention.ms", None), change("segment.ms", Some("8"))]).unwrap();
        metadata.set_broker_configs(&[change("log.retention.ms", Some("5"))]).unwrap();
        metadata.set_cluster_configs(&[change("log.segment.bytes", Some("6"))]).unwrap();
        assert_eq!(metadata.allocate_producer_ids(1000).unwrap(), 0..1000);
        (orders.id, metadata.allocate_producer_ids(10).unwrap().end)
    });
    with_metadata(&node(dir.path()), |metadata| {
        let image = metadata.image();
        let topic = image.topic_by_id(orders).unwrap();
        assert_eq!((topic.name.as_str(), &topic.configs), ("orders", &configs(&[("segment.ms", "8")])));
        // One for the resignation, one for the election.
        assert_eq!(leader_epochs(topic), [2, 2, 2]);
        assert_eq!(image.topics().count(), 1);
        assert_eq!(image.broker_configs(1), Some(&configs(&[("log.retention.ms", "5")])));
        assert_eq!(image.cluster_configs().unwrap()["log.segment.bytes"], "6");
        assert_eq!(metadata.allocate_producer_ids(5).unwrap(), next_id..next_id + 5);
    });
}

#[test]
fn random_changes_make_the_image_that_a_replay_makes() {
    let seed = std::env::var("DURAMEN_SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("DURAMEN_SEED={seed}");
    let mut random = Random::new(seed);
    let dir = TempDir::new().unwrap();
    let node = node(dir.path());
    let mut given_until = 0;
    for _ in 0..4 {
        let manager = manager(&node);
        let metadata = Metadata::open(&manager, &node).unwrap();
        for _ in 0..60 {
            let name = ["a", "b", "c.d", "c_d", "e", "f"][random.below(6)];
            let number = i32::try_from(random.below(8)).unwrap();
            let value = random.coin().then(|| random.below(3).to_string());
            let before = metadata.image();
            let changed = match random.below(7) {
                0 | 1 => metadata.create_topic(name, number, &configs(&[("k", "0")])).map(drop),
                2 => metadata.delete_topic(name).map(drop),
                3 => metadata.create_partitions(name, number).map(drop),
                4 => metadata.set_topic_configs(name, &[change("k", value.as_deref())]).map(drop),
                5 => metadata.set_broker_configs(&[change("k", value.as_deref())]),
                _ => metadata.allocate_producer_ids(number).map(|ids| {
                    assert_eq!((ids.start, ids.end), (given_until, given_until + i64::from(number)));
                    given_until = ids.end;
                }),
            };
            if changed.is_err() {
                assert_eq!(metadata.image(), before, "a refused change changes nothing");
            }
        }
        assert_eq!(replayed(&manager), *metadata.image());
        // Some ends are in order and some are not.
        if random.coin() {
            metadata.close().unwrap();
            assert_eq!(replayed(&manager), *metadata.image());
        }
        if random.coin() {
            manager.close().unwrap();
        }
    }
}

#[test]
fn closed_metadata_take_no_more_changes() {
    let dir = TempDir::new().unwrap();
    with_metadata(&node(dir.path()), |metadata| {
        metadata.close().unwrap();
        assert!(metadata.image().broker(1).unwrap().fenced);
        assert!(matches!(metadata.create_topic("a", 1, &Configs::new()), Err(MetadataError::Poisoned)));
        assert!(metadata.image().topic("a").is_none());
    });
}

impl Metadata {
    /// Appends records as they are, whatever they mean.
    fn append_unchecked(&self, records: &[Record]) {
        self.lock().append(records, 30, 0).unwrap();
    }
}

#[test]
fn transaction_that_nobody_ended_is_aborted() {
    let dir = TempDir::new().unwrap();
    let node = node(dir.path());
    {
        let manager = manager(&node);
        let metadata = Metadata::open(&manager, &node).unwrap();
        let topic =
            Record::Topic { name: "half".to_owned(), topic_id: duramen::format::uuid::Uuid::from_bytes([3; 16]) };
        metadata.append_unchecked(&[Record::BeginTransaction { name: None }, topic]);
        manager.close().unwrap();
    }
    with_metadata(&node, |metadata| {
        assert!(metadata.image().topic("half").is_none());
        metadata.create_topic("whole", 1, &Configs::new()).unwrap();
    });
    with_metadata(&node, |metadata| assert_eq!(metadata.image().topics().count(), 1));
}

#[test]
fn cluster_with_newer_features_or_other_nodes_is_refused() {
    let refusal = |record: &dyn Fn(&Metadata) -> Record| {
        let dir = TempDir::new().unwrap();
        let node = node(dir.path());
        let manager = manager(&node);
        let metadata = Metadata::open(&manager, &node).unwrap();
        metadata.create_topic("a", 1, &Configs::new()).unwrap();
        metadata.append_unchecked(&[record(&metadata)]);
        Metadata::open(&manager, &node).unwrap_err()
    };
    let newer = refusal(&|_| Record::FeatureLevel { name: "metadata.version".to_owned(), level: 31 });
    assert!(matches!(newer, MetadataError::UnsupportedFeature { level: 31, .. }), "{newer}");
    let unknown = refusal(&|_| Record::FeatureLevel { name: "teleport.version".to_owned(), level: 1 });
    assert!(matches!(unknown, MetadataError::UnsupportedFeature { .. }), "{unknown}");
    let elsewhere = refusal(&|metadata| {
        let topic_id = metadata.image().topic("a").unwrap().id;
        let replicas = Some(vec![2]);
        Record::PartitionChange(record::PartitionChange { topic_id, replicas, ..Default::default() })
    });
    assert!(matches!(elsewhere, MetadataError::OtherReplicas { .. }), "{elsewhere}");
}

#[test]
fn unknown_version_of_a_record_names_offset_and_record() {
    let dir = TempDir::new().unwrap();
    let node = node(dir.path());
    let manager = manager(&node);
    let metadata = Metadata::open(&manager, &node).unwrap();
    let offset = metadata.image().next_offset();
    metadata.append_unchecked(&[Record::Other { key: 3, bytes: vec![1, 3, 9, 0] }]);
    let error = Metadata::open(&manager, &node).unwrap_err().to_string();
    let expected =
        format!("the metadata log, offset {offset}: PartitionRecord has version 9, and versions up to 2 are known");
    assert_eq!(error, expected);
}

#[test]
fn log_without_the_snapshot_below_its_start_is_refused() {
    let dir = TempDir::new().unwrap();
    let node = node(dir.path());
    let manager = manager(&node);
    let metadata = Metadata::open(&manager, &node).unwrap();
    let name = TopicPartition::new(METADATA_TOPIC, 0).unwrap();
    let end = metadata.image().next_offset();
    manager.get(&name).unwrap().with(|log| log.increment_log_start_offset(end)).unwrap().unwrap();
    let error = Metadata::open(&manager, &node).unwrap_err();
    assert!(
        matches!(error, MetadataError::MissingSnapshot { log_start, snapshot_end: 0 } if log_start == end),
        "{error}"
    );
}

/// The metadata log of a golden directory, which a broker of Kafka 4.3.0 left in order.
fn golden() -> Case {
    Case::load("internals")
}

#[test]
fn every_record_of_kafka_comes_back_as_it_was() {
    let case = golden();
    let dir = case.dir();
    let files = ["bootstrap.checkpoint", "__cluster_metadata-0/00000000000000000000.log"];
    let mut kinds = std::collections::BTreeSet::new();
    for file in files {
        let bytes = fs::read(dir.join(file)).unwrap();
        for batch in duramen::format::batch::Batches::new(&bytes).map(Result::unwrap) {
            let is_control = batch.header().attributes().is_control();
            for record in batch.records(&mut Vec::new(), 0).unwrap().map(Result::unwrap) {
                if is_control {
                    if ControlType::decode(record.key().unwrap()).unwrap() == ControlType::LeaderChange {
                        let (key, value) = quorum::leader_change(1);
                        assert_eq!((record.key(), record.value()), (Some(&key[..]), Some(&value[..])));
                    }
                    continue;
                }
                let value = record.value().unwrap();
                let (decoded, version) = Record::decode(value).unwrap();
                assert_eq!(decoded.encode(version), value, "offset {} of {file}: {decoded:?}", record.offset());
                kinds.insert(decoded.name());
            }
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
}

#[test]
fn directory_of_kafka_is_taken_over() {
    let case = golden();
    let node = node(&case.dir());
    with_metadata(&node, |metadata| {
        let image = metadata.image();
        assert_eq!(metadata.cluster_id(), "Z29sZGVuLWRldi1zZXQtMQ");
        let names: Vec<_> = image.topics().map(|topic| topic.name.as_str()).collect();
        assert_eq!(
            names,
            ["__consumer_offsets", "__transaction_state", "transactions-of-clients", "transactions-second"]
        );
        let topic = image.topic("transactions-second").unwrap();
        assert_eq!(topic.id.to_string(), "qrupf8dSThu2CZEJ3H0-RQ");
        assert_eq!(topic.configs, configs(&[("index.interval.bytes", "1000"), ("segment.index.bytes", "1200")]));
        // Made with 0, without a leader when the broker ended, and now.
        assert_eq!(leader_epochs(topic), [2]);
        assert_eq!(image.next_producer_id(), 1000);
        metadata.create_partitions("transactions-second", 2).unwrap();
    });
    with_metadata(&node, |metadata| {
        assert_eq!(leader_epochs(metadata.image().topic("transactions-second").unwrap()), [4, 2]);
    });
}
