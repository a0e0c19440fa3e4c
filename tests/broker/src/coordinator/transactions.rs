//! Transactions: which producer has which transactional id, and what became of its transactions.
//!
//! Owns `__transaction_state` in memory and the order of the effects of each step: the log takes a state before anybody is told
//! of it; markers are written once an outcome is in the log, and durable on all partitions before it is complete. What a state
//! leads to is decided in `transaction/`; requests are translated in `requests.rs`. Knows nothing of sockets.
//!
//! What a restart finds after each effect of a transaction's end:
//!
//! | died after | found | goes on by |
//! |---|---|---|
//! | the decision, in memory | Ongoing | the producer's retry, or the time-out |
//! | Prepare in the log | Prepare | writing all markers |
//! | some markers | Prepare | writing all markers: a second one is harmless, its transaction is closed |
//! | all markers | Prepare | the same |
//! | Complete in the log | Complete | nothing |
//!
//! A step that began goes on when its client goes away: no id stays between two states.

pub(crate) mod admission;
mod markers;
mod producer_ids;
mod requests;
mod shard;
#[cfg(test)]
mod tests;
mod upkeep;

pub(crate) use admission::{Admission, Admitted};
pub(crate) use producer_ids::ProducerIds;

use super::placing::partition_of;
use crate::{
    internal::InternalLog,
    transaction::{Markers, Metadata, Step, Transaction, TransactionVersion},
};
use duramen::{Durability, KafkaErrorCode, LeaderEpoch, LogError, Partition};
use kafka_protocol::ResponseError;
use producer_ids::ProducerIdBlock;
use shard::Shard;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

/// The name of the topic with the transactions.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";
/// The name of the topic with the groups' offsets.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// How long to wait before what failed is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// Settings, by Kafka's names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransactionConfig {
    /// `transaction.max.timeout.ms`, inclusive.
    pub(crate) max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub(crate) expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub(crate) abort_interval: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub(crate) expire_interval: Duration,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long an append waits for the last transaction to be complete.
    pub(crate) patience: Duration,
    /// `transaction.partition.verification.enable`.
    pub(crate) verifies: bool,
    /// What a marker has to survive before its transaction is complete.
    pub(crate) durability: Durability,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            max_timeout_ms: 900_000,
            expiration_ms: 604_800_000,
            abort_interval: Duration::from_secs(10),
            expire_interval: Duration::from_secs(3600),
            patience: Duration::from_millis(100),
            verifies: true,
            durability: Durability::Flushed,
        }
    }
}

/// Where the partitions of a transaction are.
pub(crate) trait Partitions: Send + Sync {
    /// The partition and the epoch in which this broker leads it; `None` if there is none of the name, or none any more.
    fn partition(&self, topic: &str, index: i32) -> Option<(Arc<Partition>, i32)>;
}

/// What the coordinator needs of the rest of the broker.
pub(crate) struct TransactionDependencies {
    /// The partitions that producers write to.
    pub(crate) partitions: Arc<dyn Partitions>,
    /// Where producer ids come from.
    pub(crate) producer_ids: Arc<dyn ProducerIds>,
    /// The partition of `__consumer_offsets` that a group belongs to.
    pub(crate) offsets_partition: Box<dyn Fn(&str) -> i32 + Send + Sync>,
    /// Is told of each marker that became durable in `__consumer_offsets`: its partition, the producer id, whether it commits.
    pub(crate) offsets_ended: Box<dyn Fn(i32, i64, bool) + Send + Sync>,
    /// The feature `transaction.version`, which may change at any time.
    pub(crate) version: Box<dyn Fn() -> TransactionVersion + Send + Sync>,
    /// The time, in ms.
    pub(crate) now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    /// Takes what an operator should know.
    pub(crate) note: Box<dyn Fn(&str) + Send + Sync>,
}

/// The transactional ids of this broker.
pub(crate) struct TransactionCoordinator {
    config: TransactionConfig,
    /// One for each partition of `__transaction_state`.
    shards: Vec<Shard>,
    producer_ids: ProducerIdBlock,
    dependencies: TransactionDependencies,
    /// Guards what goes on without anybody waiting for it.
    tasks: Mutex<JoinSet<()>>,
    closing: watch::Sender<bool>,
}

impl fmt::Debug for TransactionCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionCoordinator").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl TransactionCoordinator {
    /// Reads the partitions of `__transaction_state`, in order, each with its leader epoch, which is the coordinator's epoch for
    /// the ids in it. Nothing goes on before [`TransactionCoordinator::start`].
    ///
    /// # Errors
    /// [`LogError`] of a partition that cannot be read.
    pub(crate) fn open(
        config: TransactionConfig,
        logs: Vec<(InternalLog, LeaderEpoch)>,
        dependencies: TransactionDependencies,
    ) -> Result<Arc<Self>, LogError> {
        let load = |(log, epoch)| Shard::load(log, epoch, &dependencies.note);
        let shards = logs.into_iter().map(load).collect::<Result<_, _>>()?;
        let producer_ids = ProducerIdBlock::new(Arc::clone(&dependencies.producer_ids));
        let (closing, _) = watch::channel(false);
        Ok(Arc::new(Self { config, shards, producer_ids, dependencies, tasks: Mutex::default(), closing }))
    }

    /// Goes on with the transactions whose end was decided, and begins to look for those that take too long. Needs the runtime;
    /// called once, when the partitions can be found and the groups are there.
    pub(crate) fn start(self: &Arc<Self>) {
        let now_ms = self.now_ms();
        for shard in &self.shards {
            for (id, markers) in shard.complete_all(now_ms) {
                let this = Arc::clone(self);
                self.spawn(async move { this.finish(&id, markers).await });
            }
        }
        let this = Arc::clone(self);
        self.spawn(async move { this.look_after().await });
    }

    /// Ends what goes on; whatever was decided goes on after the next start. Waits for the steps that are under way.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// The partition of `__transaction_state` that has this id (`TransactionStateManager.partitionFor`).
    pub(crate) fn partition_for(&self, transactional_id: &str) -> i32 {
        partition_of(transactional_id, self.shards.len())
    }

    fn shard(&self, transactional_id: &str) -> Result<&Shard, ResponseError> {
        let index = usize::try_from(self.partition_for(transactional_id)).unwrap_or(usize::MAX);
        self.shards.get(index).ok_or(ResponseError::NotCoordinator)
    }

    fn now_ms(&self) -> i64 {
        (self.dependencies.now_ms)()
    }

    fn version(&self) -> TransactionVersion {
        (self.dependencies.version)()
    }

    fn note(&self, line: &str) {
        (self.dependencies.note)(line);
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the coordinator closes.
    async fn closed(&self) {
        // The sender is in `self`: it cannot be gone.
        drop(self.closing.subscribe().wait_for(|closing| *closing).await);
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Waits before something is tried again, longer each time; `false` when the coordinator closes.
    async fn pause(&self, wait: &mut Duration) -> bool {
        tokio::select! {
            () = sleep(*wait) => {}
            () = self.closed() => return false,
        }
        *wait = wait.saturating_mul(2).min(RETRY.1);
        true
    }

    /// Has a step of one id decided, and lets the log take what comes of it: what the log has then. Whoever finds that another
    /// step is under way may wait for its end as long as `patience` says.
    async fn change(
        self: &Arc<Self>,
        id: &str,
        patience: Duration,
        decide: impl Fn(&mut Transaction, Option<i64>, i64) -> Result<Step, ResponseError>,
    ) -> Result<Arc<Metadata>, ResponseError> {
        let shard = self.shard(id)?;
        let deadline = Instant::now() + patience;
        let mut fresh_id = None;
        loop {
            if self.is_closing() {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            let settled = shard.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let now_ms = self.now_ms();
            let decided = shard.with(id, |transaction| {
                decide(transaction, fresh_id, now_ms).map(|step| (step, transaction.current().cloned()))
            });
            match decided {
                Ok((Step::Write(next), _)) => return self.write(id, next).await,
                Ok((Step::Done, current)) => return current.ok_or(ResponseError::InvalidProducerIdMapping),
                Ok((Step::NeedsProducerId, _)) => fresh_id = Some(self.producer_ids.next().await?),
                Err(ResponseError::ConcurrentTransactions)
                    if !patience.is_zero() && timeout_at(deadline, settled.as_mut()).await.is_ok() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the log take a state, in a task of its own: it goes on when whoever waits for it goes away.
    async fn write(self: &Arc<Self>, id: &str, next: Arc<Metadata>) -> Result<Arc<Metadata>, ResponseError> {
        let (answer, answered) = oneshot::channel();
        let (this, id, written) = (Arc::clone(self), Arc::<str>::from(id), Arc::clone(&next));
        self.spawn(async move {
            let answer = |result| {
                // Nobody may be there any more to hear it.
                let _ = answer.send(result);
            };
            this.carry_out(&id, &written, answer).await;
        });
        match answered.await {
            Ok(result) => result.map(|()| next),
            // The runtime ends.
            Err(_) => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    /// The effects of one step: the state goes to the log, whoever asked is answered, and a decided end is carried out.
    async fn carry_out(&self, id: &str, next: &Arc<Metadata>, answer: impl FnOnce(Result<(), ResponseError>)) {
        let Ok(shard) = self.shard(id) else { return };
        let written = shard.append(id, next, self.version(), self.now_ms()).await;
        let now_ms = self.now_ms();
        let markers = shard.with(id, |transaction| {
            transaction.settle(written.is_ok());
            written.is_ok().then(|| transaction.complete(now_ms)).flatten()
        });
        if markers.is_none() {
            shard.settled.notify_waiters();
        }
        if let Err(error) = &written {
            self.note(&format!("transactional id {id}: state {} was not written: {error:?}", next.state.name()));
        }
        answer(written.map_err(answer_to_write));
        if let Some(markers) = markers {
            self.finish(id, markers).await;
        }
    }

    /// Writes the markers of a decided end, and then that it is complete. Tries until it is done or the coordinator closes.
    async fn finish(&self, id: &str, markers: Markers) {
        let Ok(shard) = self.shard(id) else { return };
        if !self.write_markers(id, &markers, shard.coordinator_epoch).await {
            return;
        }
        let mut wait = RETRY.0;
        loop {
            let written = shard.append(id, &markers.completed, self.version(), self.now_ms()).await;
            let Err(error) = written else { break };
            let state = markers.completed.state.name();
            self.note(&format!("transactional id {id}: state {state} was not written, and is tried again: {error:?}"));
            if !self.pause(&mut wait).await {
                return;
            }
        }
        shard.with(id, |transaction| transaction.settle(true));
        shard.settled.notify_waiters();
    }
}

/// What a client is told when the log did not take a state (`TransactionStateManager.appendTransactionToLog`).
fn answer_to_write(error: KafkaErrorCode) -> ResponseError {
    match error {
        KafkaErrorCode::UnknownTopicOrPartition
        | KafkaErrorCode::NotEnoughReplicas
        | KafkaErrorCode::NotEnoughReplicasAfterAppend
        | KafkaErrorCode::RequestTimedOut => ResponseError::CoordinatorNotAvailable,
        KafkaErrorCode::NotLeaderOrFollower | KafkaErrorCode::KafkaStorageError => ResponseError::NotCoordinator,
        KafkaErrorCode::MessageTooLarge | KafkaErrorCode::RecordListTooLarge => ResponseError::UnknownServerError,
        other => response_error(other),
    }
}

/// The same error in the words of the protocol's crate.
fn response_error(error: KafkaErrorCode) -> ResponseError {
    ResponseError::try_from_code(error.code()).unwrap_or(ResponseError::UnknownServerError)
}

/// The number that a result has on the wire.
fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}
