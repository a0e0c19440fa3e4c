//! Requests of administrators, one after the other: every answer is the one that real Kafka gives.

use crate::{programs::run, stage::Stage};
use std::fs;

/// What Kafka 4.3.0 has answered to the same program: a line for each request.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/go/admin/kafka-4.3.0.jsonl");

#[test]
fn every_answer_is_kafkas() {
    let Some(stage) = Stage::new("administration") else { return };
    let ended = run(stage.bare("admin", &format!("-brokers {} compare", stage.broker.address()))).succeeded();
    let expected = fs::read_to_string(EXPECTED).unwrap();
    let expected: Vec<&str> = expected.lines().collect();
    let mut different = Vec::new();
    for (n, line) in ended.lines.iter().enumerate() {
        if expected.get(n) != Some(&line.as_str()) {
            different.push(format!("answered: {line}\n   Kafka: {}", expected.get(n).unwrap_or(&"nothing")));
        }
    }
    assert_eq!(ended.lines.len(), expected.len(), "{}", ended.errors);
    assert!(different.is_empty(), "{} answers are others than Kafka's:\n{}", different.len(), different.join("\n"));
}
