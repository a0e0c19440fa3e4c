//! `compact` and `retain`: what a dry run says is what a real run does, and a dry run changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Golden, append, duramen, json, ok, text, tree};
use duramen::LogDirectory;
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;

const SMALL: [&str; 2] = ["--set", "internal.segment.bytes=16384"];

/// A directory with orders-0: 6,000 records of 100 keys in several segments.
fn orders() -> TempDir {
    let home = TempDir::new().unwrap();
    let lines: String = (0..6000).map(|n| format!("{}:value {n}\n", n % 100)).collect();
    let more = [&["--key-separator", ":", "--batch", "50"], &SMALL[..]].concat();
    append(&home.path().join("orders-0"), &lines, &more);
    home
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

fn only(objects: Vec<Value>) -> Value {
    assert_eq!(objects.len(), 1, "{objects:?}");
    objects.into_iter().next().unwrap()
}

/// Runs a dry run and sees that it leaves every byte and name as it was.
fn dry(home: &Path, args: &[&str]) -> Vec<Value> {
    let before = tree(home);
    let said = json(&with(args, &["--dry-run", "--json"]));
    ok(&with(args, &["--dry-run"]));
    assert!(tree(home) == before, "{args:?} changed something");
    said
}

#[test]
fn compaction_does_what_the_dry_run_says_and_remembers_how_far() {
    let home = orders();
    let path = home.path().to_str().unwrap();
    let args = with(&["compact", path, "--set", "cleanup.policy=compact", "--sole-replica"], &SMALL);
    let mut planned = only(dry(home.path(), &args));
    assert_eq!((&planned["is_due"], &planned["dirty_ratio"]), (&json!(true), &json!(1.0)), "{planned}");
    assert_eq!(planned["cleaned"], Value::Null);
    let mut done = only(json(&with(&args, &["--json", "--now"])));
    let (cleaned, foretold) = (done["cleaned"].take(), planned["would_clean"].take());
    assert_eq!(done, planned);
    for (field, value) in foretold.as_object().unwrap() {
        assert_eq!(&cleaned[field], value, "{field}: {foretold}");
    }
    let gone = cleaned["records_before"].as_u64().unwrap() - 100;
    assert_eq!(foretold["removed"]["superseded"]["records"], gone, "{foretold}");
    assert_eq!(cleaned["records_before"], planned["first_uncleanable_offset"], "{cleaned}");
    assert_eq!(cleaned["records_after"], 100, "{cleaned}");
    assert_eq!(cleaned["cleaner_point"], planned["first_uncleanable_offset"]);
    assert!(cleaned["bytes_after"].as_u64() < cleaned["bytes_before"].as_u64());
    let point = cleaned["cleaner_point"].as_i64().unwrap();
    let checkpoint = fs::read_to_string(home.path().join("cleaner-offset-checkpoint")).unwrap();
    assert!(checkpoint.contains(&format!("orders 0 {point}")), "{checkpoint}");
    assert!(ok(&["verify", path]).contains("no finding"));
    let read = ok(&["read", &format!("{path}/orders-0"), "--verbose"]);
    let first: i64 = read.split('\t').next().unwrap().parse().unwrap();
    assert_eq!(first, point - 100, "each key's last value");
    let info = only(json(&["info", path, "--json"]));
    assert_eq!(info["checkpoints"]["cleaner_point"], point);
    assert_eq!(info["cleaning"]["cleanable_bytes"], 0);
    assert!(ok(&["info", path]).contains("nothing is dirty below the active segment"));
    let again = only(json(&with(&args, &["--json", "--force"])));
    assert_eq!((&again["cleaned"], &again["is_due"]), (&Value::Null, &json!(false)));
}

#[test]
fn dry_run_says_why_records_of_transactions_and_tombstones_go() {
    let golden = Golden::copy("transactions");
    let dir = golden.dir();
    let args = ["compact", dir.to_str().unwrap(), "--set", "cleanup.policy=compact", "--sole-replica", "--force"];
    let mut reasons = std::collections::BTreeSet::new();
    for planned in dry(&dir, &with(&args, &["--at", "1900000000000", "--set", "delete.retention.ms=0"])) {
        let Some(removed) = planned["would_clean"]["removed"].as_object() else {
            continue;
        };
        let sum: u64 = removed.values().map(|part| part["records"].as_u64().unwrap()).sum();
        let (before, after) = (&planned["would_clean"]["records_before"], &planned["would_clean"]["records_after"]);
        assert_eq!(before.as_u64().unwrap() - after.as_u64().unwrap(), sum, "{planned}");
        for (reason, part) in removed.iter().filter(|(_, part)| part["records"] != 0) {
            assert!(part["bytes"].as_u64() > Some(0), "{planned}");
            reasons.insert(reason.clone());
        }
    }
    assert!(reasons.contains("superseded") && reasons.contains("aborted"), "{reasons:?}");
    let text = ok(&with(&args, &["--dry-run"]));
    assert!(text.contains("expired tombstones") && text.contains("dry run: nothing was changed"), "{text}");
}

#[test]
fn partition_that_is_not_due_is_compacted_by_force_only() {
    let home = orders();
    let path = home.path().to_str().unwrap();
    let args = ["compact", path, "--partition", "orders-0", "--sole-replica", "--set", "min.cleanable.dirty.ratio=1"];
    let kept = only(json(&with(&args, &["--json"])));
    assert_eq!((&kept["is_due"], &kept["cleaned"]), (&json!(false), &Value::Null));
    assert!(kept["why"].as_str().unwrap().contains("1.00 does not exceed min.cleanable.dirty.ratio 1"), "{kept}");
    let lag = only(json(&with(&args, &["--json", "--dry-run", "--set", "max.compaction.lag.ms=1"])));
    assert!(lag["why"].as_str().unwrap().contains("max.compaction.lag.ms has passed"), "{lag}");
    let forced = only(json(&with(&args, &["--json", "--force"])));
    assert_eq!(forced["cleaned"]["records_after"], 100, "{forced}");
    let names: Vec<_> = tree(home.path()).into_keys().collect();
    assert!(names.iter().any(|path| path.to_string_lossy().ends_with(".log.deleted")), "replaced files stay for now");
}

#[test]
fn throttled_compaction_takes_its_time() {
    let home = orders();
    let args = ["compact", home.path().to_str().unwrap(), "--partition", "orders-0", "--sole-replica", "--json"];
    let done = only(json(&with(&args, &["--max-mb-per-second", "1"])));
    let cleaned = &done["cleaned"];
    // Only whole buffers are counted, so the last moment is not.
    assert!(cleaned["mb_per_second"].as_f64().unwrap() < 1.3, "{done}");
}

#[test]
fn high_watermark_that_holds_a_cleaning_back_is_named() {
    let home = orders();
    let args = ["compact", home.path().to_str().unwrap(), "--partition", "orders-0"];
    let said = only(dry(home.path(), &args));
    assert!(said["why"].as_str().unwrap().starts_with("the high watermark 0 lies"), "{said}");
    assert!(ok(&args).contains("nothing was compacted"));
}

#[test]
fn records_without_keys_are_not_compacted_unless_named() {
    let home = orders();
    let path = home.path().to_str().unwrap();
    append(&home.path().join("plain-0"), &"no key\n".repeat(2000), &with(&["--batch", "50"], &SMALL));
    let args = ["compact", path, "--set", "cleanup.policy=compact", "--sole-replica"];
    let said = dry(home.path(), &args);
    assert!(said.iter().any(|value| value["partition"] == "plain-0" && value["skipped"].is_string()), "{said:?}");
    let named = dry(home.path(), &["compact", path, "--partition", "plain-0", "--sole-replica"]);
    assert_eq!((&named[0]["partition"], &named[0]["is_due"]), (&json!("plain-0"), &json!(true)));
}

#[test]
fn wrong_requests_and_locked_directories_are_told_apart() {
    let home = orders();
    let path = home.path().to_str().unwrap();
    let partition = format!("{path}/orders-0");
    for (args, says) in [
        (&["compact", path][..], "cleanup.policy is delete"),
        (&["compact", path, "--partition", "orders-7"], "there is no partition orders-7"),
        (&["compact", &partition, "--partition", "orders-0"], "name the log directory above it"),
        (&["retain", &partition], "name the log directory above it"),
        (&["retain", "/no/such/dir"], "is not a directory"),
        (&["retain", path, "--set", "retention.ms=soon"], "retention.ms = 'soon'"),
    ] {
        let output = duramen(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(says), "{args:?}: {}", text(&output.stderr));
    }
    let owner = LogDirectory::open(home.path()).unwrap();
    let locked = duramen(&["retain", path]);
    assert_eq!(locked.status.code(), Some(1));
    assert!(text(&locked.stderr).contains("locked by another owner"), "{}", text(&locked.stderr));
    dry(home.path(), &["retain", path]);
    dry(home.path(), &["compact", path, "--partition", "orders-0"]);
    drop(owner);
}

#[test]
fn retention_by_size_removes_what_the_dry_run_says() {
    let home = orders();
    let path = home.path().to_str().unwrap();
    let args = with(&["retain", path, "--set", "retention.bytes=40000", "--sole-replica"], &SMALL);
    let planned = dry(home.path(), &args);
    let goes: Vec<_> = planned.iter().filter(|row| row["goes"] == true).collect();
    assert!(!goes.is_empty() && goes.len() < planned.len(), "{planned:?}");
    assert!(goes.iter().all(|row| row["reason"] == "retention.bytes" && row["removed"] == false), "{planned:?}");
    let done = json(&with(&args, &["--json"]));
    let bases = |rows: &[Value], field: &str| -> Vec<i64> {
        rows.iter().filter(|row| row[field] == true).map(|row| row["base_offset"].as_i64().unwrap()).collect()
    };
    assert_eq!(bases(&done, "removed"), bases(&planned, "goes"));
    let log_start = done[0]["log_start"].as_i64().unwrap();
    assert!(home.path().join("orders-0/00000000000000000000.log.deleted").exists(), "left to the next open");
    let info = only(json(&["info", path, "--json"]));
    assert_eq!(info["log_start_offset"], log_start);
    assert!(!info["leftovers"].as_array().unwrap().is_empty());
    let rest = json(&with(&args, &["--json", "--set", "retention.bytes=0", "--now"]));
    assert!(rest.iter().filter(|row| row["removed"] == true).all(|row| row["files_removed"].as_u64() > Some(2)));
    assert!(!tree(home.path()).into_keys().any(|path| path.to_string_lossy().ends_with(".deleted")));
    assert!(ok(&["verify", path]).contains("no finding"));
}

#[test]
fn retention_by_time_counts_from_the_given_moment() {
    let golden = Golden::copy("timestamps");
    let dir = golden.dir();
    let path = dir.to_str().unwrap();
    let at = golden.expected["open"]["now_ms"].to_string();
    let young = dry(&dir, &["retain", path, "--sole-replica", "--at", &at]);
    assert!(young.iter().all(|row| row["goes"] == false), "{young:?}");
    let late = dry(&dir, &["retain", path, "--sole-replica", "--at", "1800000000000"]);
    let reasons = late.iter().filter(|row| row["goes"] == true).all(|row| row["reason"] == "retention.ms");
    assert!(reasons && late.iter().any(|row| row["goes"] == true), "{late:?}");
    let text = ok(&["retain", path, "--dry-run", "--sole-replica", "--at", "1800000000000"]);
    assert!(text.contains("older than 7 days (retention.ms)") && text.contains("dry run"), "{text}");
}

#[test]
fn segments_below_the_log_start_go_whatever_the_policy() {
    let golden = Golden::copy("retention-broker");
    let dir = golden.dir();
    let args =
        ["retain", dir.to_str().unwrap(), "--sole-replica", "--at", &golden.expected["open"]["now_ms"].to_string()];
    let rows = dry(&dir, &with(&args, &["--set", "retention.ms=-1"]));
    for row in rows.iter().filter(|row| row["goes"] == true) {
        assert_eq!(row["reason"], "log start", "{row}");
    }
    json(&with(&args, &["--json", "--set", "retention.ms=-1", "--now"]));
    assert!(duramen(&["verify", dir.to_str().unwrap()]).status.success());
}

#[test]
fn compacted_and_internal_partitions_keep_what_is_old_unless_named() {
    let golden = Golden::copy("internals");
    let dir = golden.dir();
    let path = dir.to_str().unwrap();
    let all = ["retain", path, "--sole-replica", "--set", "retention.ms=0"];
    for row in dry(&dir, &all) {
        let internal = row["partition"].as_str().unwrap().starts_with("__");
        assert_eq!(row["spared"].is_string(), internal, "{row}");
        assert!(!internal || row["goes"] == false, "{row}");
    }
    let named = dry(&dir, &with(&all, &["--partition", "__consumer_offsets-0"]));
    assert!(named.iter().all(|row| row["partition"] == "__consumer_offsets-0" && row["goes"] == true), "{named:?}");
    let compacted = Golden::copy("compaction-broker");
    let rows = dry(&compacted.dir(), &["retain", compacted.dir().to_str().unwrap(), "--set", "retention.ms=0"]);
    assert!(rows.iter().all(|row| row["spared"] == "was compacted before" && row["goes"] == false), "{rows:?}");
}
