//! What an open does with what it found: scanning segments, and the decision table.
//!
//! [`scan`] only reads. [`decide`] is pure: from what the scan found to what happens. The log carries it out, newest
//! segment first, so that a crash in the middle leaves a prefix of the log, on which the same table decides the same.

use super::{
    epochs::EpochCache,
    error::{Corruption, LogError},
    producers::ProducerState,
    state::Segments,
};
use crate::{
    format::{
        FormatError,
        batch::{Batch, BatchHeader, HEADER_SIZE},
        control::EndTxnMarker,
        index_entry::AbortedTxn,
    },
    segment::{Damage, LOOKUP_BYTES, LiveIndex, MAX_RELATIVE_OFFSET, SCAN_BYTES, Scanner, Segment, SegmentError, Step},
    storage::{Storage, StorageError},
    types::Offset,
};
use std::{fmt, ops::Range};

/// What happens when bytes that were known to be durable turn out to be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorruption {
    /// The open fails with [`super::LogError::Corrupt`] and changes nothing. The host chooses.
    #[default]
    Report,
    /// The log is cut before the damage and everything behind it is dropped, as Kafka does.
    Truncate,
}

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the log was closed cleanly before.
    pub clean: bool,
    /// Segments whose batches were all read and checksummed.
    pub segments_scanned: usize,
    /// Bytes read for that.
    pub bytes_scanned: u64,
    /// Where the log was cut, and why; `None` when every byte was a batch.
    pub cut: Option<Cut>,
    /// Base offsets of segments that were split because their offsets left their range.
    pub segments_split: Vec<Offset>,
    /// Base offsets of segments dropped because they lay behind the cut.
    pub segments_dropped: Vec<Offset>,
    /// Base offsets of segments whose indexes were made anew.
    pub indexes_rebuilt: Vec<Offset>,
    /// Whether the leader epochs were read from the batches, because their checkpoint was lost or unreadable.
    pub epochs_rebuilt: bool,
    /// Leftovers of interrupted deletions, swaps and truncations that were removed.
    pub files_removed: Vec<String>,
    /// Entries of the directory that are not the log's; they were not touched.
    pub foreign: Vec<String>,
}

/// The end of a log that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Base offset of the segment that was cut.
    pub segment: Offset,
    /// Position in its log file, in bytes.
    pub position: u64,
    /// Bytes removed from that file.
    pub bytes: u64,
    /// What was found there.
    pub damage: Damage,
}

impl RecoveryReport {
    /// The load begins again, after a segment was split.
    pub(super) fn restart(&mut self, split: Offset) {
        let Self { clean, files_removed, mut segments_split, .. } = std::mem::take(self);
        segments_split.push(split);
        *self = Self { clean, files_removed, segments_split, ..Self::default() };
    }

    /// Of a log that was closed in order and whose files were as that left them: the open read no batches and changed nothing.
    #[must_use]
    pub fn as_left() -> Self {
        Self { clean: true, ..Self::default() }
    }

    /// Whether it is [`RecoveryReport::as_left`].
    #[must_use]
    pub fn is_as_left(&self) -> bool {
        *self == Self::as_left()
    }

    /// Whether the open changed nothing but derived files.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.cut.is_none() && self.segments_dropped.is_empty()
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.clean { "clean" } else { "unclean" };
        write!(f, "{how}, {} segments and {} bytes checked", self.segments_scanned, self.bytes_scanned)?;
        if let Some(cut) = &self.cut {
            write!(f, "; segment {} cut at byte {} ({} bytes: {})", cut.segment, cut.position, cut.bytes, cut.damage)?;
        }
        if !self.segments_split.is_empty() {
            write!(f, "; segments {:?} split", self.segments_split)?;
        }
        if !self.segments_dropped.is_empty() {
            write!(f, "; segments {:?} dropped", self.segments_dropped)?;
        }
        if !self.indexes_rebuilt.is_empty() {
            write!(f, "; indexes of {} segments rebuilt", self.indexes_rebuilt.len())?;
        }
        if self.epochs_rebuilt {
            write!(f, "; leader epochs rebuilt")?;
        }
        Ok(())
    }
}

/// How far a recovery has come, for a host to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Base offset of the segment being read.
    pub segment: Offset,
    /// Bytes read so far, over all segments of the log.
    pub bytes_done: u64,
    /// Bytes to be read in all.
    pub bytes_total: u64,
}

/// What a scan of one segment found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) base_offset: Offset,
    /// Length of the file.
    pub(super) size: u64,
    /// End of the last whole batch.
    pub(super) valid_bytes: u64,
    /// The offset after the last whole batch; the base if there is none.
    pub(super) next_offset: Offset,
    pub(super) damage: Option<Damage>,
    /// Where the last whole batch begins, if offsets go back behind it to where they were before it: then it is that
    /// batch whose offset is wrong, which no checksum covers.
    pub(super) suspect: Option<u64>,
    pub(super) live: LiveIndex,
    pub(super) aborted: Vec<AbortedTxn>,
}

impl Scan {
    /// The facts that decide.
    pub(super) fn found(&self, recovery_point: Offset) -> Found<'_> {
        let damage = self.damage.as_ref();
        Found { damage, valid_bytes: self.valid_bytes, next_offset: self.next_offset, recovery_point }
    }
}

/// What the batches say besides where they are; carried from segment to segment.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Batches that lie wholly below are no longer part of the log: their epochs do not count.
    pub(super) log_start: Offset,
    pub(super) epochs: EpochCache,
    pub(super) producers: ProducerState,
}

impl Replay {
    /// Takes note of a batch (`LogSegment.recover`).
    fn observe(&mut self, header: &BatchHeader, marker: Option<EndTxnMarker>) -> Option<AbortedTxn> {
        if header.next_offset() > self.log_start {
            self.epochs.observe(header);
        }
        let completed = self.producers.note(header, marker);
        let aborted = completed.and_then(|txn| self.producers.complete(txn));
        self.producers.set_end_offset(header.next_offset());
        aborted
    }
}

/// Magic 0 and 1 are refused with a reason before anything is taken for damage.
pub(super) fn check_old_formats(segments: &Segments) -> Result<(), LogError> {
    for segment in segments.iter() {
        let log = segment.log()?;
        let failed = |error| StorageError::new("read", &segment.files().log(), error);
        let mut scanner = segment.scanner(&log, 0, segment.size(), LOOKUP_BYTES);
        if let Step::Damaged(Damage::Format(error @ FormatError::UnsupportedVersion { version: 0 | 1, .. })) =
            scanner.step().map_err(failed)?
            && scanner.is_old_message(0).map_err(failed)?
        {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Reads every batch of a segment below byte `limit` with its checksum, and replays it.
pub(super) fn scan(
    storage: &dyn Storage,
    segment: &Segment,
    replay: &mut Replay,
    limit: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Scan, SegmentError> {
    let log = segment.log()?;
    let failed = |error| StorageError::new("read", &segment.files().log(), error);
    let size = storage.len(&log).map_err(failed)?;
    let mut before = (0, segment.base_offset());
    let mut scan = Scan {
        base_offset: segment.base_offset(),
        size,
        valid_bytes: 0,
        next_offset: segment.base_offset(),
        damage: None,
        suspect: None,
        live: segment.empty_index(),
        aborted: Vec::new(),
    };
    let mut scanner = segment.scanner(&log, 0, size.min(limit), SCAN_BYTES);
    loop {
        let position = scanner.position();
        let header = match scanner.step().map_err(failed)? {
            Step::Batch(_, header) => header,
            Step::End => break,
            Step::Damaged(damage) => {
                scan.damage = Some(damage);
                break;
            }
        };
        if let Some(damage) = check_order(&scan, &header) {
            let goes_back = matches!(damage, Damage::OffsetsNotAscending { .. });
            scan.suspect = (goes_back && header.base_offset() >= before.1).then_some(before.0);
            scan.damage = Some(damage);
            break;
        }
        let marker = match check_bytes(&mut scanner, position, &header).map_err(failed)? {
            Ok(marker) => marker,
            Err(damage) => {
                scan.damage = Some(damage);
                break;
            }
        };
        scan.live.observe(&header, u32::try_from(position).unwrap_or(u32::MAX));
        scan.aborted.extend(replay.observe(&header, marker));
        before = (position, scan.next_offset);
        scan.next_offset = header.next_offset();
        scan.valid_bytes = scanner.position();
        progress(u64::try_from(header.size()).unwrap_or(u64::MAX));
    }
    scan.live.seal();
    Ok(scan)
}

/// Last offsets ascend from batch to batch, which is all that a follower asks of its leader, and stay within the
/// segment's range.
fn check_order(scan: &Scan, header: &BatchHeader) -> Option<Damage> {
    let last_offset = header.last_offset();
    if header.base_offset() < scan.base_offset || last_offset < scan.next_offset {
        return Some(Damage::OffsetsNotAscending { last_offset, previous: scan.next_offset.saturating_sub(1) });
    }
    (last_offset.saturating_sub(scan.base_offset) > MAX_RELATIVE_OFFSET)
        .then_some(Damage::OffsetOutOfRange { last_offset })
}

/// Compares the checksum; the marker, if the batch is one that ends a transaction.
fn check_bytes(
    scanner: &mut Scanner<'_>,
    position: u64,
    header: &BatchHeader,
) -> std::io::Result<Result<Option<EndTxnMarker>, Damage>> {
    Ok(match scanner.batch(position, header)? {
        Ok(batch) => batch.check_crc().map(|()| marker_of(&batch)).map_err(Damage::from),
        Err(error) => Err(Damage::from(error)),
    })
}

/// The end marker in a control batch. A control batch that compaction emptied says nothing.
fn marker_of(batch: &Batch<'_>) -> Option<EndTxnMarker> {
    if !batch.header().attributes().is_control() {
        return None;
    }
    let mut scratch = Vec::new();
    let limit = u64::try_from(HEADER_SIZE).unwrap_or_default();
    let record = batch.records(&mut scratch, limit).ok()?.next()?.ok()?;
    EndTxnMarker::decode(&record).ok().flatten()
}

/// Calls `visit` with the header of every batch of a segment from the one that holds `offsets.start` on, up to but
/// without the one that reaches `offsets.end`, and with the marker if it is one that ends a transaction.
pub(super) fn walk(
    storage: &dyn Storage,
    segment: &Segment,
    offsets: Range<Offset>,
    visit: &mut dyn FnMut(&BatchHeader, Option<EndTxnMarker>),
) -> Result<(), SegmentError> {
    let log = segment.log()?;
    let failed = |error| StorageError::new("read", &segment.files().log(), error);
    let size = storage.len(&log).map_err(failed)?.min(segment.size());
    let start = segment.locate(offsets.start)?.map_or(size, |found| found.position);
    let mut scanner = segment.scanner(&log, start, size, SCAN_BYTES);
    while let Step::Batch(position, header) = scanner.step().map_err(failed)? {
        if header.last_offset() >= offsets.end {
            break;
        }
        let marker = if header.attributes().is_control() {
            scanner.batch(position, &header).map_err(failed)?.ok().and_then(|batch| marker_of(&batch))
        } else {
            None
        };
        visit(&header, marker);
    }
    Ok(())
}

/// What is to be done after a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Every byte is a batch.
    Keep,
    /// The last scanned segment is cut at a position and becomes the active one; later ones are dropped.
    Cut {
        /// Where its last whole batch ends.
        position: u64,
    },
    /// Bytes that were durable are damaged.
    Refuse,
}

/// The facts that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// What the last scanned segment has in the place of a batch.
    pub(super) damage: Option<&'a Damage>,
    /// End of its last whole batch.
    pub(super) valid_bytes: u64,
    /// The offset that the damaged place should hold.
    pub(super) next_offset: Offset,
    /// Everything below was durable.
    pub(super) recovery_point: Offset,
}

/// The decision table of recovery:
///
/// | damage | where | wanted | outcome |
/// |---|---|---|---|
/// | none | | | keep |
/// | offsets beyond the segment's range, which cannot be split | anywhere | | refuse: the data may be whole |
/// | any | at or above the recovery point | | cut: a torn tail |
/// | any | below the recovery point | report | refuse: corruption |
/// | any | below the recovery point | truncate | cut, as Kafka does |
pub(super) fn decide(found: Found<'_>, on_corruption: OnCorruption) -> Decision {
    match found.damage {
        None => Decision::Keep,
        Some(Damage::OffsetOutOfRange { .. }) => Decision::Refuse,
        Some(_) if found.next_offset >= found.recovery_point || on_corruption == OnCorruption::Truncate => {
            Decision::Cut { position: found.valid_bytes }
        }
        Some(_) => Decision::Refuse,
    }
}

/// The report on a damaged segment, with the next offset at which a whole batch follows the damage.
pub(super) fn corruption(
    storage: &dyn Storage,
    partition: String,
    segment: &Segment,
    scan: &Scan,
    recovery_point: Offset,
) -> Result<Corruption, SegmentError> {
    Ok(Corruption {
        partition,
        segment: scan.base_offset,
        position: scan.valid_bytes,
        damage: scan.damage.clone().unwrap_or(Damage::ZeroTail),
        last_good: scan.next_offset,
        next_good: find_next_batch(storage, segment, scan)?,
        recovery_point,
    })
}

/// Looks at every byte behind the damage for a batch with a right checksum and later offsets.
fn find_next_batch(storage: &dyn Storage, segment: &Segment, scan: &Scan) -> Result<Option<Offset>, SegmentError> {
    let log = segment.log()?;
    let failed = |error| StorageError::new("read", &segment.files().log(), error);
    let mut scanner = Scanner::new(storage, &log, scan.valid_bytes, scan.size, SCAN_BYTES);
    for position in scan.valid_bytes.saturating_add(1)..scan.size {
        let Some(header) = scanner.header_at(position).map_err(failed)? else {
            continue;
        };
        if header.base_offset() >= scan.next_offset
            && scanner.batch(position, &header).map_err(failed)?.is_ok_and(|batch| batch.check_crc().is_ok())
        {
            return Ok(Some(header.base_offset()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(damage: Option<&Damage>, next_offset: Offset, on_corruption: OnCorruption) -> Decision {
        decide(Found { damage, valid_bytes: 700, next_offset, recovery_point: 100 }, on_corruption)
    }

    #[test]
    fn decision_table_is_complete() {
        let torn = Damage::ZeroTail;
        let far = Damage::OffsetOutOfRange { last_offset: 1 << 40 };
        let cut = Decision::Cut { position: 700 };
        for on_corruption in [OnCorruption::Report, OnCorruption::Truncate] {
            assert_eq!(decided(None, 50, on_corruption), Decision::Keep);
            assert_eq!(decided(Some(&torn), 100, on_corruption), cut);
            assert_eq!(decided(Some(&torn), 101, on_corruption), cut);
            assert_eq!(decided(Some(&far), 101, on_corruption), Decision::Refuse);
        }
        assert_eq!(decided(Some(&torn), 99, OnCorruption::Report), Decision::Refuse);
        assert_eq!(decided(Some(&torn), 99, OnCorruption::Truncate), cut);
    }
}
