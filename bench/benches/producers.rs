//! What producers cost: the check of an append, and snapshots of 100,000 of them. On the disk of the temporary directory;
//! a roll and a close sync what they must.
#![allow(missing_docs, clippy::unwrap_used)]

mod shared;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{
    AppendAsLeader, LogConfig, ValidationPolicy,
    format::{batch, builder::BatchBuilder, compression::Codec},
    validate,
};
use shared::{NOW_MS, Random, SMALL, append, directory, filled, open};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PRODUCERS: i64 = 100_000;

/// The same append with and without a producer; validated before the time counts.
fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append 16 KiB");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).throughput(Throughput::Bytes(16 << 10));
    let policy = ValidationPolicy::from_config(&LogConfig::default());
    let bytes = filled(SMALL, Codec::None, 1000, &mut Random(1)).build().unwrap();
    let count = i32::try_from(SMALL.batch_bytes / (SMALL.record_bytes + 24)).unwrap();
    for (name, producers) in [("no producer", 0), ("one producer", 1), ("10,000 producers in turn", 10_000)] {
        let dir = TempDir::new().unwrap();
        let mut directory = directory(dir.path());
        let log = open(&mut directory, &LogConfig::default());
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let mut bytes = bytes.clone();
                    if producers > 0 {
                        let (producer, turn) = (next % producers, next / producers);
                        let sequence = i32::try_from((turn * i64::from(count)) & i64::from(i32::MAX)).unwrap();
                        stamp_producer(&mut bytes, producer, sequence);
                    }
                    next += 1;
                    validate(bytes, &policy, NOW_MS).unwrap()
                },
                |batch| log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap(),
                BatchSize::NumIterations(1000),
            );
        });
    }
    group.finish();
}

fn stamp_producer(bytes: &mut [u8], producer: i64, sequence: i32) {
    bytes[batch::PRODUCER_ID_AT..batch::PRODUCER_EPOCH_AT].copy_from_slice(&producer.to_be_bytes());
    bytes[batch::PRODUCER_EPOCH_AT..batch::BASE_SEQUENCE_AT].copy_from_slice(&0_i16.to_be_bytes());
    bytes[batch::BASE_SEQUENCE_AT..batch::RECORDS_COUNT_AT].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[batch::ATTRIBUTES_AT..]);
    bytes[batch::CRC_AT..batch::ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// A roll takes a snapshot, an open after a clean close loads one.
fn snapshots(c: &mut Criterion) {
    let dir = TempDir::new().unwrap();
    let mut directory = directory(dir.path());
    let log = open(&mut directory, &LogConfig::default());
    for producer in 0..PRODUCERS {
        append(log, BatchBuilder::new().producer(producer, 0, 0).record(NOW_MS, None, Some(b"v")).build().unwrap());
    }
    let mut group = c.benchmark_group("snapshot of 100,000 producers");
    group.sample_size(10).throughput(Throughput::Elements(100_000));
    group.bench_function("take (roll)", |b| {
        b.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                append(log, BatchBuilder::new().record(NOW_MS, None, Some(b"v")).build().unwrap());
                let begun = Instant::now();
                log.roll(NOW_MS).unwrap();
                took += begun.elapsed();
            }
            took
        });
    });
    directory.close().unwrap();
    group.bench_function("load (open)", |b| {
        b.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                let mut directory = shared::directory(dir.path());
                let begun = Instant::now();
                open(&mut directory, &LogConfig::default());
                took += begun.elapsed();
                directory.close().unwrap();
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, appends, snapshots);
criterion_main!(benches);
