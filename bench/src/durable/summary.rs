//! Summing up rounds: medians, ratios round by round, and whether what was acknowledged can have been synced.

use super::{
    case::{Case, Load},
    drive::{Sample, latencies},
    subject::{Role, Subject},
    upkeep,
};
use crate::Failure;
use hdrhistogram::Histogram;

/// Shares of the appends whose latency is told.
pub(crate) const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// One run of one subject on one case.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) case: Case,
    /// Which of the subjects.
    pub(crate) subject: usize,
    pub(crate) round: usize,
    pub(crate) sample: Sample,
}

/// Whether the kernel's count of flushes can cover what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    Yes,
    No,
    /// There is no count, or not of all flushes.
    NotCounted,
}

impl Synced {
    /// An append is covered by a flush that begins after it was submitted; so between two flushes no more can be
    /// acknowledged than may be under way at once. A disk that forces single writes to its medium needs no flush for
    /// them, and then too few of them prove nothing.
    pub(crate) fn judge(appends: u64, flushes: Option<u64>, at_once: usize, forces_single_writes: bool) -> Self {
        match flushes {
            None => Self::NotCounted,
            Some(flushes) if appends <= (flushes + 1).saturating_mul(at_once as u64) => Self::Yes,
            Some(_) if forces_single_writes => Self::NotCounted,
            Some(_) => Self::No,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "NO",
            Self::NotCounted => "n/a",
        }
    }
}

/// One line of the result.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) subject: &'static str,
    pub(crate) note: &'static str,
    /// Appends a second.
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// At [`QUANTILES`], of all rounds together.
    pub(crate) latencies_ms: Vec<Option<f64>>,
    pub(crate) processor_us_per_append: Option<f64>,
    /// Bytes that the disk was given for each byte appended.
    pub(crate) write_amplification: Option<f64>,
    pub(crate) flushes_per_s: Option<f64>,
    pub(crate) appends_per_flush: Option<f64>,
    pub(crate) synced: Synced,
    /// Of consumers, if there were any: bytes, and end-to-end latencies at [`QUANTILES`].
    pub(crate) read_mb_per_s: Option<f64>,
    pub(crate) end_to_end_ms: Vec<Option<f64>>,
    /// What retention and compaction did, if they ran.
    pub(crate) upkeep: Option<upkeep::Done>,
    pub(crate) of_model: Option<f64>,
    pub(crate) of_raw_journal: Option<f64>,
    pub(crate) over_raft_engine: Option<f64>,
}

impl Row {
    pub(crate) fn payload_mb_per_s(&self) -> f64 {
        self.median * self.case.batch_bytes as f64 / 1e6
    }

    /// The latency at one of [`QUANTILES`].
    pub(crate) fn latency_ms(&self, quantile: f64) -> Option<f64> {
        at(&self.latencies_ms, quantile)
    }

    /// The same, until a consumer had it.
    pub(crate) fn end_to_end_ms(&self, quantile: f64) -> Option<f64> {
        at(&self.end_to_end_ms, quantile)
    }
}

fn at(latencies_ms: &[Option<f64>], quantile: f64) -> Option<f64> {
    let at = QUANTILES.iter().position(|found| *found == quantile)?;
    latencies_ms.get(at).copied().flatten()
}

/// All rows, by case and then by subject, in the order given.
pub(crate) fn rows(
    cases: &[Case],
    subjects: &[Subject],
    runs: &[Run],
    forces_single_writes: bool,
) -> Result<Vec<Row>, Failure> {
    let all = Runs { subjects, runs };
    let mut rows = Vec::new();
    for case in cases {
        for index in 0..subjects.len() {
            rows.extend(all.row(*case, index, forces_single_writes)?);
        }
    }
    Ok(rows)
}

struct Runs<'a> {
    subjects: &'a [Subject],
    runs: &'a [Run],
}

impl Runs<'_> {
    fn of(&self, case: Case, subject: usize) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| (run.case, run.subject) == (case, subject))
    }

    fn row(&self, case: Case, index: usize, forces_single_writes: bool) -> Result<Option<Row>, Failure> {
        let samples: Vec<&Sample> = self.of(case, index).map(|run| &run.sample).collect();
        let (Some(subject), false) = (self.subjects.get(index), samples.is_empty()) else {
            return Ok(None);
        };
        let rates = sorted(samples.iter().map(|sample| sample.rate()));
        let appends: u64 = samples.iter().map(|sample| sample.appends).sum();
        let seconds: f64 = samples.iter().map(|sample| sample.seconds).sum();
        let flushes = sum(samples.iter().map(|sample| sample.cost.flushes));
        let disk_bytes = sum(samples.iter().map(|sample| sample.cost.disk_bytes));
        let processor_us: u64 = samples.iter().map(|sample| sample.cost.processor_us).sum();
        let per_append = |value: f64| (appends > 0).then(|| value / appends as f64);
        let mut histogram = latencies()?;
        for sample in &samples {
            histogram.add(&sample.latencies)?;
        }
        let consumed: Vec<_> = samples.iter().filter_map(|sample| sample.beside.consumed.as_ref()).collect();
        let mut end_to_end = latencies()?;
        for consumed in &consumed {
            end_to_end.add(&consumed.latencies)?;
        }
        let read_bytes: u64 = consumed.iter().map(|consumed| consumed.bytes).sum();
        Ok(Some(Row {
            case,
            subject: subject.name,
            note: subject.note,
            median: median(&rates),
            min: rates.first().copied().unwrap_or(0.0),
            max: rates.last().copied().unwrap_or(0.0),
            latencies_ms: milliseconds(&histogram),
            processor_us_per_append: per_append(processor_us as f64),
            write_amplification: disk_bytes.and_then(|bytes| per_append(bytes as f64 / case.batch_bytes as f64)),
            flushes_per_s: flushes.map(|flushes| flushes as f64 / seconds),
            appends_per_flush: flushes.filter(|flushes| *flushes > 0).map(|flushes| appends as f64 / flushes as f64),
            synced: Synced::judge(appends, flushes, case.load.at_once(), forces_single_writes),
            read_mb_per_s: (!consumed.is_empty()).then(|| read_bytes as f64 / seconds / 1e6),
            end_to_end_ms: if end_to_end.is_empty() { Vec::new() } else { milliseconds(&end_to_end) },
            upkeep: samples.iter().filter_map(|sample| sample.beside.upkeep).reduce(upkeep::Done::and),
            of_model: self.ratio(case, index, case, Role::Model),
            of_raw_journal: self.ratio(case, index, case, Role::RawJournal),
            over_raft_engine: self.ratio(case, index, self.case_of_threads(case), Role::RaftEngine),
        }))
    }

    /// The median of the ratios, round by round, to the best subject of a role on a case; none to a subject itself, and
    /// none at half load, of which the rate is given.
    fn ratio(&self, case: Case, index: usize, best_on: Case, role: Role) -> Option<f64> {
        let best = self.best(best_on, role)?;
        if best == index || matches!(case.load, Load::Half(_)) {
            return None;
        }
        let ratios = sorted(self.of(case, index).filter_map(|run| {
            let other = self.of(best_on, best).find(|other| other.round == run.round)?;
            Some(run.sample.rate() / other.sample.rate()).filter(|ratio| ratio.is_finite())
        }));
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    fn best(&self, case: Case, role: Role) -> Option<usize> {
        let of_role = self.subjects.iter().enumerate().filter(|(_, subject)| subject.role == role);
        let with_median = of_role.filter_map(|(index, _)| {
            let rates = sorted(self.of(case, index).map(|run| run.sample.rate()));
            (!rates.is_empty()).then(|| (index, median(&rates)))
        });
        with_median.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(index, _)| index)
    }

    /// The case that threads are measured on which is like this one, with most of them.
    fn case_of_threads(&self, case: Case) -> Case {
        let like = self.runs.iter().map(|run| run.case).filter(|other| {
            (other.batch_bytes, other.partitions) == (case.batch_bytes, case.partitions)
                && matches!(other.load, Load::Threads(_))
        });
        match case.load {
            Load::InFlight(_) => like.max().unwrap_or(case),
            Load::Threads(_) | Load::Half(_) => case,
        }
    }
}

fn milliseconds(histogram: &Histogram<u64>) -> Vec<Option<f64>> {
    QUANTILES.iter().map(|quantile| Some(histogram.value_at_quantile(*quantile) as f64 / 1e6)).collect()
}

fn sum(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    values.sum()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        durable::{
            kernel::Cost,
            subject::{Beside, InFlightLog, Setup},
        },
        floors,
    };

    const ON: Case = Case { batch_bytes: 1024, partitions: 10, load: Load::InFlight(4) };
    const THREADS: Case = Case { load: Load::Threads(8), ..ON };

    fn subject(name: &'static str, role: Role) -> Subject {
        let open: fn(&Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> = floors::raw_journal::open;
        Subject::in_flight(name, role, open)
    }

    fn run(case: Case, subject: usize, round: usize, appends: u64) -> Run {
        let mut histogram = latencies().unwrap();
        histogram.record_n(2_000_000, appends).unwrap();
        let cost = Cost { disk_bytes: Some(2048 * appends), flushes: Some(appends / 4), processor_us: 3 * appends };
        let beside = Beside::default();
        Run { case, subject, round, sample: Sample { appends, seconds: 2.0, latencies: histogram, cost, beside } }
    }

    fn subjects() -> Vec<Subject> {
        let roles = [Role::Engine, Role::Model, Role::Model, Role::RawJournal, Role::RaftEngine];
        ["engine", "slow", "fast", "journal", "raft"].into_iter().zip(roles).map(|(n, r)| subject(n, r)).collect()
    }

    #[test]
    fn row_has_median_cost_and_latency() {
        let runs = [run(ON, 0, 1, 100), run(ON, 0, 2, 400), run(ON, 0, 3, 200)];
        let rows = rows(&[ON], &subjects(), &runs, false).unwrap();
        let row = rows.first().unwrap();
        assert_eq!((rows.len(), row.min, row.median, row.max), (1, 50.0, 100.0, 200.0));
        assert_eq!((row.processor_us_per_append, row.write_amplification), (Some(3.0), Some(2.0)));
        assert_eq!((row.appends_per_flush, row.synced), (Some(4.0), Synced::Yes));
        assert!((row.latency_ms(0.99).unwrap() - 2.0).abs() < 0.05);
        assert_eq!((row.of_model, row.of_raw_journal, row.over_raft_engine), (None, None, None));
    }

    #[test]
    fn ratios_are_medians_of_rounds_to_the_best_of_a_role() {
        let mut runs = Vec::new();
        for (round, machine) in [(1, 1), (2, 10), (3, 100)] {
            // The machine gets faster from round to round; the ratios stay.
            let appends = [(ON, 0, 60), (ON, 1, 40), (ON, 2, 80), (ON, 3, 120), (THREADS, 4, 12)];
            runs.extend(appends.map(|(case, subject, count)| run(case, subject, round, count * machine)));
        }
        let rows = rows(&[ON, THREADS], &subjects(), &runs, false).unwrap();
        let of = |name: &str| rows.iter().find(|row| row.subject == name).unwrap();
        let engine = of("engine");
        assert_eq!((engine.of_model, engine.of_raw_journal), (Some(0.75), Some(0.5)));
        assert_eq!(engine.over_raft_engine, Some(5.0));
        assert_eq!((of("fast").of_model, of("slow").of_model), (None, Some(0.5)));
        assert_eq!(of("raft").over_raft_engine, None);
    }

    #[test]
    fn synced_is_what_the_flushes_can_cover() {
        assert_eq!(Synced::judge(1000, None, 1, false), Synced::NotCounted);
        assert_eq!(Synced::judge(1000, Some(999), 1, false), Synced::Yes);
        assert_eq!(Synced::judge(1000, Some(0), 128, false), Synced::No);
        assert_eq!(Synced::judge(1000, Some(7), 128, false), Synced::Yes);
        assert_eq!(Synced::judge(1000, Some(0), 128, true), Synced::NotCounted);
    }
}
