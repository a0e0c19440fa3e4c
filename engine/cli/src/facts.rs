//! Everything that can be known of one partition's directory: from its files, and from the engine's opening it in memory.

use crate::{
    args::Circumstances,
    cleaning::Verdict,
    files::{self, At, LogFile},
    output::Failure,
    view,
};
use duramen::{
    ActiveProducer, DirectoryOptions, LogConfig, LogDirectory, LogOffsets, OpenError, RecoveryReport, Timestamp,
    TopicPartition,
    format::{
        checkpoint::{self, EpochEntry},
        index_entry::{AbortedTxn, OffsetIndexView, TimeIndexView},
        names::{self, FileName, SegmentFile, Suffix},
        partition_metadata, snapshot,
        uuid::Uuid,
    },
};
use std::path::Path;

/// A partition's directory, as found.
pub(crate) struct Facts {
    pub(crate) topic_id: Option<Uuid>,
    pub(crate) segments: Vec<SegmentFacts>,
    pub(crate) snapshots: Vec<SnapshotFacts>,
    pub(crate) aborted: Vec<AbortedTxn>,
    pub(crate) epochs: Vec<EpochEntry>,
    /// Files on their way in or out, by name.
    pub(crate) leftovers: Vec<String>,
    pub(crate) checkpoints: Checkpoints,
    /// What the engine finds, or why it refuses.
    pub(crate) opened: Result<Opened, String>,
}

/// What the log directory's checkpoints say.
pub(crate) struct Checkpoints {
    pub(crate) log_start: Option<i64>,
    pub(crate) high_watermark: Option<i64>,
    pub(crate) recovery_point: Option<i64>,
    pub(crate) cleaner_point: Option<i64>,
}

pub(crate) struct SegmentFacts {
    pub(crate) base_offset: i64,
    pub(crate) size: u64,
    pub(crate) walk: Walk,
    pub(crate) index_entries: Option<usize>,
    pub(crate) time_index_entries: Option<usize>,
    pub(crate) aborted: Option<usize>,
}

pub(crate) struct SnapshotFacts {
    pub(crate) offset: i64,
    pub(crate) size: u64,
    /// How many producers it holds, or why it cannot be read.
    pub(crate) producers: Result<usize, String>,
}

/// What the engine finds.
pub(crate) struct Opened {
    pub(crate) offsets: LogOffsets,
    pub(crate) first_unstable: Option<i64>,
    /// Each with whether it has been silent for so long that an open forgets it.
    pub(crate) producers: Vec<(ActiveProducer, bool)>,
    pub(crate) verdict: Verdict,
    pub(crate) report: RecoveryReport,
}

/// What the headers of a log file say.
#[derive(Default)]
pub(crate) struct Walk {
    pub(crate) batches: u64,
    pub(crate) next_offset: Option<i64>,
    pub(crate) max_timestamp: Option<i64>,
    /// `None` when every byte is a batch with a right checksum.
    pub(crate) damage: Option<String>,
}

impl Facts {
    pub(crate) fn gather(
        home: &Path,
        partition: &TopicPartition,
        dir: &Path,
        config: &LogConfig,
        circumstances: &Circumstances,
    ) -> Result<Self, Failure> {
        let checkpointed = |file| files::checkpointed(home, file, partition);
        let checkpoints = Checkpoints {
            log_start: checkpointed(names::LOG_START_CHECKPOINT)?,
            high_watermark: checkpointed(names::HIGH_WATERMARK_CHECKPOINT)?,
            recovery_point: checkpointed(names::RECOVERY_POINT_CHECKPOINT)?,
            cleaner_point: checkpointed(names::CLEANER_CHECKPOINT)?,
        };
        let metadata = files::read(&dir.join(names::PARTITION_METADATA))?;
        let epochs = files::read(&dir.join(names::LEADER_EPOCH_CHECKPOINT))?.unwrap_or_default();
        let mut facts = Self {
            topic_id: metadata.and_then(|bytes| partition_metadata::decode(&bytes).ok()),
            segments: Vec::new(),
            snapshots: Vec::new(),
            aborted: Vec::new(),
            epochs: checkpoint::decode_epochs(&epochs).unwrap_or_default(),
            leftovers: Vec::new(),
            checkpoints,
            opened: Err(String::new()),
        };
        for (name, path) in files::entries(dir)? {
            facts.add(dir, &name, &path)?;
        }
        facts.opened = facts.open(home, partition, dir, config, circumstances);
        Ok(facts)
    }

    fn add(&mut self, dir: &Path, name: &str, path: &Path) -> Result<(), Failure> {
        let FileName::Segment { file, offset, suffix } = FileName::parse(name) else {
            if FileName::parse(name) == FileName::Temporary {
                self.leftovers.push(name.to_owned());
            }
            return Ok(());
        };
        if suffix != Suffix::None {
            self.leftovers.push(name.to_owned());
            return Ok(());
        }
        match file {
            // One that its owner removes meanwhile is not there.
            SegmentFile::Log => self.segments.extend(segment(dir, path, offset)?),
            SegmentFile::Snapshot => self.snapshots.extend(files::read(path)?.map(|bytes| SnapshotFacts {
                offset,
                size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                producers: snapshot::decode(&bytes).map(|entries| entries.len()).map_err(|error| error.to_string()),
            })),
            SegmentFile::TxnIndex => {
                let bytes = files::read(path)?.unwrap_or_default();
                let decoded = bytes.chunks_exact(AbortedTxn::SIZE).map(AbortedTxn::decode);
                self.aborted.extend(decoded.filter_map(Result::ok));
            }
            SegmentFile::OffsetIndex | SegmentFile::TimeIndex => {}
        }
        Ok(())
    }

    /// Has the engine open the partition; its epochs then replace those of the file.
    fn open(
        &mut self,
        home: &Path,
        partition: &TopicPartition,
        dir: &Path,
        config: &LogConfig,
        circumstances: &Circumstances,
    ) -> Result<Opened, String> {
        let canonical = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
        let name = canonical.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let opened = view::open(home, &name, partition, config, circumstances)
            .and_then(|mut directory| self.look(&mut directory, partition, config, circumstances.now_ms()));
        opened.map_err(|error| view::placed(home, &error))
    }

    fn look(
        &mut self,
        directory: &mut LogDirectory,
        partition: &TopicPartition,
        config: &LogConfig,
        now_ms: Timestamp,
    ) -> Result<Opened, OpenError> {
        let unknown = || OpenError::UnknownPartition { partition: partition.clone() };
        let to_clean = directory.log_to_clean(partition)?.ok_or_else(unknown)?;
        let report = directory.report().partitions.get(partition).map(|(report, _)| report.clone());
        let report = report.unwrap_or_else(RecoveryReport::as_left);
        let log = directory.get(partition, config)?;
        let expiration_ms = DirectoryOptions::default().producer_id_expiration_ms;
        let is_expired = |producer: &ActiveProducer| {
            producer.current_txn_first_offset.is_none()
                && now_ms.saturating_sub(producer.last_timestamp) >= expiration_ms
        };
        let producers = log.active_producers().into_iter();
        let producers = producers.map(|producer| (producer.clone(), is_expired(&producer))).collect();
        self.epochs = log.reader().leader_epochs();
        Ok(Opened {
            offsets: log.offsets(),
            first_unstable: log.first_unstable_offset(),
            producers,
            verdict: Verdict::on(log, to_clean),
            report,
        })
    }

    /// Bytes of all log files.
    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Where the log ends by its files alone.
    pub(crate) fn log_end(&self) -> i64 {
        let ends = self.segments.iter().map(|segment| segment.walk.next_offset.unwrap_or(segment.base_offset));
        ends.max().unwrap_or(0)
    }
}

/// `None` when the file is gone.
fn segment(dir: &Path, path: &Path, base_offset: i64) -> Result<Option<SegmentFacts>, Failure> {
    let Ok(size) = path.metadata().map(|found| found.len()) else {
        return Ok(None);
    };
    let walk = match walk(path) {
        Err(_) if !path.exists() => return Ok(None),
        walk => walk?,
    };
    let count = |name: String, of: fn(&[u8], i64) -> usize| -> Result<Option<usize>, Failure> {
        Ok(files::read(&dir.join(name))?.map(|bytes| of(&bytes, base_offset)))
    };
    Ok(Some(SegmentFacts {
        base_offset,
        size,
        walk,
        index_entries: count(names::offset_index(base_offset), |bytes, base| OffsetIndexView::new(bytes, base).len())?,
        time_index_entries: count(names::time_index(base_offset), |bytes, base| TimeIndexView::new(bytes, base).len())?,
        aborted: count(names::txn_index(base_offset), |bytes, _| bytes.len() / AbortedTxn::SIZE)?,
    }))
}

fn walk(path: &Path) -> Result<Walk, Failure> {
    let mut walk = Walk::default();
    let mut log = LogFile::open(path)?;
    loop {
        match log.step()? {
            At::End => return Ok(walk),
            At::Rest(position, bytes) => {
                walk.damage = Some(format!("{bytes} bytes at {position} are no whole batch"));
                return Ok(walk);
            }
            At::Batch(position, checked) => match checked.and_then(|()| log.batch()) {
                Ok(batch) => {
                    walk.batches += 1;
                    walk.next_offset = Some(batch.header().next_offset());
                    walk.max_timestamp = walk.max_timestamp.max(batch.header().max_timestamp());
                    if batch.check_crc().is_err() {
                        walk.damage = Some(format!("damaged at byte {position}"));
                    }
                }
                Err(error) => {
                    walk.damage = Some(format!("at byte {position}: {error}"));
                    return Ok(walk);
                }
            },
        }
    }
}
