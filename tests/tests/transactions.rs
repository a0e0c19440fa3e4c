//! Transactions: what is undecided, what was aborted, and who may begin and end one.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, AppendOrigin, Fetch, Isolation, KafkaErrorCode, LogConfig, OpenOptions,
    format::index_entry::AbortedTxn,
};
use duramen_tests::{
    disk::Fault,
    fixture::{Fixture, NOW_MS, batch, file, files, in_txn, marker, placed, remove_file, write_file},
};
use nix::errno::Errno;

fn log() -> Fixture {
    Fixture::new(LogConfig::default())
}

/// Producer, first and last offset, and last stable offset of every aborted transaction.
fn aborted(log: &Fixture) -> Vec<(i64, i64, i64, i64)> {
    let reader = log.reader();
    let fetch = Fetch { isolation: Isolation::ReadCommitted, max_bytes: u64::MAX >> 1, ..Fetch::from(0) };
    let fetched = reader.read(fetch).unwrap();
    let quadruple = |txn: &AbortedTxn| (txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset);
    fetched.aborted.iter().map(quadruple).collect()
}

/// What one step of the long scenario appends.
#[derive(Clone, Copy)]
enum Step {
    Plain(usize),
    Txn(i64, usize),
    Abort(i64),
    Commit(i64),
}

const STEPS: [Step; 18] = [
    Step::Txn(1, 5),
    Step::Plain(3),
    Step::Txn(2, 2),
    Step::Txn(1, 4),
    Step::Txn(3, 3),
    Step::Plain(2),
    Step::Txn(1, 10),
    Step::Abort(1),
    Step::Txn(2, 6),
    Step::Txn(4, 3),
    Step::Plain(10),
    Step::Txn(3, 9),
    Step::Commit(3),
    Step::Txn(4, 8),
    Step::Txn(2, 7),
    Step::Abort(2),
    Step::Plain(4),
    Step::Commit(4),
];
/// Producer 1 from 0 to its marker at 29 while 2 was open from 8 on; 2 from 8 to 74 while 4 was open from 36 on.
const ABORTED: [(i64, i64, i64, i64); 2] = [(1, 0, 29, 8), (2, 8, 74, 36)];

fn run(log: &mut Fixture) {
    let mut sequences = [0; 5];
    for step in STEPS {
        match step {
            Step::Plain(records) => log.fill(1, records),
            Step::Txn(id, records) => {
                let sequence = &mut sequences[usize::try_from(id).unwrap()];
                log.append(&in_txn(id, 0, *sequence, records)).unwrap();
                *sequence += i32::try_from(records).unwrap();
            }
            Step::Abort(id) | Step::Commit(id) => {
                log.end_txn(id, 0, matches!(step, Step::Commit(_))).unwrap();
            }
        }
    }
}

// M 65
#[test]
fn aborted_transactions_of_a_long_history_are_indexed_and_replicated() {
    let mut leader = log();
    run(&mut leader);
    leader.replicate();
    assert_eq!(aborted(&leader), ABORTED);
    let mut follower = log();
    follower.follow(&leader.content()).unwrap();
    follower.replicate();
    assert_eq!(aborted(&follower), ABORTED);
    assert_eq!(follower.offsets(), leader.offsets());
}

// M 104
#[test]
fn transaction_index_that_is_lost_comes_back_as_it_was() {
    for (segment_bytes, keep_snapshots, only_last) in
        [(1 << 20, true, false), (1500, true, false), (1500, false, false), (1500, true, true), (1500, false, true)]
    {
        let mut log = Fixture::new(LogConfig { segment_bytes, ..LogConfig::default() });
        run(&mut log);
        log.replicate();
        let last = *log.bases().last().unwrap();
        if only_last {
            log.flush_up_to(last).unwrap();
            log.checkpoint();
        }
        let (disk, options) = log.abandon();
        for name in files(&disk) {
            let of_last = name.starts_with(&format!("{last:020}"));
            if (name.ends_with(".txnindex") && (of_last || !only_last))
                || (name.ends_with(".snapshot") && !keep_snapshots)
            {
                remove_file(&disk, &name);
            }
        }
        let log = Fixture::open(disk, options).unwrap();
        assert_eq!(aborted(&log), ABORTED, "{segment_bytes} bytes, {keep_snapshots}, {only_last}");
    }
}

// M 131
#[test]
fn transaction_index_of_wrong_entries_is_made_anew_and_one_of_a_newer_version_refused() {
    let mut log = log();
    log.truncate_fully_and_start_at(100, None, NOW_MS).unwrap();
    for id in [1, 2] {
        log.append(&in_txn(id, 0, 0, 2)).unwrap();
        log.end_txn(id, 0, false).unwrap();
    }
    log.replicate();
    let (disk, options) = log.close();
    let name = "00000000000000000100.txnindex";
    let whole = file(&disk, name).unwrap();
    let (first, second) = whole.split_at(AbortedTxn::SIZE);
    let mut below = AbortedTxn::decode(first).unwrap();
    (below.first_offset, below.last_offset) = (97, 99);
    let mut below_base = Vec::new();
    below.encode(&mut below_base);
    let wrong = [
        ("descending", [second, first].concat()),
        ("repeated", [first, first, second].concat()),
        ("below the base", [&below_base, second].concat()),
        ("torn", whole[..whole.len() - 1].to_vec()),
    ];
    for (what, bytes) in wrong {
        for clean in [true, false] {
            let disk = disk.deep_clone();
            write_file(&disk, name, &bytes);
            let log = Fixture::open(disk, OpenOptions { clean, ..options.clone() }).unwrap();
            let fetch = Fetch { isolation: Isolation::ReadCommitted, ..Fetch::from(100) };
            let found = log.reader().read(fetch).unwrap().aborted;
            assert_eq!(found.iter().map(|txn| txn.last_offset).collect::<Vec<_>>(), [102, 105], "{what}");
            assert_eq!(file(&log.disk, name).unwrap(), whole, "{what}");
        }
    }
    let mut newer = whole.clone();
    newer[1] = 1;
    write_file(&disk, name, &newer);
    assert!(Fixture::open(disk, options).is_err());
}

// M 66
#[test]
fn first_unstable_offset_is_that_of_the_oldest_transaction_until_its_marker_is_replicated() {
    let mut log = log();
    log.fill(2, 2);
    log.replicate();
    assert_eq!((log.first_unstable_offset(), log.offsets().last_stable), (None, 4));
    log.append(&in_txn(1, 0, 0, 3)).unwrap();
    log.append(&in_txn(2, 0, 0, 3)).unwrap();
    log.replicate();
    assert_eq!((log.first_unstable_offset(), log.offsets().last_stable), (Some(4), 4));
    let committed = log.end_txn(1, 0, true).unwrap().last_offset;
    assert_eq!(log.first_unstable_offset(), Some(4));
    log.update_high_watermark(committed);
    assert_eq!(log.first_unstable_offset(), Some(4), "the marker itself is not below the high watermark");
    log.update_high_watermark(committed + 1);
    assert_eq!((log.first_unstable_offset(), log.offsets().last_stable), (Some(7), 7));
    log.end_txn(2, 0, false).unwrap();
    log.replicate();
    assert_eq!((log.first_unstable_offset(), log.offsets().last_stable), (None, 12));
}

// M 67
#[test]
fn last_stable_offset_never_lies_below_the_log_start() {
    let mut log = log();
    log.append(&in_txn(1, 0, 0, 5)).unwrap();
    log.fill(1, 5);
    log.replicate();
    assert_eq!(log.offsets().last_stable, 0);
    log.increment_log_start_offset(3).unwrap();
    assert_eq!((log.offsets().log_start, log.offsets().last_stable), (3, 3));
    log.roll(NOW_MS).unwrap();
    log.fill(1, 2);
    log.replicate();
    log.increment_log_start_offset(10).unwrap();
    log.delete_old_segments(NOW_MS).unwrap();
    assert_eq!((log.bases(), log.offsets().last_stable), (vec![10], 10));
}

// M 68
#[test]
fn old_coordinators_and_producers_are_fenced() {
    let mut log = log();
    let append = AppendAsLeader::new(0, NOW_MS);
    let end = |log: &mut Fixture, epoch, coordinator, version| {
        let append = append.with_transaction_version(version);
        log.append_bytes(marker(1, epoch, false, coordinator), AppendOrigin::Coordinator, append)
            .map_err(|error| error.kafka_error_code())
    };
    log.append(&in_txn(1, 3, 0, 1)).unwrap();
    assert_eq!(end(&mut log, 2, 1, 0), Err(KafkaErrorCode::InvalidProducerEpoch));
    assert_eq!(end(&mut log, 3, 1, 2), Err(KafkaErrorCode::InvalidProducerEpoch), "version 2 bumps the epoch");
    end(&mut log, 3, 1, 0).unwrap();
    assert_eq!(end(&mut log, 3, 0, 0), Err(KafkaErrorCode::TransactionCoordinatorFenced), "the transaction is empty");
    log.append(&in_txn(1, 3, 1, 1)).unwrap();
    assert_eq!(end(&mut log, 3, 0, 0), Err(KafkaErrorCode::TransactionCoordinatorFenced));
    end(&mut log, 4, 1, 2).unwrap();
    end(&mut log, 4, 1, 2).unwrap();
}

// M 69
#[test]
fn transaction_index_that_cannot_be_written_holds_the_stable_offset_and_is_recovered() {
    let mut log = log();
    log.append(&in_txn(1, 0, 0, 10)).unwrap();
    // The stable offset follows each append at once: only the index keeps a reader from records that were aborted.
    log.set_sole_replica();
    log.disk.fail_next(".txnindex", Fault::Error(Errno::EIO));
    assert!(log.end_txn(1, 0, false).is_err());
    assert_eq!((log.offsets().log_end, log.offsets().last_stable), (11, 0));
    log.update_high_watermark(11);
    assert_eq!(log.offsets().last_stable, 0);
    assert!(log.is_poisoned());
    log.disk.heal();
    let (disk, options) = log.abandon();
    let log = Fixture::open(disk, OpenOptions { high_watermark: 11, ..options }).unwrap();
    assert_eq!(aborted(&log), [(1, 0, 10, 11)]);
    assert_eq!((log.offsets().log_end, log.offsets().last_stable), (11, 11));
}

// M 70
#[test]
fn aborted_transaction_over_several_segments_is_told_to_a_reader_from_the_start() {
    let mut log = log();
    for sequence in 0..3 {
        log.append(&in_txn(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    log.end_txn(1, 0, false).unwrap();
    log.replicate();
    assert_eq!(aborted(&log), [(1, 0, 3, 4)]);
    assert!(file(&log.disk, "00000000000000000003.txnindex").is_some());
    assert_eq!(aborted(&log.crash()), [(1, 0, 3, 4)]);
}

// M 137
#[test]
fn read_at_the_first_unstable_offset_knows_where_the_transaction_lies() {
    let mut log = log();
    log.fill(3, 2);
    let position = log.reader().size();
    log.append(&in_txn(1, 0, 0, 2)).unwrap();
    log.roll(NOW_MS).unwrap();
    log.fill(1, 1);
    log.replicate();
    let fetched = log.reader().read(Fetch { isolation: Isolation::ReadCommitted, ..Fetch::from(6) }).unwrap();
    let start = fetched.start.unwrap();
    assert_eq!((start.offset, start.segment_base_offset, start.position), (6, 0, position));
}

// M 138
#[test]
fn late_transaction_is_seen_also_after_a_restart_and_not_after_a_cut() {
    const TIMEOUT_MS: i64 = 900_000;
    const LATE_MS: i64 = NOW_MS + TIMEOUT_MS + 300_000 + 1;
    let mut log = log();
    log.fill(1, 1);
    assert!(!log.has_late_transaction(i64::MAX, TIMEOUT_MS));
    log.append(&in_txn(1, 0, 0, 1)).unwrap();
    for _ in 0..2 {
        assert!(!log.has_late_transaction(LATE_MS - 1, TIMEOUT_MS));
        assert!(log.has_late_transaction(LATE_MS, TIMEOUT_MS));
        log = log.reopen();
    }
    log.truncate_to(1, NOW_MS).unwrap();
    assert!(!log.has_late_transaction(LATE_MS, TIMEOUT_MS));
}

// M 140
#[test]
fn batches_and_marker_in_one_set_make_one_transaction() {
    let mut log = log();
    let batches = [
        placed(in_txn(1, 0, 0, 1).build().unwrap(), 16, 0),
        placed(in_txn(1, 0, 1, 4).build().unwrap(), 17, 0),
        placed(in_txn(1, 0, 5, 2).build().unwrap(), 21, 0),
    ];
    log.truncate_fully_and_start_at(16, None, NOW_MS).unwrap();
    log.follow(&[batches.concat(), placed(marker(1, 0, false, 15), 23, 0)].concat()).unwrap();
    log.replicate();
    let producer = &log.active_producers()[0];
    assert_eq!((producer.last_sequence, producer.coordinator_epoch), (Some(6), Some(15)));
    assert_eq!((producer.batches.len(), producer.current_txn_first_offset), (3, None));
    let fetched = log.reader().read(Fetch { isolation: Isolation::ReadCommitted, ..Fetch::from(16) }).unwrap();
    assert_eq!(fetched.aborted.iter().map(|txn| (txn.first_offset, txn.last_offset)).collect::<Vec<_>>(), [(16, 23)]);
}

// M 144
#[test]
fn restart_brings_open_ended_and_empty_transactions_back() {
    let mut log = log();
    log.append(&in_txn(1, 0, 0, 2)).unwrap();
    log.append(&in_txn(1, 0, 2, 2)).unwrap();
    log.append(&in_txn(2, 0, 0, 2)).unwrap();
    log.end_txn(2, 0, true).unwrap();
    log.end_txn(3, 5, true).unwrap();
    log.replicate();
    let log = log.reopen();
    let found: Vec<_> = log
        .active_producers()
        .iter()
        .map(|one| {
            (one.producer_id, one.producer_epoch, one.last_sequence, one.batches.len(), one.current_txn_first_offset)
        })
        .collect();
    assert_eq!(found, [(1, 0, Some(3), 1, Some(0)), (2, 0, Some(1), 1, None), (3, 5, None, 0, None)]);
    assert_eq!(log.first_unstable_offset(), Some(0));
}

// M 149
#[test]
fn undecided_and_unstable_offsets_move_apart_with_the_high_watermark() {
    let mut log = log();
    log.truncate_fully_and_start_at(99, None, NOW_MS).unwrap();
    log.append(&in_txn(1, 0, 0, 6)).unwrap();
    log.append(&in_txn(2, 0, 0, 4)).unwrap();
    assert_eq!(log.first_unstable_offset(), Some(99));
    log.end_txn(1, 0, true).unwrap();
    let undecided = |log: &Fixture| log.active_producers().iter().filter_map(|one| one.current_txn_first_offset).min();
    assert_eq!((undecided(&log), log.first_unstable_offset()), (Some(105), Some(99)));
    log.update_high_watermark(109);
    assert_eq!(log.first_unstable_offset(), Some(99));
    log.update_high_watermark(110);
    assert_eq!(log.first_unstable_offset(), Some(105));
    log.fill(1, 2);
    log.end_txn(2, 0, false).unwrap();
    assert_eq!((undecided(&log), log.first_unstable_offset()), (None, Some(105)));
    log.update_high_watermark(112);
    assert_eq!(log.first_unstable_offset(), Some(105));
    log.update_high_watermark(113);
    assert_eq!(log.first_unstable_offset(), None);
}

// M 150
#[test]
fn cut_forgets_the_transactions_above_it() {
    let mut log = log();
    log.truncate_fully_and_start_at(99, None, NOW_MS).unwrap();
    log.append(&in_txn(1, 0, 0, 1)).unwrap();
    log.fill(5, 1);
    log.end_txn(1, 0, true).unwrap();
    log.append(&in_txn(2, 0, 0, 2)).unwrap();
    log.replicate();
    assert_eq!(log.first_unstable_offset(), Some(106));
    log.truncate_to(106, NOW_MS).unwrap();
    assert_eq!(log.first_unstable_offset(), None);
    log.truncate_to(100, NOW_MS).unwrap();
    assert_eq!(log.first_unstable_offset(), Some(99));
}

// M 154, 158
#[test]
fn marker_alone_completes_no_transaction() {
    let mut log = log();
    log.end_txn(1, 0, false).unwrap();
    log.end_txn(1, 0, false).unwrap();
    log.replicate();
    assert!(aborted(&log).is_empty());
    assert_eq!(log.offsets().last_stable, 2);
    log.append(&batch(1)).unwrap();
}
