//! Opening logs of a directory, on any thread.

use super::{LogDirectory, OpenError};
use crate::{
    config::LogConfig,
    format::uuid::Uuid,
    log::{Log, OpenOptions, RecoveryProgress, RecoveryReport, creation},
    types::{Timestamp, TopicPartition},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Opens logs of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opener<'a> {
    directory: &'a LogDirectory,
    now_ms: Timestamp,
}

/// A log that was opened, and what that found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) report: RecoveryReport,
    pub(super) elapsed: Duration,
}

impl<'a> Opener<'a> {
    pub(super) fn new(directory: &'a LogDirectory, now_ms: Timestamp) -> Self {
        Self { directory, now_ms }
    }

    /// Makes the files of partitions that are not there, durable all together.
    pub(super) fn create(
        &self,
        partitions: &[&TopicPartition],
        topic_id: Option<Uuid>,
        config: &LogConfig,
    ) -> Result<(), OpenError> {
        let directory = self.directory;
        for partition in partitions {
            // What may still be said of an older partition of the name.
            directory
                .checkpoints
                .lower(partition, 0)
                .map_err(|source| OpenError::Partition { partition: (*partition).clone(), source })?;
        }
        Ok(creation::create(&directory.storage, partitions, topic_id, config)?)
    }

    pub(super) fn open(
        &self,
        partition: &TopicPartition,
        config: Arc<LogConfig>,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<Opened, OpenError> {
        let Self { directory, now_ms } = self;
        let options = OpenOptions {
            clean: directory.report.clean,
            high_watermark: directory.high_watermarks.get(partition).copied().unwrap_or(0),
            producer_id_expiration_ms: directory.options.producer_id_expiration_ms,
            verify_transactions: directory.options.verify_transactions,
            jitter_seed: now_ms.cast_unsigned(),
            on_corruption: directory.options.on_corruption,
            distrust_cache: directory.report.sync_failed,
            ..OpenOptions::new(config, *now_ms)
        };
        if !directory.has(partition) {
            self.create(&[partition], None, &options.config).map_err(|error| match error {
                OpenError::Storage(error) => {
                    OpenError::Partition { partition: partition.clone(), source: error.into() }
                }
                error => error,
            })?;
        }
        let begun = Instant::now();
        let (log, report) = Log::open(&directory.storage, &directory.checkpoints, partition, &options, progress)
            .map_err(|source| OpenError::Partition { partition: partition.clone(), source })?;
        Ok(Opened { log, report, elapsed: begun.elapsed() })
    }
}
