//! Consumers at the tail of every partition: each offset comes once, in order, with the record that belongs there.

use super::{CONSUMERS, Kind, PARTITIONS, Shared, kind_of, name};
use duramen::{Fetch, Isolation, LongPoll, Partition, format::batch::Batches};
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
}

/// Reads until the end.
pub(super) fn run(shared: &Shared, number: usize, end: Instant) -> Result<(), String> {
    let own = (number..PARTITIONS).step_by(CONSUMERS);
    let mut cursors: Vec<Cursor> =
        own.map(|partition| Cursor { partition, open: None, incarnation: 0, offset: 0 }).collect();
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
        let fetch = Fetch { isolation: Isolation::HighWatermark, ..Fetch::from(self.offset) };
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
                self.check_records(shared, &batch)?;
            }
            self.offset = header.next_offset();
        }
        Ok(())
    }

    fn check_records(&self, shared: &Shared, batch: &duramen::format::batch::Batch<'_>) -> Result<(), String> {
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch, 1 << 20).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let said = record.value().and_then(|value| value.split(|byte| *byte == b' ').next());
            if said != Some(record.offset().to_string().as_bytes()) {
                return Err(format!("partition {}: another record at {}", self.partition, record.offset()));
            }
            shared.counts.records_read.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
