//! A producer ends its transaction (`TransactionCoordinator.endTransaction`, `endTransactionWithTV1`).
//!
//! With version 2 the end bumps the epoch, so the epoch in a request tells whether it repeats the last end ("retry": one below
//! the known epoch, or the last epoch of the previous producer id) or is the next one:
//!
//! | state | commit, retry | commit | abort, retry | abort |
//! |---|---|---|---|---|
//! | Ongoing | fenced | PrepareCommit | fenced | PrepareAbort |
//! | Empty | fenced | invalid | fenced | PrepareAbort |
//! | CompleteCommit | done | invalid | invalid | PrepareAbort |
//! | CompleteAbort | invalid | invalid | done | PrepareAbort |
//! | PrepareCommit | concurrent | fenced | invalid | fenced |
//! | PrepareAbort | invalid | fenced | concurrent | fenced |
//!
//! Before version 2 only the known epoch is good, and a retry looks like another end: Ongoing goes to either Prepare state,
//! Empty is invalid, a Complete state is done if it is the one asked for, a Prepare state is concurrent if it is the one asked
//! for, and everything else is invalid.

use super::{Metadata, Producer, State, Step, Transaction, TransactionVersion};
use kafka_protocol::ResponseError;

/// What a producer asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndTransaction {
    /// Who it says that it is.
    pub(crate) producer: Producer,
    /// Commit or abort.
    pub(crate) commit: bool,
    /// The version by which it asks: EndTxn from v5 on is version 2.
    pub(crate) version: TransactionVersion,
}

/// What an end is, compared with what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The end that was decided last, again.
    Retry,
    /// The next one.
    Next,
}

impl Transaction {
    /// Decides the outcome. [`Step::Done`] repeats the answer to an end that is complete.
    ///
    /// `fresh_id` is a producer id that nobody had, for [`Step::NeedsProducerId`].
    pub(crate) fn end(
        &mut self,
        ask: EndTransaction,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Result<Step, ResponseError> {
        let Some(current) = self.current() else {
            let unknown = ResponseError::InvalidProducerIdMapping;
            return Err(if self.is_pending() { ResponseError::ConcurrentTransactions } else { unknown });
        };
        let bumps = ask.version.supports_epoch_bump();
        if bumps {
            // At the end of a producer id's epochs the producer may use the new one before the log has it.
            self.settled()?;
        }
        let turn = turn(current, &ask)?;
        self.settled()?;
        let prepared = if ask.commit { State::PrepareCommit } else { State::PrepareAbort };
        match (current.state, turn) {
            (State::Ongoing, Turn::Next) => {}
            (state, Turn::Next) if bumps && !ask.commit && state.is_at_rest() => {}
            (State::CompleteCommit, Turn::Retry) if ask.commit => return Ok(Step::Done),
            (State::CompleteAbort, Turn::Retry) if !ask.commit => return Ok(Step::Done),
            (state, Turn::Retry) if state == prepared => return Err(ResponseError::ConcurrentTransactions),
            _ => return Err(ResponseError::InvalidTxnState),
        }
        let next_producer_id = if bumps && current.producer.is_exhausted() {
            let Some(id) = fresh_id else { return Ok(Step::NeedsProducerId) };
            Some(id)
        } else {
            None
        };
        let next = current.ended(prepared, ask.version, next_producer_id, now_ms);
        Ok(self.write(next))
    }
}

/// Whether an end is the next or repeats the last, and whether its producer may ask at all.
fn turn(current: &Metadata, ask: &EndTransaction) -> Result<Turn, ResponseError> {
    let (known, asked) = (current.producer, ask.producer);
    if !ask.version.supports_epoch_bump() {
        return match () {
            () if asked.id != known.id => Err(ResponseError::InvalidProducerIdMapping),
            () if asked.epoch != known.epoch => Err(ResponseError::ProducerFenced),
            () if current.state == State::Ongoing => Ok(Turn::Next),
            () => Ok(Turn::Retry),
        };
    }
    let overflowed = Some(asked.id) == current.previous_producer_id && asked.epoch == i16::MAX - 1 && known.epoch == 0;
    if asked.id != known.id && !overflowed {
        return Err(ResponseError::InvalidProducerIdMapping);
    }
    let is_retry = asked.epoch.checked_add(1) == Some(known.epoch);
    match current.state {
        State::PrepareCommit | State::PrepareAbort if is_retry => Ok(Turn::Retry),
        State::CompleteCommit | State::CompleteAbort if is_retry || overflowed => Ok(Turn::Retry),
        State::PrepareCommit | State::PrepareAbort => Err(ResponseError::ProducerFenced),
        _ if asked.epoch == known.epoch => Ok(Turn::Next),
        _ => Err(ResponseError::ProducerFenced),
    }
}

impl Metadata {
    /// Who the producer is once the end that was decided is complete, or now: what the answer to EndTxn v5 says.
    pub(crate) fn producer_after_end(&self) -> Producer {
        let next_id = self.next_producer_id.filter(|_| self.client_version.supports_epoch_bump());
        next_id.map_or(self.producer, |id| Producer { id, epoch: 0 })
    }

    /// The decided outcome (`TransactionMetadata.prepareAbortOrCommit`). At the last epoch, which no client gets, it stays: the
    /// abort goes through. What was aborted without having begun began now.
    pub(super) fn ended(
        &self,
        state: State,
        version: TransactionVersion,
        next_producer_id: Option<i64>,
        now_ms: i64,
    ) -> Self {
        let bumps = version.supports_epoch_bump();
        let producer = if bumps { self.producer.bumped() } else { self.producer };
        let last_epoch = if bumps { Some(self.producer.epoch) } else { self.last_epoch };
        let start_ms = if self.state == State::Ongoing { self.start_ms } else { Some(now_ms) };
        let client_version = if bumps { version } else { TransactionVersion::V0 };
        let next = self.next(state, now_ms);
        Self { producer, last_epoch, start_ms, client_version, next_producer_id, ..next }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{collections::BTreeSet, sync::Arc};

    const NOW_MS: i64 = 500;

    fn metadata(state: State, producer: Producer) -> Metadata {
        Metadata {
            producer,
            previous_producer_id: Some(producer.id),
            next_producer_id: None,
            last_epoch: None,
            timeout_ms: 60_000,
            state,
            partitions: BTreeSet::new(),
            start_ms: Some(100),
            last_update_ms: 200,
            client_version: TransactionVersion::V2,
        }
    }

    /// What comes of an end by a producer with this epoch, where 5 is known.
    fn ended(
        state: State,
        epoch: i16,
        commit: bool,
        version: TransactionVersion,
    ) -> Result<Option<Arc<Metadata>>, ResponseError> {
        let mut transaction = Transaction::loaded(metadata(state, Producer { id: 7, epoch: 5 }));
        let ask = EndTransaction { producer: Producer { id: 7, epoch }, commit, version };
        match transaction.end(ask, None, NOW_MS)? {
            Step::Done => Ok(None),
            Step::Write(next) => Ok(Some(next)),
            Step::NeedsProducerId => panic!("there are epochs left"),
        }
    }

    #[test]
    fn ends_of_version_2_are_answered_as_the_table_says() {
        let (fenced, invalid) = (Err(ResponseError::ProducerFenced), Err(ResponseError::InvalidTxnState));
        let concurrent = Err(ResponseError::ConcurrentTransactions);
        let (commit, abort, done) = (Ok(Some(State::PrepareCommit)), Ok(Some(State::PrepareAbort)), Ok(None));
        let table = [
            (State::Ongoing, [fenced, commit, fenced, abort]),
            (State::Empty, [fenced, invalid, fenced, abort]),
            (State::CompleteCommit, [done, invalid, invalid, abort]),
            (State::CompleteAbort, [invalid, invalid, done, abort]),
            (State::PrepareCommit, [concurrent, fenced, invalid, fenced]),
            (State::PrepareAbort, [invalid, fenced, concurrent, fenced]),
        ];
        for (state, expected) in table {
            let cases = [(4, true), (5, true), (4, false), (5, false)];
            for ((epoch, commit), expected) in cases.into_iter().zip(expected) {
                let answer = ended(state, epoch, commit, TransactionVersion::V2);
                let next = answer.map(|next| next.map(|next| next.state));
                assert_eq!(next, expected, "{state:?}, epoch {epoch}, commit {commit}");
            }
            for epoch in [0, 3, 6, i16::MAX] {
                assert_eq!(ended(state, epoch, true, TransactionVersion::V2), Err(ResponseError::ProducerFenced));
            }
        }
    }

    #[test]
    fn ends_before_version_2_are_answered_by_the_state_alone() {
        let invalid = Err(ResponseError::InvalidTxnState);
        let concurrent = Err(ResponseError::ConcurrentTransactions);
        let (commit, abort, done) = (Ok(Some(State::PrepareCommit)), Ok(Some(State::PrepareAbort)), Ok(None));
        let table = [
            (State::Ongoing, commit, abort),
            (State::Empty, invalid, invalid),
            (State::CompleteCommit, done, invalid),
            (State::CompleteAbort, invalid, done),
            (State::PrepareCommit, concurrent, invalid),
            (State::PrepareAbort, invalid, concurrent),
        ];
        for (state, on_commit, on_abort) in table {
            for (commit, expected) in [(true, on_commit), (false, on_abort)] {
                let answer = ended(state, 5, commit, TransactionVersion::V0);
                assert_eq!(answer.map(|next| next.map(|next| next.state)), expected, "{state:?}, commit {commit}");
                assert_eq!(ended(state, 4, commit, TransactionVersion::V0), Err(ResponseError::ProducerFenced));
                assert_eq!(ended(state, 6, commit, TransactionVersion::V0), Err(ResponseError::ProducerFenced));
            }
        }
    }

    #[test]
    fn end_of_version_2_bumps_the_epoch_and_an_abort_of_nothing_begins_now() {
        let next = ended(State::Ongoing, 5, true, TransactionVersion::V2).unwrap().unwrap();
        assert_eq!((next.producer.epoch, next.last_epoch, next.start_ms), (6, Some(5), Some(100)));
        assert_eq!((next.last_update_ms, next.client_version), (NOW_MS, TransactionVersion::V2));
        let next = ended(State::Empty, 5, false, TransactionVersion::V2).unwrap().unwrap();
        assert_eq!((next.producer.epoch, next.start_ms), (6, Some(NOW_MS)));
        let next = ended(State::Ongoing, 5, true, TransactionVersion::V0).unwrap().unwrap();
        assert_eq!((next.producer.epoch, next.client_version), (5, TransactionVersion::V0));
    }

    #[test]
    fn producer_without_epochs_goes_on_with_a_new_id_and_may_ask_again() {
        let old = Producer { id: 7, epoch: i16::MAX - 1 };
        let mut transaction = Transaction::loaded(metadata(State::Ongoing, old));
        let ask = EndTransaction { producer: old, commit: true, version: TransactionVersion::V2 };
        assert_eq!(transaction.end(ask, None, NOW_MS), Ok(Step::NeedsProducerId));
        let Step::Write(next) = transaction.end(ask, Some(8), NOW_MS).unwrap() else { panic!() };
        assert_eq!((next.producer, next.next_producer_id), (Producer { id: 7, epoch: i16::MAX }, Some(8)));
        assert_eq!(next.producer_after_end(), Producer { id: 8, epoch: 0 });
        transaction.settle(true);
        let markers = transaction.complete(NOW_MS).unwrap();
        assert_eq!(markers.producer, Producer { id: 7, epoch: i16::MAX });
        assert_eq!(transaction.end(ask, None, NOW_MS), Err(ResponseError::ConcurrentTransactions));
        transaction.settle(true);
        assert_eq!(transaction.current().unwrap().producer, Producer { id: 8, epoch: 0 });
        assert_eq!(transaction.end(ask, None, NOW_MS), Ok(Step::Done));
        let other = EndTransaction { commit: false, ..ask };
        assert_eq!(transaction.end(other, None, NOW_MS), Err(ResponseError::InvalidTxnState));
    }

    #[test]
    fn write_that_fails_leaves_all_as_it_was() {
        let producer = Producer { id: 7, epoch: 5 };
        let mut transaction = Transaction::loaded(metadata(State::Ongoing, producer));
        let ask = EndTransaction { producer, commit: true, version: TransactionVersion::V2 };
        let first = transaction.end(ask, None, NOW_MS);
        assert_eq!(transaction.end(ask, None, NOW_MS), Err(ResponseError::ConcurrentTransactions));
        transaction.settle(false);
        assert_eq!(**transaction.current().unwrap(), metadata(State::Ongoing, producer));
        assert_eq!(transaction.end(ask, None, NOW_MS), first);
    }

    #[test]
    fn stranger_is_told_so() {
        let unknown = Err(ResponseError::InvalidProducerIdMapping);
        for version in [TransactionVersion::V0, TransactionVersion::V2] {
            let ask = EndTransaction { producer: Producer { id: 9, epoch: 5 }, commit: true, version };
            assert_eq!(Transaction::default().end(ask, None, NOW_MS), unknown);
            let known = metadata(State::Ongoing, Producer { id: 7, epoch: 5 });
            assert_eq!(Transaction::loaded(known).end(ask, None, NOW_MS), unknown);
        }
    }
}
