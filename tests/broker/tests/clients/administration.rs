//! Requests of administrators, one after the other: every answer is the one that real Kafka gives.

use crate::{broker::Broker, programs::run, stage::Stage};
use std::fs;

/// What Kafka 4.3.0 has answered to the same program: a line for each request.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/go/admin/kafka-4.3.0.jsonl");

/// The questions that the reference broker answers in another way, and why.
const NAMED: [(&str, &str); 12] = [
    ("commit", NO_IDS),
    ("commit of an unknown partition", NO_IDS),
    ("commit of an unknown topic", NO_IDS),
    ("commit of no member", NO_IDS),
    ("commit of no group", NO_IDS),
    ("committed offsets", NO_IDS),
    ("all committed offsets", NO_IDS),
    ("committed offsets of an unknown group", NO_IDS),
    ("committed offsets of an unknown topic", NO_IDS),
    ("commit once more", NO_IDS),
    ("committed offsets that were deleted", NO_IDS),
    ("commit for the last time", NO_IDS),
];
const NO_IDS: &str = "OffsetCommit and OffsetFetch of version 10, with ids of topics, are not offered";

#[test]
fn every_answer_is_kafkas() {
    let Some(stage) = Stage::new("administration") else { return };
    let ended = run(stage.bare("admin", &format!("-brokers {} compare", stage.broker.address()))).succeeded();
    let expected = fs::read_to_string(EXPECTED).unwrap();
    let expected: Vec<&str> = expected.lines().collect();
    let mut different = Vec::new();
    for (n, line) in ended.lines.iter().enumerate() {
        let is_named = NAMED.iter().any(|(question, _)| line.starts_with(&format!("{{\"{question}\":")));
        let is_equal = expected.get(n) == Some(&line.as_str());
        // A named difference that is none any more is to lose its name.
        if is_equal == (is_named && !Broker::is_kafka()) {
            different.push(format!("answered: {line}\n   Kafka: {}", expected.get(n).unwrap_or(&"nothing")));
        }
    }
    assert_eq!(ended.lines.len(), expected.len(), "{}", ended.errors);
    assert!(different.is_empty(), "{} answers are others than Kafka's:\n{}", different.len(), different.join("\n"));
}
