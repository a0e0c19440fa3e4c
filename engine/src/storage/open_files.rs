//! How many files of a log directory stay open, and which are closed to make room for others.
//!
//! Knows who keeps files, and which of them were used lately; not what the files are. Keeps: what is open comes back to the
//! limit whenever a file is opened, unless everything that is open is in use or cannot be opened again.

use super::Storage;
use nix::sys::resource::{Resource, getrlimit};
use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The most that a directory keeps open where the process has no limit.
const MOST: usize = 1 << 16;

/// Keeps files and maps of files open for as long as there is room.
pub(crate) trait KeepsOpen: Send + Sync + fmt::Debug {
    /// Whether it was used since this was asked last.
    fn was_used(&self) -> bool;

    /// Closes everything, if it can be opened again when it is needed; with `unsynced` also what has to be synced first.
    /// Whether it did.
    fn close(&self, storage: &dyn Storage, unsynced: bool) -> bool;
}

/// The files and maps that a log directory keeps open between uses. Those of slices that readers hold come on top.
#[derive(Debug)]
pub struct OpenFiles {
    limit: AtomicUsize,
    count: AtomicUsize,
    /// Guards who keeps them, in the order in which they were opened; held for a few instructions.
    keepers: Mutex<VecDeque<Weak<dyn KeepsOpen>>>,
}

impl Default for OpenFiles {
    /// Half of what the process may have open.
    fn default() -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        Self::new(usize::try_from(soft / 2).unwrap_or(MOST).min(MOST))
    }
}

impl OpenFiles {
    /// Of which `limit` may be kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: AtomicUsize::new(limit), count: AtomicUsize::new(0), keepers: Mutex::default() }
    }

    /// How many files and maps may be kept.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets how many may be kept; what is above is closed when a file is opened next.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many are kept now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, files: usize) {
        self.count.fetch_add(files, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, files: usize) {
        self.count.fetch_sub(files, Ordering::Relaxed);
    }

    /// Takes note of somebody who keeps files, until it is gone or was made to close them.
    pub(crate) fn add_keeper(&self, keeper: Weak<dyn KeepsOpen>) {
        self.keepers().push_back(keeper);
    }

    /// Closes what was not used for longest, at first only what need not be synced, until the limit is kept.
    pub(crate) fn make_room(&self, storage: &dyn Storage) {
        for unsynced in [false, true] {
            // Twice around: on the first those that were used lose their mark.
            let turns = 2 * self.keepers().len();
            for _ in 0..turns {
                if self.count() <= self.limit() {
                    return;
                }
                let Some(keeper) = self.keepers().pop_front() else { return };
                // Nobody waits for the list while a file is closed or synced.
                let is_done = keeper.upgrade().is_none_or(|it| !it.was_used() && it.close(storage, unsynced));
                if !is_done {
                    self.keepers().push_back(keeper);
                }
            }
        }
    }

    fn keepers(&self) -> MutexGuard<'_, VecDeque<Weak<dyn KeepsOpen>>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
