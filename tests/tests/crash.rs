//! Crashes at every operation of every short sequence of steps, on the simulated disk; and of the recovery itself.
//!
//! `DURAMEN_SEED` chooses the random sequences; a failure prints the sequence, the operation and the kind of crash.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen_tests::{
    disk::{Crash, Fault, SimDisk},
    history::{self, History, Step},
    random::Random,
};
use nix::errno::Errno;
use std::panic::{self, AssertUnwindSafe};

const STEPS: [Step; 7] =
    [Step::Append(3), Step::Flush, Step::Roll, Step::Truncate(2), Step::Reopen, Step::Abandon, Step::StartAt(5)];
const CRASHES: [Crash; 6] =
    [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::ZeroTail, Crash::Random(1), Crash::Torn(2)];

/// Runs the steps with a crash at an operation; the disk and what it owes.
fn crashed_at(steps: &[Step], number: u64, seed: u64) -> (SimDisk, History) {
    let disk = SimDisk::new(seed);
    disk.crash_at(number);
    let mut history = History::default();
    let result = history.run(&history::on(&disk), steps);
    assert!(result.is_err() == disk.crashed(), "{result:?}");
    (disk, history)
}

/// Operations that the steps take without a crash.
fn operations(steps: &[Step], seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    History::default().run(&history::on(&disk), steps).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
    disk.operations()
}

fn named(what: String, check: impl FnOnce()) {
    if let Err(failure) = panic::catch_unwind(AssertUnwindSafe(check)) {
        let text = failure.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into());
        panic!("{what}: {text}");
    }
}

/// Every crash of one sequence; the number of disks that were checked.
fn explore(steps: &[Step], seed: u64) -> usize {
    let mut checked = 0;
    for number in 0..=operations(steps, seed) {
        let (disk, history) = crashed_at(steps, number, seed);
        for how in CRASHES {
            named(format!("{steps:?}, seed {seed}, crash at operation {number}, {how:?}"), || {
                history.check(&history::on(&disk.crash_image(how)), how);
            });
            checked += 1;
        }
    }
    checked
}

#[test]
fn every_crash_of_every_sequence_of_three_steps_keeps_the_promises() {
    let mut checked = 0;
    for a in STEPS {
        for b in STEPS {
            for c in STEPS {
                checked += explore(&[Step::Append(1), a, b, c], 7);
            }
        }
    }
    println!("{checked} crashed disks checked");
    assert!(checked > 10_000);
}

fn seed() -> u64 {
    let seed = std::env::var("DURAMEN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("DURAMEN_SEED={seed}");
    seed
}

fn random_steps(random: &mut Random, len: usize) -> Vec<Step> {
    let step = |random: &mut Random| match random.below(12) {
        0..=4 => Step::Append(u8::try_from(1 + random.below(6)).unwrap()),
        5 | 6 => Step::Flush,
        7 => Step::Roll,
        8 => Step::Truncate(u8::try_from(random.below(8)).unwrap()),
        9 => Step::Reopen,
        10 => Step::Abandon,
        _ => Step::StartAt(u8::try_from(random.below(4)).unwrap()),
    };
    (0..len).map(|_| step(random)).collect()
}

#[test]
fn random_sequences_survive_crashes_at_random_operations() {
    let mut random = Random::new(seed());
    for _ in 0..150 {
        let steps = random_steps(&mut random, 14);
        let seed = random.next();
        let operations = operations(&steps, seed);
        for _ in 0..12 {
            let number = random.next() % operations;
            let (disk, history) = crashed_at(&steps, number, seed);
            let how = Crash::Random(random.next());
            named(format!("{steps:?}, seed {seed}, crash at operation {number}, {how:?}"), || {
                history.check(&history::on(&disk.crash_image(how)), how);
            });
        }
    }
}

#[test]
fn crash_of_the_recovery_is_just_another_crash() {
    let steps = [
        Step::Append(5),
        Step::Append(5),
        Step::Flush,
        Step::Append(5),
        Step::Roll,
        Step::Append(4),
        Step::Truncate(6),
        Step::Append(2),
    ];
    let seed = 3;
    for number in 0..=operations(&steps, seed) {
        let (disk, history) = crashed_at(&steps, number, seed);
        let how = Crash::Random(number);
        let mut at = 0;
        loop {
            let again = disk.crash_image(how);
            again.crash_at(at);
            let mut open = history::open(&history::on(&again));
            if let Ok(directory) = &mut open {
                let _ = directory.get_or_create(&history::partition(), &history::config());
            }
            if !again.crashed() {
                break;
            }
            for how in [Crash::LoseAllUnsynced, Crash::Random(at)] {
                named(format!("crash at operation {number}, then at {at} of the recovery, {how:?}"), || {
                    history.check(&history::on(&again.crash_image(how)), how);
                });
            }
            at += 1;
        }
        assert!(at > 0);
    }
}

#[test]
fn disk_full_at_any_operation_leaves_a_log_that_goes_on() {
    let steps = [Step::Append(5), Step::Append(5), Step::Flush, Step::Roll, Step::Append(6), Step::Append(3)];
    for fault in [Fault::Error(Errno::ENOSPC), Fault::Short(Errno::ENOSPC)] {
        for number in 0..operations(&steps, 5) {
            let disk = SimDisk::new(5);
            disk.fail_at(number, fault);
            let mut history = History::default();
            let _ = history.run(&history::on(&disk), &steps);
            for how in [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::Random(number)] {
                named(format!("{fault:?} at operation {number}, {how:?}"), || {
                    history.check(&history::on(&disk.crash_image(how)), how)
                });
            }
        }
    }
}

#[test]
fn failed_write_or_sync_is_never_acknowledged() {
    let steps = [
        Step::Append(5),
        Step::Flush,
        Step::Append(5),
        Step::Flush,
        Step::Append(6),
        Step::Roll,
        Step::Append(3),
        Step::Flush,
    ];
    for number in 0..operations(&steps, 9) {
        let disk = SimDisk::new(9);
        disk.fail_at(number, Fault::Error(Errno::EIO));
        let mut history = History::default();
        let failed = history.run(&history::on(&disk), &steps);
        assert!(failed.is_err(), "operation {number} failed and nobody noticed");
        for how in [Crash::LoseAllUnsynced, Crash::Random(number)] {
            named(format!("EIO at operation {number}, {how:?}"), || {
                history.check(&history::on(&disk.crash_image(how)), how)
            });
        }
    }
}

#[test]
fn after_a_failed_sync_the_log_takes_no_more_writes() {
    let disk = SimDisk::new(1);
    let mut directory = history::open(&history::on(&disk)).unwrap();
    let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
    let mut history = History::default();
    history.step(log, Step::Append(3)).unwrap();
    disk.fail_at(disk.operations(), Fault::Error(Errno::EIO));
    history.step(log, Step::Flush).unwrap_err();
    assert!(log.is_poisoned());
    assert_eq!(log.offsets().recovery_point, 0);
    assert!(history.step(log, Step::Flush).unwrap_err().is_poisoned(), "a sync is not tried again");
    assert!(history.step(log, Step::Append(1)).unwrap_err().is_poisoned());
    assert!(!history::read_all(log).is_empty(), "reads go on");
}

#[test]
fn bytes_that_a_failed_sync_lost_are_not_recovered_from_the_cache() {
    for evict in [false, true] {
        let disk = SimDisk::new(1);
        let mut directory = history::open_log(&history::on(&disk)).unwrap();
        let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
        let mut history = History::default();
        history.step(log, Step::Append(3)).unwrap();
        history.step(log, Step::Flush).unwrap();
        history.step(log, Step::Append(3)).unwrap();
        disk.fail_at(disk.operations(), Fault::DropPages { errno: Errno::EIO, evict });
        history.step(log, Step::Flush).unwrap_err();
        drop(directory);
        // The disk works again, and the next sync says yes: what it acknowledges has to be there.
        let mut directory = history::open_log(&history::on(&disk)).unwrap();
        assert!(directory.report().sync_failed);
        let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
        log.flush().unwrap();
        let acknowledged = log.offsets().recovery_point;
        assert!(acknowledged >= 3);
        let after = disk.crash_image(Crash::LoseAllUnsynced);
        let mut directory = history::open_log(&history::on(&after)).unwrap();
        let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
        assert!(log.offsets().log_end >= acknowledged, "P4: {acknowledged} was acknowledged, {:?}", log.offsets());
        history.check(&history::on(&disk.crash_image(Crash::ProcessOnly)), Crash::LoseAllUnsynced);
    }
}

#[test]
fn equal_seeds_give_equal_traces() {
    let trace = || {
        let disk = SimDisk::new(11);
        let mut random = Random::new(4);
        History::default().run(&history::on(&disk), &random_steps(&mut random, 30)).unwrap();
        disk.trace()
    };
    assert!(trace() == trace() && !trace().is_empty());
}

/// Starting over empties the old log first; a checkpointed log start must not lie above what is left of it then.
#[test]
fn starting_over_above_a_moved_log_start_survives_a_crash_at_every_operation() {
    for number in 0.. {
        let disk = SimDisk::new(7);
        let storage = history::on(&disk);
        let mut directory = history::open_log(&storage).unwrap();
        let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
        let mut appended = History::default();
        appended.step(log, Step::Append(3)).unwrap();
        log.update_high_watermark(3);
        log.increment_log_start_offset(2).unwrap();
        directory.checkpoint().unwrap();
        disk.crash_at(disk.operations() + number);
        let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
        let done = log.truncate_fully_and_start_at(5, None, history::NOW_MS).is_ok();
        for how in CRASHES {
            let image = disk.crash_image(how);
            let opened = history::open_log(&history::on(&image));
            assert!(opened.is_ok(), "crashed at operation {number}, {how:?}: {opened:?}");
        }
        if done {
            break;
        }
    }
}
