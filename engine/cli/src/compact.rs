//! `duramen compact`.

use crate::{
    args::CompactArgs,
    cleaning::Verdict,
    dump::DECOMPRESSED_BYTES,
    files::{self, At, LogFile},
    output::{self, Failure, Output, size},
    target::{self, Target},
    view,
};
use duramen::{
    CleanerControl, CleanerOptions, CleanerProgress, CleanerStats, LogConfig, LogDirectory, OpenError, Removed,
    RemovedRecords, TopicPartition,
};
use serde_json::{Value, json};
use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// A partition that was looked at, and what came of it.
struct Outcome {
    partition: TopicPartition,
    verdict: Verdict,
    cleaned: Option<Cleaned>,
    /// What a dry run found.
    planned: Option<CleanerStats>,
}

struct Cleaned {
    stats: CleanerStats,
    took: Duration,
    bytes_before: u64,
    bytes_after: u64,
    files_removed: Option<usize>,
}

pub(crate) fn run(args: &CompactArgs) -> Result<ExitCode, Failure> {
    let target = Target::of(&args.upkeep)?;
    if !target.is_named() && !target.config.cleanup_policy.compact {
        let policy = target.config.get("cleanup.policy").unwrap_or_default();
        return Err(Failure::new(format!(
            "cleanup.policy is {policy}: say --set cleanup.policy=compact for every partition, or name some with --partition"
        )));
    }
    let mut compaction = Compaction { args, config: target.config.clone(), out: Output::new(), failures: 0 };
    compaction.config.cleanup_policy.compact = true;
    let mut owned = target.open()?;
    let mut outcomes = compaction.look(&target, &mut owned)?;
    if !args.upkeep.json {
        compaction.print_verdicts(&outcomes)?;
    }
    compaction.clean_due(owned.as_mut(), &mut outcomes)?;
    compaction.print_results(&outcomes)?;
    target::close(owned)?;
    compaction.out.flush()?;
    Ok(if compaction.failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

struct Compaction<'a> {
    args: &'a CompactArgs,
    config: LogConfig,
    out: Output,
    failures: usize,
}

impl Compaction<'_> {
    fn json(&self) -> bool {
        self.args.upkeep.json
    }

    fn fail(&mut self, partition: &TopicPartition, error: &str) -> Result<(), Failure> {
        self.failures += 1;
        target::say_failed(&mut self.out, self.args.upkeep.json, partition, error)
    }

    /// Opens every partition and asks what a cleaning would take.
    fn look(&mut self, target: &Target<'_>, owned: &mut Option<LogDirectory>) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        for (partition, dir) in &target.partitions {
            let is_keyless = if target.is_named() { Ok(false) } else { holds_keyless(dir) };
            match is_keyless {
                // Its owner has deleted it.
                Err(_) if !dir.exists() => continue,
                Ok(true) => {
                    self.skip(partition)?;
                    continue;
                }
                looked => drop(looked?),
            }
            let verdict = target.with(owned, partition, &self.config, |directory| {
                let unknown = || OpenError::UnknownPartition { partition: partition.clone() };
                let to_clean = directory.log_to_clean(partition)?.ok_or_else(unknown)?;
                Ok(Verdict::on(directory.get(partition, &self.config)?, to_clean))
            });
            match verdict {
                Ok(verdict) => {
                    outcomes.push(Outcome { partition: partition.clone(), verdict, cleaned: None, planned: None })
                }
                // Its owner has deleted it.
                Err(_) if !dir.exists() => {}
                Err(error) => self.fail(partition, &error)?,
            }
        }
        Ok(outcomes)
    }

    fn skip(&mut self, partition: &TopicPartition) -> Result<(), Failure> {
        let why = "holds records without keys, which compaction would drop: left alone unless --partition names it";
        if self.json() {
            return self.out.line(json!({"partition": partition.to_string(), "skipped": why}));
        }
        self.out.line(format!("{partition} {why}"))
    }

    fn print_verdicts(&mut self, outcomes: &[Outcome]) -> Result<(), Failure> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let mut table =
            output::table(["partition", "clean", "cleanable", "dirty ratio", "dirty from", "up to", "due", "because"]);
        for outcome in outcomes {
            let to_clean = &outcome.verdict.to_clean;
            table.add_row([
                outcome.partition.to_string(),
                size(to_clean.clean_bytes),
                size(to_clean.cleanable_bytes),
                format!("{:.2}", to_clean.cleanable_ratio()),
                to_clean.first_dirty_offset.to_string(),
                to_clean.first_uncleanable_offset.to_string(),
                if to_clean.is_eligible { "yes" } else { "no" }.to_owned(),
                outcome.verdict.why.clone(),
            ]);
        }
        self.out.line(table)?;
        self.out.flush()
    }

    /// Cleans what is due, or, where nothing may be done, finds out what that would do.
    fn clean_due(
        &mut self,
        mut directory: Option<&mut LogDirectory>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Failure> {
        let mut done = Vec::new();
        for mut outcome in std::mem::take(outcomes) {
            let wanted = outcome.verdict.to_clean.is_eligible || self.args.force;
            if wanted && outcome.verdict.has_cleanable() {
                let done = match &mut directory {
                    Some(directory) => self.clean(directory, &outcome).map(|cleaned| outcome.cleaned = Some(cleaned)),
                    None => self.plan(&outcome.partition).map(|stats| outcome.planned = Some(stats)),
                };
                match done {
                    Ok(()) => {}
                    Err(error) => {
                        let error = format!("{}: {error}", self.args.upkeep.dir.display());
                        self.fail(&outcome.partition, &error)?;
                        continue;
                    }
                }
            }
            done.push(outcome);
        }
        *outcomes = done;
        Ok(())
    }

    fn options(&self) -> CleanerOptions {
        CleanerOptions {
            dedupe_buffer_bytes: self.args.memory,
            hash_seed: RandomState::new().hash_one(()),
            ..CleanerOptions::default()
        }
    }

    fn plan(&self, partition: &TopicPartition) -> Result<CleanerStats, OpenError> {
        let upkeep = &self.args.upkeep;
        view::plan_cleaning(&upkeep.dir, partition, &self.config, &upkeep.circumstances, &self.options())
    }

    fn clean(&self, directory: &mut LogDirectory, outcome: &Outcome) -> Result<Cleaned, OpenError> {
        let Outcome { partition, verdict: Verdict { to_clean, .. }, .. } = outcome;
        let options = self.options();
        // The dirty part is read twice: for its keys, and to be written anew.
        let bytes_total = to_clean.cleanable_bytes.saturating_mul(2).saturating_add(to_clean.clean_bytes);
        let bar = output::progress_bar(partition, bytes_total);
        let bytes_before = directory.get(partition, &self.config)?.reader().size();
        let begun = Instant::now();
        let cleaned = directory.clean(partition, to_clean, &options, &mut |progress| {
            bar.set_position(progress.bytes_read);
            thread::sleep(self.delay(progress).saturating_sub(begun.elapsed()));
            CleanerControl::Continue
        });
        bar.finish_and_clear();
        let (stats, took) = (cleaned?, begun.elapsed());
        let log = directory.get(partition, &self.config)?;
        let removed = self.args.upkeep.now.then(|| log.remove_retired_files(i64::MAX)).transpose();
        let files_removed = removed.map_err(|source| OpenError::Partition { partition: partition.clone(), source })?;
        Ok(Cleaned { stats, took, bytes_before, bytes_after: log.reader().size(), files_removed })
    }

    /// How long reading and writing so much takes at least.
    fn delay(&self, progress: CleanerProgress) -> Duration {
        let bytes = progress.bytes_read.saturating_add(progress.bytes_written);
        self.args.max_mb_per_second.map_or(Duration::ZERO, |limit| Duration::from_micros(bytes / limit))
    }

    fn print_results(&mut self, outcomes: &[Outcome]) -> Result<(), Failure> {
        if self.json() {
            return outcomes.iter().try_for_each(|outcome| self.out.line(outcome.json()));
        }
        if self.args.upkeep.dry_run {
            return self.print_plans(outcomes);
        }
        let mut table = output::table([
            "compacted",
            "records",
            "bytes",
            "segments",
            "took",
            "MB/s",
            "cleaner point",
            "replaced files",
        ]);
        for Outcome { partition, cleaned, .. } in outcomes {
            let Some(cleaned) = cleaned else {
                continue;
            };
            let stats = &cleaned.stats;
            table.add_row([
                partition.to_string(),
                format!("{} -> {}", records_before(stats), stats.messages_written),
                format!("{} -> {}", size(cleaned.bytes_before), size(cleaned.bytes_after)),
                format!("{} -> {}", stats.segments_read, stats.segments_written),
                format!("{} ms", cleaned.took.as_millis()),
                format!("{:.0}", cleaned.mb_per_second()),
                stats.end_offset.to_string(),
                cleaned.files_removed.map_or("go at the next open".to_owned(), |count| format!("{count} removed")),
            ]);
        }
        if table.is_empty() {
            return self.out.line("nothing was compacted");
        }
        self.out.line(table)
    }

    fn print_plans(&mut self, outcomes: &[Outcome]) -> Result<(), Failure> {
        let mut table = output::table([
            "would compact",
            "records",
            "bytes",
            "segments",
            "superseded",
            "expired tombstones",
            "aborted",
            "markers",
            "without key",
            "cleaner point",
        ]);
        for outcome in outcomes {
            let Some(stats) = &outcome.planned else {
                continue;
            };
            let goes = |removed: Removed| match removed.records {
                0 => "-".to_owned(),
                records => format!("{records} ({})", size(removed.bytes)),
            };
            table.add_row([
                outcome.partition.to_string(),
                format!("{} -> {}", records_before(stats), stats.messages_written),
                format!("{} -> {}", size(stats.bytes_read), size(stats.bytes_written)),
                format!("{} -> {}", stats.segments_read, stats.segments_written),
                goes(stats.removed.superseded),
                goes(stats.removed.tombstones),
                goes(stats.removed.aborted),
                goes(stats.removed.markers),
                goes(stats.removed.keyless),
                stats.end_offset.to_string(),
            ]);
        }
        if !table.is_empty() {
            self.out.line(table)?;
        }
        self.out.line("dry run: nothing was changed")
    }
}

impl Outcome {
    fn json(&self) -> Value {
        let mut value = self.verdict.json();
        value["partition"] = json!(self.partition.to_string());
        value["would_clean"] = self.planned.as_ref().map_or(Value::Null, |stats| {
            json!({
                "records_before": records_before(stats), "records_after": stats.messages_written,
                "keys": stats.map_entries, "bytes_read": stats.bytes_read, "bytes_written": stats.bytes_written,
                "segments_before": stats.segments_read, "segments_after": stats.segments_written,
                "cleaner_point": stats.end_offset, "removed": removed(stats),
            })
        });
        value["cleaned"] = self.cleaned.as_ref().map_or(Value::Null, |cleaned| {
            let stats = &cleaned.stats;
            json!({
                "records_before": records_before(stats), "records_after": stats.messages_written,
                "bytes_read": stats.bytes_read, "bytes_written": stats.bytes_written, "removed": removed(stats),
                "records_without_key": stats.invalid_messages, "keys": stats.map_entries,
                "bytes_before": cleaned.bytes_before, "bytes_after": cleaned.bytes_after,
                "segments_before": stats.segments_read, "segments_after": stats.segments_written,
                "took_ms": u64::try_from(cleaned.took.as_millis()).unwrap_or(u64::MAX),
                "mb_per_second": cleaned.mb_per_second(), "cleaner_point": stats.end_offset,
                "files_removed": cleaned.files_removed,
            })
        });
        value
    }
}

impl Cleaned {
    /// Bytes read in both phases, by time.
    #[allow(clippy::cast_precision_loss)] // a speed needs no more than 53 bits
    fn mb_per_second(&self) -> f64 {
        let bytes = self.stats.map_bytes_read.saturating_add(self.stats.bytes_read);
        bytes as f64 / 1e6 / self.took.as_secs_f64().max(1e-6)
    }
}

/// Records and markers of all segments that went in. The engine counts as Kafka does, which leaves those out that go with
/// their batch.
fn records_before(stats: &CleanerStats) -> u64 {
    let RemovedRecords { aborted, markers, keyless, superseded, tombstones } = stats.removed;
    let removed = [aborted, markers, keyless, superseded, tombstones];
    removed.iter().fold(stats.messages_written, |sum, removed| sum.saturating_add(removed.records))
}

/// What goes, by the reason.
fn removed(stats: &CleanerStats) -> Value {
    let part = |removed: Removed| json!({"records": removed.records, "bytes": removed.bytes});
    let RemovedRecords { aborted, markers, keyless, superseded, tombstones } = stats.removed;
    json!({
        "superseded": part(superseded), "expired_tombstones": part(tombstones), "aborted": part(aborted),
        "markers": part(markers), "without_key": part(keyless),
    })
}

/// Whether the first record of a segment has no key, as can be in a topic only that is not compacted.
fn holds_keyless(dir: &Path) -> Result<bool, Failure> {
    for (_, path) in files::segments(dir)? {
        if first_record_has_key(&path)? == Some(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `None` when there is no record that can be read.
fn first_record_has_key(path: &Path) -> Result<Option<bool>, Failure> {
    let mut log = LogFile::open(path)?;
    while let At::Batch(_, Ok(())) = log.step()? {
        let Ok(batch) = log.batch() else {
            return Ok(None);
        };
        if batch.header().attributes().is_control() {
            continue;
        }
        let mut scratch = Vec::new();
        let Ok(mut records) = batch.records(&mut scratch, DECOMPRESSED_BYTES) else {
            return Ok(None);
        };
        if let Some(Ok(record)) = records.next() {
            return Ok(Some(record.key().is_some()));
        }
    }
    Ok(None)
}
