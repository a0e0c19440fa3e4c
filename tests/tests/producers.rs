//! What a log remembers of its producers, across duplicates, cuts, snapshots and restarts.
#![allow(clippy::unwrap_used)]

use duramen::{AppendAsLeader, AppendOrigin, KafkaErrorCode, LogConfig, LogError, OpenOptions, VerifiedProducer};
use duramen_tests::{
    disk::Fault,
    fixture::{Fixture, NOW_MS, batch, file, in_txn, marker, placed, produced, remove_file, write_file},
};
use nix::errno::Errno;

fn log() -> Fixture {
    Fixture::new(LogConfig::default())
}

/// Producer, epoch and last sequence of all that are known.
fn known(log: &Fixture) -> Vec<(i64, i16, Option<i32>)> {
    log.active_producers().iter().map(|one| (one.producer_id, one.producer_epoch, one.last_sequence)).collect()
}

// M 55
#[test]
fn retry_of_any_of_the_last_five_batches_is_answered_without_an_append() {
    let mut log = log();
    for n in 0..6 {
        log.append(&produced(1, 0, n * 2, 2)).unwrap();
    }
    for n in 1..6 {
        let info = log.append(&produced(1, 0, n * 2, 2)).unwrap();
        assert!(info.is_duplicate);
        assert_eq!((info.first_offset, info.last_offset), (i64::from(n) * 2, i64::from(n) * 2 + 1));
        assert_eq!(log.offsets().log_end, 12);
    }
    for (sequence, records) in [(0, 2), (2, 4), (9, 1), (10, 3), (9, 3)] {
        let refused = log.append(&produced(1, 0, sequence, records)).unwrap_err();
        assert_eq!(refused.kafka_error_code(), KafkaErrorCode::OutOfOrderSequenceNumber, "{sequence} of {records}");
    }
    assert_eq!(log.offsets().log_end, 12);
}

// M 57
#[test]
fn older_epoch_is_fenced_and_an_unknown_producer_may_begin_anywhere() {
    let mut log = log();
    log.append(&produced(1, 2, 17, 1)).unwrap();
    let refused = log.append(&produced(1, 1, 0, 1)).unwrap_err();
    assert_eq!(refused.kafka_error_code(), KafkaErrorCode::InvalidProducerEpoch);
    log.append(&produced(2, 1, 3, 1)).unwrap();
    assert_eq!(known(&log), [(1, 2, Some(17)), (2, 1, Some(3))]);
}

// M 57
#[test]
fn unknown_producer_whose_verification_bumps_epochs_begins_at_zero() {
    for (supports_epoch_bump, taken) in [(true, false), (false, true)] {
        let mut log =
            Fixture::with(OpenOptions { verify_transactions: true, ..OpenOptions::new(LogConfig::default(), NOW_MS) });
        let asked = VerifiedProducer { producer_id: 1, producer_epoch: 0, sequence: 4, supports_epoch_bump };
        let guard = log.start_transaction_verification(asked, NOW_MS).unwrap();
        let append = AppendAsLeader::new(0, NOW_MS).with_guard(guard);
        assert_eq!(log.append_with(&in_txn(1, 0, 4, 1), append).is_ok(), taken, "epoch bumps: {supports_epoch_bump}");
    }
}

// M 58
#[test]
fn producers_mixed_in_one_set_are_all_tracked_and_repeats_keep_the_last_state() {
    let mut log = log();
    let of = |id, sequence| produced(id, 0, sequence, 1).build().unwrap();
    let order = [(1, 0), (2, 0), (3, 0), (4, 0), (1, 1), (2, 1), (3, 1), (4, 1)];
    let set = |from: i64| {
        let batches = order.iter().zip(from..).map(|((id, sequence), offset)| placed(of(*id, *sequence), offset, 0));
        batches.collect::<Vec<_>>().concat()
    };
    log.follow(&set(0)).unwrap();
    assert_eq!(known(&log), (1..=4).map(|id| (id, 0, Some(1))).collect::<Vec<_>>());
    log.follow(&set(8)).unwrap();
    assert_eq!(known(&log), (1..=4).map(|id| (id, 0, Some(1))).collect::<Vec<_>>());
    for producer in log.active_producers() {
        assert_eq!(producer.batches.last().unwrap().last_offset, 11 + producer.producer_id);
    }
}

// M 59
#[test]
fn snapshots_are_taken_at_every_roll_and_at_the_close() {
    let mut log = log();
    for sequence in 0..3 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    assert_eq!((log.bases(), log.snapshots()), (vec![0, 1, 2, 3], vec![1, 2, 3]));
    log.append(&produced(1, 0, 3, 1)).unwrap();
    let log = log.reopen();
    assert_eq!(log.snapshots(), [1, 2, 3, 4]);
    assert_eq!(known(&log), [(1, 0, Some(3))]);
}

// M 61, 91, 142, 155
#[test]
fn snapshots_without_a_segment_go_but_for_the_newest_behind_the_last_base() {
    let mut log = log();
    for sequence in 0..3 {
        log.append(&produced(1, 0, sequence * 2, 2)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    log.append(&produced(1, 0, 6, 3)).unwrap();
    let (disk, options) = log.close();
    let at_end = "00000000000000000009.snapshot";
    let state = file(&disk, at_end).unwrap();
    // Seven and eight lie behind the last base, too, and one of them would be kept if nine were not there.
    for (strays, with_end) in [(vec![3, 5], true), (vec![3, 5], false), (vec![7, 8], true), (vec![3, 100], true)] {
        let disk = disk.deep_clone();
        for stray in &strays {
            write_file(&disk, &format!("{stray:020}.snapshot"), &state);
        }
        if !with_end {
            remove_file(&disk, at_end);
        }
        let log = Fixture::open(disk, options.clone()).unwrap();
        assert_eq!(log.snapshots(), [2, 4, 6, 9], "with {strays:?}");
        assert_eq!(known(&log), [(1, 0, Some(8))]);
    }
}

// M 61: an upgrade from a version without snapshots; here the producers are read from the batches.
#[test]
fn log_that_lost_its_snapshots_gets_them_at_the_last_two_bases_and_the_end() {
    let mut log = log();
    for sequence in 0..4 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    log.append(&produced(1, 0, 4, 1)).unwrap();
    let (disk, options) = log.close();
    for offset in 1..=5 {
        remove_file(&disk, &format!("{offset:020}.snapshot"));
    }
    let forgetting = OpenOptions { replay_lost_producers: false, ..options.clone() };
    let log = Fixture::open(disk.deep_clone(), forgetting).unwrap();
    assert_eq!((known(&log), log.snapshots()), (vec![], vec![3, 4, 5]), "as Kafka does");
    let log = Fixture::open(disk, options).unwrap();
    assert_eq!((known(&log), log.snapshots()), (vec![(1, 0, Some(4))], vec![3, 4, 5]));
}

// M 62, 145, 146: the host calls the removal, so that nothing is left to be stopped when a log goes.
#[test]
fn silent_producers_are_forgotten_unless_their_transaction_is_open() {
    let mut log = Fixture::with(OpenOptions {
        producer_id_expiration_ms: 1000,
        ..OpenOptions::new(LogConfig::default(), NOW_MS)
    });
    log.append(&produced(1, 0, 5, 1)).unwrap();
    log.append(&in_txn(2, 0, 0, 1)).unwrap();
    log.end_txn(3, 7, false).unwrap();
    log.remove_expired_producers(NOW_MS + 999);
    assert_eq!(known(&log), [(1, 0, Some(5)), (2, 0, Some(0)), (3, 7, None)]);
    log.remove_expired_producers(NOW_MS + 1000);
    assert_eq!(known(&log), [(2, 0, Some(0))]);
    log.append(&produced(1, 0, 99, 1)).unwrap();
    let (disk, options) = log.close();
    let log = Fixture::open(disk.deep_clone(), OpenOptions { now_ms: NOW_MS + 999, ..options.clone() }).unwrap();
    assert_eq!(known(&log), [(1, 0, Some(99)), (2, 0, Some(0))]);
    let mut log = Fixture::open(disk, OpenOptions { now_ms: NOW_MS + 5000, ..options }).unwrap();
    assert_eq!(known(&log), [(2, 0, Some(0))], "expired ones do not come back from the snapshot");
    log.append(&produced(1, 0, 3, 1)).unwrap();
}

// M 63
#[test]
fn recovery_point_stays_when_the_snapshot_cannot_be_synced() {
    let mut log = log();
    log.append(&produced(1, 0, 0, 1)).unwrap();
    log.disk.fail_next("sync fixture-0/00000000000000000001.snapshot", Fault::Error(Errno::EIO));
    assert!(log.roll(NOW_MS).is_err());
    assert_eq!(log.offsets().recovery_point, 0);
    assert_eq!(log.bases(), [0]);
}

// M 64
#[test]
fn producers_read_from_a_compacted_log_are_those_that_were_live() {
    let mut config = LogConfig { segment_bytes: 2000, delete_retention_ms: 0, ..LogConfig::default() };
    config.cleanup_policy.compact = true;
    let mut log = Fixture::new(config);
    for n in 0..4 {
        log.append(&produced(1, 0, n * 2, 2)).unwrap();
        log.append(&produced(2, 3, n, 1)).unwrap();
    }
    log.append(&in_txn(3, 0, 0, 2)).unwrap();
    log.end_txn(3, 0, false).unwrap();
    log.append(&batch(1)).unwrap();
    log.roll(NOW_MS).unwrap();
    log.append(&batch(1)).unwrap();
    log.replicate();
    let live = known(&log);
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let go_on = &mut |_| duramen::CleanerControl::Continue;
    log.clean(&to_clean, &duramen::CleanerOptions::default(), NOW_MS, go_on).unwrap();
    assert!(log.batches().iter().any(|batch| batch.records_count() == 0), "an emptied batch keeps a sequence");
    assert!(log.records().len() < 5);
    let (disk, options) = log.close();
    for name in duramen_tests::fixture::files(&disk).iter().filter(|name| name.ends_with(".snapshot")) {
        remove_file(&disk, name);
    }
    let mut log = Fixture::open(disk, OpenOptions { clean: false, ..options }).unwrap();
    assert_eq!(known(&log), live);
    log.append(&produced(1, 0, 8, 1)).unwrap();
}

// M 132
#[test]
fn sequence_must_go_on_and_the_epoch_not_back() {
    let mut log = log();
    log.append(&produced(1, 1, 0, 1)).unwrap();
    log.append(&produced(1, 1, 1, 1)).unwrap();
    for (epoch, sequence, code) in [
        (1, 3, KafkaErrorCode::OutOfOrderSequenceNumber),
        (2, 1, KafkaErrorCode::OutOfOrderSequenceNumber),
        (0, 2, KafkaErrorCode::InvalidProducerEpoch),
    ] {
        assert_eq!(log.append(&produced(1, epoch, sequence, 1)).unwrap_err().kafka_error_code(), code);
    }
    log.append(&produced(1, 1, 2, 1)).unwrap();
}

// M 133
#[test]
fn sequences_go_on_at_zero_after_the_largest() {
    let mut log = log();
    log.append(&produced(1, 0, 2_147_483_637, 20)).unwrap();
    let batch = log.active_producers()[0].batches[0];
    assert_eq!((batch.first_sequence, batch.last_sequence), (Some(2_147_483_637), Some(8)));
    assert_eq!(log.batches()[0].last_sequence(), Some(8));
    let mut at_the_end = self::log();
    at_the_end.append(&produced(1, 0, i32::MAX, 1)).unwrap();
    assert!(at_the_end.append(&produced(1, 0, 1, 1)).is_err());
    at_the_end.append(&produced(1, 0, 0, 1)).unwrap();
}

// M 134, 147
#[test]
fn follower_takes_unknown_producers_and_gaps_in_sequences() {
    let mut log = log();
    for (offset, sequence) in [(0, 37), (1, 900), (2, 5)] {
        log.follow(&placed(produced(1, 0, sequence, 1).build().unwrap(), offset, 0)).unwrap();
        assert_eq!(known(&log), [(1, 0, Some(sequence))]);
    }
    let log = log.crash();
    assert_eq!(known(&log), [(1, 0, Some(5))]);
}

// M 135, 136
#[test]
fn marker_leaves_an_entry_without_batches_from_which_sequences_begin_at_zero() {
    let mut log = log();
    log.end_txn(1, 2, false).unwrap();
    assert_eq!(known(&log), [(1, 2, None)]);
    assert!(log.active_producers()[0].batches.is_empty());
    assert!(log.append(&produced(1, 2, 17, 1)).is_err());
    log.append(&produced(1, 2, 0, 3)).unwrap();
    log.end_txn(1, 3, false).unwrap();
    assert_eq!(known(&log), [(1, 3, None)]);
    for epoch in [3, 4] {
        let refused = log.append(&produced(1, epoch, 2, 1)).unwrap_err();
        assert_eq!(refused.kafka_error_code(), KafkaErrorCode::OutOfOrderSequenceNumber, "epoch {epoch}");
    }
    log.append(&produced(1, 3, 0, 1)).unwrap();
}

// M 139
#[test]
fn refused_batch_changes_nothing_that_can_be_seen() {
    let mut log = log();
    log.append(&in_txn(1, 0, 0, 2)).unwrap();
    let before = (log.active_producers(), log.offsets());
    assert!(log.append(&produced(1, 0, 2, 1)).is_err(), "a plain batch inside a transaction");
    assert!(log.append(&in_txn(1, 0, 5, 1)).is_err());
    assert!(log.append(&in_txn(1, 3, 5, 1)).is_err());
    assert_eq!((log.active_producers(), log.offsets()), before);
}

// M 143
#[test]
fn snapshot_of_an_offset_is_written_once() {
    let mut log = log();
    log.take_producer_snapshot().unwrap();
    assert!(log.snapshots().is_empty(), "there is nothing to know yet");
    log.append(&produced(1, 0, 0, 1)).unwrap();
    log.append(&produced(1, 0, 1, 1)).unwrap();
    log.take_producer_snapshot().unwrap();
    assert_eq!((log.snapshots(), log.snapshot_offsets()), (vec![2], Some((2, 2))));
    let operations = log.disk.operations();
    log.take_producer_snapshot().unwrap();
    assert_eq!(log.disk.operations(), operations);
    log.append(&produced(1, 0, 2, 1)).unwrap();
    log.take_producer_snapshot().unwrap();
    assert_eq!(log.snapshots(), [2, 3]);
}

// M 151
#[test]
fn coordinator_may_leave_sequences_out_of_order() {
    let mut log = log();
    let append = AppendAsLeader::new(0, NOW_MS);
    for sequence in [0, 15, 3] {
        let bytes = in_txn(1, 0, sequence, 1).build().unwrap();
        log.append_bytes(bytes, AppendOrigin::Coordinator, append).unwrap();
        assert_eq!(known(&log), [(1, 0, Some(sequence))]);
    }
    assert!(log.append(&in_txn(1, 0, 17, 1)).is_err(), "a client may not");
}

// M 153
#[test]
fn damaged_snapshot_is_discarded_and_the_producers_are_read_again() {
    let mut log = log();
    log.append(&produced(1, 0, 0, 1)).unwrap();
    let (disk, options) = log.close();
    let name = "00000000000000000001.snapshot";
    let whole = file(&disk, name).unwrap();
    let mut damaged: Vec<_> = (0..whole.len())
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    damaged.extend([Vec::new(), whole[..whole.len() - 1].to_vec(), whole[..5].to_vec(), vec![37; 20]]);
    for bytes in damaged {
        let disk = disk.deep_clone();
        write_file(&disk, name, &bytes);
        let log = Fixture::open(disk, OpenOptions { clean: false, ..options.clone() }).unwrap();
        assert_eq!(known(&log), [(1, 0, Some(0))], "{bytes:?}");
    }
}

// M 148
#[test]
fn snapshots_below_the_first_segment_go_with_retention() {
    let mut log = log();
    for sequence in 0..3 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    log.replicate();
    assert_eq!(log.snapshots(), [1, 2, 3]);
    for (offset, left) in [(2, vec![2, 3]), (3, vec![3])] {
        log.increment_log_start_offset(offset).unwrap();
        log.delete_old_segments(NOW_MS).unwrap();
        assert_eq!(log.snapshots(), left);
    }
}

// M 152
#[test]
fn marker_of_an_older_producer_or_coordinator_is_refused_also_after_a_restart() {
    let mut log = log();
    log.append(&in_txn(1, 5, 0, 1)).unwrap();
    let append = AppendAsLeader::new(0, NOW_MS);
    let end = |log: &mut Fixture, epoch, coordinator| {
        log.append_bytes(marker(1, epoch, true, coordinator), AppendOrigin::Coordinator, append)
    };
    end(&mut log, 5, 10).unwrap();
    for reopen in [false, true] {
        if reopen {
            log = log.reopen();
        }
        assert!(matches!(end(&mut log, 4, 10), Err(LogError::InvalidProducerEpoch { known: 5, .. })));
        assert!(matches!(end(&mut log, 5, 9), Err(LogError::TransactionCoordinatorFenced { known: 10, .. })));
    }
}
