//! Producers and their transactions, as a host sees them.

use super::{
    Log, LogError,
    producers::{ActiveProducer, VerificationGuard, VerifiedProducer},
};
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

impl Log {
    /// The producers that the log remembers, by ascending id.
    #[must_use]
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.producers.active()
    }

    /// Offsets of the oldest and the newest producer snapshot.
    #[must_use]
    pub fn snapshot_offsets(&self) -> Option<(Offset, Offset)> {
        self.snapshots.range()
    }

    /// The log is known to the producers up to here, exclusive.
    #[must_use]
    pub fn producer_state_end_offset(&self) -> Offset {
        self.producers.end_offset()
    }

    /// The first offset of the oldest transaction that is open, or ended without its marker being committed yet; `None`
    /// when everything is decided.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.shared.read().first_unstable()
    }

    /// Whether the producer has an open transaction in this very epoch (`UnifiedLog.hasOngoingTransaction`).
    #[must_use]
    pub fn has_ongoing_transaction(&self, producer_id: ProducerId, producer_epoch: ProducerEpoch) -> bool {
        self.producers.has_ongoing_transaction(producer_id, producer_epoch)
    }

    /// Whether the oldest open transaction has been silent for five minutes longer than the longest that a transaction may
    /// take: its end marker is lost (`UnifiedLog.hasLateTransaction`).
    #[must_use]
    pub fn has_late_transaction(&self, now_ms: Timestamp, max_transaction_timeout_ms: i64) -> bool {
        self.producers.has_late_transaction(now_ms, max_transaction_timeout_ms)
    }

    /// Begins to verify a producer's transaction, before its coordinator is asked: the guard belongs to the first append of
    /// the transaction. `None` when its transaction is open already and needs none. While a verification is under way the
    /// same guard is given out again (`UnifiedLog.maybeStartTransactionVerification`).
    ///
    /// ```
    /// # use duramen::*;
    /// # fn example(log: &mut Log, batch: ValidatedBatch, now_ms: Timestamp) -> Result<(), LogError> {
    /// let producer = VerifiedProducer { producer_id: 7, producer_epoch: 0, sequence: 0, supports_epoch_bump: false };
    /// let guard = log.start_transaction_verification(producer, now_ms)?;
    /// // The coordinator is asked here, and says that the partition belongs to the transaction.
    /// log.append_as_leader(batch, AppendAsLeader::new(0, now_ms).with_guard(guard))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LogError::InvalidProducerEpoch`] for an epoch below the known one.
    pub fn start_transaction_verification(
        &mut self,
        producer: VerifiedProducer,
        now_ms: Timestamp,
    ) -> Result<Option<VerificationGuard>, LogError> {
        self.producers.start_verification(producer, now_ms)
    }

    /// Forgets the producers that wrote nothing for as long as the host allows and have no open transaction, and
    /// verifications that began as long ago; the host calls it now and then (`UnifiedLog.removeExpiredProducers`).
    pub fn remove_expired_producers(&mut self, now_ms: Timestamp) {
        self.producers.remove_expired(now_ms, self.producer_id_expiration_ms);
    }

    /// Writes what is known of the producers, durably, unless nothing came since the last snapshot
    /// (`UnifiedLog.takeProducerSnapshot`).
    ///
    /// # Errors
    /// [`LogError::Storage`] or [`LogError::DiskFull`]; nothing depends on a snapshot.
    pub fn take_producer_snapshot(&mut self) -> Result<(), LogError> {
        self.snapshots.take(&self.producers);
        self.snapshots.commit()
    }
}
