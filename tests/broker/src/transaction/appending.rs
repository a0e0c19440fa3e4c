//! A producer writes in its transaction: partitions are added to it, or are verified to belong to it.

use super::{Metadata, Producer, State, Step, Transaction, TransactionVersion};
use duramen::TopicPartition;
use kafka_protocol::ResponseError;
use std::{collections::BTreeSet, sync::Arc};

/// An append in a transaction, by the version of its request (`TransactionSupportedOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appending {
    /// Records of a producer, by Produce.
    Records(i16),
    /// Offsets of a group, by TxnOffsetCommit.
    Offsets(i16),
}

impl Appending {
    /// Whether what is written to is added to the transaction by the write: transaction version 2.
    pub(crate) fn adds_partitions(self) -> bool {
        matches!(self, Self::Records(12..) | Self::Offsets(5..))
    }

    /// Whether the client knows TRANSACTION_ABORTABLE, which asks it to abort and go on.
    fn knows_abortable(self) -> bool {
        matches!(self, Self::Records(11..) | Self::Offsets(4..))
    }

    /// What the client is told for an answer of the coordinator: one that does not know an error gets another that makes it do
    /// the same (`AddPartitionsToTxnManager`, `ReplicaManager.handleProduceAppend`,
    /// `CoordinatorOperationExceptionHelper.handleOperationException`).
    pub(crate) fn answer(self, error: ResponseError) -> ResponseError {
        match (error, self) {
            (ResponseError::ProducerFenced, _) => ResponseError::InvalidProducerEpoch,
            (ResponseError::TransactionAbortable, _) if !self.knows_abortable() => ResponseError::InvalidTxnState,
            // The producer sends the batch again. One of version 2 knows that the last transaction is not complete yet.
            (ResponseError::ConcurrentTransactions, Self::Records(_)) if !self.adds_partitions() => {
                ResponseError::NotEnoughReplicas
            }
            (
                ResponseError::NetworkException
                | ResponseError::CoordinatorLoadInProgress
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::NotCoordinator,
                Self::Records(_),
            ) => ResponseError::NotEnoughReplicas,
            (ResponseError::NetworkException, Self::Offsets(_)) => ResponseError::CoordinatorLoadInProgress,
            (other, _) => other,
        }
    }
}

impl Transaction {
    /// Adds partitions to the transaction, and begins it (`TransactionCoordinator.handleAddPartitionsToTransaction`).
    pub(crate) fn add_partitions(
        &mut self,
        producer: Producer,
        partitions: &[TopicPartition],
        version: TransactionVersion,
        now_ms: i64,
    ) -> Result<Step, ResponseError> {
        // First of all: at the end of a producer id's epochs the producer may use the new one before the log has it.
        let current = self.settled()?.ok_or(ResponseError::InvalidProducerIdMapping)?;
        check_writer(current, producer)?;
        if current.state == State::Ongoing && partitions.iter().all(|it| current.partitions.contains(it)) {
            return Ok(Step::Done);
        }
        let next = current.with_partitions(partitions, version, now_ms);
        Ok(self.write(next))
    }

    /// Whether each of these partitions belongs to the transaction. What is on its way to the log does not count, and needs not:
    /// the partition itself looks again (`TransactionCoordinator.handleVerifyPartitionsInTransaction`).
    pub(crate) fn verify(
        &self,
        producer: Producer,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let current = self.current().ok_or(ResponseError::InvalidProducerIdMapping)?;
        check_writer(current, producer)?;
        let belongs = |partition: &TopicPartition| {
            if current.partitions.contains(partition) { Ok(()) } else { Err(ResponseError::TransactionAbortable) }
        };
        Ok(partitions.iter().map(belongs).collect())
    }
}

/// Whether this producer may write in a transaction now.
fn check_writer(current: &Arc<Metadata>, producer: Producer) -> Result<(), ResponseError> {
    match () {
        () if current.producer.id != producer.id => Err(ResponseError::InvalidProducerIdMapping),
        () if current.producer.epoch != producer.epoch => Err(ResponseError::ProducerFenced),
        () if current.state.is_prepared() => Err(ResponseError::ConcurrentTransactions),
        () => Ok(()),
    }
}

impl Metadata {
    /// The transaction with some more partitions (`TransactionMetadata.prepareAddPartitions`).
    fn with_partitions(&self, added: &[TopicPartition], version: TransactionVersion, now_ms: i64) -> Self {
        let start_ms = if self.state == State::Ongoing { self.start_ms } else { Some(now_ms) };
        let partitions: BTreeSet<_> = self.partitions.iter().chain(added).cloned().collect();
        Self { start_ms, partitions, client_version: version, ..self.next(State::Ongoing, now_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_told_what_its_version_knows() {
        let (concurrent, abortable) = (ResponseError::ConcurrentTransactions, ResponseError::TransactionAbortable);
        assert_eq!(Appending::Records(9).answer(concurrent), ResponseError::NotEnoughReplicas);
        assert_eq!(Appending::Records(12).answer(concurrent), concurrent);
        assert_eq!(Appending::Offsets(3).answer(concurrent), concurrent);
        for (appending, answer) in [
            (Appending::Records(10), ResponseError::InvalidTxnState),
            (Appending::Records(11), abortable),
            (Appending::Offsets(3), ResponseError::InvalidTxnState),
            (Appending::Offsets(4), abortable),
        ] {
            assert_eq!(appending.answer(abortable), answer, "{appending:?}");
            assert_eq!(appending.answer(ResponseError::ProducerFenced), ResponseError::InvalidProducerEpoch);
        }
        let adds = [Appending::Records(11), Appending::Records(12), Appending::Offsets(4), Appending::Offsets(5)];
        assert_eq!(adds.map(Appending::adds_partitions), [false, true, false, true]);
    }
}
