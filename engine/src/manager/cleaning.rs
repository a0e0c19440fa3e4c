//! Upkeep of the open logs of a directory: retention, and compaction of the dirtiest.
//!
//! One log that fails does not keep the others from being looked after.

use super::{LogDirectory, OpenError};
use crate::{
    log::{CleanerControl, CleanerOptions, CleanerProgress, CleanerStats, ExpiredSegment, Log, LogError, LogToClean},
    types::{Offset, Timestamp, TopicPartition},
};
use std::path::PathBuf;

/// What retention did to the logs of a directory.
#[derive(Debug, Default)]
pub struct Retention {
    /// Segments removed, by partition; partitions that lost none are left out.
    pub removed: Vec<(TopicPartition, Vec<ExpiredSegment>)>,
    /// Logs on which retention failed.
    pub failed: Vec<OpenError>,
    /// Directories of deleted partitions that stay because something else lies in them.
    pub kept: Vec<PathBuf>,
}

impl Retention {
    pub(super) fn note(&mut self, partition: &TopicPartition, removed: Result<Vec<ExpiredSegment>, OpenError>) {
        match removed {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => self.removed.push((partition.clone(), removed)),
            Err(error) => self.failed.push(error),
        }
    }

    pub(super) fn note_deleted(&mut self, kept: Result<Vec<PathBuf>, OpenError>) {
        match kept {
            Ok(kept) => self.kept = kept,
            Err(error) => self.failed.push(error),
        }
    }
}

/// Removes the segments of a log that retention lets go, and files that were retired long enough ago.
pub(super) fn remove_expired(log: &mut Log, now_ms: Timestamp) -> Result<Vec<ExpiredSegment>, LogError> {
    let removed = log.delete_old_segments(now_ms)?;
    log.remove_retired_files(now_ms)?;
    Ok(removed)
}

/// Whether a log is due to be cleaned, and dirtier than the dirtiest known so far.
pub(super) fn is_dirtier(to_clean: &LogToClean, known: Option<&LogToClean>) -> bool {
    let ratio = known.map_or(-1.0, LogToClean::cleanable_ratio);
    to_clean.is_eligible && to_clean.cleanable_ratio() > ratio
}

impl LogDirectory {
    /// Applies retention to every open log, and unlinks the files of segments and partitions that were retired long enough
    /// ago. The host calls it now and then (`log.retention.check.interval.ms`, five minutes in Kafka).
    #[must_use = "logs can fail"]
    pub fn apply_retention(&mut self) -> Retention {
        let now_ms = self.now_ms();
        let mut done = Retention::default();
        for (partition, log) in &mut self.logs {
            let removed = remove_expired(log, now_ms);
            done.note(
                partition,
                removed.map_err(|source| OpenError::Partition { partition: partition.clone(), source }),
            );
        }
        done.note_deleted(self.remove_deleted_files());
        done
    }

    /// What a cleaning of an open log would take now, from where the last one ended; `None` if the partition's log is not
    /// open.
    ///
    /// # Errors
    /// [`OpenError::Partition`] when the log cannot be read.
    pub fn log_to_clean(&self, partition: &TopicPartition) -> Result<Option<LogToClean>, OpenError> {
        let Some(log) = self.logs.get(partition) else {
            return Ok(None);
        };
        log.log_to_clean(self.checkpoints.cleaner_point(partition), self.now_ms())
            .map(Some)
            .map_err(|source| OpenError::Partition { partition: partition.clone(), source })
    }

    /// Compacts the dirtiest of the open logs that are due, if there is one; which, and what came of it. A log on which
    /// this fails is left out until the directory is opened again, unless `control` gave it up
    /// (`LogCleanerManager.grabFilthiestCompactedLog`).
    ///
    /// # Errors
    /// [`OpenError::Partition`]: that log is as it was, and another call looks at the others.
    pub fn clean_dirtiest(
        &mut self,
        options: &CleanerOptions,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
    ) -> Result<Option<(TopicPartition, CleanerStats)>, OpenError> {
        let Some((partition, to_clean)) = self.dirtiest()? else {
            return Ok(None);
        };
        let mut is_aborted = false;
        let cleaned = self.clean(&partition, &to_clean, options, &mut |progress| {
            let wish = control(progress);
            is_aborted |= wish == CleanerControl::Abort;
            wish
        });
        if cleaned.is_err() && !is_aborted {
            self.uncleanable.insert(partition.clone());
        }
        cleaned.map(|stats| Some((partition, stats)))
    }

    fn dirtiest(&mut self) -> Result<Option<(TopicPartition, LogToClean)>, OpenError> {
        let compacted = self.logs.iter().filter(|(_, log)| log.config().cleanup_policy.compact);
        let candidates: Vec<_> = compacted.map(|(partition, _)| partition.clone()).collect();
        let mut dirtiest: Option<(TopicPartition, LogToClean)> = None;
        for partition in candidates.into_iter().filter(|partition| !self.uncleanable.contains(partition)) {
            let to_clean = match self.log_to_clean(&partition) {
                Ok(Some(to_clean)) => to_clean,
                Ok(None) => continue,
                Err(error) => {
                    self.uncleanable.insert(partition);
                    return Err(error);
                }
            };
            if to_clean.force_update_checkpoint {
                self.remember_cleaner_point(&partition, to_clean.first_dirty_offset)?;
            }
            if is_dirtier(&to_clean, dirtiest.as_ref().map(|(_, known)| known)) {
                dirtiest = Some((partition, to_clean));
            }
        }
        Ok(dirtiest)
    }

    /// Compacts one open log now, whether or not it is due, and remembers how far.
    ///
    /// # Errors
    /// [`OpenError::UnknownPartition`] when its log is not open; [`OpenError::Partition`]: the log is as it was, unless the
    /// disk failed while files changed places; see [`crate::Log::finish_cleaning`].
    pub fn clean(
        &mut self,
        partition: &TopicPartition,
        to_clean: &LogToClean,
        options: &CleanerOptions,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
    ) -> Result<CleanerStats, OpenError> {
        let now_ms: Timestamp = self.now_ms();
        let unknown = || OpenError::UnknownPartition { partition: partition.clone() };
        let log = self.logs.get_mut(partition).ok_or_else(unknown)?;
        let stats = log
            .clean(to_clean, options, now_ms, control)
            .map_err(|source| OpenError::Partition { partition: partition.clone(), source })?;
        self.remember_cleaner_point(partition, stats.end_offset)?;
        Ok(stats)
    }

    /// Remembers, durably, that a log is clean up to `offset`, exclusive: the `end_offset` of a cleaning that the host began
    /// with [`crate::Log::begin_cleaning`] and finished, or the first dirty offset of [`LogToClean`] where
    /// `force_update_checkpoint` asks for it. [`LogDirectory::clean`] does it itself.
    ///
    /// # Errors
    /// [`OpenError::Partition`] when the checkpoint cannot be written.
    pub fn remember_cleaner_point(&self, partition: &TopicPartition, offset: Offset) -> Result<(), OpenError> {
        self.checkpoints
            .write_cleaner_point(partition, offset)
            .map_err(|source| OpenError::Partition { partition: partition.clone(), source })
    }
}
