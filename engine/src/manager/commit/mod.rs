//! What makes the appends of a directory durable: which way each goes, and the work behind it.
//!
//! Owns the directory's journal, the memory in which appends gather, and the failure of the directory. Two kinds of work
//! move on by steps, each on one thread at a time: [`Committer::step_journal`] takes blocks and pieces to the disk;
//! [`Committer::step_sync`] makes the journal, runs group commits, ends rolls, and frees room in the journal. Keeps: after the first
//! failed write or sync of the journal nothing of the directory is acknowledged any more.

mod making;
mod memory;
mod pieces;
mod rolls;
mod room;
mod route;
mod space;
mod stepping;
mod syncs;

pub(super) use route::Route;
use space::Space;

use super::{
    events::{Event, Events},
    journal::{Ack, Entry, Journal, PieceWrite, Writer},
    metrics::{DirectoryMetrics, Metrics},
    options::{Background, ManagerOptions},
    partition::{Durability, Partition, PartitionError},
    waiting::{Gate, Turns, WaitError},
};
use crate::{
    log::{Checkpoints, CommitJournal, LogError},
    segment::{Gather, Segment},
    storage::{BufferPool, Storage},
    types::TopicPartition,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};

/// Part of the journal, in thousandths, from which on room is freed ahead of need.
const FREE_FROM: u64 = 650;

/// What the syncing thread is asked for.
#[derive(Debug, Default)]
struct Requests {
    journal: bool,
    /// Free room in the journal, if that frees enough to be worth a sync.
    checkpoint: bool,
    /// Free room in the journal, however little.
    checkpoint_anyway: bool,
    /// Look whether those who wait for room can go on.
    room: bool,
    flushes: BTreeSet<TopicPartition>,
    rolls: BTreeSet<TopicPartition>,
}

impl Requests {
    fn is_empty(&self) -> bool {
        let asks = self.journal || self.checkpoint || self.checkpoint_anyway || self.room;
        !asks && self.flushes.is_empty() && self.rolls.is_empty()
    }
}

/// Makes the appends of one directory durable.
#[derive(Debug)]
pub(super) struct Committer {
    storage: Arc<dyn Storage>,
    checkpoints: Arc<Checkpoints>,
    options: ManagerOptions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: Events,
    pool: Arc<BufferPool>,
    piece_bytes: AtomicUsize,
    /// How full the journal is, in thousandths, when room in it is freed next.
    free_from: AtomicU64,
    /// The journal's mark when the upkeep last looked.
    seen_mark: AtomicU64,
    journal: OnceLock<Arc<Journal>>,
    /// Guards the making of the journal, and how it failed the last time.
    making: Mutex<Option<making::Refused>>,
    /// The writer of the journal, for the threads that step it.
    turns: Turns<Writer>,
    /// Guards the pieces that wait to be written; held for a few instructions.
    pieces: OnceLock<Arc<Mutex<VecDeque<PieceWrite>>>>,
    /// Guards whose pieces are in their files and stay in memory for readers, the oldest first. Keeps no segment, and with it
    /// no file, from going.
    kept: Mutex<VecDeque<Weak<Segment>>>,
    /// Held while rolls are ended.
    ending_rolls: Mutex<()>,
    /// Guards pieces for which the disk had no room.
    stalled: Mutex<Vec<PieceWrite>>,
    space: Space,
    /// Guards what the syncing thread is asked for.
    requests: Mutex<Requests>,
    requested: Condvar,
    is_stopping: AtomicBool,
    /// Before it stand those who wait for room.
    gate: Gate,
    /// Woken by the pool when memory comes back.
    memory_waker: Waker,
    failed: OnceLock<Arc<str>>,
    /// Guards who the partitions are.
    partitions: RwLock<HashMap<TopicPartition, Weak<Partition>>>,
    /// Whether the host moves the work on.
    is_polled: bool,
}

impl Committer {
    pub(super) fn new(
        number: usize,
        storage: &Arc<dyn Storage>,
        checkpoints: &Arc<Checkpoints>,
        options: &ManagerOptions,
    ) -> Arc<Self> {
        Arc::new_cyclic(|committer| Self {
            storage: Arc::clone(storage),
            checkpoints: Arc::clone(checkpoints),
            is_polled: options.background == Background::Host,
            metrics: Arc::default(),
            events: Events::new(number, options.events.clone()),
            pool: BufferPool::new(options.gather_bytes),
            piece_bytes: AtomicUsize::new(memory::piece_bytes(options.piece_bytes, options.gather_bytes, 1)),
            free_from: AtomicU64::new(FREE_FROM),
            seen_mark: AtomicU64::new(0),
            options: options.clone(),
            journal: OnceLock::new(),
            making: Mutex::default(),
            turns: Turns::default(),
            pieces: OnceLock::new(),
            kept: Mutex::default(),
            ending_rolls: Mutex::default(),
            stalled: Mutex::default(),
            space: Space::default(),
            requests: Mutex::default(),
            requested: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            gate: Gate::default(),
            memory_waker: room::memory_waker(committer),
            failed: OnceLock::new(),
            partitions: RwLock::default(),
        })
    }

    pub(super) fn is_polled(&self) -> bool {
        self.is_polled
    }

    pub(super) fn add(&self, partition: &Arc<Partition>) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.insert(partition.name().clone(), Arc::downgrade(partition));
    }

    pub(super) fn remove(&self, name: &TopicPartition) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.values().filter_map(Weak::upgrade).collect()
    }

    /// Which way an append of `len` bytes goes, to a log of which the journal may have frames already.
    pub(super) fn route(&self, durability: Durability, len: usize, is_in_journal: bool) -> Route<'_> {
        let Some(journal) = self.journal.get() else {
            if durability == Durability::Flushed && self.options.journal_bytes > 0 {
                self.request(|requests| requests.journal = true);
            }
            return Route::File;
        };
        if !self.is_gathered(journal, len) {
            return Route::File;
        }
        match durability {
            Durability::Flushed => {
                let piece_bytes = self.piece_bytes.load(Ordering::Relaxed);
                let gather = Gather { pool: &self.pool, piece_bytes, mark: journal.mark() };
                Route::Journal(journal, gather)
            }
            Durability::Written if is_in_journal => Route::FileAndJournal(journal),
            Durability::Written => Route::File,
        }
    }

    /// Whether the directory takes appends.
    pub(super) fn check(&self) -> Result<(), PartitionError> {
        if self.failed.get().is_some() {
            return Err(self.failure());
        }
        Ok(self.space.check().map_err(LogError::DiskFull)?)
    }

    pub(super) fn failure(&self) -> PartitionError {
        let cause = self.failed.get().cloned().unwrap_or_else(|| "its journal takes nothing any more".into());
        PartitionError::DirectoryFailed { cause }
    }

    /// Whether an append may be made now.
    pub(super) fn has_room(&self) -> Result<bool, PartitionError> {
        self.check()?;
        Ok(self.journal.get().is_none_or(|journal| journal.pending_bytes() < self.options.pending_bytes))
    }

    /// Leaves full pieces to be written.
    pub(super) fn write_pieces(&self, pieces: impl Iterator<Item = PieceWrite>) {
        if let Some(waiting) = self.pieces.get() {
            waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(pieces);
            self.wake_journal();
        }
    }

    fn wake_journal(&self) {
        if let Some(journal) = self.journal.get() {
            journal.wake();
        }
    }

    /// Takes note of an append that went to its segment's file.
    pub(super) fn note_written(&self) {
        self.space.note_written();
    }

    /// Takes note of why an append was refused.
    pub(super) fn note_refusal(&self, error: &LogError) {
        if matches!(error, LogError::DiskFull(_)) {
            self.space.note_refusal(&self.events);
        }
    }

    /// Asks for a sync of a partition's log.
    pub(super) fn request_flush(&self, name: &TopicPartition) {
        self.request(|requests| {
            requests.flushes.insert(name.clone());
        });
    }

    /// Asks for the end of a roll that nobody waits for.
    pub(super) fn request_roll(&self, name: &TopicPartition) {
        self.request(|requests| {
            requests.rolls.insert(name.clone());
        });
    }

    fn request(&self, ask: impl FnOnce(&mut Requests)) {
        ask(&mut self.requests());
        self.requested.notify_one();
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory takes nothing any more; everybody who waits is told.
    pub(super) fn fail(&self, cause: &str) {
        let cause: Arc<str> = cause.into();
        if self.failed.set(Arc::clone(&cause)).is_err() {
            return;
        }
        self.events.note(Event::DirectoryFailed { cause: Arc::clone(&cause) });
        self.checkpoints.fail(&cause);
        if let Some(journal) = self.journal.get() {
            journal.fail(&cause).fire();
        }
        for partition in self.partitions() {
            partition.fail(&cause);
        }
        self.gate.end(WaitError::Failed { cause }).fire();
    }

    /// Fails if what is done to the directory as a whole did. Not under its lock.
    pub(super) fn note_failure(&self) {
        if let Some(cause) = self.checkpoints.failure() {
            self.fail(cause);
        }
    }

    /// The first failure of the directory.
    pub(super) fn failed(&self) -> Option<Arc<str>> {
        self.failed.get().cloned()
    }

    pub(super) fn metrics(&self) -> DirectoryMetrics {
        let journal = self.journal.get();
        DirectoryMetrics {
            journal_fill_per_mille: journal.map_or(0, |journal| journal.fill_per_mille()),
            journal_pending_bytes: journal.map_or(0, |journal| u64::try_from(journal.pending_bytes()).unwrap_or(0)),
            gathered_bytes: u64::try_from(self.pool.in_use()).unwrap_or(0),
            open_files: self.storage.open_files().map_or(0, |files| u64::try_from(files.count()).unwrap_or(0)),
            ..self.metrics.snapshot()
        }
    }
}

impl CommitJournal for Committer {
    fn forget(&self, partition: &TopicPartition) -> Result<(), LogError> {
        let Some(journal) = self.journal.get() else { return Ok(()) };
        let failed = || LogError::Poisoned { cause: self.failure().to_string() };
        let (ticket, ack) = Ack::alone();
        journal.add(partition, Entry::Forget, ack).map_err(|_| failed())?;
        while self.is_polled && !ticket.is_done() {
            // Under the log's lock: those who wait for room are told by whoever polls next.
            if self.step_all() == (false, false) && self.failed.get().is_some() {
                return Err(failed());
            }
        }
        ticket.wait(None).map_err(|_| failed())
    }
}
