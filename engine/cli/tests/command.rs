//! The command as a person uses it: real processes, real directories.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{append, duramen, ok, text};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// What is done to a file's bytes.
type Harm = fn(&mut Vec<u8>);

#[test]
fn lines_appended_are_the_lines_read_in_every_codec() {
    let home = TempDir::new().unwrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let partition = home.path().join(format!("lines-{codec}-0"));
        let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let said = append(&partition, &lines, &["--codec", codec, "--batch", "64"]);
        assert!(said.contains("offsets 0 to 1000"), "{said}");
        assert_eq!(ok(&["read", partition.to_str().unwrap()]), lines);
        assert_eq!(ok(&["read", partition.to_str().unwrap(), "--offset", "-2"]), "line 998\nline 999\n");
    }
    let home = home.path().to_str().unwrap();
    assert!(ok(&["verify", home]).contains("5000 records"));
    assert!(ok(&["info", home]).contains("closed in order"));
}

// M 253
#[test]
fn keys_and_json_are_printed() {
    let home = TempDir::new().unwrap();
    let partition = home.path().join("keys-0");
    append(&partition, "a:1\nb:2\nno key\n", &["--key-separator", ":"]);
    let partition = partition.to_str().unwrap();
    let json = ok(&["read", partition, "--json"]);
    let first = json.lines().next().unwrap();
    assert!(
        first.contains("\"offset\":0") && first.contains("\"key\":\"a\"") && first.contains("\"value\":\"1\""),
        "{json}"
    );
    assert!(ok(&["read", partition, "--verbose", "-n", "1"]).contains("\ta\t1"));
    let dump = ok(&["dump", partition, "--records"]);
    assert!(dump.contains("offsets 0..=2") && dump.contains("null: no key"), "{dump}");
    assert!(ok(&["dump", partition, "--json"]).lines().all(|line| line.starts_with('{')));
}

// M 253
#[test]
fn damage_is_found_named_and_survived() {
    let home = TempDir::new().unwrap();
    let partition = home.path().join("harmed-0");
    append(&partition, &"some text to be harmed\n".repeat(50), &["--batch", "10"]);
    let log = partition.join("00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let (home, partition) = (home.path().to_str().unwrap(), partition.to_str().unwrap());
    let verify = duramen(&["verify", partition]);
    assert_eq!(verify.status.code(), Some(1));
    assert!(text(&verify.stdout).contains("harmed-0/00000000000000000000.log offset 20"), "{}", text(&verify.stdout));
    assert!(text(&duramen(&["dump", partition]).stdout).contains("DAMAGED"));
    // Behind the marker nobody looks; without it the damage lies below what was flushed.
    fs::remove_file(Path::new(home).join(".kafka_cleanshutdown")).unwrap();
    let refused = duramen(&["recover", home]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("whole below offset 20"), "{}", text(&refused.stdout));
    assert!(fs::read(&log).unwrap() == bytes, "nothing was touched");
    assert!(ok(&["recover", home, "--truncate"]).contains("cut at byte"));
    assert_eq!(ok(&["read", partition]).lines().count(), 20);
    assert!(duramen(&["verify", partition]).status.success());
}

// M 253: records of Kafka's own topics are not told apart from others.
#[test]
fn indexes_and_state_that_do_not_fit_the_log_are_named() {
    let home = TempDir::new().unwrap();
    let harms: [(&str, Harm, &str); 5] = [
        ("00000000000000000000.index", |bytes| bytes[7] ^= 1, "no whole batch begins at byte"),
        ("00000000000000000000.index", |bytes| bytes[3] ^= 1, "the entry points at a batch that ends with offset"),
        ("00000000000000000000.timeindex", |bytes| bytes[6] ^= 1, "no batch ends there with timestamp"),
        ("00000000000000000000.log", |bytes| bytes.extend_from_within(..), "are not above those before"),
        ("00000000000000000400.snapshot", |bytes| bytes[5] ^= 1, "checksum"),
    ];
    for (number, (name, harm, finding)) in harms.into_iter().enumerate() {
        let partition = home.path().join(format!("harmed-{number}"));
        append(&partition, &"some text to be harmed\n".repeat(400), &["--batch", "40"]);
        let path = partition.join(name);
        let (whole, partition) = (fs::read(&path).unwrap(), partition.to_str().unwrap());
        assert!(duramen(&["verify", partition]).status.success());
        let mut bytes = whole.clone();
        harm(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let verify = duramen(&["verify", partition]);
        assert_eq!(verify.status.code(), Some(1), "{name}");
        let said = text(&verify.stdout);
        assert!(said.contains(name) && said.contains(finding), "{name}: {said}");
        assert!(ok(&["dump", partition]).contains(name));
    }
}

#[test]
fn damaged_checkpoint_and_an_emptied_time_index_are_named() {
    let home = TempDir::new().unwrap();
    let partition = home.path().join("harmed-0");
    let small = ["--batch", "1", "--set", "internal.segment.bytes=2000"];
    append(&partition, &"some text to be harmed\n".repeat(100), &small);
    let path = home.path().to_str().unwrap();
    assert!(ok(&["verify", path]).contains("no finding"));
    fs::write(home.path().join("recovery-point-offset-checkpoint"), [0xff; 40]).unwrap();
    fs::write(partition.join("00000000000000000000.timeindex"), []).unwrap();
    let verify = duramen(&["verify", path]);
    assert_eq!(verify.status.code(), Some(1));
    let said = text(&verify.stdout);
    assert!(said.contains("recovery-point-offset-checkpoint: ") && said.contains("2 findings"), "{said}");
    assert!(said.contains("harmed-0/00000000000000000000.timeindex: the last entry should have timestamp"), "{said}");
}

#[test]
fn following_prints_what_is_appended_later() {
    let home = TempDir::new().unwrap();
    let partition = home.path().join("followed-0");
    append(&partition, "first\n", &[]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_duramen"))
        .args(["read", "--follow", "-n", "2"])
        .arg(&partition)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    append(&partition, "second\n", &[]);
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    assert!(child.wait().unwrap().success());
}

#[test]
fn pipe_that_closes_early_is_no_error() {
    let home = TempDir::new().unwrap();
    let partition = home.path().join("piped-0");
    append(&partition, &"a line that is long enough to fill a pipe\n".repeat(20_000), &[]);
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_duramen")).arg("read").arg(&partition).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("a line"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn wrong_paths_get_a_clear_message_and_stay_as_they_are() {
    let home = TempDir::new().unwrap();
    let path = home.path().to_str().unwrap();
    for args in [&["info", path][..], &["verify", path], &["read", path], &["recover", path], &["info", "/no/such/dir"]]
    {
        let output = duramen(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).starts_with("duramen: "), "{args:?}: {}", text(&output.stderr));
    }
    let named = home.path().join("not a topic");
    assert_eq!(duramen(&["append", named.to_str().unwrap()]).status.code(), Some(2));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing was made");
    assert!(duramen(&["--help"]).status.success());
}

#[test]
fn append_refuses_a_place_inside_a_partition_and_says_what_it_left() {
    let home = TempDir::new().unwrap();
    let partition = home.path().join("orders-0");
    append(&partition, "a\n", &[]);
    let inside = partition.join("orders-1");
    let lines = home.path().join("lines");
    fs::write(&lines, "b\n").unwrap();
    let refused = duramen(&["append", inside.to_str().unwrap(), "--file", lines.to_str().unwrap()]);
    assert!(!refused.status.success() && !inside.exists(), "{}", text(&refused.stderr));
    // One record to a batch: the first is written, the second is too large.
    fs::write(&lines, format!("b\n{}\n", "x".repeat(2_000_000))).unwrap();
    let failed = duramen(&["append", partition.to_str().unwrap(), "--file", lines.to_str().unwrap(), "--batch", "1"]);
    assert!(text(&failed.stderr).contains("offsets 1 to 2 (exclusive) were appended"), "{}", text(&failed.stderr));
}
