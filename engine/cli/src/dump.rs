//! `duramen dump`.

use crate::{
    args::DumpArgs,
    files::{self, At, LogFile},
    output::{Failure, Output, show},
};
use duramen::format::{
    batch::{Batch, MAGIC, TimestampType},
    checkpoint, clean_shutdown,
    compression::Codec,
    control::{ControlType, EndTxnMarker},
    index_entry::{AbortedTxn, OffsetIndexEntry, OffsetIndexView, TimeIndexEntry, TimeIndexView},
    meta_properties::MetaProperties,
    names::{self, FileName, SegmentFile},
    partition_metadata, snapshot,
};
use serde_json::{Value, json};
use std::{path::Path, process::ExitCode};

/// Most bytes that one batch may decompress to.
pub(crate) const DECOMPRESSED_BYTES: u64 = 1 << 30;

pub(crate) fn run(args: &DumpArgs) -> Result<ExitCode, Failure> {
    let mut dump = Dump { out: Output::new(), args };
    for path in &args.paths {
        dump.path(path)?;
    }
    dump.out.flush()?;
    Ok(ExitCode::SUCCESS)
}

struct Dump<'a> {
    out: Output,
    args: &'a DumpArgs,
}

impl Dump<'_> {
    fn path(&mut self, path: &Path) -> Result<(), Failure> {
        if !path.is_dir() {
            return self.file(path);
        }
        for (_, entry) in files::entries(path)? {
            if entry.is_dir() {
                for (_, file) in files::entries(&entry)? {
                    if file.is_file() {
                        self.file(&file)?;
                    }
                }
            } else {
                self.file(&entry)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // What is being written becomes the file whose name it has.
        let name = name.strip_suffix(".tmp").unwrap_or(&name);
        match FileName::parse(&in_full(name)) {
            FileName::Segment { file: SegmentFile::Log, .. } => self.log(path),
            FileName::Segment { file, offset, .. } => {
                let bytes = self.read(path)?;
                self.derived(path, file, offset, &bytes)
            }
            FileName::LeaderEpochCheckpoint => {
                let bytes = self.read(path)?;
                self.decoded(path, checkpoint::decode_epochs(&bytes), |entry| {
                    (
                        json!({"epoch": entry.epoch, "start_offset": entry.start_offset}),
                        format!("epoch {} from offset {}", entry.epoch, entry.start_offset),
                    )
                })
            }
            FileName::PartitionMetadata => {
                let bytes = self.read(path)?;
                self.decoded(path, partition_metadata::decode(&bytes).map(|id| vec![id]), |id| {
                    (json!({"topic_id": id.to_string()}), format!("topic id {id}"))
                })
            }
            FileName::Temporary | FileName::Foreign => self.other(path, name),
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        std::fs::read(path).map_err(Failure::at(path.display()))
    }

    fn title(&mut self, path: &Path) -> Result<(), Failure> {
        if self.args.json {
            return Ok(());
        }
        let title = self.out.bold(path.display());
        self.out.line(title)
    }

    fn item(&mut self, path: &Path, mut value: Value, text: &str) -> Result<(), Failure> {
        if !self.args.json {
            return self.out.line(format!("  {text}"));
        }
        if let Some(fields) = value.as_object_mut() {
            fields.insert("file".into(), json!(path.display().to_string()));
        }
        self.out.line(value)
    }

    fn decoded<T>(
        &mut self,
        path: &Path,
        decoded: Result<Vec<T>, duramen::format::FormatError>,
        describe: impl Fn(&T) -> (Value, String),
    ) -> Result<(), Failure> {
        self.title(path)?;
        match decoded {
            Ok(items) if items.is_empty() => self.item(path, json!({"entries": 0}), "no entry"),
            Ok(items) => items.iter().try_for_each(|item| {
                let (value, text) = describe(item);
                self.item(path, value, &text)
            }),
            Err(error) => {
                let text = self.out.red(format!("cannot be read: {error}"));
                self.item(path, json!({"error": error.to_string()}), &text)
            }
        }
    }

    fn derived(&mut self, path: &Path, file: SegmentFile, offset: i64, bytes: &[u8]) -> Result<(), Failure> {
        match file {
            SegmentFile::Log => Ok(()),
            SegmentFile::OffsetIndex => {
                let view = OffsetIndexView::new(bytes, offset);
                let entries = (0..view.len()).map(|n| view.entry(n)).collect();
                self.decoded(path, Ok(entries), |entry| {
                    entry.map_or_else(undecoded, |entry| {
                        (
                            json!({"offset": entry.offset, "position": entry.position}),
                            format!("offset {} at byte {}", entry.offset, entry.position),
                        )
                    })
                })?;
                self.unused(path, bytes.len(), view.len(), OffsetIndexEntry::SIZE)
            }
            SegmentFile::TimeIndex => {
                let view = TimeIndexView::new(bytes, offset);
                let entries = (0..view.len()).map(|n| view.entry(n)).collect();
                self.decoded(path, Ok(entries), |entry| {
                    entry.map_or_else(undecoded, |entry| {
                        (
                            json!({"timestamp": entry.timestamp, "offset": entry.offset}),
                            format!("timestamp {} at offset {}", entry.timestamp, entry.offset),
                        )
                    })
                })?;
                self.unused(path, bytes.len(), view.len(), TimeIndexEntry::SIZE)
            }
            SegmentFile::TxnIndex => {
                let whole = bytes.len() / AbortedTxn::SIZE;
                let decoded = bytes.chunks_exact(AbortedTxn::SIZE).map(AbortedTxn::decode).collect();
                self.decoded(path, decoded, |txn: &AbortedTxn| {
                    (
                        json!({"producer_id": txn.producer_id, "first_offset": txn.first_offset,
                            "last_offset": txn.last_offset, "last_stable_offset": txn.last_stable_offset}),
                        format!(
                            "producer {} aborted offsets {} to {}, last stable {}",
                            txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset
                        ),
                    )
                })?;
                self.unused(path, bytes.len(), whole, AbortedTxn::SIZE)
            }
            SegmentFile::Snapshot => self.decoded(path, snapshot::decode(bytes), |entry| {
                let batch = entry.last_batch;
                (
                    json!({"producer_id": entry.producer_id, "producer_epoch": entry.producer_epoch,
                        "last_sequence": batch.and_then(|batch| batch.last_sequence),
                        "last_offset": batch.map(|batch| batch.last_offset),
                        "offset_delta": batch.map(|batch| batch.offset_delta), "timestamp": entry.timestamp,
                        "coordinator_epoch": entry.coordinator_epoch,
                        "current_txn_first_offset": entry.current_txn_first_offset}),
                    format!(
                        "producer {} epoch {}: last sequence {}, last offset {}, last write {}, coordinator epoch {}, \
                         open transaction since {}",
                        entry.producer_id,
                        entry.producer_epoch,
                        optional(batch.and_then(|batch| batch.last_sequence)),
                        optional(batch.map(|batch| batch.last_offset)),
                        entry.timestamp,
                        optional(entry.coordinator_epoch),
                        optional(entry.current_txn_first_offset)
                    ),
                )
            }),
        }
    }

    fn other(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        match name {
            names::RECOVERY_POINT_CHECKPOINT
            | names::LOG_START_CHECKPOINT
            | names::HIGH_WATERMARK_CHECKPOINT
            | names::CLEANER_CHECKPOINT => {
                let bytes = self.read(path)?;
                let decoded = checkpoint::decode_offsets(&bytes).map(|offsets| offsets.into_iter().collect::<Vec<_>>());
                self.decoded(path, decoded, |(partition, offset)| {
                    (json!({"partition": partition.to_string(), "offset": offset}), format!("{partition} {offset}"))
                })
            }
            names::META_PROPERTIES => {
                let bytes = self.read(path)?;
                let decoded = MetaProperties::decode(&bytes).map(|properties| {
                    properties.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>()
                });
                self.decoded(path, decoded, |(key, value)| {
                    (json!({"key": key, "value": value}), format!("{key} = {value}"))
                })
            }
            names::CLEAN_SHUTDOWN => {
                let bytes = self.read(path)?;
                self.decoded(path, Ok(vec![clean_shutdown::broker_epoch(&bytes)]), |epoch| {
                    (json!({"broker_epoch": epoch}), format!("closed in order, broker epoch {}", optional(*epoch)))
                })
            }
            names::LOCK => Ok(()),
            names::FAILED_SYNC => self.decoded(path, Ok(vec![()]), |()| {
                (
                    json!({"failed_sync": true}),
                    "a sync failed: the page cache may show what the disk has not".to_owned(),
                )
            }),
            // Snapshots of KRaft's log are batches like any other.
            name if name.ends_with(".checkpoint") => self.log(path),
            _ => self.foreign(path, name),
        }
    }

    /// A file that is not of a log: as text if it is one of KRaft's, else only its length.
    fn foreign(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        if name == "quorum-state" {
            let bytes = self.read(path)?;
            return self.decoded(path, Ok(vec![bytes]), |bytes| {
                let text = show(Some(bytes), false);
                (json!({"text": text}), text)
            });
        }
        let bytes = path.metadata().map_err(Failure::at(path.display()))?.len();
        self.decoded(path, Ok(vec![bytes]), |bytes| {
            (json!({"foreign": true, "size": bytes}), format!("not a file of Kafka's log, {bytes} bytes"))
        })
    }

    /// What lies behind the entries of an index: those that were reserved, and bytes that are no whole entry.
    fn unused(&mut self, path: &Path, bytes: usize, used: usize, entry_size: usize) -> Result<(), Failure> {
        let (zeros, trailing) = ((bytes / entry_size).saturating_sub(used), bytes % entry_size);
        if zeros == 0 && trailing == 0 {
            return Ok(());
        }
        let text = format!("{zeros} unused entries and {trailing} trailing bytes");
        self.item(path, json!({"zero_entries": zeros, "trailing_bytes": trailing}), &text)
    }

    fn log(&mut self, path: &Path) -> Result<(), Failure> {
        self.title(path)?;
        let mut log = LogFile::open(path)?;
        loop {
            match log.step()? {
                At::End if log.position() == 0 => return self.item(path, json!({"entries": 0}), "no batch"),
                At::End => return Ok(()),
                At::Rest(position, bytes) => {
                    let text = self.out.red(format!("{bytes} bytes at {position} are no whole batch"));
                    return self.item(path, json!({"position": position, "rest": bytes}), &text);
                }
                At::Batch(position, Err(error)) => {
                    let text = self.out.red(format!("at {position}: {error}"));
                    self.item(path, json!({"position": position, "error": error.to_string()}), &text)?;
                    if log.position() == position {
                        return Ok(());
                    }
                }
                At::Batch(position, Ok(())) => match log.batch() {
                    Ok(batch) => self.batch(path, position, &batch)?,
                    Err(error) => {
                        let text = self.out.red(format!("at {position}: {error}"));
                        self.item(path, json!({"position": position, "error": error.to_string()}), &text)?;
                    }
                },
            }
        }
    }

    fn batch(&mut self, path: &Path, position: u64, batch: &Batch<'_>) -> Result<(), Failure> {
        let header = batch.header();
        let attributes = header.attributes();
        let codec = attributes.codec().map_or("unknown", Codec::name);
        let stamp =
            if attributes.timestamp_type() == TimestampType::LogAppendTime { "LogAppendTime" } else { "CreateTime" };
        let valid = batch.check_crc();
        let producer = header.producer();
        let mut value = json!({
            "base_offset": header.base_offset(), "last_offset": header.last_offset(),
            "last_offset_delta": header.last_offset_delta(), "position": position, "magic": MAGIC,
            "size": header.size(), "count": header.records_count(), "leader_epoch": header.leader_epoch(),
            "codec": codec, "timestamp_type": stamp,
            "base_timestamp": header.base_timestamp(), "max_timestamp": header.max_timestamp(),
            "transactional": attributes.is_transactional(), "control": attributes.is_control(),
            "producer_id": producer.map(|producer| producer.id), "producer_epoch": producer.map(|producer| producer.epoch),
            "base_sequence": header.base_sequence(), "last_sequence": header.last_sequence(), "crc": format!("{:08x}", header.crc()), "valid": valid.is_ok(),
            "delete_horizon": header.delete_horizon_ms(),
        });
        let mut text = format!(
            "offsets {}..={} at byte {position}: {} bytes, {} records, {codec}, epoch {}, {stamp} {}",
            header.base_offset(),
            header.last_offset(),
            header.size(),
            header.records_count(),
            optional(header.leader_epoch()),
            optional(header.max_timestamp()),
        );
        if let Some(producer) = producer {
            text.push_str(&format!(
                ", producer {} epoch {} sequence {}",
                producer.id,
                producer.epoch,
                optional(producer.base_sequence)
            ));
        }
        for (set, word) in [(attributes.is_transactional(), "transactional"), (attributes.is_control(), "control")] {
            if set {
                text.push_str(", ");
                text.push_str(word);
            }
        }
        if let Some(horizon) = header.delete_horizon_ms() {
            text.push_str(&format!(", delete horizon {horizon}"));
        }
        if let Err(error) = &valid {
            text = self.out.red(format!("{text}, DAMAGED: {error}"));
        }
        let records = if self.args.records || attributes.is_control() { self.records(batch) } else { Vec::new() };
        if self.args.json && !records.is_empty() {
            value["records"] = records.iter().map(|(value, _)| value.clone()).collect();
        }
        self.item(path, value, &text)?;
        if !self.args.json {
            for (_, text) in records {
                self.out.line(format!("    {text}"))?;
            }
        }
        Ok(())
    }

    fn records(&self, batch: &Batch<'_>) -> Vec<(Value, String)> {
        let mut scratch = Vec::new();
        let failed = |error: duramen::format::FormatError| (json!({"error": error.to_string()}), self.out.red(error));
        let records = match batch.records(&mut scratch, DECOMPRESSED_BYTES) {
            Ok(records) => records,
            Err(error) => return vec![failed(error)],
        };
        let control = batch.header().attributes().is_control();
        let described = records.map(|record| match record {
            Err(error) => failed(error),
            Ok(record) if control => {
                let kind = ControlType::decode(record.key().unwrap_or_default());
                let kind = kind.map_or_else(|error| error.to_string(), control_name);
                let coordinator = EndTxnMarker::decode(&record).ok().flatten().map(|marker| marker.coordinator_epoch);
                (json!({"offset": record.offset(), "control": kind, "coordinator_epoch": coordinator}),
                 coordinator.map_or_else(|| format!("{} {kind}", record.offset()),
                     |epoch| format!("{} {kind}, coordinator epoch {epoch}", record.offset())))
            }
            Ok(record) => {
                let hex = self.args.hex;
                let headers: Vec<_> = record
                    .headers()
                    .map(|(key, value)| json!({"key": show(Some(key), false), "value": value.map(|value| show(Some(value), hex))}))
                    .collect();
                let pairs: Vec<_> = record
                    .headers()
                    .map(|(key, value)| format!("{}={}", show(Some(key), false), show(value, hex)))
                    .collect();
                let headers_text = if pairs.is_empty() { String::new() } else { format!(" [{}]", pairs.join(", ")) };
                (json!({"offset": record.offset(), "timestamp": record.timestamp(),
                        "key": record.key().map(|key| show(Some(key), hex)),
                        "value": record.value().map(|value| show(Some(value), hex)), "headers": headers}),
                 format!("{} @{} {}: {}{headers_text}", record.offset(), optional(record.timestamp()),
                         show(record.key(), hex), show(record.value(), hex)))
            }
        });
        described.collect()
    }
}

/// A control record's kind as Kafka spells it.
fn control_name(kind: ControlType) -> String {
    match kind {
        ControlType::Abort => "ABORT".to_owned(),
        ControlType::Commit => "COMMIT".to_owned(),
        ControlType::LeaderChange => "LEADER_CHANGE".to_owned(),
        ControlType::SnapshotHeader => "SNAPSHOT_HEADER".to_owned(),
        ControlType::SnapshotFooter => "SNAPSHOT_FOOTER".to_owned(),
        ControlType::KraftVersion => "KRAFT_VERSION".to_owned(),
        ControlType::KraftVoters => "KRAFT_VOTERS".to_owned(),
        ControlType::Unknown(id) => format!("UNKNOWN ({id})"),
    }
}

fn undecoded() -> (Value, String) {
    (json!({"error": "the entry cannot be decoded"}), "an entry that cannot be decoded".to_owned())
}

/// The name with a number of twenty digits, as logs write it, where it begins with fewer.
fn in_full(name: &str) -> String {
    match name.split_once('.') {
        Some((number, rest)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{number:0>20}.{rest}")
        }
        _ => name.to_owned(),
    }
}

/// A value, or a dash.
pub(crate) fn optional<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}
