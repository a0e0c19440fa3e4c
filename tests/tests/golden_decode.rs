//! Every file of every golden directory decodes to what Kafka's own classes read in it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::format::{
    batch::{Batch, BatchHeader, FRAME_SIZE, Frame, TimestampType},
    checkpoint,
    control::EndTxnMarker,
    index_entry::{AbortedTxn, OffsetIndexEntry, TimeIndexEntry},
    meta_properties::MetaProperties,
    names::{self, FileName, SegmentFile},
    partition_metadata,
    record::Record,
    snapshot,
};
use duramen_tests::golden::{self, Case, hex};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

/// Records above this number are listed in part only.
const LISTED_RECORDS: usize = 60;
/// Bytes above this number are listed by their digest.
const LISTED_BYTES: usize = 36;

#[test]
fn files_decode_to_what_kafka_reads_in_them() {
    let mut files = 0;
    let mut batches = 0;
    for name in golden::names() {
        let case = Case::load(&name);
        check_log_dir(&case);
        for (partition, expected) in case.partitions() {
            let dir = case.dir().join(partition);
            for (file, expected) in expected {
                let place = format!("{name}/{partition}/{file}");
                if file.ends_with('/') || expected.as_str().is_some_and(|text| text.starts_with("= ")) {
                    continue;
                }
                batches += check_file(&place, &dir.join(file), file, expected);
                files += 1;
            }
        }
    }
    assert!(files > 0 && batches > 0, "nothing was compared");
    println!("{files} files and {batches} batches compared");
}

fn check_log_dir(case: &Case) {
    let Some(expected) = case.expected["log_dir"].as_object() else {
        return;
    };
    for (file, expected) in expected {
        let place = format!("{}/{file}", case.name);
        let bytes = fs::read(case.dir().join(file));
        match file.as_str() {
            "clean_shutdown" => {
                assert_eq!(case.dir().join(names::CLEAN_SHUTDOWN).is_file(), *expected == json!(true), "{place}");
            }
            names::META_PROPERTIES => {
                let properties = MetaProperties::decode(&bytes.unwrap()).unwrap();
                let found: Map<String, Value> =
                    properties.iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
                assert_eq!(
                    Value::Object(sorted(&found)),
                    Value::Object(sorted(expected.as_object().unwrap())),
                    "{place}"
                );
            }
            names::RECOVERY_POINT_CHECKPOINT
            | names::LOG_START_CHECKPOINT
            | names::HIGH_WATERMARK_CHECKPOINT
            | names::CLEANER_CHECKPOINT => check_offsets(&place, &bytes.unwrap(), expected),
            other => panic!("{place}: the test does not know {other}"),
        }
    }
}

fn sorted(map: &Map<String, Value>) -> Map<String, Value> {
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().collect()
}

fn check_offsets(place: &str, bytes: &[u8], expected: &Value) {
    let decoded = checkpoint::decode_offsets(bytes);
    if expected.get("error").is_some() {
        assert!(decoded.is_err(), "{place}: Kafka cannot read it");
        return;
    }
    let found: Map<String, Value> =
        decoded.unwrap().iter().map(|(partition, offset)| (partition.to_string(), json!(offset))).collect();
    assert_eq!(sorted(&found), sorted(expected.as_object().unwrap()), "{place}");
}

/// Compares one file; the number of batches in it.
fn check_file(place: &str, path: &Path, name: &str, expected: &Value) -> usize {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{place}: {error}"));
    let stem = name.trim_end_matches(".deleted").trim_end_matches(".swap").trim_end_matches(".cleaned");
    match FileName::parse(stem) {
        FileName::Segment { file: SegmentFile::Log, .. } => return check_log(place, &bytes, expected),
        FileName::Segment { file: SegmentFile::OffsetIndex, offset, .. } => {
            let entry = |bytes: &[u8]| {
                OffsetIndexEntry::decode(bytes, offset).map(|entry| json!([entry.offset, entry.position])).ok()
            };
            check_index(place, &bytes, OffsetIndexEntry::SIZE, entry, expected);
        }
        FileName::Segment { file: SegmentFile::TimeIndex, offset, .. } => {
            let entry = |bytes: &[u8]| {
                TimeIndexEntry::decode(bytes, offset).map(|entry| json!([entry.timestamp, entry.offset])).ok()
            };
            check_index(place, &bytes, TimeIndexEntry::SIZE, entry, expected);
        }
        FileName::Segment { file: SegmentFile::TxnIndex, .. } => check_txn_index(place, &bytes, expected),
        FileName::Segment { file: SegmentFile::Snapshot, .. } => check_snapshot(place, &bytes, expected),
        FileName::LeaderEpochCheckpoint => {
            let decoded = checkpoint::decode_epochs(&bytes);
            // Kafka reads negative numbers and dies on them later.
            let numbers = expected.as_array().into_iter().flatten().flat_map(|pair| pair.as_array().unwrap());
            if expected.get("error").is_some() || numbers.clone().any(|number| number.as_i64() < Some(0)) {
                assert!(decoded.is_err(), "{place}: Kafka cannot read it");
            } else {
                let found: Vec<_> =
                    decoded.unwrap().iter().map(|entry| json!([entry.epoch, entry.start_offset])).collect();
                assert_eq!(json!(found), *expected, "{place}");
                if !bytes.is_empty() {
                    assert_eq!(
                        checkpoint::encode_epochs(&checkpoint::decode_epochs(&bytes).unwrap()),
                        bytes,
                        "{place}"
                    );
                }
            }
        }
        FileName::PartitionMetadata => {
            let decoded = partition_metadata::decode(&bytes);
            if expected.get("error").is_some() {
                assert!(decoded.is_err(), "{place}: Kafka cannot read it");
            } else {
                assert_eq!(json!(decoded.unwrap().to_string()), expected["topic_id"], "{place}");
            }
        }
        FileName::Temporary | FileName::Foreign => {}
    }
    0
}

fn check_index(place: &str, bytes: &[u8], size: usize, decode: impl Fn(&[u8]) -> Option<Value>, expected: &Value) {
    let whole = bytes.chunks_exact(size);
    let trailing = whole.remainder().len();
    let Some(listed) = expected.as_array().or(expected["entries"].as_array()) else {
        return;
    };
    for (entry, shown) in whole.clone().zip(listed) {
        // Kafka shows numbers below zero in damaged entries, which are no entries here.
        match decode(entry) {
            Some(found) => assert_eq!(found, *shown, "{place}"),
            None => {
                assert!(shown.as_array().unwrap().iter().any(|number| number.as_i64() < Some(0)), "{place}: {shown}")
            }
        }
    }
    let rest = whole.skip(listed.len());
    let zeros = rest.clone().filter(|entry| entry.iter().all(|byte| *byte == 0)).count();
    assert_eq!(zeros, rest.count(), "{place}: what is not listed is zero");
    assert_eq!(json!(zeros), expected.get("zero_entries").cloned().unwrap_or(json!(0)), "{place}");
    assert_eq!(json!(trailing), expected.get("trailing_bytes").cloned().unwrap_or(json!(0)), "{place}");
}

fn check_txn_index(place: &str, bytes: &[u8], expected: &Value) {
    let decoded: Result<Vec<_>, _> = bytes.chunks_exact(AbortedTxn::SIZE).map(AbortedTxn::decode).collect();
    if expected.get("error").is_some() {
        assert!(decoded.is_err(), "{place}: Kafka cannot read it");
        return;
    }
    let Some(listed) = expected.as_array() else {
        return;
    };
    let found: Vec<_> = decoded
        .unwrap()
        .iter()
        .map(|txn| json!([txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset]))
        .collect();
    assert_eq!(json!(found), json!(listed), "{place}");
}

fn check_snapshot(place: &str, bytes: &[u8], expected: &Value) {
    let decoded = snapshot::decode(bytes);
    let Some(listed) = expected.as_array() else {
        assert!(decoded.is_err(), "{place}: Kafka cannot read it");
        return;
    };
    let entries = decoded.unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(snapshot::encode(&entries), bytes, "{place}: encodes to the same bytes");
    let mut found: Vec<_> = entries
        .iter()
        .map(|entry| {
            let batch = entry.last_batch;
            json!({
                "producer_id": entry.producer_id,
                "epoch": entry.producer_epoch,
                "last_seq": batch.and_then(|batch| batch.last_sequence).unwrap_or(-1),
                "last_offset": batch.map_or(-1, |batch| batch.last_offset),
                "offset_delta": batch.map_or(0, |batch| batch.offset_delta),
                "timestamp": entry.timestamp,
                "coordinator_epoch": entry.coordinator_epoch.unwrap_or(-1),
                "current_txn_first_offset": entry.current_txn_first_offset.unwrap_or(-1),
            })
        })
        .collect();
    found.sort_by_key(|entry| entry["producer_id"].as_i64());
    assert_eq!(json!(found), json!(listed), "{place}");
}

fn check_log(place: &str, bytes: &[u8], expected: &Value) -> usize {
    assert_eq!(json!(bytes.len()), expected["size"], "{place}");
    let Some(listed) = expected["batches"].as_array() else {
        return 0;
    };
    for expected in listed {
        let position = usize::try_from(expected["pos"].as_u64().unwrap()).unwrap();
        check_batch(&format!("{place} at {position}"), &bytes[position..], expected);
    }
    check_scan_end(place, bytes, expected);
    listed.len()
}

/// Kafka's walk by length fields and ours end at the same place.
fn check_scan_end(place: &str, bytes: &[u8], expected: &Value) {
    let mut position = 0;
    while bytes.len() - position >= FRAME_SIZE {
        match Frame::decode(&bytes[position..]) {
            Ok(frame) if frame.size <= bytes.len() - position => position += frame.size,
            _ => break,
        }
    }
    assert_eq!(json!(position), expected["scan_end"], "{place}");
}

fn check_batch(place: &str, bytes: &[u8], expected: &Value) {
    let frame = Frame::decode(bytes);
    if expected["magic"] != json!(2) {
        assert!(frame.and_then(|frame| frame.check_magic()).is_err(), "{place}: another magic is refused");
        return;
    }
    if expected.get("unreadable").is_some() {
        assert!(Batch::parse(bytes).is_err(), "{place}: Kafka cannot read it");
        return;
    }
    let batch = match Batch::parse(bytes) {
        Ok(batch) => batch,
        Err(error) => {
            assert!(expected.get("invalid").is_some(), "{place}: {error}");
            return;
        }
    };
    assert_eq!(batch.check_crc().is_err(), expected.get("invalid").is_some(), "{place}: validity");
    let header = batch.header();
    for (field, value) in describe(header) {
        let wanted = expected.get(&field).cloned().unwrap_or(absent(&field));
        assert_eq!(value, wanted, "{place}: {field}");
    }
    if batch.check_crc().is_ok() {
        check_records(place, &batch, expected);
    }
}

fn describe(header: &BatchHeader) -> Vec<(String, Value)> {
    let attributes = header.attributes();
    let stamp = match attributes.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let producer = header.producer();
    let pairs = [
        ("base", json!(header.base_offset())),
        ("last", json!(header.last_offset())),
        ("size", json!(header.size())),
        ("crc", json!(format!("{:08x}", header.crc()))),
        ("codec", json!(attributes.codec().map_or("?", |codec| codec.name()))),
        ("ts_type", json!(stamp)),
        ("transactional", json!(attributes.is_transactional())),
        ("control", json!(attributes.is_control())),
        ("delete_horizon", json!(header.delete_horizon_ms())),
        ("last_offset_delta", json!(header.last_offset_delta())),
        ("base_ts", json!(header.base_timestamp().unwrap_or(-1))),
        ("max_ts", json!(header.max_timestamp().unwrap_or(-1))),
        ("producer_id", json!(producer.map_or(-1, |producer| producer.id))),
        ("producer_epoch", json!(producer.map_or(-1, |producer| producer.epoch))),
        ("base_seq", json!(header.base_sequence().unwrap_or(-1))),
        ("last_seq", json!(header.last_sequence().unwrap_or(-1))),
        ("leader_epoch", json!(header.leader_epoch().unwrap_or(-1))),
        ("count", json!(header.records_count())),
    ];
    pairs.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

fn absent(field: &str) -> Value {
    match field {
        "transactional" | "control" => json!(false),
        "producer_id" | "producer_epoch" | "base_seq" | "last_seq" => json!(-1),
        _ => Value::Null,
    }
}

fn check_records(place: &str, batch: &Batch<'_>, expected: &Value) {
    let mut scratch = Vec::new();
    let records: Result<Vec<_>, _> = batch.records(&mut scratch, 1 << 30).and_then(Iterator::collect);
    if expected.get("records_error").is_some() {
        assert!(records.is_err(), "{place}: Kafka fails on the records");
        return;
    }
    let records = records.unwrap_or_else(|error| panic!("{place}: {error}"));
    if let Some(kind) = expected["control_type"].as_str() {
        let marker = EndTxnMarker::decode(&records[0]).unwrap();
        let Some(marker) = marker else {
            assert!(!["COMMIT", "ABORT"].contains(&kind), "{place}: {kind}");
            return;
        };
        assert_eq!(if marker.committed { "COMMIT" } else { "ABORT" }, kind, "{place}");
        assert_eq!(json!(marker.coordinator_epoch), expected["coordinator_epoch"], "{place}");
    }
    let described: Vec<_> = records.iter().map(describe_record).collect();
    if let Some(listed) = expected["records"].as_array().filter(|_| expected.get("records_cut").is_none()) {
        assert_eq!(json!(described), json!(listed), "{place}");
    } else if let Some(digest) = expected["records_sha256"].as_str() {
        assert!(described.len() > LISTED_RECORDS, "{place}");
        let mut text = serde_json::to_string(&described).unwrap();
        text.push('\n');
        assert_eq!(hex(&Sha256::digest(text)), digest, "{place}: records");
    }
}

fn describe_record(record: &Record<'_>) -> Value {
    let mut fields = vec![
        json!(record.offset()),
        json!(record.timestamp().unwrap_or(-1)),
        describe_bytes(record.key()),
        describe_bytes(record.value()),
    ];
    let headers: Vec<_> =
        record.headers().map(|(key, value)| json!([describe_bytes(Some(key)), describe_bytes(value)])).collect();
    if !headers.is_empty() {
        fields.push(json!(headers));
    }
    Value::Array(fields)
}

fn describe_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) if bytes.len() <= LISTED_BYTES => json!(hex(bytes)),
        Some(bytes) => json!(format!("sha256:{}:{}", hex(&Sha256::digest(bytes)), bytes.len())),
    }
}
