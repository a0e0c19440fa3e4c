//! Decoding, validating and checksumming batches, per codec; in memory, nothing is synced.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{
    LogConfig, ValidationPolicy,
    format::{
        batch::Batch,
        builder::BatchBuilder,
        compression::{Codec, Compression},
    },
    validate,
};
use std::hint::black_box;

const NOW_MS: i64 = 1_700_000_000_000;

/// A batch of 64 records of 1 KiB that compress about twofold.
fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(Compression::with_default_level(codec));
    for n in 0_u64..64 {
        let value: Vec<u8> =
            (0..1024_u64).map(|at| if at % 2 == 0 { b'.' } else { (n * 31 + at * 7).to_be_bytes()[7] }).collect();
        builder = builder.record(NOW_MS, Some(&n.to_be_bytes()), Some(&value));
    }
    builder.build().unwrap()
}

fn bench(c: &mut Criterion) {
    let policy = ValidationPolicy::from_config(&LogConfig::default());
    let mut group = c.benchmark_group("batch of 64 records of 1 KiB");
    for codec in Codec::ALL {
        let bytes = batch(codec);
        group.throughput(Throughput::Bytes(64 << 10));
        group.bench_with_input(BenchmarkId::new("validate", codec.name()), &bytes, |b, bytes| {
            b.iter_batched(
                || bytes.clone(),
                |bytes| validate(bytes, &policy, NOW_MS).unwrap(),
                criterion::BatchSize::SmallInput,
            );
        });
        group.bench_with_input(BenchmarkId::new("decode", codec.name()), &bytes, |b, bytes| {
            let mut scratch = Vec::new();
            b.iter(|| {
                let batch = Batch::parse(bytes).unwrap();
                batch.records(&mut scratch, 1 << 20).unwrap().map(|record| record.unwrap().offset()).sum::<i64>()
            });
        });
    }
    let bytes = batch(Codec::None);
    group.bench_function("crc", |b| b.iter(|| Batch::parse(black_box(&bytes)).unwrap().computed_crc()));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
