//! Floor 2: the one door to the disk.
//!
//! [`Storage`] is one log directory: every path is relative to it, and nothing is ever opened outside it or through a
//! symbolic link. Rare operations are blocking calls, each a named durability fact; the hot path is [`Storage::run`],
//! which takes many reads, writes and syncs at once and returns when all of them have ended. What a batch or an index
//! is, this floor does not know.
//!
//! Durability facts that callers may rely on:
//! * bytes written survive the process at once, and power loss only after a `Sync` of their file that succeeded;
//! * a new length set by [`Storage::set_len`] is like a write;
//! * an entry made, renamed or removed in a directory survives power loss only after [`Storage::sync_dir`] of it;
//! * operations of one `run` end in any order: the barrier between a write and its sync is two calls of `run`.

mod atomic;
mod buffer;
mod map;
mod open_files;
mod posix;
mod prefetch;
mod queue;
mod ring_queue;
mod sendfile;
mod single;
mod uring;
mod writeback;

pub(crate) use atomic::{Replacement, remove_if_there};
pub use atomic::{read_file, write_atomically};
pub(crate) use buffer::BufferEnd;
pub use buffer::{Buffer, BufferPool, BufferWriter, DIRECT_BYTES};
pub use map::MappedFile;
pub(crate) use open_files::KeepsOpen;
pub use open_files::OpenFiles;
pub use posix::Posix;
pub(crate) use prefetch::{prefetch, prefetch_value};
pub use queue::{EndedWrite, Queue, QueueWaker, QueuedWrite, Wait, queue};
pub(crate) use sendfile::{read_ahead, send_until};
pub use sendfile::{read_exact, send, send_all, send_bytes};
pub(crate) use single::copy;
pub use single::{read_at, read_exact_at, sync, write_at};
pub use uring::{Backend, DEFAULT_RING_ENTRIES, Uring, open_best};

use std::{
    ffi::OsString,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

/// An open file of a [`Storage`]: a file descriptor and the backend's own number for it.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    id: u64,
}

impl File {
    /// For backends: `id` is theirs to choose.
    #[must_use]
    pub fn new(fd: OwnedFd, id: u64) -> Self {
        Self { fd, id }
    }

    /// The number that the backend gave it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing an existing file.
    Write,
    /// A new file for reading and writing; fails with `AlreadyExists` if the name is taken.
    Create,
}

/// What a directory entry is. Links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, socket, device or pipe: never touched.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without a path.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes (0 unless a file).
    pub len: u64,
    /// Last modification, milliseconds since 1970.
    pub modified_ms: i64,
}

/// One operation on a file for [`Storage::run`].
#[derive(Debug)]
pub struct Op<'a> {
    /// What to do.
    pub kind: OpKind<'a>,
    result: Option<io::Result<usize>>,
}

/// What an [`Op`] does.
#[derive(Debug)]
pub enum OpKind<'a> {
    /// Writes all of `bytes` at byte position `at`; the result is their number.
    Write {
        /// The file.
        file: &'a File,
        /// Position in bytes.
        at: u64,
        /// What to write.
        bytes: &'a [u8],
    },
    /// As `Write`, and the result is `Ok` only once the bytes survive power loss (`RWF_DSYNC`): these, and what it takes to
    /// find them, not what was written to the file otherwise.
    WriteDurable {
        /// The file.
        file: &'a File,
        /// Position in bytes.
        at: u64,
        /// What to write.
        bytes: &'a [u8],
    },
    /// Makes everything written to the file before this call durable (`fdatasync`); the result is 0.
    Sync {
        /// The file.
        file: &'a File,
    },
    /// Fills `into` from byte position `at`; the result is the number read, less than its length only at the end.
    Read {
        /// The file.
        file: &'a File,
        /// Position in bytes.
        at: u64,
        /// Where to.
        into: &'a mut [u8],
    },
}

impl<'a> Op<'a> {
    /// A write of all of `bytes` at `at`.
    #[must_use]
    pub fn write(file: &'a File, at: u64, bytes: &'a [u8]) -> Self {
        Self { kind: OpKind::Write { file, at, bytes }, result: None }
    }

    /// A write of all of `bytes` at `at` that is durable when it ends.
    #[must_use]
    pub fn write_durable(file: &'a File, at: u64, bytes: &'a [u8]) -> Self {
        Self { kind: OpKind::WriteDurable { file, at, bytes }, result: None }
    }

    /// A sync of `file`.
    #[must_use]
    pub fn sync(file: &'a File) -> Self {
        Self { kind: OpKind::Sync { file }, result: None }
    }

    /// A read into `into` from `at`.
    #[must_use]
    pub fn read(file: &'a File, at: u64, into: &'a mut [u8]) -> Self {
        Self { kind: OpKind::Read { file, at, into }, result: None }
    }

    /// For backends: ends the operation.
    pub fn finish(&mut self, result: io::Result<usize>) {
        self.result = Some(result);
    }

    /// The result, once; an operation that no backend ran is an error.
    ///
    /// # Errors
    /// What the operation ended with.
    pub fn take_result(&mut self) -> io::Result<usize> {
        self.result.take().unwrap_or_else(|| Err(io::Error::other("the operation was not run")))
    }
}

/// An operation on the disk failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct StorageError {
    /// What was tried, as a verb: "open", "write", "sync", "rename" ...
    pub operation: &'static str,
    /// The file or directory, relative to the log directory.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl StorageError {
    /// Names the operation and the path of an I/O error.
    #[must_use]
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_path_buf(), source }
    }

    /// Whether the disk or a quota is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        is_disk_full(&self.source)
    }

    /// Whether it was a sync: what of the file or directory is durable is not known then.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        self.operation.starts_with("sync")
    }

    /// Whether the file or directory is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Whether an operation failed because the disk or a quota is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Holds a lock until dropped.
#[derive(Debug)]
pub struct Lock {
    /// Keeps the lock: an open description on a real disk, a token on a simulated one.
    _held: Box<dyn fmt::Debug + Send + Sync>,
}

impl Lock {
    /// For backends: `held` releases the lock when dropped.
    #[must_use]
    pub fn new(held: Box<dyn fmt::Debug + Send + Sync>) -> Self {
        Self { _held: held }
    }
}

/// One log directory on some disk. All paths are relative to it: an absolute path, and one with `.` in front or `..`
/// anywhere, is `InvalidInput`; a symbolic link on the way is refused as a loop (`ELOOP`).
///
/// Backends: [`Posix`], [`Uring`], and the simulated disk of the test support library, which loses, tears and
/// reorders what was not synced.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Takes the lock file at `path` for this open alone: an `fcntl` lock, the kind that Kafka takes, of the open file
    /// description, so that two opens in one process exclude each other as well. Does not wait.
    ///
    /// # Errors
    /// `WouldBlock` when another open holds it.
    fn lock(&self, path: &Path) -> Result<Lock, StorageError>;

    /// The entries of a directory, sorted by name. `Path::new("")` is the log directory itself.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what the disk says.
    fn list(&self, dir: &Path) -> Result<Vec<Entry>, StorageError>;

    /// Makes a directory (mode 0750 under the umask).
    ///
    /// # Errors
    /// `AlreadyExists`, or what the disk says.
    fn create_dir(&self, dir: &Path) -> Result<(), StorageError>;

    /// Opens or creates a file (mode 0640 under the umask).
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, a symbolic link as `FilesystemLoop`, or what the disk says.
    fn open(&self, path: &Path, access: Access) -> Result<File, StorageError>;

    /// Opens an existing file for writes past the page cache (`O_DIRECT`): memory, positions and lengths have to be
    /// multiples of [`DIRECT_BYTES`]. Where that cannot be had, it is opened as by [`Access::Write`].
    ///
    /// # Errors
    /// As [`Storage::open`].
    fn open_direct(&self, path: &Path) -> Result<File, StorageError> {
        self.open(path, Access::Write)
    }

    /// Renames a file or directory, replacing a file of the new name.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound`, or what the disk says.
    fn unlink(&self, path: &Path) -> Result<(), StorageError>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `DirectoryNotEmpty`, or what the disk says.
    fn remove_dir(&self, dir: &Path) -> Result<(), StorageError>;

    /// Makes the entries of a directory durable, as they are now.
    ///
    /// # Errors
    /// What the disk says; then nothing is known about which entries survive.
    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError>;

    /// Length of an open file in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn len(&self, file: &File) -> io::Result<u64>;

    /// When an open file was last modified, in milliseconds since 1970.
    ///
    /// # Errors
    /// What the disk says.
    fn modified_ms(&self, file: &File) -> io::Result<i64>;

    /// Makes an open file look as if it had last been modified at a time, in milliseconds since 1970. No promise of
    /// durability goes with it: nothing but ages may be concluded from it.
    ///
    /// # Errors
    /// What the disk says.
    fn set_modified_ms(&self, file: &File, modified_ms: i64) -> io::Result<()>;

    /// Cuts or extends (with zeros) an open file to `len` bytes. Durable only after a sync of the file.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;

    /// Reserves blocks for the first `len` bytes without changing the file's length.
    ///
    /// # Errors
    /// `StorageFull`, `Unsupported` where the file system cannot, or what the disk says.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()>;

    /// Lets go of the cached pages of a file that count as clean, so that what is read next comes from the disk. Pages
    /// that a failed sync lost are such pages. Bytes that were written and not yet synced stay.
    ///
    /// # Errors
    /// What the kernel says.
    fn forget_cached(&self, file: &File) -> io::Result<()>;

    /// Asks the disk to begin with writing out bytes of a file, so that a later sync of it waits for less. Promises
    /// nothing: no byte is durable before that sync, which also tells what went wrong.
    fn begin_writing_out(&self, file: &File, at: u64, len: u64) {
        let _ = (file, at, len);
    }

    /// Runs every operation to its end, in no promised order, and returns when all have ended. Short writes and
    /// interrupted calls are continued inside; a failed sync is final. Each operation carries its result.
    fn run(&self, ops: &mut [Op<'_>]);

    /// Makes everything written to any file of this directory's file system durable, and all entries (`syncfs`). Cheaper
    /// than a sync of each of many files.
    ///
    /// # Errors
    /// What the disk says; then nothing is known about what was not synced before.
    fn sync_all(&self) -> Result<(), StorageError>;

    /// Bytes that files of the directory can still take, as far as the file system tells; `None`, the default, where it does not.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// The files that are kept open between uses, and how many may be. `None`, the default, keeps every file open.
    fn open_files(&self) -> Option<&Arc<OpenFiles>> {
        None
    }

    /// A queue of the backend's own kind for `depth` writes in flight; `None` where it has none. Callers use [`queue()`].
    fn ring_queue(&self, depth: u32) -> Option<Box<dyn Queue>> {
        let _ = depth;
        None
    }

    /// Why a ring that the backend would have used was refused since it was opened, so that it writes without; `None`, the
    /// default, if none was.
    fn ring_refused(&self) -> Option<String> {
        None
    }
}
