//! The partitions that `compact` and `retain` work on, and their log directory, opened as its owner or only looked at.

use crate::{
    args::Upkeep,
    files,
    output::{self, Failure, Output},
    view,
};
use duramen::{DirectoryOptions, LogConfig, LogDirectory, OnCorruption, OpenError, Timestamp, TopicPartition};
use serde_json::json;
use std::{path::PathBuf, time::Duration};

/// What a command was told to work on.
pub(crate) struct Target<'a> {
    upkeep: &'a Upkeep,
    pub(crate) config: LogConfig,
    pub(crate) now_ms: Timestamp,
    /// Each partition with its directory.
    pub(crate) partitions: Vec<(TopicPartition, PathBuf)>,
}

impl<'a> Target<'a> {
    pub(crate) fn of(upkeep: &'a Upkeep) -> Result<Self, Failure> {
        let home = files::log_directory(&upkeep.dir)?;
        let mut partitions = files::partitions(home)?;
        let named = |wanted: &String| partitions.iter().any(|(partition, _)| partition.to_string() == *wanted);
        if let Some(missing) = upkeep.partitions.iter().find(|wanted| !named(wanted)) {
            return Err(Failure::new(format!("{}: there is no partition {missing}", home.display())));
        }
        if !upkeep.partitions.is_empty() {
            partitions.retain(|(partition, _)| upkeep.partitions.contains(&partition.to_string()));
        }
        let config = output::config(&upkeep.circumstances.properties)?;
        Ok(Self { upkeep, config, now_ms: upkeep.circumstances.now_ms(), partitions })
    }

    /// Whether the partitions were given by name.
    pub(crate) fn is_named(&self) -> bool {
        !self.upkeep.partitions.is_empty()
    }

    /// Opens the log directory as its owner, unless nothing is to be done.
    pub(crate) fn open(&self) -> Result<Option<LogDirectory>, Failure> {
        if self.upkeep.dry_run {
            return Ok(None);
        }
        let options = DirectoryOptions {
            on_corruption: OnCorruption::Report,
            lock_timeout: Duration::from_secs(3),
            now_ms: self.upkeep.circumstances.at,
            ..DirectoryOptions::default()
        };
        let opened = LogDirectory::open_with(&self.upkeep.dir, options);
        opened.map(Some).map_err(|error| Failure::failed(view::placed(&self.upkeep.dir, &error)))
    }

    /// Opens a partition's log where it is to be worked on, else on a directory in memory; and does something with it.
    pub(crate) fn with<T>(
        &self,
        owned: &mut Option<LogDirectory>,
        partition: &TopicPartition,
        config: &LogConfig,
        work: impl FnOnce(&mut LogDirectory) -> Result<T, OpenError>,
    ) -> Result<T, String> {
        let circumstances = &self.upkeep.circumstances;
        let done = match owned {
            None => view::open(&self.upkeep.dir, &partition.to_string(), partition, config, circumstances)
                .and_then(|mut looked_at| work(&mut looked_at)),
            Some(directory) => {
                open_owned(directory, partition, config, circumstances.sole_replica).and_then(|()| work(directory))
            }
        };
        done.map_err(|error| view::placed(&self.upkeep.dir, &error))
    }
}

fn open_owned(
    directory: &mut LogDirectory,
    partition: &TopicPartition,
    config: &LogConfig,
    sole_replica: bool,
) -> Result<(), OpenError> {
    let bar = output::progress_bar(format!("recover {partition}"), 0);
    let opened = directory.get_or_create_with(partition, config, &mut |progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
    });
    bar.finish_and_clear();
    let log = opened?;
    if sole_replica {
        let log_end = log.offsets().log_end;
        log.update_high_watermark(log_end);
    }
    Ok(())
}

/// Closes a log directory in order, if it was opened as its owner.
pub(crate) fn close(owned: Option<LogDirectory>) -> Result<(), Failure> {
    owned.map_or(Ok(()), |directory| directory.close().map_err(Failure::failed))
}

/// Says that something failed on a partition.
pub(crate) fn say_failed(out: &mut Output, json: bool, partition: &TopicPartition, error: &str) -> Result<(), Failure> {
    if json {
        return out.line(json!({"partition": partition.to_string(), "error": error}));
    }
    let text = out.red(error);
    out.line(text)
}
