//! Appending, to the page cache and durably.

use super::{CORPUS_SHARE, append, best, check, config, partition, posix, raw_append, raw_file, shapes, shapes::Keys};
use crate::{
    Failure,
    corpus::Corpus,
    measure::{Plan, Run},
};
use duramen::LogDirectory;
use std::{path::Path, time::Instant};

fn engine_append(mut directory: LogDirectory, batches: &[Vec<u8>], plan: &Plan) -> Result<Run, Failure> {
    let log = directory.get_or_create(&partition()?, &config())?;
    let begun = Instant::now();
    let written = append(log, batches, plan.bytes, |_| Ok(()))?;
    let run = Run::rate(written, begun, 0);
    check(log, batches, written)?;
    Ok(run)
}

pub(super) fn best_64k(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_append(best(dir)?, &corpus.gathered, plan)
}

pub(super) fn posix_64k(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_append(posix(dir)?, &corpus.gathered, plan)
}

pub(super) fn raw_64k(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let begun = Instant::now();
    let written = raw_append(&file, &corpus.gathered, plan.bytes, || Ok(()))?;
    Ok(Run::rate(written, begun, 0))
}

pub(super) fn best_corpus(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let plan = Plan { bytes: plan.bytes / CORPUS_SHARE, ..*plan };
    engine_append(best(dir)?, &corpus.originals, &plan)
}

pub(super) fn raw_corpus(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let begun = Instant::now();
    let written = raw_append(&file, &corpus.originals, plan.bytes / CORPUS_SHARE, || Ok(()))?;
    Ok(Run::rate(written, begun, 0))
}

/// 1 KiB records in batches of 16 KiB, as Kafka's own log is measured with.
pub(super) fn best_16k(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_append(best(dir)?, &[shapes::batch_16k(&mut Keys::None)?], plan)
}

pub(super) fn raw_16k(dir: &Path, _: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let batch = shapes::batch_16k(&mut Keys::None)?;
    let begun = Instant::now();
    let written = raw_append(&file, &[batch], plan.bytes, || Ok(()))?;
    Ok(Run::rate(written, begun, 0))
}

fn mean_size(batches: &[Vec<u8>]) -> u64 {
    batches.iter().map(|batch| batch.len() as u64).sum::<u64>() / (batches.len() as u64).max(1)
}

fn engine_flush(mut directory: LogDirectory, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let log = directory.get_or_create(&partition()?, &config())?;
    let size = mean_size(&corpus.gathered);
    let begun = Instant::now();
    let mut syncs = 0;
    append(log, &corpus.gathered, size * plan.operations, |log| {
        syncs += 1;
        Ok(log.flush()?)
    })?;
    Ok(Run::operations(syncs, begun, syncs))
}

pub(super) fn flush_best(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_flush(best(dir)?, corpus, plan)
}

pub(super) fn flush_posix(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_flush(posix(dir)?, corpus, plan)
}

pub(super) fn flush_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let size = mean_size(&corpus.gathered);
    let begun = Instant::now();
    let mut syncs = 0;
    raw_append(&file, &corpus.gathered, size * plan.operations, || {
        syncs += 1;
        Ok(file.sync_data()?)
    })?;
    Ok(Run::operations(syncs, begun, syncs))
}
