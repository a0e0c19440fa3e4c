//! Waiters in the order of the value that each waits for.
//!
//! Knows nothing of what a value means. Keeps: ascending by threshold, equal ones in the order of their arrival. Costs
//! nothing but a push where thresholds arrive in ascending order, as those of appends do; otherwise, and to remove one, a
//! binary search and a move of at most half of the entries.

use std::collections::VecDeque;

/// Room kept for the next waiters once all are gone; more is given back, so that an idle partition stays small.
const KEPT_CAPACITY: usize = 32;

/// Waiters by threshold and id.
#[derive(Debug)]
pub(super) struct Thresholds<K, T> {
    entries: VecDeque<Entry<K, T>>,
}

#[derive(Debug)]
struct Entry<K, T> {
    threshold: K,
    id: u64,
    waiter: T,
}

impl<K, T> Default for Thresholds<K, T> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<K: Copy + Ord, T> Thresholds<K, T> {
    /// Adds a waiter; `id` is greater than every other id here.
    pub(super) fn insert(&mut self, threshold: K, id: u64, waiter: T) {
        let entry = Entry { threshold, id, waiter };
        if self.entries.back().is_none_or(|last| last.threshold <= threshold) {
            self.entries.push_back(entry);
        } else {
            let at = self.entries.partition_point(|other| other.threshold <= threshold);
            self.entries.insert(at, entry);
        }
    }

    /// Takes one waiter out, if it is still here.
    pub(super) fn remove(&mut self, threshold: K, id: u64) -> Option<T> {
        let found = self.entries.binary_search_by_key(&(threshold, id), |entry| (entry.threshold, entry.id));
        let waiter = self.entries.remove(found.ok()?).map(|entry| entry.waiter);
        self.give_back();
        waiter
    }

    /// The lowest threshold.
    pub(super) fn nearest(&self) -> Option<K> {
        self.entries.front().map(|entry| entry.threshold)
    }

    /// Takes out the first waiter if `reached` is at or above its threshold.
    pub(super) fn pop_reached(&mut self, reached: K) -> Option<T> {
        self.entries.front().filter(|entry| entry.threshold <= reached)?;
        let waiter = self.entries.pop_front().map(|entry| entry.waiter);
        self.give_back();
        waiter
    }

    /// Takes out every waiter with a threshold above `limit`.
    pub(super) fn take_above(&mut self, limit: K) -> impl Iterator<Item = T> + use<K, T> {
        let at = self.entries.partition_point(|entry| entry.threshold <= limit);
        let taken = self.entries.split_off(at);
        self.give_back();
        taken.into_iter().map(|entry| entry.waiter)
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = T> + use<K, T> {
        std::mem::take(&mut self.entries).into_iter().map(|entry| entry.waiter)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn give_back(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT_CAPACITY {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(thresholds: &[i64]) -> Thresholds<i64, u64> {
        let mut filled = Thresholds::default();
        for (id, threshold) in (0..).zip(thresholds) {
            filled.insert(*threshold, id, id);
        }
        filled
    }

    #[test]
    fn reached_waiters_leave_in_order_and_others_stay() {
        let mut waiters = filled(&[30, 10, 20, 10, 40]);
        assert_eq!(waiters.nearest(), Some(10));
        let left: Vec<_> = std::iter::from_fn(|| waiters.pop_reached(30)).collect();
        assert_eq!(left, [1, 3, 2, 0]);
        assert_eq!(waiters.nearest(), Some(40));
        assert_eq!(waiters.take_all().collect::<Vec<_>>(), [4]);
        assert_eq!(waiters.nearest(), None);
    }

    #[test]
    fn removed_waiter_is_gone_and_is_removed_once() {
        let mut waiters = filled(&[10, 10, 10]);
        assert_eq!(waiters.remove(10, 1), Some(1));
        assert_eq!(waiters.remove(10, 1), None);
        assert_eq!(waiters.remove(11, 2), None);
        assert_eq!(waiters.take_all().collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn waiters_above_a_limit_are_cut_off() {
        let mut waiters = filled(&[30, 10, 20]);
        assert_eq!(waiters.take_above(20).collect::<Vec<_>>(), [0]);
        assert_eq!(waiters.take_above(5).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn room_of_many_is_given_back_when_all_are_gone() {
        let mut waiters = filled(&[1; 1000]);
        while waiters.pop_reached(1).is_some() {}
        assert_eq!(waiters.entries.capacity(), 0);
    }
}
