//! `duramen retain`.

use crate::{
    args::RetainArgs,
    files,
    output::{self, Failure, Output, size},
    target::{self, Target},
};
use duramen::{
    ExpiredSegment, Log, LogConfig, LogDirectory, LogError, OpenError, RetentionReason, Timestamp, TopicPartition,
    format::names,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path, process::ExitCode, time::UNIX_EPOCH};

/// A partition that was looked at, and what came of it.
struct Outcome {
    partition: TopicPartition,
    segments: Vec<Row>,
    /// Why neither time nor size count here.
    spared: Option<&'static str>,
    removed: Option<Removed>,
}

/// A segment, and whether it goes.
struct Row {
    base_offset: i64,
    size: u64,
    newest_ms: Option<Timestamp>,
    expired: Option<RetentionReason>,
    why: String,
}

struct Removed {
    segments: Vec<ExpiredSegment>,
    log_start: i64,
    files: Option<usize>,
}

pub(crate) fn run(args: &RetainArgs) -> Result<ExitCode, Failure> {
    let target = Target::of(&args.upkeep)?;
    let mut retention = Retention { args, now_ms: target.now_ms, out: Output::new(), failures: 0 };
    let mut owned = target.open()?;
    let mut outcomes = Vec::new();
    for (partition, dir) in &target.partitions {
        if let Some(outcome) = retention.look(&target, &mut owned, partition, dir)? {
            outcomes.push(outcome);
        }
    }
    if !args.upkeep.json {
        retention.print_segments(&outcomes)?;
    }
    if let Some(directory) = &mut owned {
        retention.remove(directory, &target.config, &mut outcomes)?;
    }
    retention.print_results(&outcomes)?;
    target::close(owned)?;
    retention.out.flush()?;
    Ok(if retention.failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

struct Retention<'a> {
    args: &'a RetainArgs,
    now_ms: Timestamp,
    out: Output,
    failures: usize,
}

impl Retention<'_> {
    fn fail(&mut self, partition: &TopicPartition, error: &str) -> Result<(), Failure> {
        self.failures += 1;
        target::say_failed(&mut self.out, self.args.upkeep.json, partition, error)
    }

    /// Opens a partition and asks what would go.
    fn look(
        &mut self,
        target: &Target<'_>,
        owned: &mut Option<LogDirectory>,
        partition: &TopicPartition,
        dir: &Path,
    ) -> Result<Option<Outcome>, Failure> {
        let spared = if target.is_named() { None } else { spared(&self.args.upkeep.dir, partition)? };
        let mut config = target.config.clone();
        if spared.is_some() {
            config.cleanup_policy.delete = false;
        }
        let rows = target.with(owned, partition, &config, |directory| {
            let log = directory.get(partition, &config)?;
            rows(log, dir, self.now_ms).map_err(|source| OpenError::Partition { partition: partition.clone(), source })
        });
        match rows {
            Ok(segments) => Ok(Some(Outcome { partition: partition.clone(), segments, spared, removed: None })),
            // Its owner has deleted it.
            Err(_) if !dir.exists() => Ok(None),
            Err(error) => self.fail(partition, &error).map(|()| None),
        }
    }

    fn print_segments(&mut self, outcomes: &[Outcome]) -> Result<(), Failure> {
        let mut table = output::table(["partition", "segment", "size", "newest record", "age", "goes", "because"]);
        for outcome in outcomes {
            for row in &outcome.segments {
                table.add_row([
                    outcome.partition.to_string(),
                    row.base_offset.to_string(),
                    size(row.size),
                    row.newest_ms.map_or("-".to_owned(), output::time),
                    row.newest_ms.map_or("-".to_owned(), |newest| output::age(newest, self.now_ms)),
                    if row.expired.is_some() { "yes" } else { "no" }.to_owned(),
                    row.why.clone(),
                ]);
            }
        }
        if !table.is_empty() {
            self.out.line(table)?;
        }
        for outcome in outcomes {
            if let Some(why) = outcome.spared {
                self.out.line(format!(
                    "{}: {why}: only what lies below its log start goes, unless --partition names it",
                    outcome.partition
                ))?;
            }
        }
        self.out.flush()
    }

    fn remove(
        &mut self,
        directory: &mut LogDirectory,
        config: &LogConfig,
        outcomes: &mut [Outcome],
    ) -> Result<(), Failure> {
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.segments.iter().any(|row| row.expired.is_some())) {
            let partition = outcome.partition.clone();
            let now = self.args.upkeep.now;
            let removed = directory.get(&partition, config).and_then(|log| {
                remove(log, self.now_ms, now).map_err(|source| OpenError::Partition { partition, source })
            });
            match removed {
                Ok(removed) => outcome.removed = Some(removed),
                Err(error) => {
                    let error = format!("{}: {error}", self.args.upkeep.dir.display());
                    self.fail(&outcome.partition, &error)?;
                }
            }
        }
        Ok(())
    }

    fn print_results(&mut self, outcomes: &[Outcome]) -> Result<(), Failure> {
        if self.args.upkeep.json {
            let now_ms = self.now_ms;
            return outcomes
                .iter()
                .flat_map(|outcome| outcome.segments.iter().map(move |row| row.json(outcome, now_ms)))
                .try_for_each(|value| self.out.line(value));
        }
        if self.args.upkeep.dry_run {
            return self.out.line("dry run: nothing was changed");
        }
        let mut nothing = true;
        for Outcome { partition, removed, .. } in outcomes {
            let Some(Removed { segments, log_start, files }) = removed else {
                continue;
            };
            nothing = false;
            let bytes = size(segments.iter().map(|segment| segment.size).sum());
            let files = match files {
                Some(count) => format!("{count} files are gone"),
                None => "the files go at the next open of the directory, or now with --now".to_owned(),
            };
            self.out.line(format!(
                "{partition}: {} segments, {bytes} removed, log start {log_start}; {files}",
                segments.len()
            ))?;
        }
        if nothing { self.out.line("nothing was removed") } else { Ok(()) }
    }
}

impl Row {
    fn json(&self, outcome: &Outcome, now_ms: Timestamp) -> Value {
        let Outcome { partition, removed, spared, .. } = outcome;
        let gone = removed
            .as_ref()
            .is_some_and(|removed| removed.segments.iter().any(|segment| segment.base_offset == self.base_offset));
        json!({
            "partition": partition.to_string(), "base_offset": self.base_offset, "size": self.size,
            "newest_timestamp": self.newest_ms, "age_ms": self.newest_ms.map(|newest| now_ms.saturating_sub(newest)),
            "goes": self.expired.is_some(), "reason": self.expired.map(reason_name), "why": self.why,
            "spared": spared, "removed": gone, "log_start": removed.as_ref().map(|removed| removed.log_start),
            "files_removed": removed.as_ref().and_then(|removed| removed.files),
        })
    }
}

fn reason_name(reason: RetentionReason) -> &'static str {
    match reason {
        RetentionReason::LogStart => "log start",
        RetentionReason::Size => "retention.bytes",
        RetentionReason::Time => "retention.ms",
    }
}

/// Why a partition that was not named keeps what is old.
fn spared(home: &Path, partition: &TopicPartition) -> Result<Option<&'static str>, Failure> {
    if partition.topic().starts_with("__") {
        return Ok(Some("is internal to Kafka"));
    }
    let point = files::checkpointed(home, names::CLEANER_CHECKPOINT, partition)?;
    Ok(point.map(|_| "was compacted before"))
}

fn rows(log: &Log, dir: &Path, now_ms: Timestamp) -> Result<Vec<Row>, LogError> {
    let expired: BTreeMap<_, _> =
        log.expired_segments(now_ms)?.iter().map(|segment| (segment.base_offset, segment.reason)).collect();
    let config = log.config();
    let active = log.reader().log_end().segment_base_offset;
    let high_watermark = log.offsets().high_watermark;
    let segments = log.reader().segments()?;
    let ends = segments.iter().skip(1).map(|next| next.base_offset).chain([log.offsets().log_end]);
    let first_held = segments.iter().zip(ends).find(|(_, end)| *end > high_watermark);
    let first_held = first_held.map_or(i64::MAX, |(segment, _)| segment.base_offset);
    let rows = segments.into_iter().map(|segment| {
        let newest_ms = segment.largest_timestamp.or_else(|| modified_ms(&dir.join(names::log(segment.base_offset))));
        let expired = expired.get(&segment.base_offset).copied();
        let why = match expired {
            Some(RetentionReason::LogStart) => format!("it lies below the log start {}", log.offsets().log_start),
            Some(RetentionReason::Size) => {
                format!(
                    "without it the log still holds {} (retention.bytes)",
                    size(config.retention_bytes.unwrap_or(0))
                )
            }
            Some(RetentionReason::Time) => {
                format!("older than {} (retention.ms)", output::duration(config.retention_ms.unwrap_or(0)))
            }
            None if segment.base_offset >= first_held => format!("not below the high watermark {high_watermark}"),
            None if segment.base_offset == active => "active".to_owned(),
            None => String::new(),
        };
        Row { base_offset: segment.base_offset, size: segment.size, newest_ms, expired, why }
    });
    Ok(rows.collect())
}

fn modified_ms(path: &Path) -> Option<Timestamp> {
    let modified = path.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(modified.as_millis()).ok()
}

fn remove(log: &mut Log, now_ms: Timestamp, at_once: bool) -> Result<Removed, LogError> {
    let segments = log.delete_old_segments(now_ms)?;
    let files = at_once.then(|| log.remove_retired_files(i64::MAX)).transpose()?;
    Ok(Removed { segments, log_start: log.offsets().log_start, files })
}
