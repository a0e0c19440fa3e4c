//! What batches say of transactions and producers, read the slow way: every batch from the first on, nothing remembered.

use duramen::{
    Offset,
    format::{batch::Batch, control::EndTxnMarker},
};
use std::collections::{BTreeMap, BTreeSet};

/// A batch that was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) base_offset: Offset,
    pub(super) bytes: Vec<u8>,
    pub(super) next_offset: Offset,
}

impl Appended {
    pub(super) fn parse(&self) -> Batch<'_> {
        Batch::parse(&self.bytes).unwrap()
    }
}

/// The key and value of a record.
pub(super) type KeyValue = (Vec<u8>, Vec<u8>);

/// The records of a data batch by offset.
pub(super) fn records(batch: &Batch<'_>) -> Vec<(Offset, KeyValue)> {
    let mut scratch = Vec::new();
    let records = batch.records(&mut scratch, 1 << 20).unwrap();
    let parts = records.map(|record| {
        let record = record.unwrap();
        (record.offset(), (record.key().unwrap_or_default().to_vec(), record.value().unwrap_or_default().to_vec()))
    });
    parts.collect()
}

/// The marker in a batch.
pub(super) fn marker(batch: &Batch<'_>) -> Option<EndTxnMarker> {
    let mut scratch = Vec::new();
    let record = batch.records(&mut scratch, 1 << 10).unwrap().next()?.unwrap();
    EndTxnMarker::decode(&record).unwrap()
}

/// Offsets of a data batch: the first one, and that after the last.
pub(super) type Range = (Offset, Offset);

/// A transaction that was ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) first_offset: Offset,
    pub(super) data: Vec<Range>,
    pub(super) marker: Offset,
    pub(super) committed: bool,
}

/// What is known of one producer.
#[derive(Debug, Clone, Default)]
pub(super) struct Producer {
    pub(super) epoch: i16,
    /// Epoch of the coordinator of the last marker, and where that is.
    pub(super) coordinator: Option<(i32, Offset)>,
    /// Data batches of this epoch: sequences (first and last) and offsets (first and last).
    pub(super) batches: Vec<(i32, i32, Offset, Offset)>,
    /// Data batches of the open transaction.
    pub(super) open: Vec<Range>,
    /// Behind its last batch or marker.
    pub(super) end: Offset,
}

/// What batches say.
#[derive(Debug, Clone, Default)]
pub(super) struct Replay {
    pub(super) producers: BTreeMap<i64, Producer>,
    pub(super) ended: Vec<Ended>,
    /// Records that compaction may have taken.
    pub(super) removable: BTreeSet<Offset>,
}

impl Replay {
    /// Where the open transaction of a producer begins at the latest: its first data batch that the log must still have.
    pub(super) fn first_kept(&self, producer: &Producer, log_start: Offset) -> Option<Offset> {
        let is_kept =
            |(base, next): &&Range| *next > log_start && !(*base..*next).all(|offset| self.removable.contains(&offset));
        producer.open.iter().find(is_kept).map(|(base, _)| *base)
    }

    /// Reads batches, which are in order.
    pub(super) fn of<'a>(batches: impl IntoIterator<Item = &'a Appended>) -> Self {
        let mut replay = Self::default();
        for appended in batches {
            replay.observe(appended);
        }
        replay
    }

    fn observe(&mut self, appended: &Appended) {
        let batch = appended.parse();
        let header = batch.header();
        let Some(identity) = header.producer() else {
            return;
        };
        let producer = self.producers.entry(identity.id).or_default();
        if producer.epoch != identity.epoch {
            producer.batches.clear();
        }
        producer.epoch = identity.epoch;
        producer.end = appended.next_offset;
        if let Some(marker) = header.attributes().is_control().then(|| marker(&batch)).flatten() {
            producer.coordinator = Some((marker.coordinator_epoch, appended.base_offset));
            let data = std::mem::take(&mut producer.open);
            if let Some((first_offset, _)) = data.first().copied() {
                let marker_at = appended.base_offset;
                self.ended.push(Ended { first_offset, data, marker: marker_at, committed: marker.committed });
            }
            return;
        }
        let (first, last) = (identity.base_sequence.unwrap(), header.last_sequence().unwrap());
        producer.batches.push((first, last, appended.base_offset, appended.next_offset - 1));
        if header.attributes().is_transactional() {
            producer.open.push((appended.base_offset, appended.next_offset));
        }
    }

    /// Bases of the data batches of aborted transactions.
    pub(super) fn aborted(&self) -> BTreeSet<Offset> {
        let aborted = self.ended.iter().filter(|ended| !ended.committed);
        aborted.flat_map(|ended| ended.data.iter().map(|(base, _)| *base)).collect()
    }

    /// The last stable offset at least and at most: an open transaction holds it back where the log still has data of
    /// it; one whose marker is not committed may.
    pub(super) fn last_stable(&self, log_start: Offset, high_watermark: Offset) -> (Offset, Offset) {
        let (mut least, mut most) = (high_watermark, high_watermark);
        for producer in self.producers.values() {
            if let Some((first, _)) = producer.open.first() {
                least = least.min((*first).max(log_start));
            }
            if let Some(first) = self.first_kept(producer, log_start) {
                most = most.min(first.max(log_start));
            }
        }
        for ended in self.ended.iter().filter(|ended| ended.marker >= high_watermark) {
            least = least.min(ended.first_offset.max(log_start));
        }
        (least, most)
    }

    /// The records that a compaction of everything below `bound` may take: those that a later one with the same key
    /// replaces, and those of aborted transactions.
    pub(super) fn removable<'a>(&self, batches: impl Iterator<Item = &'a Appended>, bound: Offset) -> BTreeSet<Offset> {
        let aborted = self.aborted();
        let mut removable = BTreeSet::new();
        let mut last: BTreeMap<Vec<u8>, Offset> = BTreeMap::new();
        for appended in batches.filter(|appended| appended.next_offset <= bound) {
            let batch = appended.parse();
            if batch.header().attributes().is_control() {
                continue;
            }
            for (offset, (key, _)) in records(&batch) {
                if aborted.contains(&appended.base_offset) {
                    removable.insert(offset);
                } else {
                    removable.extend(last.insert(key, offset));
                }
            }
        }
        removable
    }
}
