//! A range of a log's bytes, handed out to be sent or read.

use super::tail::TailPart;
use crate::storage::{self, Buffer, File};
use std::{
    io,
    ops::{Deref, Range},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Weak},
    time::Duration,
};

/// Bytes of a log: a range of its file, bytes in memory that were not in the file yet, or the one followed by the other.
/// Keeps the file open, so that they stay readable after retention, compaction or truncation removed the segment, and they
/// never change: what is cut below the highest position ever handed out is cut in a new file. Keeps no memory: what has left
/// it meanwhile is read from the file, where it is by then, so that a reader who takes his time costs nobody anything. Only of
/// a partition that was deleted may bytes be gone that never reached its file.
///
/// Cheap to clone. Take [`FileSlice::parts`] to send it with another runtime.
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: Arc<File>,
    position: u64,
    /// Bytes from `position` on that lie in the file, behind the slice's end too; those that were in memory follow them.
    in_file: u64,
    len: u64,
    memory: Option<Arc<[MemoryPart]>>,
}

#[derive(Debug, Clone)]
struct MemoryPart {
    /// Where it begins in the slice.
    at: u64,
    /// Gone only when all of it is in the file.
    buffer: Weak<Buffer>,
    range: Range<usize>,
}

impl MemoryPart {
    fn end(&self) -> u64 {
        self.at + u64::try_from(self.range.len()).unwrap_or(0)
    }
}

/// A piece of a [`FileSlice`], to be sent or read by other means than the slice's own.
#[derive(Debug, Clone)]
pub enum SlicePart<'a> {
    /// Bytes of a file: its descriptor, where they begin in it, and how many.
    File(BorrowedFd<'a>, u64, u64),
    /// Bytes in memory.
    Memory(SliceBytes),
}

/// Bytes in memory that a partition gathers its appends in. Let go of them soon: they count against
/// [`ManagerOptions::gather_bytes`](crate::ManagerOptions) as long as they are held.
#[derive(Debug, Clone)]
pub struct SliceBytes {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Deref for SliceBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.filled().get(self.range.clone()).unwrap_or_default()
    }
}

/// Where bytes of a slice are now.
enum Place {
    /// In the file, so many from there on.
    File(u64),
    /// In memory.
    Memory(SliceBytes),
}

impl FileSlice {
    /// Of a log of `size` bytes, of which those from the tail's first part on are in memory.
    pub(crate) fn new(file: Arc<File>, position: u64, len: u64, size: u64, tail: Vec<TailPart>) -> Self {
        let in_file = tail.first().map_or(size, |first| first.start).saturating_sub(position);
        let end = position + len;
        let mut memory = Vec::with_capacity(tail.len());
        for part in tail {
            let filled = part.start + u64::try_from(part.buffer.filled().len()).unwrap_or(0);
            let (from, to) = (part.start.max(position), filled.min(end));
            if from < to {
                let within = |position: u64| usize::try_from(position - part.start).unwrap_or(usize::MAX);
                let range = within(from)..within(to);
                memory.push(MemoryPart { at: from - position, buffer: Arc::downgrade(&part.buffer), range });
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
        Self { len: len.min(self.len), ..self.clone() }
    }

    /// What it consists of now, in order.
    pub fn parts(&self) -> impl Iterator<Item = SlicePart<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let place = self.place(at)?;
            let begin = self.position + at;
            Some(match place {
                Place::File(len) => {
                    at += len;
                    SlicePart::File(self.file.as_fd(), begin, len)
                }
                Place::Memory(bytes) => {
                    at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    SlicePart::Memory(bytes)
                }
            })
        })
    }

    /// Where the bytes are now that begin `skip` bytes behind the slice's start, as many as lie together; `None` behind its
    /// end. Never empty.
    fn place(&self, skip: u64) -> Option<Place> {
        if skip >= self.len {
            return None;
        }
        if skip < self.in_file {
            return Some(Place::File(self.in_file.min(self.len) - skip));
        }
        let parts = self.memory.as_ref()?;
        let after = parts.partition_point(|part| part.at <= skip);
        let part = parts.get(after.checked_sub(1)?)?;
        let left = part.end().min(self.len).checked_sub(skip).filter(|left| *left > 0)?;
        let Some(buffer) = part.buffer.upgrade() else { return Some(Place::File(left)) };
        let start = part.range.start + usize::try_from(skip - part.at).ok()?;
        Some(Place::Memory(SliceBytes { buffer, range: start..start + usize::try_from(left).ok()? }))
    }

    /// Lets the kernel begin to read what lies in the file, unless its page cache has it, and waits for nothing. For slices that
    /// are sent later or in pieces, and for several at once: whatever the journal made durable was written past the page cache,
    /// so the first to read it waits for the disk, and with this for all of it together. Includes as many bytes behind the slice,
    /// if they are in its file: who reads one slice after the other finds the next one in the page cache.
    pub fn read_ahead(&self) {
        let mut at = 0;
        while let Some(place) = self.place(at) {
            at += match place {
                Place::File(len) => {
                    storage::read_ahead(&self.file, self.position + at, len);
                    len
                }
                Place::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            };
        }
        if self.behind() > 0 {
            storage::read_ahead(&self.file, self.position + self.len, self.behind());
        }
    }

    /// Bytes that follow it in its file, as many as it has itself at most.
    fn behind(&self) -> u64 {
        self.in_file.saturating_sub(self.len).min(self.len)
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
        while let Some(place) = self.place(sent + now) {
            let moved = match place {
                Place::File(len) => storage::send(&self.file, self.position + sent + now, len, socket.as_fd()),
                Place::Memory(bytes) => storage::send_bytes(&bytes, socket.as_fd()),
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
        let mut read = 0;
        while let (Some(rest @ [_, ..]), at) = (into.get_mut(read..), skip + u64::try_from(read).unwrap_or(u64::MAX)) {
            let Some(place) = self.place(at) else { break };
            let fits = |len: usize| len.min(rest.len());
            let len = match &place {
                Place::File(len) => fits(usize::try_from(*len).unwrap_or(usize::MAX)),
                Place::Memory(bytes) => fits(bytes.len()),
            };
            let target = rest.get_mut(..len).unwrap_or_default();
            match place {
                Place::File(_) => storage::read_exact(&self.file, self.position + at, target)?,
                Place::Memory(bytes) => target.copy_from_slice(bytes.get(..len).unwrap_or_default()),
            }
            read += len;
        }
        Ok(read)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::{Access, BufferPool, Posix, Storage};
    use std::path::Path;

    #[test]
    fn what_is_read_ahead_behind_a_slice_lies_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = Arc::new(Posix::open(dir.path()).unwrap().open(Path::new("log"), Access::Create).unwrap());
        let behind = |position, len, tail: &[u64]| {
            let part = |start: &u64| {
                let mut writer = BufferPool::new(1 << 20).take(4096).unwrap();
                assert!(writer.append(&[0; 100]));
                TailPart { start: *start, buffer: writer.share() }
            };
            FileSlice::new(Arc::clone(&file), position, len, 1000, tail.iter().map(part).collect())
        };
        assert_eq!(behind(0, 100, &[]).behind(), 100);
        assert_eq!(behind(0, 600, &[]).behind(), 400);
        assert_eq!(behind(900, 100, &[]).behind(), 0);
        assert_eq!(behind(0, 600, &[]).prefix(450).behind(), 450);
        assert_eq!(behind(0, 600, &[]).prefix(900).behind(), 400);
        // From 900 on it is in memory.
        assert_eq!(behind(0, 600, &[900]).behind(), 300);
        assert_eq!(behind(700, 200, &[900]).behind(), 0);
        assert_eq!(behind(700, 300, &[900]).behind(), 0);
        assert_eq!(behind(700, 300, &[900]).prefix(150).behind(), 50);
        behind(700, 300, &[900]).read_ahead();
    }
}
