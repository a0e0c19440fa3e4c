//! What the writer of a log publishes and its readers see: the segments and the offsets, always of one moment.

use super::{epochs::EpochCache, rolling::Roll};
use crate::{
    format::uuid::Uuid,
    segment::Segment,
    storage::Storage,
    types::{Offset, TopicPartition},
};
use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicI64, Ordering},
};

/// A place in the log: the offset, and where in which segment it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsetMetadata {
    /// The offset.
    pub offset: Offset,
    /// Base offset of the segment that it lies in.
    pub segment_base_offset: Offset,
    /// Position in that segment's file, in bytes.
    pub position: u64,
}

impl LogOffsetMetadata {
    /// Bytes from here to `end`, if both lie in one segment; otherwise there is at least the rest of a segment.
    #[must_use]
    pub fn bytes_until(&self, end: &Self) -> Option<u64> {
        (self.segment_base_offset == end.segment_base_offset).then(|| end.position.saturating_sub(self.position))
    }
}

/// The offsets of a log at one moment:
/// `log_start <= last_stable <= high_watermark <= log_end` and `recovery_point <= log_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// First readable offset, inclusive.
    pub log_start: Offset,
    /// Everything below is decided, exclusive.
    pub last_stable: Offset,
    /// Everything below is committed, exclusive.
    pub high_watermark: Offset,
    /// Everything below is flushed, exclusive, as far as the log's own files go. What a commit journal has durably besides is in
    /// [`crate::Partition::flushed`].
    pub recovery_point: Offset,
    /// The next offset to be assigned, exclusive end of the log.
    pub log_end: Offset,
}

/// The segments of a log, ascending by base offset; never empty once the log is open, the active one last. A clone costs
/// nothing, a change a copy of all references.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segments(Arc<[Arc<Segment>]>);

impl FromIterator<Arc<Segment>> for Segments {
    /// Takes them as they come: ascending by base offset.
    fn from_iter<I: IntoIterator<Item = Arc<Segment>>>(ascending: I) -> Self {
        Self(ascending.into_iter().collect())
    }
}

impl Segments {
    /// Takes the place of one with the same base.
    pub(crate) fn insert(&mut self, segment: Arc<Segment>) {
        let base_offset = segment.base_offset();
        self.0 =
            self.lower(base_offset).iter().chain([&segment]).chain(self.above(base_offset)).map(Arc::clone).collect();
    }

    pub(crate) fn remove(&mut self, base_offset: Offset) {
        self.0 = self.lower(base_offset).iter().chain(self.above(base_offset)).map(Arc::clone).collect();
    }

    /// Removes those that have the bases of these, which ascend.
    pub(crate) fn remove_all(&mut self, gone: &[Arc<Segment>]) {
        let is_gone = |base_offset| gone.binary_search_by_key(&base_offset, |gone| gone.base_offset()).is_ok();
        self.0 = self.0.iter().filter(|segment| !is_gone(segment.base_offset())).map(Arc::clone).collect();
    }

    pub(crate) fn first(&self) -> Option<&Arc<Segment>> {
        self.0.first()
    }

    pub(crate) fn active(&self) -> Option<&Arc<Segment>> {
        self.0.last()
    }

    /// The segment with the greatest base at or below `offset`.
    pub(crate) fn floor(&self, offset: Offset) -> Option<&Arc<Segment>> {
        self.0.partition_point(|segment| segment.base_offset() <= offset).checked_sub(1).and_then(|at| self.0.get(at))
    }

    /// The segment after the one with this base.
    pub(crate) fn higher(&self, base_offset: Offset) -> Option<&Arc<Segment>> {
        self.above(base_offset).first()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        self.0.iter()
    }

    pub(crate) fn from(&self, base_offset: Offset) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        self.0.iter().skip(self.lower(base_offset).len())
    }

    /// The segments with a lower base.
    pub(crate) fn below(&self, base_offset: Offset) -> Self {
        Self(self.lower(base_offset).into())
    }

    fn lower(&self, base_offset: Offset) -> &[Arc<Segment>] {
        self.0.split_at(self.0.partition_point(|segment| segment.base_offset() < base_offset)).0
    }

    fn above(&self, base_offset: Offset) -> &[Arc<Segment>] {
        self.0.split_at(self.0.partition_point(|segment| segment.base_offset() <= base_offset)).1
    }

    /// Whether these are the segments of one moment.
    pub(crate) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    pub(crate) fn bases(&self) -> Vec<Offset> {
        self.0.iter().map(|segment| segment.base_offset()).collect()
    }
}

/// One consistent moment of a log.
#[derive(Debug, Clone)]
pub(crate) struct View {
    segments: Segments,
    /// The last of them; `None` only for a log without a segment, which is never opened.
    active: Option<Arc<Segment>>,
    pub(crate) epochs: EpochCache,
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) first_unstable: Option<Offset>,
    pub(crate) recovery_point: Offset,
    pub(crate) log_end: LogOffsetMetadata,
    /// The last roll that no append waited for, unless the writer has seen its end.
    pub(crate) roll: Option<Arc<Roll>>,
    /// Whether the writer gave up: nothing here changes any more.
    pub(crate) failed: bool,
}

impl View {
    /// A moment of a log whose offsets are all 0.
    pub(crate) fn new(segments: Segments, epochs: EpochCache, log_end: LogOffsetMetadata) -> Self {
        Self {
            active: segments.active().map(Arc::clone),
            segments,
            epochs,
            log_start: 0,
            high_watermark: 0,
            first_unstable: None,
            recovery_point: 0,
            log_end,
            roll: None,
            failed: false,
        }
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    pub(crate) fn active(&self) -> Option<&Arc<Segment>> {
        self.active.as_ref()
    }

    pub(crate) fn set_segments(&mut self, segments: Segments) {
        self.active = segments.active().map(Arc::clone);
        self.segments = segments;
    }

    /// The first undecided offset if it is below the high watermark, else the high watermark.
    pub(crate) fn last_stable(&self) -> Offset {
        match self.first_unstable() {
            Some(first) if first < self.high_watermark => first,
            _ => self.high_watermark,
        }
    }

    /// The first undecided offset that can be read.
    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        self.first_unstable.map(|first| first.max(self.log_start))
    }

    pub(crate) fn offsets(&self) -> LogOffsets {
        LogOffsets {
            log_start: self.log_start,
            last_stable: self.last_stable(),
            high_watermark: self.high_watermark,
            recovery_point: self.recovery_point,
            log_end: self.log_end.offset,
        }
    }
}

/// What the writer and the readers of one log share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) partition: TopicPartition,
    /// Guards the moment that readers see; never held during I/O.
    view: RwLock<View>,
    /// What readers see as committed at most, exclusive.
    committed_end: Arc<AtomicI64>,
    /// Given once.
    pub(crate) topic_id: OnceLock<Uuid>,
}

impl Shared {
    pub(crate) fn new(storage: Arc<dyn Storage>, partition: TopicPartition, view: View) -> Self {
        Self {
            storage,
            partition,
            view: RwLock::new(view),
            committed_end: Arc::new(AtomicI64::new(Offset::MAX)),
            topic_id: OnceLock::new(),
        }
    }

    /// A copy of the moment, for look-ups outside the lock.
    pub(crate) fn view(&self) -> View {
        self.read().clone()
    }

    /// The offsets of the moment, as readers see them.
    pub(crate) fn readable_offsets(&self) -> LogOffsets {
        let view = self.read();
        let end = self.committed_end();
        let offsets = view.offsets();
        LogOffsets {
            last_stable: offsets.last_stable.min(end),
            high_watermark: offsets.high_watermark.min(end),
            ..offsets
        }
    }

    /// As [`Shared::view`], of what readers see.
    pub(crate) fn readable_view(&self) -> View {
        let mut view = self.view();
        view.high_watermark = view.high_watermark.min(self.committed_end());
        view
    }

    fn committed_end(&self) -> Offset {
        self.committed_end.load(Ordering::Acquire)
    }

    /// To show readers nothing at or above an offset as committed, whatever the high watermark.
    pub(crate) fn committed_end_cell(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.committed_end)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the writer alone.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        config::LogConfig,
        segment::{IndexLimits, MAX_SEGMENT_BYTES},
        storage::Posix,
    };
    use std::path::Path;

    fn segments(bases: &[Offset]) -> Segments {
        let home = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Posix::open(home.path()).unwrap());
        let limits = IndexLimits::from_config(&LogConfig::default());
        let mut segments = Segments::default();
        for base_offset in bases {
            let segment = Segment::open(&storage, Path::new("log"), *base_offset, limits, MAX_SEGMENT_BYTES);
            segments.insert(Arc::new(segment));
        }
        segments
    }

    // M 119
    #[test]
    fn segments_are_found_by_what_lies_at_below_and_above() {
        let mut segments = segments(&[10, 0, 20, 30]);
        let base = |found: Option<&Arc<Segment>>| found.map(|segment| segment.base_offset());
        assert_eq!((base(segments.first()), base(segments.active())), (Some(0), Some(30)));
        let floors = [-1, 0, 9, 10, 29, 30, 99].map(|offset| base(segments.floor(offset)));
        assert_eq!(floors, [None, Some(0), Some(0), Some(10), Some(20), Some(30), Some(30)]);
        let higher = [-1, 0, 9, 10, 29, 30].map(|offset| base(segments.higher(offset)));
        assert_eq!(higher, [Some(0), Some(10), Some(10), Some(20), Some(30), None]);
        assert_eq!(segments.below(20).bases(), [0, 10]);
        assert_eq!(segments.from(10).map(|segment| segment.base_offset()).collect::<Vec<_>>(), [10, 20, 30]);
        let bytes: u64 = segments.iter().map(|segment| segment.size()).sum();
        assert_eq!(bytes, 4 * MAX_SEGMENT_BYTES, "more than 32 bits hold");
        segments.remove(0);
        segments.remove(30);
        assert_eq!(segments.bases(), [10, 20]);
    }
}
