//! One task that looks after time for all groups, rather than one for each heartbeat.
//!
//! Keeps: a group with a deadline has an entry at it or before; an entry that is out of date only has the group looked at
//! once more.

use super::GroupCoordinator;
use kafka_protocol::protocol::StrBytes;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
};
use tokio::sync::Notify;

/// When which group is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Guards the entries: time, partition, group.
    entries: Mutex<BTreeSet<(i64, usize, StrBytes)>>,
    changed: Notify,
}

impl Timers {
    /// Adds an entry; the task is woken if it is the first now.
    pub(super) fn add(&self, at_ms: i64, index: usize, group: StrBytes) {
        let is_first = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = entries.first().is_none_or(|(first_ms, ..)| at_ms < *first_ms);
            entries.insert((at_ms, index, group));
            is_first
        };
        if is_first {
            self.wake();
        }
    }

    /// Has the task look anew.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    fn first_ms(&self) -> Option<i64> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.first().map(|(at_ms, ..)| *at_ms)
    }

    fn take_due(&self, now_ms: i64) -> Option<(i64, usize, StrBytes)> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.first().is_none_or(|(at_ms, ..)| *at_ms > now_ms) {
            return None;
        }
        entries.pop_first()
    }
}

/// Runs until the coordinator is closed or gone.
pub(super) async fn run(coordinator: Weak<GroupCoordinator>) {
    let mut cleanup_ms = None;
    loop {
        let Some(me) = coordinator.upgrade() else { return };
        if me.is_closed.load(Ordering::SeqCst) {
            return;
        }
        let now_ms = me.clock.steady_ms();
        let interval_ms = me.dependencies.config.offsets_retention_check_interval_ms.max(1);
        let next_cleanup_ms = *cleanup_ms.get_or_insert(now_ms.saturating_add(interval_ms));
        if next_cleanup_ms <= now_ms {
            cleanup_ms = None;
            me.expire_offsets();
            continue;
        }
        if let Some((at_ms, index, group)) = me.timers.take_due(now_ms) {
            me.look_after(at_ms, index, &group);
            continue;
        }
        let next_ms = me.timers.first_ms().map_or(next_cleanup_ms, |first_ms| first_ms.min(next_cleanup_ms));
        let (next, timers) = (me.clock.instant(next_ms), Arc::clone(&me.timers));
        drop(me);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = timers.changed.notified() => {}
        }
    }
}

impl GroupCoordinator {
    /// A timer of a group is due: [`GroupCoordinator::change`] does what there is to do.
    fn look_after(&self, at_ms: i64, index: usize, id: &StrBytes) {
        let Some(shard) = self.shards.get(index) else { return };
        let mut shared = shard.lock();
        self.change(index, &mut shared, id, |group, _, _| {
            if group.scheduled_ms == Some(at_ms) {
                group.scheduled_ms = None;
            }
        });
    }
}
