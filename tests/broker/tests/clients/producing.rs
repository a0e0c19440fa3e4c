//! The producers of the notes: every setting of theirs, and what is then in the topic.

use crate::{
    broker::Broker,
    ledger,
    programs::{at_once, run},
    stage::Stage,
};
use std::collections::BTreeMap;

#[test]
fn hundred_thousand_messages_go_in_and_come_out() {
    let Some(stage) = Stage::new("hundred-thousand") else { return };
    stage.produce(100_000, "-bytes 100");
    let consumed = stage.ledger("consumed");
    let flags = format!("-group hundred-thousand -limit 100000 -initial oldest -ledger {}", consumed.display());
    let report = run(stage.program("consumer-group", &flags)).succeeded().report();
    assert_eq!(report["received"], 100_000);
    let received = ledger::read(&consumed);
    ledger::assert_in_order(&received);
    ledger::assert_each_once(&ledger::read(&stage.ledger("produced")), &received);
    stage.check("-replay 5");
}

#[test]
fn every_codec() {
    at_once(&["none", "gzip", "snappy", "lz4", "zstd"], |codec| {
        let Some(stage) = Stage::new(&format!("codec-{codec}")) else { return };
        stage.produce(5_000, &format!("-codec {codec} -bytes 300"));
        stage.check("-replay 1");
    });
}

#[test]
fn every_partitioner() {
    at_once(&["hash", "reference", "crc", "random", "roundrobin", "manual"], |partitioner| {
        let Some(stage) = Stage::new(&format!("partitioner-{partitioner}")) else { return };
        let keys = if *partitioner == "manual" { "" } else { "-keys 40" };
        let report = stage.produce(4_000, &format!("-partitioner {partitioner} {keys}")).report();
        assert_eq!(report["moved"], 0);
        let by_key = matches!(*partitioner, "hash" | "reference" | "crc");
        let partitions = stage.check(if by_key { "-keys-together" } else { "" });
        assert_eq!(partitions.len(), 4, "{partitioner}");
        assert!(partitions.iter().all(|count| *count > 0), "{partitioner}: {partitions:?}");
        if matches!(*partitioner, "manual" | "roundrobin") {
            assert_eq!(partitions, [1_000; 4], "{partitioner}");
        }
    });
}

#[test]
fn every_acks() {
    at_once(&["0", "1", "all"], |acks| {
        let Some(stage) = Stage::new(&format!("acks-{acks}")) else { return };
        stage.produce(5_000, &format!("-acks {acks}"));
        // With acks 0 there is no response that could tell an offset.
        stage.check(if *acks == "0" { "-offsets=false" } else { "" });
    });
}

#[test]
fn idempotent_producer() {
    let Some(stage) = Stage::new("idempotent") else { return };
    stage.produce(5_000, "-idempotent");
    stage.check("");
}

#[test]
fn sync_producer_says_where_each_message_went() {
    let Some(stage) = Stage::new("sync") else { return };
    let flags = format!("-limit 400 -ledger {}", stage.ledger("produced").display());
    let ended = run(stage.program("sync-producer", &flags)).succeeded();
    let mut next: BTreeMap<&str, i64> = BTreeMap::new();
    for (n, line) in ended.lines.iter().enumerate() {
        let rest = line.strip_prefix("[Producer] partitionid: ").unwrap_or_else(|| panic!("{line}"));
        let (partition, rest) = rest.split_once("; offset:").unwrap();
        let (offset, value) = rest.split_once(", value: ").unwrap();
        assert_eq!(value, format!("message {n}"));
        let next = next.entry(partition).or_default();
        assert_eq!(offset.parse(), Ok(*next), "{line}");
        *next += 1;
    }
    assert_eq!(next.values().sum::<i64>(), 400);
    stage.check("");
}

/// sarama's own buffers take 512 messages while it looks for a topic; what comes after that has 10 ms to be taken. A broker
/// that answers the request which creates the topic with the finished topic keeps sarama from backing off for 250 ms.
#[test]
fn new_topic_costs_no_back_off() {
    let Some(stage) = Stage::new("new-topic") else { return };
    let flags = format!("-limit 5000 -ledger {}", stage.ledger("produced").display());
    let report = run(stage.program("async-producer", &flags)).succeeded().report();
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(
        (count("errors"), count("enqueued"), count("enqueued") + count("timeouts")),
        (0, count("successes"), 5_000)
    );
    assert!(Broker::is_kafka() || count("timeouts") < 20, "{report}");
    stage.check("");
}

/// What sarama sends depends on the version that it is told: from Produce 3 and Fetch 4 without ApiVersions on.
#[test]
fn every_version_of_sarama() {
    at_once(&["0.11.0.0", "1.0.0", "2.1.0", "2.8.0", "3.6.0"], |version| {
        let Some(stage) = Stage::new(&format!("version-{version}")) else { return };
        stage.produce(500, &format!("-version {version} -acks all"));
        stage.check(&format!("-version {version}"));
        let flags = format!("-version {version} -group version-{version} -limit 500 -initial oldest");
        let report = run(stage.program("consumer-group", &flags)).succeeded().report();
        assert_eq!(report["received"], 500, "{version}");
    });
}

/// Kafka 4 closes the connection of a client that speaks Produce 2; the program must not hang on that.
#[test]
fn too_old_client_is_refused() {
    let Some(stage) = Stage::new("too-old") else { return };
    let ended = run(stage.program("sync-producer", "-version 0.10.2.0 -limit 1"));
    assert!(!ended.status.success());
    assert_eq!(ended.lines, ["SendMessage:0 err:EOF"], "{}", ended.errors);
}
