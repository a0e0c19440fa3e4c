//! What a segment keeps open, and can let go of until it is needed again: its log file and the maps of its indexes.
//!
//! Knows nothing of what is in them. Keeps: a file is closed only when what was written to it is durable, so that no failure
//! of the disk goes by unheard; after a sync that failed none is tried again; a segment whose files have got other names, or
//! none, opens nothing any more.

use super::{IndexState, lock};
use crate::storage::{self, Access, File, KeepsOpen, OpenFiles, Storage, StorageError};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

#[derive(Debug, Default)]
struct Slots {
    log: Option<Arc<File>>,
    /// The log file opened past the page cache, while bytes gather.
    direct: Option<Arc<File>>,
    /// Whether the directory knows that something is open.
    is_listed: bool,
}

/// The open files of one segment.
#[derive(Debug)]
pub(super) struct Handles {
    open_files: Option<Arc<OpenFiles>>,
    /// Guards which files are open; held while one is opened.
    slots: Mutex<Slots>,
    /// Guards the indexes; never held during I/O.
    index: RwLock<IndexState>,
    /// Whether something was written since the last sync began.
    is_unsynced: AtomicBool,
    /// Syncs that are under way.
    syncs: AtomicU32,
    /// Whether one of them failed.
    sync_failed: AtomicBool,
    was_used: AtomicBool,
    /// Those for whom everything stays open.
    holds: AtomicU32,
    /// Whether the files are not found by their names any more.
    is_detached: AtomicBool,
}

/// Keeps the files of a segment open.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Handles>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handles {
    pub(super) fn new(storage: &dyn Storage, index: IndexState) -> Arc<Self> {
        Arc::new(Self {
            open_files: storage.open_files().map(Arc::clone),
            slots: Mutex::default(),
            index: RwLock::new(index),
            is_unsynced: AtomicBool::new(false),
            syncs: AtomicU32::new(0),
            sync_failed: AtomicBool::new(false),
            was_used: AtomicBool::new(false),
            holds: AtomicU32::new(0),
            is_detached: AtomicBool::new(false),
        })
    }

    /// The log file, opened if it is not.
    pub(super) fn log(
        self: &Arc<Self>,
        storage: &dyn Storage,
        path: impl Fn() -> PathBuf,
    ) -> Result<Arc<File>, StorageError> {
        self.open_in(storage, |slots| &mut slots.log, &path, || storage.open(&path(), Access::Write))
    }

    /// The log file past the page cache, opened if it is not.
    pub(super) fn direct(
        self: &Arc<Self>,
        storage: &dyn Storage,
        path: impl Fn() -> PathBuf,
    ) -> Result<Arc<File>, StorageError> {
        self.open_in(storage, |slots| &mut slots.direct, &path, || storage.open_direct(&path()))
    }

    fn open_in(
        self: &Arc<Self>,
        storage: &dyn Storage,
        slot: impl Fn(&mut Slots) -> &mut Option<Arc<File>>,
        path: &impl Fn() -> PathBuf,
        open: impl FnOnce() -> Result<File, StorageError>,
    ) -> Result<Arc<File>, StorageError> {
        self.note_use();
        let mut slots = lock(&self.slots);
        if let Some(file) = slot(&mut slots) {
            return Ok(Arc::clone(file));
        }
        if self.is_detached() {
            return Err(StorageError::new("open", &path(), io::ErrorKind::NotFound.into()));
        }
        let file = Arc::new(open()?);
        *slot(&mut slots) = Some(Arc::clone(&file));
        let is_new = !std::mem::replace(&mut slots.is_listed, true);
        drop(slots);
        self.note_opened(storage, is_new);
        Ok(file)
    }

    /// Takes an open log file for this segment's.
    pub(super) fn adopt_log(self: &Arc<Self>, storage: &dyn Storage, file: Arc<File>) {
        let mut slots = lock(&self.slots);
        slots.log = Some(file);
        let is_new = !std::mem::replace(&mut slots.is_listed, true);
        drop(slots);
        self.note_opened(storage, is_new);
    }

    fn note_opened(self: &Arc<Self>, storage: &dyn Storage, is_new: bool) {
        let Some(open_files) = &self.open_files else { return };
        open_files.add(1);
        if is_new {
            let weak = Arc::downgrade(self);
            open_files.add_keeper(weak as Weak<dyn KeepsOpen>);
        }
        open_files.make_room(storage);
    }

    fn note_closed(&self, files: usize) {
        if let Some(open_files) = &self.open_files {
            open_files.subtract(files);
        }
    }

    fn note_use(&self) {
        // Mostly it is set: reading costs other processors nothing.
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn close_direct(&self) {
        if lock(&self.slots).direct.take().is_some() {
            self.note_closed(1);
        }
    }

    /// What is written from now on is not durable.
    pub(super) fn note_write(&self) {
        if !self.is_unsynced.load(Ordering::SeqCst) {
            self.is_unsynced.store(true, Ordering::SeqCst);
        }
    }

    /// A sync of the log file begins, with an open file of the caller's.
    ///
    /// # Errors
    /// When a sync has failed before: what it lost no other brings back.
    pub(super) fn note_sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("a sync of this file has failed before"));
        }
        self.is_unsynced.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Runs a sync, and leaves word of it for [`Handles::soundness`].
    pub(super) fn watched_sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let synced = self.note_sync().and_then(|()| sync());
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::SeqCst);
        }
        self.syncs.fetch_sub(1, Ordering::SeqCst);
        synced
    }

    /// Whether what was written to the file can still become durable: `Some(false)` once a sync failed, `None` while one is
    /// under way. Takes no lock.
    pub(super) fn soundness(&self) -> Option<bool> {
        let under_way = self.syncs.load(Ordering::SeqCst) > 0;
        (!under_way).then(|| !self.sync_failed.load(Ordering::SeqCst))
    }

    pub(super) fn index(&self) -> RwLockReadGuard<'_, IndexState> {
        self.note_use();
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The indexes, to be changed where they are.
    pub(super) fn index_mut(&self) -> RwLockWriteGuard<'_, IndexState> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other indexes in the place of those there are.
    pub(super) fn set_index(self: &Arc<Self>, storage: &dyn Storage, index: IndexState) {
        self.change_index(storage, |_| Some(index));
    }

    /// As [`Handles::set_index`], unless somebody else was faster.
    pub(super) fn load_index(self: &Arc<Self>, storage: &dyn Storage, loaded: IndexState) {
        self.change_index(storage, |now| matches!(now, IndexState::Unloaded).then_some(loaded));
    }

    fn change_index(self: &Arc<Self>, storage: &dyn Storage, new: impl FnOnce(&IndexState) -> Option<IndexState>) {
        let mut place = self.index_mut();
        let Some(index) = new(&place) else { return };
        let (was_mapped, is_mapped) = (place.is_mapped(), index.is_mapped());
        *place = index;
        drop(place);
        if was_mapped {
            self.note_closed(1);
        }
        if is_mapped {
            let is_new = !std::mem::replace(&mut lock(&self.slots).is_listed, true);
            self.note_opened(storage, is_new);
        }
    }

    /// Everything stays open while the result lives.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.holds.fetch_add(1, Ordering::SeqCst);
        Hold(Arc::clone(self))
    }

    /// What is open stays open, and nothing is opened any more: the names are about to become others'.
    pub(super) fn detach(&self) {
        self.is_detached.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::SeqCst)
    }

    fn can_be_closed(&self) -> bool {
        self.holds.load(Ordering::SeqCst) == 0 && !self.is_detached() && !self.sync_failed.load(Ordering::SeqCst)
    }

    fn sync_before_close(&self, storage: &dyn Storage) -> bool {
        let log = lock(&self.slots).log.clone();
        log.is_some_and(|log| self.watched_sync(|| storage::sync(storage, &log)).is_ok())
    }
}

impl KeepsOpen for Handles {
    fn was_used(&self) -> bool {
        self.was_used.swap(false, Ordering::Relaxed)
    }

    fn close(&self, storage: &dyn Storage, unsynced: bool) -> bool {
        if !self.can_be_closed() {
            return false;
        }
        if self.is_unsynced.load(Ordering::SeqCst) && !(unsynced && self.sync_before_close(storage)) {
            return false;
        }
        let (Ok(mut slots), Ok(mut index)) = (self.slots.try_lock(), self.index.try_write()) else {
            return false;
        };
        // Somebody may have written or taken hold of it meanwhile.
        if self.is_unsynced.load(Ordering::SeqCst) || !self.can_be_closed() {
            return false;
        }
        let files = [slots.log.take(), slots.direct.take()];
        let maps = index.is_mapped();
        if maps {
            *index = IndexState::Unloaded;
        }
        slots.is_listed = false;
        drop((slots, index));
        self.note_closed(files.iter().flatten().count() + usize::from(maps));
        true
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        let slots = self.slots.get_mut().unwrap_or_else(PoisonError::into_inner);
        let files = usize::from(slots.log.is_some()) + usize::from(slots.direct.is_some());
        let maps = self.index.get_mut().unwrap_or_else(PoisonError::into_inner).is_mapped();
        self.note_closed(files + usize::from(maps));
    }
}
