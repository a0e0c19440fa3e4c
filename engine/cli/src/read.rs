//! `duramen read`.

use crate::{
    args::{Circumstances, IsolationLevel, ReadArgs},
    dump::{DECOMPRESSED_BYTES, optional},
    files::{self, At, LogFile},
    output::{Failure, Output, show},
    view,
};
use duramen::{
    Fetch, Isolation, LogConfig, TopicPartition,
    format::{
        batch::Batch,
        index_entry::AbortedTxn,
        names::{self, DirectoryName},
        record::Record,
    },
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

/// How often a followed partition is looked at.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &ReadArgs) -> Result<ExitCode, Failure> {
    let committed = match args.isolation {
        IsolationLevel::ReadUncommitted => None,
        IsolationLevel::ReadCommitted if args.follow => {
            return Err(Failure::new("--follow shows records that are not decided: not with read_committed"));
        }
        IsolationLevel::ReadCommitted => Some(Committed::of(&args.partition)?),
    };
    if let Some((home, _)) = place(&args.partition)? {
        files::warn_of_journal(&home);
    }
    let left = args.max.unwrap_or(u64::MAX);
    let mut reader = Reader { args, out: Output::new(), left, next_offset: start(args)?, committed };
    loop {
        reader.read_segments()?;
        reader.out.flush()?;
        if !args.follow || reader.left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(POLL);
    }
}

/// The first offset wanted: below the log start there is none to be had, as for a consumer.
fn start(args: &ReadArgs) -> Result<i64, Failure> {
    let segments = segments(args)?;
    let log_start = log_start(&args.partition)?.max(segments.first().map_or(0, |(base_offset, _)| *base_offset));
    match args.offset {
        None => Ok(log_start),
        Some(offset) if offset >= log_start => Ok(offset),
        Some(offset) if offset >= 0 => {
            Err(Failure::new(format!("offset {offset} is out of range: the log starts at {log_start}")))
        }
        Some(offset) => Ok(log_start.max(end(&segments)? + offset)),
    }
}

/// The log start offset that the log directory has a checkpoint of; 0 if it has none.
fn log_start(dir: &Path) -> Result<i64, Failure> {
    let Some((home, partition)) = place(dir)? else {
        return Ok(0);
    };
    Ok(files::checkpointed(&home, names::LOG_START_CHECKPOINT, &partition)?.unwrap_or(0))
}

/// The log directory of a partition's directory, and the partition; `None` for a directory of another name.
fn place(dir: &Path) -> Result<Option<(PathBuf, TopicPartition)>, Failure> {
    let dir = dir.canonicalize().map_err(Failure::at(dir.display()))?;
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parsed = DirectoryName::parse(&name).ok();
    Ok(dir.parent().zip(parsed).map(|(home, parsed)| (home.to_path_buf(), parsed.partition)))
}

/// Where the log ends by the headers of its last segment.
fn end(segments: &[(i64, PathBuf)]) -> Result<i64, Failure> {
    let Some((base_offset, path)) = segments.last() else {
        return Ok(0);
    };
    let mut log = LogFile::open(path)?;
    let mut end = *base_offset;
    while let At::Batch(_, Ok(())) = log.step()? {
        end = log.batch().map_or(end, |batch| batch.header().next_offset());
    }
    Ok(end)
}

fn segments(args: &ReadArgs) -> Result<Vec<(i64, PathBuf)>, Failure> {
    let segments = files::segments(&args.partition)?;
    if segments.is_empty() {
        return Err(Failure::new(format!("{} holds no segment of a log", args.partition.display())));
    }
    Ok(segments)
}

/// What a consumer of committed records knows: how far transactions are decided, and which were aborted.
struct Committed {
    last_stable: i64,
    /// Aborted transactions that have not begun yet, the last first.
    waiting: Vec<AbortedTxn>,
    /// Producers whose transaction at this place was aborted.
    aborted: BTreeSet<i64>,
}

impl Committed {
    /// Has the engine open the partition, on a copy, as its only replica.
    fn of(dir: &Path) -> Result<Self, Failure> {
        let named = format!("{} is not named as a partition is", dir.display());
        let (home, partition) = place(dir)?.ok_or_else(|| Failure::new(named))?;
        let circumstances = Circumstances { properties: Vec::new(), at: None, sole_replica: true };
        let config = LogConfig::default();
        let failed = |error: &dyn Display| Failure::failed(format!("{}: {error}", dir.display()));
        let opened = view::open(&home, &partition.to_string(), &partition, &config, &circumstances);
        let mut directory = opened.map_err(|error| failed(&error))?;
        let log = directory.get(&partition, &config).map_err(|error| failed(&error))?;
        let offsets = log.offsets();
        let mut waiting = Vec::new();
        let mut next = offsets.log_start;
        while next < offsets.last_stable {
            let fetch = Fetch { isolation: Isolation::ReadCommitted, max_bytes: u64::MAX, ..Fetch::from(next) };
            let fetched = log.reader().read(fetch).map_err(|error| failed(&error))?;
            waiting.extend(fetched.aborted);
            // A read ends with its segment.
            let segments = log.reader().segments().map_err(|error| failed(&error))?;
            let mut bases = segments.iter().map(|segment| segment.base_offset);
            next = bases.find(|base_offset| *base_offset > next).unwrap_or(offsets.last_stable);
        }
        waiting.sort_by_key(|txn| (txn.first_offset, txn.producer_id));
        waiting.dedup();
        waiting.reverse();
        Ok(Self { last_stable: offsets.last_stable, waiting, aborted: BTreeSet::new() })
    }

    /// Whether a batch, which comes behind those asked for before, is shown (`CompletedFetch.nextFetchedRecord`).
    fn shows(&mut self, batch: &Batch<'_>) -> bool {
        let header = batch.header();
        while let Some(txn) = self.waiting.pop_if(|txn| txn.first_offset <= header.last_offset()) {
            // One that ended before the first segment that is read is over.
            if txn.last_offset >= header.base_offset() {
                self.aborted.insert(txn.producer_id);
            }
        }
        let Some(producer) = header.producer().filter(|_| header.attributes().is_transactional()) else {
            return header.next_offset() <= self.last_stable;
        };
        if header.attributes().is_control() {
            // One of a commit ends no aborted transaction: none of this producer is here then.
            self.aborted.remove(&producer.id);
        }
        header.next_offset() <= self.last_stable && !self.aborted.contains(&producer.id)
    }
}

struct Reader<'a> {
    args: &'a ReadArgs,
    out: Output,
    left: u64,
    next_offset: i64,
    committed: Option<Committed>,
}

impl Reader<'_> {
    fn read_segments(&mut self) -> Result<(), Failure> {
        let segments = segments(self.args)?;
        let successors = segments.iter().skip(1).map(|(base_offset, _)| Some(*base_offset)).chain([None]);
        for ((_, path), successor) in segments.iter().zip(successors) {
            if successor.is_none_or(|base_offset| base_offset > self.next_offset) && self.left > 0 {
                self.read_segment(path, successor)?;
            }
        }
        Ok(())
    }

    fn read_segment(&mut self, path: &std::path::Path, successor: Option<i64>) -> Result<(), Failure> {
        let mut log = LogFile::open(path)?;
        while self.left > 0 {
            match log.step()? {
                At::End => return Ok(()),
                // What follows is being written, or torn: a recovery's business.
                At::Rest(..) => {
                    if let Some(base_offset) = successor {
                        let next = self.next_offset;
                        eprintln!(
                            "duramen: {} ends inside a batch: {next} to {base_offset} is not whole",
                            path.display()
                        );
                    }
                    return Ok(());
                }
                At::Batch(position, checked) => {
                    let batch = checked.and_then(|()| log.batch());
                    let result = batch.and_then(|batch| batch.check_crc().map(|()| batch));
                    match result {
                        Ok(batch) => self.print_batch(&batch)?,
                        Err(_) if self.args.follow => return Ok(()),
                        Err(error) => {
                            return Err(Failure::new(format!("{} at byte {position}: {error}", path.display())));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn print_batch(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let header = batch.header();
        let shown = self.committed.as_mut().is_none_or(|committed| committed.shows(batch));
        if header.next_offset() <= self.next_offset {
            return Ok(());
        }
        if shown && !header.attributes().is_control() {
            let mut scratch = Vec::new();
            for record in batch.records(&mut scratch, DECOMPRESSED_BYTES).map_err(Failure::new)? {
                let record = record.map_err(Failure::new)?;
                if record.offset() >= self.next_offset && self.left > 0 {
                    self.left -= 1;
                    self.print(&record)?;
                    self.next_offset = record.offset() + 1;
                }
            }
        }
        if self.left > 0 {
            self.next_offset = header.next_offset();
        }
        Ok(())
    }

    fn print(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        let hex = self.args.hex;
        if self.args.json {
            let headers: Vec<_> = record
                .headers()
                .map(|(key, value)| json!({"key": show(Some(key), false), "value": value.map(|value| show(Some(value), hex))}))
                .collect();
            return self.out.line(json!({"offset": record.offset(), "timestamp": record.timestamp(),
                "key": record.key().map(|key| show(Some(key), hex)),
                "value": record.value().map(|value| show(Some(value), hex)), "headers": headers}));
        }
        if self.args.verbose {
            let (key, value) = (show(record.key(), hex), show(record.value(), hex));
            return self.out.line(format!("{}\t{}\t{key}\t{value}", record.offset(), optional(record.timestamp())));
        }
        self.out.line(show(record.value(), hex))
    }
}
