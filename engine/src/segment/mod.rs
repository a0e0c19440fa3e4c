//! Floor 3: one segment of a log: its `.log` file and what is derived from it.
//!
//! Owns the files of one base offset. Knows nothing of other segments, of epochs or of producers. Keeps: index entries
//! ascend and each points at the start of the batch that ends with its offset (checked against the header whenever one
//! is used: an index that lies is rebuilt from the log, never believed); bytes below the size never change, except by
//! truncation, which leaves the bytes of every slice that was handed out.

mod error;
mod files;
mod footprint;
mod gather;
mod handles;
mod index;
mod lookup;
mod naming;
mod scan;
mod sealed_index;
mod slice;
mod tail;
mod truncate;
mod txn_index;

pub use error::SegmentError;
pub(crate) use files::SegmentFiles;
pub(crate) use footprint::Footprint;
pub(crate) use handles::Hold;
pub(crate) use index::{IndexLimits, LiveIndex};
pub(crate) use lookup::RecordTime;
pub use scan::Damage;
pub(crate) use scan::{LOOKUP_BYTES, SCAN_BYTES, Scanner, Step};
pub use slice::{FileSlice, SliceBytes, SlicePart};
pub(crate) use tail::Gather;
pub(crate) use txn_index::TxnIndex;

use crate::{
    format::{
        batch::BatchHeader,
        index_entry::{OffsetIndexEntry, TimeIndexEntry},
    },
    storage::{self, Access, File, Op, Storage, StorageError},
    types::Offset,
};
use handles::Handles;
use sealed_index::SealedIndex;
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};
use tail::{NoMemory, Tail};

/// A `.log` file holds at most this many bytes; Kafka's positions are signed 32-bit numbers.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 2_147_483_647;
/// The last offset of a segment exceeds its base by at most this.
pub(crate) const MAX_RELATIVE_OFFSET: i64 = 2_147_483_647;

/// No time that a host would name.
const UNKNOWN_MS: i64 = i64::MIN;

/// Where the offset and time index are.
#[derive(Debug)]
enum IndexState {
    /// In their files, not looked at yet.
    Unloaded,
    /// In their files, mapped.
    Sealed(Arc<SealedIndex>),
    /// In memory: of the active segment, or rebuilt because the files could not be trusted.
    Live(LiveIndex),
}

impl IndexState {
    fn is_mapped(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }
}

/// A write to the log file failed.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    /// The segment is as it was before.
    Undone(StorageError),
    /// Nobody knows what is on the disk now.
    Unknown(StorageError),
    /// There is no memory to gather the bytes in; the segment is as it was before.
    NoMemory,
}

/// One segment; shared by the writer and all readers.
#[derive(Debug)]
pub(crate) struct Segment {
    storage: Arc<dyn Storage>,
    files: SegmentFiles,
    limits: IndexLimits,
    handles: Arc<Handles>,
    /// What is not in the file yet.
    tail: Tail,
    /// Bytes of whole batches; raised by the writer after the write.
    size: AtomicU64,
    /// When the segment was begun, in ms, as far as the writer noted it.
    created_ms: AtomicI64,
    /// Guards the aborted transactions; never held during I/O.
    txns: RwLock<Option<Arc<TxnIndex>>>,
    /// The greatest timestamp while the indexes are in their files, once it is known: retention asks for it again and again,
    /// and a file that ends in equal timestamps has to be read to be sure. Of a sealed segment, so it stays right.
    greatest: Mutex<Option<TimeIndexEntry>>,
    /// End of the highest byte ever handed out in a slice.
    handed_out: AtomicU64,
    /// Set before the file is cut in place: from then on nothing is handed out of this object, whose place another one
    /// takes.
    replaced: AtomicBool,
    /// Whether the log file has its name; until then it is called as an unfinished copy.
    is_named: AtomicBool,
}

impl Segment {
    /// An existing segment of `size` bytes; its files are opened when first needed.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        dir: impl Into<Arc<Path>>,
        base_offset: Offset,
        limits: IndexLimits,
        size: u64,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            files: SegmentFiles::new(dir, base_offset),
            limits,
            handles: Handles::new(&**storage, IndexState::Unloaded),
            tail: Tail::default(),
            size: AtomicU64::new(size),
            created_ms: AtomicI64::new(UNKNOWN_MS),
            txns: RwLock::new(None),
            greatest: Mutex::new(None),
            handed_out: AtomicU64::new(0),
            replaced: AtomicBool::new(false),
            is_named: AtomicBool::new(true),
        }
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.files.base_offset()
    }

    /// Bytes of whole batches.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Corrects the size after recovery cut the file.
    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// When the segment was begun or emptied, in ms; `None` if that was before the log was opened.
    pub(crate) fn created_ms(&self) -> Option<i64> {
        Some(self.created_ms.load(Ordering::Relaxed)).filter(|created_ms| *created_ms != UNKNOWN_MS)
    }

    pub(crate) fn set_created_ms(&self, created_ms: i64) {
        self.created_ms.store(created_ms, Ordering::Relaxed);
    }

    pub(crate) fn files(&self) -> &SegmentFiles {
        &self.files
    }

    /// Names this segment in an I/O error on its log file.
    fn log_error(&self, operation: &'static str, error: std::io::Error) -> StorageError {
        StorageError::new(operation, &self.files.log(), error)
    }

    /// The log file, opened for writing unless it is open.
    pub(crate) fn log(&self) -> Result<Arc<File>, StorageError> {
        self.opened(|path| self.handles.log(&*self.storage, path))
    }

    /// The log file, for who will write to it.
    pub(crate) fn log_to_write(&self) -> Result<Arc<File>, StorageError> {
        self.handles.note_write();
        self.log()
    }

    /// When the log file was last written to, in ms.
    pub(crate) fn modified_ms(&self) -> Result<i64, StorageError> {
        let log = self.log()?;
        self.storage.modified_ms(&log).map_err(|error| self.log_error("look at", error))
    }

    /// Reads everything that readers of this object may need by name, so that the files can be renamed under them, and
    /// keeps it open while the result lives.
    pub(crate) fn hold(&self) -> Result<Hold, SegmentError> {
        let hold = self.handles.hold();
        self.log()?;
        self.txns()?;
        self.with_index(|_| (), |_| ())?;
        Ok(hold)
    }

    /// The files are about to get other names, or none: this object keeps what it has open, and opens nothing more.
    pub(crate) fn detach(&self) {
        self.handles.detach();
    }

    /// Whether the files are not found by their names any more.
    pub(crate) fn is_detached(&self) -> bool {
        self.handles.is_detached()
    }

    /// Walks the batches from byte `position` up to `end`, reading `piece` bytes at once.
    pub(crate) fn scanner<'a>(&'a self, log: &'a File, position: u64, end: u64, piece: usize) -> Scanner<'a> {
        Scanner::new(&*self.storage, log, position, end, piece).with_tail(self.tail.parts(position))
    }

    /// Writes whole batches behind the last one and takes note of each. With `gather` they stay in memory; the
    /// result is where the pieces begin that became full, and what the next append is going to touch.
    pub(crate) fn append(
        &self,
        bytes: &[u8],
        headers: &[BatchHeader],
        gather: Option<&Gather<'_>>,
    ) -> Result<(Vec<u64>, Footprint), AppendFailure> {
        let (full, end) = match gather {
            Some(gather) => self.tail.append(self.size(), bytes, gather).map_err(|NoMemory| AppendFailure::NoMemory)?,
            None => self.write(bytes).map(|()| Default::default())?,
        };
        self.observe(bytes.len(), headers);
        Ok((full, Footprint::new(self, end)))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), AppendFailure> {
        let size = self.size();
        let log = self.log_to_write().map_err(AppendFailure::Undone)?;
        // What could not be written stays in memory, and in the journal.
        self.spill().map_err(|error| match error.is_disk_full() {
            true => AppendFailure::Undone(error),
            false => AppendFailure::Unknown(error),
        })?;
        let written = storage::write_at(&*self.storage, &log, size, bytes);
        // Again: a sync may have begun in between.
        self.handles.note_write();
        written.map_err(|error| self.undo_append(&log, size, self.log_error("append to", error)))
    }

    fn observe(&self, len: usize, headers: &[BatchHeader]) {
        let size = self.size();
        let mut index = self.handles.index_mut();
        if let IndexState::Live(live) = &mut *index {
            let mut position = size;
            for header in headers {
                live.observe(header, u32::try_from(position).unwrap_or(u32::MAX));
                position += u64::try_from(header.size()).unwrap_or(u64::MAX);
            }
        }
        self.size.store(size + u64::try_from(len).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Cuts off what a failed write may have left. Without the sync, the cut could be lost in a crash that keeps a
    /// later, shorter write over the same place, and old bytes would follow new ones.
    fn undo_append(&self, log: &File, size: u64, error: StorageError) -> AppendFailure {
        if !error.is_disk_full() {
            return AppendFailure::Unknown(error);
        }
        match self.storage.set_len(log, size).and_then(|()| self.sync_one(log)) {
            Ok(()) => AppendFailure::Undone(error),
            Err(_) => AppendFailure::Unknown(error),
        }
    }

    fn sync_one(&self, file: &File) -> std::io::Result<()> {
        self.handles.watched_sync(|| storage::sync(&*self.storage, file))
    }

    /// Makes every byte below the size durable.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.spill()?;
        let log = self.log()?;
        self.sync_one(&log).map_err(|error| self.log_error("sync", error))
    }

    /// Whether a further index entry would not fit.
    pub(crate) fn is_index_full(&self) -> bool {
        match &*self.handles.index() {
            IndexState::Live(live) => live.is_full(),
            IndexState::Unloaded | IndexState::Sealed(_) => false,
        }
    }

    /// Replaces the indexes, after recovery or a scan of the tail.
    pub(crate) fn set_live_index(&self, live: LiveIndex) {
        *lock(&self.greatest) = None;
        self.handles.set_index(&*self.storage, IndexState::Live(live));
    }

    /// Writes the indexes with their last entry and syncs every file of the segment, and those `beside` it, in one go. The
    /// indexes stay in memory.
    pub(crate) fn write_and_sync(&self, beside: &[&File]) -> Result<(), SegmentError> {
        let indexes = self.write_indexes()?;
        self.spill()?;
        let log = self.log()?;
        let txns = self.open_txn_index()?;
        let own = indexes.iter().flatten().chain(txns.as_ref()).chain([&*log]);
        let mut ops: Vec<_> = own.chain(beside.iter().copied()).map(Op::sync).collect();
        let synced = self.handles.watched_sync(|| {
            self.storage.run(&mut ops);
            ops.iter_mut().try_for_each(|op| op.take_result().map(drop))
        });
        Ok(synced.map_err(|error| self.log_error("sync the files of", error))?)
    }

    /// Writes what was gathered and the indexes with their last entry; the caller syncs the file system.
    pub(crate) fn write_whole(&self) -> Result<(), SegmentError> {
        self.write_indexes()?;
        Ok(self.spill()?)
    }

    /// Writes the index files, if the indexes are in memory.
    fn write_indexes(&self) -> Result<Option<[File; 2]>, SegmentError> {
        let (offsets, times) = {
            let mut index = self.handles.index_mut();
            let IndexState::Live(live) = &mut *index else {
                return Ok(None);
            };
            live.seal();
            (self.derived("offset index", live.encode_offsets())?, self.derived("time index", live.encode_times())?)
        };
        let offsets = self.replace_derived(&self.files.offset_index(), &offsets)?;
        Ok(Some([offsets, self.replace_derived(&self.files.time_index(), &times)?]))
    }

    /// Lets go of the indexes in memory; from now on they come from their files.
    pub(crate) fn release_index(&self) {
        if let IndexState::Live(live) = &*self.handles.index() {
            *lock(&self.greatest) = live.greatest_timestamp();
        }
        self.handles.set_index(&*self.storage, IndexState::Unloaded);
    }

    fn derived<T>(&self, file: &'static str, result: Result<T, crate::format::FormatError>) -> Result<T, SegmentError> {
        result.map_err(|source| SegmentError::Derived { file, base_offset: self.base_offset(), source })
    }

    /// Puts a new derived file in the place of the old one, whose bytes a reader may have mapped. Not atomic: until the
    /// next segment exists or the clean-shutdown marker is written, nobody trusts it.
    fn replace_derived(&self, path: &Path, bytes: &[u8]) -> Result<File, StorageError> {
        match self.storage.unlink(path) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file = self.storage.open(path, Access::Create)?;
        storage::write_at(&*self.storage, &file, 0, bytes).map_err(|error| StorageError::new("write", path, error))?;
        Ok(file)
    }

    /// A slice of the bytes from `position`, `len` long, all below the size.
    ///
    /// # Errors
    /// [`SegmentError::Replaced`] when the file is being cut: either the cut sees this slice and moves away from it, or
    /// this call sees the cut.
    pub(crate) fn slice(&self, position: u64, len: u64) -> Result<FileSlice, SegmentError> {
        let log = self.log()?;
        self.handed_out.fetch_max(position + len, Ordering::SeqCst);
        if self.is_replaced() {
            return Err(SegmentError::Replaced { base_offset: self.base_offset() });
        }
        Ok(FileSlice::new(log, position, len, self.size(), self.tail.parts(position)))
    }

    /// Entries of offset, time and transaction index.
    pub(crate) fn index_entries(&self) -> Result<(usize, usize, usize), SegmentError> {
        let (offsets, times) = self.with_index(|live| live.entries(), SealedIndex::entries)?;
        Ok((offsets, times, self.txns()?.len()))
    }

    /// The index entry with the largest offset at or below `target`.
    pub(crate) fn lookup_entry(&self, target: Offset) -> Result<Option<OffsetIndexEntry>, SegmentError> {
        self.with_index(|live| live.lookup(target), |sealed| sealed.lookup(target))
    }

    fn lookup_time_entry(&self, timestamp: i64) -> Result<Option<TimeIndexEntry>, SegmentError> {
        self.with_index(|live| live.lookup_time(timestamp), |sealed| sealed.lookup_time(timestamp))
    }

    /// The first index entry whose position is at or above `position`.
    pub(crate) fn upper_bound(&self, position: u64) -> Result<Option<OffsetIndexEntry>, SegmentError> {
        self.with_index(|live| live.upper_bound(position), |sealed| sealed.upper_bound(position))
    }

    /// Asks the indexes, wherever they are, and loads them first if need be.
    fn with_index<T>(
        &self,
        live: impl FnOnce(&LiveIndex) -> T,
        sealed: impl FnOnce(&SealedIndex) -> T,
    ) -> Result<T, SegmentError> {
        let mut held = None;
        loop {
            match &*self.handles.index() {
                IndexState::Live(index) => return Ok(live(index)),
                IndexState::Sealed(index) => return Ok(sealed(index)),
                IndexState::Unloaded => {}
            }
            // Else it may be closed again at once, to make room.
            held.get_or_insert_with(|| self.handles.hold());
            self.load_index()?;
        }
    }

    fn load_index(&self) -> Result<(), SegmentError> {
        let loaded = match SealedIndex::open(&*self.storage, &self.files, self.base_offset(), self.size())? {
            Some(sealed) => IndexState::Sealed(Arc::new(sealed)),
            None => IndexState::Live(self.rebuilt_index()?),
        };
        self.handles.load_index(&*self.storage, loaded);
        Ok(())
    }

    /// The indexes as a scan of all headers makes them.
    pub(crate) fn rebuilt_index(&self) -> Result<LiveIndex, SegmentError> {
        let mut live = LiveIndex::new(self.base_offset(), self.limits);
        let log = self.log()?;
        let mut scanner = self.scanner(&log, 0, self.size(), SCAN_BYTES);
        while let Step::Batch(position, header) = scanner.step().map_err(|error| self.log_error("read", error))? {
            live.observe(&header, u32::try_from(position).unwrap_or(u32::MAX));
        }
        live.seal();
        Ok(live)
    }

    /// An entry did not point at its batch: the indexes are made anew from the log.
    fn distrust_index(&self) -> Result<(), SegmentError> {
        let rebuilt = self.rebuilt_index()?;
        self.set_live_index(rebuilt);
        Ok(())
    }

    /// Indexes without an entry.
    pub(crate) fn empty_index(&self) -> LiveIndex {
        LiveIndex::new(self.base_offset(), self.limits)
    }

    /// The entries in the index files, if both are there and in order.
    fn read_index_entries(&self) -> Result<Option<LiveIndex>, SegmentError> {
        let Some(sealed) = SealedIndex::open(&*self.storage, &self.files, self.base_offset(), self.size())? else {
            return Ok(None);
        };
        Ok(sealed
            .all_entries()
            .and_then(|(offsets, times)| LiveIndex::restore(self.base_offset(), self.limits, offsets, times)))
    }

    /// A copy of the indexes in memory, made from the files or the log if need be.
    fn live_index(&self) -> Result<LiveIndex, SegmentError> {
        if let IndexState::Live(live) = &*self.handles.index() {
            return Ok(live.clone());
        }
        // Not made anew if that can be avoided: entries lie elsewhere where an interval was begun anew.
        self.read_index_entries()?.map_or_else(|| self.rebuilt_index(), Ok)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
