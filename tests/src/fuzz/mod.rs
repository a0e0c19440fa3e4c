//! What the fuzz targets do with their input; the same bodies replay the committed corpora on stable.
//!
//! Half of the inputs have lengths and checksums repaired first, else nothing would get past them. Each run is bounded:
//! the allocator of the fuzz crate and of the replay test counts what is allocated.

mod backend_diff;
mod compact_model;
mod counting;
mod producer_model;

pub use counting::{Counting, most_allocated};

use crate::{
    disk::{Crash, SimDisk},
    history::{self, History, Retention, Step},
};
use duramen::{
    DirectoryOptions, LogConfig, LogDirectory, OnCorruption, TopicPartition, ValidationPolicy,
    format::{
        batch::{self, Batch, Batches, HEADER_SIZE, TimestampType},
        checkpoint, clean_shutdown,
        compression::{self, Codec},
        control::EndTxnMarker,
        index_entry::{OffsetIndexView, TimeIndexView},
        meta_properties::MetaProperties,
        names::{DirectoryName, FileName},
        partition_metadata, snapshot,
    },
    storage::{Access, Storage, write_at},
    validate,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A target: its name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 13] = [
    ("batch_decode", batch_decode),
    ("batch_validate", batch_validate),
    ("records_iter", records_iter),
    ("decompress_bounded", decompress_bounded),
    ("index_open", index_open),
    ("checkpoint_parse", checkpoint_parse),
    ("snapshot_parse", snapshot_parse),
    ("segment_recover", segment_recover),
    ("dir_open", dir_open),
    ("log_model", log_model),
    ("producer_model", producer_model::producer_model),
    ("compact_model", compact_model::compact_model),
    ("backend_diff", backend_diff::backend_diff),
];

/// Most bytes that records may decompress to here.
const DECOMPRESSED_BYTES: u64 = 64 << 10;
const NOW_MS: i64 = history::NOW_MS;

/// Makes the length field and the checksum of a lone batch right, for every other input.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if data.first().is_some_and(|first| first & 1 == 0) && bytes.len() >= HEADER_SIZE {
        bytes[..batch::BATCH_LENGTH_AT].fill(0);
        let length = i32::try_from(bytes.len() - batch::LOG_OVERHEAD).unwrap();
        bytes[batch::BATCH_LENGTH_AT..batch::LEADER_EPOCH_AT].copy_from_slice(&length.to_be_bytes());
        bytes[batch::MAGIC_AT] = 2;
        bytes[batch::LAST_OFFSET_DELTA_AT] &= 0x7f;
        let crc = crc32c::crc32c(&bytes[batch::ATTRIBUTES_AT..]);
        bytes[batch::CRC_AT..batch::ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fn batch_decode(data: &[u8]) {
    let bytes = repaired(data);
    let mut end = 0;
    for batch in Batches::new(&bytes) {
        let Ok(batch) = batch else {
            return;
        };
        end += batch.bytes().len();
        let header = batch.header();
        assert!(header.next_offset() > header.base_offset());
        assert_eq!(batch.check_crc().is_ok(), batch.computed_crc() == header.crc());
        let again = Batch::parse(batch.bytes()).unwrap();
        assert_eq!(again.header(), header);
    }
    assert!(end <= bytes.len());
}

/// Against a slow validator of its own: what it accepts obeys the rules.
fn batch_validate(data: &[u8]) {
    let policy = ValidationPolicy::from_config(&LogConfig::default()).with_decompressed_bytes(DECOMPRESSED_BYTES);
    let sent = repaired(data);
    let Ok(validated) = validate(sent.clone(), &policy, NOW_MS) else {
        return;
    };
    let batch = Batch::parse(validated.bytes()).unwrap();
    batch.check_crc().unwrap();
    let header = batch.header();
    let mut scratch = Vec::new();
    let records: Vec<_> = batch.records(&mut scratch, DECOMPRESSED_BYTES).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), usize::try_from(header.records_count()).unwrap());
    assert!(!records.is_empty() && !header.attributes().is_control() && header.base_offset() == 0);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.offset(), i64::try_from(index).unwrap());
    }
    // Like Kafka, of a producer that set the type LogAppendTime its maximum is taken for the time of every record.
    let sent = Batch::parse(&sent).unwrap();
    let expected = match sent.header().attributes().timestamp_type() {
        TimestampType::CreateTime => records.iter().filter_map(duramen::format::record::Record::timestamp).max(),
        TimestampType::LogAppendTime => sent.header().max_timestamp(),
    };
    assert_eq!(header.max_timestamp(), expected);
}

fn records_iter(data: &[u8]) {
    let bytes = repaired(data);
    let Ok(batch) = Batch::parse(&bytes) else {
        return;
    };
    let mut scratch = Vec::new();
    let Ok(records) = batch.records(&mut scratch, DECOMPRESSED_BYTES) else {
        return;
    };
    let mut count = 0;
    for record in records {
        let Ok(record) = record else {
            return;
        };
        count += 1;
        assert_eq!(record.headers().count(), record.headers().len());
        let _ = EndTxnMarker::decode(&record);
    }
    assert_eq!(count, batch.header().records_count());
}

fn decompress_bounded(data: &[u8]) {
    let Some((first, input)) = data.split_first() else {
        return;
    };
    let codec = Codec::ALL[usize::from(*first) % Codec::ALL.len()];
    let mut output = Vec::new();
    let result = compression::decompress(codec, input, DECOMPRESSED_BYTES, &mut output);
    assert!(output.len() as u64 <= DECOMPRESSED_BYTES, "{result:?}");
}

fn index_open(data: &[u8]) {
    let Some((target, bytes)) = data.split_first_chunk::<8>() else {
        return;
    };
    let target = i64::from_be_bytes(*target);
    let offsets = OffsetIndexView::new(bytes, 0);
    let _ = (offsets.lookup(target), offsets.upper_bound(u32::try_from(target & 0xffff).unwrap()));
    assert!(offsets.entry(offsets.len()).is_none());
    let times = TimeIndexView::new(bytes, 0);
    let _ = (times.lookup(target), times.last());
}

fn checkpoint_parse(data: &[u8]) {
    if let Ok(epochs) = checkpoint::decode_epochs(data) {
        let again = checkpoint::encode_epochs(&epochs);
        assert_eq!(checkpoint::decode_epochs(&again).unwrap(), epochs);
    }
    if let Ok(offsets) = checkpoint::decode_offsets(data) {
        assert_eq!(checkpoint::decode_offsets(&checkpoint::encode_offsets(&offsets)).unwrap(), offsets);
    }
    if let Ok(id) = partition_metadata::decode(data) {
        assert_eq!(partition_metadata::decode(&partition_metadata::encode(id)).unwrap(), id);
    }
    if let Ok(properties) = MetaProperties::decode(data) {
        let version = properties.get("version").map(str::to_owned);
        let again = MetaProperties::decode(&properties.encode()).unwrap();
        assert_eq!(again.get("version").map(str::to_owned), version);
    }
    let _ = clean_shutdown::broker_epoch(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (FileName::parse(text), DirectoryName::parse(text));
    }
}

fn snapshot_parse(data: &[u8]) {
    let mut bytes = data.to_vec();
    if data.len() >= snapshot::HEADER_SIZE && data[0] & 1 == 0 {
        bytes[..2].copy_from_slice(&snapshot::VERSION.to_be_bytes());
        let count = (bytes.len() - snapshot::HEADER_SIZE) / snapshot::ENTRY_SIZE;
        bytes.truncate(snapshot::HEADER_SIZE + count * snapshot::ENTRY_SIZE);
        bytes[6..10].copy_from_slice(&i32::try_from(count).unwrap().to_be_bytes());
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    }
    if let Ok(entries) = snapshot::decode(&bytes) {
        assert_eq!(snapshot::decode(&snapshot::encode(&entries)).unwrap().len(), entries.len());
    }
}

fn create(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Access::Create).unwrap();
    write_at(disk, &file, 0, bytes).unwrap();
}

fn open(disk: &SimDisk, on_corruption: OnCorruption) -> LogDirectory {
    let options = DirectoryOptions {
        on_corruption,
        now_ms: Some(NOW_MS),
        lock_timeout: Duration::ZERO,
        ..DirectoryOptions::default()
    };
    LogDirectory::open_on(Arc::new(disk.clone()), options).unwrap()
}

/// A log file of arbitrary bytes: recovery keeps what a naive scan finds whole, and twice is once.
fn segment_recover(data: &[u8]) {
    let bytes = repaired(data);
    let disk = SimDisk::new(1);
    let partition = TopicPartition::new("fuzz", 0).unwrap();
    disk.create_dir(Path::new("fuzz-0")).unwrap();
    create(&disk, Path::new("fuzz-0/00000000000000000000.log"), &bytes);
    let mut directory = open(&disk, OnCorruption::Truncate);
    let Ok(log) = directory.get_or_create(&partition, &history::config()) else {
        return;
    };
    let content = history::read_all(log);
    assert_eq!(content, naive_prefix(&bytes), "recovery and a naive scan");
    drop(directory);
    let mut directory = open(&disk, OnCorruption::Report);
    let log = directory.get_or_create(&partition, &history::config()).unwrap();
    assert_eq!(history::read_all(log), content, "recovery twice is once");
    directory.close().unwrap();
}

/// What recovery keeps of a lone log that it opens: whole batches whose last offsets ascend, without the last of them if
/// offsets go back behind it to where they were before it. Beyond a segment's range all ascend, else it is refused.
fn naive_prefix(bytes: &[u8]) -> &[u8] {
    let (mut end, mut next_offset) = (0, 0);
    let mut before = (0, 0);
    let mut is_beyond_range = false;
    while let Ok(batch) = Batch::parse(&bytes[end..]) {
        let header = batch.header();
        if !is_beyond_range && (header.last_offset() < next_offset || header.base_offset() < 0) {
            let last_is_wrong = header.base_offset() >= before.1;
            return &bytes[..if last_is_wrong { before.0 } else { end }];
        }
        if batch.check_crc().is_err() {
            break;
        }
        is_beyond_range |= header.last_offset() > i64::from(i32::MAX);
        before = (end, next_offset);
        end += batch.bytes().len();
        next_offset = header.next_offset();
    }
    &bytes[..end]
}

/// Names for files of a directory, the meaningful ones first.
const NAMES: [&str; 16] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000005.log",
    "00000000000000000005.index",
    "00000000000000000005.snapshot",
    "00000000000000000005.log.swap",
    "00000000000000000005.log.cleaned",
    "00000000000000000000.log.deleted",
    "leader-epoch-checkpoint",
    "partition.metadata",
    "leader-epoch-checkpoint.tmp",
    "abc.log",
    "notes.txt",
    "00000000000000000009.snapshot",
];

/// A directory of arbitrary files under meaningful names: it opens or is refused, and foreign files stay.
fn dir_open(data: &[u8]) {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("fuzz-0")).unwrap();
    let mut rest = data;
    let mut foreign = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(head[1]) % (after.len() + 1);
        let name = NAMES[usize::from(head[0]) % NAMES.len()];
        let path = PathBuf::from("fuzz-0").join(name);
        if disk.open(&path, Access::Read).is_err() {
            let bytes = if name.contains(".log") { repaired(&after[..len]) } else { after[..len].to_vec() };
            create(&disk, &path, &bytes);
            if ["abc.log", "notes.txt"].contains(&name) {
                foreign.push((path, bytes));
            }
        }
        rest = &after[len..];
    }
    let partition = TopicPartition::new("fuzz", 0).unwrap();
    for on_corruption in [OnCorruption::Report, OnCorruption::Truncate] {
        let mut directory = open(&disk, on_corruption);
        if let Ok(log) = directory.get_or_create(&partition, &history::config()) {
            let offsets = log.offsets();
            assert!(offsets.log_start <= offsets.last_stable && offsets.last_stable <= offsets.high_watermark);
            assert!(offsets.high_watermark <= offsets.log_end && offsets.recovery_point <= offsets.log_end);
        }
    }
    for (path, bytes) in foreign {
        assert_eq!(disk.files().get(&path), Some(&bytes), "P11: {} is not ours", path.display());
    }
}

/// The step that a byte of an input means.
fn step_of(byte: u8, is_compacted: bool) -> Step {
    match byte % 32 {
        0..=2 => Step::Append(1 + byte / 32 % 6),
        3 | 4 => Step::Flush,
        5 | 6 => Step::Roll,
        7 | 8 => Step::Truncate(byte / 32),
        9 => Step::Reopen,
        10 => Step::Abandon,
        11 => Step::StartAt(byte / 32),
        12 => Step::Produce(byte / 32),
        13..=16 => Step::Transact(byte / 32),
        17..=19 => Step::End(byte / 32, byte >= 128),
        20 | 21 => Step::HighWatermark(byte / 32),
        22 | 23 => Step::DeleteRecords(byte / 32),
        24 => Step::Retain(Retention::LogStart),
        25 => Step::Retain(if byte < 128 { Retention::Size } else { Retention::Time }),
        26 => Step::Sweep,
        27 => Step::Follow(byte / 32 % 3),
        28 => Step::Epoch,
        29 => Step::Snapshot,
        30 => Step::Checkpoint,
        _ if is_compacted => Step::Compact,
        _ => Step::Roll,
    }
}

/// Steps of a history with a crash, against what it owes.
fn log_model(data: &[u8]) {
    let Some(([seed, crash_at, how], steps)) = data.split_first_chunk::<3>() else {
        return;
    };
    let steps: Vec<Step> = steps.iter().take(24).map(|byte| step_of(*byte, seed % 2 == 1)).collect();
    let disk = SimDisk::new(u64::from(*seed));
    disk.crash_at(u64::from(*crash_at));
    let mut history = if seed % 2 == 1 { History::compacted() } else { History::default() };
    let result = history.run(&history::on(&disk), &steps);
    assert_eq!(result.is_err(), disk.crashed(), "{result:?}");
    let how = match how % 5 {
        0 => Crash::ProcessOnly,
        1 => Crash::LoseAllUnsynced,
        2 => Crash::ZeroTail,
        3 => Crash::Random(u64::from(*how)),
        _ => Crash::Torn(u64::from(*how)),
    };
    history.check(&history::on(&disk.crash_image(how)), how);
}

/// Runs one target on an input.
///
/// # Panics
/// When the target finds a fault, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    target(data);
}
