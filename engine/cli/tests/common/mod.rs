//! Running the command, and directories to run it on.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

pub(crate) fn duramen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_duramen")).args(args).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn ok(args: &[&str]) -> String {
    let output = duramen(args);
    assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command that must succeed; the JSON objects that it printed.
pub(crate) fn json(args: &[&str]) -> Vec<Value> {
    ok(args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn append(partition: &Path, lines: &str, more: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_duramen"))
        .arg("append")
        .arg(partition)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    text(&output.stdout)
}

fn golden_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// Names of the golden cases.
pub(crate) fn golden_names() -> Vec<String> {
    let entries = fs::read_dir(golden_root()).unwrap().map(|entry| entry.unwrap());
    let cases = entries.filter(|entry| entry.path().join("expected.json").is_file());
    let mut names: Vec<_> = cases.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// A copy of a golden case's directory, and what Kafka says about it.
pub(crate) struct Golden {
    home: TempDir,
    pub(crate) expected: Value,
}

impl Golden {
    pub(crate) fn copy(name: &str) -> Self {
        let (from, home) = (golden_root().join(name), TempDir::new().unwrap());
        let archive = from.join("dir.tar.gz");
        let status = if archive.is_file() {
            Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(home.path()).status()
        } else {
            Command::new("cp").arg("-a").arg(from.join("dir")).arg(home.path()).status()
        };
        assert!(status.unwrap().success(), "{name} was not copied");
        let expected = serde_json::from_str(&fs::read_to_string(from.join("expected.json")).unwrap()).unwrap();
        Self { home, expected }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("dir")
    }
}

/// Every file below a directory with its bytes, and every directory.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                found.insert(path.clone(), None);
                pending.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, Some(bytes));
            }
        }
    }
    found
}
