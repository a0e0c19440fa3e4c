//! `duramen info`: one screen about a directory.

use crate::{
    args::InfoArgs,
    dump::optional,
    files::{self, At, LogFile},
    output::{Failure, Output, size},
};
use comfy_table::{Table, presets};
use duramen::{
    TopicPartition,
    format::{
        checkpoint::{self, OffsetCheckpoint},
        index_entry::{AbortedTxn, OffsetIndexView, TimeIndexView},
        names, partition_metadata,
    },
};
use std::{path::Path, process::ExitCode};

pub(crate) fn run(args: &InfoArgs) -> Result<ExitCode, Failure> {
    let mut out = Output::new();
    let partitions = files::partitions(&args.dir)?;
    let home = match partitions.as_slice() {
        [(_, path)] if path == &args.dir => {
            let absolute = path.canonicalize().map_err(Failure::at(path.display()))?;
            absolute.parent().map(Path::to_path_buf).unwrap_or(absolute)
        }
        _ => args.dir.clone(),
    };
    let clean = home.join(names::CLEAN_SHUTDOWN).exists();
    let state = if clean { "closed in order" } else { "open now, or not closed in order" };
    let title = out.bold(home.display());
    out.line(format!("{title}: {state}"))?;
    for (partition, dir) in partitions {
        out.line("")?;
        describe(&mut out, &home, &partition, &dir)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn checkpointed(home: &Path, file: &str, partition: &TopicPartition) -> Result<Option<i64>, Failure> {
    let bytes = files::read(&home.join(file))?.unwrap_or_default();
    let offsets: OffsetCheckpoint = checkpoint::decode_offsets(&bytes).unwrap_or_default();
    Ok(offsets.get(partition).copied())
}

fn describe(out: &mut Output, home: &Path, partition: &TopicPartition, dir: &Path) -> Result<(), Failure> {
    let segments = files::segments(dir)?;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header([
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
    let mut total = 0;
    let mut log_end = segments.first().map_or(0, |(base, _)| *base);
    for (base_offset, path) in &segments {
        let bytes = path.metadata().map_err(Failure::at(path.display()))?.len();
        total += bytes;
        let walk = walk(path)?;
        log_end = walk.next_offset.unwrap_or((*base_offset).max(log_end));
        let count = |name: String, of: fn(&[u8], i64) -> usize| -> Result<String, Failure> {
            Ok(optional(files::read(&dir.join(name))?.map(|bytes| of(&bytes, *base_offset))))
        };
        table.add_row([
            base_offset.to_string(),
            size(bytes),
            walk.batches.to_string(),
            optional(walk.next_offset.map(|next| next - 1)),
            optional(walk.max_timestamp),
            count(names::offset_index(*base_offset), |bytes, base| OffsetIndexView::new(bytes, base).len())?,
            count(names::time_index(*base_offset), |bytes, base| TimeIndexView::new(bytes, base).len())?,
            count(names::txn_index(*base_offset), |bytes, _| bytes.len() / AbortedTxn::SIZE)?,
            walk.health,
        ]);
    }
    let log_start = checkpointed(home, names::LOG_START_CHECKPOINT, partition)?;
    let first = segments.first().map_or(0, |(base, _)| *base);
    let topic_id =
        files::read(&dir.join(names::PARTITION_METADATA))?.and_then(|bytes| partition_metadata::decode(&bytes).ok());
    let epochs = files::read(&dir.join(names::LEADER_EPOCH_CHECKPOINT))?.unwrap_or_default();
    let epochs = checkpoint::decode_epochs(&epochs).map_err(Failure::new)?;
    let epochs: Vec<_> = epochs.iter().map(|entry| format!("{}@{}", entry.epoch, entry.start_offset)).collect();
    let title = out.bold(partition);
    out.line(format!("{title}  {} segments, {}, topic id {}", segments.len(), size(total), optional(topic_id)))?;
    out.line(format!(
        "log start {}, high watermark {}, recovery point {}, log end {log_end}",
        log_start.unwrap_or(0).max(first),
        optional(checkpointed(home, names::HIGH_WATERMARK_CHECKPOINT, partition)?),
        optional(checkpointed(home, names::RECOVERY_POINT_CHECKPOINT, partition)?),
    ))?;
    out.line(format!("leader epochs {}", if epochs.is_empty() { "-".to_owned() } else { epochs.join(" ") }))?;
    out.line(table)
}

/// What the headers of a log file say.
struct Walk {
    batches: u64,
    next_offset: Option<i64>,
    max_timestamp: Option<i64>,
    health: String,
}

fn walk(path: &Path) -> Result<Walk, Failure> {
    let mut walk = Walk { batches: 0, next_offset: None, max_timestamp: None, health: "whole".to_owned() };
    let mut log = LogFile::open(path)?;
    loop {
        match log.step()? {
            At::End => return Ok(walk),
            At::Rest(position, bytes) => {
                walk.health = format!("{bytes} bytes at {position} are no whole batch");
                return Ok(walk);
            }
            At::Batch(position, checked) => match checked.and_then(|()| log.batch()) {
                Ok(batch) => {
                    walk.batches += 1;
                    walk.next_offset = Some(batch.header().next_offset());
                    walk.max_timestamp = walk.max_timestamp.max(batch.header().max_timestamp());
                    if batch.check_crc().is_err() {
                        walk.health = format!("damaged at byte {position}");
                    }
                }
                Err(error) => {
                    walk.health = format!("at byte {position}: {error}");
                    return Ok(walk);
                }
            },
        }
    }
}
