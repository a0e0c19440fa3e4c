//! Compaction of random keyed logs, against maps: what is appended, what may go, and what must stay.

use super::NOW_MS;
use crate::{
    disk::{Crash, SimDisk},
    history,
};
use duramen::{
    AppendAsLeader, AppendOrigin, CleanerControl, CleanerOptions, DirectoryOptions, Log, LogConfig, LogDirectory,
    TopicPartition, ValidationPolicy,
    format::{
        batch::Batches,
        builder::{BatchBuilder, end_txn_marker},
        compression::{Codec, Compression},
        control::EndTxnMarker,
    },
    validate,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

const DELETE_RETENTION_MS: u64 = 1000;

/// A record: its key, and its value unless it is a tombstone.
type Record = (u8, Option<Vec<u8>>);

#[derive(Debug, Clone)]
struct Appended {
    record: Record,
    /// The producer whose transaction it belongs to.
    transaction: Option<i64>,
    /// Whether its transaction was committed, once that is known; a record without one is.
    committed: Option<bool>,
}

#[derive(Debug, Clone, Default)]
struct Model {
    records: BTreeMap<i64, Appended>,
    /// Records that a cleaning may have taken.
    may_go: BTreeSet<i64>,
    /// Tombstones that a cleaning has kept, and the time at which it did so first.
    horizons: BTreeMap<i64, i64>,
    end: i64,
    cleaned_to: Option<i64>,
}

impl Model {
    /// What a cleaning of the offsets from `first_dirty` up to `bound` may take.
    fn on_cleaning(&mut self, first_dirty: i64, bound: i64, now_ms: i64) {
        let mut last = BTreeMap::new();
        for (offset, appended) in self.records.range(first_dirty..bound) {
            if appended.committed == Some(true) {
                last.insert(appended.record.0, *offset);
            }
        }
        for (offset, appended) in self.records.range(..bound) {
            let is_replaced = last.get(&appended.record.0).is_some_and(|last| last > offset);
            let is_aborted = appended.committed == Some(false);
            let horizon = self.horizons.get(offset).copied();
            let is_old = horizon.is_some_and(|at_ms| now_ms >= at_ms + i64::try_from(DELETE_RETENTION_MS).unwrap());
            if is_replaced || is_aborted || (appended.record.1.is_none() && is_old) {
                self.may_go.insert(*offset);
            } else if appended.record.1.is_none() {
                self.horizons.entry(*offset).or_insert(now_ms);
            }
        }
    }

    /// Everything that must stay is there, and nothing else than what was appended; after a cleaning nothing is there
    /// that it replaced.
    fn check(&self, log: &Log, cleaned: Option<(i64, i64)>) {
        let found = read(log);
        for (offset, record) in &found {
            assert_eq!(Some(record), self.records.get(offset).map(|appended| &appended.record), "offset {offset}");
        }
        for (offset, appended) in &self.records {
            assert!(found.contains_key(offset) || self.may_go.contains(offset), "{offset} is lost: {appended:?}");
        }
        if let Some((_, bound)) = cleaned {
            let mut seen = BTreeSet::new();
            for (offset, (key, _)) in found.range(..bound).rev() {
                assert!(seen.insert(*key), "key {key} is left twice, once at {offset}");
                assert!(self.records[offset].committed != Some(false), "{offset} was aborted");
            }
        }
    }
}

fn read(log: &Log) -> BTreeMap<i64, Record> {
    let bytes = history::read_all(log);
    let mut found = BTreeMap::new();
    for batch in Batches::new(&bytes) {
        let batch = batch.unwrap();
        if batch.header().attributes().is_control() {
            continue;
        }
        let mut scratch = Vec::new();
        for record in batch.records(&mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            found.insert(record.offset(), (record.key().unwrap()[0], record.value().map(<[u8]>::to_vec)));
        }
    }
    found
}

fn config() -> LogConfig {
    let mut config = LogConfig { segment_bytes: 2048, index_interval_bytes: 64, ..LogConfig::default() };
    config.segment_index_bytes = 240;
    config.delete_retention_ms = DELETE_RETENTION_MS;
    config.cleanup_policy.compact = true;
    config.cleanup_policy.delete = false;
    config
}

struct Run {
    disk: SimDisk,
    directory: Option<LogDirectory>,
    model: Model,
    now_ms: i64,
    sequences: BTreeMap<i64, i32>,
}

impl Run {
    fn open(disk: &SimDisk, now_ms: i64) -> LogDirectory {
        let options = DirectoryOptions {
            now_ms: Some(now_ms),
            lock_timeout: Duration::ZERO,
            producer_id_expiration_ms: i64::MAX,
            ..DirectoryOptions::default()
        };
        LogDirectory::open_on(Arc::new(disk.clone()), options).unwrap()
    }

    fn log(&mut self) -> &mut Log {
        let partition = TopicPartition::new("fuzz", 0).unwrap();
        self.directory.as_mut().unwrap().get_or_create(&partition, &config()).unwrap()
    }

    fn append(&mut self, a: u8, b: u8, transactional: bool) {
        let codec = Codec::ALL[usize::from(b % 5)];
        let mut builder = BatchBuilder::new().compression(Compression::with_default_level(codec));
        let id = i64::from(b / 8 % 2);
        let in_transaction =
            self.model.records.values().any(|known| known.transaction == Some(id) && known.committed.is_none());
        let transaction = (transactional || (in_transaction && b >= 128)).then_some(id);
        if let Some(id) = transaction {
            let sequence = self.sequences.entry(id).or_default();
            builder = builder.producer(id, 0, *sequence).transactional();
            *sequence += i32::from(a % 3) + 1;
        }
        for n in 0..=a % 3 {
            let key = (a / 3).wrapping_add(n * 7) % 6;
            let offset = self.model.end + i64::from(n);
            let value = (!(a ^ n).is_multiple_of(5))
                .then(|| format!("{offset} {}", "x".repeat(usize::from(b % 64))).into_bytes());
            builder = builder.record(self.now_ms, Some(&[key]), value.as_deref());
            let committed = transaction.is_none().then_some(true);
            self.model.records.insert(offset, Appended { record: (key, value), transaction, committed });
        }
        self.model.end += i64::from(a % 3) + 1;
        self.write(builder.build().unwrap(), AppendOrigin::Client);
    }

    fn write(&mut self, bytes: Vec<u8>, origin: AppendOrigin) {
        let now_ms = self.now_ms;
        let batch = validate(bytes, &ValidationPolicy::from_config(&config()).with_origin(origin), now_ms).unwrap();
        let info = self.log().append_as_leader(batch, AppendAsLeader::new(0, now_ms)).unwrap();
        assert_eq!(info.last_offset + 1, self.model.end);
    }

    fn end_transaction(&mut self, b: u8) {
        let (id, committed) = (i64::from(b / 8 % 2), b & 1 == 1);
        for known in self.model.records.values_mut().filter(|known| known.transaction == Some(id)) {
            known.committed = known.committed.or(Some(committed));
        }
        self.model.end += 1;
        let marker = EndTxnMarker { committed, coordinator_epoch: 0 };
        self.write(end_txn_marker(id, 0, marker, self.now_ms).unwrap(), AppendOrigin::Coordinator);
    }

    /// Cleans, perhaps with a map of few keys and a crash on the way; the disk is then the one that was found.
    fn clean(&mut self, a: u8, b: u8) {
        let (now_ms, end) = (self.now_ms, self.model.end);
        self.log().update_high_watermark(end);
        let checkpoint = self.model.cleaned_to.filter(|_| a & 1 == 1);
        let to_clean = self.log().log_to_clean(checkpoint, now_ms).unwrap();
        let (first_dirty, bound) = (to_clean.first_dirty_offset, to_clean.first_uncleanable_offset);
        let few = a & 6 == 6;
        let options = CleanerOptions {
            dedupe_buffer_bytes: if few { 24 * 5 } else { 1 << 14 },
            io_buffer_bytes: 1 + usize::from(a) * 16,
            hash_seed: u64::from(b),
            max_decompressed_bytes: 1 << 16,
        };
        self.model.on_cleaning(first_dirty, bound, now_ms);
        if b & 3 == 0 {
            self.log().flush().unwrap();
            self.disk.crash_at(self.disk.operations() + u64::from(b / 4) * 2);
        }
        let result = self.log().clean(&to_clean, &options, now_ms, &mut |_| CleanerControl::Continue);
        self.disk.heal();
        match result {
            Ok(stats) => {
                assert!(stats.end_offset <= bound);
                // Without the head in the map a key may be left twice.
                let whole = (!few && first_dirty == 0).then_some((first_dirty, stats.end_offset));
                let log = self.log();
                let cleaned = history::read_all(log);
                assert!(Batches::new(&cleaned).all(|batch| batch.unwrap().check_crc().is_ok()));
                self.model.cleaned_to = Some(stats.end_offset);
                let model = self.model.clone();
                model.check(self.log(), whole);
            }
            Err(error) => assert!(self.disk.crashed() || few, "{error}"),
        }
        if self.disk.crashed() {
            let how = [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::Random(u64::from(a))];
            self.reopen(Some(how[usize::from(a / 8 % 4)]));
        }
    }

    fn reopen(&mut self, crash: Option<Crash>) {
        let directory = self.directory.take().unwrap();
        match crash {
            Some(how) => {
                drop(directory);
                self.disk = self.disk.crash_image(how);
            }
            None => directory.close().unwrap(),
        }
        self.directory = Some(Self::open(&self.disk, self.now_ms));
        let end = self.model.end;
        assert_eq!(self.log().offsets().log_end, end);
        self.model.clone().check(self.log(), None);
    }
}

/// Three bytes a step.
pub(super) fn compact_model(data: &[u8]) {
    let disk = SimDisk::new(1);
    let directory = Some(Run::open(&disk, NOW_MS));
    let mut run = Run { disk, directory, model: Model::default(), now_ms: NOW_MS, sequences: BTreeMap::new() };
    for step in data.chunks_exact(3).take(40) {
        let (op, a, b) = (step[0], step[1], step[2]);
        match op % 16 {
            0..=4 => run.append(a, b, false),
            5 | 6 => run.append(a, b, true),
            7 | 8 => run.end_transaction(b),
            9 | 10 => {
                let now_ms = run.now_ms;
                run.log().roll(now_ms).unwrap();
            }
            11 => run.now_ms += i64::from(a) * 20,
            12 => {
                run.log().flush().unwrap();
                run.reopen(if a & 1 == 1 { Some(Crash::LoseAllUnsynced) } else { None });
            }
            _ => run.clean(a, b),
        }
    }
}
