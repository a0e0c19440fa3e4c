//! The files that say whose log directories these are, and those beside the metadata log.
//!
//! Owns: `meta.properties` of each directory, `bootstrap.checkpoint`, `quorum-state`, and which snapshots there are. Knows
//! nothing of what the metadata say. Keeps: all directories are of one node and one cluster; the checkpoint is there before
//! `meta.properties` says that the directory is formatted.

use super::{MetadataError, Node, features, ids, quorum::QuorumState};
use duramen::{
    Offset, Timestamp,
    format::{meta_properties::MetaProperties, names::META_PROPERTIES, uuid::Uuid},
    storage::{EntryKind, Posix, Storage, read_file, write_atomically},
};
use std::path::{Path, PathBuf};

/// The directory of the metadata log, in its log directory.
pub(super) const METADATA_LOG: &str = "__cluster_metadata-0";
const BOOTSTRAP: &str = "bootstrap.checkpoint";
const QUORUM_STATE: &str = "quorum-state";

/// More bytes than a file of a few lines has.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// More bytes than the snapshot of a million partitions has.
const MAX_SNAPSHOT_BYTES: u64 = 1 << 30;

/// The node's log directories as they are formatted, and the door to the one with the metadata log.
#[derive(Debug)]
pub(super) struct Home {
    storage: Posix,
    cluster_id: String,
    /// In the order of the directories.
    directory_ids: Vec<Uuid>,
    /// The directory with the metadata log.
    metadata: usize,
}

/// A log directory.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    storage: Posix,
    properties: Option<MetaProperties>,
    has_metadata: bool,
}

impl Directory {
    fn open(path: &Path) -> Result<Self, MetadataError> {
        let storage = Posix::open(path)?;
        let wrong = |why: String| MetadataError::Directory { directory: path.to_path_buf(), why };
        let bytes = read_file(&storage, Path::new(META_PROPERTIES), MAX_TEXT_BYTES)?;
        let properties = bytes.map(|bytes| MetaProperties::decode(&bytes)).transpose();
        let properties = properties.map_err(|error| wrong(error.to_string()))?;
        let has_metadata = storage.list(Path::new(""))?.iter().any(|entry| entry.name == METADATA_LOG);
        Ok(Self { path: path.to_path_buf(), storage, properties, has_metadata })
    }

    fn property(&self, name: &str) -> Option<&str> {
        self.properties.as_ref().and_then(|properties| properties.get(name))
    }

    fn wrong(&self, why: impl Into<String>) -> MetadataError {
        MetadataError::Directory { directory: self.path.clone(), why: why.into() }
    }

    /// Compares what the directory says of itself with what it should.
    fn check(&self, node_id: i32, cluster_id: &str) -> Result<(), MetadataError> {
        if self.properties.is_none() {
            let formatted = !self.has_metadata;
            return formatted.then_some(()).ok_or_else(|| self.wrong("there are metadata and no meta.properties"));
        }
        if self.property("node.id") != Some(node_id.to_string().as_str()) {
            let other = self.property("node.id").unwrap_or("none");
            return Err(self.wrong(format!("it is of node {other}, and this is node {node_id}")));
        }
        if self.property("cluster.id") != Some(cluster_id) {
            let other = self.property("cluster.id").unwrap_or("none");
            return Err(self.wrong(format!("it is of cluster {other}, and not of {cluster_id}")));
        }
        Ok(())
    }

    /// The directory's id, written down if it is new.
    fn format(&self, node_id: i32, cluster_id: &str) -> Result<Uuid, MetadataError> {
        if let Some(id) = self.property("directory.id") {
            return id.parse().map_err(|_| self.wrong("its directory.id is none"));
        }
        let id = ids::random()?;
        let mut properties = self.properties.clone().unwrap_or_default();
        properties.set("version", "1");
        properties.set("node.id", &node_id.to_string());
        properties.set("cluster.id", cluster_id);
        properties.set("directory.id", &id.to_string());
        write_atomically(&self.storage, Path::new(META_PROPERTIES), &properties.encode())?;
        Ok(id)
    }
}

impl Home {
    /// Looks whose directories these are, and formats those that are nobody's (`StorageTool`, `Formatter`). Steps, and what
    /// the next open finds after each: the bootstrap checkpoint (a directory that is not formatted); `meta.properties`, one
    /// directory after the other (those without are formatted for the cluster of the others).
    ///
    /// # Errors
    /// [`MetadataError::Directory`], [`MetadataError::Storage`], [`MetadataError::Random`].
    pub(super) fn open(node: &Node, now_ms: Timestamp) -> Result<Self, MetadataError> {
        let directories = node.directories.iter().map(|path| Directory::open(path)).collect::<Result<Vec<_>, _>>()?;
        let known = directories.iter().find_map(|directory| directory.property("cluster.id"));
        let cluster_id = match known.or(node.cluster_id.as_deref()) {
            Some(cluster_id) => cluster_id.to_owned(),
            None => ids::random()?.to_string(),
        };
        if let Some(wanted) = node.cluster_id.as_ref().filter(|wanted| **wanted != cluster_id)
            && let Some(first) = directories.first()
        {
            return Err(first.wrong(format!("it is of cluster {cluster_id}, and not of {wanted}")));
        }
        directories.iter().try_for_each(|directory| directory.check(node.id, &cluster_id))?;
        let metadata = directories.iter().position(|directory| directory.has_metadata).unwrap_or(0);
        if let Some(directory) = directories.get(metadata).filter(|directory| directory.properties.is_none()) {
            let checkpoint = features::encode_checkpoint(&features::of_new_cluster(), now_ms)?;
            write_atomically(&directory.storage, Path::new(BOOTSTRAP), &checkpoint)?;
        }
        let format = |directory: &Directory| directory.format(node.id, &cluster_id);
        let directory_ids = directories.iter().map(format).collect::<Result<Vec<_>, _>>()?;
        let found = directories.into_iter().nth(metadata);
        let none = || MetadataError::Directory { directory: PathBuf::new(), why: "there is no directory".to_owned() };
        Ok(Self { storage: found.ok_or_else(none)?.storage, cluster_id, directory_ids, metadata })
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The ids of all directories, in their order.
    pub(super) fn directory_ids(&self) -> &[Uuid] {
        &self.directory_ids
    }

    /// The id of the directory with the metadata log.
    pub(super) fn metadata_directory_id(&self) -> Uuid {
        self.directory_ids.get(self.metadata).copied().unwrap_or_default()
    }

    /// What a cluster without any metadata is to begin with, if its directory was formatted so.
    pub(super) fn bootstrap_checkpoint(&self) -> Result<Option<Vec<u8>>, MetadataError> {
        Ok(read_file(&self.storage, Path::new(BOOTSTRAP), MAX_SNAPSHOT_BYTES)?)
    }

    pub(super) fn quorum_state(&self) -> Result<QuorumState, MetadataError> {
        let bytes = read_file(&self.storage, &in_log(QUORUM_STATE), MAX_TEXT_BYTES)?;
        let state = bytes.map_or_else(|| Ok(QuorumState::default()), |bytes| QuorumState::decode(&bytes));
        state.map_err(MetadataError::QuorumState)
    }

    pub(super) fn write_quorum_state(&self, text: &[u8]) -> Result<(), MetadataError> {
        Ok(write_atomically(&self.storage, &in_log(QUORUM_STATE), text)?)
    }

    /// The newest snapshot of the metadata log, if there is one.
    pub(super) fn newest_snapshot(&self) -> Result<Option<Snapshot>, MetadataError> {
        let entries = self.storage.list(Path::new(METADATA_LOG))?;
        let names = entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let ids = names.filter_map(|entry| SnapshotId::parse(entry.name.to_str()?));
        let Some(id) = ids.max() else { return Ok(None) };
        let name = id.file_name();
        // It may not be removed before a newer one is there, and there is nobody else here.
        let bytes = read_file(&self.storage, &in_log(&name), MAX_SNAPSHOT_BYTES)?;
        Ok(bytes.map(|bytes| Snapshot { id, name, bytes }))
    }
}

fn in_log(name: &str) -> PathBuf {
    Path::new(METADATA_LOG).join(name)
}

/// A snapshot of the metadata log.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) id: SnapshotId,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// What a snapshot stands for (`OffsetAndEpoch`): all records below an offset, and the epoch of the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotId {
    pub(super) end_offset: Offset,
    pub(super) epoch: i32,
}

impl SnapshotId {
    /// Reads a name such as `00000000000000000071-0000000003.checkpoint` (`Snapshots.parse`). One that is being written or
    /// deleted has another ending.
    fn parse(name: &str) -> Option<Self> {
        let (end_offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
        let is_number = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(end_offset, 20) || !is_number(epoch, 10) {
            return None;
        }
        Some(Self { end_offset: end_offset.parse().ok()?, epoch: epoch.parse().ok()? })
    }

    fn file_name(self) -> String {
        format!("{:020}-{:010}.checkpoint", self.end_offset, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn node(directories: &[&TempDir]) -> Node {
        let directories = directories.iter().map(|directory| directory.path().to_path_buf()).collect();
        Node { id: 1, directories, host: "localhost".to_owned(), port: 9092, rack: None, cluster_id: None }
    }

    #[test]
    fn new_directories_are_formatted_once_and_for_one_cluster() {
        let (a, b, c) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
        let first = Home::open(&node(&[&a, &b]), 0).unwrap();
        let again = Home::open(&node(&[&a, &b, &c]), 0).unwrap();
        assert_eq!(first.cluster_id(), again.cluster_id());
        assert_eq!(first.directory_ids(), &again.directory_ids()[..2]);
        assert_eq!(again.directory_ids().len(), 3);
        assert!(a.path().join(BOOTSTRAP).exists() && !b.path().join(BOOTSTRAP).exists());
    }

    #[test]
    fn directories_of_others_are_refused() {
        let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        Home::open(&node(&[&a]), 0).unwrap();
        Home::open(&node(&[&b]), 0).unwrap();
        let refused = |node: Node| Home::open(&node, 0).unwrap_err().to_string();
        assert!(refused(Node { id: 2, ..node(&[&a]) }).contains("it is of node 1"));
        assert!(refused(node(&[&a, &b])).contains("it is of cluster"));
        assert!(refused(Node { cluster_id: Some("x".to_owned()), ..node(&[&a]) }).contains("and not of x"));
        fs::create_dir(a.path().join(METADATA_LOG)).unwrap();
        fs::remove_file(a.path().join(META_PROPERTIES)).unwrap();
        assert!(refused(node(&[&a])).contains("there are metadata"));
    }

    #[test]
    fn newest_snapshot_is_found_among_other_files() {
        let a = TempDir::new().unwrap();
        let home = Home::open(&node(&[&a]), 0).unwrap();
        let log = a.path().join(METADATA_LOG);
        fs::create_dir(&log).unwrap();
        assert!(home.newest_snapshot().unwrap().is_none());
        let names = [
            "00000000000000000009-0000000001.checkpoint",
            "00000000000000000071-0000000003.checkpoint",
            "00000000000000000080-0000000003.checkpoint.part",
            "00000000000000000090-0000000003.checkpoint.deleted",
            "00000000000000000000.log",
            "99-1.checkpoint",
        ];
        names.iter().for_each(|name| fs::write(log.join(name), name).unwrap());
        let snapshot = home.newest_snapshot().unwrap().unwrap();
        assert_eq!(snapshot.id, SnapshotId { end_offset: 71, epoch: 3 });
        assert_eq!(snapshot.bytes, names[1].as_bytes());
    }
}
