//! Before a producer's batches of a transaction are appended: its coordinator is asked, as KIP-890 wants it.
//!
//! The log gives a guard for each partition whose transaction is not open yet; while the guard is out the coordinator either
//! adds the partition to the transaction (clients of version 2) or is asked whether the client did. The append brings the guard
//! back. In Kafka the two halves are `AddPartitionsToTxnManager` and `Partition.maybeStartTransactionVerification`.

use super::{TransactionCoordinator, response_error};
use crate::transaction::{Appending, Producer, Transaction, TransactionVersion};
use duramen::{Partition, TopicPartition, VerificationGuard, VerifiedProducer};
use kafka_protocol::ResponseError;
use std::sync::Arc;

/// A partition that a producer is about to write to.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    /// The partition.
    pub(crate) partition: Arc<Partition>,
    /// The first sequence of the batch; `None` for offsets of a group, which have none.
    pub(crate) base_sequence: Option<i32>,
}

/// What an append has to bring: a guard, or nothing where the transaction is open already. Or why there must not be one.
pub(crate) type Admission = Result<Option<VerificationGuard>, ResponseError>;

impl TransactionCoordinator {
    /// Asks for each of these partitions whether the producer may write there in its transaction, in their order. To be called
    /// for batches of a transaction only, and the guards given to [`duramen::AppendAsLeader::with_guard`].
    pub(crate) async fn admit(
        self: &Arc<Self>,
        transactional_id: &str,
        producer: Producer,
        appending: Appending,
        partitions: &[Admitted],
    ) -> Vec<Admission> {
        if !self.config.verifies && !appending.adds_partitions() {
            return vec![Ok(None); partitions.len()];
        }
        let mut admissions: Vec<Admission> =
            partitions.iter().map(|admitted| self.guard(admitted, producer, appending)).collect();
        let asked: Vec<TopicPartition> = partitions
            .iter()
            .zip(&admissions)
            .filter(|(_, admission)| matches!(admission, Ok(Some(_))))
            .map(|(admitted, _)| admitted.partition.name().clone())
            .collect();
        if asked.is_empty() {
            return admissions;
        }
        let answers = if appending.adds_partitions() {
            let added = self.add_partitions_implicitly(transactional_id, producer, &asked).await;
            added.map(|()| vec![Ok(()); asked.len()])
        } else {
            self.verify(transactional_id, producer, &asked)
        };
        let mut answers = answers.unwrap_or_else(|error| vec![Err(error); asked.len()]).into_iter();
        for admission in admissions.iter_mut().filter(|admission| matches!(admission, Ok(Some(_)))) {
            if let Some(Err(error)) = answers.next() {
                *admission = Err(appending.answer(error));
            }
        }
        admissions
    }

    fn guard(&self, admitted: &Admitted, producer: Producer, appending: Appending) -> Admission {
        let producer = VerifiedProducer {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            sequence: admitted.base_sequence.unwrap_or(-1),
            supports_epoch_bump: appending.adds_partitions(),
        };
        let now_ms = self.now_ms();
        let begun = admitted.partition.with(|log| log.start_transaction_verification(producer, now_ms));
        match begun {
            Ok(Ok(guard)) => Ok(guard),
            Ok(Err(error)) => Err(response_error(error.kafka_error_code())),
            Err(error) => Err(response_error(error.kafka_error_code())),
        }
    }

    /// Adds partitions to a transaction because the producer writes to them: Produce from v12 and TxnOffsetCommit from v5 on.
    pub(crate) async fn add_partitions_implicitly(
        self: &Arc<Self>,
        transactional_id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<(), ResponseError> {
        self.add_partitions(transactional_id, producer, partitions, TransactionVersion::V2).await
    }

    /// Whether each of these partitions belongs to the producer's transaction.
    pub(crate) fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        if transactional_id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let shard = self.shard(transactional_id)?;
        shard.with(transactional_id, |transaction| transaction.verify(producer, partitions))
    }

    /// Adds partitions to a transaction, and begins it.
    pub(super) async fn add_partitions(
        self: &Arc<Self>,
        transactional_id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
        version: TransactionVersion,
    ) -> Result<(), ResponseError> {
        if transactional_id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let add = |transaction: &mut Transaction, _, now_ms| {
            transaction.add_partitions(producer, partitions, version, now_ms)
        };
        self.change(transactional_id, self.config.patience, add).await.map(|_| ())
    }
}
