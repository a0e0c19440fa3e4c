//! Appends of every kind, and the upkeep of the partitions that a producer owns.

use super::{
    Kind, LIMIT, PARTITIONS, PRODUCERS, Shared, config, kind_of,
    ledger::{Entry, Ledger},
    name, now_ms,
};
use crate::random::Random;
use duramen::{
    AppendAsLeader, AppendOrigin, CleanerControl, CleanerOptions, Completion, CompletionQueue, Durability, Partition,
    PartitionError, Ticket, ValidatedBatch, ValidationPolicy, WaitError,
    format::{
        batch::assign_in_place,
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    },
    validate,
};
use std::{
    fmt::Display,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};

/// Appends in flight at once.
const WINDOW: usize = 40;

fn text(error: impl Display) -> String {
    error.to_string()
}

/// An append on its way.
pub(super) struct Sent {
    partition: usize,
    end: i64,
    is_flushed: bool,
}

/// Works until the end.
pub(super) fn run(shared: &Shared, number: usize, mut random: Random, end: Instant) -> Result<(), String> {
    let own: Vec<usize> = (number..PARTITIONS).step_by(PRODUCERS).collect();
    let queue = CompletionQueue::new().map_err(text)?;
    while Instant::now() < end && !shared.is_over.load(Ordering::Relaxed) {
        let mut sent = Vec::new();
        for _ in 0..WINDOW {
            let partition = own[random.below(own.len())];
            if let Ok((ticket, append)) = append(shared, partition, &mut random)? {
                ticket.enqueue(&queue, u64::try_from(sent.len()).unwrap_or(0));
                sent.push(append);
            }
        }
        let mut done: Vec<Completion> = Vec::new();
        while done.len() < sent.len() {
            if !queue.wait(Some(Instant::now() + LIMIT)) {
                return Err("an append is never acknowledged".to_owned());
            }
            queue.drain(&mut done);
        }
        for completion in done {
            sent[usize::try_from(completion.user_data).unwrap_or(0)].end(shared, completion.result)?;
        }
        for _ in 0..4 {
            keep_up(shared, own[random.below(own.len())], &mut random)?;
        }
    }
    Ok(())
}

impl Sent {
    /// Takes note of what came of it.
    pub(super) fn end(&self, shared: &Shared, result: Result<(), WaitError>) -> Result<(), String> {
        let mut ledger = shared.ledger(self.partition);
        match result {
            Ok(()) if self.is_flushed => ledger.acknowledge(self.end),
            Ok(()) => {}
            Err(WaitError::Failed { .. }) if shared.may_fail(self.partition) => ledger.is_refused = true,
            Err(error) => return Err(format!("partition {}: {error}", self.partition)),
        }
        Ok(())
    }
}

fn open(shared: &Shared, partition: usize) -> Result<Arc<Partition>, String> {
    shared.manager.get_or_create(&name(partition), &config(partition)).map_err(text)
}

/// Appends one batch. A directory that fails may refuse it, and then refuses all that come after; whether this one is there
/// is not known.
pub(super) fn append(
    shared: &Shared,
    partition: usize,
    random: &mut Random,
) -> Result<Result<(Ticket, Sent), PartitionError>, String> {
    let open = open(shared, partition)?;
    let mut ledger = shared.ledger(partition);
    let (batch, entry) = next(partition, &ledger, random)?;
    let is_flushed = random.below(3) > 0;
    let durability = if is_flushed { Durability::Flushed } else { Durability::Written };
    match open.append_as_leader(batch, AppendAsLeader::new(0, now_ms()), durability) {
        Ok(_) if ledger.is_refused => Err(format!("partition {partition} takes appends after it has failed")),
        Ok(made) if made.info.first_offset != entry.offset || made.info.is_duplicate => {
            Err(format!("partition {partition}: {:?} appended at {}", made.info, entry.offset))
        }
        Ok(made) => {
            ledger.note(entry);
            shared.counts.appends.fetch_add(1, Ordering::Relaxed);
            Ok(Ok((made.into_ticket(), Sent { partition, end: entry.offset + 1, is_flushed })))
        }
        Err(error) if shared.may_fail(partition) => {
            if !ledger.is_refused {
                ledger.note(entry);
            }
            ledger.is_refused = true;
            shared.counts.refused.fetch_add(1, Ordering::Relaxed);
            Ok(Err(error))
        }
        Err(error) => Err(format!("partition {partition}: {error}")),
    }
}

/// The next batch. Its record says where it is, and what becomes of its transaction.
fn next(partition: usize, ledger: &Ledger, random: &mut Random) -> Result<(ValidatedBatch, Entry), String> {
    let (kind, id, now_ms) = (kind_of(partition), i64::try_from(partition).unwrap_or(0), now_ms());
    let (offset, key, mut after) = (ledger.end, random.below(30), ledger.progress);
    let mut value = Vec::new();
    let ending = after.transaction.filter(|_| random.below(3) == 0);
    let mut bytes = if let Some(committed) = ending {
        after.transaction = None;
        end_txn_marker(id, 0, EndTxnMarker { committed, coordinator_epoch: 0 }, now_ms).map_err(text)?
    } else {
        let mut batch = BatchBuilder::new();
        if matches!(kind, Kind::Idempotent | Kind::Transactional) {
            batch = batch.producer(id, 0, after.sequence);
            after.sequence += 1;
        }
        let mut word = "plain";
        if kind == Kind::Transactional {
            batch = batch.transactional();
            let committed = *after.transaction.get_or_insert_with(|| random.coin());
            word = if committed { "commit" } else { "abort" };
        }
        value = format!("{offset} {word} ").into_bytes();
        value.resize(value.len() + random.below(600), b'.');
        batch.record(now_ms, Some(format!("key {key}").as_bytes()), Some(&value)).build().map_err(text)?
    };
    let origin = if ending.is_some() { AppendOrigin::Coordinator } else { AppendOrigin::Client };
    let policy = ValidationPolicy::from_config(&config(partition)).with_origin(origin);
    let batch = validate(bytes.clone(), &policy, now_ms).map_err(text)?;
    assign_in_place(&mut bytes, offset, 0).map_err(text)?;
    let crc = crc32c::crc32c(if kind == Kind::Compacted { &value } else { &bytes });
    Ok((batch, Entry { offset, key, crc, after }))
}

/// Retention, compaction, deletion, checkpoints: nothing of this thread is in flight.
fn keep_up(shared: &Shared, partition: usize, random: &mut Random) -> Result<(), String> {
    if random.below(200) == 0 {
        shared.counts.checkpoints.fetch_add(1, Ordering::Relaxed);
        let written = shared.manager.checkpoint().map_err(text);
        written.or_else(|why| if shared.fails.load(Ordering::SeqCst) { Ok(()) } else { Err(why) })?;
    }
    if kind_of(partition) == Kind::Flushed && random.below(40) == 0 {
        return recreate(shared, partition);
    }
    let open = open(shared, partition)?;
    let kept_up = if kind_of(partition) == Kind::Compacted { clean(shared, &open) } else { retain(shared, &open) };
    shared.ledger(partition).forget(kind_of(partition), open.offsets().log_start);
    kept_up.or_else(|why| if shared.may_fail(partition) { Ok(()) } else { Err(why) })
}

/// Deletes a partition and makes it anew, unless a directory fails: which partitions it has is known beforehand.
fn recreate(shared: &Shared, partition: usize) -> Result<(), String> {
    let placed = shared.placed.read().unwrap_or_else(PoisonError::into_inner);
    if !shared.fails.load(Ordering::SeqCst) {
        shared.manager.delete(&name(partition)).map_err(text)?;
        *shared.ledger(partition) = Ledger::default();
        open(shared, partition)?;
        shared.incarnations[partition].fetch_add(1, Ordering::Release);
        shared.counts.recreations.fetch_add(1, Ordering::Relaxed);
    }
    drop(placed);
    Ok(())
}

fn clean(shared: &Shared, open: &Partition) -> Result<(), String> {
    let cleaned = open.with(|log| {
        let to_clean = log.log_to_clean(None, now_ms())?;
        log.clean(&to_clean, &CleanerOptions::default(), now_ms(), &mut |_| CleanerControl::Continue)?;
        log.remove_retired_files(i64::MAX)
    });
    cleaned.map_err(text)?.map_err(text)?;
    shared.counts.cleanings.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn retain(shared: &Shared, open: &Partition) -> Result<(), String> {
    let deleted = open.with(|log| {
        let deleted = log.delete_old_segments(now_ms())?;
        log.remove_retired_files(i64::MAX)?;
        Ok::<_, duramen::LogError>(deleted.len())
    });
    let deleted = deleted.map_err(text)?.map_err(text)?;
    shared.counts.segments_deleted.fetch_add(u64::try_from(deleted).unwrap_or(0), Ordering::Relaxed);
    Ok(())
}
