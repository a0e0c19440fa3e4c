//! A storage whose writes and syncs fail once a switch is set, as of a disk that goes: what was written can still be read.

use duramen::storage::{
    Access, EndedWrite, Entry, File, Lock, Op, OpKind, OpenFiles, Queue, QueueWaker, QueuedWrite, Storage,
    StorageError, Wait,
};
use nix::errno::Errno;
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether the disk fails.
pub(super) type Switch = Arc<AtomicBool>;

#[derive(Debug)]
pub(super) struct Failing {
    disk: Arc<dyn Storage>,
    switch: Switch,
}

fn failure() -> io::Error {
    Errno::EIO.into()
}

impl Failing {
    pub(super) fn over(disk: Arc<dyn Storage>, switch: &Switch) -> Arc<dyn Storage> {
        Arc::new(Self { disk, switch: Arc::clone(switch) })
    }

    fn fails(&self) -> bool {
        self.switch.load(Ordering::SeqCst)
    }
}

impl Storage for Failing {
    fn lock(&self, path: &Path) -> Result<Lock, StorageError> {
        self.disk.lock(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, StorageError> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.disk.create_dir(dir)
    }

    fn open(&self, path: &Path, access: Access) -> Result<File, StorageError> {
        self.disk.open(path, access)
    }

    fn open_direct(&self, path: &Path) -> Result<File, StorageError> {
        self.disk.open_direct(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> Result<(), StorageError> {
        self.disk.unlink(path)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), StorageError> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), StorageError> {
        if self.fails() {
            return Err(StorageError::new("sync", dir, failure()));
        }
        self.disk.sync_dir(dir)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        self.disk.modified_ms(file)
    }

    fn set_modified_ms(&self, file: &File, modified_ms: i64) -> io::Result<()> {
        self.disk.set_modified_ms(file, modified_ms)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.disk.set_len(file, len)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.disk.allocate(file, len)
    }

    fn forget_cached(&self, file: &File) -> io::Result<()> {
        self.disk.forget_cached(file)
    }

    fn begin_writing_out(&self, file: &File, at: u64, len: u64) {
        self.disk.begin_writing_out(file, at, len);
    }

    fn run(&self, ops: &mut [Op<'_>]) {
        if !self.fails() {
            return self.disk.run(ops);
        }
        for op in ops {
            match op.kind {
                OpKind::Read { .. } => self.disk.run(std::slice::from_mut(op)),
                _ => op.finish(Err(failure())),
            }
        }
    }

    fn sync_all(&self) -> Result<(), StorageError> {
        if self.fails() {
            return Err(StorageError::new("sync", Path::new(""), failure()));
        }
        self.disk.sync_all()
    }

    fn open_files(&self) -> Option<&Arc<OpenFiles>> {
        self.disk.open_files()
    }

    fn ring_queue(&self, depth: u32) -> Option<Box<dyn Queue>> {
        let queue = self.disk.ring_queue(depth)?;
        Some(Box::new(FailingQueue { queue, switch: Arc::clone(&self.switch) }))
    }
}

/// What is on its way when the disk goes may have arrived, and fails all the same.
#[derive(Debug)]
struct FailingQueue {
    queue: Box<dyn Queue>,
    switch: Switch,
}

impl Queue for FailingQueue {
    fn submit(&mut self, write: QueuedWrite) {
        self.queue.submit(write);
    }

    fn reap(&mut self, wait: Wait, ended: &mut Vec<EndedWrite>) {
        let known = ended.len();
        self.queue.reap(wait, ended);
        if self.switch.load(Ordering::SeqCst) {
            ended.iter_mut().skip(known).for_each(|ended| ended.result = Err(failure()));
        }
    }

    fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    fn waker(&self) -> Arc<QueueWaker> {
        self.queue.waker()
    }
}
