//! One transactional id: what the log has of it, and what the log is about to have.
//!
//! Owns the rule that only one state is on its way to the log at a time; whoever comes meanwhile is told to come again. The
//! decisions are in the files beside this one. Nothing changes before the log has it, so a write that fails leaves the id as
//! it was (Kafka changes the epoch first when it fences, and has to remember that: `hasFailedEpochFence`).

use super::{Metadata, Producer, State, TransactionVersion};
use duramen::TopicPartition;
use kafka_protocol::ResponseError;
use std::{collections::BTreeSet, sync::Arc};

/// What has to happen before a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: all is as was asked for.
    Done,
    /// The log has to take this; then [`Transaction::settle`].
    Write(Arc<Metadata>),
    /// A producer id is needed that nobody ever had: ask again with one.
    NeedsProducerId,
}

/// The markers that end a transaction, alike for each of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Markers {
    /// Whose transaction it is; with version 2 in the epoch after that of its records.
    pub(crate) producer: Producer,
    /// Whether it is committed.
    pub(crate) committed: bool,
    /// The version that decides how strictly partitions look at the epoch.
    pub(crate) version: TransactionVersion,
    /// Where they go.
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// What the log has to take once they all are there; then [`Transaction::settle`].
    pub(crate) completed: Arc<Metadata>,
}

/// One transactional id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transaction {
    /// As the log has it; `None` before anything was written.
    current: Option<Arc<Metadata>>,
    /// What the log is about to have.
    pending: Option<Arc<Metadata>>,
}

impl Transaction {
    /// As it was found in the log.
    pub(crate) fn loaded(metadata: Metadata) -> Self {
        Self { current: Some(Arc::new(metadata)), pending: None }
    }

    /// As the log has it.
    pub(crate) fn current(&self) -> Option<&Arc<Metadata>> {
        self.current.as_ref()
    }

    /// Whether a state is on its way to the log.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether nothing is known of the id, and nothing about to be: it can be dropped.
    pub(crate) fn is_vacant(&self) -> bool {
        self.current.is_none() && self.pending.is_none()
    }

    /// The log has what was pending, or refused it. An id that died, or never came to be, is vacant then.
    pub(crate) fn settle(&mut self, written: bool) {
        if let Some(pending) = self.pending.take().filter(|_| written) {
            self.current = Some(pending).filter(|metadata| metadata.state != State::Dead);
        }
    }

    /// The markers of a transaction whose end the log has. Nobody else changes it until it is complete. `None` unless an end
    /// was prepared (`TransactionMarkerChannelManager.addTxnMarkersToSend`).
    pub(crate) fn complete(&mut self, now_ms: i64) -> Option<Markers> {
        let current = self.current.as_ref().filter(|_| self.pending.is_none())?;
        let completed = Arc::new(current.completed(now_ms)?);
        self.pending = Some(Arc::clone(&completed));
        Some(Markers {
            producer: current.producer,
            committed: current.state == State::PrepareCommit,
            version: current.client_version,
            partitions: current.partitions.clone(),
            completed,
        })
    }

    /// Forgets an id that was at rest for `expiration_ms`, inclusive: the log takes a record without a value, then
    /// [`Transaction::settle`]. `false` where it stays (`TransactionStateManager.shouldExpire`).
    pub(crate) fn expire(&mut self, expiration_ms: i64, now_ms: i64) -> bool {
        let Some(current) = self.current.as_ref().filter(|_| self.pending.is_none()) else {
            return false;
        };
        if !current.state.is_at_rest() || current.last_update_ms > now_ms.saturating_sub(expiration_ms) {
            return false;
        }
        self.pending = Some(Arc::new(Metadata { partitions: BTreeSet::new(), ..current.next(State::Dead, now_ms) }));
        true
    }

    /// What the log has, for a request that would change it.
    pub(super) fn settled(&self) -> Result<Option<&Arc<Metadata>>, ResponseError> {
        if self.is_pending() { Err(ResponseError::ConcurrentTransactions) } else { Ok(self.current.as_ref()) }
    }

    /// Lets nobody else in before the log has `next`.
    pub(super) fn write(&mut self, next: Metadata) -> Step {
        let next = Arc::new(next);
        self.pending = Some(Arc::clone(&next));
        Step::Write(next)
    }
}
