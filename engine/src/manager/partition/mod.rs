//! One partition, for any number of threads: its log behind a lock, and who waits for it.
//!
//! Owns the order of things round an append: the log takes it, the journal hears of it, whoever waits is woken, the last
//! with no lock held. Knows nothing of how the directory's threads work. Keeps: frames of a partition are in the journal in
//! the order of its log; an append that was to be durable gets its ticket before the lock is released.

mod append;
mod by_name;
mod lag;
mod room;
mod upkeep;

pub use append::{Append, Durability, PartitionError, TryAppendError};
pub(super) use by_name::ByName;
pub use lag::Lag;
pub use room::Room;
pub(super) use upkeep::Begun;

use super::{
    commit::{Committer, Route},
    journal::{Ack, Entry, PieceWrite},
    marks::Marks,
    options::HighWatermarkPolicy,
    waiting::{LongPoll, Mark, Position, Readable, Ticket, Wakes, Watch},
};
use crate::{
    log::{
        AppendAsLeader, AppendInfo, Fetch, Fetched, Gathered, Isolation, Log, LogError, LogOffsets, LogReader,
        ValidatedBatch,
    },
    segment::{Footprint, Gather},
    storage::prefetch_value,
    types::{LeaderEpoch, Offset, Timestamp, TopicPartition},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, atomic::AtomicI64},
};

/// A partition of a [`crate::LogManager`]: appends, reads and waits from any thread.
#[derive(Debug)]
pub struct Partition {
    reader: LogReader,
    watch: Arc<Watch>,
    committer: Arc<Committer>,
    /// Guards the log, for its one writer at a time; `None` once it was closed. Held during writes to the page cache, and
    /// during a roll or a cut; never while anybody is told anything.
    state: Mutex<Option<State>>,
    /// The log end when the directory's upkeep last looked.
    seen_end: AtomicI64,
}

#[derive(Debug)]
struct State {
    log: Log,
    /// What the next append is going to touch.
    footprint: Footprint,
    /// Everything below is in the journal, durably or about to be.
    journalled: Offset,
    marks: Marks,
    /// What the segments will have once the journal's checkpoint has passed a mark.
    candidate: Option<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    mark: u64,
    offset: Offset,
    cuts: u64,
}

impl Partition {
    pub(super) fn new(mut log: Log, committer: Arc<Committer>, policy: HighWatermarkPolicy) -> Self {
        log.write_epochs_lazily();
        let offsets = log.offsets();
        let marks = Marks::new(offsets.log_end);
        let at = |offset| Mark { offset, bytes: 0 };
        let (mover, sleeper) = (Arc::downgrade(&committer), committer.sleeper());
        let values = [offsets.log_end, offsets.high_watermark, offsets.last_stable, offsets.recovery_point].map(at);
        let mut watch = Watch::new(values).moved_by(mover, sleeper);
        if policy == HighWatermarkPolicy::Flushed {
            watch = watch.committing_flushed(log.reader().committed_end_cell());
        }
        let partition = Self {
            reader: log.reader(),
            watch: Arc::new(watch),
            committer,
            seen_end: AtomicI64::new(-1),
            state: Mutex::new(Some(State {
                log,
                footprint: Footprint::default(),
                journalled: 0,
                marks,
                candidate: None,
            })),
        };
        if policy != HighWatermarkPolicy::Host {
            drop(partition.with(Log::set_sole_replica));
        }
        partition
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TopicPartition {
        self.reader.partition()
    }

    /// A reader, as many as wanted.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// All offsets of the log, of one moment. The recovery point tells what the segments have; see [`Partition::flushed`].
    #[must_use]
    pub fn offsets(&self) -> LogOffsets {
        self.reader.offsets()
    }

    /// Everything below this offset, exclusive, survives power loss, in the segments or in the journal.
    #[must_use]
    pub fn flushed(&self) -> Offset {
        self.watch.get(Position::Flushed)
    }

    /// Finds the batches from an offset on; see [`LogReader::read`].
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn read(&self, fetch: Fetch) -> Result<Fetched, LogError> {
        self.reader.read(fetch)
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks, unless somebody else has it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Option<State>>> {
        match self.state.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Appends a batch of a producer and gives a ticket for its being durable. It can be read when this returns. Waits while
    /// the directory has as much on its way to the disk as it may have.
    ///
    /// # Errors
    /// [`PartitionError::Log`] as [`Log::append_as_leader`]; [`PartitionError::DirectoryFailed`], [`PartitionError::Closed`].
    pub fn append_as_leader<B: AsRef<[u8]> + AsMut<[u8]>>(
        &self,
        mut batch: ValidatedBatch<B>,
        append: AppendAsLeader,
        durability: Durability,
    ) -> Result<Append, PartitionError> {
        loop {
            match self.try_append(&mut batch, append, durability)? {
                Some(append) => return Ok(append),
                None => self.committer.wait_for_room(batch.bytes().len())?,
            }
        }
    }

    /// As [`Partition::append_as_leader`], but gives the batch back rather than wait.
    ///
    /// # Errors
    /// [`TryAppendError::Busy`] with the batch; [`TryAppendError::Failed`].
    pub fn try_append_as_leader<B: AsRef<[u8]> + AsMut<[u8]>>(
        &self,
        mut batch: ValidatedBatch<B>,
        append: AppendAsLeader,
        durability: Durability,
    ) -> Result<Append, TryAppendError<B>> {
        self.try_append(&mut batch, append, durability)?.ok_or(TryAppendError::Busy(batch))
    }

    /// `None` where it has to wait.
    fn try_append<B: AsRef<[u8]> + AsMut<[u8]>>(
        &self,
        batch: &mut ValidatedBatch<B>,
        append: AppendAsLeader,
        durability: Durability,
    ) -> Result<Option<Append>, PartitionError> {
        let appended = self.append_if_room(durability, batch.bytes().len(), |log, gather| {
            let (info, gathered) = log.append_batch_gathering(batch, append, gather)?;
            Ok(Some((info, gathered, batch.bytes())))
        })?;
        appended.map(|append| append.ok_or(PartitionError::Log(LogError::NothingToAppend))).transpose()
    }

    /// Appends batches that a leader sent; `None` when nothing is left to append. See [`Log::append_as_follower`].
    ///
    /// # Errors
    /// As [`Partition::append_as_leader`].
    pub fn append_as_follower(
        &self,
        bytes: &[u8],
        leader_epoch: LeaderEpoch,
        now_ms: Timestamp,
        durability: Durability,
    ) -> Result<Option<Append>, PartitionError> {
        loop {
            let appended = self.append_if_room(durability, bytes.len(), |log, gather| {
                let appended = log.append_set_gathering(bytes, leader_epoch, now_ms, gather)?;
                Ok(appended.map(|(info, gathered)| (info, gathered, bytes)))
            })?;
            match appended {
                Some(append) => return Ok(append),
                None => self.committer.wait_for_room(bytes.len())?,
            }
        }
    }

    /// `None` where it has to wait, until the journal has taken more or there is memory.
    fn append_if_room<'a>(
        &self,
        durability: Durability,
        len: usize,
        take: impl FnOnce(&mut Log, Option<&Gather<'_>>) -> Result<Option<Taken<'a>>, LogError>,
    ) -> Result<Option<Option<Append>>, PartitionError> {
        if !self.committer.has_room()? {
            return Ok(None);
        }
        match self.append(durability, len, take) {
            Err(PartitionError::Log(LogError::NoMemory)) => Ok(None),
            result => result.map(Some),
        }
    }

    fn append<'a>(
        &self,
        durability: Durability,
        len: usize,
        take: impl FnOnce(&mut Log, Option<&Gather<'_>>) -> Result<Option<Taken<'a>>, LogError>,
    ) -> Result<Option<Append>, PartitionError> {
        self.prefetch();
        let mut guard = self.lock();
        let state = guard.as_mut().ok_or(PartitionError::Closed)?;
        state.footprint.prefetch(len);
        let appended = self.append_to(state, durability, len, take);
        let poison = state.log.poison_cause();
        drop(guard);
        self.report_poison(poison);
        let Some(Appended { append, wakes, goes_by_sync }) = appended? else {
            return Ok(None);
        };
        if goes_by_sync && !append.is_done() {
            self.committer.request_flush(self.name());
        }
        if append.info.rolled {
            self.committer.request_roll(self.name());
        }
        wakes.fire();
        Ok(Some(append))
    }

    /// Of thousands of partitions none is in the processor's caches when its turn comes: what an append touches is fetched
    /// together, rather than one piece after another.
    fn prefetch(&self) {
        prefetch_value(self);
        prefetch_value(&*self.watch);
        self.reader.prefetch();
    }

    /// After a failed write or sync nothing of the directory is safe to be forgotten by its journal.
    fn report_poison(&self, cause: Option<String>) {
        if let Some(cause) = cause {
            self.committer.fail(&cause);
        }
    }

    /// Makes an append and a ticket for it, under the lock.
    fn append_to<'a>(
        &self,
        state: &mut State,
        durability: Durability,
        len: usize,
        take: impl FnOnce(&mut Log, Option<&Gather<'_>>) -> Result<Option<Taken<'a>>, LogError>,
    ) -> Result<Option<Appended>, PartitionError> {
        let route = self.route(state, durability, len)?;
        let taken = take(&mut state.log, route.gather()).inspect_err(|error| self.committer.note_refusal(error));
        let Some((info, gathered, bytes)) = taken? else {
            return Ok(None);
        };
        let end = info.last_offset.saturating_add(1);
        let mut wakes = Wakes::default();
        if !info.is_duplicate {
            let place = match &gathered {
                Some(gathered) => (gathered.segment.base_offset(), gathered.position),
                None => {
                    self.committer.note_written();
                    state.place_of(&info)
                }
            };
            let bytes = bytes.get(..usize::try_from(info.bytes).unwrap_or(usize::MAX)).unwrap_or_default();
            wakes = self.note_append(state, end, bytes, place, &route)?;
            if let Some(gathered) = gathered {
                state.footprint = gathered.footprint;
                self.write_pieces(gathered);
            }
        }
        let position = match durability {
            Durability::Written => Position::LogEnd,
            Durability::Flushed => Position::Flushed,
        };
        let goes_by_sync = durability == Durability::Flushed && !route.is_journal();
        let append = Append { info, ticket: self.watch.ticket(position, end) };
        Ok(Some(Appended { append, wakes, goes_by_sync }))
    }

    /// The way of an append. The journal takes only what follows what is durable or in it already.
    fn route(&self, state: &mut State, durability: Durability, len: usize) -> Result<Route<'_>, LogError> {
        let route = self.committer.route(durability, len, state.log.is_in_journal());
        if !route.is_journal() || state.is_in_journal_up_to_its_end() {
            return Ok(route);
        }
        if durability == Durability::Written {
            return Ok(Route::File);
        }
        state.log.flush()?;
        Ok(route)
    }

    /// Tells the journal of an append, and moves the positions.
    fn note_append(
        &self,
        state: &mut State,
        end: Offset,
        bytes: &[u8],
        (segment_base_offset, position): (Offset, u64),
        route: &Route<'_>,
    ) -> Result<Wakes, PartitionError> {
        let mark = state.marks.append(end, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(journal) = route.journal() {
            let ack = Ack { watch: Arc::clone(&self.watch), flushed: mark };
            state.log.note_journalled();
            if journal.add(self.name(), Entry::Batches { segment_base_offset, position, bytes }, ack).is_err() {
                return Err(self.committer.failure());
            }
            state.journalled = end;
        }
        Ok(self.publish(state))
    }

    fn write_pieces(&self, Gathered { segment, full, .. }: Gathered) {
        if !full.is_empty() {
            self.committer
                .write_pieces(full.into_iter().map(|start| PieceWrite { segment: Arc::clone(&segment), start }));
        }
    }

    /// Moves the positions to where the log is.
    fn publish(&self, state: &mut State) -> Wakes {
        let offsets = state.log.offsets();
        let moves = [
            (Position::LogEnd, state.marks.end()),
            (Position::HighWatermark, state.marks.at(offsets.high_watermark)),
            (Position::LastStable, state.marks.at(offsets.last_stable)),
        ];
        state.marks.forget_below(offsets.last_stable);
        self.watch.advance(&moves)
    }

    /// Does anything with the log, as its one writer: moves the high watermark, rolls, cuts, applies retention ... Whoever
    /// waits for what changed is told afterwards. What `with` appends is not durable before the next [`Partition::flush`].
    ///
    /// `with` has the log alone: appends wait for it, and the upkeep of the directory passes the partition over, so it should be
    /// short. A call of this partition from inside it, but for reads and positions, waits for itself for ever. If it panics,
    /// whoever waits for what it changed is told as well, and the panic goes on to the caller.
    ///
    /// # Errors
    /// [`PartitionError::Closed`].
    pub fn with<T>(&self, with: impl FnOnce(&mut Log) -> T) -> Result<T, PartitionError> {
        let mut guard = self.lock();
        let state = guard.as_mut().ok_or(PartitionError::Closed)?;
        let cuts = state.log.cuts();
        let result = catch_unwind(AssertUnwindSafe(|| with(&mut state.log)));
        let wakes = self.catch_up(state, cuts);
        let poison = state.log.poison_cause();
        drop(guard);
        self.report_poison(poison);
        wakes.fire();
        Ok(result.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Takes note of what somebody did with the log.
    fn catch_up(&self, state: &mut State, cuts: u64) -> Wakes {
        let offsets = state.log.offsets();
        let mut wakes = Wakes::default();
        if state.log.cuts() != cuts {
            state.marks.cut(offsets.log_end);
            state.candidate = None;
            wakes.append(self.watch.truncate(state.marks.end()));
        }
        if !state.log.is_in_journal() {
            state.journalled = 0;
        }
        if offsets.log_end > state.marks.end().offset {
            // How many bytes that were is not worth a look at the segments: one is enough to be noticed.
            state.marks.append(offsets.log_end, 1);
        }
        wakes.append(self.publish(state));
        self.watch.advance_with(&[(Position::Flushed, state.marks.at(offsets.recovery_point))], &mut wakes);
        wakes
    }

    /// A ticket for everything that is written now being durable.
    ///
    /// # Errors
    /// [`PartitionError::Closed`], [`PartitionError::DirectoryFailed`].
    pub fn flush(&self) -> Result<Ticket, PartitionError> {
        self.committer.check()?;
        let ticket = {
            let guard = self.lock();
            let state = guard.as_ref().ok_or(PartitionError::Closed)?;
            let end = state.marks.end().offset;
            let ticket = self.watch.ticket(Position::Flushed, end);
            if state.journalled >= end || ticket.is_done() {
                return Ok(ticket);
            }
            ticket
        };
        self.committer.request_flush(self.name());
        Ok(ticket)
    }

    /// A ticket for a position being at or above an offset, exclusive. For one that is there already, as any up to 0 is, it has
    /// its answer at once; one that the log may never come to is waited for.
    pub fn wait_for(&self, position: Position, offset: Offset) -> Ticket {
        self.watch.ticket(position, offset)
    }

    /// Reads, and adds the partition to a long poll in case that what was found is not enough: nothing that is appended
    /// after the read is missed.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub fn read_or_watch(&self, fetch: Fetch, poll: &mut LongPoll) -> Result<Fetched, LogError> {
        let position = match fetch.isolation {
            Isolation::LogEnd => Position::LogEnd,
            Isolation::HighWatermark => Position::HighWatermark,
            Isolation::ReadCommitted => Position::LastStable,
        };
        let seen = self.watch.seen(position);
        let fetched = self.read(fetch)?;
        poll.watch(&self.watch, Readable { seen, available: fetched.len(), max_bytes: fetch.max_bytes });
        Ok(fetched)
    }
}

/// An append that was made, and what is to be done once the lock is released.
struct Appended {
    append: Append,
    wakes: Wakes,
    /// Whether a sync of the segment makes it durable.
    goes_by_sync: bool,
}

type Taken<'a> = (AppendInfo, Option<Gathered>, &'a [u8]);

impl State {
    /// Whether everything is in the journal or, durably, in the segments.
    fn is_in_journal_up_to_its_end(&self) -> bool {
        let offsets = self.log.offsets();
        self.journalled.max(offsets.recovery_point) >= offsets.log_end
    }

    /// Where an append that went to the file begins: segment and position.
    fn place_of(&self, info: &AppendInfo) -> (Offset, u64) {
        let end = self.log.reader().log_end();
        (end.segment_base_offset, end.position.saturating_sub(info.bytes))
    }
}
