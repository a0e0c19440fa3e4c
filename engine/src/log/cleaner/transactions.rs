//! Which transactions are aborted at a place in the log, and which markers nothing depends on any more.
//!
//! Follows `CleanedTransactionMetadata`: batches are shown in the order of the log, after the transaction indexes of
//! their segment. Pure.

use crate::{
    format::{batch::BatchHeader, control::ControlType, index_entry::AbortedTxn},
    types::{Offset, ProducerId},
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Where the transactions stand at the batch shown last.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted transactions that have not begun yet, by first offset.
    ahead: BTreeMap<(Offset, ProducerId), AbortedTxn>,
    /// Those that have, and whether a batch of theirs was met.
    aborted: HashMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers with a transactional batch that is not of an aborted transaction.
    committed: HashSet<ProducerId>,
    /// Entries of the output's transaction index.
    retained: Vec<AbortedTxn>,
}

impl Transactions {
    /// Adds what the indexes say of a range; the same entry may come again.
    pub(super) fn add(&mut self, txns: impl IntoIterator<Item = AbortedTxn>) {
        self.ahead.extend(txns.into_iter().map(|txn| ((txn.first_offset, txn.producer_id), txn)));
    }

    /// Takes note of a data batch; whether it belongs to an aborted transaction.
    pub(super) fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        let Some(producer) = header.producer().filter(|_| header.attributes().is_transactional()) else {
            return false;
        };
        if let Some((_, met)) = self.aborted.get_mut(&producer.id) {
            *met = true;
            return true;
        }
        self.committed.insert(producer.id);
        false
    }

    /// Takes note of a control batch, whose record is of this type, or was cleaned away; whether no batch of its
    /// transaction was met, so that nobody needs it.
    pub(super) fn on_control_batch(&mut self, header: &BatchHeader, control: Option<ControlType>) -> bool {
        self.begin_up_to(header.last_offset());
        let producer = header.producer().map_or(-1, |producer| producer.id);
        match control {
            None => true,
            Some(ControlType::Abort) => match self.aborted.remove(&producer) {
                Some((txn, true)) => {
                    self.retained.push(txn);
                    false
                }
                _ => true,
            },
            Some(ControlType::Commit) => !self.committed.remove(&producer),
            Some(_) => false,
        }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(entry) = self.ahead.first_entry().filter(|entry| entry.key().0 <= offset) {
            let txn = entry.remove();
            self.aborted.entry(txn.producer_id).or_insert((txn, false));
        }
    }

    /// The aborted transactions whose markers stay, met since the last call.
    pub(super) fn take_retained(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.retained)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::{
        batch::{Batch, assign_in_place},
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    };

    fn header(mut bytes: Vec<u8>, offset: Offset) -> BatchHeader {
        assign_in_place(&mut bytes, offset, 0).unwrap();
        Batch::parse(&bytes).unwrap().header().clone()
    }

    fn data(producer_id: ProducerId, offset: Offset) -> BatchHeader {
        header(
            BatchBuilder::new()
                .producer(producer_id, 0, 0)
                .transactional()
                .record(0, Some(b"k"), None)
                .build()
                .unwrap(),
            offset,
        )
    }

    fn marker(producer_id: ProducerId, offset: Offset) -> BatchHeader {
        let marker = EndTxnMarker { committed: true, coordinator_epoch: 0 };
        header(end_txn_marker(producer_id, 0, marker, 0).unwrap(), offset)
    }

    fn aborted(producer_id: ProducerId, first_offset: Offset, last_offset: Offset) -> AbortedTxn {
        AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset: last_offset + 1 }
    }

    // M 186
    #[test]
    fn batch_is_aborted_from_the_first_offset_to_the_marker() {
        let mut transactions = Transactions::default();
        transactions.add([aborted(1, 2, 4), aborted(1, 2, 4), aborted(1, 9, 12)]);
        assert!(!transactions.on_batch(&data(1, 0)));
        assert!(!transactions.on_control_batch(&marker(1, 1), Some(ControlType::Commit)));
        assert!(transactions.on_batch(&data(1, 2)));
        assert!(!transactions.on_batch(&data(2, 3)));
        transactions.add([aborted(1, 2, 4)]);
        assert!(!transactions.on_control_batch(&marker(1, 4), Some(ControlType::Abort)));
        assert!(!transactions.on_batch(&data(1, 5)));
        assert_eq!(transactions.take_retained(), [aborted(1, 2, 4)]);
        assert!(transactions.take_retained().is_empty());
    }

    // M 187, 188
    #[test]
    fn marker_is_needed_while_a_batch_of_its_transaction_is_there() {
        let mut transactions = Transactions::default();
        transactions.add([aborted(1, 3, 4)]);
        assert!(transactions.on_control_batch(&marker(2, 1), Some(ControlType::Commit)), "its data is gone");
        assert!(transactions.on_control_batch(&marker(1, 4), Some(ControlType::Abort)), "its data is gone");
        assert!(transactions.take_retained().is_empty());
        assert!(!transactions.on_batch(&data(2, 5)));
        assert!(!transactions.on_control_batch(&marker(2, 6), Some(ControlType::Commit)));
        assert!(transactions.on_control_batch(&marker(2, 7), Some(ControlType::Commit)), "said twice");
        assert!(transactions.on_control_batch(&marker(2, 8), None), "emptied");
        assert!(!transactions.on_control_batch(&marker(2, 9), Some(ControlType::LeaderChange)));
    }
}
