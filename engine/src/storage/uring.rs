//! A log directory through io_uring where that is faster, and the choice between it and plain system calls.
//!
//! Owns the rings. Many operations of one [`Storage::run`] go to the kernel in one call and are all waited for before
//! it returns, so that no buffer is in the kernel's hands when its borrow ends; should waiting ever fail, the process
//! is aborted. Nothing depends on the order in which the kernel works: no links, no drains. A first attempt that moved
//! only part of the bytes, or none because it was interrupted, is continued by [`Posix`]'s loops.

#![allow(unsafe_code)]

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    process,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use io_uring::{IoUring, Probe, opcode, squeue, types::Fd, types::FsyncFlags};
use nix::{errno::Errno, libc};

use super::{
    Access, Entry, File, Lock, Op, OpKind, OpenFiles, Posix, Queue, Storage, StorageError,
    posix::{continue_from, run_one},
    ring_queue::RingQueue,
};

/// Operations in flight at once in one ring, if nothing else is asked for.
pub const DEFAULT_RING_ENTRIES: u32 = 256;

/// More idle rings than this are given back to the kernel.
const MAX_SPARE_RINGS: usize = 4;

/// The most that one ring operation moves; the rest of a longer one is moved by plain calls.
const MAX_OPERATION_BYTES: u32 = 1 << 30;

/// The backend that was chosen for a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// [`Uring`].
    Uring,
    /// [`Posix`], since io_uring was refused.
    Posix {
        /// The reason, for one event in the log.
        why: String,
    },
}

/// Opens a log directory through io_uring if the kernel allows it, else through plain system calls. Asked once here,
/// not again later.
///
/// # Errors
/// As [`Posix::open`]; that io_uring is refused is no error.
///
/// # Example
/// ```
/// use std::path::Path;
/// use duramen::storage::{Access, Backend, Op, open_best};
///
/// let dir = std::env::temp_dir().join(format!("duramen-doc-best-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// let (disk, backend) = open_best(&dir)?;
/// if let Backend::Posix { why } = backend {
///     eprintln!("{why}");
/// }
/// let files = [disk.open(Path::new("a"), Access::Create)?, disk.open(Path::new("b"), Access::Create)?];
/// let mut writes = files.each_ref().map(|file| Op::write(file, 0, b"bytes"));
/// disk.run(&mut writes); // all at once; then every result must be looked at
/// for write in &mut writes {
///     assert_eq!(write.take_result()?, 5);
/// }
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_best(root: &Path) -> Result<(Arc<dyn Storage>, Backend), StorageError> {
    let posix = Posix::open(root)?;
    match probe(DEFAULT_RING_ENTRIES) {
        Ok(ring) => Ok((Arc::new(Uring::over(posix, ring)), Backend::Uring)),
        Err(error) => Ok((Arc::new(posix), Backend::Posix { why: reason(&error) })),
    }
}

/// A log directory whose [`Storage::run`] gives several operations to io_uring at once. A single operation and the rare
/// ones are plain calls: a lone buffered write through a ring is several times slower on ext4.
///
/// Threads that run at the same time use a ring each.
pub struct Uring {
    posix: Posix,
    ring_entries: u32,
    /// Rings that no thread is using; nothing is in flight in them.
    spare: Mutex<Vec<IoUring>>,
    /// Why the kernel refused a ring for a queue.
    refused: OnceLock<String>,
}

impl Uring {
    /// Opens a log directory with rings of `ring_entries` operations (a power of two, or it is rounded up to one).
    ///
    /// # Errors
    /// As [`Posix::open`]; `PermissionDenied`, `Unsupported`, `OutOfMemory` or what else the kernel says when it
    /// refuses io_uring.
    pub fn open(root: &Path, ring_entries: u32) -> Result<Self, StorageError> {
        let posix = Posix::open(root)?;
        let ring = probe(ring_entries).map_err(|error| StorageError::new("set up io_uring for", root, error))?;
        Ok(Self::over(posix, ring))
    }

    fn over(posix: Posix, ring: IoUring) -> Self {
        let ring_entries = ring.params().sq_entries();
        Self { posix, ring_entries, spare: Mutex::new(vec![ring]), refused: OnceLock::new() }
    }

    fn take_ring(&self) -> io::Result<IoUring> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.map_or_else(|| IoUring::new(self.ring_entries), Ok)
    }

    fn give_back(&self, ring: IoUring) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE_RINGS {
            spare.push(ring);
        }
    }
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("posix", &self.posix).field("ring_entries", &self.ring_entries).finish()
    }
}

impl Storage for Uring {
    fn lock(&self, path: &Path) -> Result<Lock, StorageError> {
        self.posix.lock(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, StorageError> {
        self.posix.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.posix.create_dir(dir)
    }

    fn open(&self, path: &Path, access: Access) -> Result<File, StorageError> {
        self.posix.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.posix.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> Result<(), StorageError> {
        self.posix.unlink(path)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.posix.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.posix.sync_dir(dir)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.posix.len(file)
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        self.posix.modified_ms(file)
    }

    fn set_modified_ms(&self, file: &File, modified_ms: i64) -> io::Result<()> {
        self.posix.set_modified_ms(file, modified_ms)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.posix.set_len(file, len)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.posix.allocate(file, len)
    }

    fn forget_cached(&self, file: &File) -> io::Result<()> {
        self.posix.forget_cached(file)
    }

    fn open_direct(&self, path: &Path) -> Result<File, StorageError> {
        self.posix.open_direct(path)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.posix.free_bytes()
    }

    fn sync_all(&self) -> Result<(), StorageError> {
        self.posix.sync_all()
    }

    /// None where the kernel refuses one ring more.
    fn ring_queue(&self, depth: u32) -> Option<Box<dyn Queue>> {
        match RingQueue::new(depth) {
            Ok(queue) => Some(Box::new(queue)),
            Err(error) => {
                // The first reason stays.
                self.refused.get_or_init(|| reason(&error));
                None
            }
        }
    }

    fn ring_refused(&self) -> Option<String> {
        self.refused.get().cloned()
    }

    fn begin_writing_out(&self, file: &File, at: u64, len: u64) {
        self.posix.begin_writing_out(file, at, len);
    }

    fn open_files(&self) -> Option<&Arc<OpenFiles>> {
        self.posix.open_files()
    }

    fn run(&self, ops: &mut [Op<'_>]) {
        if ops.len() < 2 {
            return self.posix.run(ops);
        }
        // A further ring may be refused (memory, descriptors) although the first was granted.
        let Ok(mut ring) = self.take_ring() else { return self.posix.run(ops) };
        let wave = usize::try_from(self.ring_entries).unwrap_or(1);
        ops.chunks_mut(wave).for_each(|ops| run_wave(&mut ring, ops));
        self.give_back(ring);
    }
}

/// Sets up a ring and sees that it works: that the kernel knows the operations, and that a filter which lets rings be
/// made lets them be used as well.
fn probe(entries: u32) -> io::Result<IoUring> {
    let mut ring = IoUring::new(entries)?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    if ![opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE].iter().all(|code| known.is_supported(*code)) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's io_uring cannot read, write and sync"));
    }
    // SAFETY: this operation touches no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let completed = ring.completion().count();
    if completed == 1 { Ok(ring) } else { Err(io::Error::other("io_uring lost an operation that does nothing")) }
}

fn reason(error: &io::Error) -> String {
    let cause = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => " (a seccomp filter, or the sysctl kernel.io_uring_disabled)",
        Some(Errno::ENOSYS) => " (not in this kernel, or a seccomp filter)",
        Some(Errno::ENOMEM) => " (the limit of locked memory)",
        _ => "",
    };
    format!("io_uring is refused: {error}{cause}")
}

/// Ends the process unless taken back: the kernel may still read and write buffers that their owner is about to free.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        process::abort();
    }
}

/// Runs at most as many operations as the ring has entries.
fn run_wave(ring: &mut IoUring, ops: &mut [Op<'_>]) {
    let mut results: Vec<Option<i32>> = vec![None; ops.len()];
    let guard = AbortOnUnwind;
    let submitted = push_all(ring, ops);
    reap_all(ring, submitted, &mut results);
    std::mem::forget(guard);
    for (op, result) in ops.iter_mut().zip(results) {
        match result {
            Some(result) => settle(op, result),
            None => run_one(op), // was not fit for the ring
        }
    }
}

/// Queues the operations, numbered by their place; returns how many.
fn push_all(ring: &mut IoUring, ops: &mut [Op<'_>]) -> usize {
    let mut queue = ring.submission();
    let mut pushed = 0;
    for (number, op) in (0..).zip(ops) {
        let Some(entry) = entry_of(&mut op.kind) else { continue };
        // SAFETY: the file and the buffer are borrowed by `op`, which nobody touches until `run_wave` has reaped every
        // completion; if it cannot, the process ends.
        if unsafe { queue.push(&entry.user_data(number)) }.is_err() {
            process::abort(); // a wave is no longer than the queue, which was empty
        }
        pushed += 1;
    }
    pushed
}

/// Submits what is queued and waits for `expected` completions.
fn reap_all(ring: &mut IoUring, mut expected: usize, results: &mut [Option<i32>]) {
    while expected > 0 {
        if let Err(error) = ring.submit_and_wait(expected) {
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR) => {}
                // The kernel is short of memory or of room for completions: both come back as operations end.
                Some(Errno::EAGAIN | Errno::EBUSY) => std::thread::yield_now(),
                _ => process::abort(),
            }
        }
        for completion in ring.completion() {
            let number = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            match results.get_mut(number) {
                Some(result @ None) => *result = Some(completion.result()),
                _ => process::abort(), // not an operation of this wave: who owns which buffer is no longer known
            }
            expected -= 1;
        }
    }
}

/// The ring's form of an operation; `None` for a position that the ring would take to mean something else.
fn entry_of(kind: &mut OpKind<'_>) -> Option<squeue::Entry> {
    let len = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_OPERATION_BYTES);
    let position = |at: u64| libc::off_t::try_from(at).ok().map(|_| at);
    Some(match kind {
        OpKind::Write { file, at, bytes } => {
            opcode::Write::new(fd(file), bytes.as_ptr(), len(bytes.len())).offset(position(*at)?).build()
        }
        OpKind::WriteDurable { file, at, bytes } => opcode::Write::new(fd(file), bytes.as_ptr(), len(bytes.len()))
            .offset(position(*at)?)
            .rw_flags(libc::RWF_DSYNC)
            .build(),
        OpKind::Read { file, at, into } => {
            opcode::Read::new(fd(file), into.as_mut_ptr(), len(into.len())).offset(position(*at)?).build()
        }
        OpKind::Sync { file } => opcode::Fsync::new(fd(file)).flags(FsyncFlags::DATASYNC).build(),
    })
}

fn fd(file: &File) -> Fd {
    Fd(file.as_fd().as_raw_fd())
}

/// Ends an operation by what the ring answered, or continues it by plain calls.
fn settle(op: &mut Op<'_>, result: i32) {
    let wanted = match &op.kind {
        OpKind::Write { bytes, .. } | OpKind::WriteDurable { bytes, .. } => bytes.len(),
        OpKind::Read { into, .. } => into.len(),
        OpKind::Sync { .. } => 0,
    };
    match usize::try_from(result) {
        Ok(moved) if moved == wanted => op.finish(Ok(moved)),
        Ok(moved) => continue_from(op, moved),
        Err(_) => match Errno::from_raw(result.saturating_neg()) {
            // Positional reads and writes may be done twice; a sync may not.
            Errno::EINTR | Errno::EAGAIN | Errno::ECANCELED if !matches!(op.kind, OpKind::Sync { .. }) => {
                continue_from(op, 0);
            }
            errno => op.finish(Err(errno.into())),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, File) {
        let dir = tempfile::tempdir().unwrap();
        let posix = Posix::open(dir.path()).unwrap();
        let file = posix.open(Path::new("f"), Access::Create).unwrap();
        super::super::write_at(&posix, &file, 0, bytes).unwrap();
        (dir, file)
    }

    fn settled(mut op: Op<'_>, result: i32) -> io::Result<usize> {
        settle(&mut op, result);
        op.take_result()
    }

    #[test]
    fn settle_short_write_writes_the_rest() {
        let (dir, file) = file_with(b"12");
        assert_eq!(settled(Op::write(&file, 0, b"abcde"), 2).unwrap(), 5);
        assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"12cde", "what the ring wrote is not written again");
    }

    #[test]
    fn settle_short_read_reads_on_until_the_end() {
        let (_dir, file) = file_with(b"12345");
        let mut into = *b"ab......";
        assert_eq!(settled(Op::read(&file, 0, &mut into), 2).unwrap(), 5);
        assert_eq!(&into, b"ab345...");
    }

    #[test]
    fn settle_interrupted_write_writes_all() {
        for errno in [Errno::EINTR, Errno::EAGAIN, Errno::ECANCELED] {
            let (dir, file) = file_with(b"12345");
            assert_eq!(settled(Op::write(&file, 1, b"abc"), -(errno as i32)).unwrap(), 3);
            assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"1abc5");
        }
    }

    #[test]
    fn settle_failed_sync_is_final_even_if_interrupted() {
        for errno in [Errno::EINTR, Errno::EAGAIN, Errno::ECANCELED, Errno::EIO] {
            let (_dir, file) = file_with(b"1");
            let error = settled(Op::sync(&file), -(errno as i32)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno as i32));
        }
    }

    #[test]
    fn reason_refused_ring_names_the_likely_cause() {
        assert!(reason(&Errno::EPERM.into()).contains("seccomp"));
        assert!(reason(&Errno::ENOSYS.into()).contains("kernel"));
        assert!(reason(&Errno::ENOMEM.into()).contains("locked memory"));
    }
}
