//! What a leader asks of producers, and what is remembered of them, rule by rule.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    format::{
        batch::{BatchHeader, assign_in_place},
        builder::{BatchBuilder, end_txn_marker},
    },
    log::AppendOrigin,
};

const ID: ProducerId = 7;
const NOW_MS: Timestamp = 1_700_000_000_000;

/// A batch of so many records.
fn batch(epoch: ProducerEpoch, sequence: i32, records: i32, transactional: bool) -> BatchBuilder {
    let mut builder = BatchBuilder::new().producer(ID, epoch, sequence);
    if transactional {
        builder = builder.transactional();
    }
    for _ in 0..records {
        builder = builder.record(NOW_MS, None, None);
    }
    builder
}

fn header(builder: &BatchBuilder, base_offset: Offset) -> BatchHeader {
    let mut bytes = builder.build().unwrap();
    assign_in_place(&mut bytes, base_offset, 0).unwrap();
    BatchHeader::decode(&bytes).unwrap()
}

fn marker(epoch: ProducerEpoch, coordinator_epoch: i32, base_offset: Offset) -> (BatchHeader, EndTxnMarker) {
    let marker = EndTxnMarker { committed: false, coordinator_epoch };
    let mut bytes = end_txn_marker(ID, epoch, marker, NOW_MS).unwrap();
    assign_in_place(&mut bytes, base_offset, 0).unwrap();
    (BatchHeader::decode(&bytes).unwrap(), marker)
}

fn claims() -> Claims {
    Claims { origin: AppendOrigin::Client, guard: None, transaction_version: 0, verification_enabled: false }
}

/// A log of one producer.
#[derive(Default)]
struct Log {
    state: ProducerState,
    end: Offset,
}

impl Log {
    fn check(&self, builder: &BatchBuilder) -> Result<Option<ProducedBatch>, LogError> {
        self.state.check(&header(builder, self.end), None, &claims())
    }

    fn append(&mut self, builder: &BatchBuilder) {
        let header = header(builder, self.end);
        assert_eq!(self.state.check(&header, None, &claims()).unwrap(), None);
        self.state.note(&header, None);
        self.end = header.next_offset();
    }

    fn end_txn(&mut self, epoch: ProducerEpoch, coordinator_epoch: i32, version: i16) -> Result<bool, LogError> {
        let (header, marker) = marker(epoch, coordinator_epoch, self.end);
        let claims = Claims { origin: AppendOrigin::Coordinator, transaction_version: version, ..claims() };
        self.state.check(&header, Some(marker), &claims)?;
        let completed = self.state.note(&header, Some(marker));
        self.end = header.next_offset();
        Ok(completed.and_then(|txn| self.state.complete(txn)).is_some())
    }
}

fn is_out_of_order(result: Result<Option<ProducedBatch>, LogError>) -> Option<i32> {
    match result {
        Err(LogError::OutOfOrderSequence { expected, .. }) => Some(expected),
        _ => None,
    }
}

// M 55, 132
#[test]
fn retry_of_the_last_five_batches_is_answered_and_an_older_one_refused() {
    let mut log = Log::default();
    for n in 0..6 {
        log.append(&batch(0, n * 2, 2, false));
    }
    for n in 1..6 {
        let known = log.check(&batch(0, n * 2, 2, false)).unwrap().unwrap();
        assert_eq!((known.first_offset, known.last_offset), (i64::from(n) * 2, i64::from(n) * 2 + 1));
    }
    assert_eq!(is_out_of_order(log.check(&batch(0, 0, 2, false))), Some(12));
    assert_eq!(is_out_of_order(log.check(&batch(0, 10, 1, false))), Some(12), "a part of a batch is no retry");
}

// M 133
#[test]
fn sequences_continue_and_wrap() {
    let mut log = Log::default();
    log.append(&batch(0, i32::MAX - 1, 3, false));
    assert_eq!(log.state.active()[0].last_sequence, Some(0));
    assert_eq!(is_out_of_order(log.check(&batch(0, 2, 1, false))), Some(1));
    log.append(&batch(0, 1, 1, false));
    let mut at_the_end = Log::default();
    at_the_end.append(&batch(0, i32::MAX, 1, false));
    assert_eq!(is_out_of_order(at_the_end.check(&batch(0, 1, 1, false))), Some(0));
    at_the_end.append(&batch(0, 0, 1, false));
}

// M 57
#[test]
fn unknown_producer_begins_anywhere_and_a_new_epoch_at_zero() {
    let mut log = Log::default();
    log.append(&batch(3, 17, 1, false));
    assert_eq!(is_out_of_order(log.check(&batch(4, 18, 1, false))), Some(0));
    assert!(matches!(log.check(&batch(2, 0, 1, false)), Err(LogError::InvalidProducerEpoch { known: 3, .. })));
    log.append(&batch(4, 0, 1, false));
    assert_eq!(log.state.active()[0].batches.len(), 1, "the batches of the old epoch say nothing any more");
}

// M 141
#[test]
fn plain_batch_inside_a_transaction_is_refused() {
    let mut log = Log::default();
    log.append(&batch(0, 0, 1, true));
    assert!(matches!(log.check(&batch(0, 1, 1, false)), Err(LogError::InvalidTxnState { .. })));
    assert!(log.state.has_ongoing_transaction(ID, 0) && !log.state.has_ongoing_transaction(ID, 1));
}

// M 136, 152
#[test]
fn marker_ends_the_transaction_and_fences() {
    let mut log = Log::default();
    log.append(&batch(1, 0, 2, true));
    assert!(matches!(log.end_txn(0, 5, 0), Err(LogError::InvalidProducerEpoch { .. })));
    assert!(log.end_txn(1, 5, 0).unwrap());
    assert!(!log.end_txn(1, 5, 0).unwrap(), "an empty transaction completes nothing");
    assert!(matches!(log.end_txn(1, 4, 0), Err(LogError::TransactionCoordinatorFenced { known: 5, .. })));
    log.append(&batch(1, 2, 1, true));
    assert!(log.end_txn(2, 5, 0).unwrap(), "a marker may bump the epoch");
    assert!(log.state.active()[0].batches.is_empty());
    assert_eq!(is_out_of_order(log.check(&batch(2, 3, 1, false))), Some(0));
}

// M 68
#[test]
fn version_two_bumps_the_epoch_with_every_marker() {
    let mut log = Log::default();
    log.append(&batch(1, 0, 1, true));
    assert!(matches!(log.end_txn(1, 0, 2), Err(LogError::InvalidProducerEpoch { .. })));
    assert!(log.end_txn(2, 0, 2).unwrap());
    assert!(!log.end_txn(2, 0, 2).unwrap(), "a repeated marker of a closed transaction is harmless");
    assert!(matches!(log.end_txn(3, 0, -1), Err(LogError::InvalidArgument { .. })));
    let mut last = Log::default();
    last.append(&batch(ProducerEpoch::MAX, 0, 1, true));
    assert!(last.end_txn(ProducerEpoch::MAX, 0, 2).unwrap(), "the last epoch cannot be bumped");
}

// M 66
#[test]
fn transaction_waits_for_the_high_watermark_to_pass_its_marker() {
    let mut log = Log::default();
    log.append(&batch(0, 0, 3, true));
    assert_eq!(log.state.first_unstable_offset(), Some(0));
    log.end_txn(0, 0, 0).unwrap();
    assert_eq!(log.state.first_unstable_offset(), Some(0));
    log.state.on_high_watermark(3);
    assert_eq!(log.state.first_unstable_offset(), Some(0), "the marker at 3 is not below 3");
    log.state.on_high_watermark(4);
    assert_eq!(log.state.first_unstable_offset(), None);
}

// M 71, 156
#[test]
fn guard_is_needed_once_and_only_while_verification_is_on() {
    let mut log = Log::default();
    let producer = VerifiedProducer { producer_id: ID, producer_epoch: 0, sequence: 0, supports_epoch_bump: false };
    let guard = log.state.start_verification(producer, NOW_MS).unwrap();
    assert_eq!(log.state.start_verification(producer, NOW_MS).unwrap(), guard, "asking again joins the first");
    let first = header(&batch(0, 0, 1, true), 0);
    let strict = |guard| Claims { guard, verification_enabled: true, ..claims() };
    assert!(matches!(log.state.check(&first, None, &strict(None)), Err(LogError::InvalidTxnState { .. })));
    assert!(log.state.check(&first, None, &strict(guard)).is_ok());
    log.state.note(&first, None);
    let second = header(&batch(0, 1, 1, true), 1);
    assert!(log.state.check(&second, None, &strict(None)).is_ok(), "the transaction is open");
    log.end = 1;
    log.end_txn(0, 0, 0).unwrap();
    assert!(matches!(log.state.check(&second, None, &strict(guard)), Err(LogError::InvalidTxnState { .. })));
}

// M 57, 156
#[test]
fn verification_holds_back_what_comes_out_of_order() {
    let mut log = Log::default();
    let ask = |sequence, supports_epoch_bump| VerifiedProducer {
        producer_id: ID,
        producer_epoch: 0,
        sequence,
        supports_epoch_bump,
    };
    log.state.start_verification(ask(5, false), NOW_MS).unwrap();
    log.state.start_verification(ask(2, false), NOW_MS).unwrap();
    assert_eq!(is_out_of_order(log.check(&batch(0, 5, 1, true))), Some(2));
    assert!(log.check(&batch(0, 2, 1, true)).is_ok());
    let mut bumping = Log::default();
    bumping.state.start_verification(ask(3, true), NOW_MS).unwrap();
    assert_eq!(is_out_of_order(bumping.check(&batch(0, 3, 1, true))), Some(0));
}

// M 62, 146
#[test]
fn producers_expire_unless_in_a_transaction() {
    let mut log = Log::default();
    log.append(&batch(0, 0, 1, false));
    log.state.remove_expired(NOW_MS + 99, 100);
    assert_eq!(log.state.active().len(), 1);
    log.state.remove_expired(NOW_MS + 100, 100);
    assert!(log.state.active().is_empty());
    log.append(&batch(0, 0, 1, true));
    log.state.remove_expired(i64::MAX, 100);
    assert_eq!(log.state.active().len(), 1);
}

// M 138
#[test]
fn late_transaction_is_told_by_its_producers_silence() {
    let mut log = Log::default();
    log.append(&batch(0, 0, 1, true));
    let timeout_ms = 900_000;
    let limit_ms = NOW_MS + timeout_ms + LATE_TRANSACTION_BUFFER_MS;
    assert!(!log.state.has_late_transaction(limit_ms, timeout_ms));
    assert!(log.state.has_late_transaction(limit_ms + 1, timeout_ms));
}

// M 144
#[test]
fn snapshot_keeps_the_last_batch_and_the_open_transaction() {
    let mut log = Log::default();
    log.append(&batch(2, 0, 3, true));
    log.append(&batch(2, 3, 1, true));
    let mut restored = ProducerState::default();
    restored.reset_to(&log.state.snapshot(), log.end, NOW_MS, 1000);
    assert_eq!(restored.first_unstable_offset(), Some(0));
    assert_eq!(restored.active()[0].batches.len(), 1);
    assert_eq!(restored.active()[0].last_sequence, Some(3));
    assert_eq!(restored.snapshot(), log.state.snapshot());
}

// M 157
#[test]
fn last_stable_offset_of_an_aborted_transaction_looks_at_other_producers() {
    let mut log = Log::default();
    log.append(&batch(0, 0, 2, true));
    let mut other = BatchBuilder::new().producer(ID + 1, 0, 0).transactional();
    other = other.record(NOW_MS, None, None);
    log.state.note(&header(&other, 2), None);
    let (header, marker) = marker(0, 0, 3);
    let txn = log.state.note(&header, Some(marker)).unwrap();
    let aborted = log.state.complete(txn).unwrap();
    assert_eq!((aborted.first_offset, aborted.last_offset, aborted.last_stable_offset), (0, 3, 2));
}
