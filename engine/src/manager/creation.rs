//! Making partitions in a log directory.

use super::{LogDirectory, OpenError};
use crate::{config::LogConfig, format::uuid::Uuid, log::creation, storage::StorageError, types::TopicPartition};

impl LogDirectory {
    /// Makes the files of partitions that are not there, durable all together. Where it fails none of them is there; where that
    /// cannot be known, they count as there, and the directory takes nothing any more.
    pub(super) fn create(
        &mut self,
        partitions: &[&TopicPartition],
        topic_id: Option<Uuid>,
        config: &LogConfig,
    ) -> Result<(), OpenError> {
        self.forget_gone()?;
        let made = creation::create(&self.storage, partitions, topic_id, config);
        if made.as_ref().map_or_else(|failed| !failed.is_taken_back, |()| true) {
            partitions.iter().for_each(|partition| self.note_found(partition));
        }
        made.map_err(|failed| {
            if !failed.is_taken_back {
                self.fail(&failed.source);
            }
            match partitions {
                [one] => OpenError::Partition { partition: (*one).clone(), source: failed.source.into() },
                _ => failed.source.into(),
            }
        })
    }

    fn note_found(&mut self, partition: &TopicPartition) {
        if let Err(place) = self.found.binary_search(partition) {
            self.found.insert(place, partition.clone());
        }
    }

    /// Nobody knows what of the directory is durable: no log of it is written any more.
    pub(super) fn fail(&self, error: &StorageError) {
        self.checkpoints.fail(&error.to_string().into());
    }
}
