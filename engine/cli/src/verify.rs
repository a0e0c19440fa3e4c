//! `duramen verify`: everything that can be told from the files alone.

use crate::{
    args::VerifyArgs,
    dump::DECOMPRESSED_BYTES,
    files::{self, At, LogFile},
    output::{self, Failure, Output, size},
};
use duramen::{
    TopicPartition,
    format::{
        batch::BatchHeader,
        checkpoint,
        index_entry::{AbortedTxn, OffsetIndexView, TimeIndexView},
        names::{self, FileName, SegmentFile, Suffix},
        partition_metadata, snapshot,
    },
};
use indicatif::ProgressBar;
use serde_json::json;
use std::{collections::BTreeMap, path::Path, process::ExitCode};

/// Something wrong, and where.
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

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let mut out = Output::new();
    let mut totals = Totals::default();
    let mut count = 0;
    for (partition, dir) in files::partitions(&args.dir)? {
        let findings = verify(&partition, &dir, &mut totals)?;
        count += findings.len();
        for finding in findings {
            print(&mut out, args.json, &partition, &finding)?;
        }
    }
    if !args.json {
        let summary = format!(
            "{} batches, {} records, {} checked: {}",
            totals.batches,
            totals.records,
            size(totals.bytes),
            if count == 0 { "no finding".to_owned() } else { format!("{count} findings") }
        );
        let summary = if count == 0 { out.bold(summary) } else { out.red(summary) };
        out.line(summary)?;
    }
    out.flush()?;
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(out: &mut Output, json: bool, partition: &TopicPartition, finding: &Finding) -> Result<(), Failure> {
    if json {
        return out.line(json!({"partition": partition.to_string(), "file": finding.file, "offset": finding.offset,
            "position": finding.position, "finding": finding.what}));
    }
    let offset = finding.offset.map_or(String::new(), |offset| format!(" offset {offset}"));
    let position = finding.position.map_or(String::new(), |position| format!(" at byte {position}"));
    let place = out.bold(format!("{partition}/{}{offset}{position}", finding.file));
    out.line(format!("{place}: {}", finding.what))
}

fn verify(partition: &TopicPartition, dir: &Path, totals: &mut Totals) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let segments = files::segments(dir)?;
    let bytes_total = segments.iter().filter_map(|(_, path)| path.metadata().ok()).map(|found| found.len()).sum();
    let bar = output::progress_bar(partition, bytes_total);
    let mut next_offset = None;
    for (base_offset, path) in &segments {
        verify_segment(*base_offset, path, &mut next_offset, totals, &bar, &mut findings)?;
    }
    bar.finish_and_clear();
    verify_state(dir, next_offset.unwrap_or(0), &mut findings)?;
    Ok(findings)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn verify_segment(
    base_offset: i64,
    path: &Path,
    next_offset: &mut Option<i64>,
    totals: &mut Totals,
    bar: &ProgressBar,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let file = name_of(path);
    let mut add =
        |offset, position, what: String| findings.push(Finding { file: file.clone(), offset, position, what });
    if next_offset.is_some_and(|next| next > base_offset) {
        add(
            Some(base_offset),
            None,
            format!("the segment begins below offset {} of the one before", next_offset.unwrap_or(0)),
        );
    }
    let mut expected = base_offset;
    let mut headers: BTreeMap<u64, BatchHeader> = BTreeMap::new();
    let mut log = LogFile::open(path)?;
    loop {
        match log.step()? {
            At::End => break,
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
    verify_indexes(base_offset, path, &headers, findings)
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

fn verify_indexes(
    base_offset: i64,
    log: &Path,
    headers: &BTreeMap<u64, BatchHeader>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let dir = log.parent().unwrap_or(Path::new("."));
    let mut add = |file: String, offset, what: String| findings.push(Finding { file, offset, position: None, what });
    let name = names::offset_index(base_offset);
    if let Some(bytes) = files::read(&dir.join(&name))? {
        let view = OffsetIndexView::new(&bytes, base_offset);
        for entry in (0..view.len()).map(|n| view.entry(n)) {
            match entry {
                None => add(name.clone(), None, "an entry cannot be decoded".to_owned()),
                Some(entry) => match headers.get(&u64::from(entry.position)) {
                    Some(header) if header.last_offset() == entry.offset => {}
                    Some(header) => {
                        let what =
                            format!("the entry points at a batch that ends with offset {}", header.last_offset());
                        add(name.clone(), Some(entry.offset), what);
                    }
                    None => add(
                        name.clone(),
                        Some(entry.offset),
                        format!("no whole batch begins at byte {}", entry.position),
                    ),
                },
            }
        }
    }
    let name = names::time_index(base_offset);
    if let Some(bytes) = files::read(&dir.join(&name))? {
        let view = TimeIndexView::new(&bytes, base_offset);
        let times: BTreeMap<i64, Option<i64>> =
            headers.values().map(|header| (header.last_offset(), header.max_timestamp())).collect();
        for entry in (0..view.len()).filter_map(|n| view.entry(n)) {
            if times.get(&entry.offset) != Some(&Some(entry.timestamp)) {
                let what = format!("no batch ends there with timestamp {}", entry.timestamp);
                add(name.clone(), Some(entry.offset), what);
            }
        }
    }
    let name = names::txn_index(base_offset);
    if let Some(bytes) = files::read(&dir.join(&name))? {
        if bytes.len() % AbortedTxn::SIZE != 0 {
            add(name.clone(), None, "the last entry is torn".to_owned());
        }
        for entry in bytes.chunks_exact(AbortedTxn::SIZE).map(AbortedTxn::decode) {
            match entry {
                Err(error) => add(name.clone(), None, error.to_string()),
                Ok(txn) if !headers.values().any(|header| header.last_offset() == txn.last_offset) => {
                    add(name.clone(), Some(txn.last_offset), "there is no marker".to_owned());
                }
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Snapshots, epochs and leftovers.
fn verify_state(dir: &Path, log_end: i64, findings: &mut Vec<Finding>) -> Result<(), Failure> {
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
            // Retired files are no fault: they wait for their removal.
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
