//! Batches and logs that several suites use, made deterministically.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, AppendInfo, Log, LogConfig, LogDirectory, TopicPartition, ValidationPolicy,
    format::{
        builder::BatchBuilder,
        compression::{Codec, Compression},
    },
    validate,
};
use std::path::Path;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// How large the records and the batches are, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) record_bytes: usize,
    pub(crate) batch_bytes: usize,
}

pub(crate) const SMALL: Shape = Shape { name: "100 B in 16 KiB", record_bytes: 100, batch_bytes: 16 << 10 };
pub(crate) const LARGE: Shape = Shape { name: "1 KiB in 64 KiB", record_bytes: 1024, batch_bytes: 64 << 10 };

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A value that compresses about twofold.
pub(crate) fn value(bytes: usize, random: &mut Random) -> Vec<u8> {
    let hex = (0..bytes.div_ceil(16)).map(|_| format!("{:016x}", random.next())).collect::<String>();
    hex.into_bytes()[..bytes].to_vec()
}

/// A builder full of records, with keys among so many distinct ones.
pub(crate) fn filled(shape: Shape, codec: Codec, distinct: u64, random: &mut Random) -> BatchBuilder {
    let mut builder = BatchBuilder::new().compression(Compression::with_default_level(codec));
    for _ in 0..shape.batch_bytes / (shape.record_bytes + 24) {
        let key = format!("key-{:010}", random.next() % distinct);
        let value = value(shape.record_bytes, random);
        builder = builder.record(NOW_MS, Some(key.as_bytes()), Some(&value));
    }
    builder
}

pub(crate) fn partition() -> TopicPartition {
    TopicPartition::new("bench", 0).unwrap()
}

pub(crate) fn open<'a>(directory: &'a mut LogDirectory, config: &LogConfig) -> &'a mut Log {
    directory.get_or_create(&partition(), config).unwrap()
}

pub(crate) fn directory(path: &Path) -> LogDirectory {
    LogDirectory::open(path).unwrap()
}

pub(crate) fn append(log: &mut Log, bytes: Vec<u8>) -> AppendInfo {
    let batch = validate(bytes, &ValidationPolicy::from_config(&log.config()), NOW_MS).unwrap();
    log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap()
}
