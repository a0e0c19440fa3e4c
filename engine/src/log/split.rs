//! Splitting a segment whose offsets leave its range, as old versions of Kafka could write them: into segments whose
//! offsets fit, while the log is opened (`LocalLog.splitOverflowedSegment`).
//!
//! No checksum covers a batch's base offset, so one damaged batch looks like an overflow too. [`decide`] tells them apart
//! by what follows. The parts are log files only: the load, which begins again after a split, makes everything derived
//! anew, as for any segment without an index. The first part keeps the segment's base, and a further part begins at its
//! first batch. A first part that no batch fits is written all the same, because the parts have to stand for every offset
//! of the segment until that is gone; but it takes no place. Damage at the segment's end is copied with the rest, for the
//! load to find it in the last part.
//!
//! Steps, and what [`super::open`] finds after each:
//!
//! | step | found | done |
//! |---|---|---|
//! | 1. every part written under `.cleaned` and synced, the directory synced | some `.cleaned` | they are removed: the log from before |
//! | 2. each part renamed to `.swap`, the last first, a directory sync each | some `.swap`, below them `.cleaned` | all are removed, `.swap` first |
//! | 3. the source removed, the directory synced | every part under `.swap` | the source goes, then on with 4 |
//! | 4. an empty first part removed, the directory synced | parts under `.swap`, no source | the empty one goes, then on with 5 |
//! | 5. each part renamed to its place, the first first, a directory sync each | parts in place, behind them `.swap` | they are renamed: the split log |

use super::{
    LogError,
    cleaner::swap,
    loading::Listing,
    open::{self, Opening},
    recovery::{self, Decision, Found, Replay, Scan},
    state::Segments,
};
use crate::{
    format::names::{self, Suffix},
    segment::{Damage, MAX_RELATIVE_OFFSET, SCAN_BYTES, Segment, SegmentError, Step},
    storage::{self, Access, Storage, StorageError, remove_if_there},
    types::Offset,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a load did not come to its end.
#[derive(Debug)]
pub(super) enum Interrupted {
    Failed(LogError),
    /// A segment has to be split first; then the load begins again.
    Overflow(Box<Overflow>),
}

impl<E: Into<LogError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A segment to be split, and where.
#[derive(Debug)]
pub(super) struct Overflow {
    segment: Arc<Segment>,
    size: u64,
    /// Base offset and first byte of each part, ascending.
    parts: Vec<(Offset, u64)>,
    /// The offset after the last whole batch.
    pub(super) end_offset: Offset,
}

/// What the batches of a segment look like, beyond its range and before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beyond {
    /// Whether a batch lies beyond the range.
    overflows: bool,
    /// Whether each batch comes after those before it.
    ascending: bool,
    /// The offset that the first bytes which are no batch should hold.
    damaged_at: Option<Offset>,
    /// The offset after the last batch.
    end_offset: Offset,
}

/// Whether a segment is split:
///
/// | batches beyond the range | damage | end | outcome |
/// |---|---|---|---|
/// | none | | | no |
/// | one of them goes back: the offset before is wrong | | | no |
/// | ascending | below the recovery point | | no: nobody knows what is behind it |
/// | ascending | none, or at or above the recovery point | above the next segment's base | no: an offset is wrong |
/// | ascending | none, or at or above the recovery point | up to the next segment's base | yes |
fn decide(found: Beyond, next_base: Option<Offset>, recovery_point: Offset) -> bool {
    found.overflows
        && found.ascending
        && found.damaged_at.is_none_or(|offset| offset >= recovery_point)
        && next_base.is_none_or(|next_base| found.end_offset <= next_base)
}

/// Whether an offset lies beyond the range of a segment.
pub(super) fn is_beyond(base_offset: Offset, offset: Offset) -> bool {
    offset.saturating_sub(base_offset) > MAX_RELATIVE_OFFSET
}

/// Whether a sealed segment ends beyond its range, as far as its headers say. Reads no more than its end, and nothing at
/// all if the next segment begins so low that there can be no such offset.
fn ends_beyond_range(segment: &Segment, next_base: Offset) -> Result<bool, SegmentError> {
    let base_offset = segment.base_offset();
    if !is_beyond(base_offset, next_base.saturating_sub(1)) {
        return Ok(false);
    }
    let log = segment.log()?;
    let from = segment.lookup_entry(Offset::MAX)?.map_or(0, |entry| u64::from(entry.position));
    let failed = |error| StorageError::new("read", &segment.files().log(), error);
    let mut last_offset = None;
    // An index that lies may point where no batch begins.
    for from in [from, 0] {
        let mut scanner = segment.scanner(&log, from, segment.size(), SCAN_BYTES);
        while let Step::Batch(_, header) = scanner.step().map_err(failed)? {
            last_offset = Some(header.last_offset());
        }
        if last_offset.is_some() {
            break;
        }
    }
    Ok(last_offset.is_some_and(|last_offset| is_beyond(base_offset, last_offset)))
}

/// How a segment is split, if it is one to be split. Reads all of it.
pub(super) fn plan(
    storage: &dyn Storage,
    segment: &Arc<Segment>,
    next_base: Option<Offset>,
    recovery_point: Offset,
) -> Result<Option<Overflow>, SegmentError> {
    let log = segment.log()?;
    let failed = |error| StorageError::new("read", &segment.files().log(), error);
    let size = storage.len(&log).map_err(failed)?;
    let mut parts = vec![(segment.base_offset(), 0)];
    let mut found = Beyond { overflows: false, ascending: true, damaged_at: None, end_offset: segment.base_offset() };
    let mut part_base = segment.base_offset();
    let mut scanner = segment.scanner(&log, 0, size, SCAN_BYTES);
    loop {
        let (position, header) = match scanner.step().map_err(failed)? {
            Step::Batch(position, header) => (position, header),
            Step::End => break,
            Step::Damaged(_) => {
                found.damaged_at = Some(found.end_offset);
                break;
            }
        };
        if !scanner.batch(position, &header).map_err(failed)?.is_ok_and(|batch| batch.check_crc().is_ok()) {
            found.damaged_at = Some(found.end_offset);
            break;
        }
        found.overflows |= is_beyond(segment.base_offset(), header.last_offset());
        // Within the range a follower's batches may overlap; no part may.
        let first = if found.overflows { header.base_offset() } else { header.last_offset() };
        if first < found.end_offset || header.base_offset() < segment.base_offset() {
            found.ascending = false;
            break;
        }
        if is_beyond(part_base, header.last_offset()) {
            part_base = header.base_offset();
            parts.push((part_base, position));
        }
        found.end_offset = header.next_offset();
    }
    let overflow = Overflow { segment: Arc::clone(segment), size, parts, end_offset: found.end_offset };
    Ok(decide(found, next_base, recovery_point).then_some(overflow))
}

/// Whether a scan stopped because offsets leave the segment's range.
pub(super) fn left_range(damage: Option<&Damage>) -> bool {
    matches!(damage, Some(Damage::OffsetOutOfRange { .. }))
}

impl Opening<'_> {
    /// Ends the load for a sealed segment to be split, whether the load would read it or not.
    pub(super) fn split_sealed(
        &self,
        listing: &Listing,
        segments: &Segments,
        recovery_point: Offset,
    ) -> Result<(), Interrupted> {
        for segment in segments.iter() {
            if let Some(next) = segments.higher(segment.base_offset())
                && ends_beyond_range(segment, next.base_offset())?
            {
                self.split_if_whole(listing, segments, segment, recovery_point)?;
            }
        }
        Ok(())
    }

    /// Ends the load for a segment to be split, if it is one. Whatever else would make the load refuse does so before it,
    /// so that nothing is changed then.
    pub(super) fn split_if_whole(
        &self,
        listing: &Listing,
        segments: &Segments,
        segment: &Arc<Segment>,
        recovery_point: Offset,
    ) -> Result<(), Interrupted> {
        let planned = |segment: &Arc<Segment>| {
            let next_base = segments.higher(segment.base_offset()).map(|next| next.base_offset());
            // An orderly close left no torn tail in a sealed segment.
            let is_closed = self.options.clean && next_base.is_some();
            plan(&**self.storage, segment, next_base, if is_closed { Offset::MAX } else { recovery_point })
        };
        let Some(overflow) = planned(segment)? else {
            return Ok(());
        };
        let recovered_from = self.recovered_from(segments, recovery_point);
        let mut log_end = self.log_start(segments);
        for segment in segments.iter() {
            let base_offset = segment.base_offset();
            let is_recovered = base_offset >= recovered_from;
            let (damage, next_offset) = if is_recovered || open::needs_repair(listing, segment)? {
                let scan = dry_scan(&**self.storage, segment)?;
                (scan.damage, scan.next_offset)
            } else if segments.higher(base_offset).is_none() {
                let tail = segment.activate()?;
                (tail.damage, tail.next_offset.unwrap_or(base_offset))
            } else {
                continue;
            };
            log_end = next_offset;
            let overflows = left_range(damage.as_ref()) || is_beyond(base_offset, next_offset.saturating_sub(1));
            if overflows && let Some(overflow) = planned(segment)? {
                log_end = overflow.end_offset;
                continue;
            }
            let durable = if is_recovered { recovery_point } else { recovery_point.max(base_offset) };
            let found = Found { damage: damage.as_ref(), valid_bytes: 0, next_offset, recovery_point: durable };
            match recovery::decide(found, self.options.on_corruption) {
                // The load refuses when it comes there.
                Decision::Keep if overflows => return Ok(()),
                Decision::Keep => {}
                Decision::Cut { .. } => break,
                Decision::Refuse => {
                    let scan = dry_scan(&**self.storage, segment)?;
                    return Err(self.refuse(segment, &scan, recovery_point)?.into());
                }
            }
        }
        self.check_log_start(segments, log_end)?;
        Err(Interrupted::Overflow(Box::new(overflow)))
    }
}

/// What a scan would find.
fn dry_scan(storage: &dyn Storage, segment: &Segment) -> Result<Scan, SegmentError> {
    let scan_to = |limit| recovery::scan(storage, segment, &mut Replay::default(), limit, &mut |_| {});
    let scan = scan_to(u64::MAX)?;
    Ok(match scan.suspect {
        Some(suspect) => Scan { damage: scan.damage, ..scan_to(suspect)? },
        None => scan,
    })
}

impl Overflow {
    /// Base offset of the segment.
    pub(super) fn base_offset(&self) -> Offset {
        self.segment.base_offset()
    }

    /// Puts the parts in the segment's place, durably.
    pub(super) fn split(&self, storage: &dyn Storage, dir: &Path) -> Result<(), LogError> {
        if let Err(error) = self.write_parts(storage, dir) {
            // The first error is the one to report; what cannot be removed now is removed by the next open.
            let removed = self.parts.iter().try_for_each(|part| storage.unlink(&named(dir, part.0, Suffix::Cleaned)));
            drop(removed);
            return Err(error);
        }
        for (base_offset, _) in self.parts.iter().rev() {
            storage.rename(&named(dir, *base_offset, Suffix::Cleaned), &named(dir, *base_offset, Suffix::Swap))?;
            storage.sync_dir(dir)?;
        }
        for path in self.segment.files().all() {
            remove_if_there(storage, &path)?;
        }
        storage.sync_dir(dir)?;
        let is_empty = self.parts.get(1).is_some_and(|(_, start)| *start == 0);
        if is_empty {
            storage.unlink(&named(dir, self.base_offset(), Suffix::Swap))?;
            storage.sync_dir(dir)?;
        }
        let parts = self.parts.iter().skip(usize::from(is_empty));
        let logs: Vec<_> = parts.map(|(base_offset, _)| names::log(*base_offset)).collect();
        Ok(swap::finish_renames(storage, dir, &logs)?)
    }

    /// Every byte of the segment goes to one part; each part is as old as the segment, by which retention counts.
    fn write_parts(&self, storage: &dyn Storage, dir: &Path) -> Result<(), LogError> {
        let log = self.segment.log()?;
        let modified_ms = self.segment.modified_ms()?;
        let ends = self.parts.iter().skip(1).map(|(_, start)| *start).chain([self.size]);
        for ((base_offset, start), end) in self.parts.iter().zip(ends) {
            let path = named(dir, *base_offset, Suffix::Cleaned);
            let part = storage.open(&path, Access::Create)?;
            storage::copy(storage, (&log, *start), &part, end.saturating_sub(*start))
                .and_then(|()| storage::sync(storage, &part))
                .and_then(|()| storage.set_modified_ms(&part, modified_ms))
                .map_err(|error| SegmentError::from(StorageError::new("write", &path, error)))?;
        }
        Ok(storage.sync_dir(dir)?)
    }
}

fn named(dir: &Path, base_offset: Offset, suffix: Suffix) -> PathBuf {
    dir.join(format!("{}{}", names::log(base_offset), suffix.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_table_is_complete() {
        let whole = Beyond { overflows: true, ascending: true, damaged_at: None, end_offset: 5_000_000_000 };
        let damaged = |offset| Beyond { damaged_at: Some(offset), ..whole };
        let cases = [
            (Beyond { overflows: false, ..whole }, None, false),
            (Beyond { ascending: false, ..whole }, None, false),
            (Beyond { ascending: false, ..damaged(100) }, None, false),
            (damaged(99), None, false),
            (damaged(100), None, true),
            (damaged(100), Some(4_999_999_999), false),
            (damaged(100), Some(5_000_000_000), true),
            (whole, Some(4_999_999_999), false),
            (whole, Some(5_000_000_000), true),
            (whole, None, true),
        ];
        for (found, next_base, outcome) in cases {
            assert_eq!(decide(found, next_base, 100), outcome, "{found:?}, next base {next_base:?}");
        }
    }

    #[test]
    fn range_ends_at_2147483647_above_the_base() {
        assert!(!is_beyond(10, 10 + 2_147_483_647));
        assert!(is_beyond(10, 10 + 2_147_483_648));
    }
}
