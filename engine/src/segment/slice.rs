//! A range of a segment's bytes, handed out to be sent or read.

use crate::storage::{self, File};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

/// Bytes of a log file. Keeps the file open, so they stay readable after retention, compaction or truncation removed
/// the segment, and they never change: what is cut below the highest position ever handed out is cut in a new file.
///
/// Cheap to clone. Take [`FileSlice::position`], [`FileSlice::len`] and its descriptor to send it with another runtime.
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: Arc<File>,
    position: u64,
    len: u64,
}

impl FileSlice {
    pub(crate) fn new(file: Arc<File>, position: u64, len: u64) -> Self {
        Self { file, position, len }
    }

    /// Where the slice begins in its file, in bytes.
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

    /// Sends what is left of the slice after `sent` bytes by `sendfile`, until all is sent or the socket would block.
    /// Returns the bytes sent by this call; on a non-blocking socket call again with the sum when it is writable.
    ///
    /// # Errors
    /// `WouldBlock` when the socket took nothing, `UnexpectedEof` when another program made the file shorter, or what
    /// the socket or the disk says.
    pub fn send_to(&self, socket: impl AsFd, sent: u64) -> io::Result<u64> {
        let sent = sent.min(self.len);
        storage::send(&self.file, self.position + sent, self.len - sent, socket.as_fd())
    }

    /// Sends the whole slice, waiting whenever the socket is full, `timeout` at most each time.
    ///
    /// # Errors
    /// `TimedOut` when the socket took nothing for that long; otherwise as [`FileSlice::send_to`].
    pub fn send_all(&self, socket: impl AsFd, timeout: Option<Duration>) -> io::Result<()> {
        storage::send_all(&self.file, self.position, self.len, socket.as_fd(), timeout)
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
        storage::read_exact(&self.file, self.position + skip, into)?;
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

impl AsFd for FileSlice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
