//! Names of files and directories.

use super::uuid::Uuid;
use crate::types::{InvalidTopic, Offset, TopicPartition};

/// The lock of a log directory.
pub const LOCK: &str = ".lock";
/// The marker of an orderly close.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Whose log directory it is.
pub const META_PROPERTIES: &str = "meta.properties";
/// Everything below is flushed.
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// First readable offsets that differ from the first segment's base.
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
/// Up to where each log was compacted.
pub const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";
/// Made when a sync has failed: what the page cache shows of this directory may not be on the disk. Kafka ignores it.
pub const FAILED_SYNC: &str = "duramen.failed-sync";
/// The folder of the commit journal, which exists while the journal may hold what no segment has. Kafka does not start on a
/// log directory with a folder that is no partition's, so it cannot be opened without what the journal holds.
pub const JOURNAL_DIRECTORY: &str = "journal";
/// The commit journal.
pub const JOURNAL: &str = "journal/ring";
/// A partition's leader epochs.
pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// A partition's topic id.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// Longest name of a directory, in bytes.
const MAX_DIRECTORY_NAME: usize = 255;

/// What a file of a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentFile {
    /// Record batches.
    Log,
    /// Offset index.
    OffsetIndex,
    /// Time index.
    TimeIndex,
    /// Transaction index.
    TxnIndex,
    /// Producer snapshot; its number is the offset up to which it holds, exclusive.
    Snapshot,
}

impl SegmentFile {
    /// All kinds, in the order in which Kafka renames the files of a segment.
    pub const ALL: [Self; 5] = [Self::Log, Self::OffsetIndex, Self::TimeIndex, Self::TxnIndex, Self::Snapshot];

    /// The ending of the name, with its dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TxnIndex => ".txnindex",
            Self::Snapshot => ".snapshot",
        }
    }
}

/// What is added to a file's name while it is on its way in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suffix {
    /// In its place.
    None,
    /// Being written.
    Cleaned,
    /// Complete, about to replace others.
    Swap,
    /// About to be removed.
    Deleted,
}

impl Suffix {
    /// The text, with its dot.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Cleaned => ".cleaned",
            Self::Swap => ".swap",
            Self::Deleted => ".deleted",
        }
    }
}

/// A file in a partition directory, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// A file of a segment.
    Segment {
        /// What it holds.
        file: SegmentFile,
        /// The number in its name.
        offset: Offset,
        /// What is added.
        suffix: Suffix,
    },
    /// `leader-epoch-checkpoint`.
    LeaderEpochCheckpoint,
    /// `partition.metadata`.
    PartitionMetadata,
    /// A leftover of one of these two, or of a producer snapshot, that was being written.
    Temporary,
    /// None of ours.
    Foreign,
}

impl FileName {
    /// Tells what a name means. Where Kafka would stop on a name such as `abc.log`, it is foreign.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            LEADER_EPOCH_CHECKPOINT => return Self::LeaderEpochCheckpoint,
            PARTITION_METADATA => return Self::PartitionMetadata,
            "leader-epoch-checkpoint.tmp" | "partition.metadata.tmp" => return Self::Temporary,
            _ => {}
        }
        if let Some(stem) = name.strip_suffix(".tmp") {
            let snapshot =
                matches!(Self::parse(stem), Self::Segment { file: SegmentFile::Snapshot, suffix: Suffix::None, .. });
            return if snapshot { Self::Temporary } else { Self::Foreign };
        }
        let (stem, suffix) = [Suffix::Cleaned, Suffix::Swap, Suffix::Deleted]
            .into_iter()
            .find_map(|suffix| Some((name.strip_suffix(suffix.text())?, suffix)))
            .unwrap_or((name, Suffix::None));
        let segment = SegmentFile::ALL.into_iter().find_map(|file| {
            let number = stem.strip_suffix(file.extension())?;
            let plain = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
            let offset = number.parse().ok().filter(|_| plain)?;
            Some(Self::Segment { file, offset, suffix })
        });
        segment.unwrap_or(Self::Foreign)
    }
}

/// Name of a segment's file.
#[must_use]
pub fn segment_file(file: SegmentFile, offset: Offset) -> String {
    format!("{offset:020}{}", file.extension())
}

/// Name of the log file of the segment with this base.
#[must_use]
pub fn log(base_offset: Offset) -> String {
    segment_file(SegmentFile::Log, base_offset)
}

/// Name of the offset index of the segment with this base.
#[must_use]
pub fn offset_index(base_offset: Offset) -> String {
    segment_file(SegmentFile::OffsetIndex, base_offset)
}

/// Name of the time index of the segment with this base.
#[must_use]
pub fn time_index(base_offset: Offset) -> String {
    segment_file(SegmentFile::TimeIndex, base_offset)
}

/// Name of the transaction index of the segment with this base.
#[must_use]
pub fn txn_index(base_offset: Offset) -> String {
    segment_file(SegmentFile::TxnIndex, base_offset)
}

/// Name of the producer snapshot as of an offset, exclusive.
#[must_use]
pub fn snapshot(offset: Offset) -> String {
    segment_file(SegmentFile::Snapshot, offset)
}

/// What a partition's directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DirectoryKind {
    /// The partition.
    Current,
    /// Its copy that is moving to this log directory.
    Future,
    /// Waiting to be removed.
    Delete,
    /// Not placed here by the cluster's metadata.
    Stray,
}

impl DirectoryKind {
    fn ending(self) -> &'static str {
        match self {
            Self::Current => "",
            Self::Future => "-future",
            Self::Delete => "-delete",
            Self::Stray => "-stray",
        }
    }
}

/// The name of a partition's directory (`UnifiedLog.parseTopicPartitionName`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DirectoryName {
    /// The partition. In the name of a directory to be deleted, and of a stray one, the topic may be cut short.
    pub partition: TopicPartition,
    /// What the directory is for.
    pub kind: DirectoryKind,
}

impl DirectoryName {
    /// Reads a directory's name.
    ///
    /// # Errors
    /// [`InvalidTopic`] for anything that is no partition's directory; Kafka refuses to start on such a one.
    pub fn parse(name: &str) -> Result<Self, InvalidTopic> {
        let invalid = |why| InvalidTopic { name: name.to_owned(), why };
        let kinds = [DirectoryKind::Future, DirectoryKind::Delete, DirectoryKind::Stray];
        let (kind, name_of_partition) = match kinds.into_iter().find(|kind| name.ends_with(kind.ending())) {
            None => (DirectoryKind::Current, name),
            Some(kind) => {
                let why = "such an ending follows a dot and an id";
                let (partition, id) = name.rsplit_once('.').ok_or_else(|| invalid(why))?;
                if id.len() <= kind.ending().len() {
                    return Err(invalid(why));
                }
                (kind, partition)
            }
        };
        let (topic, partition) =
            name_of_partition.rsplit_once('-').ok_or_else(|| invalid("there is no '-' before a partition"))?;
        let partition = partition.parse().map_err(|_| invalid("the partition is not a number"))?;
        Ok(Self { partition: TopicPartition::new(topic, partition)?, kind })
    }

    /// The name of a directory that is on its way, at most 255 bytes: the topic is cut short if need be
    /// (`UnifiedLog.logDeleteDirName`). A current directory has no id.
    #[must_use]
    pub fn format(partition: &TopicPartition, kind: DirectoryKind, id: Uuid) -> String {
        if kind == DirectoryKind::Current {
            return partition.to_string();
        }
        let ending = format!("-{}.{}{}", partition.partition(), id.hex(), kind.ending());
        let room = MAX_DIRECTORY_NAME.saturating_sub(ending.len());
        let topic = partition.topic().get(..room).unwrap_or(partition.topic());
        format!("{topic}{ending}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // M 83
    #[test]
    fn names_are_formatted_and_parsed_back() {
        assert_eq!(log(51234), "00000000000000051234.log");
        for file in SegmentFile::ALL {
            for suffix in [Suffix::None, Suffix::Cleaned, Suffix::Swap, Suffix::Deleted] {
                let name = format!("{}{}", segment_file(file, 7), suffix.text());
                assert_eq!(FileName::parse(&name), FileName::Segment { file, offset: 7, suffix });
            }
        }
    }

    #[test]
    fn foreign_names_are_told_apart() {
        for name in [
            "abc.log",
            "7.log",
            "notes.txt",
            "00000000000000000000.checkpoint",
            ".log",
            "x.swap",
            "-0000000000000000001.log",
        ] {
            assert_eq!(FileName::parse(name), FileName::Foreign, "{name}");
        }
        for name in ["partition.metadata.tmp", "00000000000000000007.snapshot.tmp"] {
            assert_eq!(FileName::parse(name), FileName::Temporary, "{name}");
        }
        assert_eq!(FileName::parse("00000000000000000007.log.tmp"), FileName::Foreign);
    }

    // M 82
    #[test]
    fn directory_names_are_parsed_by_kafkas_rules() {
        let parsed =
            |name: &str| DirectoryName::parse(name).map(|parsed| (parsed.partition.to_string(), parsed.kind)).ok();
        let id = "3f2504e04f8941d39a0c0305e82c3301";
        assert_eq!(parsed("orders-0"), Some(("orders-0".into(), DirectoryKind::Current)));
        assert_eq!(parsed("a-b.c-12"), Some(("a-b.c-12".into(), DirectoryKind::Current)));
        assert_eq!(parsed("x-delete-0"), Some(("x-delete-0".into(), DirectoryKind::Current)));
        assert_eq!(parsed(&format!("t-0.{id}-delete")), Some(("t-0".into(), DirectoryKind::Delete)));
        assert_eq!(parsed(&format!("t-0.{id}-future")), Some(("t-0".into(), DirectoryKind::Future)));
        assert_eq!(parsed(&format!("t-0.{id}-stray")), Some(("t-0".into(), DirectoryKind::Stray)));
        assert_eq!(parsed("t-0.bad-delete"), Some(("t-0".into(), DirectoryKind::Delete)));
        for name in ["lost+found", "nodash", "-0", "t-", "t-x", "t-0.3f25-other", "t 1-0", "t-0.-delete"] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    // M 82, 221
    #[test]
    fn long_topics_are_cut_in_names_of_directories_to_delete() {
        let long = TopicPartition::new(&"a".repeat(249), 7).unwrap();
        let name = DirectoryName::format(&long, DirectoryKind::Delete, Uuid::ZERO);
        assert_eq!(name.len(), 255);
        assert_eq!(DirectoryName::parse(&name).unwrap().kind, DirectoryKind::Delete);
    }
}
