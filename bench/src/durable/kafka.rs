//! Kafka's own log among the rows: append and flush, as the oracle's `kafka-bench --only durable` measures it.

use super::{
    case::{Case, Load},
    summary::{QUANTILES, Row, Synced},
};
use crate::{Failure, kafka::Kafka};
use serde_json::Value;
use std::path::Path;

/// What the oracle appends: one record of this size in a batch.
const RECORD_BYTES: usize = 1024;

/// Measures Kafka: one thread on one partition, and several on the most partitions of the run.
pub(crate) fn rows(
    kafka: &Kafka,
    partitions: usize,
    seconds: f64,
    rounds: usize,
    scratch: &Path,
) -> Result<Vec<Row>, Failure> {
    let options = ["--seconds".to_owned(), seconds.to_string(), "--partitions".to_owned(), partitions.to_string()];
    let lines = kafka.run("durable", &options, rounds, scratch)?;
    let rows: Vec<Row> = lines.iter().filter_map(row).collect();
    if rows.is_empty() { Err("kafka-bench --only durable has no result".into()) } else { Ok(rows) }
}

fn row(line: &Value) -> Option<Row> {
    if line.get("case")?.as_str()? != "append_and_flush" {
        return None;
    }
    let count = |name: &str| usize::try_from(line.get(name)?.as_u64()?).ok();
    let figure = |name: &str, which: &str| line.get(name)?.get(which)?.as_f64();
    let case =
        Case { batch_bytes: RECORD_BYTES, partitions: count("partitions")?, load: Load::Threads(count("threads")?) };
    let latency = |quantile: &f64| match quantile {
        0.5 => figure("p50_ms", "median"),
        0.99 => figure("p99_ms", "median"),
        _ => None,
    };
    Some(Row {
        case,
        subject: "Kafka 4.3.0",
        note: "UnifiedLog.appendAsLeader and flush, in one process; measured after the others, not in turns",
        median: figure("acks_per_s", "median")?,
        min: figure("acks_per_s", "min")?,
        max: figure("acks_per_s", "max")?,
        latencies_ms: QUANTILES.iter().map(latency).collect(),
        processor_us_per_append: None,
        write_amplification: None,
        flushes_per_s: None,
        appends_per_flush: None,
        synced: Synced::NotCounted,
        read_mb_per_s: None,
        end_to_end_ms: Vec::new(),
        upkeep: None,
        of_model: None,
        of_raw_journal: None,
        over_raft_engine: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_of_kafka_bench_becomes_a_row() {
        let figure = |median: f64| json!({"min": 1.0, "median": median, "max": 9.0});
        let line = json!({"case": "append_and_flush", "record_bytes": 1024, "threads": 8, "partitions": 1000,
                          "acks_per_s": figure(900.0), "p50_ms": figure(5.0), "p99_ms": figure(7.0)});
        let row = row(&line).unwrap();
        let case = Case { batch_bytes: 1024, partitions: 1000, load: Load::Threads(8) };
        assert_eq!((row.case, row.median, row.latency_ms(0.99), row.latency_ms(0.9)), (case, 900.0, Some(7.0), None));
        assert!(super::row(&json!({"case": "environment"})).is_none());
    }
}
