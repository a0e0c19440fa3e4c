//! What the log has of one transactional id: a value that never changes once made.

use super::{State, TransactionVersion};
use crate::records::transactions::{TopicPartitions, TransactionLogValue};
use duramen::TopicPartition;
use std::collections::BTreeSet;

/// A producer id and one of its epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Producer {
    /// The producer's id.
    pub(crate) id: i64,
    /// Its incarnation.
    pub(crate) epoch: i16,
}

impl Producer {
    /// Whether there are no more epochs that a client may get: the last one is kept for fencing it
    /// (`TransactionMetadata.isEpochExhausted`).
    pub(crate) fn is_exhausted(self) -> bool {
        self.epoch >= i16::MAX - 1
    }

    /// The same producer in its next epoch; the last one has none.
    pub(crate) fn bumped(self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self }
    }
}

/// One state of a transactional id (`TransactionMetadata`, `TxnTransitMetadata`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Who may write, as the coordinator knows it.
    pub(crate) producer: Producer,
    /// The producer id before this state was entered.
    pub(crate) previous_producer_id: Option<i64>,
    /// The producer id from the end of the transaction on, because the present one has no more epochs.
    pub(crate) next_producer_id: Option<i64>,
    /// The epoch from which the present one was reached by the producer itself; it may ask again. Not in the log.
    pub(crate) last_epoch: Option<i16>,
    /// How long a transaction may take, in ms.
    pub(crate) timeout_ms: i32,
    /// The state.
    pub(crate) state: State,
    /// What the transaction wrote to, or is about to.
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// When it began, in ms.
    pub(crate) start_ms: Option<i64>,
    /// When this state was entered, in ms.
    pub(crate) last_update_ms: i64,
    /// The version that the client speaks.
    pub(crate) client_version: TransactionVersion,
}

/// A record of `__transaction_state` that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetadataError {
    /// A number that is no state's.
    #[error("{0} is no state of a transaction")]
    State(i8),
    /// A topic that cannot be.
    #[error(transparent)]
    Partition(#[from] duramen::InvalidTopic),
}

impl Metadata {
    /// This state's successor, `state`, entered at `now_ms`; everything else stays but what every step forgets
    /// (`TransactionMetadata.prepareTransitionTo`).
    pub(super) fn next(&self, state: State, now_ms: i64) -> Self {
        debug_assert!(state.may_follow(self.state), "{:?} does not follow {:?}", state, self.state);
        Self { state, previous_producer_id: Some(self.producer.id), last_update_ms: now_ms, ..self.clone() }
    }

    /// The state's end: markers on all partitions are written (`TransactionMetadata.prepareComplete`). `None` unless it was
    /// prepared.
    pub(super) fn completed(&self, now_ms: i64) -> Option<Self> {
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            State::PrepareAbort => State::CompleteAbort,
            _ => return None,
        };
        let producer = self.producer_after_end();
        let next = self.next(state, now_ms);
        Some(Self { producer, next_producer_id: None, partitions: BTreeSet::new(), ..next })
    }

    /// As it is stored.
    pub(crate) fn log_value(&self) -> TransactionLogValue {
        let mut topics = TopicPartitions::new();
        for partition in &self.partitions {
            match topics.last_mut().filter(|(topic, _)| topic.as_str() == partition.topic()) {
                Some((_, indexes)) => indexes.push(partition.partition()),
                None => topics.push((partition.topic().to_owned().into(), vec![partition.partition()])),
            }
        }
        TransactionLogValue {
            producer_id: self.producer.id,
            previous_producer_id: self.previous_producer_id,
            next_producer_id: self.next_producer_id,
            producer_epoch: self.producer.epoch,
            next_producer_epoch: None,
            timeout_ms: self.timeout_ms,
            status: self.state.id(),
            partitions: (self.state != State::Empty).then_some(topics),
            last_update_ms: self.last_update_ms,
            start_ms: self.start_ms,
            client_transaction_version: self.client_version.level(),
        }
    }

    /// From what is stored (`TransactionLog.read`).
    pub(crate) fn from_log_value(value: &TransactionLogValue) -> Result<Self, MetadataError> {
        let state = State::from_id(value.status).ok_or(MetadataError::State(value.status))?;
        let topics = value.partitions.iter().flatten();
        let partitions = topics
            .flat_map(|(topic, indexes)| indexes.iter().map(move |index| TopicPartition::new(topic, *index)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            producer: Producer { id: value.producer_id, epoch: value.producer_epoch },
            previous_producer_id: value.previous_producer_id,
            next_producer_id: value.next_producer_id,
            last_epoch: None,
            timeout_ms: value.timeout_ms,
            state,
            partitions,
            start_ms: value.start_ms,
            last_update_ms: value.last_update_ms,
            client_version: TransactionVersion::from_level(value.client_transaction_version),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn prepared(version: TransactionVersion, next_producer_id: Option<i64>) -> Metadata {
        let partition = |topic, index| TopicPartition::new(topic, index).unwrap();
        Metadata {
            producer: Producer { id: 7, epoch: i16::MAX },
            previous_producer_id: Some(7),
            next_producer_id,
            last_epoch: Some(i16::MAX - 1),
            timeout_ms: 60_000,
            state: State::PrepareCommit,
            partitions: [partition("b", 1), partition("a", 3), partition("a", 0)].into(),
            start_ms: Some(100),
            last_update_ms: 200,
            client_version: version,
        }
    }

    #[test]
    fn stored_metadata_is_the_same_but_for_the_last_epoch() {
        let metadata = prepared(TransactionVersion::V2, Some(8));
        let value = metadata.log_value();
        assert_eq!(value.partitions, Some(vec![("a".into(), vec![0, 3]), ("b".into(), vec![1])]));
        assert_eq!(Metadata::from_log_value(&value), Ok(Metadata { last_epoch: None, ..metadata }));
        let strange = TransactionLogValue { status: 8, ..value };
        assert_eq!(Metadata::from_log_value(&strange), Err(MetadataError::State(8)));
    }

    #[test]
    fn state_empty_is_stored_without_partitions() {
        let metadata =
            Metadata { state: State::Empty, partitions: BTreeSet::new(), ..prepared(TransactionVersion::V1, None) };
        assert_eq!(metadata.log_value().partitions, None);
    }

    #[test]
    fn producer_without_epochs_is_replaced_when_its_transaction_is_complete() {
        let completed = prepared(TransactionVersion::V2, Some(8)).completed(300).unwrap();
        assert_eq!((completed.state, completed.producer), (State::CompleteCommit, Producer { id: 8, epoch: 0 }));
        assert_eq!((completed.previous_producer_id, completed.next_producer_id), (Some(7), None));
        assert_eq!((completed.last_epoch, completed.partitions.len()), (Some(i16::MAX - 1), 0));
        let kept = prepared(TransactionVersion::V2, None).completed(300).unwrap();
        assert_eq!(kept.producer, Producer { id: 7, epoch: i16::MAX });
        assert_eq!(kept.completed(400), None);
    }
}
