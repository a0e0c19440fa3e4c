//! What is measured: each workload by the engine, and by the same system calls without it.

use crate::{
    Failure,
    corpus::Corpus,
    measure::{Plan, Run},
};
use duramen::{
    AppendAsLeader, DirectoryOptions, Fetch, Isolation, Log, LogConfig, LogDirectory, TopicPartition, ValidationPolicy,
    storage::{Posix, Storage, open_best},
    validate,
};
use std::{
    fs::{File, OpenOptions},
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    thread,
    time::Instant,
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
        subjects: &[("duramen", append_best), ("duramen posix", append_posix), ("raw", append_raw)],
        bar: Some(0.85),
    },
    Workload {
        name: "append-corpus",
        unit: "MB/s",
        subjects: &[("duramen", corpus_best), ("raw", corpus_raw)],
        bar: None,
    },
    Workload {
        name: "append-flush-64k",
        unit: "/s",
        subjects: &[("duramen", flush_best), ("duramen posix", flush_posix), ("raw", flush_raw)],
        bar: None,
    },
    Workload {
        name: "read-sendfile-1m",
        unit: "MB/s",
        subjects: &[("duramen", read_engine), ("raw", read_raw)],
        bar: Some(0.95),
    },
    Workload { name: "look-up", unit: "/s", subjects: &[("duramen", look_up), ("raw", look_up_raw)], bar: None },
    Workload {
        name: "recover",
        unit: "MB/s",
        subjects: &[("duramen", recover_engine), ("raw", recover_raw)],
        bar: Some(0.80),
    },
    Workload {
        name: "open-1000-segments",
        unit: "ms",
        subjects: &[("duramen", open_engine), ("raw", open_raw)],
        bar: None,
    },
];

const NOW_MS: i64 = 1_700_000_000_000;

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

/// The floor of [`append`]: the same bytes, received into a buffer and written.
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

fn engine_append(mut directory: LogDirectory, batches: &[Vec<u8>], plan: &Plan) -> Result<Run, Failure> {
    let log = directory.get_or_create(&partition()?, &config())?;
    let begun = Instant::now();
    let written = append(log, batches, plan.bytes, |_| Ok(()))?;
    let run = Run::rate(written, begun, 0);
    check(log, batches, written)?;
    Ok(run)
}

fn append_best(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_append(best(dir)?, &corpus.gathered, plan)
}

fn append_posix(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_append(posix(dir)?, &corpus.gathered, plan)
}

fn append_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let begun = Instant::now();
    let written = raw_append(&file, &corpus.gathered, plan.bytes, || Ok(()))?;
    Ok(Run::rate(written, begun, 0))
}

/// Small batches cost a system call each: a fraction of the volume is enough.
const CORPUS_SHARE: u64 = 16;

fn corpus_best(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let plan = Plan { bytes: plan.bytes / CORPUS_SHARE, ..*plan };
    engine_append(best(dir)?, &corpus.originals, &plan)
}

fn corpus_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let begun = Instant::now();
    let written = raw_append(&file, &corpus.originals, plan.bytes / CORPUS_SHARE, || Ok(()))?;
    Ok(Run::rate(written, begun, 0))
}

fn mean_size(batches: &[Vec<u8>]) -> u64 {
    batches.iter().map(|batch| batch.len() as u64).sum::<u64>() / (batches.len() as u64).max(1)
}

fn engine_flush(mut directory: LogDirectory, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let log = directory.get_or_create(&partition()?, &config())?;
    let size = mean_size(&corpus.gathered);
    let begun = Instant::now();
    let mut syncs = 0;
    append(log, &corpus.gathered, size * plan.operations, |log| {
        syncs += 1;
        Ok(log.flush()?)
    })?;
    Ok(Run::operations(syncs, begun, syncs))
}

fn flush_best(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_flush(best(dir)?, corpus, plan)
}

fn flush_posix(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    engine_flush(posix(dir)?, corpus, plan)
}

fn flush_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let size = mean_size(&corpus.gathered);
    let begun = Instant::now();
    let mut syncs = 0;
    raw_append(&file, &corpus.gathered, size * plan.operations, || {
        syncs += 1;
        Ok(file.sync_data()?)
    })?;
    Ok(Run::operations(syncs, begun, syncs))
}

/// A socket whose peer takes everything; and the peer, which tells how many bytes came.
fn socket() -> Result<(TcpStream, thread::JoinHandle<u64>), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    let taker = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut taken = 0;
        while let Ok(read @ 1..) = peer.read(&mut buffer) {
            taken += read as u64;
        }
        taken
    });
    Ok((stream, taker))
}

fn read_engine(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    let written = append(log, &corpus.gathered, plan.bytes, |_| Ok(()))?;
    let (reader, log_end) = (log.reader(), log.offsets().log_end);
    let (socket, taker) = socket()?;
    let begun = Instant::now();
    let mut offset = 0;
    let mut sent = 0;
    while offset < log_end {
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1 << 20, ..Fetch::from(offset) })?;
        let Some(records) = fetched.records.filter(|records| !records.is_empty()) else {
            break;
        };
        let whole = whole_batches(&records, &mut offset)?;
        records.prefix(whole).send_all(&socket, None)?;
        sent += whole;
    }
    drop(socket);
    let taken = taker.join().map_err(|_| "the peer failed")?;
    if (sent, taken) != (written, written) {
        return Err(format!("{written} bytes were written, {sent} sent and {taken} received").into());
    }
    Ok(Run::rate(sent, begun, 0))
}

/// Bytes of the whole batches in a slice, by their headers; moves `offset` behind them, as a consumer does.
fn whole_batches(records: &duramen::FileSlice, offset: &mut i64) -> Result<u64, Failure> {
    let mut at = 0;
    let mut header = [0; duramen::format::batch::HEADER_SIZE];
    while at + (header.len() as u64) <= records.len() {
        records.read_at(&mut header, at)?;
        let decoded = duramen::format::batch::BatchHeader::decode(&header)?;
        let size = decoded.size() as u64;
        if at + size > records.len() {
            break;
        }
        at += size;
        *offset = decoded.next_offset();
    }
    Ok(at)
}

fn read_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, &corpus.gathered, plan.bytes, || Ok(()))?;
    let (socket, taker) = socket()?;
    let begun = Instant::now();
    let mut at = 0;
    for len in read_lengths(&corpus.gathered, written) {
        let end = at + i64::try_from(len)?;
        while at < end {
            let count = usize::try_from(end - at)?;
            nix::sys::sendfile::sendfile(&socket, &file, Some(&mut at), count)?;
        }
    }
    drop(socket);
    let taken = taker.join().map_err(|_| "the peer failed")?;
    if taken != written {
        return Err(format!("{written} bytes were written and {taken} received").into());
    }
    Ok(Run::rate(written, begun, 0))
}

/// What reads of at most 1 MiB find: as many whole batches as fit, but one at least.
fn read_lengths(batches: &[Vec<u8>], written: u64) -> Vec<u64> {
    let mut lengths = Vec::new();
    let (mut len, mut left) = (0, written);
    for batch in batches.iter().cycle() {
        if left == 0 {
            break;
        }
        let size = batch.len() as u64;
        if len > 0 && len + size > 1 << 20 {
            lengths.push(len);
            len = 0;
        }
        len += size;
        left -= size;
    }
    lengths.push(len);
    lengths
}

fn look_up(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    append(log, &corpus.originals, plan.bytes / CORPUS_SHARE, |_| Ok(()))?;
    let (reader, log_end) = (log.reader(), log.offsets().log_end);
    let begun = Instant::now();
    for n in 0..LOOK_UPS {
        let offset = i64::try_from(n * STRIDE)? % log_end;
        let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, max_bytes: 1, ..Fetch::from(offset) })?;
        if fetched.start.is_none_or(|start| start.offset > offset) {
            return Err(format!("offset {offset} was not found").into());
        }
    }
    Ok(Run::operations(LOOK_UPS, begun, 0))
}

/// Look-ups of a round.
const LOOK_UPS: u64 = 100_000;
/// A stride that visits a whole log in no order.
const STRIDE: u64 = 7_919;

/// The floor of a look-up: one read of 4 KiB at a place that is known.
fn look_up_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, &corpus.originals, plan.bytes / CORPUS_SHARE, || Ok(()))?;
    let mut piece = [0; 4096];
    let begun = Instant::now();
    for n in 0..LOOK_UPS {
        let read = file.read_at(&mut piece, n * STRIDE * 64 % (written - 4096))?;
        std::hint::black_box(read);
    }
    Ok(Run::operations(LOOK_UPS, begun, 0))
}

fn recover_engine(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config())?;
    let written = append(log, &corpus.gathered, plan.bytes, |_| Ok(()))?;
    let log_end = log.offsets().log_end;
    drop(directory);
    let mut directory = best(dir)?;
    let begun = Instant::now();
    let log = directory.get_or_create(&partition()?, &config())?;
    let run = Run::rate(written, begun, 1);
    if log.offsets().log_end != log_end {
        return Err(format!("recovery ended at {} instead of {log_end}", log.offsets().log_end).into());
    }
    check(log, &corpus.gathered, written)?;
    Ok(run)
}

fn recover_raw(dir: &Path, corpus: &Corpus, plan: &Plan) -> Result<Run, Failure> {
    let file = raw_file(dir, "raw")?;
    let written = raw_append(&file, &corpus.gathered, plan.bytes, || Ok(()))?;
    let mut buffer = vec![0; 1 << 20];
    let begun = Instant::now();
    let mut at = 0;
    let mut sum = 0_u32;
    while at < written {
        let read = file.read_at(&mut buffer, at)?;
        let piece = buffer.get(..read).unwrap_or_default();
        for block in piece.chunks(64 << 10) {
            sum ^= crc32c::crc32c(block);
        }
        at += read as u64;
    }
    std::hint::black_box(sum);
    Ok(Run::rate(written, begun, 0))
}

fn open_engine(dir: &Path, corpus: &Corpus, _: &Plan) -> Result<Run, Failure> {
    let config = LogConfig { segment_bytes: 128 << 10, ..config() };
    let mut directory = best(dir)?;
    let log = directory.get_or_create(&partition()?, &config)?;
    let policy = ValidationPolicy::from_config(&config);
    let small = corpus.originals.first().ok_or("no batch")?;
    for _ in 0..1000 {
        let batch = validate(small.clone(), &policy, NOW_MS)?;
        log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS))?;
        log.roll(NOW_MS)?;
    }
    directory.close()?;
    let mut directory = best(dir)?;
    let begun = Instant::now();
    let log = directory.get_or_create(&partition()?, &config)?;
    let figure = begun.elapsed().as_secs_f64() * 1e3;
    if log.offsets().log_end < 1000 {
        return Err("records are missing".into());
    }
    Ok(Run { figure, syncs: 0 })
}

/// The floor of an open: to list the files and ask for the length of each.
fn open_raw(dir: &Path, _: &Corpus, _: &Plan) -> Result<Run, Failure> {
    for n in 0..1000 {
        for extension in ["log", "index", "timeindex"] {
            File::create(dir.join(format!("{n:020}.{extension}")))?;
        }
    }
    let begun = Instant::now();
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    std::hint::black_box(bytes);
    Ok(Run { figure: begun.elapsed().as_secs_f64() * 1e3, syncs: 0 })
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
