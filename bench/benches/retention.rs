//! Retention over many small segments: deciding, and removing. On the disk of the temporary directory.
#![allow(missing_docs, clippy::unwrap_used)]

mod shared;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{LogConfig, LogDirectory, format::builder::BatchBuilder};
use shared::{NOW_MS, append, directory, open};
use std::time::Duration;
use tempfile::TempDir;

const DAY_MS: i64 = 86_400_000;

fn log_of(segments: usize) -> (TempDir, LogDirectory) {
    let dir = TempDir::new().unwrap();
    let mut directory = directory(dir.path());
    let log = open(&mut directory, &LogConfig::default());
    for _ in 0..segments {
        append(log, BatchBuilder::new().record(NOW_MS, None, Some(b"value")).build().unwrap());
        log.roll(NOW_MS).unwrap();
    }
    log.update_high_watermark(log.offsets().log_end);
    (dir, directory)
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("retention");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(1));
    {
        let (_dir, mut directory) = log_of(10_000);
        let log = open(&mut directory, &LogConfig::default());
        group.throughput(Throughput::Elements(10_000));
        group.bench_function("decide that none of 10,000 segments goes", |b| {
            b.iter(|| assert!(log.expired_segments(NOW_MS).unwrap().is_empty()));
        });
        group.bench_function("decide that all of 10,000 segments go", |b| {
            b.iter(|| assert!(log.expired_segments(NOW_MS + 8 * DAY_MS).unwrap().len() >= 10_000));
        });
        let later_ms = NOW_MS + 8 * DAY_MS;
        let begun = std::time::Instant::now();
        log.delete_old_segments(later_ms).unwrap();
        let renamed = begun.elapsed();
        log.remove_retired_files(later_ms + DAY_MS).unwrap();
        println!("once: 10,000 segments renamed in {renamed:?}, and unlinked in {:?}", begun.elapsed() - renamed);
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("remove 1,000 segments", |b| {
        b.iter_batched(
            || log_of(1000),
            |(dir, mut directory)| {
                let log = open(&mut directory, &LogConfig::default());
                assert!(log.delete_old_segments(NOW_MS + 8 * DAY_MS).unwrap().len() >= 1000);
                log.remove_retired_files(NOW_MS + 9 * DAY_MS).unwrap();
                (dir, directory)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
