//! The coordinator of consumer groups: all groups of this broker, their offsets, and `__consumer_offsets` under them.
//!
//! Knows nothing of how a group decides. A group belongs to the partition of `__consumer_offsets` that its id hashes to; each
//! partition has a lock over its groups, under which records are appended too, so that the log has them in the order in which
//! the groups changed. Nobody waits for the disk under that lock: requests wait after it, and what a group does once its
//! record is durable is done by a task, for the client that caused it may be gone by then.
//!
//! Keeps: what a client is told survives as well as the broker's acknowledgements do; a request that waits is answered, at
//! the latest by [`GroupCoordinator::close`].

mod admin;
mod loading;
mod members;
mod offsets;
mod shard;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use crate::group::{Client, GroupConfig};

use super::{clock::Clock, placing::partition_of};
use crate::internal::InternalLog;
use duramen::LogError;
use kafka_protocol::ResponseError;
use shard::{Shard, Shared};
use std::{
    fmt,
    sync::{
        Arc, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use timers::Timers;
use tokio::runtime::Handle;
use uuid::Uuid;

/// What a broker knows of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownTopic {
    /// Its id.
    pub(crate) id: Uuid,
    /// How many partitions it has.
    pub(crate) partitions: i32,
}

/// Finds a topic by its name.
pub(crate) type FindTopic = Box<dyn Fn(&str) -> Option<KnownTopic> + Send + Sync>;

/// What a coordinator of groups needs of the broker around it.
pub(crate) struct GroupDependencies {
    /// The settings.
    pub(crate) config: GroupConfig,
    /// Finds a topic by its name.
    pub(crate) topic: FindTopic,
    /// Takes what an operator should know.
    pub(crate) note: Box<dyn Fn(&str) + Send + Sync>,
}

/// The coordinator of all groups.
pub(crate) struct GroupCoordinator {
    me: Weak<Self>,
    dependencies: GroupDependencies,
    /// By partition of `__consumer_offsets`.
    shards: Vec<Shard>,
    timers: Arc<Timers>,
    clock: Clock,
    runtime: Handle,
    next_request: AtomicU64,
    is_closed: AtomicBool,
}

impl fmt::Debug for GroupCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCoordinator").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

impl GroupCoordinator {
    /// Reads the partitions of `__consumer_offsets`, all of them in order, and begins to coordinate. Blocks while it reads; to
    /// be called within a runtime, in which its tasks run until [`GroupCoordinator::close`].
    ///
    /// # Errors
    /// What reading fails with. Records that say nothing readable are noted and left alone.
    pub(crate) fn open(dependencies: GroupDependencies, logs: Vec<InternalLog>) -> Result<Arc<Self>, LogError> {
        let clock = Clock::start();
        let mut shards = Vec::with_capacity(logs.len());
        for log in logs {
            shards.push(loading::load(log, clock.steady_ms(), &dependencies.note)?);
        }
        let coordinator = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            dependencies,
            shards,
            timers: Arc::default(),
            clock,
            runtime: Handle::current(),
            next_request: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        });
        coordinator.begin();
        Ok(coordinator)
    }

    /// Looks after every group that was found, and from now on after time.
    fn begin(&self) {
        for (index, shard) in self.shards.iter().enumerate() {
            let mut shared = shard.lock();
            for id in shared.group_ids() {
                self.change(index, &mut shared, &id, |group, now_ms, effects| {
                    group.classic.found(self.dependencies.config.max_size, now_ms, effects);
                });
            }
        }
        self.runtime.spawn(timers::run(Weak::clone(&self.me)));
    }

    /// The partition of `__consumer_offsets` that a group belongs to (`GroupCoordinatorService.partitionFor`).
    pub(crate) fn partition_for(&self, group: &str) -> i32 {
        partition_of(group, self.shards.len())
    }

    /// Answers whoever waits, and takes no more requests. What is on its way to the disk goes on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for shard in &self.shards {
            shard.lock().unload();
        }
        self.timers.wake();
    }

    /// Where a group is, locked.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` once it was closed.
    fn lock(&self, group: &str) -> Result<(usize, MutexGuard<'_, Shared>), ResponseError> {
        let index = usize::try_from(self.partition_for(group)).unwrap_or_default();
        let shard = self.shards.get(index).ok_or(ResponseError::CoordinatorNotAvailable)?;
        let shared = shard.lock();
        // Looked at under the lock: whoever comes before is answered by `close`.
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        Ok((index, shared))
    }
}
