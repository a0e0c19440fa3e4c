//! Consumers at the tail of every partition: each offset comes once, in order, with the record that belongs there; one that
//! reads committed records sees all of those and no other.

use super::{CONSUMERS, Kind, PARTITIONS, Shared, kind_of, name};
use duramen::{
    Fetch, Isolation, LongPoll, Partition,
    format::{
        batch::{Batch, Batches},
        index_entry::AbortedTxn,
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long a poll waits at most, so that the end is seen.
const POLL: Duration = Duration::from_millis(100);

/// Where a consumer is in a partition.
struct Cursor {
    partition: usize,
    open: Option<Arc<Partition>>,
    incarnation: u64,
    offset: i64,
    isolation: Isolation,
}

/// Reads what is committed by replicas until the end.
pub(super) fn run(shared: &Shared, number: usize, end: Instant) -> Result<(), String> {
    read(shared, (number..PARTITIONS).step_by(CONSUMERS), Isolation::HighWatermark, end)
}

/// Reads what is committed by transactions until the end.
pub(super) fn run_committed(shared: &Shared, end: Instant) -> Result<(), String> {
    let own = (0..PARTITIONS).filter(|partition| kind_of(*partition) == Kind::Transactional);
    read(shared, own, Isolation::ReadCommitted, end)
}

fn read(shared: &Shared, own: impl Iterator<Item = usize>, isolation: Isolation, end: Instant) -> Result<(), String> {
    let mut cursors: Vec<Cursor> =
        own.map(|partition| Cursor { partition, open: None, incarnation: 0, offset: 0, isolation }).collect();
    while Instant::now() < end && !shared.is_over.load(Ordering::Relaxed) {
        let mut poll = LongPoll::new(2000);
        for cursor in &mut cursors {
            cursor.read(shared, &mut poll)?;
        }
        // Nothing that came in time is no failure.
        let _ = poll.wait(Some(Instant::now() + POLL));
    }
    Ok(())
}

impl Cursor {
    fn read(&mut self, shared: &Shared, poll: &mut LongPoll) -> Result<(), String> {
        let incarnation = shared.incarnations[self.partition].load(Ordering::Acquire);
        if incarnation != self.incarnation || self.open.is_none() {
            self.open = shared.manager.get(&name(self.partition));
            (self.incarnation, self.offset) = (incarnation, 0);
        }
        let Some(open) = self.open.clone() else { return Ok(()) };
        self.offset = self.offset.max(open.offsets().log_start);
        let fetch = Fetch { isolation: self.isolation, ..Fetch::from(self.offset) };
        let fetched = match open.read_or_watch(fetch, poll) {
            Ok(fetched) => fetched,
            // Retention was faster, or the partition was deleted.
            Err(_) if open.offsets().log_start > self.offset => return Ok(()),
            Err(_) if shared.incarnations[self.partition].load(Ordering::Acquire) != self.incarnation => return Ok(()),
            Err(_) if kind_of(self.partition) == Kind::Flushed => {
                self.open = None;
                return Ok(());
            }
            Err(error) => return Err(format!("partition {} at {}: {error}", self.partition, self.offset)),
        };
        let Some(records) = fetched.records else { return Ok(()) };
        let bytes = records.to_vec().map_err(|error| error.to_string())?;
        for batch in Batches::new(&bytes).map_while(Result::ok) {
            let header = batch.header();
            batch.check_crc().map_err(|error| error.to_string())?;
            let is_next = header.base_offset() == self.offset
                || header.base_offset() < self.offset
                || kind_of(self.partition) == Kind::Compacted;
            if !is_next {
                let (partition, found) = (self.partition, header.base_offset());
                return Err(format!("partition {partition}: {found} follows where {} is due", self.offset));
            }
            if !header.attributes().is_control() {
                self.check_records(shared, &batch, &fetched.aborted)?;
            }
            self.offset = header.next_offset();
        }
        Ok(())
    }

    fn check_records(&self, shared: &Shared, batch: &Batch<'_>, aborted: &[AbortedTxn]) -> Result<(), String> {
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch, 1 << 20).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let mut said = record.value().unwrap_or_default().split(|byte| *byte == b' ');
            if said.next() != Some(record.offset().to_string().as_bytes()) {
                return Err(format!("partition {}: another record at {}", self.partition, record.offset()));
            }
            if self.isolation == Isolation::ReadCommitted {
                // A producer has a partition to itself, so what lies between is its own.
                let is_aborted = aborted.iter().any(|it| (it.first_offset..it.last_offset).contains(&record.offset()));
                if said.next() != Some(if is_aborted { b"abort" } else { b"commit" }) {
                    let (partition, offset) = (self.partition, record.offset());
                    return Err(format!("partition {partition}: {offset} is taken for aborted: {is_aborted}"));
                }
                shared.counts.records_decided.fetch_add(1, Ordering::Relaxed);
            }
            shared.counts.records_read.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
