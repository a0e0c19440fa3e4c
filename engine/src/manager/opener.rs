//! Opening logs of a directory, on any thread.

use super::{LogDirectory, OpenError};
use crate::{
    config::LogConfig,
    log::{Log, OpenOptions, RecoveryProgress, RecoveryReport},
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
        let begun = Instant::now();
        let (log, report) = Log::open(&directory.storage, &directory.checkpoints, partition, &options, progress)
            .map_err(|source| OpenError::Partition { partition: partition.clone(), source })?;
        Ok(Opened { log, report, elapsed: begun.elapsed() })
    }
}
