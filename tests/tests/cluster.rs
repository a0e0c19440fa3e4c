//! Clusters of real logs under crashes, lost messages and elections: what was committed stays, and replicas agree.
//!
//! `DURAMEN_SEED` chooses the first seed, `DURAMEN_CLUSTER_RUNS` the number of runs of each kind. A failure prints its
//! seed; `DURAMEN_SEED=<seed> DURAMEN_CLUSTER_RUNS=1` runs it alone.
#![allow(clippy::unwrap_used)]

use duramen_tests::cluster::{self, Faults, Summary};
use std::panic::{self, AssertUnwindSafe};

const STEPS: usize = 400;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |value| value.parse().unwrap())
}

/// Runs many seeds; what happened in all of them.
fn campaign(faults: Faults, runs: u64) -> Summary {
    let (first, runs) = (number("DURAMEN_SEED", 1), number("DURAMEN_CLUSTER_RUNS", runs));
    let mut total = Summary::default();
    for seed in first..first + runs {
        match panic::catch_unwind(AssertUnwindSafe(|| cluster::run(seed, faults, STEPS))) {
            Ok(summary) => total.add(&summary),
            Err(cause) => {
                eprintln!("{faults:?}: DURAMEN_SEED={seed}");
                panic::resume_unwind(cause);
            }
        }
    }
    eprintln!("{faults:?}, seeds {first} to {}: {total:?}", first + runs - 1);
    // What never happened proves nothing.
    if runs >= 50 {
        assert!(total.acknowledged > 0 && total.elections > 0 && total.crashes > 0 && total.truncations > 0);
    }
    total
}

#[test]
fn committed_records_survive_process_crashes_under_clean_elections() {
    let total = campaign(Faults::Processes, 300);
    assert_eq!(total.unclean_elections, 0);
}

#[test]
fn committed_records_survive_power_loss_of_every_broker_if_flushed_first() {
    let total = campaign(Faults::Power, 300);
    assert_eq!(total.unclean_elections, 0);
}

#[test]
fn replicas_agree_after_unclean_elections() {
    campaign(Faults::UncleanElections, 300);
}
