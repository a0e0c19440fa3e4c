//! Real Kafka on directories of ours: its dump tool finds nothing wrong, its broker opens and serves them, and what the
//! broker leaves opens here again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    AppendAsLeader, LogConfig, LogDirectory, TopicPartition, ValidationPolicy,
    format::{
        batch::Batches,
        builder::{BatchBuilder, NewRecord},
        compression::{Codec, Compression},
        names::{FileName, PARTITION_METADATA, SegmentFile},
    },
    validate,
};
use duramen_tests::{
    history::read_all,
    kafka::{Kafka, skip},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const BATCHES: usize = 60;
const RECORDS: usize = 8;

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 4_000, index_interval_bytes: 500, segment_index_bytes: 1200, ..LogConfig::default() }
}

/// Text of a record's value.
fn value(topic: &str, n: usize) -> String {
    format!("{topic} record {n} {}", "x".repeat(n % 40))
}

/// Fills a partition with batches of a codec, over several segments and two leader epochs.
fn fill(directory: &mut LogDirectory, topic: &str, codec: Codec) {
    let partition = TopicPartition::new(topic, 0).unwrap();
    let log = directory.get_or_create(&partition, &config()).unwrap();
    let policy = ValidationPolicy::from_config(&config());
    for batch in 0..BATCHES {
        let mut builder = BatchBuilder::new().compression(Compression::with_default_level(codec));
        if batch % 3 == 0 {
            let sequence = i32::try_from(batch / 3 * RECORDS).unwrap();
            builder = builder.producer(4001, 0, sequence);
        }
        for record in 0..RECORDS {
            let n = batch * RECORDS + record;
            let (key, value) = (format!("key {n}"), value(topic, n));
            builder = builder.append(NewRecord {
                timestamp: Some(now_ms()),
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[(b"header", Some(b"value")), (b"null", None)],
                ..NewRecord::default()
            });
        }
        let leader_epoch = i32::from(batch >= BATCHES / 2);
        let validated = validate(builder.build().unwrap(), &policy, now_ms()).unwrap();
        log.append_as_leader(validated, AppendAsLeader::new(leader_epoch, now_ms())).unwrap();
    }
    assert!(log.reader().segments().unwrap().len() > 2, "{topic} has several segments");
    log.update_high_watermark(log.offsets().log_end);
}

fn topic(codec: Codec) -> String {
    format!("with-{}", codec.name())
}

fn files(dir: &Path, wanted: SegmentFile) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            matches!(FileName::parse(&name), FileName::Segment { file, .. } if file == wanted)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn kafkas_dump_tool_finds_nothing_wrong_in_our_files() {
    let kafka = match Kafka::get() {
        Ok(kafka) => kafka,
        Err(why) => return skip(&why),
    };
    let home = TempDir::new().unwrap();
    let mut directory = LogDirectory::open(home.path()).unwrap();
    for codec in Codec::ALL {
        fill(&mut directory, &topic(codec), codec);
    }
    directory.close().unwrap();
    let all = |wanted: SegmentFile| -> Vec<PathBuf> {
        Codec::ALL.iter().flat_map(|codec| files(&home.path().join(format!("{}-0", topic(*codec))), wanted)).collect()
    };
    let logs = kafka.dump(&all(SegmentFile::Log), &["--deep-iteration", "--print-data-log"]);
    let batches = logs.lines().filter(|line| line.starts_with("baseOffset:"));
    assert_eq!(batches.clone().count(), BATCHES * Codec::ALL.len());
    assert!(batches.clone().all(|line| line.contains("isvalid: true")), "{logs}");
    assert!(Kafka::findings(&logs).is_empty(), "{:?}", Kafka::findings(&logs));
    for codec in Codec::ALL {
        assert!(logs.contains(&value(&topic(codec), BATCHES * RECORDS - 1)), "{} was not decoded", codec.name());
    }
    let indexes = [all(SegmentFile::OffsetIndex), all(SegmentFile::TimeIndex)].concat();
    let dump = kafka.dump(&indexes, &[]);
    assert!(Kafka::findings(&dump).is_empty(), "{dump}");
    let sane = kafka.dump(&all(SegmentFile::OffsetIndex), &["--index-sanity-check"]);
    let passed = sane.matches("passed sanity check").count() + sane.matches("is empty").count();
    assert_eq!(passed, all(SegmentFile::OffsetIndex).len(), "{sane}");
    let snapshots = kafka.dump(&all(SegmentFile::Snapshot), &[]);
    assert!(snapshots.contains("producerId: 4001"), "{snapshots}");
}

#[test]
fn kafkas_dump_tool_is_heard_when_it_finds_something() {
    let kafka = match Kafka::get() {
        Ok(kafka) => kafka,
        Err(why) => return skip(&why),
    };
    let home = TempDir::new().unwrap();
    let mut directory = LogDirectory::open(home.path()).unwrap();
    fill(&mut directory, "damaged", Codec::None);
    directory.close().unwrap();
    let partition = home.path().join("damaged-0");
    let first = |wanted: SegmentFile| files(&partition, wanted).remove(0);
    let change = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    // Entries of 8 bytes: offset and position; of 12: timestamp and offset. The lowest bit of the first entry's offset.
    let (index, time_index, log) =
        (first(SegmentFile::OffsetIndex), first(SegmentFile::TimeIndex), first(SegmentFile::Log));
    for (path, at) in [(&index, 3), (&time_index, 11)] {
        assert!(fs::metadata(path).unwrap().len() >= 12, "{} holds entries", path.display());
        assert!(Kafka::findings(&kafka.dump(std::slice::from_ref(path), &[])).is_empty());
        change(path, at);
        let dump = kafka.dump(std::slice::from_ref(path), &[]);
        assert!(!Kafka::findings(&dump).is_empty(), "{}: {dump}", path.display());
    }
    // The last byte of a record, which lies under the checksum; then bytes that are no batch.
    let len = fs::metadata(&log).unwrap().len();
    change(&log, usize::try_from(len).unwrap() - 1);
    let dump = kafka.dump(std::slice::from_ref(&log), &[]);
    assert_eq!(Kafka::findings(&dump).len(), 1, "{dump}");
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend([0xff; 7]);
    fs::write(&log, bytes).unwrap();
    let dump = kafka.dump(std::slice::from_ref(&log), &[]);
    assert_eq!(Kafka::findings(&dump).len(), 2, "{dump}");
}

#[test]
fn kafkas_broker_serves_our_directories_and_gives_them_back() {
    let kafka = match Kafka::get() {
        Ok(kafka) => kafka,
        Err(why) => return skip(&why),
    };
    let home = TempDir::new().unwrap();
    let mut node = kafka.node(home.path());
    let logs = home.path().join("logs");
    let topics: Vec<String> = Codec::ALL.iter().map(|codec| topic(*codec)).chain(["unclean".to_owned()]).collect();
    node.start();
    for topic in &topics {
        let args = [
            "--create",
            "--topic",
            topic,
            "--partitions",
            "1",
            "--config",
            "segment.index.bytes=1200",
            "--config",
            "internal.segment.bytes=4000",
        ];
        let _ = node.tool("TopicCommand", &args);
    }
    node.stop();
    // Our partitions in the place of the broker's empty ones, under the ids that it gave to the topics.
    let ours = TempDir::new().unwrap();
    let mut directory = LogDirectory::open(ours.path()).unwrap();
    for codec in Codec::ALL {
        fill(&mut directory, &topic(codec), codec);
    }
    directory.close().unwrap();
    let mut directory = LogDirectory::open(ours.path()).unwrap();
    fill(&mut directory, "unclean", Codec::Lz4);
    drop(directory);
    for topic in &topics {
        let theirs = logs.join(format!("{topic}-0"));
        let id = fs::read(theirs.join(PARTITION_METADATA)).unwrap();
        fs::remove_dir_all(&theirs).unwrap();
        fs::rename(ours.path().join(format!("{topic}-0")), &theirs).unwrap();
        fs::write(theirs.join(PARTITION_METADATA), id).unwrap();
    }
    // The first start finds the marker, the directory of the unclean one not yet: it gets no checkpoint and no marker.
    fs::remove_file(logs.join(".kafka_cleanshutdown")).unwrap();
    node.start();
    let count = (BATCHES * RECORDS).to_string();
    for topic in &topics {
        let offsets = node.tool("GetOffsetShell", &["--topic", topic]);
        assert!(offsets.contains(&format!("{topic}:0:{count}")), "{offsets}");
        let args = ["--topic", topic, "--from-beginning", "--max-messages", &count, "--timeout-ms", "20000"];
        let consumed = node.tool("consumer.ConsoleConsumer", &args);
        for n in 0..BATCHES * RECORDS {
            assert!(consumed.lines().any(|line| line == value(topic, n)), "{topic}: record {n} was not consumed");
        }
    }
    node.stop();
    // What the broker closed opens here without recovery, with the same records.
    let mut directory = LogDirectory::open(&logs).unwrap();
    assert!(directory.report().clean);
    for topic in &topics {
        let partition = TopicPartition::new(topic, 0).unwrap();
        let log = directory.get(&partition, &config()).unwrap();
        assert_eq!(log.offsets().log_end, i64::try_from(BATCHES * RECORDS).unwrap(), "{topic}");
        let content = read_all(log);
        assert_eq!(Batches::new(&content).count(), BATCHES, "{topic}");
        assert_eq!(log.active_producers().first().map(|producer| producer.producer_id), Some(4001), "{topic}");
    }
    for (partition, (report, _)) in &directory.report().partitions {
        assert!(report.is_whole() && report.segments_scanned == 0, "{partition}: {report}");
    }
    directory.close().unwrap();
}
