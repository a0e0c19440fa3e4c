//! Taking blocks to the disk, and gathered pieces to their segments, through one queue.
//!
//! For one thread. Does nothing by itself: every call of [`Writer::step`] moves on what can be moved, so that a test may
//! stop between any two steps.

use super::{
    Journal,
    pending::{Ack, Block},
    replay::pages,
};
use crate::{
    format::{
        journal::{BLOCK_HEADER_SIZE, BlockHeader, PAGE_SIZE},
        names::JOURNAL,
    },
    manager::{
        metrics::Metrics,
        waiting::{Position, Wakes, Work},
    },
    segment::Segment,
    storage::{
        self, EndedWrite, File, Queue, QueueWaker, QueuedWrite, Storage, StorageError, Wait, prefetch_value, queue,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

/// Writes of pieces in flight at once.
const PIECES_IN_FLIGHT: usize = 48;
/// With this many blocks in flight already, another one is begun only when this many bytes wait.
const MIN_BYTES_BESIDE: [usize; 4] = [1, 48 << 10, 128 << 10, 224 << 10];

/// The memory of so many partitions is on its way while one is told that it is durable.
const ACKS_AHEAD: usize = 4;

/// A gathered piece that is full.
#[derive(Debug, Clone)]
pub(in crate::manager) struct PieceWrite {
    pub(in crate::manager) segment: Arc<Segment>,
    /// Where it begins in the segment's file.
    pub(in crate::manager) start: u64,
}

/// A block on its way.
#[derive(Debug)]
struct Sent {
    sequence: u64,
    acks: Vec<Ack>,
    is_durable: bool,
    /// When its first frame came, and when it was sent.
    begun: Instant,
    sent: Instant,
}

/// The one that writes a journal.
#[derive(Debug)]
pub(in crate::manager) struct Writer {
    journal: Arc<Journal>,
    file: Arc<File>,
    queue: Box<dyn Queue>,
    metrics: Arc<Metrics>,
    /// Blocks in flight, and those that wait for one before them, the oldest first.
    sent: VecDeque<Sent>,
    blocks_in_flight: usize,
    /// Guards the pieces that wait to be written; held for a few instructions.
    waiting: Arc<Mutex<VecDeque<PieceWrite>>>,
    pieces: HashMap<u64, PieceWrite>,
    next_tag: u64,
    ended: Vec<EndedWrite>,
    failed: Option<Arc<StorageError>>,
    /// What was done and nobody has taken note of.
    stepped: Stepped,
    /// Whether the last block was of one frame.
    is_for_one: bool,
    /// How often the ring had been freed when it had no room.
    full_at: Option<u64>,
}

/// What a step did.
#[derive(Debug, Default)]
pub(in crate::manager) struct Stepped {
    /// Whether anything was begun or ended.
    pub(in crate::manager) is_busy: bool,
    /// Whether a block found no room.
    pub(in crate::manager) is_journal_full: bool,
    /// Pieces that are in their files now: their memory may go when it is needed.
    pub(in crate::manager) written: Vec<PieceWrite>,
    /// Pieces for which the disk has no room.
    pub(in crate::manager) stalled: Vec<PieceWrite>,
    /// The first failure: the directory has failed.
    pub(in crate::manager) failed: Option<Arc<StorageError>>,
    /// Who is to be told of what is durable, or of the failure.
    pub(in crate::manager) wakes: Wakes,
}

impl Stepped {
    /// Whether somebody has to take note.
    fn has_news(&self) -> bool {
        let has_pieces = !self.written.is_empty() || !self.stalled.is_empty();
        has_pieces || self.is_journal_full || self.failed.is_some() || !self.wakes.is_empty()
    }
}

impl Writer {
    pub(super) fn new(
        storage: &Arc<dyn Storage>,
        journal: &Arc<Journal>,
        file: Arc<File>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StorageError> {
        let depth = u32::try_from(journal.options.in_flight + PIECES_IN_FLIGHT).unwrap_or(u32::MAX);
        let queue =
            queue(storage, depth).map_err(|error| StorageError::new("queue writes for", Path::new(""), error))?;
        Ok(Self {
            journal: Arc::clone(journal),
            file,
            queue,
            metrics: Arc::clone(metrics),
            sent: VecDeque::new(),
            blocks_in_flight: 0,
            waiting: Arc::default(),
            pieces: HashMap::new(),
            next_tag: PIECE_TAGS,
            ended: Vec::new(),
            failed: None,
            stepped: Stepped::default(),
            is_for_one: true,
            full_at: None,
        })
    }

    /// Where full pieces are left to be written.
    pub(in crate::manager) fn pieces(&self) -> Arc<Mutex<VecDeque<PieceWrite>>> {
        Arc::clone(&self.waiting)
    }

    /// Wakes the thread that waits in [`Writer::step`].
    pub(in crate::manager) fn waker(&self) -> Arc<QueueWaker> {
        self.queue.waker()
    }

    /// Whether nothing is on its way or waits for it.
    pub(in crate::manager) fn is_idle(&self) -> bool {
        self.queue.in_flight() == 0 && !self.has_work()
    }

    /// Whether something could be begun now.
    fn has_work(&self) -> bool {
        let pieces_wait = !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let may_begin = self.failed.is_none() && self.pieces.len() < PIECES_IN_FLIGHT;
        (pieces_wait && may_begin) || self.wants_block()
    }

    /// With how many bytes pending another block is begun; `None` while none can be.
    fn block_at(&self) -> Option<usize> {
        let is_full = self.full_at == Some(self.journal.freed.load(Ordering::SeqCst));
        let may_begin = self.failed.is_none() && !is_full && self.blocks_in_flight < self.journal.options.in_flight;
        MIN_BYTES_BESIDE.get(self.blocks_in_flight).copied().filter(|_| may_begin)
    }

    fn wants_block(&self) -> bool {
        self.block_at().is_some_and(|least| self.journal.pending_bytes() >= least)
    }

    /// Begins what can be begun, and takes what ended. With `wait`, waits first until there is something to do. With `settle`
    /// no piece is on its way afterwards: the caller's thread may next want its segment, and nobody else would end it.
    pub(in crate::manager) fn step(&mut self, wait: bool, settle: bool) -> Stepped {
        self.begin();
        self.finish(wait);
        while settle && !self.pieces.is_empty() {
            self.take_ended(Wait::UntilWoken);
        }
        std::mem::take(&mut self.stepped)
    }

    /// As steps that wait do, until `is_done`, nothing is on its way, or somebody has to take note of something: that is left
    /// to the next step.
    pub(in crate::manager) fn step_until(&mut self, is_done: impl Fn() -> bool) {
        loop {
            self.begin();
            if self.queue.in_flight() == 0 {
                return;
            }
            let is_over = is_done() || self.stepped.has_news();
            self.finish(!is_over);
            if is_over {
                return;
            }
        }
    }

    fn begin(&mut self) {
        self.begin_blocks();
        self.begin_pieces();
    }

    fn finish(&mut self, wait: bool) {
        let mut how = Wait::No;
        if wait && !self.stepped.has_news() {
            self.journal.wake_at.store(self.block_at().unwrap_or(usize::MAX), Ordering::SeqCst);
            self.queue.waker().prepare();
            let is_over = self.journal.is_ending.load(Ordering::SeqCst) && self.queue.in_flight() == 0;
            how = if self.has_work() || is_over { Wait::No } else { Wait::UntilWoken };
        }
        self.take_ended(how);
        self.acknowledge();
    }

    fn take_ended(&mut self, how: Wait) {
        let mut ended = std::mem::take(&mut self.ended);
        self.queue.reap(how, &mut ended);
        self.stepped.is_busy |= !ended.is_empty();
        for write in ended.drain(..) {
            self.end(write);
        }
        self.ended = ended;
    }

    fn begin_blocks(&mut self) {
        while self.wants_block() {
            let freed = self.journal.freed.load(Ordering::SeqCst);
            let Some(block) = self.journal.take_block() else { return };
            let len = pages(u64::try_from(block.buffer.len()).unwrap_or(u64::MAX));
            let Some((sequence, position)) = self.journal.ring().place(len) else {
                // No room until the segments have what the oldest blocks hold.
                self.journal.put_back(block);
                self.full_at = Some(freed);
                self.stepped.is_journal_full = true;
                return;
            };
            self.full_at = None;
            self.send(block, sequence, position);
            self.stepped.is_busy = true;
        }
    }

    fn send(&mut self, mut block: Block, sequence: u64, position: u64) {
        let used = block.buffer.len();
        let len = u32::try_from(used).unwrap_or(u32::MAX);
        let header = BlockHeader { id: self.journal.id, sequence, len, frames: block.frames };
        if let Some((front, frames)) =
            block.buffer.filled_mut().and_then(|filled| filled.split_at_mut_checked(BLOCK_HEADER_SIZE))
        {
            front.copy_from_slice(&header.encode(frames));
        }
        let padded = used.next_multiple_of(PAGE_SIZE);
        let fits = block.buffer.append([0; PAGE_SIZE].get(..padded - used).unwrap_or_default());
        debug_assert!(fits, "a buffer is whole pages long");
        self.is_for_one = block.frames == 1;
        self.metrics.journal_blocks.add(1);
        self.metrics.journal_frames.add(u64::from(block.frames));
        self.metrics.journal_write_frames.record(u64::from(block.frames));
        self.metrics.journal_bytes.add(u64::try_from(padded).unwrap_or(0));
        let (file, buffer) = (Arc::clone(&self.file), block.buffer.share());
        self.queue.submit(QueuedWrite { file, at: position, buffer, range: 0..padded, durable: true, tag: sequence });
        let (begun, sent) = (block.begun, Instant::now());
        self.sent.push_back(Sent { sequence, acks: block.acks, is_durable: false, begun, sent });
        self.blocks_in_flight += 1;
    }

    fn begin_pieces(&mut self) {
        while self.pieces.len() < PIECES_IN_FLIGHT && self.failed.is_none() {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(piece) = next else { return };
            match piece.segment.begin_write(piece.start) {
                Ok(Some(write)) => {
                    let tag = self.next_tag;
                    self.next_tag = self.next_tag.wrapping_add(1).max(PIECE_TAGS);
                    self.metrics.piece_writes.add(1);
                    self.metrics.piece_bytes.add(u64::try_from(write.range.len()).unwrap_or(0));
                    self.queue.submit(QueuedWrite { tag, ..write });
                    self.pieces.insert(tag, piece);
                }
                Ok(None) => self.stepped.written.push(piece),
                Err(error) => self.fail(error),
            }
            self.stepped.is_busy = true;
        }
    }

    fn end(&mut self, ended: EndedWrite) {
        if let Some(piece) = self.pieces.remove(&ended.write.tag) {
            piece.segment.end_write(piece.start, &ended.result);
            match ended.result {
                Ok(()) => self.stepped.written.push(piece),
                // What it holds is in the journal: it is tried again when there is space.
                Err(error) if storage::is_disk_full(&error) => self.stepped.stalled.push(piece),
                Err(error) => self.fail(StorageError::new("append to", &piece.segment.files().log(), error)),
            }
            return;
        }
        self.blocks_in_flight -= 1;
        match ended.result {
            Ok(()) => {
                if let Some(sent) = self.sent.iter_mut().find(|sent| sent.sequence == ended.write.tag) {
                    sent.is_durable = true;
                    self.metrics.journal_write_us.record_since(sent.sent);
                }
            }
            Err(error) => self.fail(StorageError::new("write", Path::new(JOURNAL), error)),
        }
    }

    /// Moves the positions of everybody whose blocks, and all blocks before them, are durable.
    fn acknowledge(&mut self) {
        while self.failed.is_none() && self.sent.front().is_some_and(|sent| sent.is_durable) {
            let Some(sent) = self.sent.pop_front() else { break };
            self.journal.durable.store(sent.sequence + 1, Ordering::Release);
            self.metrics.append_to_flushed_us.record_since(sent.begun);
            for (index, ack) in sent.acks.iter().enumerate() {
                // Each is of another partition, whose memory is in no cache of this thread.
                if let Some(ahead) = sent.acks.get(index + ACKS_AHEAD) {
                    prefetch_value(&*ahead.watch);
                }
                ack.watch.advance_with(&[(Position::Flushed, ack.flushed)], &mut self.stepped.wakes);
            }
        }
    }

    /// Nothing is reported from now on but the failure.
    fn fail(&mut self, error: StorageError) {
        if self.failed.is_some() {
            return;
        }
        let cause: Arc<str> = error.to_string().into();
        let error = Arc::new(error);
        self.failed = Some(Arc::clone(&error));
        self.stepped.failed = Some(error);
        for ack in self.sent.drain(..).flat_map(|sent| sent.acks) {
            self.stepped.wakes.append(ack.watch.fail(Arc::clone(&cause)));
        }
        self.stepped.wakes.append(self.journal.fail(&cause));
    }
}

impl Work for Writer {
    /// Where appends come one by one, so that who waits for the next one may take it to the disk: not if the last block was of
    /// many.
    fn may_rest(&mut self) -> bool {
        if !self.is_for_one || self.queue.in_flight() > 0 || self.stepped.has_news() {
            return false;
        }
        self.journal.wake_at.store(self.block_at().unwrap_or(usize::MAX), Ordering::SeqCst);
        !self.has_work()
    }
}

/// The least tag of a piece; blocks have their numbers for tags.
const PIECE_TAGS: u64 = 1 << 63;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::JournalOptions, *};
    use crate::{manager::deletion::unique_id, storage::Posix};

    /// A wake-up that came before the wait is one for the wait before it: whoever ends the work is heard all the same.
    #[test]
    fn writer_that_is_to_end_waits_for_nothing() {
        let home = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Posix::open(home.path()).unwrap());
        let options = JournalOptions { bytes: 1 << 20, block_bytes: 64 << 10, in_flight: 1 };
        let (journal, mut writer) =
            Journal::create(&storage, unique_id(), options, &Arc::default(), &Arc::default()).unwrap();
        journal.end();
        for _ in 0..3 {
            assert!(!writer.step(true, false).is_busy);
        }
    }
}
