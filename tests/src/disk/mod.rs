//! A simulated disk: a [`Storage`] in memory that loses, tears and reorders what was not synced.
//!
//! The running system sees files in memory (`memfd`s, so that `sendfile`, `mmap` and `pread` work on them); beside them
//! the disk keeps what is durable and what has changed since. [`SimDisk::crash_image`] makes of both a disk as a power
//! failure may leave it. It promises no more than a real disk:
//! * a sync of a file makes its bytes and length durable, but not the entry that names it;
//! * [`Storage::sync_dir`] makes the entries of a directory durable, but no byte of the files;
//! * whatever is not synced survives in part, in any order (`content.rs` and `names.rs` have the rules).
//!
//! Every call, and every operation of a [`Storage::run`], is numbered from 0; a [`Fault`] is planned for a number.
//! Equal seeds and calls give equal results and an equal [`SimDisk::trace`], byte for byte.

mod content;
mod file;
mod names;
mod outcome;
mod state;
mod syncs;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duramen::storage::{Access, Entry, File, Lock, Op, OpKind, OpenFiles, Storage, StorageError};
use nix::errno::Errno;

use self::{outcome::Outcome, state::State};
use crate::random::Random;

/// What happens at one planned operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Error(Errno),
    /// The thread that wants it panics.
    Panic,
    /// A write stops at a random byte, then fails; any other operation just fails.
    Short(Errno),
    /// A sync fails, and what it should have written counts as written from now on: later syncs succeed without it.
    /// Any other operation just fails.
    DropPages {
        /// What the sync fails with.
        errno: Errno,
        /// Whether the lost bytes leave the page cache as well, so that even the running system no longer sees them.
        evict: bool,
    },
    /// The system stops here: a write may get part of its bytes into the page cache, anything else does not happen,
    /// and every later call fails. See [`SimDisk::is_crash`].
    Crash,
}

/// How a disk is found after the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Only the process died: everything written is there, and what was not synced can still be lost.
    ProcessOnly,
    /// Power failed: nothing that was not synced is there.
    LoseAllUnsynced,
    /// Power failed just after everything had reached the disk.
    KeepAll,
    /// Power failed when all lengths and names had reached the disk, but no data: what was appended reads as zeros.
    ZeroTail,
    /// Power failed when some sectors, lengths and names had reached the disk, as the seed chooses.
    Random(u64),
    /// As `Random`, on a disk that tears single sectors at any byte as well.
    Torn(u64),
}

/// The simulated disk. Clones are handles of the same disk; [`SimDisk::deep_clone`] makes another disk.
///
/// # Example
/// ```
/// use std::path::Path;
/// use duramen::storage::{Access, Storage, sync, write_at};
/// use duramen_tests::disk::{Crash, SimDisk};
///
/// let disk = SimDisk::new(1);
/// let file = disk.open(Path::new("a"), Access::Create)?;
/// write_at(&disk, &file, 0, b"bytes")?;
/// sync(&disk, &file)?;
/// assert!(disk.crash_image(Crash::LoseAllUnsynced).files().is_empty(), "the name was not synced");
/// disk.sync_dir(Path::new(""))?;
/// assert_eq!(disk.crash_image(Crash::LoseAllUnsynced).files()[Path::new("a")], b"bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>, Arc<OpenFiles>);

/// What may be kept open on every eighth disk, so that files are closed and opened again all the time.
const FEW_OPEN: usize = 2;

impl SimDisk {
    /// An empty disk. The seed decides the order in which operations of one `run` end and where short writes stop, and,
    /// where it is 7 modulo 8, that two files or maps at most are kept open.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State::new(seed), if seed % 8 == 7 { FEW_OPEN } else { usize::MAX })
    }

    /// The same disk, on which so many files and maps at most are kept open from now on.
    #[must_use]
    pub fn keeping_open(self, limit: usize) -> Self {
        self.1.set_limit(limit);
        self
    }

    /// A disk with the files and directories of a real one, all durable.
    ///
    /// # Errors
    /// What the real disk says.
    pub fn load(seed: u64, dir: &Path) -> io::Result<Self> {
        let mut state = State::new(seed);
        let mut next = vec![PathBuf::new()];
        while let Some(parent) = next.pop() {
            let mut names = fs::read_dir(dir.join(&parent))?.collect::<io::Result<Vec<_>>>()?;
            names.sort_by_key(fs::DirEntry::file_name);
            for found in names {
                let path = parent.join(found.file_name());
                if found.file_type()?.is_dir() {
                    state.add_durable(&path, None)?;
                    next.push(path);
                } else {
                    state.add_durable(&path, Some(fs::read(found.path())?))?;
                }
            }
        }
        Ok(Self::of(state, usize::MAX))
    }

    /// Writes every file that the running system sees, and every directory that holds one, below `dir` on a real disk.
    ///
    /// # Errors
    /// What the real disk says.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        for (path, bytes) in self.files() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
            fs::write(path, bytes)?;
        }
        Ok(())
    }

    fn of(state: State, open_files: usize) -> Self {
        Self(Arc::new(Mutex::new(state)), Arc::new(OpenFiles::new(open_files)))
    }

    /// The number of operations so far, which is the number of the next one.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Plans what happens at operation number `operation`; one fault for a number, the last one planned.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state().plan.insert(operation, fault);
    }

    /// Plans what happens at the next operation that [`SimDisk::trace`] will describe by a line containing `text`, such
    /// as `"sync 00000000000000000000.log"`.
    pub fn fail_next(&self, text: &str, fault: Fault) {
        self.state().plan_by_name.push((text.to_string(), fault));
    }

    /// Stops the system at operation number `operation`: [`Fault::Crash`].
    pub fn crash_at(&self, operation: u64) {
        self.fail_at(operation, Fault::Crash);
    }

    /// Forgets the faults that have not happened yet and lifts the capacity.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plan.clear();
        state.plan_by_name.clear();
        state.capacity = None;
    }

    /// Limits the lengths of all files together; a write beyond it is cut short and fails with `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The time that files written from now on bear, in milliseconds since 1970.
    pub fn set_clock_ms(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    /// Whether a planned crash has happened.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Whether an error says that the system has stopped, rather than that the disk failed.
    #[must_use]
    pub fn is_crash(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Stopped>())
    }

    /// One line for every operation so far: number, what was tried, and how it ended.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// A disk as it may be found after a crash at this moment: another disk, with no fault planned, no lock held and
    /// operations counted from 0. Files opened on this disk are not files of that one.
    #[must_use]
    pub fn crash_image(&self, how: Crash) -> Self {
        Self::of(self.state().crash_image(how), self.1.limit())
    }

    /// What these crashes may leave, each with its image; of those that leave the same bytes under the same names the first
    /// alone. That only the process died counts as another state, since more was promised for it.
    #[must_use]
    pub fn distinct_crash_images(&self, crashes: impl IntoIterator<Item = Crash>) -> Vec<(Crash, Self)> {
        let mut found: Vec<(Crash, Self)> = Vec::new();
        let mut seen = Vec::new();
        for how in crashes {
            let image = self.crash_image(how);
            let state = (how == Crash::ProcessOnly, image.files());
            if !seen.contains(&state) {
                seen.push(state);
                found.push((how, image));
            }
        }
        found
    }

    /// Another disk with the same files, all durable: the image of [`Crash::KeepAll`].
    #[must_use]
    pub fn deep_clone(&self) -> Self {
        self.crash_image(Crash::KeepAll)
    }

    /// Every file by path with its bytes, as the running system sees them. Not counted as an operation.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.state().files()
    }

    /// What a power failure could still take: the paths of files with unsynced bytes or length, and `/` if any
    /// directory has unsynced entries. Not counted as an operation.
    #[must_use]
    pub fn unsynced(&self) -> Vec<PathBuf> {
        self.state().unsynced()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one numbered operation whose faults all mean the same: it fails.
    fn operate<T: Outcome>(
        &self,
        what: impl FnOnce(&State) -> String,
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.state().operate(what, |state, fault| match fault {
            None => effect(state),
            Some(fault) => Err(state.fail(fault)),
        })
    }

    fn operate_on_path<T: Outcome>(
        &self,
        name: &'static str,
        path: &Path,
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        self.operate(|_| format!("{name} {}", path.display()), effect)
            .map_err(|source| StorageError::new(name, path, source))
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimDisk").field("operations", &state.operations).field("crashed", &state.crashed).finish()
    }
}

impl Storage for SimDisk {
    fn lock(&self, path: &Path) -> Result<Lock, StorageError> {
        let node = self.operate_on_path("lock", path, |state| state.lock(path))?;
        Ok(Lock::new(Box::new(Held { disk: self.clone(), node })))
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, StorageError> {
        self.operate_on_path("list", dir, |state| state.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.operate_on_path("create directory", dir, |state| state.create_dir(dir))
    }

    fn open(&self, path: &Path, access: Access) -> Result<File, StorageError> {
        let name = if access == Access::Create { "create" } else { "open" };
        self.operate_on_path(name, path, |state| state.open(path, access))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.operate(|_| format!("rename {} to {}", from.display(), to.display()), |state| state.rename(from, to))
            .map_err(|source| StorageError::new("rename", from, source))
    }

    fn unlink(&self, path: &Path) -> Result<(), StorageError> {
        self.operate_on_path("remove", path, |state| state.unlink(path))
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.operate_on_path("remove directory", dir, |state| state.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.operate_on_path("sync directory", dir, |state| state.sync_dir(dir))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.operate(|state| format!("len {}", state.label(file)), |state| state.len(file))
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        self.operate(|state| format!("modified {}", state.label(file)), |state| state.modified_ms(file))
    }

    fn set_modified_ms(&self, file: &File, modified_ms: i64) -> io::Result<()> {
        self.operate(
            |state| format!("set_modified {} {modified_ms}", state.label(file)),
            |state| state.set_modified_ms(file, modified_ms),
        )
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.operate(|state| format!("set_len {} {len}", state.label(file)), |state| state.set_len(file, len))
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.operate(|state| format!("allocate {} {len}", state.label(file)), |state| state.allocate(file, len))
    }

    fn forget_cached(&self, file: &File) -> io::Result<()> {
        self.operate(|state| format!("forget {}", state.label(file)), |state| state.forget_cached(file))
    }

    fn open_files(&self) -> Option<&Arc<OpenFiles>> {
        Some(&self.1)
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.state().free())
    }

    fn sync_all(&self) -> Result<(), StorageError> {
        self.state()
            .operate(|_| "sync all".into(), |state, fault| state.sync_all(fault))
            .map_err(|source| StorageError::new("sync", Path::new(""), source))
    }

    fn run(&self, ops: &mut [Op<'_>]) {
        let mut state = self.state();
        let mut order: Vec<usize> = (0..ops.len()).collect();
        state.rng.shuffle(&mut order);
        for i in order {
            let result = match &mut ops[i].kind {
                OpKind::Write { file, at, bytes } => state.operate(
                    |state| format!("write {} {}+{}", state.label(file), at, bytes.len()),
                    |state, fault| state.write(file, *at, bytes, fault),
                ),
                OpKind::WriteDurable { file, at, bytes } => state.operate(
                    |state| format!("write durably {} {}+{}", state.label(file), at, bytes.len()),
                    |state, fault| state.write_durable(file, *at, bytes, fault),
                ),
                OpKind::Sync { file } => {
                    state.operate(|state| format!("sync {}", state.label(file)), |state, fault| state.sync(file, fault))
                }
                OpKind::Read { file, at, into } => {
                    let wanted = into.len();
                    state.operate(
                        |state| format!("read {} {at}+{wanted}", state.label(file)),
                        |state, fault| state.read(file, *at, into, fault),
                    )
                }
            };
            ops[i].finish(result);
        }
    }
}

/// The error of every call after a crash.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated system has stopped")
    }
}

impl std::error::Error for Stopped {}

/// A held lock: freed when dropped.
#[derive(Debug)]
struct Held {
    disk: SimDisk,
    node: names::Node,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.disk.state().locked.remove(&self.node);
    }
}
