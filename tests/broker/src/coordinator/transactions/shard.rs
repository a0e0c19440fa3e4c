//! One partition of `__transaction_state`: its log, and the ids in it.

use crate::{
    internal::{Content, InternalLog, Keyed},
    records::transactions::{TransactionLogValue, decode_key, encode_key},
    transaction::{Markers, Metadata, State, Transaction, TransactionVersion},
};
use bytes::Bytes;
use duramen::{KafkaErrorCode, LeaderEpoch, LogError};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The ids of one partition.
pub(super) struct Shard {
    log: InternalLog,
    /// Grows with each leader of the partition, and goes into the markers.
    pub(super) coordinator_epoch: LeaderEpoch,
    /// Guards the ids; held while something is decided, never while anything is written.
    transactions: Mutex<HashMap<Arc<str>, Transaction>>,
    /// Told whenever nothing is on its way to the log any more for one of the ids.
    pub(super) settled: Notify,
}

impl Shard {
    /// Reads the partition: the newest record of an id counts (`TransactionStateManager.loadTransactionMetadata`). A record
    /// that cannot be understood is left out, and noted.
    pub(super) fn load(
        log: InternalLog,
        coordinator_epoch: LeaderEpoch,
        note: &dyn Fn(&str),
    ) -> Result<Self, LogError> {
        let mut transactions = HashMap::new();
        log.replay(|record| {
            let Content::Keyed(key, value) = record.content else { return };
            match read(key, value) {
                Ok((id, Some(metadata))) => drop(transactions.insert(id, Transaction::loaded(metadata))),
                Ok((id, None)) => drop(transactions.remove(&id)),
                Err(why) => note(&format!("a record of __transaction_state is left out: {why}")),
            }
        })?;
        Ok(Self { log, coordinator_epoch, transactions: Mutex::new(transactions), settled: Notify::new() })
    }

    pub(super) fn transactions(&self) -> MutexGuard<'_, HashMap<Arc<str>, Transaction>> {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with an id, known or not; one of which nothing is known afterwards is dropped.
    pub(super) fn with<T>(&self, id: &str, with: impl FnOnce(&mut Transaction) -> T) -> T {
        let mut transactions = self.transactions();
        if let Some(transaction) = transactions.get_mut(id) {
            let result = with(transaction);
            if transaction.is_vacant() {
                transactions.remove(id);
            }
            return result;
        }
        let mut transaction = Transaction::default();
        let result = with(&mut transaction);
        if !transaction.is_vacant() {
            transactions.insert(id.into(), transaction);
        }
        result
    }

    /// What the log has of an id.
    pub(super) fn current(&self, id: &str) -> Option<Arc<Metadata>> {
        self.transactions().get(id)?.current().cloned()
    }

    /// The markers of every id whose end is decided.
    pub(super) fn complete_all(&self, now_ms: i64) -> Vec<(Arc<str>, Markers)> {
        let mut transactions = self.transactions();
        let each = transactions.iter_mut();
        each.filter_map(|(id, transaction)| Some((Arc::clone(id), transaction.complete(now_ms)?))).collect()
    }

    /// Lets the log take a state of an id.
    pub(super) async fn append(
        &self,
        id: &str,
        metadata: &Metadata,
        version: TransactionVersion,
        now_ms: i64,
    ) -> Result<(), KafkaErrorCode> {
        let key = encode_key(id).map_err(|_| KafkaErrorCode::InvalidRequest)?;
        let value = metadata.log_value().encode(version.log_value_version());
        let value = Some(value.map_err(|_| KafkaErrorCode::UnknownServerError)?);
        self.log.append(&[Keyed { key, value }], now_ms).await
    }

    /// Lets the log forget ids, all of them or none.
    pub(super) async fn append_tombstones(&self, ids: &[Arc<str>], now_ms: i64) -> Result<(), KafkaErrorCode> {
        let tombstone = |id: &Arc<str>| {
            let key = encode_key(id).map_err(|_| KafkaErrorCode::InvalidRequest)?;
            Ok(Keyed { key, value: None })
        };
        let records = ids.iter().map(tombstone).collect::<Result<Vec<_>, _>>()?;
        self.log.append(&records, now_ms).await
    }
}

/// A record's id, and what it says of it.
fn read(key: &[u8], value: Option<&[u8]>) -> Result<(Arc<str>, Option<Metadata>), String> {
    let id = decode_key(Bytes::copy_from_slice(key)).map_err(|error| error.to_string())?;
    let Some(value) = value else {
        return Ok((id.as_str().into(), None));
    };
    let value = TransactionLogValue::decode(Bytes::copy_from_slice(value)).map_err(|error| error.to_string())?;
    let metadata = Metadata::from_log_value(&value).map_err(|error| error.to_string())?;
    let is_dead = matches!(metadata.state, State::Dead | State::PrepareEpochFence);
    if is_dead {
        Err(format!("state {} is not stored", metadata.state.name()))
    } else {
        Ok((id.as_str().into(), Some(metadata)))
    }
}
