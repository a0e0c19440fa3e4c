//! Real Kafka 4.3.0 and this broker on one directory, one after the other.

use super::*;
use duramen_tests::kafka::{Kafka, Node as KafkaNode, skip};
use std::{collections::BTreeMap, fs::OpenOptions, io::Write as _};

/// What there is to know of a topic from outside: id, leader of each partition, and its own properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Described {
    id: String,
    leaders: Vec<i32>,
    configs: Configs,
}

type Topics = BTreeMap<String, Described>;

/// A log directory that is handed over, and what its configuration is for Kafka.
struct Shared<'a> {
    kafka: &'a Kafka,
    home: TempDir,
    node: KafkaNode<'a>,
}

impl<'a> Shared<'a> {
    /// A directory that Kafka has formatted.
    fn new(kafka: &'a Kafka) -> Self {
        let home = TempDir::new().unwrap();
        let node = kafka.node(home.path());
        Self { kafka, home, node }
    }

    fn logs(&self) -> PathBuf {
        self.home.path().join("logs")
    }

    /// More settings of Kafka's.
    fn set(&self, properties: &str) {
        let path = self.home.path().join("server.properties");
        OpenOptions::new().append(true).open(path).unwrap().write_all(properties.as_bytes()).unwrap();
    }

    /// Has Kafka run on the directory, for a while.
    fn with_kafka<T>(&mut self, with: impl FnOnce(&mut Self) -> T) -> T {
        self.node.start_beside_tools();
        let result = with(self);
        self.node.stop();
        result
    }

    /// Has this broker's metadata open on the directory, for a while.
    fn with_ours<T>(&self, with: impl FnOnce(&Metadata) -> T) -> T {
        with_metadata(&node(&self.logs()), with)
    }

    fn topics(&self, args: &[&str]) {
        let _ = self.node.tool("TopicCommand", args);
    }

    fn configs(&self, args: &[&str]) -> String {
        let properties = fs::read_to_string(self.home.path().join("server.properties")).unwrap();
        let listener = properties.lines().find_map(|line| line.strip_prefix("advertised.listeners=PLAINTEXT://"));
        let mut all = vec!["--bootstrap-server", listener.unwrap()];
        all.extend(args);
        self.kafka.tool("kafka.admin.ConfigCommand", &all)
    }

    /// All topics, as Kafka's tools tell.
    fn described(&self) -> Topics {
        let mut topics = Topics::new();
        for line in self.node.tool("TopicCommand", &["--describe"]).lines() {
            let fields: BTreeMap<&str, &str> =
                line.split('\t').filter_map(|field| field.trim().split_once(':')).map(|(k, v)| (k, v.trim())).collect();
            let Some(name) = fields.get("Topic") else { continue };
            let topic = topics.entry((*name).to_owned()).or_default();
            match (fields.get("TopicId"), fields.get("Leader")) {
                (Some(id), _) => topic.id = (*id).to_owned(),
                (_, Some(leader)) => topic.leaders.push(leader.parse().unwrap_or(-1)),
                _ => {}
            }
        }
        let mut name = "";
        let described = self.configs(&["--describe", "--entity-type", "topics"]);
        for line in described.lines() {
            if let Some(rest) = line.strip_prefix("Dynamic configs for topic ") {
                name = rest.split(' ').next().unwrap();
            } else if let Some((key, value)) = property(line) {
                topics.get_mut(name).unwrap().configs.insert(key, value);
            }
        }
        topics
    }

    /// The properties of a broker, or of all, that were set while it ran.
    fn broker_configs(&self, whose: &[&str]) -> Configs {
        let described = self.configs(&[&["--describe", "--entity-type", "brokers"], whose].concat());
        described.lines().filter_map(property).collect()
    }
}

/// A line such as `  retention.ms=5 sensitive=false synonyms={...}`.
fn property(line: &str) -> Option<(String, String)> {
    let (key, rest) = line.trim().split_once('=')?;
    let (value, _) = rest.split_once(" sensitive=")?;
    Some((key.to_owned(), value.to_owned()))
}

/// All topics, as this broker's metadata tell.
fn ours(metadata: &Metadata) -> Topics {
    let image = metadata.image();
    let described = |topic: &Arc<TopicImage>| {
        let leaders = topic.partitions.iter().map(|partition| partition.leader.unwrap_or(-1)).collect();
        Described { id: topic.id.to_string(), leaders, configs: topic.configs.clone() }
    };
    image.topics().map(|topic| (topic.name.clone(), described(topic))).collect()
}

/// Gets Kafka, or says why the test is skipped.
fn get() -> Option<Kafka> {
    Kafka::get().inspect_err(|why| skip(why)).ok()
}

#[test]
fn directory_of_kafka_changes_hands_and_both_see_the_same() {
    let Some(kafka) = get() else { return };
    let mut shared = Shared::new(&kafka);
    let mut known = shared.with_kafka(|kafka| {
        kafka.topics(&["--create", "--topic", "orders", "--partitions", "2", "--config", "retention.ms=12345"]);
        kafka.topics(&["--create", "--topic", "gone"]);
        kafka.topics(&["--delete", "--topic", "gone"]);
        kafka.topics(&["--alter", "--topic", "orders", "--partitions", "3"]);
        let add =
            ["--alter", "--entity-type", "brokers", "--entity-name", "1", "--add-config", "log.retention.ms=99999"];
        let _ = kafka.configs(&add);
        kafka.described()
    });
    assert_eq!((known.len(), known["orders"].leaders.len()), (1, 3));
    for round in 0..3 {
        let name = format!("round-{round}");
        known = shared.with_ours(|metadata| {
            assert_eq!(ours(metadata), known, "round {round}");
            assert_eq!(metadata.image().broker_configs(1), Some(&configs(&[("log.retention.ms", "99999")])));
            metadata.create_topic(&name, 2, &configs(&[("cleanup.policy", "compact")])).unwrap();
            metadata.create_topic("short", 1, &Configs::new()).unwrap();
            metadata.delete_topic("short").unwrap();
            metadata.create_partitions("orders", 4 + 2 * round).unwrap();
            let retention = round.to_string();
            metadata.set_topic_configs("orders", &[change("retention.ms", Some(&retention))]).unwrap();
            ours(metadata)
        });
        known = shared.with_kafka(|kafka| {
            assert_eq!(kafka.described(), known, "round {round}");
            let broker = kafka.broker_configs(&["--entity-name", "1"]);
            assert_eq!(broker, configs(&[("log.retention.ms", "99999")]));
            let partitions = (5 + 2 * round).to_string();
            kafka.topics(&["--alter", "--topic", "orders", "--partitions", &partitions]);
            kafka.topics(&["--delete", "--topic", &name]);
            kafka.described()
        });
    }
}

/// Takes those segments from the metadata log that lie below its newest snapshot, which Kafka does once a minute; how many.
fn remove_what_snapshots_stand_for(log: &Path) -> usize {
    let mut names: Vec<_> =
        fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    let newest = names.iter().rfind(|name| name.ends_with(".checkpoint")).expect("Kafka makes snapshots").clone();
    let bases: Vec<_> = names.iter().filter_map(|name| name.strip_suffix(".log")).collect();
    let below = bases.windows(2).filter(|pair| pair[1] <= &newest[..20]).map(|pair| pair[0]);
    let removed = below.map(|base| {
        for file in ["log", "index", "timeindex"] {
            fs::remove_file(log.join(format!("{base}.{file}"))).unwrap();
        }
    });
    removed.count()
}

#[test]
fn directory_formatted_here_is_taken_over_by_kafka_and_its_snapshots_are_read() {
    let Some(kafka) = get() else { return };
    let mut shared = Shared::new(&kafka);
    fs::remove_dir_all(shared.logs()).unwrap();
    fs::create_dir(shared.logs()).unwrap();
    // Kafka makes snapshots all the time.
    shared.set("metadata.log.max.record.bytes.between.snapshots=1\ninternal.metadata.log.segment.bytes=2000\n");
    let known = shared.with_ours(|metadata| {
        metadata.create_topic("orders", 3, &configs(&[("retention.ms", "777")])).unwrap();
        metadata.create_topic("gone", 1, &Configs::new()).unwrap();
        metadata.delete_topic("gone").unwrap();
        metadata.set_cluster_configs(&[change("log.segment.bytes", Some("2000000"))]).unwrap();
        metadata.allocate_producer_ids(1234).unwrap();
        ours(metadata)
    });
    let known = shared.with_kafka(|kafka| {
        assert_eq!(kafka.described(), known);
        let cluster = kafka.broker_configs(&["--entity-default"]);
        assert_eq!(cluster, configs(&[("log.segment.bytes", "2000000"), ("min.insync.replicas", "1")]));
        // An idempotent producer gets ids behind those that were given out here.
        let args = ["--topic", "orders", "--num-records", "300", "--record-size", "10", "--throughput", "-1"];
        let _ = kafka.node.tool("ProducerPerformance", &args);
        kafka.described()
    });
    assert!(remove_what_snapshots_stand_for(&shared.logs().join("__cluster_metadata-0")) > 0);
    let ids = shared.with_ours(|metadata| {
        assert_eq!(ours(metadata), known);
        metadata.create_topic("behind-the-snapshot", 1, &Configs::new()).unwrap();
        metadata.allocate_producer_ids(1).unwrap()
    });
    assert_eq!(ids.start, 2234, "1234 were given out here, and a block of 1000 by Kafka");
    let known = shared.with_kafka(|kafka| kafka.described());
    assert!(known.contains_key("behind-the-snapshot"));
    shared.with_ours(|metadata| assert_eq!(ours(metadata), known));
}

/// How many elections made a leader of a replica that may lack records: after an end that looked like a crash.
fn unclean_elections(log: &Path) -> usize {
    let bytes = fs::read(log.join("00000000000000000000.log")).unwrap();
    let mut unclean = 0;
    let count = |item: Item<'_>| {
        let is_unclean = matches!(
            item,
            Item::Metadata(Record::PartitionChange(record::PartitionChange { leader_recovery_state: Some(1), .. }))
        );
        unclean += usize::from(is_unclean);
        Ok(())
    };
    walk(&bytes, "the log", 0, count).unwrap();
    unclean
}

#[test]
fn quorum_with_voters_in_its_log_changes_hands_without_unclean_elections() {
    let Some(kafka) = get() else { return };
    let mut shared = Shared::new(&kafka);
    fs::remove_dir_all(shared.logs()).unwrap();
    let path = shared.home.path().join("server.properties");
    let properties = fs::read_to_string(&path).unwrap();
    fs::write(&path, properties.replace("quorum.voters=1@", "quorum.bootstrap.servers=")).unwrap();
    let path = path.display().to_string();
    let _ =
        kafka.tool("kafka.tools.StorageTool", &["format", "--standalone", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", &path]);
    // Nobody has run on it yet.
    let known = shared.with_ours(|metadata| {
        assert_eq!(metadata.image().feature("metadata.version"), 30);
        metadata.create_topic("orders", 2, &Configs::new()).unwrap();
        ours(metadata)
    });
    for _ in 0..2 {
        shared.with_kafka(|kafka| assert_eq!(kafka.described(), known));
        shared.with_ours(|metadata| assert_eq!(ours(metadata), known));
    }
    let log = shared.logs().join("__cluster_metadata-0");
    assert_eq!(unclean_elections(&log), 0);
    assert!(fs::read_to_string(log.join("quorum-state")).unwrap().contains(r#""data_version":1"#));
}
