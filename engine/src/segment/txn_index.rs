//! The aborted transactions whose markers lie in one segment: the `.txnindex` file.

use super::{Segment, SegmentError};
use crate::{
    format::index_entry::AbortedTxn,
    storage::{self, Access, File, StorageError},
    types::Offset,
};
use std::sync::{Arc, PoisonError};

/// More bytes than a transaction index can have: an entry for each of the smallest batches in 2 GiB.
const MAX_BYTES: u64 = 1 << 30;

/// Entries of one segment, by ascending last offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TxnIndex {
    entries: Vec<AbortedTxn>,
}

impl TxnIndex {
    pub(crate) fn new(entries: Vec<AbortedTxn>) -> Self {
        Self { entries }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries whose marker lies below `offset`.
    pub(crate) fn truncated(&self, offset: Offset) -> Self {
        Self { entries: self.entries.iter().filter(|txn| txn.last_offset < offset).copied().collect() }
    }

    /// Collects the transactions that a reader of `[fetch_offset, upper_bound)` has to know of; whether no later
    /// segment can hold another (`TransactionIndex.collectAbortedTxns`).
    pub(crate) fn collect(&self, fetch_offset: Offset, upper_bound: Offset, into: &mut Vec<AbortedTxn>) -> bool {
        for txn in &self.entries {
            if txn.last_offset >= fetch_offset && txn.first_offset < upper_bound {
                into.push(*txn);
            }
            if txn.last_stable_offset >= upper_bound {
                return true;
            }
        }
        false
    }

    /// The bytes of the `.txnindex` file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * AbortedTxn::SIZE);
        for txn in &self.entries {
            txn.encode(&mut bytes);
        }
        bytes
    }
}

impl Segment {
    /// The aborted transactions, read from the file when first asked for.
    pub(crate) fn txns(&self) -> Result<Arc<TxnIndex>, SegmentError> {
        if let Some(txns) = &*self.txns.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(txns));
        }
        let read = Arc::new(self.read_txns()?.unwrap_or_default());
        let mut txns = self.txns.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(txns.get_or_insert(read)))
    }

    /// What the file holds, without a torn last entry; `None` when it cannot be trusted and has to be rebuilt.
    ///
    /// # Errors
    /// [`SegmentError::Derived`] for entries of a newer version.
    pub(crate) fn read_txns(&self) -> Result<Option<TxnIndex>, SegmentError> {
        let bytes = storage::read_file(&*self.storage, &self.files.txn_index(), MAX_BYTES)?.unwrap_or_default();
        let mut entries = Vec::new();
        for entry in bytes.chunks_exact(AbortedTxn::SIZE) {
            entries.push(self.derived("transaction index", AbortedTxn::decode(entry))?);
        }
        let whole = bytes.len() % AbortedTxn::SIZE == 0;
        let ascending = entries.is_sorted_by(|a, b| a.last_offset < b.last_offset);
        let inside =
            entries.iter().all(|txn| txn.last_offset >= self.base_offset() && txn.first_offset <= txn.last_offset);
        Ok((whole && ascending && inside).then_some(TxnIndex { entries }))
    }

    /// Adds an aborted transaction and writes it behind the others.
    pub(crate) fn append_txn(&self, txn: AbortedTxn) -> Result<(), SegmentError> {
        let known = self.txns()?;
        let at = u64::try_from(known.len() * AbortedTxn::SIZE).unwrap_or(u64::MAX);
        let mut bytes = Vec::with_capacity(AbortedTxn::SIZE);
        txn.encode(&mut bytes);
        let path = self.files.txn_index();
        let file = match self.open_txn_index()? {
            Some(file) => file,
            None => self.storage.open(&path, Access::Create)?,
        };
        storage::write_at(&*self.storage, &file, at, &bytes)
            .map_err(|error| StorageError::new("append to", &path, error))?;
        let mut entries = known.entries.clone();
        entries.push(txn);
        *self.txns.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(TxnIndex { entries }));
        Ok(())
    }

    /// Replaces the aborted transactions, in memory and in the file.
    pub(crate) fn replace_txns(&self, txns: TxnIndex) -> Result<(), SegmentError> {
        let path = self.files.txn_index();
        if txns.entries.is_empty() {
            match self.storage.unlink(&path) {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        } else {
            self.replace_derived(&path, &txns.encode())?;
        }
        *self.txns.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(txns));
        Ok(())
    }

    /// The file, if there ever was an aborted transaction.
    pub(crate) fn open_txn_index(&self) -> Result<Option<File>, StorageError> {
        match self.storage.open(&self.files.txn_index(), Access::Write) {
            Err(error) if error.is_not_found() => Ok(None),
            opened => opened.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> TxnIndex {
        let txn = |producer_id, first_offset, last_offset, last_stable_offset| AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        };
        TxnIndex::new(vec![txn(0, 0, 10, 11), txn(1, 5, 15, 13), txn(2, 18, 35, 25), txn(3, 32, 50, 40)])
    }

    fn collected(fetch_offset: Offset, upper_bound: Offset) -> (Vec<i64>, bool) {
        let mut into = Vec::new();
        let complete = index().collect(fetch_offset, upper_bound, &mut into);
        (into.iter().map(|txn| txn.producer_id).collect(), complete)
    }

    // M 130
    #[test]
    fn collect_takes_what_overlaps_and_says_when_it_is_complete() {
        assert_eq!(collected(0, 100), (vec![0, 1, 2, 3], false));
        assert_eq!(collected(0, 32), (vec![0, 1, 2], true));
        assert_eq!(collected(0, 35), (vec![0, 1, 2, 3], true));
        assert_eq!(collected(10, 35), (vec![0, 1, 2, 3], true));
        assert_eq!(collected(11, 35), (vec![1, 2, 3], true));
        assert_eq!(collected(20, 41), (vec![2, 3], false));
    }

    // M 131
    #[test]
    fn truncation_keeps_transactions_that_ended_below() {
        assert_eq!(index().truncated(51).len(), 4);
        assert_eq!(index().truncated(50).len(), 3);
    }
}
