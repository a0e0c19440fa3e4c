//! `duramen verify`: everything that can be told from the files alone.

use crate::{
    args::VerifyArgs,
    dump::DECOMPRESSED_BYTES,
    files::{self, At, LogFile},
    output::{self, Failure, Output, size},
    owner,
};
use duramen::{
    TopicPartition,
    format::{
        FormatError,
        batch::BatchHeader,
        checkpoint,
        index_entry::{AbortedTxn, OffsetIndexView, TimeIndexView},
        meta_properties::MetaProperties,
        names::{self, FileName, SegmentFile, Suffix},
        partition_metadata, snapshot,
    },
};
use indicatif::ProgressBar;
use serde_json::json;
use std::{collections::BTreeMap, path::Path, process::ExitCode, thread, time::Duration};

/// How long after a first look at what its owner may be writing the second one comes.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Something wrong, and where.
#[derive(PartialEq)]
struct Finding {
    file: String,
    offset: Option<i64>,
    position: Option<u64>,
    what: String,
}

/// What a walk over all batches found.
#[derive(Default)]
struct Totals {
    batches: u64,
    records: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let partitions = files::partitions(&args.dir)?;
    let is_partition = matches!(partitions.as_slice(), [(_, dir)] if dir == &args.dir);
    let absolute = args.dir.canonicalize().map_err(Failure::at(args.dir.display()))?;
    let home = if is_partition { absolute.parent().unwrap_or(&absolute) } else { &absolute };
    let is_owned = owner::is_there(home);
    files::warn_of_journal(home);
    let mut out = Output::new();
    let mut totals = Totals::default();
    let mut count = 0;
    if !is_partition {
        for finding in settled(is_owned, || verify_checkpoints(home))? {
            count += 1;
            print(&mut out, args.json, None, &finding)?;
        }
    }
    for (partition, dir) in partitions {
        let mut seen = Totals::default();
        let findings = settled(is_owned, || {
            seen = Totals::default();
            match verify(&partition, &dir, is_owned, &mut seen) {
                // Its owner has deleted it.
                Err(_) if is_owned && !dir.exists() => Ok(Vec::new()),
                verified => verified,
            }
        })?;
        totals.add(&seen);
        count += findings.len();
        for finding in findings {
            print(&mut out, args.json, Some(&partition), &finding)?;
        }
    }
    if !args.json {
        let summary = format!(
            "{} batches, {} records, {} checked{}: {}",
            totals.batches,
            totals.records,
            size(totals.bytes),
            if is_owned { ", but for what its owner is writing" } else { "" },
            if count == 0 { "no finding".to_owned() } else { format!("{count} findings") }
        );
        let summary = if count == 0 { out.bold(summary) } else { out.red(summary) };
        out.line(summary)?;
    }
    out.flush()?;
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What a look finds; beside an owner, what a second one finds as well: the rest was being written.
fn settled(is_owned: bool, mut look: impl FnMut() -> Result<Vec<Finding>, Failure>) -> Result<Vec<Finding>, Failure> {
    let mut findings = look()?;
    if is_owned && !findings.is_empty() {
        thread::sleep(SECOND_LOOK);
        let again = look()?;
        findings.retain(|finding| again.contains(finding));
    }
    Ok(findings)
}

fn print(out: &mut Output, json: bool, partition: Option<&TopicPartition>, finding: &Finding) -> Result<(), Failure> {
    let partition = partition.map(ToString::to_string);
    if json {
        return out.line(json!({"partition": partition, "file": finding.file, "offset": finding.offset,
            "position": finding.position, "finding": finding.what}));
    }
    let partition = partition.map_or(String::new(), |partition| format!("{partition}/"));
    let offset = finding.offset.map_or(String::new(), |offset| format!(" offset {offset}"));
    let position = finding.position.map_or(String::new(), |position| format!(" at byte {position}"));
    let place = out.bold(format!("{partition}{}{offset}{position}", finding.file));
    out.line(format!("{place}: {}", finding.what))
}

/// The log directory's own files.
fn verify_checkpoints(home: &Path) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let mut add = |file: &str, error: FormatError| {
        findings.push(Finding { file: file.to_owned(), offset: None, position: None, what: error.to_string() });
    };
    for file in [
        names::RECOVERY_POINT_CHECKPOINT,
        names::LOG_START_CHECKPOINT,
        names::HIGH_WATERMARK_CHECKPOINT,
        names::CLEANER_CHECKPOINT,
    ] {
        if let Some(Err(error)) = files::read(&home.join(file))?.map(|bytes| checkpoint::decode_offsets(&bytes)) {
            add(file, error);
        }
    }
    let metadata = files::read(&home.join(names::META_PROPERTIES))?;
    if let Some(Err(error)) = metadata.map(|bytes| MetaProperties::decode(&bytes)) {
        add(names::META_PROPERTIES, error);
    }
    Ok(findings)
}

fn verify(
    partition: &TopicPartition,
    dir: &Path,
    is_owned: bool,
    totals: &mut Totals,
) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let segments = files::segments(dir)?;
    let bytes_total = segments.iter().filter_map(|(_, path)| path.metadata().ok()).map(|found| found.len()).sum();
    let bar = output::progress_bar(partition, bytes_total);
    let mut next_offset = None;
    for (number, (base_offset, path)) in segments.iter().enumerate() {
        let is_last = number + 1 == segments.len();
        let segment = Examined { base_offset: *base_offset, path, is_last, is_owned };
        match segment.verify(&mut next_offset, totals, &bar, &mut findings) {
            // Its owner has removed it.
            Err(_) if is_owned && !path.exists() => {}
            verified => verified?,
        }
    }
    bar.finish_and_clear();
    verify_state(dir, next_offset.unwrap_or(0), is_owned, &mut findings)?;
    Ok(findings)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A segment that is looked at.
struct Examined<'a> {
    base_offset: i64,
    path: &'a Path,
    is_last: bool,
    is_owned: bool,
}

impl Examined<'_> {
    fn verify(
        &self,
        next_offset: &mut Option<i64>,
        totals: &mut Totals,
        bar: &ProgressBar,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Failure> {
        let file = name_of(self.path);
        let mut add =
            |offset, position, what: String| findings.push(Finding { file: file.clone(), offset, position, what });
        if let Some(next) = next_offset.filter(|next| *next > self.base_offset) {
            add(Some(self.base_offset), None, format!("the segment begins below offset {next} of the one before"));
        }
        let mut expected = self.base_offset;
        let mut headers: BTreeMap<u64, BatchHeader> = BTreeMap::new();
        let mut log = LogFile::open(self.path)?;
        loop {
            match log.step()? {
                At::End => break,
                At::Rest(..) if self.is_last && self.is_owned => break,
                At::Rest(position, bytes) => {
                    add(Some(expected), Some(position), format!("{bytes} bytes are no whole batch"));
                    break;
                }
                At::Batch(position, Err(error)) => {
                    add(Some(expected), Some(position), error.to_string());
                    if log.position() == position {
                        break;
                    }
                }
                At::Batch(position, Ok(())) => {
                    totals.batches += 1;
                    totals.bytes += log.bytes().len() as u64;
                    bar.inc(log.bytes().len() as u64);
                    match check_batch(&log, expected) {
                        Ok((header, records)) => {
                            totals.records += records;
                            expected = header.next_offset();
                            headers.insert(position, header);
                        }
                        Err(what) => add(Some(expected), Some(position), what),
                    }
                }
            }
        }
        *next_offset = Some(expected.max(next_offset.unwrap_or(0)));
        self.verify_offset_index(&headers, findings)?;
        self.verify_time_index(&headers, findings)?;
        self.verify_txn_index(&headers, findings)
    }

    fn beside(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        files::read(&self.path.with_file_name(name))
    }

    fn verify_offset_index(
        &self,
        headers: &BTreeMap<u64, BatchHeader>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Failure> {
        let file = names::offset_index(self.base_offset);
        let Some(bytes) = self.beside(&file)? else { return Ok(()) };
        let mut add =
            |offset, what: String| findings.push(Finding { file: file.clone(), offset, position: None, what });
        let view = OffsetIndexView::new(&bytes, self.base_offset);
        for entry in (0..view.len()).map(|n| view.entry(n)) {
            let Some(entry) = entry else {
                add(None, "an entry cannot be decoded".to_owned());
                continue;
            };
            match headers.get(&u64::from(entry.position)).map(BatchHeader::last_offset) {
                Some(last) if last == entry.offset => {}
                Some(last) => {
                    add(Some(entry.offset), format!("the entry points at a batch that ends with offset {last}"))
                }
                None => add(Some(entry.offset), format!("no whole batch begins at byte {}", entry.position)),
            }
        }
        Ok(())
    }

    fn verify_time_index(
        &self,
        headers: &BTreeMap<u64, BatchHeader>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Failure> {
        let file = names::time_index(self.base_offset);
        let Some(bytes) = self.beside(&file)? else { return Ok(()) };
        let mut add =
            |offset, what: String| findings.push(Finding { file: file.clone(), offset, position: None, what });
        let view = TimeIndexView::new(&bytes, self.base_offset);
        let times: BTreeMap<i64, Option<i64>> =
            headers.values().map(|header| (header.last_offset(), header.max_timestamp())).collect();
        let mut newest = None;
        for entry in (0..view.len()).filter_map(|n| view.entry(n)) {
            if times.get(&entry.offset) != Some(&Some(entry.timestamp)) {
                add(Some(entry.offset), format!("no batch ends there with timestamp {}", entry.timestamp));
            }
            newest = newest.max(Some(entry.timestamp));
        }
        // Whoever looks for a time takes a sealed segment's last entry for its newest record's.
        let found = times.values().copied().max().flatten();
        if let Some(found) = found.filter(|found| !self.is_last && newest.is_none_or(|newest| newest < *found)) {
            add(None, format!("the last entry should have timestamp {found}, the segment's greatest"));
        }
        Ok(())
    }

    fn verify_txn_index(
        &self,
        headers: &BTreeMap<u64, BatchHeader>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Failure> {
        let file = names::txn_index(self.base_offset);
        let Some(bytes) = self.beside(&file)? else { return Ok(()) };
        let mut add =
            |offset, what: String| findings.push(Finding { file: file.clone(), offset, position: None, what });
        if bytes.len() % AbortedTxn::SIZE != 0 {
            add(None, "the last entry is torn".to_owned());
        }
        for entry in bytes.chunks_exact(AbortedTxn::SIZE).map(AbortedTxn::decode) {
            match entry {
                Err(error) => add(None, error.to_string()),
                Ok(txn) if !headers.values().any(|header| header.last_offset() == txn.last_offset) => {
                    add(Some(txn.last_offset), "there is no marker".to_owned());
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// Checksum, order and every record of a batch.
fn check_batch(log: &LogFile, expected: i64) -> Result<(BatchHeader, u64), String> {
    let batch = log.batch().map_err(|error| error.to_string())?;
    batch.check_crc().map_err(|error| error.to_string())?;
    let header = batch.header();
    if header.base_offset() < expected {
        return Err(format!("offsets {}..={} are not above those before", header.base_offset(), header.last_offset()));
    }
    let mut scratch = Vec::new();
    let mut records = 0;
    for record in batch.records(&mut scratch, DECOMPRESSED_BYTES).map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        if record.offset() > header.last_offset() {
            return Err(format!(
                "record {} lies beyond the batch's last offset {}",
                record.offset(),
                header.last_offset()
            ));
        }
        records += 1;
    }
    Ok((header.clone(), records))
}

/// Snapshots, epochs and leftovers.
fn verify_state(dir: &Path, log_end: i64, is_owned: bool, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let mut add = |file: &str, offset, what: String| {
        findings.push(Finding { file: file.to_owned(), offset, position: None, what })
    };
    for (name, path) in files::entries(dir)? {
        match FileName::parse(&name) {
            FileName::Segment { file: SegmentFile::Snapshot, offset, suffix: Suffix::None } => {
                if let Err(error) = snapshot::decode(&files::read(&path)?.unwrap_or_default()) {
                    add(&name, Some(offset), error.to_string());
                }
            }
            // Retired files are no fault: they wait for their removal. Nor are those that an owner is at.
            FileName::Segment { suffix: Suffix::Cleaned | Suffix::Swap, .. } | FileName::Temporary if is_owned => {}
            FileName::Segment { suffix: Suffix::Cleaned | Suffix::Swap, .. } | FileName::Temporary => {
                add(&name, None, "a leftover of something interrupted; the next open removes it".to_owned());
            }
            FileName::LeaderEpochCheckpoint => {
                match checkpoint::decode_epochs(&files::read(&path)?.unwrap_or_default()) {
                    Err(error) => add(&name, None, error.to_string()),
                    Ok(epochs) => {
                        if !epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset) {
                            add(&name, None, "epochs and offsets do not ascend".to_owned());
                        }
                        for entry in epochs.iter().filter(|entry| entry.start_offset > log_end) {
                            add(
                                &name,
                                Some(entry.start_offset),
                                format!("epoch {} begins beyond the log end {log_end}", entry.epoch),
                            );
                        }
                    }
                }
            }
            FileName::PartitionMetadata => {
                if let Err(error) = partition_metadata::decode(&files::read(&path)?.unwrap_or_default()) {
                    add(&name, None, error.to_string());
                }
            }
            FileName::Segment { .. } => {}
            FileName::Foreign => add(&name, None, "not a file of Kafka's".to_owned()),
        }
    }
    Ok(())
}
