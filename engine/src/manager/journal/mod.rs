//! The commit journal of a log directory: appends of all partitions become durable in one file, in few large writes.
//!
//! Three parts: [`Journal`] is where appenders leave frames; [`Writer`] takes them to the disk, several blocks in flight,
//! for one thread; [`replay`] brings what a crash left into the segments. Owns the journal's folder. Knows nothing of
//! logs: it gets bytes with their place in a segment, and whom to tell. Keeps: an append is reported durable only when its
//! block and all blocks before it are; a block's room is used again only when the anchor has passed it, and the anchor
//! passes it only when the segments have durably what it holds; after a failed write nothing is reported any more.

mod error;
mod file;
mod pending;
mod replay;
mod ring;
mod writer;

pub use error::JournalError;
pub(super) use pending::Ack;
pub use replay::JournalReplay;
pub(crate) use replay::replay;
pub(super) use writer::{PieceWrite, Writer};

use super::{
    metrics::Metrics,
    waiting::{Sleeper, Wakes},
};
use crate::{
    format::{journal as format, uuid::Uuid},
    storage::{BufferPool, QueueWaker, Storage, StorageError},
    types::{Offset, TopicPartition},
};
use file::{FIRST_SEQUENCE, JournalFile};
use pending::{Block, Pending};
use ring::Ring;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// How a journal is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalOptions {
    /// Bytes of its file.
    pub(super) bytes: u64,
    /// Bytes of a full block.
    pub(super) block_bytes: usize,
    /// Blocks in flight at once.
    pub(super) in_flight: usize,
}

/// Where appenders leave frames, and what the threads that work on the journal share.
#[derive(Debug)]
pub(super) struct Journal {
    id: Uuid,
    options: JournalOptions,
    blocks: Arc<BufferPool>,
    /// Guards the blocks that are not on their way yet; held while a frame is copied.
    pending: Mutex<Pending>,
    /// Bytes of frames in `pending`.
    pending_bytes: AtomicUsize,
    /// With so many bytes pending the writer wants to be woken.
    wake_at: AtomicUsize,
    /// Wakes the thread that steps the writer.
    waker: OnceLock<Arc<QueueWaker>>,
    /// See [`Journal::max_frame_bytes`]: fixed with the ring, and asked for at each append.
    max_frame_bytes: usize,
    /// Wakes the thread that is to step the writer.
    sleeper: Arc<Sleeper>,
    /// Whether nobody is to wait for work any more.
    is_ending: AtomicBool,
    /// Number of the block that takes the next frame.
    filling: AtomicU64,
    /// Number below which all blocks are durable.
    durable: AtomicU64,
    /// How often room was freed.
    freed: AtomicU64,
    /// Guards where blocks lie; held for a few instructions.
    ring: Mutex<Ring>,
    /// Guards the anchor; held while it is written.
    file: Mutex<JournalFile>,
}

/// The journal takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

/// What a frame says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry<'a> {
    /// Batches, and where they lie.
    Batches { segment_base_offset: Offset, position: u64, bytes: &'a [u8] },
    /// What was said of the partition before is void.
    Forget,
}

impl Journal {
    /// Begins a journal in a directory that has none.
    pub(super) fn create(
        storage: &Arc<dyn Storage>,
        id: Uuid,
        options: JournalOptions,
        metrics: &Arc<Metrics>,
        sleeper: &Arc<Sleeper>,
    ) -> Result<(Arc<Self>, Writer), StorageError> {
        let file = JournalFile::create(storage, id, options.bytes)?;
        let ring = Ring::new(file.end(), FIRST_SEQUENCE);
        let direct = file.direct();
        let max_frame_bytes = usize::try_from(ring.capacity() / 4).unwrap_or(usize::MAX);
        // A block larger than the ring would wait for ever.
        let options = JournalOptions { block_bytes: options.block_bytes.min(max_frame_bytes), ..options };
        let journal = Arc::new(Self {
            id: file.id(),
            options,
            blocks: BufferPool::new(usize::MAX),
            pending: Mutex::new(Pending::default()),
            pending_bytes: AtomicUsize::new(0),
            wake_at: AtomicUsize::new(1),
            waker: OnceLock::new(),
            max_frame_bytes,
            sleeper: Arc::clone(sleeper),
            is_ending: AtomicBool::new(false),
            filling: AtomicU64::new(FIRST_SEQUENCE),
            durable: AtomicU64::new(FIRST_SEQUENCE),
            freed: AtomicU64::new(0),
            ring: Mutex::new(ring),
            file: Mutex::new(file),
        });
        let writer = Writer::new(storage, &journal, direct, metrics)?;
        let is_first = journal.waker.set(writer.waker()).is_ok();
        debug_assert!(is_first, "a journal has one writer");
        Ok((journal, writer))
    }

    /// Removes the journal of a directory, whose segments have everything, durably.
    pub(super) fn remove(storage: &dyn Storage) -> Result<(), StorageError> {
        file::remove(storage)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame with more bytes than this has to go another way.
    pub(super) fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    /// A number that no frame added from now on lies below: frames are counted by their blocks.
    pub(super) fn mark(&self) -> u64 {
        self.filling.load(Ordering::Acquire)
    }

    /// Number below which all blocks are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Adds a frame; `ack` is told when it is durable. Frames of one partition are added by one thread at a time.
    pub(super) fn add(&self, partition: &TopicPartition, entry: Entry<'_>, ack: Ack) -> Result<(), Failed> {
        let (header, bytes) = match entry {
            Entry::Batches { segment_base_offset, position, bytes } => {
                let position = u32::try_from(position).map_err(|_| Failed)?;
                let len = u32::try_from(bytes.len()).map_err(|_| Failed)?;
                (format::batches_header(partition, segment_base_offset, position, len), bytes)
            }
            Entry::Forget => (format::forget_header(partition), [].as_slice()),
        };
        let parts = [header.as_slice(), partition.topic().as_bytes(), bytes];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let waiting = {
            let mut pending = self.pending();
            if pending.has_failed() {
                return Err(Failed);
            }
            if pending.add(&parts, ack, || self.new_block(len)) {
                self.filling.fetch_add(1, Ordering::AcqRel);
            }
            self.pending_bytes.fetch_add(len, Ordering::SeqCst) + len
        };
        if waiting >= self.wake_at.load(Ordering::SeqCst) {
            self.wake_writer();
            self.sleeper.mention();
        }
        Ok(())
    }

    /// Lets whoever steps the writer, or is to step it, look at what there is to do.
    pub(super) fn wake(&self) {
        self.wake_writer();
        self.sleeper.wake();
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Lets nobody wait for work any more.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether frames wait of which the writer wants to be told.
    pub(super) fn wants_writer(&self) -> bool {
        self.pending_bytes() >= self.wake_at.load(Ordering::SeqCst)
    }

    fn new_block(&self, frame_bytes: usize) -> Option<Block> {
        let bytes = self.options.block_bytes.max(frame_bytes + format::BLOCK_HEADER_SIZE);
        self.blocks.take(bytes).map(Block::new)
    }

    /// Bytes that wait to be written.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::SeqCst)
    }

    /// Takes nothing any more; who waits for what was not written yet is to be told.
    pub(super) fn fail(&self, cause: &str) -> Wakes {
        let forgotten = {
            let mut pending = self.pending();
            self.pending_bytes.store(0, Ordering::SeqCst);
            pending.fail()
        };
        let cause: Arc<str> = cause.into();
        let mut wakes = Wakes::default();
        for ack in forgotten.into_iter().flat_map(|block| block.acks) {
            wakes.append(ack.watch.fail(Arc::clone(&cause)));
        }
        self.wake();
        wakes
    }

    /// Part of the ring that blocks below `mark` use, from 0 to 1000; more than 0 if there are any.
    pub(super) fn per_mille_below(&self, mark: u64) -> u64 {
        let ring = self.ring();
        (ring.used_below(mark) * 1000).div_ceil(ring.capacity().max(1))
    }

    /// Part of the ring that is in use, from 0 to 1000.
    pub(super) fn fill_per_mille(&self) -> u64 {
        let ring = self.ring();
        ring.used() * 1000 / ring.capacity().max(1)
    }

    /// The mark that has to be reached to free `per_mille` of the ring.
    pub(super) fn mark_to_free(&self, per_mille: u64) -> u64 {
        let ring = self.ring();
        ring.sequence_after(ring.capacity() * per_mille / 1000)
    }

    /// Frees the room of blocks below `mark`, which the segments have durably.
    pub(super) fn free_before(&self, mark: u64) -> Result<(), StorageError> {
        let mark = mark.min(self.durable());
        let (sequence, position) = self.ring().start_at(mark);
        self.file.lock().unwrap_or_else(PoisonError::into_inner).move_anchor(sequence, position)?;
        self.ring().free_before(mark);
        self.freed.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// The oldest block that waits, for the writer.
    fn take_block(&self) -> Option<Block> {
        let mut pending = self.pending();
        let (block, was_filling) = pending.take()?;
        if was_filling {
            self.filling.fetch_add(1, Ordering::AcqRel);
        }
        self.pending_bytes.fetch_sub(block.frame_bytes(), Ordering::SeqCst);
        Some(block)
    }

    /// Takes a block back that found no place.
    fn put_back(&self, block: Block) {
        let mut pending = self.pending();
        self.pending_bytes.fetch_add(block.frame_bytes(), Ordering::SeqCst);
        pending.put_back(block);
    }
}
