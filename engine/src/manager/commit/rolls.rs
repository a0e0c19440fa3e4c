//! Ending the rolls that no append waited for, as many at once as there are.
//!
//! With thousands of partitions that fill evenly, hundreds roll within a second: they share two syncs of the file system.

use super::Committer;
use crate::{
    log::{LogError, Roll, end_rolls},
    manager::partition::Partition,
};
use std::sync::{Arc, PoisonError};

impl Committer {
    /// Ends the rolls of these partitions that are under way. Takes none of their locks: whoever has one may be waiting for this.
    pub(in crate::manager) fn end_rolls(&self, partitions: &[Arc<Partition>]) -> Result<(), LogError> {
        // Whoever takes several further at once holds several of their locks.
        let _turn = self.ending_rolls.lock().unwrap_or_else(PoisonError::into_inner);
        let rolls: Vec<Arc<Roll>> = partitions.iter().filter_map(|partition| partition.roll()).collect();
        end_rolls(rolls.iter().filter_map(|roll| roll.step()).collect(), || self.sync_all())
    }
}
