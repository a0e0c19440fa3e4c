//! A ring of the kernel that owns what it writes: a buffer goes in with its write and comes back when the write is done.
//!
//! So no memory is in the kernel's hands that anybody else can reach. Knows nothing of what is written.
#![allow(unsafe_code)]

use super::buffer::Buffer;
use io_uring::{IoUring, opcode, squeue, types::Fd, types::FsyncFlags};
use nix::libc;
use std::{fs::File, io, mem, os::fd::AsRawFd, sync::Arc};

/// A write of the first `len` bytes of a buffer.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) file: Arc<File>,
    pub(crate) buffer: Buffer,
    pub(crate) len: usize,
    pub(crate) at: u64,
    /// Whether the bytes survive power loss when it is done (`RWF_DSYNC`).
    pub(crate) durable: bool,
    /// Comes back with the buffer.
    pub(crate) token: usize,
}

/// What was done: the token, and the buffer of a write.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) token: usize,
    pub(crate) buffer: Option<Buffer>,
}

#[derive(Debug)]
struct Flight {
    /// Open until the kernel is done with it.
    _file: Arc<File>,
    buffer: Option<Buffer>,
    len: usize,
    token: usize,
}

/// Writes and syncs in flight. Used by one thread.
pub(crate) struct Ring {
    ring: IoUring,
    /// By the user data of the operation.
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
}

impl Ring {
    /// A ring for so many operations at once.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let ring = IoUring::new(entries)?;
        let entries = ring.params().sq_entries() as usize;
        Ok(Self { ring, flights: (0..entries).map(|_| None).collect(), free: (0..entries).collect() })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Queues a write; [`Ring::submit`] hands it to the kernel.
    pub(crate) fn write(&mut self, write: Write) -> io::Result<()> {
        let Write { file, buffer, len, at, durable, token } = write;
        let bytes = buffer.bytes();
        let count = u32::try_from(len.min(bytes.len())).map_err(io::Error::other)?;
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), count).offset(at).rw_flags(flags).build();
        self.push(entry, Flight { _file: file, buffer: Some(buffer), len, token })
    }

    /// Queues an fdatasync.
    pub(crate) fn sync_data(&mut self, file: Arc<File>, token: usize) -> io::Result<()> {
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build();
        self.push(entry, Flight { _file: file, buffer: None, len: 0, token })
    }

    fn push(&mut self, entry: squeue::Entry, flight: Flight) -> io::Result<()> {
        let slot = self.free.pop().ok_or_else(|| io::Error::other("the ring is full"))?;
        if let Some(place) = self.flights.get_mut(slot) {
            *place = Some(flight);
        }
        let entry = entry.user_data(slot as u64);
        // SAFETY: the file and the memory belong to the flight, which is neither given out nor dropped before the
        // kernel's completion has come (`take`, and `drop`, which leaks what never came back).
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(io::Error::other)
    }

    /// Hands over what is queued, and waits until so many more operations are done.
    pub(crate) fn submit(&mut self, wait_for: usize) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(wait_for) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what is done. A failure, also a write cut short, fails the run: a floor does not repair.
    pub(crate) fn take(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        let mut failure = None;
        for completion in self.ring.completion() {
            let slot = completion.user_data() as usize;
            let Some(flight) = self.flights.get_mut(slot).and_then(Option::take) else {
                continue;
            };
            self.free.push(slot);
            let result = completion.result();
            match usize::try_from(result) {
                Err(_) => failure = Some(io::Error::from_raw_os_error(-result)),
                Ok(written) if written == flight.len => {}
                Ok(written) => failure = Some(io::Error::other(format!("{written} of {} bytes", flight.len))),
            }
            done.push(Done { token: flight.token, buffer: flight.buffer });
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.in_flight() > 0 {
            if self.submit(1).is_err() {
                // The kernel may still read this memory.
                mem::forget(mem::take(&mut self.flights));
                return;
            }
            // What failed is of no interest any more; that it came back is.
            drop(self.take(&mut done));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn write_reaches_the_file_and_the_buffer_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = Arc::new(File::create(&path).unwrap());
        let mut ring = Ring::new(4).unwrap();
        let mut buffer = Buffer::new(4096);
        buffer.put(0, b"duramen");
        ring.write(Write { file: Arc::clone(&file), buffer, len: 7, at: 0, durable: true, token: 3 }).unwrap();
        let mut done = Vec::new();
        while done.is_empty() {
            ring.submit(1).unwrap();
            ring.take(&mut done).unwrap();
        }
        assert_eq!((done[0].token, done[0].buffer.is_some(), ring.in_flight()), (3, true, 0));
        assert_eq!(std::fs::read(path).unwrap(), b"duramen");
    }

    #[test]
    fn write_to_a_file_opened_for_reading_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"").unwrap();
        let mut ring = Ring::new(1).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        ring.write(Write { file, buffer: Buffer::new(4096), len: 1, at: 0, durable: false, token: 0 }).unwrap();
        ring.submit(1).unwrap();
        assert!(ring.take(&mut Vec::new()).is_err());
    }
}
