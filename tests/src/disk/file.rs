//! One file: what the running system sees of it, beside what is durable.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::{
        memfd::{MFdFlags, memfd_create},
        uio::{pread, pwrite},
    },
};

use super::content::Content;

/// A file as the running system sees it.
#[derive(Debug)]
pub(super) enum Cache {
    /// Not opened since the disk was made.
    Bytes(Arc<Vec<u8>>),
    /// Opened at some time; shared with everyone who has it open.
    Memory(OwnedFd),
    /// Without a name; only files that are still open have its bytes.
    Unnamed,
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) content: Content,
    pub(super) cache: Cache,
    /// Bytes reserved from the front, of which only the capacity takes notice.
    pub(super) allocated: u64,
    pub(super) modified_ms: i64,
    /// The last path, for the trace.
    pub(super) label: String,
}

impl SimFile {
    pub(super) fn new(content: Content, cache: Cache, modified_ms: i64, label: String) -> Self {
        Self { content, cache, allocated: 0, modified_ms, label }
    }

    /// The file in memory, made when it is first asked for.
    pub(super) fn memory(&mut self) -> io::Result<OwnedFd> {
        if let Cache::Bytes(bytes) = &self.cache {
            let fd = memfd_create("simulated", MFdFlags::MFD_CLOEXEC)?;
            write_fully(&fd, 0, bytes)?;
            self.cache = Cache::Memory(fd);
        }
        match &self.cache {
            Cache::Memory(fd) => fd.try_clone(),
            _ => Err(Errno::ENOENT.into()),
        }
    }

    pub(super) fn bytes(&self) -> Arc<Vec<u8>> {
        match &self.cache {
            Cache::Bytes(bytes) => bytes.clone(),
            Cache::Memory(fd) => {
                let mut bytes = vec![0; self.content.len()];
                let read = read_fully(fd, 0, &mut bytes).expect("memory can be read");
                assert_eq!(read, bytes.len(), "the file in memory is as long as the model says");
                Arc::new(bytes)
            }
            Cache::Unnamed => Arc::default(),
        }
    }

    pub(super) fn used(&self) -> u64 {
        if matches!(self.cache, Cache::Unnamed) { 0 } else { self.allocated.max(self.content.len() as u64) }
    }

    /// The same file on another disk.
    pub(super) fn with(&self, content: Content, cache: Cache) -> Self {
        let mut copy = Self::new(content, cache, self.modified_ms, self.label.clone());
        copy.allocated = self.allocated;
        copy
    }
}

pub(super) fn write_fully(fd: impl AsFd, at: usize, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += pwrite(fd.as_fd(), &bytes[done..], (at + done) as i64)?;
    }
    Ok(())
}

pub(super) fn read_fully(fd: impl AsFd, at: usize, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match pread(fd.as_fd(), &mut into[done..], (at + done) as i64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}
