//! `duramen info`: one screen about each partition of a directory.

use crate::{
    args::InfoArgs,
    dump::optional,
    facts::{Facts, Opened},
    files,
    output::{self, Failure, Output, size, time},
};
use duramen::{
    LogConfig, TopicPartition,
    format::names::{self, DirectoryKind, DirectoryName},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Lines or items of one kind that are shown; JSON has all.
const SHOWN: usize = 8;

pub(crate) fn run(args: &InfoArgs) -> Result<ExitCode, Failure> {
    let partitions = files::partitions(&args.dir)?;
    let config = output::config(&args.circumstances.properties)?;
    let is_partition = matches!(partitions.as_slice(), [(_, path)] if path == &args.dir);
    let absolute = args.dir.canonicalize().map_err(Failure::at(args.dir.display()))?;
    let home = if is_partition { absolute.parent().unwrap_or(&absolute) } else { &args.dir };
    files::warn_of_journal(home);
    let mut info = Info { out: Output::new(), args, home, config };
    if !args.json {
        let clean = home.join(names::CLEAN_SHUTDOWN).exists();
        let state = if clean { "closed in order" } else { "open now, or not closed in order" };
        let title = info.out.bold(home.display());
        info.out.line(format!("{title}: {state}"))?;
    }
    if !is_partition {
        info.others()?;
    }
    for (partition, dir) in partitions {
        info.partition(&partition, &dir)?;
    }
    info.out.flush()?;
    Ok(ExitCode::SUCCESS)
}

struct Info<'a> {
    out: Output,
    args: &'a InfoArgs,
    home: &'a Path,
    config: LogConfig,
}

fn kind_name(kind: DirectoryKind) -> &'static str {
    match kind {
        DirectoryKind::Current => "current",
        DirectoryKind::Future => "future",
        DirectoryKind::Delete => "deleted",
        DirectoryKind::Stray => "stray",
    }
}

fn name_of(dir: &Path) -> String {
    let absolute = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Info<'_> {
    /// Directories of partitions that were deleted, are moving here, or do not belong here; and what is not Kafka's.
    fn others(&mut self) -> Result<(), Failure> {
        for (name, path) in files::entries(self.home)? {
            match DirectoryName::parse(&name) {
                _ if !path.is_dir() => {}
                Ok(DirectoryName { kind: DirectoryKind::Current, .. }) => {}
                Ok(DirectoryName { partition, kind }) => self.other(&name, &partition, kind, &path)?,
                Err(_) if self.args.json => {}
                Err(_) => self.out.line(format!("{name}: not Kafka's"))?,
            }
        }
        Ok(())
    }

    fn other(
        &mut self,
        name: &str,
        partition: &TopicPartition,
        kind: DirectoryKind,
        path: &Path,
    ) -> Result<(), Failure> {
        let files: Vec<PathBuf> = match files::entries(path) {
            // Its owner has removed it.
            Err(_) if !path.exists() => return Ok(()),
            entries => entries?.into_iter().map(|(_, path)| path).collect(),
        };
        let bytes = files.iter().filter_map(|path| path.metadata().ok()).map(|found| found.len()).sum();
        let kind = kind_name(kind);
        if self.args.json {
            return self.out.line(json!({"partition": partition.to_string(), "directory": name, "kind": kind,
                "files": files.len(), "size": bytes}));
        }
        self.out.line(format!("{name}: {kind}, {} files, {}", files.len(), size(bytes)))
    }

    fn partition(&mut self, partition: &TopicPartition, dir: &Path) -> Result<(), Failure> {
        let facts = match Facts::gather(self.home, partition, dir, &self.config, &self.args.circumstances) {
            // Its owner has deleted it.
            Err(_) if !dir.exists() => return Ok(()),
            facts => facts?,
        };
        let name = name_of(dir);
        if self.args.json {
            let kind = DirectoryName::parse(&name).map_or("current", |parsed| kind_name(parsed.kind));
            let mut value = json(&facts);
            value["partition"] = json!(partition.to_string());
            value["directory"] = json!(name);
            value["kind"] = json!(kind);
            return self.out.line(value);
        }
        let title = self.out.bold(if name.is_empty() { partition.to_string() } else { name });
        let segments = facts.segments.len();
        self.out.line("")?;
        self.out.line(format!(
            "{title}  {segments} segments, {}, topic id {}",
            size(facts.size()),
            optional(facts.topic_id)
        ))?;
        self.offsets(&facts)?;
        let epochs = facts.epochs.iter().map(|entry| format!("{}@{}", entry.epoch, entry.start_offset));
        self.list("leader epochs", epochs.collect(), " ")?;
        let snapshots = facts.snapshots.iter().map(|found| match &found.producers {
            Ok(count) => format!("{} ({count} producers)", found.offset),
            Err(error) => self.out.red(format!("{} ({error})", found.offset)),
        });
        let snapshots = snapshots.collect();
        self.list("snapshots", snapshots, ", ")?;
        if let Ok(opened) = &facts.opened {
            self.producers(opened)?;
        }
        let aborted = facts
            .aborted
            .iter()
            .map(|txn| format!("producer {} offsets {}..={}", txn.producer_id, txn.first_offset, txn.last_offset));
        self.list("aborted transactions", aborted.collect(), ", ")?;
        self.cleaning(&facts)?;
        self.list("leftovers", facts.leftovers.clone(), ", ")?;
        self.segments(&facts)
    }

    fn offsets(&mut self, facts: &Facts) -> Result<(), Failure> {
        let known = &facts.checkpoints;
        match &facts.opened {
            Ok(Opened { offsets, report, .. }) => {
                self.out.line(format!(
                    "log start {}, last stable {}, high watermark {}, recovery point {}, log end {}",
                    offsets.log_start,
                    offsets.last_stable,
                    offsets.high_watermark,
                    optional(known.recovery_point),
                    offsets.log_end,
                ))?;
                if report.is_whole() { Ok(()) } else { self.out.line(format!("opening would find: {report}")) }
            }
            Err(error) => {
                let first = facts.segments.first().map_or(0, |segment| segment.base_offset);
                self.out.line(format!(
                    "log start {}, high watermark {}, recovery point {}, log end {}",
                    known.log_start.unwrap_or(0).max(first),
                    optional(known.high_watermark),
                    optional(known.recovery_point),
                    facts.log_end(),
                ))?;
                let line = self.out.red(format!("cannot be opened: {error}"));
                self.out.line(line)
            }
        }
    }

    /// Items on one line, unless there is none.
    fn list(&mut self, title: &str, items: Vec<String>, separator: &str) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
        let hidden = items.len().saturating_sub(SHOWN);
        let shown = items.get(hidden..).unwrap_or_default().join(separator);
        let before = if hidden == 0 { String::new() } else { format!("({hidden} before) ") };
        self.out.line(format!("{title} {before}{shown}"))
    }

    fn producers(&mut self, opened: &Opened) -> Result<(), Failure> {
        if opened.producers.is_empty() {
            return Ok(());
        }
        let mut producers: Vec<_> = opened.producers.iter().collect();
        // Those with an open transaction first, then those that wrote last.
        producers.sort_by_key(|(producer, _)| (producer.current_txn_first_offset.is_none(), -producer.last_timestamp));
        let mut table = output::table(["producer", "epoch", "last sequence", "last write", "open transaction since"]);
        for (producer, is_expired) in producers.iter().take(SHOWN) {
            let last_write = Some(producer.last_timestamp).filter(|timestamp| *timestamp >= 0);
            let last_write = last_write.map_or("-".to_owned(), time);
            table.add_row([
                producer.producer_id.to_string(),
                producer.producer_epoch.to_string(),
                optional(producer.last_sequence),
                if *is_expired { format!("{last_write}, expired") } else { last_write },
                optional(producer.current_txn_first_offset),
            ]);
        }
        self.out.line(table)?;
        match producers.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            hidden => self.out.line(format!("and {hidden} more producers")),
        }
    }

    fn cleaning(&mut self, facts: &Facts) -> Result<(), Failure> {
        let Ok(Opened { verdict, .. }) = &facts.opened else {
            return Ok(());
        };
        let cleaner_point = facts.checkpoints.cleaner_point;
        if cleaner_point.is_none() && !self.config.cleanup_policy.compact {
            return Ok(());
        }
        let to_clean = &verdict.to_clean;
        self.out.line(format!(
            "cleaner point {}, first dirty {}, first uncleanable {}, {} clean, {} cleanable, dirty ratio {:.2}",
            optional(cleaner_point),
            to_clean.first_dirty_offset,
            to_clean.first_uncleanable_offset,
            size(to_clean.clean_bytes),
            size(to_clean.cleanable_bytes),
            to_clean.cleanable_ratio(),
        ))?;
        let due = if to_clean.is_eligible { "a cleaning is due" } else { "no cleaning is due" };
        self.out.line(format!("{due}: {}", verdict.why))
    }

    fn segments(&mut self, facts: &Facts) -> Result<(), Failure> {
        let mut table = output::table([
            "segment",
            "size",
            "batches",
            "last offset",
            "max timestamp",
            "index",
            "time index",
            "aborted",
            "health",
        ]);
        for segment in &facts.segments {
            table.add_row([
                segment.base_offset.to_string(),
                size(segment.size),
                segment.walk.batches.to_string(),
                optional(segment.walk.next_offset.map(|next| next - 1)),
                segment.walk.max_timestamp.map_or("-".to_owned(), time),
                optional(segment.index_entries),
                optional(segment.time_index_entries),
                optional(segment.aborted),
                segment.walk.damage.clone().unwrap_or("whole".to_owned()),
            ]);
        }
        self.out.line(table)
    }
}

fn json(facts: &Facts) -> Value {
    let segments = facts.segments.iter().map(|segment| {
        json!({"base_offset": segment.base_offset, "size": segment.size, "batches": segment.walk.batches,
            "last_offset": segment.walk.next_offset.map(|next| next - 1), "max_timestamp": segment.walk.max_timestamp,
            "index_entries": segment.index_entries, "time_index_entries": segment.time_index_entries,
            "aborted": segment.aborted, "damage": segment.walk.damage})
    });
    let snapshots = facts.snapshots.iter().map(|found| {
        json!({"offset": found.offset, "size": found.size, "producers": found.producers.as_ref().ok(),
            "error": found.producers.as_ref().err()})
    });
    let aborted = facts.aborted.iter().map(|txn| {
        json!({"producer_id": txn.producer_id, "first_offset": txn.first_offset, "last_offset": txn.last_offset,
            "last_stable_offset": txn.last_stable_offset})
    });
    let epochs = facts.epochs.iter().map(|entry| json!({"epoch": entry.epoch, "start_offset": entry.start_offset}));
    let known = &facts.checkpoints;
    let mut value = json!({
        "topic_id": facts.topic_id.map(|id| id.to_string()), "size": facts.size(),
        "checkpoints": {"log_start_offset": known.log_start, "high_watermark": known.high_watermark,
            "recovery_point": known.recovery_point, "cleaner_point": known.cleaner_point},
        "leader_epochs": epochs.collect::<Vec<_>>(), "snapshots": snapshots.collect::<Vec<_>>(),
        "aborted_transactions": aborted.collect::<Vec<_>>(), "leftovers": facts.leftovers,
        "segments": segments.collect::<Vec<_>>(),
    });
    match &facts.opened {
        Ok(opened) => add_opened(&mut value, opened),
        Err(error) => value["error"] = json!(error),
    }
    value
}

fn add_opened(value: &mut Value, opened: &Opened) {
    let offsets = &opened.offsets;
    let producers = opened.producers.iter().map(|(producer, is_expired)| {
        json!({"producer_id": producer.producer_id, "producer_epoch": producer.producer_epoch,
            "last_sequence": producer.last_sequence, "last_timestamp": producer.last_timestamp,
            "coordinator_epoch": producer.coordinator_epoch, "is_expired": is_expired,
            "current_txn_first_offset": producer.current_txn_first_offset})
    });
    let open = opened.producers.iter().filter_map(|(producer, _)| {
        let first_offset = producer.current_txn_first_offset?;
        Some(json!({"producer_id": producer.producer_id, "producer_epoch": producer.producer_epoch,
            "first_offset": first_offset, "last_timestamp": producer.last_timestamp}))
    });
    value["log_start_offset"] = json!(offsets.log_start);
    value["last_stable_offset"] = json!(offsets.last_stable);
    value["high_watermark"] = json!(offsets.high_watermark);
    value["log_end_offset"] = json!(offsets.log_end);
    value["first_unstable_offset"] = json!(opened.first_unstable);
    value["producers"] = producers.collect();
    value["open_transactions"] = open.collect();
    value["cleaning"] = opened.verdict.json();
    value["opening"] = json!(opened.report.to_string());
    value["is_whole"] = json!(opened.report.is_whole());
}
