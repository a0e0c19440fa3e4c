//! The state of a simulated disk, and what each operation does to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use duramen::storage::{Access, Entry, EntryKind, File};
use nix::{errno::Errno, unistd::ftruncate};

use super::{
    Crash, Fault, Random, Stopped,
    content::{self, Content},
    file::{Cache, SimFile, read_fully, write_fully},
    names::{self, Names, Node, ROOT},
    outcome::Outcome,
};

/// No test needs longer files, and a mistaken length should fail rather than fill the memory.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Tells the disks of a process apart, so that a file of one is refused by another.
static NEXT_DISK: AtomicU32 = AtomicU32::new(1);

pub(super) struct State {
    disk: u32,
    seed: u64,
    pub(super) rng: Random,
    pub(super) operations: u64,
    pub(super) plan: BTreeMap<u64, Fault>,
    /// Faults for the next operation whose description contains a text.
    pub(super) plan_by_name: Vec<(String, Fault)>,
    pub(super) crashed: bool,
    pub(super) trace: Vec<String>,
    pub(super) locked: BTreeSet<Node>,
    pub(super) capacity: Option<u64>,
    pub(super) now_ms: i64,
    pub(super) names: Names,
    pub(super) files: BTreeMap<Node, SimFile>,
    next_node: Node,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            disk: NEXT_DISK.fetch_add(1, Ordering::Relaxed),
            seed,
            rng: Random::new(seed),
            operations: 0,
            plan: BTreeMap::new(),
            plan_by_name: Vec::new(),
            crashed: false,
            trace: Vec::new(),
            locked: BTreeSet::new(),
            capacity: None,
            now_ms: 0,
            names: Names::default(),
            files: BTreeMap::new(),
            next_node: ROOT + 1,
        }
    }

    /// Adds a durable file or directory, without counting an operation.
    pub(super) fn add_durable(&mut self, path: &Path, bytes: Option<Vec<u8>>) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let Some(bytes) = bytes else {
            self.create_dir(path)?;
            self.names.sync(dir);
            return Ok(());
        };
        let bytes = Arc::new(bytes);
        let node = self.create_file(dir, name, path);
        let file = self.file_mut(node)?;
        (file.content, file.cache) = (Content::durable(bytes.clone()), Cache::Bytes(bytes));
        self.names.sync(dir);
        Ok(())
    }

    /// Counts, runs and records one operation; after a crash, refuses it.
    pub(super) fn operate<T: Outcome>(
        &mut self,
        what: impl FnOnce(&State) -> String,
        effect: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.crashed {
            return Err(stopped());
        }
        let number = self.operations;
        self.operations += 1;
        let what = what(self);
        let fault = self.plan.remove(&number).or_else(|| {
            let planned = self.plan_by_name.iter().position(|(text, _)| what.contains(text))?;
            Some(self.plan_by_name.remove(planned).1)
        });
        let result = match effect(self, fault) {
            Err(_) if fault == Some(Fault::Crash) => Err(self.fail(Fault::Crash)), // even where it had failed anyway
            result => result,
        };
        let outcome = match &result {
            Ok(value) => value.outcome(),
            Err(error) => {
                error.raw_os_error().map_or(error.to_string(), |errno| format!("{:?}", Errno::from_raw(errno)))
            }
        };
        self.trace.push(format!("{number} {what}: {outcome}"));
        result
    }

    /// The error of an operation that a fault prevents.
    pub(super) fn fail(&mut self, fault: Fault) -> io::Error {
        match fault {
            Fault::Error(errno) | Fault::Short(errno) | Fault::DropPages { errno, .. } => errno.into(),
            Fault::Panic => panic!("a planned panic"),
            Fault::Crash => {
                self.crashed = true;
                stopped()
            }
        }
    }

    pub(super) fn label(&self, file: &File) -> String {
        self.node_of(file).ok().and_then(|node| self.files.get(&node)).map_or("?".into(), |file| file.label.clone())
    }

    pub(super) fn lock(&mut self, path: &Path) -> io::Result<Node> {
        let (dir, name) = self.parent(path)?;
        let node = match self.names.get(dir, name) {
            Some(node) => self.require_file(node)?,
            None => self.create_file(dir, name, path),
        };
        if self.locked.insert(node) { Ok(node) } else { Err(Errno::EAGAIN.into()) }
    }

    pub(super) fn list(&mut self, dir: &Path) -> io::Result<Vec<Entry>> {
        let dir = self.directory(dir)?;
        let entry = |(name, node): (&OsString, Node)| match self.files.get(&node) {
            Some(file) => Entry {
                name: name.clone(),
                kind: EntryKind::File,
                len: file.content.len() as u64,
                modified_ms: file.modified_ms,
            },
            None => Entry { name: name.clone(), kind: EntryKind::Directory, len: 0, modified_ms: 0 },
        };
        Ok(self.names.list(dir).map(entry).collect())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        if self.names.get(dir, name).is_some() {
            return Err(Errno::EEXIST.into());
        }
        let node = self.new_node();
        self.names.set(dir, name, Some(node));
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path, access: Access) -> io::Result<File> {
        let (dir, name) = self.parent(path)?;
        let node = match (self.names.get(dir, name), access) {
            (Some(_), Access::Create) => return Err(Errno::EEXIST.into()),
            (None, Access::Create) => self.create_file(dir, name, path),
            (Some(node), _) => self.require_file(node)?,
            (None, _) => return Err(Errno::ENOENT.into()),
        };
        let fd = self.file_mut(node)?.memory()?;
        Ok(File::new(fd, self.id_of(node, access != Access::Read)))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let node = self.names.get(from_dir, from_name).ok_or(Errno::ENOENT)?;
        let is_file = self.files.contains_key(&node);
        if !is_file && to != from && to.starts_with(from) {
            return Err(Errno::EINVAL.into());
        }
        match self.names.get(to_dir, to_name) {
            Some(target) if target == node => return Ok(()),
            Some(target) => self.make_way(target, is_file)?,
            None => {}
        }
        self.names.rename((from_dir, from_name), (to_dir, to_name), node);
        match self.files.get_mut(&node) {
            Some(file) => file.label = to.display().to_string(),
            None => self.relabel(),
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let node = self.names.get(dir, name).ok_or(Errno::ENOENT)?;
        self.require_file(node)?;
        self.file_mut(node)?.cache = Cache::Unnamed;
        self.names.set(dir, name, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let node = self.names.get(parent, name).ok_or(Errno::ENOENT)?;
        self.require_empty_dir(node)?;
        self.names.set(parent, name, None);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let dir = self.directory(dir)?;
        self.names.sync(dir);
        Ok(())
    }

    pub(super) fn len(&mut self, file: &File) -> io::Result<u64> {
        let node = self.node_of(file)?;
        Ok(self.file_mut(node)?.content.len() as u64)
    }

    pub(super) fn modified_ms(&mut self, file: &File) -> io::Result<i64> {
        let node = self.node_of(file)?;
        Ok(self.file_mut(node)?.modified_ms)
    }

    pub(super) fn set_modified_ms(&mut self, file: &File, modified_ms: i64) -> io::Result<()> {
        let node = self.node_of(file)?;
        self.file_mut(node)?.modified_ms = modified_ms;
        Ok(())
    }

    pub(super) fn set_len(&mut self, file: &File, len: u64) -> io::Result<()> {
        let node = self.writable(file).map_err(|_| Errno::EINVAL)?;
        if len > MAX_FILE_BYTES {
            return Err(Errno::EFBIG.into());
        }
        let now_ms = self.now_ms;
        let model = self.file_mut(node)?;
        ftruncate(file.as_fd(), len as i64)?;
        model.content.set_len(len as usize);
        model.allocated = model.allocated.min(len);
        model.modified_ms = now_ms;
        Ok(())
    }

    pub(super) fn allocate(&mut self, file: &File, len: u64) -> io::Result<()> {
        if len == 0 {
            // As on a real disk, through a file that is open for reading too.
            return Ok(());
        }
        let node = self.writable(file)?;
        if len > MAX_FILE_BYTES {
            return Err(Errno::EFBIG.into());
        }
        let used = self.file_mut(node)?.used();
        if len.saturating_sub(used) > self.free() {
            return Err(Errno::ENOSPC.into());
        }
        let model = self.file_mut(node)?;
        model.allocated = model.allocated.max(len);
        Ok(())
    }

    /// Bytes that a failed sync lost, and that the cache still shows, are gone.
    pub(super) fn forget_cached(&mut self, file: &File) -> io::Result<()> {
        let node = self.node_of(file)?;
        let model = self.file_mut(node)?;
        write_fully(file.as_fd(), 0, &model.content.image(content::Survivors::All))
    }

    pub(super) fn write(&mut self, file: &File, at: u64, bytes: &[u8], fault: Option<Fault>) -> io::Result<usize> {
        let node = self.writable(file)?;
        let end = at.saturating_add(bytes.len() as u64);
        if end > MAX_FILE_BYTES {
            return Err(Errno::EFBIG.into());
        }
        let (written, error) = match fault {
            Some(Fault::Short(errno)) if !bytes.is_empty() => (self.rng.below(bytes.len()), Some(errno.into())),
            Some(Fault::Crash) => (self.rng.below(bytes.len() + 1), Some(self.fail(Fault::Crash))),
            Some(fault) => (0, Some(self.fail(fault))),
            None => {
                let missing = end.saturating_sub(self.file_mut(node)?.used()).saturating_sub(self.free());
                let fitting = bytes.len() - missing.min(bytes.len() as u64) as usize;
                (fitting, (fitting < bytes.len()).then(|| Errno::ENOSPC.into()))
            }
        };
        let now_ms = self.now_ms;
        let model = self.file_mut(node)?;
        write_fully(file.as_fd(), at as usize, &bytes[..written])?;
        model.content.write(at as usize, &bytes[..written]);
        model.modified_ms = now_ms;
        error.map_or(Ok(written), Err)
    }

    pub(super) fn read(&mut self, file: &File, at: u64, into: &mut [u8], fault: Option<Fault>) -> io::Result<usize> {
        self.node_of(file)?;
        match fault {
            Some(fault) => Err(self.fail(fault)),
            None => read_fully(file.as_fd(), at as usize, into),
        }
    }

    pub(super) fn crash_image(&self, how: Crash) -> State {
        let (seed, tear) = match how {
            Crash::Random(seed) => (seed, false),
            Crash::Torn(seed) => (seed, true),
            _ => (0, false),
        };
        let rng = &mut Random::new(seed);
        let mut image = State::new(self.seed ^ seed.rotate_left(32));
        image.names = match how {
            Crash::ProcessOnly => self.names.clone(),
            Crash::LoseAllUnsynced => self.names.image(names::Survivors::None),
            Crash::KeepAll | Crash::ZeroTail => self.names.image(names::Survivors::All),
            Crash::Random(_) | Crash::Torn(_) => self.names.image(names::Survivors::Random(rng)),
        };
        let named: BTreeSet<Node> = image.paths().into_values().collect();
        for (&node, file) in &self.files {
            let survivors = match how {
                Crash::ProcessOnly => {
                    let cache = if named.contains(&node) { Cache::Bytes(file.bytes()) } else { Cache::Unnamed };
                    image.files.insert(node, file.with(file.content.clone(), cache));
                    continue;
                }
                _ if !named.contains(&node) => continue,
                Crash::LoseAllUnsynced => content::Survivors::None,
                Crash::KeepAll => content::Survivors::All,
                Crash::ZeroTail => content::Survivors::LengthOnly,
                Crash::Random(_) | Crash::Torn(_) => content::Survivors::Random { rng, tear },
            };
            let bytes = Arc::new(file.content.image(survivors));
            image.files.insert(node, file.with(Content::durable(bytes.clone()), Cache::Bytes(bytes)));
        }
        image.relabel();
        image.next_node = self.next_node;
        image.capacity = self.capacity;
        image.now_ms = self.now_ms;
        image
    }

    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let bytes_of = |node: Node| Some(self.files.get(&node)?.bytes().to_vec());
        self.paths().into_iter().filter_map(|(path, node)| Some((path, bytes_of(node)?))).collect()
    }

    pub(super) fn unsynced(&self) -> Vec<PathBuf> {
        let dirty = |node: &Node| self.files.get(node).is_some_and(|file| !file.content.is_synced());
        let directories = (!self.names.is_synced()).then(|| PathBuf::from("/"));
        let files = self.paths().into_iter().filter(|(_, node)| dirty(node)).map(|(path, _)| path);
        directories.into_iter().chain(files).collect()
    }

    /// Every file and directory that can be reached from the root.
    fn paths(&self) -> BTreeMap<PathBuf, Node> {
        let mut paths = BTreeMap::new();
        let mut next = vec![(PathBuf::new(), ROOT)];
        while let Some((parent, dir)) = next.pop() {
            for (name, node) in self.names.list(dir) {
                paths.insert(parent.join(name), node);
                next.push((parent.join(name), node));
            }
        }
        paths
    }

    fn relabel(&mut self) {
        for (path, node) in self.paths() {
            if let Some(file) = self.files.get_mut(&node) {
                file.label = path.display().to_string();
            }
        }
    }

    pub(super) fn free(&self) -> u64 {
        let used = || self.files.values().map(SimFile::used).sum::<u64>();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used()))
    }

    fn new_node(&mut self) -> Node {
        let node = self.next_node;
        self.next_node += 1;
        node
    }

    fn create_file(&mut self, dir: Node, name: &OsStr, path: &Path) -> Node {
        let node = self.new_node();
        let file =
            SimFile::new(Content::default(), Cache::Bytes(Arc::default()), self.now_ms, path.display().to_string());
        self.files.insert(node, file);
        self.names.set(dir, name, Some(node));
        node
    }

    /// Takes away what a rename replaces.
    fn make_way(&mut self, target: Node, for_file: bool) -> io::Result<()> {
        if !for_file {
            return self.require_empty_dir(target);
        }
        self.require_file(target)?;
        self.file_mut(target)?.cache = Cache::Unnamed;
        Ok(())
    }

    fn require_file(&self, node: Node) -> io::Result<Node> {
        if self.files.contains_key(&node) { Ok(node) } else { Err(Errno::EISDIR.into()) }
    }

    fn require_empty_dir(&self, node: Node) -> io::Result<()> {
        if self.files.contains_key(&node) {
            return Err(Errno::ENOTDIR.into());
        }
        if self.names.list(node).next().is_some() { Err(Errno::ENOTEMPTY.into()) } else { Ok(()) }
    }

    fn directory(&self, path: &Path) -> io::Result<Node> {
        let mut dir = ROOT;
        for component in path.components() {
            dir = self.names.get(dir, name_of(component)?).ok_or(Errno::ENOENT)?;
            if self.files.contains_key(&dir) {
                return Err(Errno::ENOTDIR.into());
            }
        }
        Ok(dir)
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(Node, &'p OsStr)> {
        let name = name_of(path.components().next_back().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    fn id_of(&self, node: Node, writable: bool) -> u64 {
        (u64::from(self.disk) << 32) | ((node as u64) << 1) | u64::from(writable)
    }

    pub(super) fn node_of(&self, file: &File) -> io::Result<Node> {
        if file.id() >> 32 != u64::from(self.disk) {
            return Err(Errno::EBADF.into());
        }
        Ok((file.id() & 0xFFFF_FFFF) as usize >> 1)
    }

    fn writable(&self, file: &File) -> io::Result<Node> {
        if file.id() & 1 == 0 { Err(Errno::EBADF.into()) } else { self.node_of(file) }
    }

    pub(super) fn file_mut(&mut self, node: Node) -> io::Result<&mut SimFile> {
        self.files.get_mut(&node).ok_or_else(|| Errno::EBADF.into())
    }
}

fn stopped() -> io::Error {
    io::Error::other(Stopped)
}

fn name_of(component: Component<'_>) -> io::Result<&OsStr> {
    match component {
        Component::Normal(name) => Ok(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
