//! Kafka's own log beside ours, in the same run: the oracle's `kafka-bench`, which holds Kafka's classes in its process.

use crate::{
    Failure,
    measure::{Plan, Row},
    workloads::{self, Workload},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What of `kafka-bench` is the same work on the same kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Append,
    Recover,
    Compact,
}

impl Case {
    /// The word for `--only`, the case that counts, its figure, and what makes MB/s of it.
    fn names(self) -> (&'static str, &'static str, &'static str, f64) {
        match self {
            Self::Append => ("leader", "append_as_leader", "mb_per_s", 1.0),
            Self::Recover => ("recover", "recover_one_segment", "gb_per_s", 1000.0),
            Self::Compact => ("clean", "compact", "mb_per_s", 1.0),
        }
    }

    /// Of an append only this shape.
    fn is(self, line: &Value) -> bool {
        let at_most_one = |name: &str, value: u64| line.get(name).is_none_or(|found| found.as_u64() == Some(value));
        line.get("case").and_then(Value::as_str) == Some(self.names().1)
            && at_most_one("partitions", 1)
            && at_most_one("batch_bytes", 16 << 10)
            && (self != Self::Append || at_most_one("record_bytes", 1024))
    }
}

/// The built oracle.
#[derive(Debug)]
pub(crate) struct Kafka {
    program: PathBuf,
}

impl Kafka {
    /// The oracle, or why there is none.
    pub(crate) fn find() -> Result<Self, Failure> {
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/oracle");
        if Command::new("java").arg("-version").output().is_err() {
            return Err("there is no java".into());
        }
        if !oracle.join("target").exists() {
            return Err("the oracle is not built: run tests/oracle/build once".into());
        }
        Ok(Self { program: oracle.join("kafka-bench") })
    }

    /// The lines of `kafka-bench` about these cases.
    pub(crate) fn run(
        &self,
        only: &str,
        options: &[String],
        rounds: usize,
        scratch: &Path,
    ) -> Result<Vec<Value>, Failure> {
        let output = Command::new(&self.program)
            .arg("--dir")
            .arg(scratch)
            .args(["--only", only, "--repeats", &rounds.to_string()])
            .args(options)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("kafka-bench --only {only}: {said}").into());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Kafka's row for a workload, with the median of ours over its own; none if Kafka is not measured with it.
    pub(crate) fn measure(
        &self,
        workload: &Workload,
        ours: &Row,
        plan: &Plan,
        scratch: &Path,
    ) -> Result<Option<Row>, Failure> {
        let Some(case) = workload.kafka else {
            return Ok(None);
        };
        let (only, _, name, factor) = case.names();
        // Of the size that is given, compaction takes a quarter.
        let size_mib = match case {
            Case::Compact => 4 * (workloads::compacted_bytes(plan) >> 20),
            _ => plan.bytes >> 20,
        };
        let options = ["--seconds".to_owned(), "1".to_owned(), "--size-mb".to_owned(), size_mib.to_string()];
        let lines = self.run(only, &options, plan.rounds, scratch)?;
        let line = lines
            .iter()
            .find(|line| case.is(line))
            .ok_or_else(|| format!("kafka-bench --only {only} has no result"))?;
        let figure = |which: &str| line.get(name).and_then(|f| f.get(which)).and_then(Value::as_f64);
        let (Some(min), Some(median), Some(max)) = (figure("min"), figure("median"), figure("max")) else {
            return Err(format!("kafka-bench --only {only} has no {name}").into());
        };
        Ok(Some(Row {
            workload: workload.name,
            subject: "Kafka 4.3.0",
            median: factor * median,
            min: factor * min,
            max: factor * max,
            syncs: 0,
            ratio: None,
            bar: None,
            over_kafka: Some(ours.median / (factor * median)),
            ..ours.clone()
        }))
    }
}
