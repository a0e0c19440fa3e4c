//! Appends of every kind, and the upkeep of the partitions that a producer owns.

use super::{Kind, PARTITIONS, PRODUCERS, Shared, config, kind_of, name, now_ms};
use crate::random::Random;
use duramen::{
    AppendAsLeader, AppendOrigin, CleanerControl, CleanerOptions, CompletionQueue, Durability, Partition, Ticket,
    ValidationPolicy,
    format::{
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
    },
    validate,
};
use std::{
    fmt::Display,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Appends in flight at once.
const WINDOW: usize = 40;
/// More than any acknowledgement takes.
const LIMIT: Duration = Duration::from_secs(60);

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Works until the end.
pub(super) fn run(shared: &Shared, number: usize, mut random: Random, end: Instant) -> Result<(), String> {
    let own: Vec<usize> = (number..PARTITIONS).step_by(PRODUCERS).collect();
    let queue = CompletionQueue::new().map_err(text)?;
    while Instant::now() < end && !shared.is_over.load(Ordering::Relaxed) {
        for tag in 0..WINDOW {
            let partition = own[random.below(own.len())];
            let ticket = append(shared, partition, &mut random)?;
            ticket.enqueue(&queue, u64::try_from(tag).unwrap_or(0));
        }
        let mut done = Vec::new();
        while done.len() < WINDOW {
            if !queue.wait(Some(Instant::now() + LIMIT)) {
                return Err("an append is never acknowledged".to_owned());
            }
            queue.drain(&mut done);
        }
        done.into_iter().try_for_each(|completion| completion.result.map_err(text))?;
        for _ in 0..4 {
            keep_up(shared, own[random.below(own.len())], &mut random)?;
        }
    }
    Ok(())
}

fn open(shared: &Shared, partition: usize) -> Result<Arc<Partition>, String> {
    shared.manager.get_or_create(&name(partition), &config(partition)).map_err(text)
}

/// Appends one batch; its record says where it is.
fn append(shared: &Shared, partition: usize, random: &mut Random) -> Result<Ticket, String> {
    let open = open(shared, partition)?;
    let mut ledger = shared.ledger(partition);
    let (kind, id) = (kind_of(partition), i64::try_from(partition).unwrap_or(0));
    let ends = kind == Kind::Transactional && ledger.in_transaction && random.below(3) == 0;
    let bytes = if ends {
        let marker = EndTxnMarker { committed: random.coin(), coordinator_epoch: 0 };
        end_txn_marker(id, 0, marker, now_ms()).map_err(text)?
    } else {
        let mut batch = BatchBuilder::new();
        if matches!(kind, Kind::Idempotent | Kind::Transactional) {
            batch = batch.producer(id, 0, ledger.sequence);
            ledger.sequence += 1;
        }
        if kind == Kind::Transactional {
            batch = batch.transactional();
        }
        let (key, mut value) = (format!("key {}", random.below(30)), format!("{} ", ledger.end).into_bytes());
        value.resize(value.len() + random.below(600), b'.');
        batch.record(now_ms(), Some(key.as_bytes()), Some(&value)).build().map_err(text)?
    };
    ledger.in_transaction = kind == Kind::Transactional && !ends;
    let origin = if ends { AppendOrigin::Coordinator } else { AppendOrigin::Client };
    let policy = ValidationPolicy::from_config(&config(partition)).with_origin(origin);
    let batch = validate(bytes, &policy, now_ms()).map_err(text)?;
    let durability = if random.below(3) == 0 { Durability::Written } else { Durability::Flushed };
    let made = open.append_as_leader(batch, AppendAsLeader::new(0, now_ms()), durability).map_err(text)?;
    if made.info.first_offset != ledger.end || made.info.is_duplicate {
        return Err(format!("partition {partition}: {:?} appended at {}", made.info, ledger.end));
    }
    ledger.end = made.info.last_offset + 1;
    shared.counts.appends.fetch_add(1, Ordering::Relaxed);
    Ok(made.into_ticket())
}

/// Retention, compaction, deletion, checkpoints: nothing of this thread is in flight.
fn keep_up(shared: &Shared, partition: usize, random: &mut Random) -> Result<(), String> {
    let open = open(shared, partition)?;
    if random.below(200) == 0 {
        shared.counts.checkpoints.fetch_add(1, Ordering::Relaxed);
        shared.manager.checkpoint().map_err(text)?;
    }
    if kind_of(partition) == Kind::Flushed && random.below(40) == 0 {
        shared.manager.delete(&name(partition)).map_err(text)?;
        *shared.ledger(partition) = super::Ledger::default();
        self::open(shared, partition)?;
        shared.incarnations[partition].fetch_add(1, Ordering::Release);
        shared.counts.recreations.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    if kind_of(partition) == Kind::Compacted {
        let cleaned = open.with(|log| {
            let to_clean = log.log_to_clean(None, now_ms())?;
            log.clean(&to_clean, &CleanerOptions::default(), now_ms(), &mut |_| CleanerControl::Continue)?;
            log.remove_retired_files(i64::MAX)
        });
        cleaned.map_err(text)?.map_err(text)?;
        shared.counts.cleanings.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let deleted = open.with(|log| {
        let deleted = log.delete_old_segments(now_ms())?;
        log.remove_retired_files(i64::MAX)?;
        Ok::<_, duramen::LogError>(deleted.len())
    });
    let deleted = deleted.map_err(text)?.map_err(text)?;
    shared.counts.segments_deleted.fetch_add(u64::try_from(deleted).unwrap_or(0), Ordering::Relaxed);
    Ok(())
}
