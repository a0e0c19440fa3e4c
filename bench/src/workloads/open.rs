//! Opening: after a crash, and a log of many segments.

use super::{
    NOW_MS, append, best, check, config, partition, raw_append, raw_file, read_and_checksum, shapes, shapes::Keys,
};
use crate::{
    Failure,
    corpus::Corpus,
    measure::{Plan, Run},
};
use duramen::{AppendAsLeader, LogConfig, ValidationPolicy, validate};
use std::{fs::File, path::Path, time::Instant};

/// The corpus in batches of about 64 KiB.
pub(super) fn recover(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    recover_batches(dir, &corpus.gathered, plan)
}

pub(super) fn recover_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    recover_batches_raw(dir, &corpus.gathered, plan)
}

/// 1 KiB records in batches of 16 KiB, as Kafka's own log is measured with.
pub(super) fn recover_16k(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    recover_batches(dir, &[shapes::batch_16k(&mut Keys::None)?], plan)
}

pub(super) fn recover_16k_raw(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    recover_batches_raw(dir, &[shapes::batch_16k(&mut Keys::None)?], plan)
}

fn recover_batches(dir: &Path, batches: &[Vec<u8>], plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    let written = append(log, batches, plan.bytes, |_| Ok(()))?;
    let log_end = log.offsets().log_end;
    drop(directory);
    let mut directory = best(dir)?;
    let begun = Instant::now();
    let log = directory.get_or_create(&partition()?, &config())?;
    let run = Run::rate(written, begun, 1);
    if log.offsets().log_end != log_end {
        return Err(format!("recovery ended at {} instead of {log_end}", log.offsets().log_end).into());
    }
    check(log, batches, written)?;
    Ok(run)
}

fn recover_batches_raw(dir: &Path, batches: &[Vec<u8>], plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, batches, plan.bytes, || Ok(()))?;
    let begun = Instant::now();
    read_and_checksum(&file, written, &mut vec![0; 1 << 20])?;
    Ok(Run::rate(written, begun, 0))
}

pub(super) fn thousand(dir: &Path, corpus: &Corpus, _: &Plan) -> Result<Run, Failure> {
    let config = LogConfig { segment_bytes: 128 << 10, ..config() };
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config)?;
    let policy = ValidationPolicy::from_config(&config);
    let small = corpus.originals.first().ok_or("no batch")?;
    for _ in 0..1000 {
        let batch = validate(small.clone(), &policy, NOW_MS)?;
        log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS))?;
        log.roll(NOW_MS)?;
    }
    directory.close()?;
    let mut directory = best(dir)?;
    let begun = Instant::now();
    let log = directory.get_or_create(&partition()?, &config)?;
    let figure = begun.elapsed().as_secs_f64() * 1e3;
    if log.offsets().log_end < 1000 {
        return Err("records are missing".into());
    }
    Ok(Run { figure, syncs: 0 })
}

/// The floor of an open: to list the files and ask for the length of each.
pub(super) fn thousand_raw(dir: &Path, _: &Corpus, _: &Plan) -> Result<Run, Failure> {
    for n in 0..1000 {
        for extension in ["log", "index", "timeindex"] {
            File::create(dir.join(format!("{n:020}.{extension}")))?;
        }
    }
    let begun = Instant::now();
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    std::hint::black_box(bytes);
    Ok(Run { figure: begun.elapsed().as_secs_f64() * 1e3, syncs: 0 })
}
