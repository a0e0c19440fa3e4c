//! Guards: the proof that a transaction's coordinator was asked before its first batch is taken.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, DirectoryOptions, LogConfig, LogDirectory, LogError, OpenOptions, TopicPartition, ValidationPolicy,
    VerifiedProducer, validate,
};
use duramen_tests::fixture::{Fixture, NOW_MS, in_txn};

fn verifying() -> Fixture {
    Fixture::with(OpenOptions { verify_transactions: true, ..OpenOptions::new(LogConfig::default(), NOW_MS) })
}

const ASKED: VerifiedProducer =
    VerifiedProducer { producer_id: 1, producer_epoch: 0, sequence: 0, supports_epoch_bump: false };

// M 71, 156
#[test]
fn transaction_begins_with_its_guard_alone_and_the_guard_is_used_up() {
    let mut log = verifying();
    let append = AppendAsLeader::new(0, NOW_MS);
    let refused = log.append(&in_txn(1, 0, 0, 1)).unwrap_err();
    assert!(matches!(refused, LogError::InvalidTxnState { producer_id: 1, .. }), "{refused}");
    let guard = log.start_transaction_verification(ASKED, NOW_MS).unwrap();
    assert!(guard.is_some());
    assert_eq!(log.start_transaction_verification(ASKED, NOW_MS).unwrap(), guard, "asking again joins the first");
    let other = VerifiedProducer { producer_id: 2, ..ASKED };
    let wrong = log.start_transaction_verification(other, NOW_MS).unwrap();
    assert_ne!(wrong, guard);
    assert!(log.append_with(&in_txn(1, 0, 0, 1), append.with_guard(wrong)).is_err());
    log.append_with(&in_txn(1, 0, 0, 1), append.with_guard(guard)).unwrap();
    assert_eq!(log.start_transaction_verification(ASKED, NOW_MS).unwrap(), None, "the transaction is open");
    log.append(&in_txn(1, 0, 1, 1)).unwrap();
    log.end_txn(1, 0, true).unwrap();
    assert!(log.append_with(&in_txn(1, 0, 2, 1), append.with_guard(guard)).is_err());
    let next = log.start_transaction_verification(ASKED, NOW_MS).unwrap();
    assert_ne!(next, guard, "each start makes another guard");
}

// M 71
#[test]
fn marker_of_an_empty_transaction_uses_the_guard_up() {
    let mut log = verifying();
    let guard = log.start_transaction_verification(ASKED, NOW_MS).unwrap();
    log.end_txn(1, 0, false).unwrap();
    let append = AppendAsLeader::new(0, NOW_MS).with_guard(guard);
    assert!(log.append_with(&in_txn(1, 0, 0, 1), append).is_err());
}

// M 71
#[test]
fn transaction_needs_no_guard_where_nobody_verifies() {
    let mut log = Fixture::new(LogConfig::default());
    log.append(&in_txn(1, 0, 0, 1)).unwrap();
    assert!(log.has_ongoing_transaction(1, 0));
}

// M 71
#[test]
fn directory_that_verifies_opens_logs_that_do() {
    let home = tempfile::tempdir().unwrap();
    let options = DirectoryOptions { verify_transactions: true, now_ms: Some(NOW_MS), ..DirectoryOptions::default() };
    let mut directory = LogDirectory::open_with(home.path(), options).unwrap();
    let log = directory.get_or_create(&TopicPartition::new("orders", 0).unwrap(), &LogConfig::default()).unwrap();
    let policy = ValidationPolicy::from_config(&log.config());
    let batch = validate(in_txn(1, 0, 0, 1).build().unwrap(), &policy, NOW_MS).unwrap();
    let refused = log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap_err();
    assert!(matches!(refused, LogError::InvalidTxnState { producer_id: 1, .. }), "{refused}");
}

// M 156
#[test]
fn verification_expires_and_a_higher_epoch_or_lower_sequence_replaces_what_was_asked() {
    let mut log = verifying();
    let append = AppendAsLeader::new(0, NOW_MS);
    let ask = |log: &mut Fixture, producer_epoch, sequence| {
        let asked = VerifiedProducer { producer_epoch, sequence, ..ASKED };
        log.start_transaction_verification(asked, NOW_MS).unwrap()
    };
    let guard = ask(&mut log, 0, 8);
    ask(&mut log, 0, 3);
    ask(&mut log, 0, 6);
    let held_back = log.append_with(&in_txn(1, 0, 8, 1), append.with_guard(guard)).unwrap_err();
    assert!(matches!(held_back, LogError::OutOfOrderSequence { expected: 3, .. }), "{held_back}");
    ask(&mut log, 1, 9);
    let held_back = log.append_with(&in_txn(1, 1, 10, 1), append.with_guard(guard)).unwrap_err();
    assert!(matches!(held_back, LogError::OutOfOrderSequence { expected: 9, .. }), "{held_back}");
    log.remove_expired_producers(NOW_MS + 86_400_000);
    assert!(log.append_with(&in_txn(1, 1, 9, 1), append.with_guard(guard)).is_err());
}
