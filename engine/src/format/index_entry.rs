//! Entries of the offset, time and transaction index, and look-ups in the raw bytes of the first two.

use super::{bytes::Reader, error::FormatError};
use crate::types::{Offset, ProducerId, Timestamp};

/// "The batch that ends with this offset begins at this position."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetIndexEntry {
    /// Last offset of the batch, inclusive.
    pub offset: Offset,
    /// Where it begins in the log file, in bytes.
    pub position: u32,
}

/// "The greatest timestamp so far is this one, and it belongs to the batch that ends with this offset."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeIndexEntry {
    /// In ms.
    pub timestamp: Timestamp,
    /// Last offset of the earliest batch that has it, inclusive.
    pub offset: Offset,
}

/// A transaction that was aborted; its marker lies in the segment of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first offset, possibly in an earlier segment.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
    /// The last stable offset right after the marker.
    pub last_stable_offset: Offset,
}

/// The only version of a transaction index entry.
pub const TXN_INDEX_VERSION: i16 = 0;

fn relative(offset: Offset, base_offset: Offset) -> Result<i32, FormatError> {
    let relative = offset.checked_sub(base_offset).and_then(|relative| i32::try_from(relative).ok());
    relative.filter(|relative| *relative >= 0).ok_or(FormatError::Invalid {
        what: "index entry's offset",
        value: offset,
        why: "it is not within 0 to 2147483647 of the segment's base",
    })
}

fn absolute(what: &'static str, relative: i32, base_offset: Offset) -> Result<Offset, FormatError> {
    let offset = base_offset.checked_add(i64::from(relative)).filter(|_| relative >= 0);
    offset.ok_or(FormatError::Invalid { what, value: i64::from(relative), why: "the relative offset is negative" })
}

impl OffsetIndexEntry {
    /// Bytes of an entry.
    pub const SIZE: usize = 8;

    /// Reads an entry of the segment with this base.
    ///
    /// # Errors
    /// [`FormatError::Truncated`], [`FormatError::Invalid`] for a negative offset or position.
    pub fn decode(bytes: &[u8], base_offset: Offset) -> Result<Self, FormatError> {
        let mut reader = Reader::new("offset index entry", bytes);
        let offset = absolute("offset index entry", reader.i32()?, base_offset)?;
        let position = reader.i32()?;
        let position = u32::try_from(position).map_err(|_| FormatError::Invalid {
            what: "offset index entry's position",
            value: i64::from(position),
            why: "it is negative",
        })?;
        Ok(Self { offset, position })
    }

    /// Appends the entry's bytes.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] when the offset is out of the segment's range.
    pub fn encode(&self, base_offset: Offset, out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend(relative(self.offset, base_offset)?.to_be_bytes());
        out.extend(self.position.to_be_bytes());
        Ok(())
    }
}

impl TimeIndexEntry {
    /// Bytes of an entry.
    pub const SIZE: usize = 12;

    /// Reads an entry of the segment with this base.
    ///
    /// # Errors
    /// [`FormatError::Truncated`], [`FormatError::Invalid`] for a negative offset.
    pub fn decode(bytes: &[u8], base_offset: Offset) -> Result<Self, FormatError> {
        let mut reader = Reader::new("time index entry", bytes);
        let timestamp = reader.i64()?;
        Ok(Self { timestamp, offset: absolute("time index entry", reader.i32()?, base_offset)? })
    }

    /// Appends the entry's bytes.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] when the offset is out of the segment's range.
    pub fn encode(&self, base_offset: Offset, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let relative = relative(self.offset, base_offset)?;
        out.extend(self.timestamp.to_be_bytes());
        out.extend(relative.to_be_bytes());
        Ok(())
    }
}

impl AbortedTxn {
    /// Bytes of an entry.
    pub const SIZE: usize = 34;

    /// Reads an entry.
    ///
    /// # Errors
    /// [`FormatError::Truncated`], [`FormatError::UnsupportedVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new("transaction index entry", bytes);
        let version = reader.i16()?;
        if version != TXN_INDEX_VERSION {
            let what = "transaction index entry";
            return Err(FormatError::UnsupportedVersion { what, version: i64::from(version) });
        }
        Ok(Self {
            producer_id: reader.i64()?,
            first_offset: reader.i64()?,
            last_offset: reader.i64()?,
            last_stable_offset: reader.i64()?,
        })
    }

    /// Appends the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(TXN_INDEX_VERSION.to_be_bytes());
        out.extend(self.producer_id.to_be_bytes());
        out.extend(self.first_offset.to_be_bytes());
        out.extend(self.last_offset.to_be_bytes());
        out.extend(self.last_stable_offset.to_be_bytes());
    }
}

/// Whole entries at the front of `bytes`, without the zeros that Kafka leaves behind the last entry of an index that it
/// preallocated. The first entry may be all zeros and real.
fn used_entries(bytes: &[u8], size: usize) -> usize {
    let whole = bytes.chunks_exact(size);
    let trailing = whole.clone().rev().take_while(|entry| entry.iter().all(|byte| *byte == 0)).count();
    let len = whole.len();
    if trailing == len { len.min(1).saturating_sub(usize::from(len > 1)) } else { len.saturating_sub(trailing) }
}

/// The bytes of an offset index.
///
/// ```
/// use duramen::format::index_entry::OffsetIndexView;
/// let bytes = [0, 0, 0, 50, 0, 0, 0x10, 0x68, 0, 0, 0, 99, 0, 0, 0x20, 0x9e];
/// let index = OffsetIndexView::new(&bytes, 100);
/// assert_eq!(index.lookup(198).map(|entry| (entry.offset, entry.position)), Some((150, 4200)));
/// assert_eq!(index.lookup(149), None);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct OffsetIndexView<'a> {
    bytes: &'a [u8],
    base_offset: Offset,
    len: usize,
}

impl<'a> OffsetIndexView<'a> {
    /// Looks at whole entries; a torn one at the end, and trailing zero entries, do not count.
    #[must_use]
    pub fn new(bytes: &'a [u8], base_offset: Offset) -> Self {
        Self { bytes, base_offset, len: used_entries(bytes, OffsetIndexEntry::SIZE) }
    }

    /// Entries in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entry `n`, from 0; `None` beyond the end and for one that cannot be decoded.
    #[must_use]
    pub fn entry(&self, n: usize) -> Option<OffsetIndexEntry> {
        let at = n.checked_mul(OffsetIndexEntry::SIZE).filter(|_| n < self.len)?;
        OffsetIndexEntry::decode(self.bytes.get(at..)?, self.base_offset).ok()
    }

    /// The entry with the largest offset at or below `target`. Of damaged, unsorted bytes some entry, or none.
    #[must_use]
    pub fn lookup(&self, target: Offset) -> Option<OffsetIndexEntry> {
        let behind = partition_point(self.len, |n| self.entry(n).is_some_and(|entry| entry.offset <= target));
        self.entry(behind.checked_sub(1)?)
    }

    /// The first entry whose position is at or above `position`; behind the first of all entries if that one's is equal,
    /// as in Kafka's binary search (`OffsetIndex.fetchUpperBoundOffset`).
    #[must_use]
    pub fn upper_bound(&self, position: u32) -> Option<OffsetIndexEntry> {
        let at = partition_point(self.len, |n| self.entry(n).is_some_and(|entry| entry.position < position));
        let is_first = at == 0 && self.entry(0).is_some_and(|entry| entry.position == position);
        self.entry(at.saturating_add(usize::from(is_first)))
    }
}

/// The bytes of a time index.
#[derive(Debug, Clone, Copy)]
pub struct TimeIndexView<'a> {
    bytes: &'a [u8],
    base_offset: Offset,
    len: usize,
}

impl<'a> TimeIndexView<'a> {
    /// Looks at whole entries; a torn one at the end, and trailing zero entries, do not count.
    #[must_use]
    pub fn new(bytes: &'a [u8], base_offset: Offset) -> Self {
        Self { bytes, base_offset, len: used_entries(bytes, TimeIndexEntry::SIZE) }
    }

    /// Entries in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entry `n`, from 0; `None` beyond the end and for one that cannot be decoded.
    #[must_use]
    pub fn entry(&self, n: usize) -> Option<TimeIndexEntry> {
        let at = n.checked_mul(TimeIndexEntry::SIZE).filter(|_| n < self.len)?;
        TimeIndexEntry::decode(self.bytes.get(at..)?, self.base_offset).ok()
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Option<TimeIndexEntry> {
        self.entry(self.len.checked_sub(1)?)
    }

    /// The entry with the largest timestamp at or below `timestamp`. Of damaged, unsorted bytes some entry, or none.
    #[must_use]
    pub fn lookup(&self, timestamp: Timestamp) -> Option<TimeIndexEntry> {
        let behind = partition_point(self.len, |n| self.entry(n).is_some_and(|entry| entry.timestamp <= timestamp));
        self.entry(behind.checked_sub(1)?)
    }
}

/// The first number below `len` for which `before` is false, if it is true up to there.
fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0_usize, len);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_have_the_bytes_of_kafka() {
        let mut bytes = Vec::new();
        OffsetIndexEntry { offset: 150, position: 4200 }.encode(100, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 0, 0x32, 0, 0, 0x10, 0x68]);
        bytes.clear();
        TimeIndexEntry { timestamp: 1_700_000_000_005, offset: 150 }.encode(100, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 5, 0, 0, 0, 0x32]);
        bytes.clear();
        let txn = AbortedTxn { producer_id: 4001, first_offset: 100, last_offset: 110, last_stable_offset: 100 };
        txn.encode(&mut bytes);
        assert_eq!(bytes.len(), AbortedTxn::SIZE);
        assert_eq!(&bytes[..10], &[0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0xa1]);
        assert_eq!(AbortedTxn::decode(&bytes).unwrap(), txn);
    }

    // M 107
    #[test]
    fn offsets_outside_the_segment_are_refused() {
        let mut out = Vec::new();
        assert!(OffsetIndexEntry { offset: 99, position: 0 }.encode(100, &mut out).is_err());
        assert!(OffsetIndexEntry { offset: 100 + (1 << 31), position: 0 }.encode(100, &mut out).is_err());
        assert!(OffsetIndexEntry { offset: 99 + (1 << 31), position: 0 }.encode(100, &mut out).is_ok());
        assert!(OffsetIndexEntry::decode(&[0xff; 8], 100).is_err());
    }

    #[test]
    fn txn_entry_of_a_newer_version_is_refused() {
        let mut bytes = [0; AbortedTxn::SIZE];
        bytes[1] = 1;
        assert!(matches!(AbortedTxn::decode(&bytes), Err(FormatError::UnsupportedVersion { version: 1, .. })));
    }

    #[test]
    fn trailing_zero_entries_do_not_count() {
        assert_eq!(used_entries(&[], 8), 0);
        assert_eq!(used_entries(&[0; 8], 8), 1);
        assert_eq!(used_entries(&[0; 80], 8), 0);
        let mut bytes = vec![0; 80];
        bytes[15] = 1;
        assert_eq!(used_entries(&bytes, 8), 2);
        assert_eq!(used_entries(&bytes[..20], 8), 2);
    }

    // M 122
    #[test]
    fn upper_bound_is_the_first_entry_behind() {
        let mut bytes = Vec::new();
        for (offset, position) in [(1, 5), (2, 10), (3, 23), (4, 37)] {
            OffsetIndexEntry { offset, position }.encode(0, &mut bytes).unwrap();
        }
        let view = OffsetIndexView::new(&bytes, 0);
        let found = |position| view.upper_bound(position).map(|entry| entry.offset);
        assert_eq!((found(10), found(11), found(37), found(38)), (Some(2), Some(3), Some(4), None));
        assert_eq!((found(4), found(5)), (Some(1), Some(2)));
    }

    proptest! {
        #[test]
        fn views_of_arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), target: i64) {
            let offsets = OffsetIndexView::new(&bytes, 0);
            let _ = (offsets.lookup(target), offsets.upper_bound(7), offsets.entry(3));
            let times = TimeIndexView::new(&bytes, 0);
            let _ = (times.lookup(target), times.last());
        }

        // M 120
        #[test]
        fn lookup_finds_the_greatest_entry_below(mut offsets in proptest::collection::btree_set(0_i64..1000, 0..50), target in 0_i64..1000) {
            let mut bytes = Vec::new();
            for (n, offset) in offsets.iter().enumerate() {
                OffsetIndexEntry { offset: *offset, position: u32::try_from(n + 1).unwrap() }.encode(0, &mut bytes).unwrap();
            }
            let expected = offsets.split_off(&(target + 1));
            drop(expected);
            let found = OffsetIndexView::new(&bytes, 0).lookup(target).map(|entry| entry.offset);
            prop_assert_eq!(found, offsets.last().copied());
        }
    }
}
