//! Opening what a crash left, and comparing it with what is owed.

use super::{History, NOW_MS, Step, model, model::Replay, open, partition, read_all};
use crate::disk::Crash;
use duramen::{
    ActiveProducer, AppendAsLeader, AppendOrigin, Fetch, Isolation, Log, LogOffsets, Offset, ValidationPolicy,
    format::{
        batch::{Batch, Batches},
        builder::BatchBuilder,
        checkpoint::EpochEntry,
    },
    storage::Storage,
    validate,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

/// What an open log answers that must not depend on how often it was opened. Of producers that wrote nothing above the
/// log start it depends on that, as in Kafka, which snapshots are left.
#[derive(Debug, PartialEq)]
struct Answers {
    content: Vec<u8>,
    offsets: LogOffsets,
    epochs: Vec<EpochEntry>,
}

impl Answers {
    fn of(log: &Log) -> Self {
        let mut offsets = log.offsets();
        // Whether a marker at or above the high watermark holds it back depends on how the log was loaded, as in Kafka.
        offsets.last_stable = 0;
        Self { content: read_all(log), offsets, epochs: log.reader().leader_epochs() }
    }
}

impl History {
    /// Opens what a crash left and checks the promises; then that the log works.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn check(&self, disk: &Arc<dyn Storage>, how: Crash) {
        let config = self.config();
        let mut directory = open(disk).unwrap();
        let log = match directory.get_or_create(&partition(), &config) {
            Ok(log) => log,
            Err(error) => panic!("the log does not open: {error}"),
        };
        let floor = if how == Crash::ProcessOnly { self.written.max(self.flushed) } else { self.flushed };
        let first = Answers::of(log);
        self.check_answers(log, &first, floor);
        check_leftovers(disk);
        drop(directory);
        let mut directory = open(disk).unwrap();
        let log = directory.get_or_create(&partition(), &config).unwrap();
        let second = Answers::of(log);
        let second_end = second.offsets.log_end;
        let is_same = Answers {
            offsets: LogOffsets { recovery_point: first.offsets.recovery_point, ..second.offsets },
            ..second
        };
        assert!(is_same == first, "P5: opened twice is not opened once\n{first:?}\n{is_same:?}");
        log.update_high_watermark(second_end);
        let survivors = self.batches.iter().filter(|batch| batch.next_offset <= second_end);
        if !first.content.is_empty() {
            let found: Vec<Batch<'_>> = Batches::new(&first.content).map(|batch| batch.unwrap()).collect();
            let replay = Replay { removable: self.removable.clone(), ..Replay::of(survivors) };
            if !self.lacks_compacted(second_end) {
                check_committed(log, &replay, &found);
                self.check_producers(&replay, &log.active_producers(), &first.offsets);
            }
        }
        check_duplicates(log, &config, self.epoch + 1);
        // Liveness: the log takes a batch, closes in order, and opens without recovery.
        let mut after = self.fresh(&log.offsets());
        after.step(log, Step::Append(2)).unwrap();
        after.step(log, Step::Flush).unwrap();
        let all = read_all(log);
        assert!(all.starts_with(&first.content) && all.len() > first.content.len());
        let answers = Answers::of(log);
        directory.close().unwrap();
        let mut directory = open(disk).unwrap();
        assert!(directory.report().clean);
        let log = directory.get_or_create(&partition(), &config).unwrap();
        let closed = Answers {
            offsets: LogOffsets { recovery_point: answers.offsets.recovery_point, ..answers.offsets },
            ..Answers::of(log)
        };
        assert!(closed == answers, "P5: an orderly close changed the log\n{answers:?}\n{closed:?}");
    }

    /// The account of a log that goes on with other batches.
    fn fresh(&self, offsets: &LogOffsets) -> Self {
        Self {
            compacted: self.compacted,
            end: offsets.log_end,
            log_start: offsets.log_start,
            high_watermark: offsets.high_watermark,
            epoch: self.epoch + 1,
            serial: 1000,
            ..Self::default()
        }
    }

    fn check_answers(&self, log: &Log, answers: &Answers, floor: Offset) {
        let Answers { content, offsets, .. } = answers;
        let producers = log.active_producers();
        let found: Vec<Batch<'_>> = Batches::new(content).map(|batch| batch.unwrap()).collect();
        let clamped = |hw: &Offset| (*hw).clamp(offsets.log_start, offsets.log_end) == offsets.high_watermark;
        assert!(
            self.checkpointed.iter().chain([&0]).any(clamped),
            "the high watermark is {} and was checkpointed as {:?}",
            offsets.high_watermark,
            self.checkpointed
        );
        check_lookups(log, &found);
        if self.starting_at == Some(offsets.log_end) && content.is_empty() {
            if self.end != offsets.log_end {
                assert!(producers.is_empty(), "a log that started over knows {producers:?}");
            }
            return;
        }
        self.check_content(&found, offsets, floor);
        let survivors: Vec<_> = self.batches.iter().filter(|batch| batch.next_offset <= offsets.log_end).collect();
        let replay = Replay { removable: self.removable.clone(), ..Replay::of(survivors.iter().copied()) };
        self.check_epochs(log, &found, offsets);
        if !self.lacks_compacted(offsets.log_end) {
            self.check_producers(&replay, &producers, offsets);
            check_committed(log, &replay, &found);
        }
    }

    /// Whether a log that ends here lost, by a start-over that did not end, what a compaction relied on: what is left then
    /// says less of producers than was once there.
    fn lacks_compacted(&self, log_end: Offset) -> bool {
        self.starting_at.is_some() && log_end < self.compacted_below
    }

    /// P1 and P2: the batches of a prefix from the log start on, all of them up to the floor.
    fn check_content(&self, found: &[Batch<'_>], offsets: &LogOffsets, floor: Offset) {
        let (log_start, log_end) = (offsets.log_start, offsets.log_end);
        let (durable, asked) = self.log_start_range;
        assert!(
            (durable..=asked).contains(&log_start),
            "the log starts at {log_start}, which was promised at {durable} and asked for up to {asked}"
        );
        let whole = |batch: &&model::Appended| batch.next_offset > log_start && batch.next_offset <= log_end;
        let expected: Vec<_> = self.batches.iter().filter(whole).collect();
        let end = self.batches.iter().map(|batch| batch.next_offset).rfind(|next| *next <= log_end).unwrap_or(0);
        let promised = self.batches.iter().filter(|batch| batch.next_offset <= floor).map(|batch| batch.next_offset);
        assert!(
            (end.max(log_start) == log_end || self.is_gap(end, log_end)) && promised.max().unwrap_or(0) <= log_end,
            "P1, P2: the log ends at {log_end}; promised below {floor}, appended {:?}",
            self.batches.iter().map(|batch| (batch.base_offset, batch.next_offset)).collect::<Vec<_>>(),
        );
        if !self.compacted {
            let same = found.len() == expected.len() && found.iter().zip(&expected).all(|(a, b)| a.bytes() == b.bytes);
            assert!(
                same,
                "P1: from {log_start} to {log_end} there are {:?} of {:?}",
                found.iter().map(|batch| batch.header().base_offset()).collect::<Vec<_>>(),
                expected.iter().map(|batch| batch.base_offset).collect::<Vec<_>>(),
            );
            return;
        }
        let data = |batch: &Batch<'_>| !batch.header().attributes().is_control();
        let found: BTreeMap<_, _> = found.iter().filter(|batch| data(batch)).flat_map(model::records).collect();
        let expected: BTreeMap<_, _> =
            expected.iter().map(|batch| batch.parse()).filter(data).flat_map(|batch| model::records(&batch)).collect();
        for (offset, record) in &expected {
            let kept = found.get(offset);
            let may_go = self.removable.contains(offset) || *offset < log_start;
            assert!(kept == Some(record) || (kept.is_none() && may_go), "record {offset}: {record:?} is {kept:?}");
        }
        assert!(found.keys().all(|offset| expected.contains_key(offset)), "a record that was never appended");
    }

    /// What is known of producers is what the batches say, as far as the log has them.
    fn check_producers(&self, replay: &Replay, known: &[ActiveProducer], offsets: &LogOffsets) {
        let known: BTreeMap<i64, &ActiveProducer> = known.iter().map(|known| (known.producer_id, known)).collect();
        let log_start = offsets.log_start;
        assert!(known.keys().all(|id| replay.producers.contains_key(id)), "{known:?}, {:?}", replay.producers);
        for (id, producer) in &replay.producers {
            let Some(known) = known.get(id) else {
                assert!(producer.end <= log_start, "producer {id} is forgotten: {producer:?}");
                continue;
            };
            assert_eq!(known.producer_epoch, producer.epoch);
            let coordinator = producer.coordinator.map(|(epoch, _)| epoch);
            let marker_below = producer.coordinator.is_some_and(|(_, at)| at < log_start);
            assert!(known.coordinator_epoch == coordinator || (marker_below && known.coordinator_epoch.is_none()));
            let last = producer.batches.last();
            let below = last.is_some_and(|(_, _, _, last_offset)| *last_offset < log_start);
            let same = known.last_sequence == last.map(|(_, sequence, _, _)| *sequence);
            assert!(same || (below && known.last_sequence.is_none()), "{known:?}, {producer:?}");
            // A subsequence of the last five: a snapshot keeps one, compaction empties or takes others.
            let mut recent = producer.batches.iter().rev().take(5).rev();
            let all_known = known.batches.iter().all(|batch| {
                let (first, last) = (batch.first_sequence.unwrap(), batch.last_sequence.unwrap());
                recent.any(|known| *known == (first, last, batch.first_offset, batch.last_offset))
            });
            assert!(all_known, "{known:?}, {producer:?}");
            let open: Vec<Offset> = producer.open.iter().map(|(base, _)| *base).collect();
            let surviving = replay.first_kept(producer, log_start);
            match known.current_txn_first_offset {
                None => assert!(surviving.is_none(), "the transaction of {id} is forgotten: {producer:?}"),
                Some(first) => assert!(
                    open.contains(&first) && surviving.is_none_or(|surviving| first <= surviving),
                    "{known:?}, {producer:?}"
                ),
            }
        }
    }

    /// Every batch lies in its epoch; below a log start that was asked for it may lie in none.
    fn check_epochs(&self, log: &Log, found: &[Batch<'_>], offsets: &LogOffsets) {
        let reader = log.reader();
        for batch in found {
            let offset = batch.header().base_offset().max(offsets.log_start);
            let epoch = reader.epoch_for_offset(offset);
            let forgotten = epoch.is_none() && offset < self.deleted_below;
            assert!(epoch == batch.header().leader_epoch() || forgotten, "offset {offset} is of epoch {epoch:?}");
        }
    }
}

/// What a consumer that reads committed sees is what was committed.
fn check_committed(log: &Log, replay: &Replay, found: &[Batch<'_>]) {
    let offsets = log.offsets();
    let (least, most) = replay.last_stable(offsets.log_start, offsets.high_watermark);
    let last_stable = offsets.last_stable;
    assert!((least..=most).contains(&last_stable), "the last stable offset is {last_stable}, not in {least} to {most}");
    let aborted = replay.aborted();
    for isolation in [Isolation::LogEnd, Isolation::ReadCommitted] {
        let bound = if isolation == Isolation::LogEnd { offsets.log_end } else { last_stable };
        let expected: BTreeSet<Offset> = found
            .iter()
            .filter(|batch| !batch.header().attributes().is_control() && batch.header().next_offset() <= bound)
            .map(|batch| batch.header().base_offset())
            .filter(|base| isolation == Isolation::LogEnd || !aborted.contains(base))
            .collect();
        for max_bytes in [1, 400] {
            assert_eq!(consumed(log, isolation, max_bytes), expected, "{isolation:?} up to {bound}");
        }
    }
}

/// The data batches that a consumer is shown, as Kafka's client finds them.
fn consumed(log: &Log, isolation: Isolation, max_bytes: u64) -> BTreeSet<Offset> {
    let reader = log.reader();
    let mut seen = BTreeSet::new();
    let mut offset = log.offsets().log_start;
    loop {
        let fetched = reader.read(Fetch { isolation, max_bytes, ..Fetch::from(offset) }).unwrap();
        let Some(records) = fetched.records else {
            return seen;
        };
        let mut waiting = fetched.aborted.clone();
        waiting.sort_by_key(|txn| txn.first_offset);
        let mut skipped = BTreeSet::new();
        let bytes = records.to_vec().unwrap();
        let before = offset;
        for batch in Batches::new(&bytes).map_while(Result::ok) {
            let header = batch.header();
            while waiting.first().is_some_and(|txn| txn.first_offset <= header.last_offset()) {
                skipped.insert(waiting.remove(0).producer_id);
            }
            let id = header.producer().map(|identity| identity.id);
            if header.attributes().is_control() {
                if model::marker(&batch).is_some_and(|marker| !marker.committed) {
                    id.map(|id| skipped.remove(&id));
                }
            } else if !header.attributes().is_transactional() || id.is_none_or(|id| !skipped.contains(&id)) {
                seen.insert(header.base_offset());
            }
            offset = header.next_offset();
        }
        if offset == before {
            return seen;
        }
    }
}

/// The last batch of every producer is recognised, and its next one is taken.
fn check_duplicates(log: &mut Log, config: &duramen::LogConfig, epoch: i32) {
    let append = |log: &mut Log, known: &ActiveProducer, sequence: i32, records: i64| {
        let mut builder = BatchBuilder::new().producer(known.producer_id, known.producer_epoch, sequence);
        if known.current_txn_first_offset.is_some() {
            builder = builder.transactional();
        }
        for _ in 0..records {
            builder = builder.record(NOW_MS, Some(b"again"), None);
        }
        let policy = ValidationPolicy::from_config(config).with_origin(AppendOrigin::Client);
        log.append_as_leader(
            validate(builder.build().unwrap(), &policy, NOW_MS).unwrap(),
            AppendAsLeader::new(epoch, NOW_MS),
        )
    };
    for known in log.active_producers() {
        let Some(last) = known.batches.last() else {
            continue;
        };
        let records = last.last_offset - last.first_offset + 1;
        let end = log.offsets().log_end;
        let again = append(log, &known, last.first_sequence.unwrap(), records).unwrap();
        assert!(again.is_duplicate && log.offsets().log_end == end, "a repeat of {known:?} was taken for new");
        assert_eq!((again.first_offset, again.last_offset), (last.first_offset, last.last_offset));
        let gap = append(log, &known, last.last_sequence.unwrap() + 2, 1).unwrap_err();
        assert!(matches!(gap, duramen::LogError::OutOfOrderSequence { .. }), "{gap}");
    }
}

/// Nothing is left of what was given up.
fn check_leftovers(disk: &Arc<dyn Storage>) {
    for entry in disk.list(&PathBuf::from(partition().to_string())).unwrap() {
        let name = entry.name.to_string_lossy().into_owned();
        assert!(![".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end)), "{name} is left over");
    }
}

/// Every offset is found in its batch.
fn check_lookups(log: &Log, found: &[Batch<'_>]) {
    let reader = log.reader();
    for batch in found {
        let header = batch.header();
        for offset in header.base_offset().max(log.offsets().log_start)..header.next_offset() {
            let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap();
            assert_eq!(fetched.start.unwrap().offset, header.base_offset(), "the batch of offset {offset}");
        }
    }
}
