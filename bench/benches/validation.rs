//! Validating batches of plain, idempotent and transactional producers, per codec, small and large; in memory.
#![allow(missing_docs, clippy::unwrap_used)]

mod shared;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{LogConfig, ValidationPolicy, format::compression::Codec, validate};
use shared::{LARGE, NOW_MS, Random, SMALL, filled};
use std::time::Duration;

fn bench(c: &mut Criterion) {
    let policy = ValidationPolicy::from_config(&LogConfig::default());
    for shape in [SMALL, LARGE] {
        let mut group = c.benchmark_group(format!("validate {}", shape.name));
        group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        let mut measure = |id: BenchmarkId, bytes: Vec<u8>, size: u64| {
            group.throughput(Throughput::Bytes(size));
            group.bench_with_input(id, &bytes, |b, bytes| {
                b.iter_batched(
                    || bytes.clone(),
                    |bytes| validate(bytes, &policy, NOW_MS).unwrap(),
                    BatchSize::SmallInput,
                );
            });
        };
        for codec in Codec::ALL {
            let builder = filled(shape, codec, 1000, &mut Random(1));
            let size = builder.uncompressed_size() as u64;
            measure(BenchmarkId::new("plain", codec.name()), builder.build().unwrap(), size);
        }
        let builder = filled(shape, Codec::None, 1000, &mut Random(1)).producer(7, 0, 0);
        let size = builder.uncompressed_size() as u64;
        measure(BenchmarkId::new("idempotent", "none"), builder.build().unwrap(), size);
        measure(BenchmarkId::new("transactional", "none"), builder.transactional().build().unwrap(), size);
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
