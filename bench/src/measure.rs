//! Running subjects in turns and summing up.

use crate::{
    Failure,
    corpus::Corpus,
    machine,
    workloads::{Subject, Workload},
};
use indicatif::ProgressBar;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// Bytes that a round of the largest workload writes at most.
const MAX_ROUND_BYTES: u64 = 512 << 20;
/// Share of the free space that may be used.
const FREE_SHARE: u64 = 4;

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Bytes of a round of streaming workloads.
    pub(crate) bytes: u64,
    /// Operations of a round of workloads that wait for the disk.
    pub(crate) operations: u64,
}

impl Plan {
    /// Fits the work into about so many seconds and the free space.
    pub(crate) fn new(seconds: u64, workloads: usize, dir: &Path) -> Result<Self, Failure> {
        let free = machine::free_bytes(dir)?;
        let bytes = MAX_ROUND_BYTES.min(free / FREE_SHARE).min(seconds * (20 << 20)).max(8 << 20);
        if free < 4 * bytes {
            return Err(format!("only {} are free", indicatif::HumanBytes(free)).into());
        }
        let share_ms = seconds * 1000 / u64::try_from(workloads)?.max(1);
        Ok(Self { rounds: if seconds >= 30 { 5 } else { 3 }, bytes, operations: (share_ms / 10).clamp(20, 2000) })
    }
}

/// What one run of one subject did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// The figure, in the workload's unit.
    pub(crate) figure: f64,
    /// Syncs that were asked of the kernel.
    pub(crate) syncs: u64,
}

impl Run {
    /// Bytes per second, from work begun at an instant.
    pub(crate) fn rate(bytes: u64, begun: Instant, syncs: u64) -> Self {
        Self { figure: bytes as f64 / begun.elapsed().as_secs_f64() / 1e6, syncs }
    }

    /// Operations per second, from work begun at an instant.
    pub(crate) fn operations(count: u64, begun: Instant, syncs: u64) -> Self {
        Self { figure: count as f64 / begun.elapsed().as_secs_f64(), syncs }
    }
}

/// One line of the result.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) workload: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) syncs: u64,
    /// Median of the ratios to the floor, round by round.
    pub(crate) ratio: Option<f64>,
    /// Of Kafka's row: the engine's median over Kafka's.
    pub(crate) over_kafka: Option<f64>,
    /// The ratio that the engine aims at.
    pub(crate) bar: Option<f64>,
    /// Whether less is better.
    pub(crate) time: bool,
}

/// Runs the subjects of a workload in turns.
pub(crate) fn interleave(
    workload: &Workload,
    corpus: &Corpus,
    plan: &Plan,
    scratch: &Path,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> Result<Vec<Row>, Failure> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); workload.subjects.len()];
    // One round more, which only warms up.
    for round in 0..=plan.rounds {
        for (index, (name, subject)) in workload.subjects.iter().enumerate() {
            if stop.load(Ordering::SeqCst) {
                return Ok(Vec::new());
            }
            let dir = scratch.join("run");
            std::fs::create_dir(&dir)?;
            let run: Subject = *subject;
            let result = run(&dir, corpus, plan).map_err(|error| format!("{} of {name}: {error}", workload.name));
            std::fs::remove_dir_all(&dir)?;
            if round > 0 {
                if let Some(runs) = runs.get_mut(index) {
                    runs.push(result?);
                }
            } else {
                result?;
            }
        }
        if round > 0 {
            bar.inc(1);
        }
    }
    let floor = runs.last().cloned().unwrap_or_default();
    let rows = workload.subjects.iter().zip(&runs).map(|((name, _), runs)| row(workload, name, runs, &floor));
    Ok(rows.collect())
}

fn row(workload: &Workload, subject: &'static str, runs: &[Run], floor: &[Run]) -> Row {
    let mut figures: Vec<f64> = runs.iter().map(|run| run.figure).collect();
    figures.sort_by(f64::total_cmp);
    let mut ratios: Vec<f64> = runs.iter().zip(floor).map(|(run, floor)| run.figure / floor.figure).collect();
    ratios.sort_by(f64::total_cmp);
    let is_floor = subject == "raw";
    Row {
        workload: workload.name,
        subject,
        unit: workload.unit,
        median: median(&figures),
        min: figures.first().copied().unwrap_or(0.0),
        max: figures.last().copied().unwrap_or(0.0),
        syncs: runs.last().map_or(0, |run| run.syncs),
        ratio: (!is_floor && workload.has_floor()).then(|| median(&ratios)),
        over_kafka: None,
        bar: if is_floor { None } else { workload.bar },
        time: workload.unit == "ms",
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
