//! One compaction, MB/s of input before compression, per codec and record size: a fifth of the keys is distinct. On the
//! disk of the temporary directory; what a compaction writes is synced.
#![allow(missing_docs, clippy::unwrap_used)]

mod shared;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{CleanerControl, CleanerOptions, CleanupPolicy, LogConfig, LogDirectory, format::compression::Codec};
use shared::{NOW_MS, Random, Shape, append, directory, filled, open};
use std::{cell::Cell, time::Duration};
use tempfile::TempDir;

/// Bytes of a log's records.
const LOG_BYTES: usize = 24 << 20;
const SHAPES: [Shape; 2] = [
    Shape { name: "100 B", record_bytes: 100, batch_bytes: 16 << 10 },
    Shape { name: "1 KiB", record_bytes: 1024, batch_bytes: 16 << 10 },
];

fn config() -> LogConfig {
    let cleanup_policy = CleanupPolicy { compact: true, delete: false };
    LogConfig { cleanup_policy, segment_bytes: 8 << 20, ..LogConfig::default() }
}

fn log_of(batches: &[Vec<u8>]) -> (TempDir, LogDirectory) {
    let dir = TempDir::new().unwrap();
    let mut directory = directory(dir.path());
    let log = open(&mut directory, &config());
    for batch in batches {
        append(log, batch.clone());
    }
    log.roll(NOW_MS).unwrap();
    log.update_high_watermark(log.offsets().log_end);
    (dir, directory)
}

fn bench(c: &mut Criterion) {
    for shape in SHAPES {
        let mut group = c.benchmark_group(format!("compact {}", shape.name));
        group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(1));
        for codec in Codec::ALL {
            let mut random = Random(7);
            let distinct = (LOG_BYTES / (shape.record_bytes + 24) / 5) as u64;
            let size = Cell::new(0);
            let batches: Vec<_> = (0..LOG_BYTES / shape.batch_bytes)
                .map(|_| {
                    let builder = filled(shape, codec, distinct, &mut random);
                    size.set(size.get() + builder.uncompressed_size() as u64);
                    builder.build().unwrap()
                })
                .collect();
            group.throughput(Throughput::Bytes(size.get()));
            group.bench_function(BenchmarkId::from_parameter(codec.name()), |b| {
                b.iter_batched(
                    || log_of(&batches),
                    |(dir, mut directory)| {
                        let log = open(&mut directory, &config());
                        let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
                        let options = CleanerOptions::default();
                        let mut go_on = |_| CleanerControl::Continue;
                        log.clean(&to_clean, &options, NOW_MS, &mut go_on).unwrap();
                        (dir, directory)
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
