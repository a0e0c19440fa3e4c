//! Compaction: one pass over a log of 1 KiB records, a fifth of whose keys are distinct.

use super::{
    NOW_MS, append, best, config, partition, raw_append, raw_file, read_and_checksum,
    shapes::{self, Keys, Random},
};
use crate::{
    Failure,
    corpus::Corpus,
    measure::{Plan, Run},
};
use duramen::{CleanerControl, CleanerOptions, CleanupPolicy, LogConfig};
use std::{os::unix::fs::FileExt, path::Path, time::Instant};

/// Bytes of a log that is compacted, at most.
const MAX_LOG_BYTES: u64 = 256 << 20;
/// About so many bytes of a log come from one record.
const RECORD_BYTES: u64 = 1060;
/// Records for each distinct key, about; so one of so many bytes stays.
const VERSIONS: u64 = 5;

pub(super) fn log_bytes(plan: &Plan) -> u64 {
    (plan.bytes / 2).min(MAX_LOG_BYTES)
}

fn batches(bytes: u64) -> Result<Vec<Vec<u8>>, Failure> {
    let distinct = bytes / RECORD_BYTES / VERSIONS;
    let mut keys = Keys::Random { distinct, random: Random(7) };
    let mut batches = Vec::new();
    let mut made = 0;
    while made < bytes {
        let batch = shapes::batch_16k(&mut keys)?;
        made += batch.len() as u64;
        batches.push(batch);
    }
    Ok(batches)
}

pub(super) fn engine(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let bytes = log_bytes(plan);
    let cleanup_policy = CleanupPolicy { compact: true, delete: false };
    let config = LogConfig { segment_bytes: 64 << 20, cleanup_policy, ..config() };
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config)?;
    let written = append(log, &batches(bytes)?, bytes, |_| Ok(()))?;
    log.roll(NOW_MS)?;
    let log_end = log.offsets().log_end;
    log.update_high_watermark(log_end);
    let begun = Instant::now();
    let to_clean = log.log_to_clean(None, NOW_MS)?;
    let stats = log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue)?;
    let run = Run::rate(written, begun, 0);
    if stats.end_offset != log_end || stats.messages_written != stats.map_entries {
        return Err(format!("{} records of {} keys stayed", stats.messages_written, stats.map_entries).into());
    }
    Ok(run)
}

/// The least of one pass: the log is read and checksummed once.
pub(super) fn read_raw(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let bytes = log_bytes(plan);
    let written = raw_append(&file, &batches(bytes)?, bytes, || Ok(()))?;
    let begun = Instant::now();
    read_and_checksum(&file, written, &mut vec![0; 1 << 20])?;
    Ok(Run::rate(written, begun, 0))
}

/// The least of a compaction: the log is read once for the keys and once to be checksummed, and what stays is written
/// and synced.
pub(super) fn raw(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let output = raw_file(dir, "output")?;
    let bytes = log_bytes(plan);
    let written = raw_append(&file, &batches(bytes)?, bytes, || Ok(()))?;
    let mut buffer = vec![0; 1 << 20];
    let begun = Instant::now();
    let mut at = 0;
    while at < written {
        at += file.read_at(&mut buffer, at)? as u64;
    }
    read_and_checksum(&file, written, &mut buffer)?;
    let mut at = 0;
    while at < written / VERSIONS {
        output.write_all_at(&buffer, at)?;
        at += buffer.len() as u64;
    }
    output.sync_data()?;
    Ok(Run::rate(written, begun, 1))
}
