//! What is remembered of one producer.

use crate::{
    format::{
        batch::{BatchHeader, ProducerIdentity, add_sequence},
        snapshot::{LastBatch, ProducerSnapshotEntry},
    },
    types::{Offset, ProducerEpoch, ProducerId, Timestamp},
};
use std::collections::VecDeque;

/// How many batches of a producer are remembered.
const REMEMBERED_BATCHES: usize = 5;

/// One producer (`ProducerStateEntry`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerEntry {
    pub(super) epoch: ProducerEpoch,
    pub(super) coordinator_epoch: Option<i32>,
    pub(super) last_timestamp: Timestamp,
    pub(super) current_txn_first_offset: Option<Offset>,
    batches: VecDeque<LastBatch>,
}

/// A producer that the log remembers, as `DescribeProducers` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of its last record; `None` after an epoch change by a marker.
    pub last_sequence: Option<i32>,
    /// Time of its last batch or marker, in ms.
    pub last_timestamp: Timestamp,
    /// Epoch of the coordinator that wrote its last marker.
    pub coordinator_epoch: Option<i32>,
    /// First offset of its open transaction.
    pub current_txn_first_offset: Option<Offset>,
    /// Its last batches in this epoch, five at most, the oldest first: what a retry is recognised by.
    pub batches: Vec<ProducedBatch>,
}

/// A batch that an idempotent producer wrote (`BatchMetadata`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducedBatch {
    /// Sequence of its first record; `None` if it was written without sequences.
    pub first_sequence: Option<i32>,
    /// Sequence of its last record.
    pub last_sequence: Option<i32>,
    /// First offset, inclusive.
    pub first_offset: Offset,
    /// Last offset, inclusive.
    pub last_offset: Offset,
    /// Greatest timestamp of its records, in ms.
    pub timestamp: Timestamp,
}

/// What a log has to keep of a producer, so that its next batch is told from a repeat (`LastRecord`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastRecord {
    /// Last offset of its last data batch.
    Data(Offset),
    /// It has no data batch; its last marker is of this epoch.
    Marker(ProducerEpoch),
}

impl From<LastBatch> for ProducedBatch {
    fn from(batch: LastBatch) -> Self {
        Self {
            // Sequences count modulo 2^31.
            first_sequence: batch.last_sequence.map(|last| add_sequence(last, batch.offset_delta.saturating_neg())),
            last_sequence: batch.last_sequence,
            first_offset: batch.last_offset.saturating_sub(i64::from(batch.offset_delta)),
            last_offset: batch.last_offset,
            timestamp: batch.timestamp,
        }
    }
}

impl ProducerEntry {
    pub(super) fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: None,
            last_timestamp: -1,
            current_txn_first_offset: None,
            batches: VecDeque::with_capacity(REMEMBERED_BATCHES),
        }
    }

    pub(super) fn restore(entry: &ProducerSnapshotEntry) -> Self {
        Self {
            epoch: entry.producer_epoch,
            coordinator_epoch: entry.coordinator_epoch,
            last_timestamp: entry.timestamp,
            current_txn_first_offset: entry.current_txn_first_offset,
            batches: entry.last_batch.into_iter().collect(),
        }
    }

    pub(super) fn snapshot(&self, producer_id: ProducerId) -> ProducerSnapshotEntry {
        ProducerSnapshotEntry {
            producer_id,
            producer_epoch: self.epoch,
            last_batch: self.batches.back().copied(),
            timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            current_txn_first_offset: self.current_txn_first_offset,
        }
    }

    pub(super) fn describe(&self, producer_id: ProducerId) -> ActiveProducer {
        ActiveProducer {
            producer_id,
            producer_epoch: self.epoch,
            last_sequence: self.last_sequence(),
            last_timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            current_txn_first_offset: self.current_txn_first_offset,
            batches: self.batches.iter().copied().map(ProducedBatch::from).collect(),
        }
    }

    /// Whether no batch of this epoch is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn last_sequence(&self) -> Option<i32> {
        self.batches.back().and_then(|batch| batch.last_sequence)
    }

    pub(super) fn last_record(&self) -> LastRecord {
        self.batches.back().map_or(LastRecord::Marker(self.epoch), |batch| LastRecord::Data(batch.last_offset))
    }

    /// The remembered batch that one with these sequences repeats.
    pub(super) fn find_duplicate(
        &self,
        identity: &ProducerIdentity,
        last_sequence: Option<i32>,
    ) -> Option<ProducedBatch> {
        if identity.epoch != self.epoch || identity.base_sequence.is_none() {
            return None;
        }
        let mut known = self.batches.iter().copied().map(ProducedBatch::from);
        known.find(|batch| batch.first_sequence == identity.base_sequence && batch.last_sequence == last_sequence)
    }

    /// Takes note of a data batch; whether it opens a transaction.
    pub(super) fn note_batch(&mut self, header: &BatchHeader, epoch: ProducerEpoch) -> bool {
        self.enter_epoch(epoch);
        let timestamp = header.max_timestamp().unwrap_or(-1);
        self.last_timestamp = timestamp;
        if self.batches.len() == REMEMBERED_BATCHES {
            self.batches.pop_front();
        }
        self.batches.push_back(LastBatch {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta(),
            timestamp,
        });
        let opens = header.attributes().is_transactional() && self.current_txn_first_offset.is_none();
        if opens {
            self.current_txn_first_offset = Some(header.base_offset());
        }
        opens
    }

    /// Takes note of an end marker; the first offset of the transaction that it ends.
    pub(super) fn note_marker(
        &mut self,
        epoch: ProducerEpoch,
        coordinator_epoch: i32,
        timestamp: Timestamp,
    ) -> Option<Offset> {
        self.enter_epoch(epoch);
        self.coordinator_epoch = Some(coordinator_epoch);
        self.last_timestamp = timestamp;
        self.current_txn_first_offset.take()
    }

    /// A new epoch starts its sequences anew, so the batches of the old one say nothing any more.
    fn enter_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    pub(super) fn is_expired(&self, now_ms: Timestamp, expiration_ms: i64) -> bool {
        self.current_txn_first_offset.is_none() && now_ms.saturating_sub(self.last_timestamp) >= expiration_ms
    }
}
