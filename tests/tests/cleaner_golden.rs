//! Passes of Kafka's own cleaner, done again here: the same answers, and the same files byte for byte.
//!
//! The cases are made by `tests/cleaner-cases.py`; some are kept in `tests/cleaner-cases.tar.gz`, and
//! `DURAMEN_CLEANER_CASES` names a folder with others. Where batches are compressed, which no two libraries do alike,
//! the files are compared by what they say.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    CleanerControl, CleanerOptions, DirectoryOptions, LogConfig, LogDirectory, TopicPartition,
    format::{batch::Batches, names},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

fn config(case: &Value) -> LogConfig {
    let properties = case["config"].as_object().unwrap().iter().map(|(name, value)| {
        let name = if name == "segment.bytes" { "internal.segment.bytes" } else { name.as_str() };
        (name, value.as_str().unwrap())
    });
    LogConfig::from_properties(properties).unwrap()
}

/// The directory before the pass, with what a broker keeps beside the partition.
fn copy(case: &Path, told: &Value) -> TempDir {
    let home = TempDir::new().unwrap();
    let status = Command::new("cp").arg("-a").arg(case.join("before/t-0")).arg(home.path()).status();
    assert!(status.unwrap().success());
    let log_end = &told["offsets"]["log_end"];
    for name in [names::RECOVERY_POINT_CHECKPOINT, names::HIGH_WATERMARK_CHECKPOINT] {
        fs::write(home.path().join(name), format!("0\n1\nt 0 {log_end}\n")).unwrap();
    }
    fs::write(home.path().join(names::CLEAN_SHUTDOWN), b"").unwrap();
    home
}

/// The files of a partition, without those about to be removed, and without what the cleaner does not write.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let kept = named.filter(|(name, _)| !name.ends_with(".deleted") && name != names::PARTITION_METADATA);
    kept.map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

/// What a log file says: of each batch the header without length, codec and checksum, and its records.
fn told(bytes: &[u8]) -> Vec<String> {
    let describe = |batch: duramen::format::batch::Batch<'_>| {
        batch.check_crc().unwrap();
        let header = batch.header();
        let mut scratch = Vec::new();
        let records: Vec<String> = batch
            .records(&mut scratch, 1 << 24)
            .unwrap()
            .map(|record| record.unwrap())
            .map(|r| {
                format!(
                    "{} {:?} {:?} {:?} {:?}",
                    r.offset(),
                    r.timestamp(),
                    r.key(),
                    r.value(),
                    r.headers().collect::<Vec<_>>()
                )
            })
            .collect();
        format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {records:?}",
            header.base_offset(),
            header.last_offset(),
            header.attributes(),
            header.base_timestamp(),
            header.max_timestamp(),
            header.producer(),
            header.leader_epoch(),
        )
    };
    Batches::new(bytes).map(|batch| describe(batch.unwrap())).collect()
}

fn check(case: &Path) {
    let told_by_kafka: Value = serde_json::from_slice(&fs::read(case.join("case.json")).unwrap()).unwrap();
    let home = copy(case, &told_by_kafka);
    let now_ms = told_by_kafka["now_ms"].as_i64().unwrap();
    let options = DirectoryOptions { now_ms: Some(now_ms), ..DirectoryOptions::default() };
    let mut directory = LogDirectory::open_with(home.path(), options).unwrap();
    assert!(directory.report().clean);
    let log = directory.get_or_create(&TopicPartition::new("t", 0).unwrap(), &config(&told_by_kafka)).unwrap();
    let expected = &told_by_kafka["clean"];
    let to_clean = log.log_to_clean(told_by_kafka["checkpoint"].as_i64(), now_ms).unwrap();
    let mut answer = json!({
        "first_dirty_offset": to_clean.first_dirty_offset,
        "first_uncleanable_offset": to_clean.first_uncleanable_offset,
        "clean_bytes": to_clean.clean_bytes,
        "cleanable_bytes": to_clean.cleanable_bytes,
        "cleaned": to_clean.cleanable_bytes > 0,
    });
    let exact = told_by_kafka["exact"].as_bool().unwrap();
    if to_clean.cleanable_bytes > 0 {
        let dedupe_buffer_bytes = usize::try_from(told_by_kafka["dedupe_buffer_bytes"].as_u64().unwrap()).unwrap();
        let options =
            CleanerOptions { dedupe_buffer_bytes, hash_seed: 11, io_buffer_bytes: 1000, ..CleanerOptions::default() };
        let stats = log.clean(&to_clean, &options, now_ms, &mut |_| CleanerControl::Continue).unwrap();
        answer["end_offset"] = stats.end_offset.into();
        answer["map_messages_read"] = stats.map_messages_read.into();
        answer["messages_read"] = stats.messages_read.into();
        answer["messages_written"] = stats.messages_written.into();
        answer["invalid_messages"] = stats.invalid_messages.into();
        answer["bytes_read"] = stats.bytes_read.into();
        if exact {
            answer["bytes_written"] = stats.bytes_written.into();
        }
    }
    for (name, value) in answer.as_object().unwrap() {
        assert_eq!(value, &expected[name], "{name}: ours {answer:#}, Kafka's {expected:#}");
    }
    directory.close().unwrap();
    let (ours, kafkas) = (files(&home.path().join("t-0")), files(&case.join("after/t-0")));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&kafkas));
    for (name, bytes) in &ours {
        let theirs = &kafkas[name];
        if name.ends_with(".log") {
            assert_eq!(told(bytes), told(theirs), "{name}");
        }
        // Positions and snapshots' checksums follow the sizes of the batches.
        if exact {
            assert!(bytes == theirs, "{name}: ours {bytes:?}, Kafka's {theirs:?}");
        }
    }
}

fn cases(root: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.join("case.json").is_file());
    cases.sort();
    cases
}

#[test]
fn passes_of_kafkas_cleaner_are_done_again_byte_for_byte() {
    let unpacked = TempDir::new().unwrap();
    let root = std::env::var_os("DURAMEN_CLEANER_CASES").map_or_else(
        || {
            let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("cleaner-cases.tar.gz");
            let status = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(unpacked.path()).status();
            assert!(status.unwrap().success());
            unpacked.path().to_path_buf()
        },
        PathBuf::from,
    );
    let cases = cases(&root);
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(failure) = std::panic::catch_unwind(|| check(case)) {
            let text = failure.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into());
            failures.push(format!("{}: {text}", case.display()));
        }
    }
    println!("{} cases", cases.len());
    assert!(failures.is_empty(), "{} of {} failed; {}", failures.len(), cases.len(), failures[0]);
    assert!(cases.len() > 10);
}
