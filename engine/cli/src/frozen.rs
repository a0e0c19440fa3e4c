//! A log directory as it is at one moment, for the engine to open without changing it.
//!
//! Opening a log changes files: leftovers go, a torn tail is cut, indexes and snapshots are made anew, and the
//! clean-shutdown marker is taken away. On this storage all of that happens in memory. So what a dry run says is what the
//! engine itself decides, not what something beside it would. Keeps: nothing on the disk is locked, written, made,
//! renamed or removed; a log file that grows meanwhile ends where it ended when it was listed; files other than logs are
//! read whole before they are used, so none of them can be cut under a map.

use duramen::storage::{
    Access, Entry, EntryKind, File, Lock, Op, OpKind, Posix, Storage, StorageError, read_at, read_file,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// More bytes than any file but a log has.
const MAX_BYTES: u64 = 1 << 30;
/// The number of files that are known by their descriptor only.
const BY_DESCRIPTOR: u64 = u64::MAX;

/// What a name stands for.
#[derive(Debug)]
struct Node {
    content: Content,
    modified_ms: i64,
}

#[derive(Debug)]
enum Content {
    /// A log on the disk: where, and its length here.
    Log(PathBuf, u64),
    /// Another file on the disk.
    Other(PathBuf, u64),
    /// Made or changed here.
    Memory(Vec<u8>),
    /// Made here, only measured: its length.
    Measured(u64),
}

#[derive(Debug, Default)]
struct State {
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    /// Numbers of files are never used again, so that one which lost its name keeps its bytes.
    nodes: BTreeMap<u64, Node>,
}

/// A log directory of which only some partitions are seen.
#[derive(Debug)]
pub(crate) struct Frozen {
    disk: Posix,
    /// Guards names and contents; held while memory is copied, never while the disk is read.
    state: Mutex<State>,
    /// Whether logs made from now on are only measured.
    measures: AtomicBool,
}

impl Frozen {
    /// Looks at a log directory now: its own files, and of the directories in it the named ones, each under the name that
    /// it shall have here.
    pub(crate) fn look(home: &Path, directories: &[(&str, &str)]) -> Result<Self, StorageError> {
        let disk = Posix::open(home)?;
        let mut state = State::default();
        for entry in disk.list(Path::new(""))? {
            state.add(Path::new(""), Path::new(""), &entry);
        }
        for (name, as_name) in directories {
            state.directories.insert(PathBuf::from(as_name));
            for entry in disk.list(Path::new(name))? {
                state.add(Path::new(name), Path::new(as_name), &entry);
            }
        }
        Ok(Self { disk, state: Mutex::new(state), measures: AtomicBool::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on logs that are made take no memory: whatever is written to them is only measured.
    pub(crate) fn measure_new_logs(&self) {
        self.measures.store(true, Ordering::Relaxed);
    }

    /// Names of all files, to tell whether anything came or went.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    fn open_node(&self, path: &Path, access: Access) -> io::Result<File> {
        let id = *self.state().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let (origin, is_log) = match self.state().nodes.get(&id).map(|node| &node.content) {
            Some(Content::Memory(bytes)) if access == Access::Read => return Ok(File::new(descriptor(bytes)?, id)),
            Some(Content::Log(origin, _)) => (origin.clone(), true),
            Some(Content::Other(origin, _)) => (origin.clone(), false),
            _ => return Ok(File::new(descriptor(&[])?, id)),
        };
        let named = |error: StorageError| error.source;
        if is_log {
            let file = self.disk.open(&origin, Access::Read).map_err(named)?;
            return Ok(File::new(file.as_fd().try_clone_to_owned()?, id));
        }
        let bytes = read_file(&self.disk, &origin, MAX_BYTES).map_err(named)?.ok_or(io::ErrorKind::NotFound)?;
        if access == Access::Read {
            return Ok(File::new(descriptor(&bytes)?, BY_DESCRIPTOR));
        }
        self.state().change(id, |content| *content = Content::Memory(bytes));
        Ok(File::new(descriptor(&[])?, id))
    }

    fn read(&self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let limit = match self.state().nodes.get(&file.id()).map(|node| &node.content) {
            Some(Content::Memory(bytes)) => return Ok(copy(bytes, at, into)),
            Some(Content::Log(_, len)) => *len,
            _ => u64::MAX,
        };
        let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        read_at(&self.disk, file, at, into.get_mut(..room).unwrap_or_default())
    }

    fn write(&self, file: &File, at: u64, new: &[u8]) -> io::Result<usize> {
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = at.checked_add(new.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        match self.state().nodes.get_mut(&file.id()).map(|node| &mut node.content) {
            Some(Content::Measured(len)) => {
                *len = (*len).max(u64::try_from(end).unwrap_or(u64::MAX));
                Ok(new.len())
            }
            Some(Content::Memory(bytes)) => {
                bytes.resize(bytes.len().max(end), 0);
                bytes.get_mut(at..end).unwrap_or_default().copy_from_slice(new);
                Ok(new.len())
            }
            _ => Err(read_only()),
        }
    }
}

impl State {
    fn add(&mut self, dir: &Path, as_dir: &Path, entry: &Entry) {
        if entry.kind != EntryKind::File {
            return;
        }
        let origin = dir.join(&entry.name);
        let is_log = entry.name.to_string_lossy().contains(".log");
        let content = if is_log { Content::Log(origin, entry.len) } else { Content::Other(origin, entry.len) };
        self.insert(as_dir.join(&entry.name), Node { content, modified_ms: entry.modified_ms });
    }

    fn insert(&mut self, path: PathBuf, node: Node) -> u64 {
        let id = self.nodes.last_key_value().map_or(0, |(last, _)| last + 1);
        self.nodes.insert(id, node);
        self.names.insert(path, id);
        id
    }

    fn change(&mut self, id: u64, change: impl FnOnce(&mut Content)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            change(&mut node.content);
        }
    }

    fn entry(&self, path: &Path, id: u64) -> Option<Entry> {
        let node = self.nodes.get(&id)?;
        let len = match &node.content {
            Content::Log(_, len) | Content::Other(_, len) | Content::Measured(len) => *len,
            Content::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        };
        let name = path.file_name()?.to_os_string();
        Some(Entry { name, kind: EntryKind::File, len, modified_ms: node.modified_ms })
    }

    fn list(&self, dir: &Path) -> Vec<Entry> {
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        let directories = self.directories.iter().filter(inside).filter_map(|path| {
            let name = path.file_name()?.to_os_string();
            Some(Entry { name, kind: EntryKind::Directory, len: 0, modified_ms: 0 })
        });
        let files = self.names.iter().filter(|(path, _)| inside(path)).filter_map(|(path, id)| self.entry(path, *id));
        let mut entries: Vec<_> = directories.chain(files).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }
}

impl Storage for Frozen {
    /// Nobody else sees what is done here, so there is nobody to be excluded.
    fn lock(&self, _: &Path) -> Result<Lock, StorageError> {
        Ok(Lock::new(Box::new(())))
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, StorageError> {
        let state = self.state();
        if dir != Path::new("") && !state.directories.contains(dir) {
            return Err(StorageError::new("list", dir, io::ErrorKind::NotFound.into()));
        }
        Ok(state.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), StorageError> {
        let new = self.state().directories.insert(dir.to_path_buf());
        let taken = || StorageError::new("create directory", dir, io::ErrorKind::AlreadyExists.into());
        if new { Ok(()) } else { Err(taken()) }
    }

    fn open(&self, path: &Path, access: Access) -> Result<File, StorageError> {
        let failed = |error| StorageError::new("open", path, error);
        if access != Access::Create {
            return self.open_node(path, access).map_err(failed);
        }
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let measured = self.measures.load(Ordering::Relaxed) && path.to_string_lossy().contains(".log");
        let content = if measured { Content::Measured(0) } else { Content::Memory(Vec::new()) };
        let id = state.insert(path.to_path_buf(), Node { content, modified_ms: 0 });
        descriptor(&[]).map(|fd| File::new(fd, id)).map_err(failed)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let mut state = self.state();
        let not_there = || StorageError::new("rename", from, io::ErrorKind::NotFound.into());
        let id = state.names.remove(from).ok_or_else(not_there)?;
        state.names.insert(to.to_path_buf(), id);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> Result<(), StorageError> {
        let not_there = || StorageError::new("remove", path, io::ErrorKind::NotFound.into());
        self.state().names.remove(path).map(|_| ()).ok_or_else(not_there)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), StorageError> {
        let mut state = self.state();
        if !state.list(dir).is_empty() {
            return Err(StorageError::new("remove directory", dir, io::ErrorKind::DirectoryNotEmpty.into()));
        }
        state.directories.remove(dir);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> Result<(), StorageError> {
        Ok(())
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        match self.state().nodes.get(&file.id()).map(|node| &node.content) {
            Some(Content::Memory(bytes)) => Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Some(Content::Log(_, len) | Content::Measured(len)) => Ok(*len),
            _ => self.disk.len(file),
        }
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        self.state().nodes.get(&file.id()).map_or_else(|| self.disk.modified_ms(file), |node| Ok(node.modified_ms))
    }

    fn set_modified_ms(&self, file: &File, modified_ms: i64) -> io::Result<()> {
        if let Some(node) = self.state().nodes.get_mut(&file.id()) {
            node.modified_ms = modified_ms;
        }
        Ok(())
    }

    fn set_len(&self, file: &File, new_len: u64) -> io::Result<()> {
        match self.state().nodes.get_mut(&file.id()).map(|node| &mut node.content) {
            Some(Content::Memory(bytes)) => {
                bytes.resize(usize::try_from(new_len).map_err(|_| io::ErrorKind::FileTooLarge)?, 0);
                Ok(())
            }
            Some(Content::Log(_, len)) if new_len <= *len => {
                *len = new_len;
                Ok(())
            }
            _ => Err(read_only()),
        }
    }

    fn allocate(&self, _: &File, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn run(&self, ops: &mut [Op<'_>]) {
        for op in ops {
            let result = match &mut op.kind {
                OpKind::Write { file, at, bytes } | OpKind::WriteDurable { file, at, bytes } => {
                    self.write(file, *at, bytes)
                }
                OpKind::Read { file, at, into } => self.read(file, *at, into),
                OpKind::Sync { .. } => Ok(0),
            };
            op.finish(result);
        }
    }
}

/// A file in memory with these bytes.
fn descriptor(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = fs::File::from(memfd_create(c"duramen", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

fn copy(bytes: &[u8], at: u64, into: &mut [u8]) -> usize {
    let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    let count = from.len().min(into.len());
    into.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
    count
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a log is only looked at here")
}
