//! A partition as the engine finds it, without a lock and without a change.

use crate::{args::Circumstances, frozen::Frozen, output};
use duramen::{
    CleanerControl, CleanerOptions, CleanerStats, DirectoryOptions, LogConfig, LogDirectory, OnCorruption, OpenError,
    Timestamp, TopicPartition, storage::StorageError,
};
use std::{path::Path, sync::Arc, time::Duration};

/// How often a directory is looked at again because its owner removed or added files meanwhile.
const ATTEMPTS: usize = 5;

impl Circumstances {
    /// The time to go by, in ms.
    pub(crate) fn now_ms(&self) -> Timestamp {
        self.at.unwrap_or_else(output::now_ms)
    }
}

/// Opens one partition of a log directory on a copy of it that lives in memory: what is then done to it is done there.
/// `name` is the directory that holds the partition's files. No producer is forgotten, however long it was silent.
///
/// # Errors
/// As [`LogDirectory::open_on`] and [`LogDirectory::get`].
pub(crate) fn open(
    home: &Path,
    name: &str,
    partition: &TopicPartition,
    config: &LogConfig,
    circumstances: &Circumstances,
) -> Result<LogDirectory, OpenError> {
    open_with(home, name, partition, config, circumstances).map(|(directory, _)| directory)
}

/// What a cleaning would do: the engine's own, on a copy of the partition whose new logs are only measured.
///
/// # Errors
/// As [`open`], and what the cleaning fails with.
pub(crate) fn plan_cleaning(
    home: &Path,
    partition: &TopicPartition,
    config: &LogConfig,
    circumstances: &Circumstances,
    options: &CleanerOptions,
) -> Result<CleanerStats, OpenError> {
    let (mut directory, frozen) = open_with(home, &partition.to_string(), partition, config, circumstances)?;
    let unknown = || OpenError::UnknownPartition { partition: partition.clone() };
    let to_clean = directory.log_to_clean(partition)?.ok_or_else(unknown)?;
    let log = directory.get(partition, config)?;
    frozen.measure_new_logs();
    let failed = |source| OpenError::Partition { partition: partition.clone(), source };
    let cleaning = log.begin_cleaning(&to_clean, circumstances.now_ms()).map_err(failed)?;
    let bar = output::progress_bar(partition, to_clean.cleanable_bytes.saturating_mul(2) + to_clean.clean_bytes);
    let cleaned = cleaning.run(options, &mut |progress| {
        bar.set_position(progress.bytes_read);
        CleanerControl::Continue
    });
    bar.finish_and_clear();
    Ok(*cleaned.map_err(failed)?.stats())
}

fn open_with(
    home: &Path,
    name: &str,
    partition: &TopicPartition,
    config: &LogConfig,
    circumstances: &Circumstances,
) -> Result<(LogDirectory, Arc<Frozen>), OpenError> {
    let look = || Frozen::look(home, &[(name, &partition.to_string())]);
    for _ in 1..ATTEMPTS {
        let frozen = look()?;
        let names = frozen.names();
        match open_frozen(frozen, partition, config, circumstances) {
            Err(_) if look()?.names() != names => {}
            opened => return opened,
        }
    }
    open_frozen(look()?, partition, config, circumstances)
}

fn open_frozen(
    frozen: Frozen,
    partition: &TopicPartition,
    config: &LogConfig,
    circumstances: &Circumstances,
) -> Result<(LogDirectory, Arc<Frozen>), OpenError> {
    let frozen = Arc::new(frozen);
    let options = DirectoryOptions {
        on_corruption: OnCorruption::Report,
        producer_id_expiration_ms: i64::MAX,
        lock_timeout: Duration::ZERO,
        now_ms: Some(circumstances.now_ms()),
        ..DirectoryOptions::default()
    };
    let mut directory = LogDirectory::open_on(Arc::<Frozen>::clone(&frozen), options)?;
    let log = directory.get(partition, config)?;
    if circumstances.sole_replica {
        let log_end = log.offsets().log_end;
        log.update_high_watermark(log_end);
    }
    Ok((directory, frozen))
}

/// Names the log directory in an error on one of its files.
pub(crate) fn placed(home: &Path, error: &OpenError) -> String {
    match error {
        OpenError::Storage(StorageError { operation, path, source }) => {
            format!("{operation} {}: {source}", home.join(path).display())
        }
        error => format!("{}: {error}", home.display()),
    }
}
