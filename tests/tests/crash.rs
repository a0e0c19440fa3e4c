//! Crashes at every operation of every short sequence of steps, on the simulated disk; and of the recovery itself.
//!
//! `DURAMEN_SEED` chooses the random sequences; a failure prints the sequence, the operation and the kind of crash.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen_tests::{
    disk::{Crash, Fault, SimDisk},
    history::{self, History, Retention, Step},
    random::Random,
};
use nix::errno::Errno;
use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

const STEPS: [Step; 7] =
    [Step::Append(3), Step::Flush, Step::Roll, Step::Truncate(2), Step::Reopen, Step::Abandon, Step::StartAt(5)];
const CRASHES: [Crash; 6] =
    [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::ZeroTail, Crash::Random(1), Crash::Torn(2)];

/// Steps about transactions, what is removed, and what is kept beside the log.
const NEW_STEPS: [Step; 17] = [
    Step::Produce(0),
    Step::Transact(0),
    Step::Transact(1),
    Step::End(0, true),
    Step::End(0, false),
    Step::HighWatermark(0),
    Step::DeleteRecords(2),
    Step::DeleteRecords(1),
    Step::Retain(Retention::LogStart),
    Step::Retain(Retention::Size),
    Step::Retain(Retention::Time),
    Step::Sweep,
    Step::Follow(1),
    Step::Epoch,
    Step::Snapshot,
    Step::Checkpoint,
    Step::Truncate(2),
];

fn history(compacted: bool) -> History {
    if compacted { History::compacted() } else { History::default() }
}

/// Runs the steps with a crash at an operation; the disk and what it owes.
fn crashed_at(steps: &[Step], number: u64, seed: u64) -> (SimDisk, History) {
    crash(History::default(), steps, number, seed)
}

fn crash(mut history: History, steps: &[Step], number: u64, seed: u64) -> (SimDisk, History) {
    let disk = SimDisk::new(seed);
    disk.crash_at(number);
    let result = history.run(&history::on(&disk), steps);
    assert!(result.is_err() == disk.crashed(), "{result:?}");
    (disk, history)
}

/// Operations that the steps take without a crash.
fn operations(steps: &[Step], seed: u64) -> u64 {
    operations_of(History::default(), steps, seed)
}

fn operations_of(mut history: History, steps: &[Step], seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    history.run(&history::on(&disk), steps).unwrap_or_else(|error| panic!("{steps:?}: {error}"));
    disk.operations()
}

fn named(what: String, check: impl FnOnce()) {
    if let Err(failure) = panic::catch_unwind(AssertUnwindSafe(check)) {
        let text = failure.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into());
        panic!("{what}: {text}");
    }
}

/// Steps, in the last of which the system stops: stopping in an earlier one is another sequence.
#[derive(Debug, Clone)]
struct Sequence {
    compacted: bool,
    steps: Vec<Step>,
}

/// All sequences of prepared steps and then of one from each list, or of one from the first list, and so on.
fn sequences(compacted: bool, prepared: &[Step], lists: &[&[Step]]) -> Vec<Sequence> {
    let mut all = Vec::new();
    let mut longest = vec![prepared.to_vec()];
    for list in lists {
        let longer = longest.iter().flat_map(|steps| list.iter().map(|step| [steps.as_slice(), &[*step]].concat()));
        longest = longer.collect();
        all.extend(longest.iter().map(|steps| Sequence { compacted, steps: steps.clone() }));
    }
    all
}

/// Every crash in the last step of a sequence, and after it; the number of disks that were checked.
fn explore(sequence: &Sequence, seed: u64) -> usize {
    let Sequence { compacted, steps } = sequence;
    let before = operations_of(history(*compacted), &steps[..steps.len() - 1], seed);
    let mut checked = 0;
    for number in before..=operations_of(history(*compacted), steps, seed) {
        let (disk, history) = crash(history(*compacted), steps, number, seed);
        for (how, image) in disk.distinct_crash_images(CRASHES) {
            named(format!("{steps:?}, seed {seed}, crash at operation {number}, {how:?}"), || {
                history.check(&history::on(&image), how);
            });
            checked += 1;
        }
    }
    checked
}

/// Every crash of every sequence, on all cores; the number of disks that were checked.
fn explore_all(sequences: &[Sequence], seed: u64) -> usize {
    let next = AtomicUsize::new(0);
    let checked = AtomicUsize::new(0);
    let work = || {
        while let Some(sequence) = sequences.get(next.fetch_add(1, Ordering::Relaxed)) {
            checked.fetch_add(explore(sequence, seed), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap_or_else(|failure| panic::resume_unwind(failure));
        }
    });
    let checked = checked.into_inner();
    println!("{checked} crashed disks of {} sequences checked", sequences.len());
    checked
}

#[test]
fn every_crash_of_every_sequence_of_three_steps_keeps_the_promises() {
    let all = sequences(false, &[], &[&[Step::Append(1)], &STEPS, &STEPS, &STEPS]);
    assert!(explore_all(&all, 7) > 10_000);
}

/// Two producers, a transaction that was aborted and one that is open, three segments, everything committed.
const PREPARED: [Step; 8] = [
    Step::Transact(0),
    Step::Transact(1),
    Step::Roll,
    Step::End(0, false),
    Step::Produce(0),
    Step::Roll,
    Step::Append(3),
    Step::HighWatermark(0),
];

const OLD_STEPS: [Step; 5] = [Step::Append(3), Step::Flush, Step::Roll, Step::Abandon, Step::StartAt(3)];

#[test]
fn every_crash_of_every_pair_of_new_steps_keeps_the_promises() {
    let mut all = sequences(false, &PREPARED, &[&NEW_STEPS, &NEW_STEPS]);
    all.extend(sequences(false, &PREPARED, &[&NEW_STEPS, &OLD_STEPS]));
    assert!(explore_all(&all, 11) > 1_000);
}

#[test]
fn every_crash_of_a_new_step_among_old_ones_keeps_the_promises() {
    let old = &OLD_STEPS[..3];
    let mut all = sequences(false, &PREPARED, &[old, &NEW_STEPS, old]);
    // What was removed below a checkpoint, and a log that starts over or is cut at its start.
    let removes = [Step::DeleteRecords(1), Step::Retain(Retention::Time), Step::Retain(Retention::Size), Step::Epoch];
    let ends = [Step::StartAt(3), Step::Truncate(200), Step::Truncate(2), Step::Abandon];
    all.extend(sequences(false, &PREPARED, &[&removes, &[Step::Checkpoint, Step::Sweep], &ends]));
    assert!(explore_all(&all, 13) > 1_000);
}

#[test]
fn every_crash_of_a_compacted_log_keeps_the_promises() {
    let others = [
        Step::Append(3),
        Step::Produce(0),
        Step::Roll,
        Step::DeleteRecords(3),
        Step::Retain(Retention::LogStart),
        Step::Retain(Retention::Size),
        Step::Checkpoint,
        Step::Abandon,
        Step::Truncate(2),
        Step::StartAt(2),
    ];
    let prepared = [&PREPARED[..], &[Step::End(1, false), Step::Roll]].concat();
    let mut all = sequences(true, &prepared, &[&others, &[Step::Compact]]);
    all.extend(sequences(true, &prepared, &[&[Step::Compact], &others]));
    let open = [&PREPARED[..], &[Step::Roll, Step::Compact, Step::End(1, false), Step::Roll]].concat();
    all.extend(sequences(true, &open, &[&[Step::Append(3), Step::Checkpoint], &[Step::Compact]]));
    assert!(explore_all(&all, 17) > 1_000);
}

fn seed() -> u64 {
    let seed = std::env::var("DURAMEN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("DURAMEN_SEED={seed}");
    seed
}

fn small(random: &mut Random, end: usize) -> u8 {
    u8::try_from(random.below(end)).unwrap()
}

fn random_steps(random: &mut Random, len: usize) -> Vec<Step> {
    let step = |random: &mut Random| match random.below(12) {
        0..=4 => Step::Append(1 + small(random, 6)),
        5 | 6 => Step::Flush,
        7 => Step::Roll,
        8 => Step::Truncate(small(random, 8)),
        9 => Step::Reopen,
        10 => Step::Abandon,
        _ => Step::StartAt(small(random, 4)),
    };
    (0..len).map(|_| step(random)).collect()
}

fn random_new_steps(random: &mut Random, len: usize, compacted: bool) -> Vec<Step> {
    let step = |random: &mut Random| match random.below(30) {
        0..=2 => Step::Produce(small(random, 2)),
        3..=7 => Step::Transact(small(random, 2)),
        8..=10 => Step::End(small(random, 2), random.coin()),
        11..=13 => Step::HighWatermark(small(random, 4)),
        14 | 15 => Step::DeleteRecords(small(random, 6)),
        16 => Step::Retain(Retention::LogStart),
        17 => Step::Retain(Retention::Size),
        18 => Step::Retain(Retention::Time),
        19 => Step::Sweep,
        20 => Step::Follow(small(random, 3)),
        21 => Step::Epoch,
        22 => Step::Snapshot,
        23 | 24 => Step::Checkpoint,
        25 | 26 if compacted => Step::Compact,
        _ => random_steps(random, 1)[0],
    };
    (0..len).map(|_| step(random)).collect()
}

fn explore_randomly(random: &mut Random, compacted: bool, steps: &[Step], crashes: usize) {
    let seed = random.next();
    let operations = operations_of(history(compacted), steps, seed);
    for _ in 0..crashes {
        let number = random.next() % operations;
        let (disk, history) = crash(history(compacted), steps, number, seed);
        let how = if random.coin() { Crash::Random(random.next()) } else { CRASHES[random.below(CRASHES.len())] };
        named(format!("{steps:?}, seed {seed}, crash at operation {number}, {how:?}"), || {
            history.check(&history::on(&disk.crash_image(how)), how);
        });
    }
}

fn sequences_of_random_steps() -> usize {
    std::env::var("DURAMEN_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

#[test]
fn random_sequences_survive_crashes_at_random_operations() {
    let mut random = Random::new(seed());
    for _ in 0..sequences_of_random_steps() {
        let steps = random_steps(&mut random, 14);
        explore_randomly(&mut random, false, &steps, 12);
    }
}

#[test]
fn random_sequences_of_all_steps_survive_crashes_at_random_operations() {
    let mut random = Random::new(seed());
    for number in 0..sequences_of_random_steps() {
        let compacted = number % 3 == 0;
        let steps = random_new_steps(&mut random, 20, compacted);
        explore_randomly(&mut random, compacted, &steps, 12);
    }
}

#[test]
fn crash_of_the_recovery_of_new_steps_is_just_another_crash() {
    let lists: [(bool, &[Step]); 4] = [
        (false, &[Step::Checkpoint, Step::DeleteRecords(5), Step::Retain(Retention::LogStart), Step::Transact(0)]),
        (false, &[Step::Retain(Retention::Time), Step::Transact(1), Step::Epoch, Step::Append(3)]),
        (false, &[Step::Follow(2), Step::End(1, false), Step::Checkpoint, Step::Truncate(3), Step::Produce(0)]),
        (true, &[Step::End(1, false), Step::Roll, Step::Compact, Step::DeleteRecords(3)]),
    ];
    let mut checked = 0;
    for (compacted, list) in lists {
        let steps = [&PREPARED[..], list].concat();
        let first = operations_of(history(compacted), &PREPARED, 3);
        for number in (first..=operations_of(history(compacted), &steps, 3)).step_by(2) {
            let (disk, history) = crash(history(compacted), &steps, number, 3);
            let how = CRASHES[usize::try_from(number).unwrap() / 2 % 5];
            for at in 0.. {
                let again = disk.crash_image(how);
                again.crash_at(at);
                drop(history::open_log(&history::on(&again)));
                if !again.crashed() {
                    break;
                }
                let second = if at % 2 == 0 { Crash::LoseAllUnsynced } else { Crash::Random(at) };
                named(
                    format!("{steps:?}, crash at {number}, {how:?}, then at {at} of the recovery, {second:?}"),
                    || {
                        history.check(&history::on(&again.crash_image(second)), second);
                    },
                );
                checked += 1;
            }
        }
    }
    println!("{checked} crashed recoveries checked");
    assert!(checked > 500);
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
