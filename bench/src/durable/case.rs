//! The cases: how many appends at once, of how many bytes, over how many partitions.

use super::subject::Open;
use std::fmt;

/// Who keeps how many appends going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Load {
    /// So many threads, each of which waits for its append.
    Threads(usize),
    /// One thread, with so many appends in flight.
    InFlight(usize),
    /// The same, but at half of the rate that was reached just before, evenly spaced.
    Half(usize),
}

impl Load {
    /// Appends that may be under way at once.
    pub(crate) fn at_once(self) -> usize {
        match self {
            Self::Threads(count) | Self::InFlight(count) | Self::Half(count) => count,
        }
    }

    pub(crate) fn suits(self, open: Open) -> bool {
        matches!(self, Self::Threads(_)) == matches!(open, Open::Threads(_))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "{count} threads"),
            Self::InFlight(count) => write!(f, "{count} in flight"),
            Self::Half(_) => f.write_str("half load"),
        }
    }
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Case {
    pub(crate) batch_bytes: usize,
    pub(crate) partitions: usize,
    pub(crate) load: Load,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch_bytes, partitions, load } = self;
        write!(f, "{batch_bytes} B, {partitions} partitions, {load}")
    }
}

/// What is asked for, each list without repetition; none may be empty.
#[derive(Debug, Clone)]
pub(crate) struct Axes {
    pub(crate) batch_bytes: Vec<usize>,
    pub(crate) partitions: Vec<usize>,
    pub(crate) threads: Vec<usize>,
    pub(crate) in_flight: Vec<usize>,
}

impl Axes {
    /// Every combination.
    pub(crate) fn all(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &batch_bytes in &self.batch_bytes {
            for &partitions in &self.partitions {
                cases.extend(self.loads().map(|load| Case { batch_bytes, partitions, load }));
            }
        }
        cases
    }

    /// One axis at a time: away from the smallest batches, the most partitions and the highest load of each kind; and
    /// the half of the highest load.
    pub(crate) fn one_at_a_time(&self) -> Vec<Case> {
        let bases = self.bases();
        let is_near = |case: &Case| {
            bases.iter().any(|base| {
                let same_kind = matches!(case.load, Load::Threads(_)) == matches!(base.load, Load::Threads(_));
                let differences = usize::from(case.batch_bytes != base.batch_bytes)
                    + usize::from(case.partitions != base.partitions)
                    + usize::from(case.load != base.load);
                same_kind && differences <= 1
            })
        };
        let mut cases = self.all();
        cases.retain(is_near);
        let mut with_half = Vec::new();
        for case in cases {
            with_half.push(case);
            if let (Load::InFlight(count), true) = (case.load, bases.contains(&case)) {
                with_half.push(Case { load: Load::Half(count), ..case });
            }
        }
        with_half
    }

    fn loads(&self) -> impl Iterator<Item = Load> {
        let in_flight = self.in_flight.iter().map(|count| Load::InFlight(*count));
        in_flight.chain(self.threads.iter().map(|count| Load::Threads(*count)))
    }

    /// The case of most interest for each kind of load.
    fn bases(&self) -> Vec<Case> {
        let (Some(&batch_bytes), Some(&partitions)) = (self.batch_bytes.iter().min(), self.partitions.iter().max())
        else {
            return Vec::new();
        };
        let in_flight = self.in_flight.iter().max().map(|count| Load::InFlight(*count));
        let threads = self.threads.iter().max().map(|count| Load::Threads(*count));
        [in_flight, threads].into_iter().flatten().map(|load| Case { batch_bytes, partitions, load }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes() -> Axes {
        Axes {
            batch_bytes: vec![1024, 16_384],
            partitions: vec![1, 8, 64, 1000],
            threads: vec![1, 8, 32, 128],
            in_flight: vec![1, 128, 1024],
        }
    }

    #[test]
    fn all_has_every_combination() {
        assert_eq!(axes().all().len(), 2 * 4 * 7);
    }

    #[test]
    fn one_at_a_time_moves_one_axis_away_from_each_base() {
        let cases = axes().one_at_a_time();
        let of = |wanted: fn(&Load) -> bool| cases.iter().filter(|case| wanted(&case.load)).count();
        // The base, and what differs from it in load, partitions or bytes.
        assert_eq!(of(|load| matches!(load, Load::InFlight(_))), 1 + 2 + 3 + 1);
        assert_eq!(of(|load| matches!(load, Load::Threads(_))), 1 + 3 + 3 + 1);
        assert_eq!(of(|load| matches!(load, Load::Half(_))), 1);
    }

    #[test]
    fn half_load_comes_right_after_the_load_that_it_halves() {
        let cases = axes().one_at_a_time();
        let half = cases.iter().position(|case| matches!(case.load, Load::Half(_))).map(|at| at - 1);
        let base = Case { batch_bytes: 1024, partitions: 1000, load: Load::InFlight(1024) };
        assert_eq!(half.and_then(|at| cases.get(at)), Some(&base));
    }
}
