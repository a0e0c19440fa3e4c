//! What the log's batches say of their producers: last batches, open transactions, and from them the first offset that
//! is not decided.
//!
//! Follows the log as it was written (replay); it validates nothing. Pure: the log writes the snapshots.

use crate::{
    format::{
        batch::BatchHeader,
        control::EndTxnMarker,
        index_entry::AbortedTxn,
        snapshot::{LastBatch, ProducerSnapshotEntry},
    },
    types::{Offset, ProducerEpoch, ProducerId, Timestamp},
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How many batches of a producer are remembered.
const REMEMBERED_BATCHES: usize = 5;

/// One producer (`ProducerStateEntry`).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: Option<i32>,
    last_timestamp: Timestamp,
    current_txn_first_offset: Option<Offset>,
    batches: VecDeque<LastBatch>,
}

/// A producer that the log remembers, as `DescribeProducers` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence of its last record; `None` after an epoch change by a marker.
    pub last_sequence: Option<i32>,
    /// Time of its last batch or marker, in ms.
    pub last_timestamp: Timestamp,
    /// Epoch of the coordinator that wrote its last marker.
    pub coordinator_epoch: Option<i32>,
    /// First offset of its open transaction.
    pub current_txn_first_offset: Option<Offset>,
}

/// All producers of one partition (`ProducerStateManager`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    producers: HashMap<ProducerId, Producer>,
    /// Open transactions by their first offset.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Ended transactions by their first offset, with that of their marker, until the high watermark passes it.
    unreplicated: BTreeMap<Offset, Offset>,
}

impl ProducerState {
    /// The state that a snapshot holds, without producers that fell silent `expiration_ms` ago or longer and have no
    /// open transaction.
    pub(crate) fn restore(entries: &[ProducerSnapshotEntry], now_ms: Timestamp, expiration_ms: i64) -> Self {
        let mut state = Self::default();
        for entry in entries {
            let silent_ms = now_ms.saturating_sub(entry.timestamp);
            if entry.current_txn_first_offset.is_none() && silent_ms >= expiration_ms {
                continue;
            }
            if let Some(first_offset) = entry.current_txn_first_offset {
                state.ongoing.insert(first_offset, entry.producer_id);
            }
            let producer = Producer {
                epoch: entry.producer_epoch,
                coordinator_epoch: entry.coordinator_epoch,
                last_timestamp: entry.timestamp,
                current_txn_first_offset: entry.current_txn_first_offset,
                batches: entry.last_batch.into_iter().collect(),
            };
            state.producers.insert(entry.producer_id, producer);
        }
        state
    }

    /// The entries of a snapshot, by ascending producer id.
    pub(crate) fn snapshot(&self) -> Vec<ProducerSnapshotEntry> {
        let mut entries: Vec<_> = self
            .producers
            .iter()
            .map(|(&producer_id, producer)| ProducerSnapshotEntry {
                producer_id,
                producer_epoch: producer.epoch,
                last_batch: producer.batches.back().copied(),
                timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                current_txn_first_offset: producer.current_txn_first_offset,
            })
            .collect();
        entries.sort_by_key(|entry| entry.producer_id);
        entries
    }

    /// Takes note of a data batch.
    pub(crate) fn append(&mut self, header: &BatchHeader) {
        let Some(identity) = header.producer() else {
            return;
        };
        let timestamp = header.max_timestamp().unwrap_or(-1);
        let producer = self.producers.entry(identity.id).or_insert_with(|| Producer::new(identity.epoch));
        producer.enter_epoch(identity.epoch);
        producer.last_timestamp = timestamp;
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(LastBatch {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta(),
            timestamp,
        });
        if header.attributes().is_transactional() && producer.current_txn_first_offset.is_none() {
            producer.current_txn_first_offset = Some(header.base_offset());
            self.ongoing.insert(header.base_offset(), identity.id);
        }
    }

    /// Takes note of an end marker. An aborted transaction that held data yields its index entry.
    pub(crate) fn end_txn(&mut self, header: &BatchHeader, marker: EndTxnMarker) -> Option<AbortedTxn> {
        let identity = header.producer()?;
        let producer = self.producers.entry(identity.id).or_insert_with(|| Producer::new(identity.epoch));
        producer.enter_epoch(identity.epoch);
        producer.coordinator_epoch = Some(marker.coordinator_epoch);
        producer.last_timestamp = header.max_timestamp().unwrap_or(-1);
        let first_offset = producer.current_txn_first_offset.take()?;
        let last_offset = header.last_offset();
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, last_offset);
        let last_stable_offset = self.ongoing.keys().next().copied().unwrap_or(last_offset.saturating_add(1));
        let aborted = AbortedTxn { producer_id: identity.id, first_offset, last_offset, last_stable_offset };
        (!marker.committed).then_some(aborted)
    }

    /// Transactions whose marker lies below the high watermark no longer hold the last stable offset back.
    pub(crate) fn on_high_watermark(&mut self, high_watermark: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// The first offset of the oldest transaction that is open or not known to be replicated.
    pub(crate) fn first_unstable_offset(&self) -> Option<Offset> {
        let ongoing = self.ongoing.keys().next().copied();
        let unreplicated = self.unreplicated.keys().next().copied();
        ongoing.into_iter().chain(unreplicated).min()
    }

    /// Forgets transactions that ended below the log start.
    pub(crate) fn on_log_start(&mut self, log_start: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= log_start);
    }

    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let mut active: Vec<_> = self
            .producers
            .iter()
            .map(|(&producer_id, producer)| ActiveProducer {
                producer_id,
                producer_epoch: producer.epoch,
                last_sequence: producer.batches.back().and_then(|batch| batch.last_sequence),
                last_timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                current_txn_first_offset: producer.current_txn_first_offset,
            })
            .collect();
        active.sort_by_key(|producer| producer.producer_id);
        active
    }
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: None,
            last_timestamp: -1,
            current_txn_first_offset: None,
            batches: VecDeque::with_capacity(REMEMBERED_BATCHES),
        }
    }

    /// A new epoch starts its sequences anew, so the batches of the old one say nothing any more.
    fn enter_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}
