//! A partition as the engine finds it, without a lock and without a change.

use crate::{args::Circumstances, frozen::Frozen, output};
use duramen::{
    DirectoryOptions, LogConfig, LogDirectory, OnCorruption, OpenError, Timestamp, TopicPartition,
    storage::StorageError,
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
) -> Result<LogDirectory, OpenError> {
    let options = DirectoryOptions {
        on_corruption: OnCorruption::Report,
        producer_id_expiration_ms: i64::MAX,
        lock_timeout: Duration::ZERO,
        now_ms: Some(circumstances.now_ms()),
        ..DirectoryOptions::default()
    };
    let mut directory = LogDirectory::open_on(Arc::new(frozen), options)?;
    let log = directory.get(partition, config)?;
    if circumstances.sole_replica {
        let log_end = log.offsets().log_end;
        log.update_high_watermark(log_end);
    }
    Ok(directory)
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
