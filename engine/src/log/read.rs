//! Reading a log: index look-ups that end in a slice of a segment's file.
//!
//! Everything here works on one [`View`] taken at the start, so a reader never sees half of an append, a roll or a
//! truncation. Follows `UnifiedLog.read` and `LocalLog.read`.

use super::{
    error::LogError,
    rolling::Roll,
    state::{LogOffsetMetadata, LogOffsets, Shared, View},
};
use crate::{
    format::{
        checkpoint::EpochEntry,
        index_entry::{AbortedTxn, TimeIndexEntry},
        uuid::Uuid,
    },
    segment::{FileSlice, RecordTime, Segment, SegmentError},
    storage::prefetch_value,
    types::{LeaderEpoch, Offset, Timestamp, TopicPartition},
};
use std::sync::{Arc, atomic::AtomicI64};

/// How far a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Up to the log end: followers.
    LogEnd,
    /// Up to the high watermark: consumers that read uncommitted.
    #[default]
    HighWatermark,
    /// Up to the last stable offset, with the aborted transactions below it: consumers that read committed.
    ReadCommitted,
}

/// A read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// First offset wanted, inclusive. The answer begins with the whole batch that holds it.
    pub offset: Offset,
    /// At most this many bytes, inclusive.
    pub max_bytes: u64,
    /// How far to see.
    pub isolation: Isolation,
    /// Give at least one whole batch, whatever `max_bytes` says.
    pub min_one_batch: bool,
}

impl Fetch {
    /// A read from `offset` up to the high watermark, 1 MiB at most and one batch at least.
    #[must_use]
    pub fn from(offset: Offset) -> Self {
        Self { offset, max_bytes: 1 << 20, isolation: Isolation::HighWatermark, min_one_batch: true }
    }
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where the first batch begins. Its offset is the batch's base, below the offset asked for if that lies inside.
    /// `None` when nothing is there yet.
    pub start: Option<LogOffsetMetadata>,
    /// The batches; the last one may be cut off by `max_bytes`. `None` when nothing is there yet.
    pub records: Option<FileSlice>,
    /// Whether `max_bytes` is smaller than the first batch, so that not even that is whole. Not where nothing was asked for, with
    /// a `max_bytes` of 0.
    pub first_batch_incomplete: bool,
    /// Aborted transactions that a consumer has to skip, for [`Isolation::ReadCommitted`] alone: those that overlap the
    /// slice and possibly others.
    pub aborted: Vec<AbortedTxn>,
}

impl Fetched {
    /// Bytes found.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.records.as_ref().map_or(0, FileSlice::len)
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn nothing(start: Option<LogOffsetMetadata>) -> Self {
        Self { start, records: None, first_batch_incomplete: false, aborted: Vec::new() }
    }
}

/// A question by time (`ListOffsets`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampQuery {
    /// The log start offset.
    Earliest,
    /// The end, as far as the isolation sees.
    Latest,
    /// The first record with the greatest timestamp.
    MaxTimestamp,
    /// The first record whose timestamp is at or above this one, in ms.
    At(Timestamp),
}

/// The answer to a [`TimestampQuery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp in ms; `None` where the answer is not a record's.
    pub timestamp: Option<Timestamp>,
    /// The leader epoch of the offset, if it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// One segment, as an operator wants to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Base offset.
    pub base_offset: Offset,
    /// Bytes of its log file.
    pub size: u64,
    /// Entries of its offset index.
    pub index_entries: usize,
    /// Entries of its time index.
    pub time_index_entries: usize,
    /// Aborted transactions that ended in it.
    pub aborted_transactions: usize,
    /// Greatest timestamp of its records, in ms.
    pub largest_timestamp: Option<Timestamp>,
}

/// Reads a log while its writer appends; cheap to clone, any number of them, on any thread.
///
/// ```no_run
/// # fn example(reader: &duramen::LogReader, socket: &std::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
/// let fetched = reader.read(duramen::Fetch::from(0))?;
/// if let Some(records) = &fetched.records {
///     records.send_all(socket, None)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    /// Fetches what an append or a read is going to touch into the processor's caches.
    pub(crate) fn prefetch(&self) {
        prefetch_value(&*self.shared);
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.shared.partition
    }

    /// The topic's id, if the directory has one.
    #[must_use]
    pub fn topic_id(&self) -> Option<Uuid> {
        self.shared.topic_id.get().copied()
    }

    /// All offsets, of one moment.
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        self.shared.readable_offsets()
    }

    /// To show readers nothing at or above an offset as committed, whatever the high watermark.
    pub(crate) fn committed_end_cell(&self) -> Arc<AtomicI64> {
        self.shared.committed_end_cell()
    }

    /// The segment that is being appended to.
    /// The active segment, and a roll that made it if that has not ended.
    pub(crate) fn newest(&self) -> (Option<Arc<Segment>>, Option<Arc<Roll>>) {
        let view = self.shared.read();
        (view.active().map(Arc::clone), view.roll.as_ref().filter(|roll| !roll.is_done()).map(Arc::clone))
    }

    pub(crate) fn active_segment(&self) -> Option<Arc<Segment>> {
        self.shared.read().active().map(Arc::clone)
    }

    /// Where the log ends.
    #[must_use]
    pub fn log_end(&self) -> LogOffsetMetadata {
        self.shared.read().log_end
    }

    /// Finds the batches from an offset on. Touches no record: one index look-up and a few headers.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] below the log start or above the log end; [`LogError::Segment`] or
    /// [`LogError::Storage`] when the log cannot be read there.
    pub fn read(&self, fetch: Fetch) -> Result<Fetched, LogError> {
        self.look(|view| read(view, &fetch))
    }

    /// Looks at one moment of the log; again if it failed because the writer removed or cut a file meanwhile.
    fn look<T>(&self, at: impl Fn(&View) -> Result<T, LogError>) -> Result<T, LogError> {
        loop {
            let view = self.shared.readable_view();
            match at(&view) {
                Err(error) if self.is_stale(&view, &error) => std::thread::yield_now(),
                result => return result,
            }
        }
    }

    /// Whether a failure comes from a cut beside the read. A cut claims the file of its segment, and gives it back when a
    /// slice turns out to be in its way: what met the claim fails although nothing shows it afterwards.
    fn is_stale(&self, view: &View, error: &LogError) -> bool {
        let now = self.shared.read();
        let claimed = view.segments().iter().any(|segment| segment.is_replaced());
        let given_back = !claimed && matches!(error, LogError::Segment(SegmentError::Replaced { .. }));
        given_back || (claimed && !now.failed) || !view.segments().are(now.segments())
    }

    /// Answers a question by time, for a reader that sees as far as `isolation`
    /// (`UnifiedLog.fetchOffsetByTimestamp`). `None` when no record is that young.
    ///
    /// # Errors
    /// [`LogError::Segment`] or [`LogError::Storage`] when the log cannot be read.
    pub fn offset_for_timestamp(
        &self,
        query: TimestampQuery,
        isolation: Isolation,
    ) -> Result<Option<TimestampAndOffset>, LogError> {
        self.look(|view| match query {
            TimestampQuery::Earliest => Ok(Some(TimestampAndOffset {
                offset: view.log_start,
                timestamp: None,
                leader_epoch: view.epochs.earliest_covering(view.log_start),
            })),
            TimestampQuery::Latest => Ok(Some(TimestampAndOffset {
                offset: bound_offset(view, isolation),
                timestamp: None,
                leader_epoch: view.epochs.latest(),
            })),
            TimestampQuery::MaxTimestamp => max_timestamp(view),
            TimestampQuery::At(timestamp) => Ok(at_timestamp(view, timestamp)?.map(TimestampAndOffset::from)),
        })
    }

    /// The largest epoch at or below `epoch` and where it ends, exclusive; `None` if nothing is known of it
    /// (`LeaderEpochFileCache.endOffsetFor`).
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let view = self.shared.read();
        view.epochs.end_offset_for(epoch, view.log_end.offset)
    }

    /// The newest leader epoch.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.read().epochs.latest()
    }

    /// The leader epoch that an offset was written in.
    #[must_use]
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.read().epochs.epoch_for_offset(offset)
    }

    /// All leader epochs with their first offsets, ascending.
    #[must_use]
    pub fn leader_epochs(&self) -> Vec<EpochEntry> {
        self.shared.read().epochs.entries().to_vec()
    }

    /// All segments, ascending. Loads every index.
    ///
    /// # Errors
    /// [`LogError::Segment`] or [`LogError::Storage`] when one cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentSummary>, LogError> {
        self.look(|view| view.segments().iter().map(|segment| summary(segment)).collect())
    }

    /// Bytes of all log files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.view().segments().iter().map(|segment| segment.size()).sum()
    }
}

impl From<RecordTime> for TimestampAndOffset {
    fn from(record: RecordTime) -> Self {
        Self { offset: record.offset, timestamp: Some(record.timestamp), leader_epoch: record.leader_epoch }
    }
}

fn summary(segment: &Segment) -> Result<SegmentSummary, LogError> {
    let (index_entries, time_index_entries, aborted_transactions) = segment.index_entries()?;
    Ok(SegmentSummary {
        base_offset: segment.base_offset(),
        size: segment.size(),
        index_entries,
        time_index_entries,
        aborted_transactions,
        largest_timestamp: segment.greatest_timestamp()?.map(|entry| entry.timestamp),
    })
}

fn bound_offset(view: &View, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::LogEnd => view.log_end.offset,
        Isolation::HighWatermark => view.high_watermark,
        Isolation::ReadCommitted => view.last_stable(),
    }
}

fn read(view: &View, fetch: &Fetch) -> Result<Fetched, LogError> {
    let out_of_range =
        LogError::OffsetOutOfRange { offset: fetch.offset, log_start: view.log_start, log_end: view.log_end.offset };
    if fetch.offset < view.log_start || fetch.offset > view.log_end.offset {
        return Err(out_of_range);
    }
    let bound = bound_offset(view, fetch.isolation);
    if fetch.offset >= bound {
        let mut start = metadata_at(view, fetch.offset)?.unwrap_or(view.log_end);
        if fetch.offset == bound {
            start.offset = bound;
        }
        return Ok(Fetched::nothing(Some(start)));
    }
    let bound = metadata_at(view, bound)?.unwrap_or(view.log_end);
    let Some(mut segment) = view.segments().floor(fetch.offset) else {
        return Err(out_of_range);
    };
    loop {
        if let Some(found) = read_segment(segment, fetch, &bound)? {
            return add_aborted(view, segment, fetch, found);
        }
        match view.segments().higher(segment.base_offset()) {
            Some(higher) => segment = higher,
            None => return Ok(Fetched::nothing(Some(view.log_end))),
        }
    }
}

/// The part of one segment that answers a read; `None` if all its batches lie below the offset.
fn read_segment(segment: &Segment, fetch: &Fetch, bound: &LogOffsetMetadata) -> Result<Option<Fetched>, LogError> {
    let Some(found) = segment.locate(fetch.offset)? else {
        return Ok(None);
    };
    let start = LogOffsetMetadata {
        offset: found.header.base_offset(),
        segment_base_offset: segment.base_offset(),
        position: found.position,
    };
    let first_size = u64::try_from(found.header.size()).unwrap_or(u64::MAX);
    let wanted = if fetch.min_one_batch { fetch.max_bytes.max(first_size) } else { fetch.max_bytes };
    let end = match segment.base_offset().cmp(&bound.segment_base_offset) {
        std::cmp::Ordering::Less => segment.size(),
        std::cmp::Ordering::Equal => bound.position,
        std::cmp::Ordering::Greater => found.position,
    };
    let is_asked_for = wanted > 0 && segment.base_offset() <= bound.segment_base_offset;
    let len = wanted.min(end.saturating_sub(found.position));
    Ok(Some(Fetched {
        start: Some(start),
        records: Some(segment.slice(found.position, len)?),
        first_batch_incomplete: is_asked_for && wanted < first_size,
        aborted: Vec::new(),
    }))
}

/// Where the first batch at or above an offset begins; `None` where the log has none.
fn metadata_at(view: &View, offset: Offset) -> Result<Option<LogOffsetMetadata>, LogError> {
    if offset == view.log_end.offset {
        return Ok(Some(view.log_end));
    }
    let mut segment = view.segments().floor(offset).or_else(|| view.segments().first());
    while let Some(candidate) = segment {
        if let Some(found) = candidate.locate(offset)? {
            return Ok(Some(LogOffsetMetadata {
                offset: found.header.base_offset(),
                segment_base_offset: candidate.base_offset(),
                position: found.position,
            }));
        }
        segment = view.segments().higher(candidate.base_offset());
    }
    Ok(None)
}

/// Adds the aborted transactions that overlap what was read.
fn add_aborted(view: &View, segment: &Segment, fetch: &Fetch, mut found: Fetched) -> Result<Fetched, LogError> {
    if fetch.isolation != Isolation::ReadCommitted {
        return Ok(found);
    }
    let end = found.start.map_or(0, |start| start.position) + found.len();
    let upper_bound = match segment.upper_bound(end)? {
        Some(entry) => entry.offset,
        None => view.segments().higher(segment.base_offset()).map_or(view.log_end.offset, |next| next.base_offset()),
    };
    for segment in view.segments().from(segment.base_offset()) {
        if segment.txns()?.collect(fetch.offset, upper_bound, &mut found.aborted) {
            break;
        }
    }
    Ok(found)
}

/// The first segment whose greatest timestamp reaches the one asked for decides; where records have no time, when its
/// file was last written to.
fn at_timestamp(view: &View, timestamp: Timestamp) -> Result<Option<RecordTime>, LogError> {
    for segment in view.segments().iter() {
        let greatest = match segment.greatest_timestamp()? {
            Some(greatest) => greatest.timestamp,
            None => segment.modified_ms()?,
        };
        if greatest >= timestamp {
            return Ok(segment.find_by_timestamp(timestamp, view.log_start)?);
        }
    }
    Ok(None)
}

/// The earliest of the segments with the greatest timestamp has it. Where no record has a time all are equal, and the
/// first is the answer.
fn max_timestamp(view: &View) -> Result<Option<TimestampAndOffset>, LogError> {
    let mut greatest: Option<(TimeIndexEntry, &Arc<Segment>)> = None;
    for segment in view.segments().iter() {
        if let Some(entry) = segment.greatest_timestamp()?
            && greatest.is_none_or(|(known, _)| entry.timestamp > known.timestamp)
        {
            greatest = Some((entry, segment));
        }
    }
    match greatest {
        Some((entry, segment)) => Ok(segment.find_greatest(entry)?.map(TimestampAndOffset::from)),
        None => match view.segments().first() {
            Some(first) => Ok(first.first_record()?.map(|(offset, leader_epoch)| TimestampAndOffset {
                offset,
                timestamp: None,
                leader_epoch,
            })),
            None => Ok(None),
        },
    }
}
