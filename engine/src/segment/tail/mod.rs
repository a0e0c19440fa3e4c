//! The newest bytes of a log file, in memory until they are in the file.
//!
//! Appends that are durable through the journal need not reach their segment at once. They gather here in pieces that
//! begin and end where large blocks of the file do, so that whole pieces can be written past the page cache; readers get
//! them from memory. Knows nothing of batches, of the journal, or of who writes the pieces. Keeps: pieces follow each other
//! without a gap, and everything below the first of them is in the file; a piece leaves memory only when it is in the file;
//! at most one thread writes a piece at a time.

use crate::storage::{self, Buffer, BufferEnd, BufferPool, BufferWriter, DIRECT_BYTES, File, QueuedWrite, Storage};
use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Where a piece is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes are still being added.
    Filling,
    /// It reaches up to its end; nobody has begun to write it.
    Full,
    /// Somebody is writing it.
    InFlight,
    /// All of it is in the file; it stays for readers.
    InFile,
}

#[derive(Debug)]
struct Piece {
    /// Where it begins in the file, in bytes.
    start: u64,
    /// Where it ends once it is full, exclusive.
    end: u64,
    buffer: Arc<Buffer>,
    stage: Stage,
    /// Bytes from its begin that went to the file through the page cache.
    spilled: usize,
    /// The lowest mark of its bytes that are not in the file.
    mark: u64,
    /// Whether pages of it may be in the page cache: then all of it has to go that way.
    cached_only: bool,
}

/// Bytes that a thread has undertaken to write.
#[derive(Debug)]
struct Claim {
    /// Where their piece begins.
    start: u64,
    buffer: Arc<Buffer>,
    range: Range<usize>,
    /// Whether the piece is full, and nobody else's until this ends.
    is_full: bool,
    /// What the bytes behind these are marked with.
    mark: u64,
}

impl Claim {
    fn at(&self) -> u64 {
        self.start + u64::try_from(self.range.start).unwrap_or(0)
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.filled().get(self.range.clone()).unwrap_or_default()
    }
}

impl Piece {
    fn filled(&self) -> u64 {
        u64::try_from(self.buffer.filled().len()).unwrap_or(u64::MAX)
    }

    /// Up to where the file has it.
    fn in_file(&self) -> u64 {
        match self.stage {
            Stage::InFile => self.end,
            _ => self.start + u64::try_from(self.spilled).unwrap_or(0),
        }
    }

    fn is_in_file(&self) -> bool {
        self.in_file() >= self.start + self.filled()
    }
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Spills that are writing to the file right now.
    spills: usize,
    /// Why a write of a piece failed: then none is written any more.
    failed: Option<String>,
    /// Whether the file is about to go: nothing is written any more.
    is_discarded: bool,
}

impl State {
    /// A full disk can be tried again; after anything else nobody knows what is in the file.
    fn note_failure(&mut self, result: &io::Result<()>) {
        if let Err(error) = result.as_ref()
            && !storage::is_disk_full(error)
        {
            self.failed = Some(error.to_string());
        }
    }

    fn find(&mut self, start: u64) -> Option<&mut Piece> {
        self.pieces.iter_mut().find(|piece| piece.start == start)
    }
}

/// The gathered end of one log file.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Guards where the pieces are; never held during I/O.
    state: Mutex<State>,
    /// Told whenever a piece in flight ended.
    ended: Condvar,
    /// Guards the end of the last piece, for the log's one writer.
    filling: Mutex<Option<Filling>>,
}

/// The piece that takes the next bytes.
#[derive(Debug)]
struct Filling {
    writer: BufferWriter,
    /// Where it ends in the file, exclusive.
    end: u64,
}

/// Where gathered bytes find memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gather<'a> {
    pub(crate) pool: &'a Arc<BufferPool>,
    /// Pieces end at multiples of this many bytes; itself a multiple of [`DIRECT_BYTES`].
    pub(crate) piece_bytes: usize,
    /// The caller's number for the moment: pieces begun now bear it.
    pub(crate) mark: u64,
}

impl Gather<'_> {
    /// Where a piece ends that begins at `start`.
    fn end_of_piece(&self, start: u64) -> u64 {
        let piece = u64::try_from(self.piece_bytes).unwrap_or(u64::MAX);
        (start / piece + 1) * piece
    }
}

/// The pool has no memory left; nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMemory;

/// Bytes of the tail, kept for a reader.
#[derive(Debug, Clone)]
pub(crate) struct TailPart {
    /// Where it begins in the file.
    pub(crate) start: u64,
    pub(crate) buffer: Arc<Buffer>,
}

impl Tail {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes at `position`, which is the end of the log. `Ok` tells where each piece begins that became
    /// full, and where in memory the next bytes go.
    pub(crate) fn append(
        &self,
        position: u64,
        bytes: &[u8],
        gather: &Gather<'_>,
    ) -> Result<(Vec<u64>, BufferEnd), NoMemory> {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = fresh_pieces(filling.as_ref().map(|filling| filling.end), position, bytes.len(), gather)?;
        let mut full = Vec::new();
        let mut rest = bytes;
        let mut at = position;
        while !rest.is_empty() {
            let current = match &mut *filling {
                Some(current) => current,
                None => {
                    let writer = fresh.pop_front().ok_or(NoMemory)?;
                    filling.insert(self.begin_piece(at, writer, gather))
                }
            };
            let room = usize::try_from(current.end - at).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            let fits = current.writer.append(now);
            debug_assert!(fits, "a buffer holds a whole piece");
            rest = later;
            at += u64::try_from(room).unwrap_or(0);
            if at == current.end {
                *filling = None;
                full.extend(self.last_is_full());
            }
        }
        let end = filling.as_ref().map(|filling| filling.writer.end()).unwrap_or_default();
        Ok((full, end))
    }

    fn begin_piece(&self, start: u64, writer: BufferWriter, gather: &Gather<'_>) -> Filling {
        let end = gather.end_of_piece(start);
        let (buffer, stage) = (writer.share(), Stage::Filling);
        let begun = Piece { start, end, buffer, stage, spilled: 0, mark: gather.mark, cached_only: false };
        self.state().pieces.push_back(begun);
        Filling { writer, end }
    }

    fn last_is_full(&self) -> Option<u64> {
        let mut state = self.state();
        let piece = state.pieces.back_mut()?;
        // What was spilled up to its very end is in the file already.
        piece.stage = if piece.in_file() == piece.end { Stage::InFile } else { Stage::Full };
        (piece.stage == Stage::Full).then_some(piece.start)
    }

    /// Whether it holds memory.
    pub(crate) fn is_gathering(&self) -> bool {
        !self.state().pieces.is_empty()
    }

    /// Whether everything is in the file.
    pub(crate) fn is_in_file(&self) -> bool {
        self.state().pieces.iter().all(Piece::is_in_file)
    }

    /// The lowest mark of bytes that are not in the file.
    pub(crate) fn oldest_mark(&self) -> Option<u64> {
        let state = self.state();
        let missing = state.pieces.iter().filter(|piece| !piece.is_in_file() && !state.is_discarded);
        missing.map(|piece| piece.mark).min()
    }

    /// The file is about to go: from now on nothing is written to it. What is in memory stays for readers.
    pub(crate) fn discard(&self) {
        self.state().is_discarded = true;
    }

    /// Whether the file is about to go.
    pub(crate) fn is_discarded(&self) -> bool {
        self.state().is_discarded
    }

    /// Claims a full piece for a write of the caller's; `None` if somebody else has written or is writing it.
    /// `direct` is the file opened past the page cache.
    pub(crate) fn begin_write(&self, start: u64, direct: &Arc<File>, cached: &Arc<File>) -> Option<QueuedWrite> {
        let mut state = self.state();
        let is_discarded = state.is_discarded;
        let piece = state.find(start).filter(|piece| piece.stage == Stage::Full && !is_discarded)?;
        piece.stage = Stage::InFlight;
        let whole = !piece.cached_only && start.is_multiple_of(u64::try_from(DIRECT_BYTES).unwrap_or(1));
        let file = Arc::clone(if whole { direct } else { cached });
        let range = piece.spilled..piece.buffer.filled().len();
        let at = start + u64::try_from(piece.spilled).unwrap_or(0);
        Some(QueuedWrite { file, at, buffer: Arc::clone(&piece.buffer), range, durable: false, tag: 0 })
    }

    /// Ends a write that [`Tail::begin_write`] began. A piece whose write failed is never taken for written.
    pub(crate) fn end_write(&self, start: u64, result: &io::Result<()>) {
        let mut state = self.state();
        state.note_failure(result);
        if let Some(piece) = state.find(start) {
            piece.stage = if result.is_ok() { Stage::InFile } else { Stage::Full };
        }
        drop(state);
        self.ended.notify_all();
    }

    /// Writes what pieces with a mark below `mark` hold and the file does not, through the page cache, and waits for those
    /// who are writing such pieces. What is appended to them later bears the mark `now`. Not durable by itself.
    pub(crate) fn spill_before(&self, storage: &dyn Storage, cached: &File, mark: u64, now: u64) -> io::Result<()> {
        while let Some(claim) = self.claim_oldest(mark, now)? {
            let written = storage::write_at(storage, cached, claim.at(), claim.bytes());
            self.end_spill(&claim, &written);
            written?;
        }
        Ok(())
    }

    /// The oldest bytes that are not in the file and are marked so.
    fn claim_oldest(&self, mark: u64, now: u64) -> io::Result<Option<Claim>> {
        let mut state = self.state();
        loop {
            if state.is_discarded {
                return Ok(None);
            }
            if let Some(why) = &state.failed {
                return Err(io::Error::other(why.clone()));
            }
            let oldest = state.pieces.iter_mut().find(|piece| !piece.is_in_file() && piece.mark < mark);
            match oldest {
                None => return Ok(None),
                Some(piece) if piece.stage == Stage::InFlight => {
                    state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Some(piece) => {
                    let is_full = piece.stage == Stage::Full;
                    if is_full {
                        piece.stage = Stage::InFlight;
                    }
                    piece.cached_only = true;
                    let range = piece.spilled..piece.buffer.filled().len();
                    let claim =
                        Claim { start: piece.start, buffer: Arc::clone(&piece.buffer), range, is_full, mark: now };
                    state.spills += 1;
                    return Ok(Some(claim));
                }
            }
        }
    }

    fn end_spill(&self, claim: &Claim, result: &io::Result<()>) {
        let mut state = self.state();
        state.spills -= 1;
        state.note_failure(result);
        if let Some(piece) = state.find(claim.start) {
            if claim.is_full {
                piece.stage = Stage::Full;
            }
            if result.is_ok() {
                piece.spilled = piece.spilled.max(claim.range.end);
                piece.mark = piece.mark.max(claim.mark);
            }
            if piece.stage == Stage::Full && piece.in_file() == piece.end {
                piece.stage = Stage::InFile;
            }
        }
        drop(state);
        self.ended.notify_all();
    }

    /// Lets go of all that is in the file: what is appended next begins a new piece.
    pub(crate) fn release(&self) {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        // A spill beside this one writes what is in the file already: it must not do so once the file was cut.
        while state.spills > 0 {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        while let Some(piece) = state.pieces.front() {
            if !piece.is_in_file() || piece.stage == Stage::InFlight {
                return;
            }
            state.pieces.pop_front();
            if state.pieces.is_empty() {
                *filling = None;
            }
        }
    }

    /// Lets go of the oldest piece, if it is in the file and stays only for readers; its bytes.
    pub(crate) fn release_oldest(&self) -> usize {
        let mut state = self.state();
        match state.pieces.front() {
            Some(piece) if piece.stage == Stage::InFile => {
                state.pieces.pop_front().map_or(0, |piece| piece.buffer.capacity())
            }
            _ => 0,
        }
    }

    /// The pieces that hold bytes at or behind `position`, in order. Whatever lies below the first is in the file.
    pub(crate) fn parts(&self, position: u64) -> Vec<TailPart> {
        let state = self.state();
        let wanted = state.pieces.iter().filter(|piece| piece.start + piece.filled() > position);
        wanted.map(|piece| TailPart { start: piece.start, buffer: Arc::clone(&piece.buffer) }).collect()
    }
}

/// Buffers for all pieces that an append will begin, behind the end of the one that is being filled.
fn fresh_pieces(
    filled_up_to: Option<u64>,
    position: u64,
    len: usize,
    gather: &Gather<'_>,
) -> Result<VecDeque<BufferWriter>, NoMemory> {
    let end = position + u64::try_from(len).unwrap_or(u64::MAX);
    let mut fresh = VecDeque::new();
    let mut at = filled_up_to.unwrap_or(position);
    while at < end {
        fresh.push_back(gather.pool.take(gather.piece_bytes).ok_or(NoMemory)?);
        at = gather.end_of_piece(at);
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests;
