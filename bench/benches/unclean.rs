//! Opening a log that was not closed: one segment of plain, idempotent or transactional batches. On the disk of the
//! temporary directory.
#![allow(missing_docs, clippy::unwrap_used)]

mod shared;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use duramen::{
    AppendAsLeader, AppendOrigin, LogConfig, ValidationPolicy,
    format::{builder::end_txn_marker, compression::Codec, control::EndTxnMarker},
    validate,
};
use shared::{NOW_MS, Random, SMALL, append, directory, filled, open};
use std::{path::Path, time::Duration};
use tempfile::TempDir;

const BATCHES: i32 = 2000;
const PRODUCERS: i32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Idempotent,
    /// Every fourth batch ends its transaction; every other one of these is aborted.
    Transactional,
}

/// A partition's directory as a crash leaves it; its bytes.
fn crashed(dir: &Path, kind: Kind) -> u64 {
    let mut directory = directory(dir);
    let log = open(&mut directory, &LogConfig::default());
    let markers = ValidationPolicy::from_config(&log.config()).with_origin(AppendOrigin::Coordinator);
    let mut random = Random(3);
    let mut bytes = 0;
    for n in 0..BATCHES {
        let builder = filled(SMALL, Codec::None, 1000, &mut random);
        let (producer, turn) = (i64::from(n % PRODUCERS), n / PRODUCERS);
        let sequence = turn * builder.records_count();
        let builder = match kind {
            Kind::Plain => builder,
            Kind::Idempotent => builder.producer(producer, 0, sequence),
            Kind::Transactional => builder.producer(producer, 0, sequence).transactional(),
        };
        bytes += append(log, builder.build().unwrap()).bytes;
        if kind == Kind::Transactional && turn % 4 == 3 {
            let marker = EndTxnMarker { committed: n % 2 == 0, coordinator_epoch: 0 };
            let marker = validate(end_txn_marker(producer, 0, marker, NOW_MS).unwrap(), &markers, NOW_MS).unwrap();
            bytes += log.append_as_leader(marker, AppendAsLeader::new(0, NOW_MS)).unwrap().bytes;
        }
    }
    bytes
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("open an unclean log of 32 MB");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(1));
    for kind in [Kind::Plain, Kind::Idempotent, Kind::Transactional] {
        let source = TempDir::new().unwrap();
        let bytes = crashed(source.path(), kind);
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(format!("{kind:?}"), |b| {
            b.iter_batched(
                || copy_of(source.path()),
                |dir| {
                    let mut directory = directory(dir.path());
                    let log_end = open(&mut directory, &LogConfig::default()).offsets().log_end;
                    (dir, directory, log_end)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn copy_of(source: &Path) -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("bench-0")).unwrap();
    for entry in std::fs::read_dir(source.join("bench-0")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join("bench-0").join(path.file_name().unwrap())).unwrap();
    }
    dir
}

criterion_group!(benches, bench);
criterion_main!(benches);
