//! Batches of one shape, made up deterministically: those that `kafka-bench` measures Kafka's own log with.

use crate::Failure;
use duramen::format::builder::BatchBuilder;

/// Bytes of a value.
const VALUE_BYTES: usize = 1024;
/// What fills a batch of 16 KiB.
const RECORDS_PER_BATCH: usize = 15;

/// Which keys the records get.
#[derive(Debug)]
pub(crate) enum Keys {
    None,
    /// Random ones of so many.
    Random {
        distinct: u64,
        random: Random,
    },
}

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An index below `count`, near enough to evenly.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}

/// A batch of exactly so many bytes: one record whose value does not compress, and a key, as compaction wants one.
pub(crate) fn batch_of(bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut random = Random(1);
    let value: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_be_bytes()).collect();
    // What is around the value takes a few bytes more for a longer one.
    for around in 60..90_usize {
        let value = value.get(..bytes.saturating_sub(around)).unwrap_or_default();
        let batch = BatchBuilder::new().record(super::NOW_MS, Some(b"key"), Some(value)).build()?;
        if batch.len() == bytes {
            return Ok(batch);
        }
    }
    Err(format!("there is no batch of {bytes} bytes").into())
}

/// One batch: values of 1 KiB that do not compress, uncompressed.
pub(crate) fn batch_16k(keys: &mut Keys) -> Result<Vec<u8>, Failure> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batch_of_has_exactly_so_many_bytes() {
        for bytes in [100, 1024, 4096, 16_384, 65_536] {
            assert_eq!(batch_of(bytes).unwrap().len(), bytes);
        }
        assert!(batch_of(10).is_err());
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random(0);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }
}
