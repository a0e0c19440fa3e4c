//! When the leader-epoch checkpoint is written.
//!
//! A log by itself writes a new epoch durably before the first batch that carries it, as Kafka does. In a log manager an
//! append waits for no file of its own, so there the file may lack epochs. Keeps: an epoch that the file lacks is newer than
//! all in it and begins in the active segment, or in the one before while a roll is under way. An open after a crash reads
//! these from their begin on, whatever the recovery point, and finds such epochs in the batches; after a close the file has
//! them all.

use super::{Log, LogError, epochs::EpochCache};
use crate::{
    format::{checkpoint, names},
    segment::SegmentError,
    storage::{self, File, Replacement},
};

/// What the checkpoint file of a log has of its epochs.
#[derive(Debug, Default)]
pub(super) struct EpochFile {
    /// Whether new epochs may wait for the next roll or close.
    is_lazy: bool,
    /// Whether there are some that the file lacks.
    is_behind: bool,
}

impl EpochFile {
    /// Whether the file lacks epochs, which the caller writes from now on.
    pub(super) fn hand_over(&mut self) -> bool {
        std::mem::take(&mut self.is_behind)
    }
}

impl Log {
    /// From now on a new epoch is durable by the first durable batch that carries it, and appends wait for no file.
    pub(crate) fn write_epochs_lazily(&mut self) {
        self.epoch_file.is_lazy = true;
    }

    /// Takes epochs that came to those known, at the end of the log.
    pub(super) fn add_epochs(&mut self, epochs: EpochCache, known: &EpochCache) -> Result<(), LogError> {
        // What the batches say counts only where it is newer than the file, so nothing of the file may be wrong.
        if !self.epoch_file.is_lazy || !epochs.entries().starts_with(known.entries()) {
            return self.publish_epochs(epochs);
        }
        self.epoch_file.is_behind = true;
        self.note_epochs(epochs);
        Ok(())
    }

    /// Writes epochs durably, and goes by them. A roll under way, which writes the file as well, is ended first.
    pub(super) fn publish_epochs(&mut self, epochs: EpochCache) -> Result<(), LogError> {
        self.end_roll()?;
        let bytes = checkpoint::encode_epochs(epochs.entries());
        let path = self.dir.join(names::LEADER_EPOCH_CHECKPOINT);
        storage::write_atomically(self.storage(), &path, &bytes).map_err(SegmentError::from)?;
        self.epoch_file.is_behind = false;
        self.note_epochs(epochs);
        Ok(())
    }

    /// Goes by epochs that lack the oldest ones, whose records are gone. Where the disk has no space, or a roll is about to write
    /// the file, that keeps those until it is next written: they say nothing of records that are there.
    pub(super) fn drop_oldest_epochs(&mut self, epochs: EpochCache) -> Result<(), LogError> {
        let is_rolling = self.shared.read().roll.as_ref().is_some_and(|roll| !roll.is_done());
        let published = if is_rolling { None } else { Some(self.publish_epochs(epochs.clone())) };
        match published {
            None | Some(Err(LogError::DiskFull(_))) => {
                self.epoch_file.is_behind = true;
                self.note_epochs(epochs);
                Ok(())
            }
            Some(published) => published,
        }
    }

    fn note_epochs(&mut self, epochs: EpochCache) {
        self.latest_epoch = epochs.entries().last().copied();
        self.shared.write().epochs = epochs;
    }

    /// Begins to write what the file lacks: before the active segment gets a successor, and before the log is closed.
    pub(super) fn begin_epoch_file(&self) -> Result<Option<(Replacement, File)>, LogError> {
        if !self.epoch_file.is_behind {
            return Ok(None);
        }
        let bytes = checkpoint::encode_epochs(self.shared.read().epochs.entries());
        let path = self.dir.join(names::LEADER_EPOCH_CHECKPOINT);
        Ok(Some(Replacement::write(self.storage(), &path, &bytes).map_err(SegmentError::from)?))
    }

    /// Ends it, once what was written is synced.
    pub(super) fn finish_epoch_file(&mut self, replacement: Option<Replacement>) -> Result<(), LogError> {
        if let Some(replacement) = replacement {
            replacement.put_in_place(self.storage()).map_err(SegmentError::from)?;
            self.epoch_file.is_behind = false;
        }
        Ok(())
    }

    /// Writes the epochs as they are. Like Kafka's, a `new` file without an epoch is empty.
    pub(super) fn write_epochs(&self, new: bool) -> Result<(), LogError> {
        let epochs = self.shared.read().epochs.clone();
        let is_empty = new && epochs.entries().is_empty();
        let bytes = if is_empty { Vec::new() } else { checkpoint::encode_epochs(epochs.entries()) };
        let path = self.dir.join(names::LEADER_EPOCH_CHECKPOINT);
        Ok(storage::write_atomically(self.storage(), &path, &bytes)?)
    }
}
