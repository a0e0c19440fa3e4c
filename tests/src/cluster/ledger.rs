//! What the cluster has promised: every batch below a high watermark that any replica ever had, byte for byte.

use duramen::{Fetch, Isolation, LeaderEpoch, Log, Offset, format::batch::Batch};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Committed batches by base offset.
    batches: BTreeMap<Offset, Vec<u8>>,
    end: Offset,
    /// The highest watermark that the leader of an epoch served.
    served: BTreeMap<LeaderEpoch, Offset>,
    /// Below, records were deleted on request.
    pub(super) deleted_below: Offset,
}

/// The batches of a log from the one that holds `from` on, up to `to`, exclusive.
pub(super) fn batches(log: &Log, from: Offset, to: Offset) -> Vec<(Offset, Vec<u8>)> {
    let mut found = Vec::new();
    let (reader, mut at) = (log.reader(), from);
    while at < to {
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1, ..Fetch::from(at) }).unwrap();
        let Some(records) = fetched.records else { break };
        let bytes = records.to_vec().unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        at = batch.header().next_offset();
        found.push((batch.header().base_offset(), bytes));
    }
    assert!(at >= to || to > log.offsets().log_end, "a gap at {at}");
    found
}

impl Ledger {
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// A leader committed more: the batches that are new.
    pub(super) fn extend(&mut self, log: &Log) -> Vec<(Offset, Vec<u8>)> {
        let high_watermark = log.offsets().high_watermark;
        if high_watermark <= self.end {
            return Vec::new();
        }
        let new = batches(log, self.end.max(log.offsets().log_start), high_watermark);
        for (base_offset, bytes) in &new {
            assert!(*base_offset >= self.end, "a batch at {base_offset} goes across the committed end {}", self.end);
            self.batches.insert(*base_offset, bytes.clone());
        }
        self.end = high_watermark;
        new
    }

    /// A log holds what is committed, from an offset or its log start on, up to another.
    pub(super) fn check(&self, log: &Log, from: Offset, to: Offset) {
        let log_start = log.offsets().log_start;
        assert!(log_start <= self.deleted_below, "the log starts at {log_start}, which nobody asked for");
        assert!(log.offsets().log_end >= to, "the log ends at {}, {to} is committed", log.offsets().log_end);
        // What was deleted is shown again after a crash, if the log start was not checkpointed; and a follower that had
        // parted from its leader down there shows something else. So does Kafka.
        for (base_offset, bytes) in batches(log, from.max(log_start).max(self.deleted_below), to) {
            assert!(self.batches.get(&base_offset) == Some(&bytes), "the batch at {base_offset} is another one");
        }
    }

    /// An append was acknowledged with acks=all.
    pub(super) fn check_acknowledged(&self, base_offset: Offset, bytes: &[u8]) {
        let committed = self.batches.get(&base_offset).map(Vec::as_slice);
        assert!(committed == Some(bytes), "the acknowledged batch at {base_offset} is not committed");
    }

    /// A leader shows its high watermark; `latest` says that it would tell it as the latest offset.
    pub(super) fn serve(&mut self, epoch: LeaderEpoch, high_watermark: Offset, latest: bool) {
        let served = self.served.entry(epoch).or_default();
        assert!(
            *served <= high_watermark,
            "the high watermark of epoch {epoch} went from {served} to {high_watermark}"
        );
        *served = high_watermark;
        if latest && let Some(before) = self.served.range(..epoch).map(|(_, offset)| *offset).max() {
            assert!(before <= high_watermark, "epoch {epoch} tells {high_watermark}, but {before} was told before");
        }
    }
}
