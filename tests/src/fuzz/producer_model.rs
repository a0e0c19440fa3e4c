//! Producers, markers, guards, expiry and what survives of them, against the rules as Kafka's semantics state them,
//! followed word by word and without an index or a snapshot.

use super::NOW_MS;
use crate::{disk::SimDisk, history};
use duramen::{
    AppendAsLeader, AppendOrigin, Checkpoints, Fetch, Isolation, Log, LogConfig, LogError, OpenOptions, TopicPartition,
    ValidationPolicy, VerificationGuard, VerifiedProducer,
    format::{
        batch::Batches,
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    },
    validate,
};
use std::{collections::BTreeMap, sync::Arc};

const EXPIRATION_MS: i64 = 10_000;
const NOT_ALLOWED: [i16; 4] = [45, 47, 48, 52];

/// Sequences (first and last) and offsets (first and last).
type Batch = (i32, i32, i64, i64);

#[derive(Debug, Clone, Default)]
struct Producer {
    epoch: i16,
    coordinator: Option<i32>,
    last_ms: i64,
    open: Option<i64>,
    batches: Vec<Batch>,
}

#[derive(Debug, Clone)]
struct Verification {
    guard: VerificationGuard,
    begun_ms: i64,
    epoch: i16,
    lowest: i32,
    bumps: bool,
}

/// What was appended.
#[derive(Debug, Clone)]
struct Appended {
    id: i64,
    epoch: i16,
    at_ms: i64,
    first: i64,
    last: i64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Data { first_sequence: i32, transactional: bool },
    Marker { committed: bool, coordinator: i32 },
}

/// Producer, first and last offset of a transaction that ended, and whether it was committed.
type Ended = (i64, i64, i64, bool);

#[derive(Debug, Default)]
struct Model {
    appended: Vec<Appended>,
    producers: BTreeMap<i64, Producer>,
    verifications: BTreeMap<i64, Verification>,
    ended: Vec<Ended>,
    end: i64,
    now_ms: i64,
}

impl Model {
    /// The decision table for a data batch of a client; the batch that it repeats, or the error.
    fn check_data(
        &self,
        id: i64,
        epoch: i16,
        sequences: (i32, i32),
        transactional: bool,
        guard: Option<VerificationGuard>,
    ) -> Result<Option<Batch>, i16> {
        let (first, last) = sequences;
        let known = self.producers.get(&id);
        if let Some(known) = known.filter(|known| known.epoch == epoch) {
            let recent = known.batches.iter().rev().take(5);
            if let Some(batch) = recent.clone().find(|batch| (batch.0, batch.1) == (first, last)) {
                return Ok(Some(*batch));
            }
        }
        if known.is_some_and(|known| epoch < known.epoch) {
            return Err(47);
        }
        let is_open = known.is_some_and(|known| known.open.is_some() && known.epoch == epoch);
        let verification = self.verifications.get(&id);
        if transactional && !is_open && (guard.is_none() || verification.map(|known| known.guard) != guard) {
            return Err(48);
        }
        if let Some(verification) = verification {
            let no_batch = known.is_none_or(|known| known.batches.is_empty());
            if (verification.bumps && no_batch && first != 0) || first > verification.lowest {
                return Err(45);
            }
        }
        if let Some(known) = known {
            let expected = match known.batches.last() {
                Some((_, last, _, _)) if known.epoch == epoch => last.checked_add(1).unwrap_or(0),
                _ => 0,
            };
            if first != expected {
                return Err(45);
            }
            if known.open.is_some() && !transactional {
                return Err(48);
            }
        }
        Ok(None)
    }

    fn check_marker(&self, id: i64, epoch: i16, coordinator: i32, version: i16) -> Result<(), i16> {
        let Some(known) = self.producers.get(&id) else {
            return Ok(());
        };
        if epoch < known.epoch || (version >= 2 && epoch == known.epoch && known.open.is_some()) {
            return Err(47);
        }
        if known.coordinator.is_some_and(|last| coordinator < last) { Err(52) } else { Ok(()) }
    }

    fn note(&mut self, appended: &Appended) {
        let fresh = || Producer { epoch: appended.epoch, ..Producer::default() };
        let producer = self.producers.entry(appended.id).or_insert_with(fresh);
        if producer.epoch != appended.epoch {
            producer.batches.clear();
        }
        producer.epoch = appended.epoch;
        producer.last_ms = appended.at_ms;
        match appended.kind {
            Kind::Data { first_sequence, transactional } => {
                let count = i32::try_from(appended.last - appended.first).unwrap();
                let last_sequence = first_sequence.checked_add(count).unwrap_or_else(|| {
                    i32::try_from(i64::from(first_sequence) + i64::from(count) - (1 << 31)).unwrap()
                });
                producer.batches.push((first_sequence, last_sequence, appended.first, appended.last));
                if transactional && producer.open.is_none() {
                    producer.open = Some(appended.first);
                }
            }
            Kind::Marker { committed, coordinator } => {
                producer.coordinator = Some(coordinator);
                if let Some(first) = producer.open.take() {
                    self.ended.push((appended.id, first, appended.last, committed));
                }
            }
        }
        self.end = appended.last + 1;
    }

    /// Takes note of what was just appended; a guard is used up by it.
    fn append(&mut self, appended: Appended) {
        let is_marker = matches!(appended.kind, Kind::Marker { .. });
        let uses = is_marker || matches!(appended.kind, Kind::Data { transactional: true, .. });
        let survives = |known: &Verification| known.bumps && is_marker && known.epoch == appended.epoch;
        if uses && !self.verifications.get(&appended.id).is_some_and(survives) {
            self.verifications.remove(&appended.id);
        }
        self.note(&appended);
        self.appended.push(appended);
    }

    /// Everything is read again up to an offset.
    fn replay(&mut self, end: i64) {
        let mut appended = std::mem::take(&mut self.appended);
        appended.retain(|appended| appended.last < end);
        self.producers.clear();
        self.ended.clear();
        for appended in &appended {
            self.note(appended);
        }
        (self.appended, self.end) = (appended, end);
    }

    fn expire(&mut self) {
        let now_ms = self.now_ms;
        self.producers.retain(|_, known| known.open.is_some() || now_ms - known.last_ms < EXPIRATION_MS);
        self.verifications.retain(|_, known| now_ms - known.begun_ms < EXPIRATION_MS);
    }

    /// What the log knows of producers after it was read again: of those that fell silent nothing perhaps, and of the
    /// others fewer batches, but the last.
    fn agree(&mut self, log: &Log, reloaded: bool) {
        let known: BTreeMap<_, _> =
            log.active_producers().into_iter().map(|known| (known.producer_id, known)).collect();
        assert!(known.keys().all(|id| self.producers.contains_key(id)), "{known:?} {:?}", self.producers);
        let now_ms = self.now_ms;
        self.producers.retain(|id, producer| {
            let expired = producer.open.is_none() && now_ms - producer.last_ms >= EXPIRATION_MS;
            assert!(known.contains_key(id) || (reloaded && expired), "{id} is forgotten: {producer:?}");
            known.contains_key(id)
        });
        for (id, producer) in &mut self.producers {
            let known = &known[id];
            let batches: Vec<Batch> = known
                .batches
                .iter()
                .map(|batch| {
                    (batch.first_sequence.unwrap(), batch.last_sequence.unwrap(), batch.first_offset, batch.last_offset)
                })
                .collect();
            let recent = &producer.batches[producer.batches.len().saturating_sub(5)..];
            assert!(
                recent.ends_with(&batches) && (reloaded || recent.len() == batches.len()),
                "{known:?} {producer:?}"
            );
            assert!(reloaded || batches.is_empty() == recent.is_empty());
            // Of one that had fallen silent when a snapshot was loaded only what came after it is known.
            if reloaded && known.coordinator_epoch.is_none() {
                producer.coordinator = None;
            }
            assert_eq!(
                (known.producer_epoch, known.coordinator_epoch, known.last_timestamp, known.current_txn_first_offset),
                (producer.epoch, producer.coordinator, producer.last_ms, producer.open)
            );
            producer.batches = batches;
        }
    }

    /// Last stable offset and aborted transactions.
    fn check_reads(&self, log: &Log, reloaded: bool) {
        let offsets = log.offsets();
        let open = self.producers.values().filter_map(|known| known.open);
        let waiting = self.ended.iter().filter(|ended| ended.2 >= offsets.high_watermark).map(|ended| ended.1);
        let most = open.clone().chain([offsets.high_watermark]).min().unwrap();
        let least = open.chain(waiting).chain([offsets.high_watermark]).min().unwrap();
        let last_stable = offsets.last_stable;
        assert!(
            if reloaded { (least..=most).contains(&last_stable) } else { last_stable == least },
            "{offsets:?} {least} {most}"
        );
        let fetch = Fetch { isolation: Isolation::ReadCommitted, max_bytes: 300, ..Fetch::from(offsets.log_start) };
        for offset in (offsets.log_start..last_stable).step_by(3) {
            let fetched = log.reader().read(Fetch { offset, ..fetch }).unwrap();
            let bytes = fetched.records.unwrap().to_vec().unwrap();
            // A bound inside the batch shows nothing of it.
            let Some(last) = Batches::new(&bytes).map_while(Result::ok).last() else {
                continue;
            };
            let end = last.header().next_offset();
            let found: Vec<_> =
                fetched.aborted.iter().map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset, false)).collect();
            assert!(found.iter().all(|txn| self.ended.contains(txn)), "{found:?} {:?}", self.ended);
            let mut wanted = self.ended.iter().filter(|txn| !txn.3 && txn.2 >= offset && txn.1 < end);
            assert!(wanted.all(|txn| found.contains(txn)), "{found:?} {:?} from {offset} to {end}", self.ended);
        }
    }
}

fn code(error: &LogError) -> i16 {
    let code = error.kafka_error_code().code();
    assert!(NOT_ALLOWED.contains(&code), "{error}");
    code
}

struct Run {
    disk: SimDisk,
    log: Option<Log>,
    model: Model,
    config: LogConfig,
    guards: BTreeMap<i64, VerificationGuard>,
    /// Whether ended transactions may not hold the last stable offset back any more.
    reloaded: bool,
}

impl Run {
    fn open(&mut self, clean: bool, high_watermark: i64) {
        let storage = history::on(&self.disk);
        let checkpoints = Arc::new(Checkpoints::read(Arc::clone(&storage)).unwrap());
        let options = OpenOptions {
            clean,
            high_watermark,
            producer_id_expiration_ms: EXPIRATION_MS,
            verify_transactions: true,
            ..OpenOptions::new(self.config.clone(), self.model.now_ms)
        };
        let partition = TopicPartition::new("fuzz", 0).unwrap();
        self.log = Some(Log::open(&storage, &checkpoints, &partition, &options, &mut |_| {}).unwrap().0);
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn data(&mut self, a: u8, b: u8) {
        let (id, epoch) = (i64::from(a % 3), i16::from(a / 4 % 3));
        let (transactional, count) = (a & 0x80 != 0, i32::from(b / 8 % 3) + 1);
        let known = self.model.producers.get(&id);
        let expected =
            known.and_then(|known| known.batches.last()).map_or(0, |batch| batch.1.checked_add(1).unwrap_or(0));
        let repeated = known.and_then(|known| known.batches.iter().rev().nth(usize::from(b / 32 % 6)).copied());
        let (sequence, count) = match (b % 8, repeated) {
            (0, _) => (0, count),
            (1, _) => (expected.saturating_add(1), count),
            (2, _) => (i32::MAX - 1, count),
            (3, Some((first, _, from, to))) => (first, i32::try_from(to - from).unwrap() + 1),
            _ => (expected, count),
        };
        let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
        if transactional {
            builder = builder.transactional();
        }
        for _ in 0..count {
            builder = builder.record(self.model.now_ms, None, Some(b"value"));
        }
        let last_sequence = i32::try_from((i64::from(sequence) + i64::from(count) - 1) % (1 << 31)).unwrap();
        // Guards of other producers and old ones prove nothing.
        let guard = match b % 5 {
            0 => None,
            1 => self.guards.values().next().copied(),
            _ => self.guards.get(&id).copied(),
        };
        let expected = self.model.check_data(id, epoch, (sequence, last_sequence), transactional, guard);
        let now_ms = self.model.now_ms;
        let policy = ValidationPolicy::from_config(&self.config).with_origin(AppendOrigin::Client);
        let batch = validate(builder.build().unwrap(), &policy, now_ms).unwrap();
        let result = self.log().append_as_leader(batch, AppendAsLeader::new(0, now_ms).with_guard(guard));
        match (result, expected) {
            (Err(error), Err(expected)) => assert_eq!(code(&error), expected, "{error}"),
            (Ok(info), Ok(Some(known))) => {
                assert!(info.is_duplicate, "{known:?}");
                assert_eq!((info.first_offset, info.last_offset), (known.2, known.3));
            }
            (Ok(info), Ok(None)) => {
                assert!(!info.is_duplicate && info.first_offset == self.model.end);
                let (first, last) = (info.first_offset, info.last_offset);
                let kind = Kind::Data { first_sequence: sequence, transactional };
                self.model.append(Appended { id, epoch, at_ms: now_ms, first, last, kind });
            }
            (result, expected) => {
                panic!("{result:?}, and the rules say {expected:?}: {:?}", self.model.producers.get(&id))
            }
        }
    }

    fn marker(&mut self, a: u8, b: u8) {
        let (id, epoch) = (i64::from(a % 3), i16::from(a / 4 % 3));
        let (committed, coordinator, version) = (b & 1 == 1, i32::from(b / 2 % 3), i16::from(b / 8 % 3));
        let now_ms = self.model.now_ms;
        let bytes =
            end_txn_marker(id, epoch, EndTxnMarker { committed, coordinator_epoch: coordinator }, now_ms).unwrap();
        let policy = ValidationPolicy::from_config(&self.config).with_origin(AppendOrigin::Coordinator);
        let batch = validate(bytes, &policy, now_ms).unwrap();
        let expected = self.model.check_marker(id, epoch, coordinator, version);
        let append = AppendAsLeader::new(0, now_ms).with_transaction_version(version);
        match (self.log().append_as_leader(batch, append), expected) {
            (Err(error), Err(expected)) => assert_eq!(code(&error), expected, "{error}"),
            (Ok(info), Ok(())) => {
                let kind = Kind::Marker { committed, coordinator };
                let (first, last) = (info.first_offset, info.last_offset);
                self.model.append(Appended { id, epoch, at_ms: now_ms, first, last, kind });
            }
            (result, expected) => {
                panic!("{result:?}, and the rules say {expected:?}: {:?}", self.model.producers.get(&id))
            }
        }
    }

    fn verify(&mut self, a: u8, b: u8) {
        let (id, epoch) = (i64::from(a % 3), i16::from(a / 4 % 3));
        let (sequence, bumps) = (i32::from(b % 4), b & 0x80 != 0);
        let now_ms = self.model.now_ms;
        let asked = VerifiedProducer { producer_id: id, producer_epoch: epoch, sequence, supports_epoch_bump: bumps };
        let answer = self.log().start_transaction_verification(asked, now_ms);
        let known = self.model.producers.get(&id);
        if known.is_some_and(|known| epoch < known.epoch) {
            assert_eq!(code(&answer.unwrap_err()), 47);
            return;
        }
        if known.is_some_and(|known| known.open.is_some() && known.epoch == epoch) {
            assert_eq!(answer.unwrap(), None);
            return;
        }
        let guard = answer.unwrap().unwrap();
        let fresh = Verification { guard, begun_ms: now_ms, epoch, lowest: sequence, bumps };
        let verification = self.model.verifications.entry(id).or_insert(fresh);
        assert_eq!(verification.guard, guard);
        if epoch > verification.epoch {
            (verification.epoch, verification.lowest) = (epoch, sequence);
        } else if epoch == verification.epoch {
            verification.lowest = verification.lowest.min(sequence);
        }
        self.guards.insert(id, guard);
    }

    fn reload(&mut self, clean: bool) {
        let high_watermark = self.log().offsets().high_watermark;
        let log = self.log.take().unwrap();
        if clean {
            log.close().unwrap();
        } else {
            drop(log);
        }
        self.open(clean, high_watermark);
        let end = self.model.end;
        self.model.replay(end);
        self.model.verifications.clear();
    }

    fn step(&mut self, op: u8, a: u8, b: u8) {
        let now_ms = self.model.now_ms;
        let mut reread = false;
        match op % 16 {
            0..=5 => self.data(a, b),
            6 | 7 => self.marker(a, b),
            8 | 9 => self.verify(a, b),
            10 => {
                let offset = self.model.end - i64::from(a % 8);
                self.log().update_high_watermark(offset);
            }
            11 => {
                self.model.now_ms += i64::from(a) * 40;
                let now_ms = self.model.now_ms;
                self.log().remove_expired_producers(now_ms);
                self.model.expire();
            }
            12 => self.log().take_producer_snapshot().unwrap(),
            13 => drop(self.log().roll(now_ms).unwrap()),
            // Reading the batches that stay again ends verifications: of which producers, the snapshots decide.
            14 if self.model.verifications.is_empty() => {
                let wanted = self.model.end - i64::from(a % 6);
                let found = self.model.appended.iter().find(|appended| appended.last >= wanted);
                let target = found.map_or(self.model.end, |appended| appended.first);
                self.log().truncate_to(target, now_ms).unwrap();
                if target < self.model.end {
                    self.model.replay(target);
                    reread = true;
                }
            }
            _ => {
                self.reload(a & 1 == 1);
                reread = true;
            }
        }
        self.reloaded |= reread;
        let log = self.log.as_ref().unwrap();
        self.model.agree(log, reread);
        self.model.check_reads(log, self.reloaded);
    }
}

/// Three bytes a step.
pub(super) fn producer_model(data: &[u8]) {
    let config =
        LogConfig { segment_bytes: 4096, index_interval_bytes: 64, segment_index_bytes: 240, ..LogConfig::default() };
    let model = Model { now_ms: NOW_MS, ..Model::default() };
    let disk = SimDisk::new(1);
    let mut run = Run { disk, log: None, model, config, guards: BTreeMap::new(), reloaded: false };
    run.open(false, 0);
    for step in data.chunks_exact(3).take(40) {
        run.step(step[0], step[1], step[2]);
    }
}
