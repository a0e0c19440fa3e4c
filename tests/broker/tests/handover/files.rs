//! The log files of a directory, and what whoever takes it over may change of them.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Whose records the brokers write themselves: they go on where the other has ended.
const GROWING: [&str; 3] = ["__cluster_metadata-", "__consumer_offsets-", "__transaction_state-"];
/// What the cleaner writes anew.
const CLEANED: &str = "compacted-";

/// Each log file by its path below the directory: how long it is, and its digest.
#[derive(Debug)]
pub(crate) struct Files(BTreeMap<PathBuf, (usize, String)>);

impl Files {
    /// As they are now.
    pub(crate) fn of(logs: &Path) -> Self {
        let files = files_of(logs, &["log"]);
        let all = files.into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path.strip_prefix(logs).unwrap().to_owned(), (bytes.len(), digest(&bytes)))
        });
        Self(all.filter(|(path, _)| !is_of(path, &[CLEANED])).collect())
    }

    /// Asserts that all of these bytes are still there, and no others but what brokers write themselves.
    pub(crate) fn assert_kept(&self, logs: &Path, what: &str) {
        assert!(!self.0.is_empty(), "{what}: there are no files");
        for (path, (len, before)) in &self.0 {
            let bytes = fs::read(logs.join(path)).unwrap_or_else(|error| panic!("{what}: {}: {error}", path.display()));
            let front = bytes.get(..*len).unwrap_or_else(|| panic!("{what}: {} is shorter", path.display()));
            assert_eq!(&digest(front), before, "{what}: {} was changed", path.display());
            assert!(bytes.len() == *len || is_of(path, &GROWING), "{what}: {} has grown", path.display());
        }
        for path in Self::of(logs).0.keys() {
            assert!(self.0.contains_key(path) || is_of(path, &GROWING), "{what}: {} is new", path.display());
        }
    }
}

/// Waits until the log start of a topic's partition 0 is in its checkpoint. Before that both brokers forget in a crash that
/// records were deleted.
pub(crate) fn wait_for_checkpoint(logs: &Path, topic: &str, start: &Value) {
    let (begun, wanted) = (Instant::now(), format!("{topic} 0 {start}"));
    loop {
        // Where it is being replaced, it is there the next time.
        let checkpoint = fs::read_to_string(logs.join("log-start-offset-checkpoint")).unwrap_or_default();
        if checkpoint.lines().any(|line| line == wanted) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{wanted:?} is not in {checkpoint:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a file is of a partition of such a topic.
fn is_of(path: &Path, topics: &[&str]) -> bool {
    path.to_str().is_some_and(|path| topics.iter().any(|topic| path.starts_with(topic)))
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The files of all partitions with one of these extensions. A partition that is being deleted is none any more.
fn files_of(logs: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(logs).unwrap() {
        let partition = entry.unwrap().path();
        if !partition.is_dir()
            || partition.extension().is_some_and(|extension| extension.to_string_lossy().ends_with("-delete"))
        {
            continue;
        }
        let names = fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path());
        files.extend(
            names.filter(|path| path.extension().is_some_and(|found| extensions.iter().any(|one| found == *one))),
        );
    }
    files.sort();
    files
}

/// What Kafka's dump can check: segments, and the indexes beside them. But for the time indexes of what was cleaned: of a batch
/// that the cleaner has left empty, both index the time that its header has, and the dump looks for it in the records.
pub(crate) fn segments_and_indexes(logs: &Path) -> Vec<PathBuf> {
    let mut files = files_of(logs, &["log", "index", "timeindex", "txnindex"]);
    files.retain(|path| {
        path.extension().is_none_or(|found| found != "timeindex")
            || !is_of(path.strip_prefix(logs).unwrap(), &[CLEANED])
    });
    files
}
