//! A producer asks for its id and epoch (`TransactionCoordinator.handleInitProducerId`).

use super::{Metadata, Producer, State, Step, Transaction, TransactionVersion};
use kafka_protocol::ResponseError;
use std::collections::BTreeSet;

/// What a producer asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InitProducerId {
    /// How long its transactions may take, in ms.
    pub(crate) timeout_ms: i32,
    /// Who the producer says that it is, if it had an id before.
    pub(crate) expected: Option<Producer>,
    /// The version that the broker works by, for aborting what an older producer left open.
    pub(crate) version: TransactionVersion,
}

impl Transaction {
    /// Gives the id to a producer, and fences the one that had it. An open transaction is aborted first: then the producer has
    /// to come again, and the state that is written is PrepareAbort.
    ///
    /// `fresh_id` is a producer id that nobody had, for [`Step::NeedsProducerId`].
    pub(crate) fn init_producer_id(
        &mut self,
        ask: InitProducerId,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Result<Step, ResponseError> {
        let next = match self.settled()? {
            None => fresh_id.map(|id| created(id, ask, now_ms)),
            Some(current) => {
                check_expected(current, ask.expected)?;
                match current.state {
                    State::PrepareCommit | State::PrepareAbort => return Err(ResponseError::ConcurrentTransactions),
                    State::Ongoing => current.fenced(ask.version, fresh_id, now_ms),
                    State::Empty | State::CompleteCommit | State::CompleteAbort => {
                        taken_over(current, ask, fresh_id, now_ms)?
                    }
                    State::Dead | State::PrepareEpochFence => return Err(ResponseError::UnknownServerError),
                }
            }
        };
        Ok(next.map_or(Step::NeedsProducerId, |next| self.write(next)))
    }

    /// Aborts a transaction that was open for longer than its producer said, and fences the producer; [`Step::Done`] where there
    /// is nothing to do (`TransactionCoordinator.abortTimedOutTransactions`).
    pub(crate) fn time_out(
        &mut self,
        version: TransactionVersion,
        fresh_id: Option<i64>,
        now_ms: i64,
    ) -> Result<Step, ResponseError> {
        let Some(current) = self.settled()?.filter(|current| current.is_late(now_ms)) else {
            return Ok(Step::Done);
        };
        let next = current.fenced(version, fresh_id, now_ms);
        Ok(next.map_or(Step::NeedsProducerId, |next| self.write(next)))
    }

    /// Whether [`Transaction::time_out`] would do something (`TransactionStateManager.timedOutTransactions`).
    pub(crate) fn is_late(&self, now_ms: i64) -> bool {
        !self.is_pending() && self.current().is_some_and(|current| current.is_late(now_ms))
    }
}

impl Metadata {
    fn is_late(&self, now_ms: i64) -> bool {
        let since = self.start_ms.filter(|_| self.state == State::Ongoing);
        since.is_some_and(|since| since.saturating_add(i64::from(self.timeout_ms)) < now_ms)
    }

    /// The abort of an open transaction by the coordinator, in an epoch that no producer was given; `None` if that takes a new
    /// producer id, and there is none. Before version 2 the last epoch is kept for this (`prepareFenceProducerEpoch`); from then
    /// on it is like any other end.
    fn fenced(&self, version: TransactionVersion, fresh_id: Option<i64>, now_ms: i64) -> Option<Self> {
        if version.supports_epoch_bump() {
            let is_needless = !self.producer.is_exhausted();
            return (is_needless || fresh_id.is_some())
                .then(|| self.ended(State::PrepareAbort, version, fresh_id.filter(|_| !is_needless), now_ms));
        }
        let (producer, client_version) = (self.producer.bumped(), TransactionVersion::V0);
        let next = self.next(State::PrepareAbort, now_ms);
        Some(Self { producer, client_version, last_epoch: None, next_producer_id: None, ..next })
    }
}

/// A producer of an id that is new here has epoch 0, whatever it says that it was before.
fn created(id: i64, ask: InitProducerId, now_ms: i64) -> Metadata {
    Metadata {
        producer: Producer { id, epoch: 0 },
        previous_producer_id: Some(id),
        next_producer_id: None,
        last_epoch: None,
        timeout_ms: ask.timeout_ms,
        state: State::Empty,
        partitions: BTreeSet::new(),
        start_ms: None,
        last_update_ms: now_ms,
        client_version: TransactionVersion::V0,
    }
}

/// Who says who it was must be known by that id, or have been until its epochs were used up: then the answer was lost.
fn check_expected(current: &Metadata, expected: Option<Producer>) -> Result<(), ResponseError> {
    let is_known = |expected: Producer| {
        expected.id == current.producer.id
            || (Some(expected.id) == current.previous_producer_id && expected.is_exhausted())
    };
    if expected.is_none_or(is_known) { Ok(()) } else { Err(ResponseError::ProducerFenced) }
}

/// The producer's next epoch, or a new producer id where there is none left; `None` if that is needed and not there
/// (`TransactionMetadata.prepareIncrementProducerEpoch`, `prepareProducerIdRotation`).
fn taken_over(
    current: &Metadata,
    ask: InitProducerId,
    fresh_id: Option<i64>,
    now_ms: i64,
) -> Result<Option<Metadata>, ResponseError> {
    let known = current.producer;
    let continues = ask.expected.map(|expected| expected.epoch);
    let (producer, last_epoch) = match continues {
        // The answer to this very question was lost. Nobody else came since: that would have cleared the last epoch.
        Some(epoch) if epoch != known.epoch && Some(epoch) == current.last_epoch => (known, current.last_epoch),
        Some(epoch) if epoch != known.epoch => return Err(ResponseError::ProducerFenced),
        _ => {
            let next =
                if known.is_exhausted() { fresh_id.map(|id| Producer { id, epoch: 0 }) } else { Some(known.bumped()) };
            let Some(next) = next else { return Ok(None) };
            (next, continues.map(|_| known.epoch))
        }
    };
    let next = current.next(State::Empty, now_ms);
    let timeout_ms = ask.timeout_ms;
    let next = Metadata { producer, last_epoch, timeout_ms, partitions: BTreeSet::new(), start_ms: None, ..next };
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    const LAST: i16 = i16::MAX;

    fn ask(expected: Option<Producer>) -> InitProducerId {
        InitProducerId { timeout_ms: 60_000, expected, version: TransactionVersion::V2 }
    }

    fn known(state: State, producer: Producer) -> Metadata {
        Metadata { state, producer, start_ms: Some(100), ..created(producer.id, ask(None), 100) }
    }

    fn written(transaction: &mut Transaction, ask: InitProducerId, fresh_id: Option<i64>) -> Arc<Metadata> {
        let Ok(Step::Write(next)) = transaction.init_producer_id(ask, fresh_id, 500) else { panic!() };
        transaction.settle(true);
        next
    }

    #[test]
    fn new_id_gets_a_new_producer_whoever_asks() {
        for expected in [None, Some(Producer { id: 4, epoch: 9 })] {
            let mut transaction = Transaction::default();
            assert_eq!(transaction.init_producer_id(ask(expected), None, 500), Ok(Step::NeedsProducerId));
            let next = written(&mut transaction, ask(expected), Some(7));
            assert_eq!((next.producer, next.state), (Producer { id: 7, epoch: 0 }, State::Empty));
            assert_eq!((next.start_ms, next.last_update_ms), (None, 500));
        }
    }

    #[test]
    fn each_producer_of_an_id_has_an_epoch_of_its_own() {
        for state in [State::Empty, State::CompleteCommit, State::CompleteAbort] {
            let mut transaction = Transaction::loaded(known(state, Producer { id: 7, epoch: 3 }));
            let next = written(&mut transaction, ask(None), None);
            assert_eq!((next.producer.epoch, next.last_epoch, next.start_ms), (4, None, None));
        }
    }

    #[test]
    fn producer_that_continues_may_ask_again_until_another_one_came() {
        let first = Producer { id: 7, epoch: 3 };
        let mut transaction = Transaction::loaded(known(State::Empty, first));
        for _ in 0..2 {
            assert_eq!(written(&mut transaction, ask(Some(first)), None).producer.epoch, 4);
        }
        written(&mut transaction, ask(None), None);
        let fenced = Err(ResponseError::ProducerFenced);
        assert_eq!(transaction.init_producer_id(ask(Some(first)), None, 500), fenced);
        let stranger = Producer { id: 6, epoch: 5 };
        assert_eq!(transaction.init_producer_id(ask(Some(stranger)), None, 500), fenced);
    }

    #[test]
    fn id_without_epochs_gets_a_new_producer_id_and_its_producer_may_ask_again() {
        let last = Producer { id: 7, epoch: LAST - 1 };
        let mut transaction = Transaction::loaded(known(State::Empty, last));
        assert_eq!(transaction.init_producer_id(ask(None), None, 500), Ok(Step::NeedsProducerId));
        for fresh_id in [Some(8), None] {
            let next = written(&mut transaction, ask(Some(last)), fresh_id);
            assert_eq!((next.producer, next.last_epoch), (Producer { id: 8, epoch: 0 }, Some(LAST - 1)));
        }
        let older = Producer { epoch: 5, ..last };
        assert_eq!(transaction.init_producer_id(ask(Some(older)), None, 500), Err(ResponseError::ProducerFenced));
    }

    #[test]
    fn open_transaction_is_aborted_with_epochs_that_nobody_has() {
        for (version, last_epoch) in [(TransactionVersion::V2, Some(3)), (TransactionVersion::V1, None)] {
            let mut transaction = Transaction::loaded(known(State::Ongoing, Producer { id: 7, epoch: 3 }));
            let next = written(&mut transaction, InitProducerId { version, ..ask(None) }, None);
            assert_eq!((next.state, next.producer.epoch, next.last_epoch), (State::PrepareAbort, 4, last_epoch));
            let again = transaction.init_producer_id(ask(None), None, 500);
            assert_eq!(again, Err(ResponseError::ConcurrentTransactions));
        }
    }

    #[test]
    fn last_epoch_is_enough_to_fence_its_producer() {
        for known_epoch in [LAST - 1, LAST] {
            let open = known(State::Ongoing, Producer { id: 7, epoch: known_epoch });
            let mut transaction = Transaction::loaded(open.clone());
            let old = InitProducerId { version: TransactionVersion::V1, ..ask(None) };
            let next = written(&mut transaction, old, None);
            assert_eq!((next.producer.epoch, next.next_producer_id), (LAST, None));
            let mut transaction = Transaction::loaded(open);
            assert_eq!(transaction.init_producer_id(ask(None), None, 500), Ok(Step::NeedsProducerId));
            let next = written(&mut transaction, ask(None), Some(8));
            assert_eq!((next.producer.epoch, next.next_producer_id), (LAST, Some(8)));
        }
    }

    #[test]
    fn transaction_times_out_after_its_time_and_no_other_state_does() {
        let mut transaction = Transaction::loaded(known(State::Ongoing, Producer { id: 7, epoch: 3 }));
        let time_out =
            |transaction: &mut Transaction, now_ms| transaction.time_out(TransactionVersion::V2, None, now_ms);
        assert_eq!((transaction.is_late(60_100), time_out(&mut transaction, 60_100)), (false, Ok(Step::Done)));
        assert!(transaction.is_late(60_101));
        assert!(matches!(time_out(&mut transaction, 60_101), Ok(Step::Write(_))));
        let under_way = (transaction.is_late(60_101), time_out(&mut transaction, 60_101));
        assert_eq!(under_way, (false, Err(ResponseError::ConcurrentTransactions)));
        for state in [State::Empty, State::PrepareCommit, State::CompleteAbort] {
            let mut transaction = Transaction::loaded(known(state, Producer { id: 7, epoch: 3 }));
            assert_eq!(time_out(&mut transaction, 1 << 40), Ok(Step::Done));
        }
    }
}
