//! The golden directories: written by real Kafka and real clients, with what Kafka itself answers on them.
//!
//! Their root is `tests/golden`, or what `DURAMEN_GOLDEN` says: every case found there is run.

use duramen::LogConfig;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// One case, its directory copied to a place of its own.
#[derive(Debug)]
pub struct Case {
    /// Name of the case.
    pub name: String,
    /// `expected.json`.
    pub expected: Value,
    home: TempDir,
}

/// Where the cases are.
#[must_use]
pub fn root() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::env::var_os("DURAMEN_GOLDEN").map_or_else(default, PathBuf::from)
}

/// Names of all cases, sorted.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn names() -> Vec<String> {
    let root = root();
    let entries = fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("expected.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no golden case in {}", root.display());
    names
}

impl Case {
    /// Copies a case.
    ///
    /// # Panics
    /// When the case is not whole.
    #[must_use]
    pub fn load(name: &str) -> Self {
        let from = root().join(name);
        let text = fs::read_to_string(from.join("expected.json")).expect("expected.json");
        let home = TempDir::new().expect("a temporary directory");
        let archive = from.join("dir.tar.gz");
        let status = if archive.is_file() {
            Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(home.path()).status()
        } else {
            Command::new("cp").arg("-a").arg(from.join("dir")).arg(home.path()).status()
        };
        assert!(status.expect("tar and cp").success(), "{name} was not copied");
        Self { name: name.to_owned(), expected: serde_json::from_str(&text).expect("JSON"), home }
    }

    /// The copied log directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("dir")
    }

    /// A topic's configuration.
    ///
    /// # Panics
    /// When a property is not one.
    #[must_use]
    pub fn config(&self, topic: &str) -> LogConfig {
        let none = serde_json::Map::new();
        let properties = self.expected["config"]["topics"][topic].as_object().unwrap_or(&none);
        let texts: Vec<(&str, &str)> =
            properties.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default())).collect();
        LogConfig::from_properties(texts).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What the case does to a topic, in words; empty unless the case has variants.
    #[must_use]
    pub fn variant(&self, topic: &str) -> &str {
        self.expected["variants"][topic].as_str().unwrap_or_default()
    }

    /// What is in a partition's directory, by file name.
    #[must_use]
    pub fn partitions(&self) -> Vec<(&str, &serde_json::Map<String, Value>)> {
        let partitions = self.expected["partitions"].as_object().into_iter().flatten();
        partitions.filter_map(|(name, files)| Some((name.as_str(), files.as_object()?))).collect()
    }
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
