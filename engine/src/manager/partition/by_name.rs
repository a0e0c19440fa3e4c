//! Partitions in a set that finds them by their names, which they have already.

use super::Partition;
use crate::types::TopicPartition;
use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// A partition that is equal to any other of its name.
#[derive(Debug)]
pub(in crate::manager) struct ByName(pub(in crate::manager) Arc<Partition>);

impl Borrow<TopicPartition> for ByName {
    fn borrow(&self) -> &TopicPartition {
        self.0.name()
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for ByName {}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}
