//! A log directory through ordinary blocking system calls.
//!
//! Owns the walk from the directory to a file: every path is taken apart, each part is opened relative to the part
//! before it, and no symbolic link is followed, so a name that came over the network cannot lead anywhere else. Knows
//! nothing of what is in the files.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{
        AtFlags, FallocateFlags, FcntlArg, OFlag, PosixFadviseAdvice, fallocate, fcntl, openat, posix_fadvise, renameat,
    },
    libc,
    sys::{
        stat::{FileStat, Mode, fstat, fstatat, futimens, mkdirat},
        statvfs::fstatvfs,
        time::TimeSpec,
        uio::{pread, pwrite},
    },
    unistd::{UnlinkatFlags, fdatasync, fsync, ftruncate, syncfs, unlinkat},
};

use super::{Access, Entry, EntryKind, File, Lock, Op, OpKind, OpenFiles, Storage, StorageError, writeback};

const FILE_MODE: Mode = Mode::from_bits_truncate(0o640);
const DIR_MODE: Mode = Mode::from_bits_truncate(0o750);
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A log directory through `pread`, `pwrite` and `fdatasync`.
///
/// # Example
/// ```
/// use std::path::Path;
/// use duramen::storage::{Access, Posix, Storage, sync, write_at};
///
/// let dir = std::env::temp_dir().join(format!("duramen-doc-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// let disk = Posix::open(&dir)?;
/// let name = Path::new("greeting");
/// let file = disk.open(name, Access::Create)?;
/// write_at(&disk, &file, 0, b"hello")?;
/// sync(&disk, &file)?; // now the bytes survive power loss,
/// disk.sync_dir(Path::new(""))?; // and now so does the name
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Posix {
    root: OwnedFd,
    next_file_id: AtomicU64,
    open_files: Arc<OpenFiles>,
}

impl Posix {
    /// Opens a log directory, which must exist. `root` itself may be reached through symbolic links: it comes from the
    /// configuration, not from a name.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what the disk says.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(root, flags, Mode::empty()).map_err(named("open", root))?;
        Ok(Self { root, next_file_id: AtomicU64::new(0), open_files: Arc::default() })
    }

    /// Opens a directory below the root; the empty path is the root.
    fn open_dir(&self, dir: &Path) -> io::Result<OwnedFd> {
        let mut at = openat(&self.root, ".", DIRECTORY, Mode::empty())?;
        for component in dir.components() {
            at = step_into(&at, name_of(component)?)?;
        }
        Ok(at)
    }

    /// Opens the directory that holds `path`, and gives the last name of the path.
    fn open_parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = name_of(path.components().next_back().ok_or_else(|| invalid("the path is empty"))?)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.open_dir(parent)?, name))
    }

    fn list_in(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let fd = self.open_dir(dir)?;
        let mut reader = Dir::from_fd(fd.try_clone()?)?;
        let mut entries = Vec::new();
        for found in reader.iter() {
            let found = found?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match fstatat(&fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push(entry(name, &stat)),
                Err(Errno::ENOENT) => {} // removed since the directory was read
                Err(errno) => return Err(errno.into()),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open_file(&self, path: &Path, access: Access, kept: OFlag) -> io::Result<File> {
        let (dir, name) = self.open_parent(path)?;
        // Without O_NONBLOCK, opening a pipe that someone put here would wait for its other end for ever.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let flags = flags
            | match access {
                Access::Read => OFlag::O_RDONLY,
                Access::Write => OFlag::O_RDWR,
                Access::Create => OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
            };
        let fd = retry(|| openat(&dir, name, flags | kept, FILE_MODE))?;
        refuse_unless_regular(&fd)?;
        // A regular file ignores the flag in system calls, but the ring would answer EAGAIN instead of waiting.
        fcntl(&fd, FcntlArg::F_SETFL(kept))?;
        Ok(File::new(fd, self.next_file_id.fetch_add(1, Ordering::Relaxed)))
    }

    fn lock_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let (dir, name) = self.open_parent(path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let fd = retry(|| openat(&dir, name, flags, FILE_MODE))?;
        refuse_unless_regular(&fd)?;
        fcntl(&fd, FcntlArg::F_OFD_SETLK(&whole_file_write_lock()))?;
        Ok(fd)
    }

    fn rename_in(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.open_parent(from)?;
        let (to_dir, to_name) = self.open_parent(to)?;
        Ok(renameat(&from_dir, from_name, &to_dir, to_name)?)
    }

    fn unlink_in(&self, path: &Path, flag: UnlinkatFlags) -> io::Result<()> {
        let (dir, name) = self.open_parent(path)?;
        Ok(unlinkat(&dir, name, flag)?)
    }
}

impl Storage for Posix {
    fn lock(&self, path: &Path) -> Result<Lock, StorageError> {
        self.lock_file(path).map(|fd| Lock::new(Box::new(fd))).map_err(named("lock", path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, StorageError> {
        self.list_in(dir).map_err(named("list", dir))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.open_parent(dir)
            .and_then(|(parent, name)| Ok(mkdirat(&parent, name, DIR_MODE)?))
            .map_err(named("create directory", dir))
    }

    fn open(&self, path: &Path, access: Access) -> Result<File, StorageError> {
        self.open_file(path, access, OFlag::empty()).map_err(named("open", path))
    }

    fn open_direct(&self, path: &Path) -> Result<File, StorageError> {
        match self.open_file(path, Access::Write, OFlag::O_DIRECT) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.open(path, Access::Write),
            opened => opened.map_err(named("open", path)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.rename_in(from, to).map_err(named("rename", from))
    }

    fn unlink(&self, path: &Path) -> Result<(), StorageError> {
        self.unlink_in(path, UnlinkatFlags::NoRemoveDir).map_err(named("remove", path))
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.unlink_in(dir, UnlinkatFlags::RemoveDir).map_err(named("remove directory", dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError> {
        let fd = self.open_dir(dir).map_err(named("open", dir))?;
        fsync(fd).map_err(io::Error::from).map_err(named("sync directory", dir))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        let stat = fstat(file.as_fd())?;
        u64::try_from(stat.st_size).map_err(|_| invalid("a file of negative length"))
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        Ok(modified_ms(&fstat(file.as_fd())?))
    }

    fn set_modified_ms(&self, file: &File, modified_ms: i64) -> io::Result<()> {
        let modified = TimeSpec::new(modified_ms.div_euclid(1000), modified_ms.rem_euclid(1000) * 1_000_000);
        Ok(futimens(file.as_fd(), &TimeSpec::UTIME_OMIT, &modified)?)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        let len = offset(len)?;
        Ok(retry(|| ftruncate(file.as_fd(), len))?)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(()); // fallocate refuses zero
        }
        let len = offset(len)?;
        Ok(retry(|| fallocate(file.as_fd(), FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len))?)
    }

    fn forget_cached(&self, file: &File) -> io::Result<()> {
        Ok(posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }

    fn begin_writing_out(&self, file: &File, at: u64, len: u64) {
        writeback::begin(file, at, len);
    }

    fn run(&self, ops: &mut [Op<'_>]) {
        ops.iter_mut().for_each(run_one);
    }

    fn open_files(&self) -> Option<&Arc<OpenFiles>> {
        Some(&self.open_files)
    }

    fn free_bytes(&self) -> Option<u64> {
        let found = fstatvfs(&self.root).ok()?;
        Some(found.blocks_available().saturating_mul(found.fragment_size()))
    }

    fn sync_all(&self) -> Result<(), StorageError> {
        syncfs(&self.root).map_err(named("sync the file system of", Path::new("")))
    }
}

/// Runs one operation to its end on the calling thread.
pub(super) fn run_one(op: &mut Op<'_>) {
    continue_from(op, 0);
}

/// Runs the rest of an operation of which the first `done` bytes have been moved already.
pub(super) fn continue_from(op: &mut Op<'_>, done: usize) {
    let result = match &mut op.kind {
        OpKind::Write { file, at, bytes } => write_all(file, *at, bytes, done),
        OpKind::WriteDurable { file, at, bytes } => write_all(file, *at, bytes, done)
            .and_then(|written| fdatasync(file.as_fd()).map(|()| written).map_err(io::Error::from)),
        OpKind::Read { file, at, into } => read_full(file, *at, into, done),
        // Not repeated, not even after EINTR: a second sync may succeed with the data gone.
        OpKind::Sync { file } => fdatasync(file.as_fd()).map(|()| 0).map_err(io::Error::from),
    };
    op.finish(result);
}

fn write_all(file: &File, at: u64, bytes: &[u8], mut done: usize) -> io::Result<usize> {
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match retry(|| pwrite(file.as_fd(), rest, position(at, done)?))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => done += written,
        }
    }
    Ok(bytes.len())
}

/// Reads from `at` until `into` is full or the file ends; the first `done` bytes are there already.
pub(super) fn read_full(file: &File, at: u64, into: &mut [u8], mut done: usize) -> io::Result<usize> {
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match retry(|| pread(file.as_fd(), rest, position(at, done)?))? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Repeats a system call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The position `done` bytes after `at`, as the kernel takes it.
fn position(at: u64, done: usize) -> nix::Result<libc::off_t> {
    let done = u64::try_from(done).map_err(|_| Errno::EOVERFLOW)?;
    let position = at.checked_add(done).ok_or(Errno::EOVERFLOW)?;
    libc::off_t::try_from(position).map_err(|_| Errno::EOVERFLOW)
}

/// A length as the kernel takes it.
fn offset(len: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(len).map_err(|_| Errno::EOVERFLOW.into())
}

fn step_into(at: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match openat(at, name, DIRECTORY, Mode::empty()) {
        // The kernel says ENOTDIR for a link as well; the caller is owed the difference.
        Err(Errno::ENOTDIR) if is_link(at, name) => Err(Errno::ELOOP.into()),
        result => Ok(result?),
    }
}

fn is_link(at: &OwnedFd, name: &OsStr) -> bool {
    fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| kind(&stat) == libc::S_IFLNK)
}

/// The name in a component, unless it leads up or to another root.
fn name_of(component: Component<'_>) -> io::Result<&OsStr> {
    match component {
        Component::Normal(name) => Ok(name),
        _ => Err(invalid("the path is not a plain path below the log directory")),
    }
}

fn refuse_unless_regular(fd: &OwnedFd) -> io::Result<()> {
    match kind(&fstat(fd)?) {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(Errno::EISDIR.into()),
        _ => Err(invalid("not a regular file")),
    }
}

fn kind(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

fn entry(name: &OsStr, stat: &FileStat) -> Entry {
    let (kind, len) = match kind(stat) {
        libc::S_IFREG => (EntryKind::File, u64::try_from(stat.st_size).unwrap_or(0)),
        libc::S_IFDIR => (EntryKind::Directory, 0),
        _ => (EntryKind::Other, 0),
    };
    Entry { name: name.to_os_string(), kind, len, modified_ms: modified_ms(stat) }
}

fn modified_ms(stat: &FileStat) -> i64 {
    stat.st_mtime.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000)
}

#[allow(clippy::cast_possible_truncation)] // both constants are 0 or 1; libc gives them the wrong width
fn whole_file_write_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0, // to the end, wherever that moves
        l_pid: 0, // an open file description's lock requires zero
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Names an operation and a path, for `map_err`.
fn named<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> StorageError {
    move |source| StorageError::new(operation, path, source.into())
}
