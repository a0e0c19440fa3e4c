//! How often something comes up in a request: what is named twice leaves open what is wanted.

use std::{collections::HashMap, hash::Hash};

/// Each key, and how often it comes up. One pass, for requests may name a hundred thousand.
pub(super) fn times<T: Eq + Hash>(keys: impl IntoIterator<Item = T>) -> HashMap<T, usize> {
    let mut times = HashMap::new();
    keys.into_iter().for_each(|key| *times.entry(key).or_insert(0) += 1);
    times
}

/// Whether anything comes up more than once.
pub(super) fn has_duplicates<T: Eq + Hash>(keys: impl IntoIterator<Item = T>) -> bool {
    times(keys).into_values().any(|count| count > 1)
}
