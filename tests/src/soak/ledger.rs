//! What has been done to a partition, and what it therefore owes after a restart, byte for byte.
//!
//! Knows no more than the log keeps, so that it does not grow: what retention removed and what a later record of the key
//! replaced is forgotten here as well.

use super::{Kind, kind_of};
use duramen::{
    Fetch, Isolation, Partition,
    format::batch::{Batch, Batches},
};
use std::collections::{BTreeMap, VecDeque};

/// Entries of a compacted log from which on replaced ones are forgotten.
const MOST_REPLACED: usize = 200;

/// How far a producer is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) sequence: i32,
    /// Whether the transaction that is open will be committed.
    pub(super) transaction: Option<bool>,
}

/// One append, of one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) key: usize,
    /// Of the batch as it is in the log; in a compacted one, which is written anew, of the record's value.
    pub(super) crc: u32,
    /// The producer, after it.
    pub(super) after: Progress,
}

/// What has been done to a partition, for ever.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The next offset.
    pub(super) end: i64,
    /// Everything below was acknowledged as flushed.
    pub(super) flushed: i64,
    pub(super) log_start: i64,
    pub(super) progress: Progress,
    /// The directory has failed: nothing is taken any more.
    pub(super) is_refused: bool,
    /// The directory was to fail: what was not flushed may be lost.
    pub(super) may_have_lost: bool,
    entries: VecDeque<Entry>,
}

impl Ledger {
    /// Bytes that it takes itself.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    pub(super) fn note(&mut self, entry: Entry) {
        (self.end, self.progress) = (entry.offset + 1, entry.after);
        self.entries.push_back(entry);
    }

    pub(super) fn acknowledge(&mut self, end: i64) {
        self.flushed = self.flushed.max(end);
    }

    /// Forgets what the log need not have any more; the last append that was flushed says where the producer is.
    pub(super) fn forget(&mut self, kind: Kind, log_start: i64) {
        self.log_start = self.log_start.max(log_start);
        if kind == Kind::Compacted {
            if self.entries.len() > MOST_REPLACED {
                let flushed = self.entries.iter().filter(|entry| entry.offset < self.flushed);
                let last: BTreeMap<usize, i64> = flushed.map(|entry| (entry.key, entry.offset)).collect();
                self.entries.retain(|entry| last.get(&entry.key).is_none_or(|last| entry.offset >= *last));
            }
            return;
        }
        while let [Some(first), Some(second)] = [self.entries.front(), self.entries.get(1)]
            && first.offset < self.log_start
            && second.offset < self.flushed
        {
            self.entries.pop_front();
        }
    }

    /// Compares a partition after a restart, and goes on from what is there.
    pub(super) fn reconcile(&mut self, partition: usize, open: &Partition) -> Result<(), String> {
        let (found, what) = (open.offsets(), format!("partition {partition} after a restart"));
        let least = if self.may_have_lost { self.flushed } else { self.end };
        if found.log_end < least || found.log_end > self.end {
            return Err(format!("{what} ends at {}: {least} to {} are owed", found.log_end, self.end));
        }
        if found.log_start > self.log_start {
            return Err(format!("{what} begins at {}, and began at {}", found.log_start, self.log_start));
        }
        self.entries.retain(|entry| entry.offset < found.log_end);
        let last = self.entries.back();
        if last.map_or(0, |last| last.offset + 1) != found.log_end {
            return Err(format!("{what} ends at {}, and the soak knows of {last:?}", found.log_end));
        }
        self.progress = last.map_or_else(Progress::default, |last| last.after);
        (self.end, self.flushed, self.log_start) = (found.log_end, found.log_end, found.log_start);
        (self.is_refused, self.may_have_lost) = (false, false);
        self.check_content(kind_of(partition), &content(kind_of(partition), open)?)
            .map_err(|why| format!("{what}: {why}"))
    }

    fn check_content(&self, kind: Kind, content: &BTreeMap<i64, u32>) -> Result<(), String> {
        let is_compacted = kind == Kind::Compacted;
        let held = self.entries.iter().filter(|entry| is_compacted || entry.offset >= self.log_start);
        let last: BTreeMap<usize, i64> = self.entries.iter().map(|entry| (entry.key, entry.offset)).collect();
        for entry in held {
            let is_owed = !is_compacted || last.get(&entry.key) == Some(&entry.offset);
            match content.get(&entry.offset) {
                Some(crc) if *crc == entry.crc => {}
                None if !is_owed => {}
                Some(_) => return Err(format!("other bytes at {}", entry.offset)),
                None => return Err(format!("nothing at {}", entry.offset)),
            }
        }
        if is_compacted || i64::try_from(content.len()) == Ok(self.end - self.log_start) {
            return Ok(());
        }
        Err(format!("{} batches from {} to {}", content.len(), self.log_start, self.end))
    }
}

/// Offset and checksum of everything in a partition.
fn content(kind: Kind, open: &Partition) -> Result<BTreeMap<i64, u32>, String> {
    let (mut offset, mut all) = (open.offsets().log_start, BTreeMap::new());
    loop {
        let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) };
        let Some(records) = open.read(fetch).map_err(|error| error.to_string())?.records else { return Ok(all) };
        let bytes = records.to_vec().map_err(|error| error.to_string())?;
        for batch in Batches::new(&bytes).map_while(Result::ok) {
            offset = batch.header().next_offset();
            if kind == Kind::Compacted {
                values(&batch, &mut all)?;
            } else {
                all.insert(batch.header().base_offset(), crc32c::crc32c(batch.bytes()));
            }
        }
    }
}

fn values(batch: &Batch<'_>, into: &mut BTreeMap<i64, u32>) -> Result<(), String> {
    let mut scratch = Vec::new();
    for record in batch.records(&mut scratch, 1 << 20).map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        into.insert(record.offset(), crc32c::crc32c(record.value().unwrap_or_default()));
    }
    Ok(())
}
