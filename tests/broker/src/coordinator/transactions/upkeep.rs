//! What time does to transactions: those that take too long are aborted, ids that nobody uses are forgotten.

use super::TransactionCoordinator;
use crate::transaction::Transaction;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Most bytes of ids that are forgotten with one append.
const TOMBSTONE_BYTES: usize = 16 << 10;

impl TransactionCoordinator {
    /// Looks after the ids until the coordinator closes.
    pub(super) async fn look_after(self: Arc<Self>) {
        let mut next_abort = Instant::now() + self.config.abort_interval;
        let mut next_expiry = Instant::now() + self.config.expire_interval;
        loop {
            tokio::select! {
                () = sleep_until(next_abort) => {
                    self.abort_timed_out();
                    next_abort = Instant::now() + self.config.abort_interval;
                }
                () = sleep_until(next_expiry) => {
                    self.remove_expired().await;
                    next_expiry = Instant::now() + self.config.expire_interval;
                }
                () = self.closed() => return,
            }
        }
    }

    /// Begins to abort the transactions that have been open for too long (`TransactionCoordinator.abortTimedOutTransactions`).
    pub(super) fn abort_timed_out(self: &Arc<Self>) {
        let now_ms = self.now_ms();
        for shard in &self.shards {
            let late: Vec<Arc<str>> = {
                let transactions = shard.transactions();
                let late = transactions.iter().filter(|(_, transaction)| transaction.is_late(now_ms));
                late.map(|(id, _)| Arc::clone(id)).collect()
            };
            for id in late {
                let this = Arc::clone(self);
                self.spawn(async move { this.abort_late(&id).await });
            }
        }
    }

    async fn abort_late(self: &Arc<Self>, id: &str) {
        let version = self.version();
        let time_out =
            |transaction: &mut Transaction, fresh_id, now_ms| transaction.time_out(version, fresh_id, now_ms);
        match self.change(id, Duration::ZERO, time_out).await {
            Ok(_) => self.note(&format!("transactional id {id}: its transaction took too long and is aborted")),
            // It goes on without us, or the next look finds it again.
            Err(error) => self.note(&format!("transactional id {id} took too long and is not aborted: {error:?}")),
        }
    }

    /// Forgets the ids that were at rest for too long (`TransactionStateManager.removeExpiredTransactionalIds`).
    pub(super) async fn remove_expired(&self) {
        let now_ms = self.now_ms();
        for shard in &self.shards {
            let mut expired: Vec<Arc<str>> = Vec::new();
            for (id, transaction) in shard.transactions().iter_mut() {
                if transaction.expire(self.config.expiration_ms, now_ms) {
                    expired.push(Arc::clone(id));
                }
            }
            let mut rest = expired.as_slice();
            while !rest.is_empty() {
                let (ids, others) = rest.split_at(count_up_to(rest, TOMBSTONE_BYTES));
                let written = shard.append_tombstones(ids, now_ms).await;
                if let Err(error) = &written {
                    self.note(&format!("{} expired transactional ids stay for now: {}", ids.len(), error.name()));
                }
                for id in ids {
                    shard.with(id, |transaction| transaction.settle(written.is_ok()));
                }
                rest = others;
            }
            shard.settled.notify_waiters();
        }
    }
}

/// How many of these ids, at least one, have at most so many bytes.
fn count_up_to(ids: &[Arc<str>], bytes: usize) -> usize {
    let mut sum = 0_usize;
    let fit = ids.iter().take_while(|id| {
        sum = sum.saturating_add(id.len());
        sum <= bytes
    });
    fit.count().max(1).min(ids.len())
}
