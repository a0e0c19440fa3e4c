//! The last offset of each key in the dirty part of a log, in a bounded table.
//!
//! Keys are known by a 128-bit hash alone, as in Kafka, which takes MD5 and pays for it with most of the time of this
//! phase. Here it is XXH3 with a seed of the host's. No file holds a hash, so the choice shows only when two different
//! keys have the same one: they would count as one key, and the older record would be lost. By chance that takes 2^64
//! keys. Somebody who chooses keys could look for such a pair, but not without knowing the seed: hosts draw it anew
//! for each pass.
//!
//! A slot takes 24 bytes. The table is allocated once, before anything is read.

use super::super::LogError;
use crate::types::Offset;
use std::collections::TryReserveError;
use twox_hash::XxHash3_128;

/// Bytes of a slot, as in Kafka's map.
pub(super) const SLOT_BYTES: usize = 24;

/// Keys whose slots are loaded together: enough to keep the memory busy, and few enough to stay in the cache.
pub(super) const WARM_KEYS: usize = 64;

/// A key's hash in two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash([u64; 2]);

/// Hash of the key in two halves, and the offset plus one: 0 in an empty slot.
type Slot = [u64; 3];

/// Key hash to offset, by open addressing (`SkimpyOffsetMap`).
#[derive(Debug)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    seed: u64,
    len: usize,
    /// Keys that it takes: nine tenths of the slots that the memory allows.
    capacity: usize,
    /// Last offset that the map covers.
    latest_offset: Option<Offset>,
}

impl OffsetMap {
    /// A map in at most `bytes` of memory; less if no more than `records` can ever be put into it.
    pub(super) fn new(bytes: usize, records: u64, seed: u64) -> Result<Self, LogError> {
        let allowed = bytes / SLOT_BYTES;
        let capacity = allowed.saturating_mul(9) / 10;
        if capacity == 0 {
            let value = i64::try_from(bytes).unwrap_or(i64::MAX);
            let why = "the map must have room for one key at least";
            return Err(LogError::InvalidArgument { what: "dedupe buffer bytes", value, why });
        }
        let useful = usize::try_from(records).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(1);
        let slots = Self::allocate(allowed.min(useful)).map_err(|_| {
            let value = i64::try_from(bytes).unwrap_or(i64::MAX);
            LogError::InvalidArgument { what: "dedupe buffer bytes", value, why: "there is not so much memory" }
        })?;
        Ok(Self { slots, seed, len: 0, capacity, latest_offset: None })
    }

    fn allocate(count: usize) -> Result<Vec<Slot>, TryReserveError> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(count)?;
        slots.resize(count, [0; 3]);
        Ok(slots)
    }

    /// Loads the slots of keys that are about to be asked for: of many at once the memory is waited for only once.
    pub(super) fn warm(&self, keys: impl Iterator<Item = KeyHash>) {
        let slot = |KeyHash([high, _])| self.slots.get(self.start(high)).map_or(0, |slot| slot[2]);
        std::hint::black_box(keys.map(slot).fold(0, u64::wrapping_add));
    }

    /// Remembers that a key was last seen at `offset`; false if the map is full, which it also says of known keys.
    pub(super) fn put(&mut self, KeyHash([high, low]): KeyHash, offset: Offset) -> bool {
        if self.len >= self.capacity {
            return false;
        }
        let stored = offset.cast_unsigned().wrapping_add(1);
        let mut at = self.start(high);
        // The table is larger than what it takes, so there is an empty slot.
        while let Some(slot) = self.slots.get_mut(at) {
            if slot[2] == 0 {
                *slot = [high, low, stored];
                self.len += 1;
                break;
            }
            if slot[0] == high && slot[1] == low {
                slot[2] = stored;
                break;
            }
            at = if at + 1 < self.slots.len() { at + 1 } else { 0 };
        }
        self.latest_offset = Some(offset);
        true
    }

    /// The last offset of a key, if it was put.
    pub(super) fn get(&self, KeyHash([high, low]): KeyHash) -> Option<Offset> {
        let mut at = self.start(high);
        loop {
            let slot = self.slots.get(at)?;
            if slot[2] == 0 {
                return None;
            }
            if slot[0] == high && slot[1] == low {
                return Some(slot[2].wrapping_sub(1).cast_signed());
            }
            at = if at + 1 < self.slots.len() { at + 1 } else { 0 };
        }
    }

    /// What the map knows a key by.
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = XxHash3_128::oneshot_with_seed(self.seed, key);
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        KeyHash([half(hash >> 64), half(hash)])
    }

    /// The slot at which the search for a hash begins: its upper half scaled to the table.
    fn start(&self, high: u64) -> usize {
        let slots = u128::try_from(self.slots.len()).unwrap_or_default();
        usize::try_from((u128::from(high) * slots) >> 64).unwrap_or_default()
    }

    /// Raises what the map covers beyond the last key, over what has no key in it.
    pub(super) fn cover(&mut self, offset: Offset) {
        self.latest_offset = Some(offset);
    }

    /// Last offset that the map covers.
    pub(super) fn latest_offset(&self) -> Option<Offset> {
        self.latest_offset
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    fn put(map: &mut OffsetMap, key: &[u8], offset: Offset) -> bool {
        map.put(map.hash(key), offset)
    }

    fn get(map: &OffsetMap, key: &[u8]) -> Option<Offset> {
        map.get(map.hash(key))
    }

    // M 198
    #[test]
    fn last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(24 * 2000, u64::MAX, 7).unwrap();
        for round in 0..3_i64 {
            for n in 0..1500 {
                assert!(put(&mut map, &key(n), round * 1500 + i64::try_from(n).unwrap()));
            }
        }
        assert_eq!((map.len(), map.latest_offset()), (1500, Some(4499)));
        for n in 0..1500 {
            assert_eq!(get(&map, &key(n)), Some(3000 + i64::try_from(n).unwrap()));
        }
        assert_eq!(get(&map, &key(1500)), None);
    }

    // M 198
    #[test]
    fn full_map_refuses_even_a_known_key() {
        let mut map = OffsetMap::new(24 * 3 + 23, u64::MAX, 0).unwrap();
        assert!(put(&mut map, b"a", 0));
        assert!(put(&mut map, b"b", 1));
        assert!(!put(&mut map, b"b", 2));
        assert_eq!((map.len(), map.latest_offset(), get(&map, b"b")), (2, Some(1), Some(1)));
    }

    #[test]
    fn map_takes_no_more_memory_than_the_records_need() {
        let map = OffsetMap::new(1 << 30, 100, 0).unwrap();
        assert!(map.slots.capacity() <= 201);
        let mut map = OffsetMap::new(1 << 30, 2, 0).unwrap();
        assert!(put(&mut map, b"a", 0) && put(&mut map, b"b", 1));
        assert_eq!((get(&map, b"a"), get(&map, b"c")), (Some(0), None));
    }

    #[test]
    fn map_without_room_for_a_key_is_refused() {
        assert!(OffsetMap::new(24, u64::MAX, 0).is_err());
        assert!(OffsetMap::new(48, u64::MAX, 0).is_ok());
    }
}
