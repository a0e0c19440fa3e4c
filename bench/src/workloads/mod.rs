//! What is measured: each workload by the engine, and by the same system calls without it.

mod append;
mod compact;
mod open;
mod read;
pub(crate) mod shapes;
mod sockets;

use crate::{
    Failure,
    corpus::Corpus,
    kafka,
    measure::{Plan, Run},
};
use duramen::{
    AppendAsLeader, DirectoryOptions, Fetch, Isolation, Log, LogConfig, LogDirectory, TopicPartition, ValidationPolicy,
    storage::{Posix, Storage, open_best},
    validate,
};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// One way to do the work: in an empty directory, with these batches.
pub(crate) type Subject = fn(&Path, &Corpus, &Plan) -> Result<Run, Failure>;

/// One kind of work.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The floor, if there is one, is the last and called "raw".
    pub(crate) subjects: &'static [(&'static str, Subject)],
    /// The ratio to the floor that the engine aims at.
    pub(crate) bar: Option<f64>,
    /// What Kafka's own log does of the same.
    pub(crate) kafka: Option<kafka::Case>,
}

impl Workload {
    pub(crate) fn has_floor(&self) -> bool {
        self.subjects.last().is_some_and(|(name, _)| *name == "raw")
    }
}

/// Everything there is.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "append-64k",
        unit: "MB/s",
        subjects: &[("duramen", append::best_64k), ("duramen posix", append::posix_64k), ("raw", append::raw_64k)],
        bar: Some(0.85),
        kafka: None,
    },
    Workload {
        name: "append-16k",
        unit: "MB/s",
        subjects: &[("duramen", append::best_16k), ("raw", append::raw_16k)],
        bar: None,
        kafka: Some(kafka::Case::Append),
    },
    Workload {
        name: "append-corpus",
        unit: "MB/s",
        subjects: &[("duramen", append::best_corpus), ("raw", append::raw_corpus)],
        bar: None,
        kafka: None,
    },
    Workload {
        name: "append-flush-64k",
        unit: "/s",
        subjects: &[
            ("duramen", append::flush_best),
            ("duramen posix", append::flush_posix),
            ("raw", append::flush_raw),
        ],
        bar: None,
        kafka: None,
    },
    Workload {
        name: "read-sendfile-1m",
        unit: "MB/s",
        subjects: &[("duramen", read::send), ("raw", read::send_raw)],
        bar: Some(0.95),
        kafka: None,
    },
    Workload {
        name: "sendfile-64-sockets",
        unit: "MB/s",
        subjects: &[("duramen", sockets::send), ("raw", sockets::send_raw)],
        bar: Some(0.95),
        kafka: None,
    },
    Workload {
        name: "look-up",
        unit: "/s",
        subjects: &[("duramen", read::look_up), ("raw", read::look_up_raw)],
        bar: None,
        kafka: None,
    },
    Workload {
        name: "recover",
        unit: "MB/s",
        subjects: &[("duramen", open::recover), ("raw", open::recover_raw)],
        bar: Some(0.80),
        kafka: None,
    },
    Workload {
        name: "recover-16k",
        unit: "MB/s",
        subjects: &[("duramen", open::recover_16k), ("raw", open::recover_16k_raw)],
        bar: Some(0.80),
        kafka: Some(kafka::Case::Recover),
    },
    Workload {
        name: "compact",
        unit: "MB/s",
        subjects: &[("duramen", compact::engine), ("read, checksum", compact::read_raw), ("raw", compact::raw)],
        bar: None,
        kafka: Some(kafka::Case::Compact),
    },
    Workload {
        name: "open-1000-segments",
        unit: "ms",
        subjects: &[("duramen", open::thousand), ("raw", open::thousand_raw)],
        bar: None,
        kafka: None,
    },
];

/// Bytes of the log that `compact` compacts.
pub(crate) fn compacted_bytes(plan: &Plan) -> u64 {
    compact::log_bytes(plan)
}

const NOW_MS: i64 = 1_700_000_000_000;

/// Small batches cost a system call each: a fraction of the volume is enough.
const CORPUS_SHARE: u64 = 16;

fn partition() -> Result<TopicPartition, Failure> {
    Ok(TopicPartition::new("bench", 0)?)
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2_147_483_647, message_timestamp_after_max_ms: u64::MAX >> 1, ..LogConfig::default() }
}

fn options() -> DirectoryOptions {
    DirectoryOptions { now_ms: Some(NOW_MS), ..DirectoryOptions::default() }
}

fn best(dir: &Path) -> Result<LogDirectory, Failure> {
    let storage: Arc<dyn Storage> = open_best(dir)?.0;
    Ok(LogDirectory::open_on(storage, options())?)
}

fn posix(dir: &Path) -> Result<LogDirectory, Failure> {
    Ok(LogDirectory::open_on(Arc::new(Posix::open(dir)?), options())?)
}

/// Appends batches in turn until so many bytes are written; calls `after` behind each. The bytes written.
fn append(
    log: &mut Log,
    batches: &[Vec<u8>],
    bytes: u64,
    mut after: impl FnMut(&mut Log) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let policy = ValidationPolicy::from_config(&log.config());
    let mut written = 0;
    let mut buffer = Vec::new();
    for batch in batches.iter().cycle() {
        if written >= bytes {
            break;
        }
        // Where a broker would receive from a socket into a buffer that it uses again.
        buffer.clear();
        buffer.extend_from_slice(batch);
        let validated = validate(buffer, &policy, NOW_MS)?;
        written += validated.bytes().len() as u64;
        buffer = log.append_as_leader_reusing(validated, AppendAsLeader::new(0, NOW_MS))?.1;
        after(log)?;
    }
    Ok(written)
}

fn raw_file(dir: &Path, name: &str) -> Result<File, Failure> {
    Ok(OpenOptions::new().read(true).write(true).create_new(true).open(dir.join(name))?)
}

/// The floor of [`append()`]: the same bytes, received into a buffer and written.
fn raw_append(
    file: &File,
    batches: &[Vec<u8>],
    bytes: u64,
    mut after: impl FnMut() -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut written = 0;
    let mut buffer = Vec::new();
    for batch in batches.iter().cycle() {
        if written >= bytes {
            break;
        }
        buffer.clear();
        buffer.extend_from_slice(batch);
        file.write_all_at(&buffer, written)?;
        written += buffer.len() as u64;
        after()?;
    }
    Ok(written)
}

/// The least that a pass over a file's bytes costs.
fn read_and_checksum(file: &File, bytes: u64, buffer: &mut [u8]) -> Result<(), Failure> {
    let mut at = 0;
    let mut sum = 0_u32;
    while at < bytes {
        let read = file.read_at(buffer, at)?;
        for block in buffer.get(..read).unwrap_or_default().chunks(64 << 10) {
            sum ^= crc32c::crc32c(block);
        }
        at += read as u64;
    }
    std::hint::black_box(sum);
    Ok(())
}

/// Every byte in the log is that of the batches that were appended, but for offset and epoch.
fn check(log: &Log, batches: &[Vec<u8>], written: u64) -> Result<(), Failure> {
    let reader = log.reader();
    let log_end = log.offsets().log_end;
    let mut sources = batches.iter().cycle();
    let mut offset = 0;
    let mut compared = 0;
    while offset < log_end {
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 8 << 20, ..Fetch::from(offset) })?;
        let records = fetched.records.ok_or("a read came back empty")?;
        let bytes = records.to_vec()?;
        for batch in duramen::format::batch::Batches::new(&bytes) {
            let batch = batch?;
            let source = sources.next().ok_or("no source")?;
            let tail = |bytes: &[u8]| bytes.get(duramen::format::batch::MAGIC_AT..).map(<[u8]>::to_vec);
            if batch.header().base_offset() != offset || tail(batch.bytes()) != tail(source) {
                return Err(format!("the batch at offset {offset} is not the one that was appended").into());
            }
            offset = batch.header().next_offset();
            compared += batch.bytes().len() as u64;
        }
    }
    if compared == written { Ok(()) } else { Err(format!("{compared} of {written} bytes were found again").into()) }
}
