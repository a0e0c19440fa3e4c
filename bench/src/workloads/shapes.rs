//! Batches of one shape, made up deterministically: those that `kafka-bench` measures Kafka's own log with.

use crate::Failure;
use duramen::format::builder::BatchBuilder;

/// Bytes of a value.
const VALUE_BYTES: usize = 1024;
/// What fills a batch of 16 KiB.
const RECORDS_PER_BATCH: usize = 15;

/// Which keys the records get.
#[derive(Debug)]
pub(super) enum Keys {
    None,
    /// Random ones of so many.
    Random {
        distinct: u64,
        random: Random,
    },
}

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// One batch: values of 1 KiB that do not compress, uncompressed.
pub(super) fn batch_16k(keys: &mut Keys) -> Result<Vec<u8>, Failure> {
    let mut random = Random(1);
    let value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| random.next().to_be_bytes()).collect();
    let mut builder = BatchBuilder::new();
    for _ in 0..RECORDS_PER_BATCH {
        let key = match keys {
            Keys::None => None,
            Keys::Random { distinct, random } => Some(format!("key-{:010}", random.next() % *distinct)),
        };
        builder = builder.record(super::NOW_MS, key.as_deref().map(str::as_bytes), Some(&value));
    }
    Ok(builder.build()?)
}
