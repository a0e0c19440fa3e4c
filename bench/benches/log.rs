//! Appending, reading, looking up, recovering and rebuilding, on the disk of the temporary directory. Nothing is synced
//! but where it says so.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{
    AppendAsLeader, Fetch, Isolation, Log, LogConfig, LogDirectory, TimestampQuery, TopicPartition, ValidationPolicy,
    format::builder::BatchBuilder, validate,
};
use std::path::Path;
use tempfile::TempDir;

const NOW_MS: i64 = 1_700_000_000_000;
const BATCHES: i64 = 1000;

fn partition() -> TopicPartition {
    TopicPartition::new("bench", 0).unwrap()
}

fn batch(n: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for record in 0..16 {
        builder = builder.record(NOW_MS + n, None, Some(&[u8::try_from(record).unwrap(); 1000]));
    }
    builder.build().unwrap()
}

fn append(log: &mut Log, n: i64) {
    let batch = validate(batch(n), &ValidationPolicy::from_config(&log.config()), NOW_MS).unwrap();
    log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
}

/// A directory with a log of 16 MB.
fn filled() -> (TempDir, LogDirectory) {
    let dir = TempDir::new().unwrap();
    let mut directory = LogDirectory::open(dir.path()).unwrap();
    let log = directory.get_or_create(&partition(), &LogConfig::default()).unwrap();
    for n in 0..BATCHES {
        append(log, n);
    }
    (dir, directory)
}

fn recover(dir: &Path) -> i64 {
    let mut directory = LogDirectory::open(dir).unwrap();
    directory.get_or_create(&partition(), &LogConfig::default()).unwrap().offsets().log_end
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("log of 16 KiB batches");
    group.throughput(Throughput::Bytes(16_000));
    let (_dir, mut directory) = filled();
    let log = directory.get_or_create(&partition(), &LogConfig::default()).unwrap();
    let policy = ValidationPolicy::from_config(&log.config());
    group.bench_function("append (page cache)", |b| {
        b.iter_batched(
            || validate(batch(0), &policy, NOW_MS).unwrap(),
            |batch| log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap(),
            BatchSize::SmallInput,
        );
    });
    let reader = log.reader();
    let mut offset = 0;
    group.bench_function("read (look-up and slice)", |b| {
        b.iter(|| {
            offset = (offset + 7919) % (BATCHES * 16);
            reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap().len()
        });
    });
    group.bench_function("look-up by time", |b| {
        b.iter(|| {
            offset = (offset + 7919) % BATCHES;
            reader.offset_for_timestamp(TimestampQuery::At(NOW_MS + offset), Isolation::LogEnd).unwrap().unwrap().offset
        });
    });
    group.finish();
    let mut group = c.benchmark_group("log of 16 MB");
    group.throughput(Throughput::Bytes(16_000_000)).sample_size(20);
    group.bench_function("recovery", |b| {
        b.iter_batched(
            || {
                let (dir, directory) = filled();
                drop(directory);
                dir
            },
            |dir| recover(dir.path()),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("index rebuild", |b| {
        b.iter_batched(
            || {
                let (dir, directory) = filled();
                directory.close().unwrap();
                std::fs::remove_file(dir.path().join("bench-0/00000000000000000000.timeindex")).unwrap();
                dir
            },
            |dir| recover(dir.path()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
