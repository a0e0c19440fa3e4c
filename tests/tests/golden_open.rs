//! Every golden directory opens to the answers that Kafka itself gives on it.
//!
//! Opened twice: as Kafka opens it (damage is cut), to Kafka's answers; and by default (damage below the recovery point
//! is reported and nothing touched), to the same answers or a typed error. What differs on purpose stands in
//! [`deviation`], by name and with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    DirectoryOptions, Fetch, Fetched, Isolation, Log, LogDirectory, LogError, LogReader, OnCorruption, OpenError,
    SegmentSummary, TimestampQuery, TopicPartition, format::names::DirectoryName,
};
use duramen_tests::golden::{self, Case, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::PathBuf};

// M 93, 94
#[test]
fn directories_open_to_the_answers_of_kafka() {
    let mut differences = Vec::new();
    let mut compared = 0;
    let mut deviations: BTreeMap<&str, usize> = BTreeMap::new();
    for name in golden::names() {
        let case = Case::load(&name);
        let answers = case.expected["open"]["answers"].as_object().cloned().unwrap_or_default();
        let mut directory = open(&case, OnCorruption::Truncate);
        for (partition, answer) in &answers {
            let Some(topic_partition) = current(partition) else {
                continue;
            };
            let answer = resolve(&answers, answer);
            let place = format!("{name}/{partition}");
            let config = case.config(topic_partition.topic());
            let found = match directory.get(&topic_partition, &config) {
                Ok(log) => compare(log, answer),
                Err(error) => vec![format!("open: {error}")],
            };
            compared += 1;
            match deviation(&case, topic_partition.topic()) {
                Some(reason) if !found.is_empty() => *deviations.entry(reason).or_default() += 1,
                _ => differences.extend(found.into_iter().map(|difference| format!("{place}: {difference}"))),
            }
        }
    }
    println!("{compared} partitions compared");
    if std::env::var_os("DURAMEN_GOLDEN").is_none() {
        let unused = DEVIATIONS.iter().filter(|(_, _, reason)| !deviations.contains_key(reason));
        differences.extend(unused.map(|(case, topics, _)| format!("{case} {topics:?} no longer differ")));
    }
    for (reason, count) in &deviations {
        println!("{count} differ on purpose: {reason}");
    }
    assert!(compared > 0, "nothing was compared");
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn open(case: &Case, on_corruption: OnCorruption) -> LogDirectory {
    let now_ms = case.expected["open"]["now_ms"].as_i64();
    let options = DirectoryOptions { on_corruption, now_ms, ..DirectoryOptions::default() };
    LogDirectory::open_with(&case.dir(), options).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

/// The partition of a directory's name, if it is a current one.
fn current(name: &str) -> Option<TopicPartition> {
    let parsed = DirectoryName::parse(name).ok()?;
    (parsed.partition.to_string() == name).then_some(parsed.partition)
}

fn resolve<'a>(answers: &'a serde_json::Map<String, Value>, answer: &'a Value) -> &'a Value {
    match answer["same_as"].as_str() {
        Some(other) => &answers[other],
        None => answer,
    }
}

/// What is opened to something else than Kafka's answers on purpose: case, topics, reason. A case ends with `*` when its
/// clean and unclean forms are both meant; a topic ends with `*` for a family of lengths.
const DEVIATIONS: [(&str, &[&str], &str); 16] = [
    ("old-magic", &[], "magic 0 and 1 are refused: Kafka 4 takes them from no producer"),
    (
        "damage-tail-clean",
        &["cut-*"],
        "N.44: only the torn batch is cut; Kafka falls back to the segment's base and reuses offsets of whole batches",
    ),
    ("damage-checkpoints-clean", &["rp-end-torn", "rp-beyond-torn"], "N.44, the same with other recovery points"),
    (
        "damage-tail-clean",
        &["garbage-*", "huge-length", "zeros-*"],
        "N.44: a tail that is no batch is cut, Kafka keeps it",
    ),
    (
        "damage-inside*",
        &["last-magic-3"],
        "N.42: a batch of magic 3 is damage; Kafka recovers it and followers refuse it",
    ),
    ("damage-inside*", &["lower-base-offset"], "N.45: offsets never go back; the batch is cut"),
    ("damage-tail", &["old-batch-again"], "N.45: offsets never go back; the batch is cut"),
    (
        "damage-inside-clean",
        &["last-length-short", "flip-last-base-offset"],
        "N.41, N.48: the torn tail is cut, offsets stay as asked for",
    ),
    (
        "damage-indexes*",
        &["index-not-at-batch", "index-garbage", "index-beyond-active", "index-zero-tail", "txnindex-torn"],
        "P6: an index that does not fit the log is made anew and never believed",
    ),
    (
        "damage-indexes*",
        &["timeindex-zero-tail", "timeindex-garbage", "timeindex-empty", "no-timeindex-sealed", "no-timeindex-active"],
        "N.27, P6: a time index that is lost or damaged is made anew; Kafka answers without it",
    ),
    ("swap-steps", &["s11-swap-log-only"], "N.47: the indexes of a lone .log.swap are made anew"),
    ("damage-epochs*", &["missing"], "N.28: lost leader epochs are read from the batches"),
    ("damage-epochs", &["beyond-end"], "P5: an epoch beyond the end does not hide those of the batches"),
    (
        "damage-snapshots-clean",
        &["latest-version", "none-left"],
        "P6: a newer version is refused, lost producers are replayed",
    ),
    (
        "damage-files*",
        &["empty-middle", "short-name", "no-log-middle", "segment-gone"],
        "N.46: what Kafka does with foreign names and holes",
    ),
    ("damage-checkpoints-clean", &["start-beyond"], "a log that was started over without a producer has no snapshot"),
];

fn deviation(case: &Case, topic: &str) -> Option<&'static str> {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(both) => case.name == both || case.name.strip_suffix("-clean") == Some(both),
        None => case.name == pattern,
    };
    let meant = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(family) => topic.starts_with(family),
        None => topic == *pattern,
    };
    let found =
        DEVIATIONS.iter().find(|(name, topics, _)| matches(name) && (topics.is_empty() || topics.iter().any(meant)));
    found.map(|(_, _, reason)| *reason)
}

/// Everything that differs from Kafka's answers.
fn compare(log: &mut Log, answer: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let mut check = |what: &str, found: Value, expected: &Value| {
        if found != *expected {
            differences.push(format!("{what}: {found}, Kafka {expected}"));
        }
    };
    let offsets = log.offsets();
    check("log start", json!(offsets.log_start), &answer["log_start_offset"]);
    check("log end", json!(offsets.log_end), &answer["log_end_offset"]);
    check("recovery point", json!(offsets.recovery_point), &answer["recovery_point"]);
    check("high watermark", json!(offsets.high_watermark), &answer["high_watermark"]);
    check("last stable", json!(offsets.last_stable), &answer["last_stable_offset"]);
    let reader = log.reader();
    let segments = match reader.segments() {
        Ok(segments) => segments,
        Err(error) => {
            differences.push(format!("segments: {error}"));
            return differences;
        }
    };
    let listed: Vec<_> = segments
        .iter()
        .map(|segment| {
            json!({
                "base": segment.base_offset,
                "size": segment.size,
                "index_entries": segment.index_entries,
                "timeindex_entries": segment.time_index_entries,
                "txnindex_entries": segment.aborted_transactions,
                "largest_ts": segment.largest_timestamp,
            })
        })
        .collect();
    check("segments", json!(listed), &answer["segments"]);
    let producers: Vec<_> = log
        .active_producers()
        .iter()
        .map(|producer| {
            json!({
                "producer_id": producer.producer_id,
                "epoch": producer.producer_epoch,
                "last_seq": producer.last_sequence.unwrap_or(-1),
                "last_timestamp": producer.last_timestamp,
                "coordinator_epoch": producer.coordinator_epoch.unwrap_or(-1),
                "current_txn_start_offset": producer.current_txn_first_offset.unwrap_or(-1),
            })
        })
        .collect();
    check("producers", json!(producers), &answer["active_producers"]);
    let range = log.snapshot_offsets();
    let range = json!({"oldest": range.map(|(oldest, _)| oldest), "latest": range.map(|(_, latest)| latest)});
    check("snapshots", range, &answer["snapshots"]);
    let epochs: Vec<_> = reader.leader_epochs().iter().map(|entry| json!([entry.epoch, entry.start_offset])).collect();
    check("leader epochs", json!(epochs), &answer["leader_epochs"]);
    let topic_id = log.topic_id().map(|id| id.to_string());
    check("topic id", json!(topic_id), &answer["topic_id"]);
    log.update_high_watermark(offsets.log_end);
    let leader = log.offsets();
    check("leader's high watermark", json!(leader.high_watermark), &answer["leader"]["high_watermark"]);
    check("leader's last stable", json!(leader.last_stable), &answer["leader"]["last_stable_offset"]);
    for question in answer["end_offset_for_epoch"].as_array().into_iter().flatten() {
        let epoch = i32::try_from(question[0].as_i64().unwrap()).unwrap();
        let found = reader.end_offset_for_epoch(epoch).map(|(epoch, end)| json!([epoch, end]));
        check(&format!("end offset for epoch {epoch}"), json!(found), &question[1]);
    }
    check_times(&reader, answer, &mut check);
    check_reads(&reader, &answer["reads"], &mut check);
    let lower = &answer["at_lower_high_watermark"];
    if let Some(high_watermark) = lower["high_watermark"].as_i64() {
        log.update_high_watermark(high_watermark);
        let found = log.offsets().last_stable;
        check("last stable at a lower high watermark", json!(found), &lower["last_stable_offset"]);
        check_reads(&reader, &lower["reads"], &mut check);
    }
    differences
}

fn check_times(reader: &LogReader, answer: &Value, check: &mut impl FnMut(&str, Value, &Value)) {
    for question in answer["offset_for_timestamp"].as_array().into_iter().flatten() {
        let timestamp = question[0].as_i64().unwrap();
        let query = match timestamp {
            -1 => TimestampQuery::Latest,
            -2 | -4 => TimestampQuery::Earliest,
            -3 => TimestampQuery::MaxTimestamp,
            // Tiered storage is not there.
            -5 | -6 => continue,
            _ => TimestampQuery::At(timestamp),
        };
        let found = match reader.offset_for_timestamp(query, Isolation::LogEnd) {
            Ok(Some(found)) => {
                let timestamp = found.timestamp.unwrap_or(-1);
                json!([question[0], found.offset, timestamp, found.leader_epoch])
            }
            Ok(None) => json!([question[0], null]),
            Err(_) => json!([question[0], "an error"]),
        };
        let failed = question[1].get("error").is_some();
        let expected = if failed { json!([question[0], "an error"]) } else { question.clone() };
        check("offset for timestamp", found, &expected);
    }
}

fn check_reads(reader: &LogReader, reads: &Value, check: &mut impl FnMut(&str, Value, &Value)) {
    for read in reads.as_array().into_iter().flatten() {
        let isolation = match read[2].as_str().unwrap() {
            "LOG_END" => Isolation::LogEnd,
            "HIGH_WATERMARK" => Isolation::HighWatermark,
            "TXN_COMMITTED" => Isolation::ReadCommitted,
            other => panic!("{other}"),
        };
        let fetch = Fetch {
            offset: read[0].as_i64().unwrap(),
            max_bytes: read[1].as_u64().unwrap(),
            isolation,
            min_one_batch: read[3].as_bool().unwrap(),
        };
        let found = match reader.read(fetch) {
            Ok(fetched) => describe(&fetched, isolation, &read[4]),
            Err(LogError::OffsetOutOfRange { .. }) => json!({"error": "OffsetOutOfRangeException"}),
            Err(error) => json!({"error": error.to_string()}),
        };
        let mut expected = read[4].clone();
        if let Some(fields) = expected.as_object_mut() {
            fields.remove("message");
        }
        check(&format!("read {:?}", fetch), found, &expected);
    }
}

fn describe(fetched: &Fetched, isolation: Isolation, expected: &Value) -> Value {
    let mut fields = serde_json::Map::new();
    let at = fetched.start.map(|start| json!([start.segment_base_offset, start.position]));
    fields.insert("at".into(), json!(at));
    fields.insert("bytes".into(), json!(fetched.len()));
    if let Some(records) = fetched.records.as_ref().filter(|records| !records.is_empty()) {
        let bytes = records.to_vec().unwrap();
        let first = duramen::format::batch::Batch::parse(&bytes).map(|batch| batch.header().base_offset()).ok();
        fields.insert("first".into(), json!(first));
        fields.insert("sha".into(), json!(hex(&Sha256::digest(&bytes))[..16]));
    }
    if fetched.first_batch_incomplete {
        fields.insert("first_entry_incomplete".into(), json!(true));
    }
    if isolation == Isolation::ReadCommitted && (expected.get("aborted").is_some() || !fetched.aborted.is_empty()) {
        let aborted: Vec<_> = fetched.aborted.iter().map(|txn| json!([txn.producer_id, txn.first_offset])).collect();
        fields.insert("aborted".into(), json!(aborted));
    }
    Value::Object(fields)
}

/// Bytes of every log file in a partition's directory.
fn log_files(case: &Case, partition: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(case.dir().join(partition)).unwrap().map(|entry| entry.unwrap().path());
    let logs = entries.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

// M 113
#[test]
fn damage_below_the_recovery_point_is_reported_and_nothing_touched() {
    let mut reported = 0;
    for name in golden::names() {
        let case = Case::load(&name);
        let mut directory = open(&case, OnCorruption::Report);
        for partition in directory.partitions().to_vec() {
            let place = format!("{name}/{partition}");
            let before = log_files(&case, &partition.to_string());
            match directory.get(&partition, &case.config(partition.topic())) {
                Ok(_) => {}
                Err(OpenError::Partition { source, .. }) => {
                    let typed = matches!(
                        source,
                        LogError::Corrupt(_)
                            | LogError::Format(_)
                            | LogError::InvalidArgument { .. }
                            | LogError::Segment(_)
                    );
                    assert!(typed, "{place}: {source:?}");
                    assert!(log_files(&case, &partition.to_string()) == before, "{place}: {source}, but files changed");
                    println!("{place}: {source}");
                    reported += 1;
                }
                Err(error) => panic!("{place}: {error}"),
            }
        }
    }
    assert!(reported > 0 || std::env::var_os("DURAMEN_GOLDEN").is_some(), "no case was reported");
}

#[test]
fn opening_again_finds_what_the_first_opening_left() {
    for name in golden::names() {
        let case = Case::load(&name);
        let seen = |directory: &mut LogDirectory| {
            let mut seen = BTreeMap::new();
            for partition in directory.partitions().to_vec() {
                if let Ok(log) = directory.get(&partition, &case.config(partition.topic())) {
                    let offsets = log.offsets();
                    let (segments, producers) = (log.reader().segments().unwrap(), log.active_producers());
                    // An epoch that begins at the end of the log is forgotten by the next opening, as in Kafka.
                    let mut epochs = log.reader().leader_epochs();
                    epochs.retain(|entry| entry.start_offset < offsets.log_end);
                    seen.insert(partition, (offsets.log_start, offsets.log_end, segments, producers, epochs));
                }
            }
            seen
        };
        let mut first = open(&case, OnCorruption::Truncate);
        let left = seen(&mut first);
        let was_clean = first.report().clean;
        drop(first);
        let mut crashed = open(&case, OnCorruption::Truncate);
        assert!(!crashed.report().clean, "{name}: the marker was taken");
        let found = seen(&mut crashed);
        for (partition, found) in &found {
            // Behind a marker damage is not looked for; after the crash it is.
            let (report, _) = &crashed.report().partitions[partition];
            let same = left.get(partition).is_none_or(|left| {
                // A rebuilt index has other entries where a restart had begun counting anew.
                let sizes = |segments: &[SegmentSummary]| -> Vec<_> {
                    segments.iter().map(|segment| (segment.base_offset, segment.size)).collect()
                };
                (found.0, found.1) == (left.0, left.1)
                    && sizes(&found.2) == sizes(&left.2)
                    && (was_clean || found == left)
            });
            assert!(same || !report.is_whole(), "{name}/{partition}: after a crash");
        }
        if found.len() == crashed.partitions().len() {
            crashed.close().unwrap();
            let mut closed = open(&case, OnCorruption::Report);
            assert!(closed.report().clean, "{name}: the marker was written");
            assert_eq!(seen(&mut closed), found, "{name}: after an orderly close");
            for (partition, (report, _)) in &closed.report().partitions {
                assert!(report.is_whole() && report.segments_scanned == 0, "{name}/{partition}: {report}");
            }
        }
    }
}
