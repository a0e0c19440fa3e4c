//! Walking the batches of a `.log` file, by headers alone or with their bytes.
//!
//! Reads ahead in large pieces when a whole segment is scanned and in small ones for a look-up. Allocates no more than
//! the piece and one batch that is really in the file.

use super::tail::TailPart;
use crate::{
    format::{
        FormatError,
        batch::{Batch, BatchHeader, FRAME_SIZE, Frame, HEADER_SIZE},
        frame,
    },
    storage::{self, File, Storage},
    types::Offset,
};
use std::io;

/// Bytes read at once when a whole segment is scanned.
pub(crate) const SCAN_BYTES: usize = 1 << 20;
/// Bytes read at once for a look-up: one index interval of headers.
pub(crate) const LOOKUP_BYTES: usize = 4 << 10;

/// Why the bytes at some position are not the next batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Nothing but zeros up to the end: what a file system leaves of data that was never flushed.
    #[error("zeros up to the end")]
    ZeroTail,
    /// The header or the batch runs past the end.
    #[error("a batch of {size} bytes, of which {present} are there")]
    Incomplete {
        /// Bytes that the batch would have, or the least that a header has.
        size: u64,
        /// Bytes left in the file.
        present: u64,
    },
    /// The header, the checksum or a field says so.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// The batch's offsets do not come after those before it.
    #[error("last offset {last_offset} does not exceed {previous}")]
    OffsetsNotAscending {
        /// Last offset of the batch found.
        last_offset: Offset,
        /// Last offset before it, or one less than the segment's base.
        previous: Offset,
    },
    /// The batch's offsets do not fit a segment with this base.
    #[error("last offset {last_offset} is more than 2147483647 above the segment's base")]
    OffsetOutOfRange {
        /// Last offset of the batch found.
        last_offset: Offset,
    },
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// The batch at this position.
    Batch(u64, BatchHeader),
    /// The end, exactly behind the last batch.
    End,
    /// No batch begins here.
    Damaged(Damage),
}

/// Walks from a position to an end.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    storage: &'a dyn Storage,
    file: &'a File,
    /// The end of the log that is in memory: what lies below its first part is read from the file.
    tail: Vec<TailPart>,
    buffer: Vec<u8>,
    /// Position in the file of the buffer's first byte.
    buffer_at: u64,
    piece: usize,
    position: u64,
    end: u64,
}

impl<'a> Scanner<'a> {
    /// Walks `file` from byte `position`, where a batch begins, up to `end` (exclusive).
    pub(crate) fn new(storage: &'a dyn Storage, file: &'a File, position: u64, end: u64, piece: usize) -> Self {
        Self { storage, file, tail: Vec::new(), buffer: Vec::new(), buffer_at: position, piece, position, end }
    }

    /// Reads from `tail` what is not in the file yet.
    pub(crate) fn with_tail(mut self, tail: Vec<TailPart>) -> Self {
        self.tail = tail;
        self
    }

    /// Where the next step looks.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's header; the batch lies whole in the file.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let present = self.end.saturating_sub(self.position);
        if present == 0 {
            return Ok(Step::End);
        }
        let want = u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX).min(present);
        self.fill(self.position, want)?;
        let bytes = self.window(self.position, want);
        let damage = match Self::header(bytes, present) {
            Ok(header) => {
                let position = self.position;
                self.position += u64::try_from(header.size()).unwrap_or(u64::MAX);
                return Ok(Step::Batch(position, header));
            }
            Err(damage) => damage,
        };
        if bytes.iter().all(|byte| *byte == 0) && self.only_zeros_follow()? {
            return Ok(Step::Damaged(Damage::ZeroTail));
        }
        Ok(Step::Damaged(damage))
    }

    fn header(bytes: &[u8], present: u64) -> Result<BatchHeader, Damage> {
        if bytes.len() < FRAME_SIZE {
            return Err(Damage::Incomplete { size: u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX), present });
        }
        let frame = Frame::decode(bytes)?;
        frame.check_magic()?;
        let size = u64::try_from(frame.size).unwrap_or(u64::MAX);
        if size > present {
            return Err(Damage::Incomplete { size, present });
        }
        Ok(BatchHeader::decode(bytes)?)
    }

    /// The header of the batch that begins at `position` and lies whole in the file, if there is one.
    pub(crate) fn header_at(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let present = self.end.saturating_sub(position);
        let want = u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX).min(present);
        self.fill(position, want)?;
        Ok(Self::header(self.window(position, want), present).ok())
    }

    /// Whether the bytes at `position`, where no batch begins, are a message of magic 0 or 1 rather than a torn batch.
    pub(crate) fn is_old_message(&mut self, position: u64) -> io::Result<bool> {
        let present = self.end.saturating_sub(position);
        let want = u64::try_from(HEADER_SIZE).unwrap_or(u64::MAX).min(present);
        self.fill(position, want)?;
        Ok(frame::is_old_message(self.window(position, want)))
    }

    /// The whole batch that the last step found at `position`.
    pub(crate) fn batch(&mut self, position: u64, header: &BatchHeader) -> io::Result<Result<Batch<'_>, FormatError>> {
        let size = u64::try_from(header.size()).unwrap_or(u64::MAX);
        self.fill(position, size)?;
        Ok(Batch::parse(self.window(position, size)))
    }

    fn only_zeros_follow(&mut self) -> io::Result<bool> {
        let mut at = self.position;
        while at < self.end {
            let len = (self.end - at).min(u64::try_from(SCAN_BYTES).unwrap_or(u64::MAX));
            self.fill(at, len)?;
            if self.window(at, len).iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len;
        }
        Ok(true)
    }

    fn window(&self, at: u64, len: u64) -> &[u8] {
        let start = usize::try_from(at.saturating_sub(self.buffer_at)).unwrap_or(usize::MAX);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.buffer.get(start..start.saturating_add(len)).unwrap_or_default()
    }

    /// Makes the buffer hold `len` bytes from `at`, which lie before the end.
    fn fill(&mut self, at: u64, len: u64) -> io::Result<()> {
        let buffered = self.buffer_at..self.buffer_at + u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        if buffered.contains(&at) && at + len <= buffered.end {
            return Ok(());
        }
        let kept = if buffered.contains(&at) { usize::try_from(buffered.end - at).unwrap_or(0) } else { 0 };
        let from = self.buffer.len() - kept;
        self.buffer.copy_within(from.., 0);
        let piece = u64::try_from(self.piece).unwrap_or(u64::MAX);
        let wanted = usize::try_from(len.max(piece).min(self.end - at)).unwrap_or(usize::MAX);
        self.buffer.resize(wanted.max(kept), 0);
        self.buffer_at = at;
        let unread = self.buffer.get_mut(kept..).unwrap_or_default();
        let unread_at = at + u64::try_from(kept).unwrap_or(0);
        let from_memory = self
            .tail
            .first()
            .map_or(usize::MAX, |first| usize::try_from(first.start.saturating_sub(unread_at)).unwrap_or(usize::MAX));
        let (from_file, in_memory) = unread.split_at_mut(from_memory.min(unread.len()));
        let copied = copy(&self.tail, unread_at + u64::try_from(from_file.len()).unwrap_or(0), in_memory);
        let read = if from_file.is_empty() {
            Ok(copied)
        } else {
            storage::read_at(self.storage, self.file, unread_at, from_file).map(|read| read + copied)
        };
        match read {
            Ok(read) if kept + read == self.buffer.len() => Ok(()),
            Ok(_) => {
                self.buffer.clear();
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"))
            }
            Err(error) => {
                self.buffer.clear();
                Err(error)
            }
        }
    }
}

/// Copies what parts of the tail hold from a position on; how much that was.
fn copy(tail: &[TailPart], position: u64, into: &mut [u8]) -> usize {
    let mut copied = 0;
    for part in tail {
        let at = position + u64::try_from(copied).unwrap_or(u64::MAX);
        let skip = usize::try_from(at.saturating_sub(part.start)).unwrap_or(usize::MAX);
        let from = part.buffer.filled().get(skip..).unwrap_or_default();
        let len = from.len().min(into.len() - copied);
        if let (Some(to), Some(from)) = (into.get_mut(copied..copied + len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        copied += len;
    }
    copied
}
