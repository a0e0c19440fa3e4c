//! The command on directories of real Kafka, whole and damaged: it says what Kafka says, and never panics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Golden, duramen, golden_names, json, ok, text, tree};
use duramen::{
    AppendAsLeader, Durability, HighWatermarkPolicy, LogConfig, LogDirectory, LogManager, Maintenance, ManagerOptions,
    TopicPartition, ValidationPolicy, format::builder::BatchBuilder, validate,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// What happens to the bytes of a file.
type Damage = fn(&mut Vec<u8>);

/// Commands that only look.
const LOOKING: [&[&str]; 9] = [
    &["info"],
    &["info", "--json", "--sole-replica", "--set", "cleanup.policy=compact"],
    &["dump", "--records"],
    &["dump", "--json"],
    &["verify", "--json"],
    &["compact", "--dry-run", "--set", "cleanup.policy=compact"],
    &["compact", "--dry-run", "--json", "--sole-replica", "--force", "--set", "cleanup.policy=compact"],
    &["retain", "--dry-run"],
    &["retain", "--dry-run", "--json", "--sole-replica", "--set", "retention.ms=0"],
];
/// Commands that work.
const WORKING: [&[&str]; 3] = [
    &["compact", "--force", "--sole-replica", "--json", "--set", "cleanup.policy=compact"],
    &["retain", "--sole-replica", "--now", "--set", "retention.ms=0"],
    &["recover", "--truncate"],
];

fn run(command: &[&str], dir: &Path) {
    let args: Vec<&str> = command.iter().take(1).copied().chain([dir.to_str().unwrap()]).collect();
    let args = [&args, &command[1..]].concat();
    let output = duramen(&args);
    let said = text(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code <= 2), "{args:?}: {:?} {said}", output.status);
    assert!(!said.contains("panicked"), "{args:?}: {said}");
}

/// Runs everything on a directory; looking must not change it.
fn run_all(name: &str, dir: &Path) {
    let before = tree(dir);
    for command in LOOKING {
        run(command, dir);
    }
    assert!(tree(dir) == before, "{name} was changed");
    for command in WORKING {
        run(command, dir);
    }
}

#[test]
fn no_command_panics_on_a_directory_of_kafkas() {
    for name in golden_names() {
        run_all(&name, &Golden::copy(&name).dir());
    }
}

#[test]
fn no_command_panics_on_a_damaged_directory() {
    let damages: [(&str, Damage); 5] = [
        ("emptied", Vec::clear),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2 + 1)),
        ("zeroed", |bytes| bytes.fill(0)),
        ("all ones", |bytes| bytes.fill(0xff)),
        ("longer", |bytes| bytes.extend([0x5a; 100])),
    ];
    for (what, damage) in damages {
        let golden = Golden::copy("transactions");
        for (path, bytes) in tree(&golden.dir()) {
            if let Some(mut bytes) = bytes {
                damage(&mut bytes);
                fs::write(path, bytes).unwrap();
            }
        }
        run_all(what, &golden.dir());
    }
    let golden = Golden::copy("compaction-broker");
    for (n, path) in tree(&golden.dir()).into_keys().enumerate() {
        // A directory in the place of every third file.
        if path.is_file() && n % 3 == 0 {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
    run_all("directories for files", &golden.dir());
}

#[test]
fn info_says_what_kafka_answers() {
    let mut compared = 0;
    for name in
        ["transactions", "idempotent-producers", "producers-expired", "leader-epochs", "log-start", "timestamps"]
    {
        let golden = Golden::copy(name);
        let at = golden.expected["open"]["now_ms"].to_string();
        let found = json(&["info", golden.dir().to_str().unwrap(), "--json", "--at", &at]);
        for info in found {
            let answers = &golden.expected["open"]["answers"][info["directory"].as_str().unwrap()];
            let place = format!("{name}/{}", info["partition"]);
            for field in ["log_start_offset", "log_end_offset", "high_watermark", "last_stable_offset"] {
                assert_eq!(info[field], answers[field], "{place} {field}");
            }
            let epochs: Vec<_> = info["leader_epochs"].as_array().unwrap().iter().collect();
            let epochs: Vec<_> = epochs.iter().map(|entry| json!([entry["epoch"], entry["start_offset"]])).collect();
            assert_eq!(json!(epochs), answers["leader_epochs"], "{place}");
            let known = info["producers"].as_array().unwrap().iter().filter(|producer| producer["is_expired"] == false);
            assert_producers(&place, &known.cloned().collect(), &answers["active_producers"]);
            compared += 1;
        }
    }
    assert!(compared >= 6, "only {compared} partitions were compared");
}

fn assert_producers(place: &str, found: &Value, expected: &Value) {
    let (found, expected) = (found.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len(), "{place}: {found:?} {expected:?}");
    for expected in expected {
        let id = &expected["producer_id"];
        let producer = found.iter().find(|producer| producer["producer_id"] == *id).unwrap();
        for (ours, theirs) in [
            ("producer_epoch", "epoch"),
            ("last_sequence", "last_seq"),
            ("last_timestamp", "last_timestamp"),
            ("current_txn_first_offset", "current_txn_start_offset"),
        ] {
            let value = producer[ours].as_i64().unwrap_or(-1);
            assert_eq!(json!(value), expected[theirs], "{place} producer {id} {ours}: {expected}");
        }
    }
}

#[test]
fn info_shows_what_is_open_aborted_and_on_its_way_out() {
    let golden = Golden::copy("transactions");
    let dir = golden.dir();
    let info = &json(&["info", dir.to_str().unwrap(), "--json"])[0];
    let open = info["open_transactions"].as_array().unwrap();
    assert_eq!((open.len(), &open[0]["first_offset"]), (1, &info["first_unstable_offset"]), "{info}");
    assert!(info["aborted_transactions"].as_array().unwrap().len() > 5);
    assert_eq!(info["snapshots"].as_array().unwrap().len(), 5);
    assert_eq!(json(&["info", &format!("{}/orders-0", dir.display()), "--json"])[0], *info);
    let shown = ok(&["info", dir.to_str().unwrap()]);
    assert!(shown.contains("open transaction since") && shown.contains("aborted transactions"), "{shown}");
    let golden = Golden::copy("directories");
    let kinds: Vec<_> = json(&["info", golden.dir().to_str().unwrap(), "--json"])
        .iter()
        .map(|info| info["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["current", "deleted", "future", "stray"] {
        assert!(kinds.iter().any(|found| found == kind), "{kinds:?}");
    }
}

/// `dump` against what Kafka's own classes read.
#[test]
fn dump_says_what_kafka_reads() {
    let mut compared = 0;
    for name in ["transactions", "compaction", "internals", "idempotent-producers", "swap-steps", "limits"] {
        let golden = Golden::copy(name);
        let mut dumped: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for value in json(&["dump", golden.dir().to_str().unwrap(), "--json"]) {
            dumped.entry(value["file"].as_str().unwrap().to_owned()).or_default().push(value);
        }
        for path in tree(&golden.dir()).into_iter().filter(|(_, bytes)| bytes.is_some()).map(|(path, _)| path) {
            assert!(dumped.contains_key(path.to_str().unwrap()), "{} is not dumped", path.display());
        }
        for (partition, files) in golden.expected["partitions"].as_object().unwrap() {
            for (file, expected) in files.as_object().unwrap() {
                let Some(found) = dumped.get(golden.dir().join(partition).join(file).to_str().unwrap()) else {
                    continue;
                };
                for batch in expected["batches"].as_array().into_iter().flatten() {
                    assert_batch(&format!("{name}/{partition}/{file}"), found, batch);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 300, "only {compared} batches were compared");
}

fn assert_batch(place: &str, found: &[Value], expected: &Value) {
    let at = |value: &&Value| value["position"] == expected["pos"];
    let batch = found.iter().find(at).unwrap_or_else(|| panic!("{place}: no batch at {}", expected["pos"]));
    for (ours, theirs) in [
        ("base_offset", "base"),
        ("last_offset", "last"),
        ("size", "size"),
        ("magic", "magic"),
        ("crc", "crc"),
        ("codec", "codec"),
        ("timestamp_type", "ts_type"),
        ("count", "count"),
        ("transactional", "transactional"),
        ("control", "control"),
        ("delete_horizon", "delete_horizon"),
        ("last_sequence", "last_seq"),
    ] {
        let value = Some(&expected[theirs]).filter(|value| !value.is_null() && **value != json!(-1));
        assert_eq!(batch[ours], value.cloned().unwrap_or_else(|| unset(&batch[ours])), "{place} {ours}: {expected}");
    }
    for (ours, theirs) in [("control", "control_type"), ("coordinator_epoch", "coordinator_epoch")] {
        if !expected[theirs].is_null() {
            assert_eq!(batch["records"][0][ours], expected[theirs], "{place}: {expected}");
        }
    }
}

/// What stands for a value that Kafka leaves out.
fn unset(found: &Value) -> Value {
    if found.is_boolean() { json!(false) } else { Value::Null }
}

#[test]
fn info_and_dry_runs_work_beside_a_writer() {
    let home = TempDir::new().unwrap();
    let done = AtomicBool::new(false);
    let config =
        LogConfig::from_properties([("internal.segment.bytes", "20000"), ("retention.bytes", "100000")]).unwrap();
    let mut directory = LogDirectory::open(home.path()).unwrap();
    directory.get_or_create(&TopicPartition::new("busy", 0).unwrap(), &config).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Not for ever, should the other side fail.
            for n in (0..1_000_000).take_while(|_| !done.load(Ordering::Relaxed)) {
                write(&mut directory, &config, n);
            }
        });
        let path = home.path().to_str().unwrap();
        let commands: [&[&str]; 4] = [
            &["info", path, "--json"],
            &["verify", path, "--json"],
            &["retain", path, "--dry-run", "--json", "--set", "retention.ms=0"],
            &["compact", path, "--dry-run", "--json", "--partition", "busy-0"],
        ];
        let outputs: Vec<_> = (0..10).flat_map(|_| commands).map(duramen).collect();
        done.store(true, Ordering::Relaxed);
        for output in outputs {
            let said = text(&output.stdout);
            assert!(output.status.success() && !said.contains("\"error\":\""), "{said}{}", text(&output.stderr));
        }
    });
}

/// Through a log manager, whose appends gather, and are cleaned and removed beside.
#[test]
fn verify_finds_nothing_beside_a_log_manager() {
    let home = TempDir::new().unwrap();
    let often = Duration::from_millis(20);
    let maintenance = Maintenance {
        retention_interval: often,
        checkpoint_interval: often,
        cleaner_backoff: often,
        ..Maintenance::default()
    };
    let options = ManagerOptions {
        journal_bytes: 4 << 20,
        piece_bytes: 4096,
        maintenance: Some(maintenance),
        high_watermark: HighWatermarkPolicy::LogEnd,
        ..ManagerOptions::default()
    };
    let manager = LogManager::open(&[home.path()], options).unwrap();
    manager.prepare().unwrap();
    let properties = |policy| {
        let properties = [
            ("internal.segment.bytes", "20000"),
            ("retention.bytes", "100000"),
            ("cleanup.policy", policy),
            ("file.delete.delay.ms", "0"),
        ];
        LogConfig::from_properties(properties).unwrap()
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..1_000_000_i64).take_while(|_| !done.load(Ordering::Relaxed)) {
                for (topic, policy) in [("kept", "delete"), ("cleaned", "compact"), ("comes-and-goes", "delete")] {
                    let config = properties(policy);
                    let name = TopicPartition::new(topic, 0).unwrap();
                    let partition = manager.get_or_create(&name, &config).unwrap();
                    let now_ms = 1_700_000_000_000 + n;
                    let key = (n % 50).to_string();
                    let bytes =
                        BatchBuilder::new().record(now_ms, Some(key.as_bytes()), Some(&[7; 900])).build().unwrap();
                    let batch = validate(bytes, &ValidationPolicy::from_config(&config), now_ms).unwrap();
                    let leader = AppendAsLeader::new(0, now_ms);
                    partition.append_as_leader(batch, leader, Durability::Flushed).unwrap().wait(None).unwrap();
                    if topic == "comes-and-goes" && n % 300 == 299 {
                        manager.delete(&name).unwrap();
                    }
                }
            }
        });
        let path = home.path().to_str().unwrap();
        let outputs: Vec<_> = (0..8).map(|_| duramen(&["verify", path, "--json"])).collect();
        done.store(true, Ordering::Relaxed);
        for output in outputs {
            assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        }
    });
    manager.close().unwrap();
    let said = ok(&["verify", home.path().to_str().unwrap()]);
    assert!(said.contains("no finding") && !said.contains("owner"), "{said}");
}

/// Appends, rolls, removes old segments and writes checkpoints.
fn write(directory: &mut LogDirectory, config: &LogConfig, n: i64) {
    let log = directory.get(&TopicPartition::new("busy", 0).unwrap(), config).unwrap();
    let now_ms = 1_700_000_000_000 + n;
    let bytes = BatchBuilder::new().record(now_ms, Some(b"key"), Some(&[7; 900])).build().unwrap();
    let policy = ValidationPolicy::from_config(&log.config());
    log.append_as_leader(validate(bytes, &policy, now_ms).unwrap(), AppendAsLeader::new(0, now_ms)).unwrap();
    let log_end = log.offsets().log_end;
    log.update_high_watermark(log_end);
    if n % 50 == 0 {
        log.delete_old_segments(now_ms).unwrap();
        log.remove_retired_files(i64::MAX).unwrap();
        directory.checkpoint().unwrap();
    }
}

#[test]
fn committed_records_are_those_that_a_consumer_is_shown() {
    let golden = Golden::copy("transactions");
    let mut differs = 0;
    for entry in
        std::fs::read_dir(golden.dir()).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir())
    {
        let partition = entry.path().to_str().unwrap().to_owned();
        let offsets = |args: &[&str]| -> Vec<i64> {
            let all = json(&[&["read", partition.as_str(), "--json"], args].concat());
            all.iter().map(|record| record["offset"].as_i64().unwrap()).collect()
        };
        let (all, committed) = (offsets(&[]), offsets(&["--isolation", "read_committed"]));
        assert!(committed.iter().all(|offset| all.contains(offset)));
        differs += usize::from(all != committed);
        for from in &committed {
            let expected: Vec<i64> = committed.iter().copied().filter(|offset| offset >= from).collect();
            assert_eq!(offsets(&["--isolation", "read_committed", "--offset", &from.to_string()]), expected);
        }
    }
    assert!(differs > 0);
}

#[test]
fn read_begins_at_the_log_start_and_refuses_what_lies_below() {
    let golden = Golden::copy("log-start");
    let checkpoint = std::fs::read_to_string(golden.dir().join("log-start-offset-checkpoint")).unwrap();
    let mut seen = 0;
    for line in checkpoint.lines().skip(2) {
        let mut words = line.split(' ');
        let (topic, number, start) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let partition = golden.dir().join(format!("{topic}-{number}"));
        let partition = partition.to_str().unwrap();
        let start: i64 = start.parse().unwrap();
        for args in [&["read", partition, "--json"][..], &["read", partition, "--json", "--offset", "-100000"]] {
            assert!(json(args).iter().all(|record| record["offset"].as_i64() >= Some(start)), "{args:?}");
        }
        let below = duramen(&["read", partition, "--offset", &(start - 1).to_string()]);
        assert_eq!(below.status.code(), Some(2));
        assert!(text(&below.stderr).contains(&format!("the log starts at {start}")), "{}", text(&below.stderr));
        seen += 1;
    }
    assert!(seen > 0);
}
