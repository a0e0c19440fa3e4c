//! Appends to a log manager, as an input says; what the partitions hold after each restart.
//!
//! When the journal's writes end differs between backends, so only what does not depend on it is compared: what can be
//! read, what a ticket says in the end, and the files once everything is closed in order.

use super::Input;
use crate::history::NOW_MS;
use duramen::{
    AppendAsLeader, Background, DirectoryOptions, Durability, Fetch, HighWatermarkPolicy, Isolation, LogConfig,
    LogManager, ManagerOptions, Partition, Ticket, TopicPartition, ValidationPolicy,
    format::{
        batch::{Batches, assign_in_place},
        builder::BatchBuilder,
    },
    storage::Storage,
    validate,
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const PARTITIONS: u8 = 3;
const MAX_STEPS: usize = 40;
/// More than any wait takes.
const LIMIT: Duration = Duration::from_secs(60);
/// More polls than an append needs to become durable, on a slow disk too.
const MAX_POLLS: u32 = 20_000_000;

struct Managed<'a> {
    storage: &'a Arc<dyn Storage>,
    background: Background,
    manager: LogManager,
    tickets: Vec<Ticket>,
    serial: u32,
    answers: Vec<String>,
}

fn open(storage: &Arc<dyn Storage>, background: Background) -> LogManager {
    let directory =
        DirectoryOptions { now_ms: Some(NOW_MS), lock_timeout: Duration::from_secs(2), ..DirectoryOptions::default() };
    let options = ManagerOptions {
        journal_bytes: 128 << 10,
        gather_bytes: 1 << 20,
        piece_bytes: 4096,
        background,
        high_watermark: HighWatermarkPolicy::LogEnd,
        now_ms: Some(NOW_MS),
        directory,
        ..ManagerOptions::default()
    };
    LogManager::open_on(vec![Arc::clone(storage)], options).unwrap()
}

/// Runs the steps and gives what they answered.
pub(super) fn run(storage: &Arc<dyn Storage>, background: Background, data: &[u8]) -> Vec<String> {
    let manager = open(storage, background);
    manager.prepare().unwrap();
    let mut managed = Managed { storage, background, manager, tickets: Vec::new(), serial: 0, answers: Vec::new() };
    let mut input = Input(data);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        managed.step(&mut input);
    }
    managed.restart(true);
    managed.settle();
    managed.manager.close().unwrap();
    managed.answers
}

impl Managed<'_> {
    fn partition(&self, number: usize) -> Arc<Partition> {
        let name = TopicPartition::new("diff", i32::try_from(number).unwrap()).unwrap();
        let config = LogConfig {
            segment_bytes: 6000,
            index_interval_bytes: 500,
            segment_index_bytes: 240,
            ..LogConfig::default()
        };
        self.manager.get_or_create(&name, &config).unwrap()
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let partition = self.partition(input.below(PARTITIONS));
        match input.below(16) {
            0..=4 => self.append(&partition, usize::from(input.byte()) * 20, Durability::Flushed),
            5 | 6 => self.append(&partition, usize::from(input.byte()) * 20, Durability::Written),
            7 => self.follow(&partition, i64::from(input.byte() % 3)),
            8 => self.settle(),
            9 => {
                self.settle();
                partition.with(|log| log.roll(NOW_MS)).unwrap().unwrap();
            }
            10 => {
                self.settle();
                let target = partition.offsets().log_end - i64::from(input.byte() % 4);
                let target = target.max(partition.offsets().log_start);
                partition.with(|log| log.truncate_to(target, NOW_MS)).unwrap().unwrap();
            }
            11 => {
                self.settle();
                self.manager.checkpoint().unwrap();
            }
            12 => self.answers.push(content(&partition)),
            13 => self.move_on(input.byte()),
            14 => self.restart(true),
            _ => self.restart(false),
        }
    }

    fn batch(&mut self, len: usize) -> Vec<u8> {
        self.serial += 1;
        let value = self.serial.to_be_bytes().repeat(1 + len / 4);
        BatchBuilder::new().record(NOW_MS, Some(b"key"), Some(&value)).record(NOW_MS, None, None).build().unwrap()
    }

    fn append(&mut self, partition: &Partition, len: usize, durability: Durability) {
        let batch = self.batch(len);
        let batch = validate(batch, &ValidationPolicy::from_config(&LogConfig::default()), NOW_MS).unwrap();
        let appended = partition.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS), durability).unwrap();
        self.answers.push(format!("{}", appended.info.last_offset));
        self.tickets.push(appended.into_ticket());
    }

    fn follow(&mut self, partition: &Partition, gap: i64) {
        let mut batch = self.batch(100);
        assign_in_place(&mut batch, partition.offsets().log_end + gap, 0).unwrap();
        let appended = partition.append_as_follower(&batch, 0, NOW_MS, Durability::Flushed).unwrap();
        self.answers.push(format!("{:?}", appended.as_ref().map(|append| append.info.last_offset)));
        self.tickets.extend(appended.map(duramen::Append::into_ticket));
    }

    /// A few polls, and perhaps a tick, of what may be on its way; threads do it by themselves.
    fn move_on(&self, how: u8) {
        if self.background == Background::Host {
            for _ in 0..how % 4 {
                self.manager.poll();
            }
            if how & 4 != 0 {
                self.manager.tick();
            }
        }
    }

    /// Polls until a ticket has its answer. Never ends by hanging.
    fn poll_for(&self, ticket: &Ticket) {
        for _ in 0..MAX_POLLS {
            if self.background == Background::Threads || ticket.is_done() {
                return;
            }
            if !self.manager.poll() {
                thread::yield_now();
            }
        }
        let (position, offset, metrics) = (ticket.position(), ticket.offset(), self.manager.metrics());
        panic!("{MAX_POLLS} polls do not bring {position:?} to {offset}: {metrics:?}");
    }

    /// Waits until every append is as durable as it was to be.
    fn settle(&mut self) {
        for ticket in std::mem::take(&mut self.tickets) {
            self.poll_for(&ticket);
            self.answers.push(format!("{:?}", ticket.wait(Some(Instant::now() + LIMIT))));
        }
    }

    /// Closes in order, or lets go, once everything was acknowledged; and looks at what is there.
    fn restart(&mut self, in_order: bool) {
        self.settle();
        if in_order {
            self.manager.close().unwrap();
        }
        // The lock goes with the manager, which has to go first.
        let gone = LogManager::open_on(Vec::new(), ManagerOptions::default()).unwrap();
        drop(std::mem::replace(&mut self.manager, gone));
        self.manager = open(self.storage, self.background);
        self.manager.prepare().unwrap();
        for number in 0..usize::from(PARTITIONS) {
            let partition = self.partition(number);
            let offsets = partition.offsets();
            self.answers.push(format!("{} to {}", offsets.log_start, offsets.log_end));
            self.answers.push(content(&partition));
        }
    }
}

/// Length and checksum of everything in a partition.
fn content(partition: &Partition) -> String {
    let (mut offset, mut all) = (partition.offsets().log_start, Vec::new());
    loop {
        let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) };
        let Some(records) = partition.read(fetch).unwrap().records else {
            return format!("{} bytes, checksum {}", all.len(), crc32c::crc32c(&all));
        };
        let bytes = records.to_vec().unwrap();
        for batch in Batches::new(&bytes).map_while(Result::ok) {
            offset = batch.header().next_offset();
            all.extend_from_slice(batch.bytes());
        }
    }
}
