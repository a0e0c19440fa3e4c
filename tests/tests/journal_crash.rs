//! The log manager on a simulated disk that crashes, fails or fills at every one of its operations.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use duramen_tests::{
    disk::{Crash, Fault},
    durable::{PARTITIONS, Run, Step},
    random::Random,
};
use nix::errno::Errno;

/// What every history begins with: the journal is made.
const BEGIN: [Step; 3] = [Step::Flushed(0, 100), Step::Settle, Step::Poll];

fn histories() -> Vec<(&'static str, Vec<Step>)> {
    use Step::*;
    vec![
        ("journal", vec![Flushed(0, 300), Flushed(1, 300), Poll, Flushed(0, 300), Settle]),
        (
            "mixed",
            vec![Written(0, 200), Flushed(0, 200), Settle, Written(0, 200), Flushed(1, 9000), Written(1, 10), Settle],
        ),
        (
            "pieces",
            vec![
                Flushed(0, 6000),
                Flushed(1, 5000),
                Settle,
                Flushed(0, 6000),
                Flushed(2, 9000),
                Settle,
                Tick,
                Tick,
                Poll,
            ],
        ),
        (
            "truncate",
            vec![Flushed(0, 300), Flushed(0, 300), Settle, Flushed(0, 300), Truncate(0, 2), Flushed(0, 50), Settle],
        ),
        ("start over", vec![Flushed(1, 300), Flushed(1, 5000), Settle, StartOver(1), Flushed(1, 70), Settle]),
        ("recreate", vec![Flushed(2, 300), Settle, Recreate(2), Flushed(2, 30), Settle]),
        (
            "roll",
            vec![Flushed(0, 5000), Roll(0), Flushed(0, 100), Settle, Flushed(0, 100), Roll(0), Settle, Checkpoint],
        ),
        (
            "roll by size",
            vec![
                Flushed(0, 9000),
                Settle,
                Flushed(0, 9000),
                Flushed(0, 3000),
                Settle,
                Flushed(0, 9000),
                Flushed(0, 9000),
                Flushed(0, 9000),
                Written(0, 100),
                Flushed(0, 12_000),
                Poll,
                Flushed(1, 5000),
                Settle,
            ],
        ),
        (
            "close",
            vec![Flushed(0, 5000), Flushed(1, 10), Settle, Reopen, Flushed(0, 10), Settle, Flushed(0, 10), Settle],
        ),
    ]
}

/// Fills the journal several times.
fn wrap() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..24 {
        steps.extend([
            Step::Flushed(round % PARTITIONS, 5000),
            Step::Flushed((round + 1) % PARTITIONS, 900),
            Step::Settle,
        ]);
    }
    steps.extend([Step::Flushed(0, 10), Step::Tick, Step::Settle]);
    steps
}

fn begun(seed: u64) -> (Run, u64) {
    let mut run = Run::new(seed);
    run.go(&BEGIN);
    let operations = run.disk().operations();
    (run, operations)
}

/// Runs a history with a fault at every operation, `stride` apart, and checks what is left.
fn explore(name: &str, steps: &[Step], stride: u64, fault: Fault, check: impl Fn(&Run, u64)) {
    let mut at = 0;
    loop {
        let (mut run, begin) = begun(7);
        run.fail_at(begin + at, fault);
        run.go(steps);
        if run.disk().operations() <= begin + at {
            assert!(at > 1, "{name} did only {at} operations");
            return;
        }
        println!("{name}: {fault:?} at {at}: {}", run.disk().trace().get((begin + at) as usize).unwrap());
        check(&run, at);
        at += stride;
    }
}

#[test]
fn crash_at_every_operation_loses_nothing_acknowledged() {
    for (name, steps) in histories() {
        explore(name, &steps, 1, Fault::Crash, |run, at| {
            for how in [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::ZeroTail, Crash::KeepAll, Crash::Torn(at)] {
                run.check(how);
            }
        });
    }
}

#[test]
fn crash_while_the_journal_is_used_again_loses_nothing_acknowledged() {
    explore("wrap", &wrap(), 3, Fault::Crash, |run, at| {
        for how in [Crash::LoseAllUnsynced, Crash::Random(at)] {
            run.check(how);
        }
    });
}

#[test]
fn crash_of_the_recovery_is_just_another_crash() {
    for (name, steps) in histories() {
        explore(name, &steps, 17, Fault::Crash, |run, at| {
            run.check_with_crashes_of_the_recovery(Crash::LoseAllUnsynced, 2 + at % 3);
        });
    }
}

#[test]
fn failure_at_every_operation_acknowledges_nothing_that_is_not_safe() {
    for (name, steps) in histories() {
        for fault in [
            Fault::Error(Errno::EIO),
            Fault::Short(Errno::ENOSPC),
            Fault::DropPages { errno: Errno::EIO, evict: true },
            Fault::DropPages { errno: Errno::EIO, evict: false },
        ] {
            explore(name, &steps, 2, fault, |run, at| {
                for how in [Crash::LoseAllUnsynced, Crash::Random(at)] {
                    run.check(how);
                }
            });
        }
    }
}

#[test]
fn random_histories_lose_nothing_acknowledged() {
    let seed = std::env::var("DURAMEN_SEED").ok().map_or(20_261_128, |seed| seed.parse().unwrap());
    let count = std::env::var("DURAMEN_SEQUENCES").ok().map_or(150, |count| count.parse().unwrap());
    for number in 0..count {
        let seed = seed + number;
        println!("DURAMEN_SEED={seed} DURAMEN_SEQUENCES=1 at 0: ");
        let mut random = Random::new(seed);
        let steps: Vec<Step> = (0..20 + random.below(60)).map(|_| step(&mut random)).collect();
        let (mut run, begin) = begun(seed);
        let fault = match random.below(4) {
            0 => Fault::Short(Errno::ENOSPC),
            1 => Fault::DropPages { errno: Errno::EIO, evict: random.coin() },
            _ => Fault::Crash,
        };
        run.fail_at(begin + random.below(400) as u64, fault);
        run.go(&steps);
        if std::env::var_os("DURAMEN_STEPS").is_some() {
            run.disk().trace().iter().for_each(|line| println!("{line}"));
        }
        for how in [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::Torn(seed), Crash::Random(seed + 1)] {
            run.check(how);
        }
    }
}

fn step(random: &mut Random) -> Step {
    let partition = random.below(PARTITIONS);
    let len = [10, 300, 2000, 5000, 12_000][random.below(5)];
    match random.below(40) {
        0..=16 => Step::Flushed(partition, len),
        17..=22 => Step::Written(partition, len),
        23..=28 => Step::Settle,
        29..=31 => Step::Poll,
        32..=33 => Step::Tick,
        34 => Step::Roll(partition),
        35 => Step::Truncate(partition, random.below(12)),
        36 => Step::StartOver(partition),
        37 => Step::Checkpoint,
        38 => Step::Recreate(partition),
        _ => Step::Reopen,
    }
}
