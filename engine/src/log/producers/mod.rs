//! What the log's batches say of their producers: last batches, open transactions, and from them the first offset that
//! is not decided.
//!
//! Pure: the log writes the snapshots. Knows its end: the offset up to which, exclusive, it has seen the log.

mod check;
mod entry;
#[cfg(test)]
mod tests;
mod verification;

pub(super) use check::Claims;
pub(super) use entry::LastRecord;
pub use entry::{ActiveProducer, ProducedBatch};
pub use verification::VerificationGuard;

use super::LogError;
use crate::{
    format::{batch::BatchHeader, control::EndTxnMarker, index_entry::AbortedTxn, snapshot::ProducerSnapshotEntry},
    types::{Offset, ProducerEpoch, ProducerId, Timestamp},
};
use entry::ProducerEntry;
use std::collections::{BTreeMap, HashMap};
use verification::Verification;

/// How much later than its transaction timeout a transaction is late.
const LATE_TRANSACTION_BUFFER_MS: i64 = 300_000;

/// All producers of one partition (`ProducerStateManager`, without its files).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    producers: HashMap<ProducerId, ProducerEntry>,
    verifications: BTreeMap<ProducerId, Verification>,
    /// Open transactions by their first offset.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Ended transactions by their first offset, with that of their marker, until the high watermark passes it.
    unreplicated: BTreeMap<Offset, Offset>,
    /// The log is known up to here, exclusive.
    end_offset: Offset,
}

/// A transaction whose marker was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompletedTxn {
    producer_id: ProducerId,
    first_offset: Offset,
    last_offset: Offset,
    committed: bool,
}

impl ProducerState {
    /// No producers, as of an offset.
    pub(crate) fn starting_at(end_offset: Offset) -> Self {
        Self { end_offset, ..Self::default() }
    }

    /// Goes back to the state that a snapshot as of `end_offset` holds, without producers that fell silent
    /// `expiration_ms` ago or longer and have no open transaction. Verifications under way go on.
    pub(crate) fn reset_to(
        &mut self,
        entries: &[ProducerSnapshotEntry],
        end_offset: Offset,
        now_ms: Timestamp,
        expiration_ms: i64,
    ) {
        let verifications = std::mem::take(&mut self.verifications);
        *self = Self { verifications, ..Self::starting_at(end_offset) };
        for entry in entries {
            let producer = ProducerEntry::restore(entry);
            if producer.is_expired(now_ms, expiration_ms) {
                continue;
            }
            if let Some(first_offset) = producer.current_txn_first_offset {
                self.ongoing.insert(first_offset, entry.producer_id);
            }
            self.producers.insert(entry.producer_id, producer);
        }
    }

    /// The entries of a snapshot, by ascending producer id.
    pub(crate) fn snapshot(&self) -> Vec<ProducerSnapshotEntry> {
        let mut entries: Vec<_> = self.producers.iter().map(|(&id, producer)| producer.snapshot(id)).collect();
        entries.sort_unstable_by_key(|entry| entry.producer_id);
        entries
    }

    /// The log is known up to here, exclusive.
    pub(crate) fn end_offset(&self) -> Offset {
        self.end_offset
    }

    pub(crate) fn set_end_offset(&mut self, end_offset: Offset) {
        self.end_offset = end_offset;
    }

    /// Whether nothing is remembered of any batch.
    pub(crate) fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.unreplicated.is_empty()
    }

    fn entry(&self, producer_id: ProducerId) -> Option<&ProducerEntry> {
        self.producers.get(&producer_id)
    }

    fn verification(&self, producer_id: ProducerId) -> Option<&Verification> {
        self.verifications.get(&producer_id)
    }

    /// Takes note of a batch, and of the marker that it holds; the transaction that ended with it.
    pub(crate) fn note(&mut self, header: &BatchHeader, marker: Option<EndTxnMarker>) -> Option<CompletedTxn> {
        let identity = header.producer()?;
        let is_control = header.attributes().is_control();
        if is_control && marker.is_none() {
            return None;
        }
        let producer = self.producers.entry(identity.id).or_insert_with(|| ProducerEntry::new(identity.epoch));
        let completed = match marker {
            Some(marker) => {
                let timestamp = header.max_timestamp().unwrap_or(-1);
                let first_offset = producer.note_marker(identity.epoch, marker.coordinator_epoch, timestamp);
                first_offset.map(|first_offset| CompletedTxn {
                    producer_id: identity.id,
                    first_offset,
                    last_offset: header.last_offset(),
                    committed: marker.committed,
                })
            }
            None => {
                if producer.note_batch(header, identity.epoch) {
                    self.ongoing.insert(header.base_offset(), identity.id);
                }
                None
            }
        };
        let transactional = header.attributes().is_transactional();
        if transactional
            && self.verification(identity.id).is_some_and(|known| !known.survives(is_control, identity.epoch))
        {
            self.verifications.remove(&identity.id);
        }
        completed
    }

    /// The index entry of a transaction that ends, if it is aborted.
    pub(crate) fn aborted(&self, txn: &CompletedTxn) -> Option<AbortedTxn> {
        let others = self.ongoing.iter().find(|(_, producer_id)| **producer_id != txn.producer_id);
        let last_stable_offset = others.map_or(txn.last_offset.saturating_add(1), |(first_offset, _)| *first_offset);
        let CompletedTxn { producer_id, first_offset, last_offset, committed } = *txn;
        (!committed).then_some(AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset })
    }

    /// Moves a transaction from the open to the ended ones; an aborted one yields its index entry.
    pub(crate) fn complete(&mut self, txn: CompletedTxn) -> Option<AbortedTxn> {
        let aborted = self.aborted(&txn);
        self.ongoing.remove(&txn.first_offset);
        self.unreplicated.insert(txn.first_offset, txn.last_offset);
        aborted
    }

    /// Transactions whose marker lies below the high watermark no longer hold the last stable offset back.
    pub(crate) fn on_high_watermark(&mut self, high_watermark: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// The first offset of the oldest transaction that is open or not known to be replicated.
    pub(crate) fn first_unstable_offset(&self) -> Option<Offset> {
        let ongoing = self.ongoing.keys().next().copied();
        let unreplicated = self.unreplicated.keys().next().copied();
        ongoing.into_iter().chain(unreplicated).min()
    }

    /// Forgets transactions that ended below the log start.
    pub(crate) fn on_log_start(&mut self, log_start: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= log_start);
        self.end_offset = self.end_offset.max(log_start);
    }

    /// Forgets producers that fell silent `expiration_ms` ago or longer and have no open transaction, and verifications
    /// that began as long ago.
    pub(crate) fn remove_expired(&mut self, now_ms: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, producer| !producer.is_expired(now_ms, expiration_ms));
        self.verifications.retain(|_, known| now_ms.saturating_sub(known.begun_ms) < expiration_ms);
    }

    /// Whether the producer has an open transaction in this very epoch.
    pub(crate) fn has_ongoing_transaction(&self, producer_id: ProducerId, producer_epoch: ProducerEpoch) -> bool {
        self.entry(producer_id)
            .is_some_and(|entry| entry.current_txn_first_offset.is_some() && entry.epoch == producer_epoch)
    }

    /// Whether the oldest open transaction has been silent for longer than any transaction may last, and some more.
    pub(crate) fn has_late_transaction(&self, now_ms: Timestamp, max_transaction_timeout_ms: i64) -> bool {
        let oldest = self.ongoing.first_key_value().and_then(|(_, producer_id)| self.entry(*producer_id));
        let limit_ms = max_transaction_timeout_ms.saturating_add(LATE_TRANSACTION_BUFFER_MS);
        oldest.is_some_and(|producer| {
            producer.last_timestamp > 0 && now_ms.saturating_sub(producer.last_timestamp) > limit_ms
        })
    }

    /// Begins a verification, or joins the one that is under way; none is needed inside an open transaction
    /// (`UnifiedLog.maybeStartTransactionVerification`).
    pub(crate) fn start_verification(
        &mut self,
        producer: VerifiedProducer,
        now_ms: Timestamp,
    ) -> Result<Option<VerificationGuard>, LogError> {
        let VerifiedProducer { producer_id, producer_epoch, sequence, supports_epoch_bump } = producer;
        if let Some(entry) = self.entry(producer_id).filter(|entry| producer_epoch < entry.epoch) {
            return Err(LogError::InvalidProducerEpoch { producer_id, producer_epoch, known: entry.epoch });
        }
        if self.has_ongoing_transaction(producer_id, producer_epoch) {
            return Ok(None);
        }
        let begin = || Verification::begin(producer_epoch, sequence, supports_epoch_bump, now_ms);
        let verification = self.verifications.entry(producer_id).or_insert_with(begin);
        verification.ask_again(producer_epoch, sequence);
        Ok(Some(verification.guard))
    }

    /// The last data batch of each producer, or where there is none the epoch of its last marker.
    pub(crate) fn last_records(&self) -> HashMap<ProducerId, LastRecord> {
        self.producers.iter().map(|(&id, producer)| (id, producer.last_record())).collect()
    }

    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let mut active: Vec<_> = self.producers.iter().map(|(&id, producer)| producer.describe(id)).collect();
        active.sort_unstable_by_key(|producer| producer.producer_id);
        active
    }
}

/// The producer of a transaction whose coordinator is about to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedProducer {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record that it wants to append.
    pub sequence: i32,
    /// Whether every end marker bumps its epoch (transaction version 2).
    pub supports_epoch_bump: bool,
}
