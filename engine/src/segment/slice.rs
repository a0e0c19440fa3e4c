//! A range of a log's bytes, handed out to be sent or read.

use super::tail::TailPart;
use crate::storage::{self, Buffer, File};
use std::{
    io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

/// Bytes of a log: a range of its file, bytes in memory that are not in the file yet, or the one followed by the other.
/// Keeps the file open and the memory alive, so they stay readable after retention, compaction or truncation removed the
/// segment, and they never change: what is cut below the highest position ever handed out is cut in a new file.
///
/// Cheap to clone. Take [`FileSlice::parts`] to send it with another runtime.
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: Arc<File>,
    position: u64,
    /// Bytes from `position` on that lie in the file; those in memory follow them.
    in_file: u64,
    len: u64,
    memory: Option<Arc<[MemoryPart]>>,
}

#[derive(Debug, Clone)]
struct MemoryPart {
    /// Where it begins in the slice.
    at: u64,
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl MemoryPart {
    fn bytes(&self) -> &[u8] {
        self.buffer.filled().get(self.range.clone()).unwrap_or_default()
    }
}

/// A piece of a [`FileSlice`], to be sent or read by other means than the slice's own.
#[derive(Debug, Clone, Copy)]
pub enum SlicePart<'a> {
    /// Bytes of a file: its descriptor, where they begin in it, and how many.
    File(BorrowedFd<'a>, u64, u64),
    /// Bytes in memory.
    Memory(&'a [u8]),
}

impl FileSlice {
    pub(crate) fn new(file: Arc<File>, position: u64, len: u64, tail: Vec<TailPart>) -> Self {
        let in_file = tail.first().map_or(len, |first| first.start.saturating_sub(position).min(len));
        let end = position + len;
        let mut memory = Vec::with_capacity(tail.len());
        for part in tail {
            let filled = part.start + u64::try_from(part.buffer.filled().len()).unwrap_or(0);
            let (from, to) = (part.start.max(position), filled.min(end));
            if from < to {
                let within = |position: u64| usize::try_from(position - part.start).unwrap_or(usize::MAX);
                let range = within(from)..within(to);
                memory.push(MemoryPart { at: from - position, buffer: part.buffer, range });
            }
        }
        let memory = (!memory.is_empty()).then(|| memory.into());
        Self { file, position, in_file, len, memory }
    }

    /// Where the slice begins in its log file, in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its first `len` bytes; all of it if it is shorter.
    #[must_use]
    pub fn prefix(&self, len: u64) -> Self {
        let len = len.min(self.len);
        Self { len, in_file: self.in_file.min(len), ..self.clone() }
    }

    /// What it consists of, in order: at most one range of a file, then bytes in memory.
    pub fn parts(&self) -> impl Iterator<Item = SlicePart<'_>> {
        let file = (self.in_file > 0).then(|| SlicePart::File(self.file.as_fd(), self.position, self.in_file));
        let memory =
            self.memory.iter().flat_map(|parts| parts.iter()).map(|part| SlicePart::Memory(self.clipped(part)));
        file.into_iter().chain(memory.filter(|part| !matches!(part, SlicePart::Memory([]))))
    }

    /// The bytes of a part as far as they belong to the slice.
    fn clipped<'a>(&self, part: &'a MemoryPart) -> &'a [u8] {
        let len = usize::try_from(self.len.saturating_sub(part.at)).unwrap_or(usize::MAX);
        let bytes = part.bytes();
        bytes.get(..len.min(bytes.len())).unwrap_or_default()
    }

    /// The bytes in memory from `skip` bytes behind the slice's start on, up to the end of their part.
    fn memory_from(&self, skip: u64) -> Option<&[u8]> {
        let parts = self.memory.as_ref()?;
        let after = parts.partition_point(|part| part.at <= skip);
        let part = parts.get(after.checked_sub(1)?)?;
        let within = usize::try_from(skip - part.at).ok()?;
        self.clipped(part).get(within..).filter(|rest| !rest.is_empty())
    }

    /// Sends what is left of the slice after `sent` bytes, by `sendfile` as far as it lies in the file, until all is sent
    /// or the socket would block. Returns the bytes sent by this call; on a non-blocking socket call again with the sum
    /// when it is writable.
    ///
    /// # Errors
    /// `WouldBlock` when the socket took nothing, `UnexpectedEof` when another program made the file shorter, or what
    /// the socket or the disk says.
    pub fn send_to(&self, socket: impl AsFd, sent: u64) -> io::Result<u64> {
        let mut now = 0;
        while sent + now < self.len {
            let at = sent + now;
            let moved = match self.memory_from(at) {
                _ if at < self.in_file => {
                    storage::send(&self.file, self.position + at, self.in_file - at, socket.as_fd())
                }
                Some(bytes) => storage::send_bytes(bytes, socket.as_fd()),
                None => break,
            };
            match moved {
                Ok(moved) => now += moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && now > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(now)
    }

    /// Sends the whole slice, waiting whenever the socket is full, `timeout` at most each time.
    ///
    /// # Errors
    /// `TimedOut` when the socket took nothing for that long; otherwise as [`FileSlice::send_to`].
    pub fn send_all(&self, socket: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
        let socket = socket.as_fd();
        storage::send_until(self.len, socket, timeout, |sent| self.send_to(socket, sent))
    }

    /// Reads into `into` from `skip` bytes behind the slice's start; returns the bytes read, which are fewer than
    /// `into` holds only at the slice's end.
    ///
    /// # Errors
    /// `UnexpectedEof` when another program made the file shorter, or what the disk says.
    pub fn read_at(&self, into: &mut [u8], skip: u64) -> io::Result<usize> {
        let left = self.len.saturating_sub(skip);
        let len = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let into = into.get_mut(..len).unwrap_or_default();
        let from_file = usize::try_from(self.in_file.saturating_sub(skip)).unwrap_or(usize::MAX).min(len);
        let (head, mut rest) = into.split_at_mut(from_file);
        storage::read_exact(&self.file, self.position + skip, head)?;
        let mut at = skip + u64::try_from(from_file).unwrap_or(0);
        while !rest.is_empty() {
            let bytes = self.memory_from(at).ok_or(io::ErrorKind::UnexpectedEof)?;
            let (to, later) = rest.split_at_mut(bytes.len().min(rest.len()));
            to.copy_from_slice(bytes.get(..to.len()).unwrap_or_default());
            at += u64::try_from(to.len()).unwrap_or(0);
            rest = later;
        }
        Ok(len)
    }

    /// All its bytes, copied.
    ///
    /// # Errors
    /// As [`FileSlice::read_at`].
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}
