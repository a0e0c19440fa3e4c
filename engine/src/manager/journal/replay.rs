//! Bringing what a journal holds into the segments, when a directory is opened.
//!
//! Steps, and what the next open finds after each: batches written to the last segments that there are, and these synced (the
//! same journal, which is replayed once more, to the same end); the recovery points of those lowered that get a successor (the
//! same); the successors made and written, and synced (the same, but for segments that are not the last any more and have
//! everything); the journal removed (nothing). Only then is a log opened and its torn end cut.
//!
//! A sealed segment is durable before the next one exists, and may have been compacted or removed since. So of each partition
//! only the last segment gets anything; and one behind it, if it was cut short by a crash between a roll and its end. Of that
//! one the journal has everything, from its first byte on.

use super::{JournalError, file};
use crate::{
    format::{
        journal::{Anchor, BLOCK_HEADER_SIZE, BLOCKS_AT, Block, BlockHeader, Frame, PAGE_SIZE},
        names::{self, FileName, JOURNAL, SegmentFile, Suffix},
    },
    log::Checkpoints,
    storage::{self, Access, File, Op, Storage, StorageError},
    types::{Offset, TopicPartition},
};
use std::{
    collections::{BTreeMap, btree_map},
    path::{Path, PathBuf},
};

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalReplay {
    /// Blocks read.
    pub blocks: u64,
    /// Frames that were written to a segment.
    pub frames: u64,
    /// Frames whose segment is sealed, whose partition is gone, or that were voided.
    pub passed_over: u64,
    /// Bytes written to segments.
    pub bytes: u64,
    /// Partitions that got some of them.
    pub partitions: u64,
}

/// Replays and removes the journal of a directory; `None` if it has none.
pub(crate) fn replay(storage: &dyn Storage, checkpoints: &Checkpoints) -> Result<Option<JournalReplay>, JournalError> {
    let Some((journal, anchor)) = file::find_anchor(storage)? else {
        return Ok(None);
    };
    let blocks = Blocks { storage, file: &journal, anchor: &anchor };
    let voided = blocks.voided()?;
    let pass = |target: &mut Target<'_>| {
        let count = blocks.walk(|number, frame| match frame {
            Frame::Batches { partition, segment_base_offset, position, bytes } => {
                let is_void = voided.get(&partition).is_some_and(|until| number <= *until);
                target.write(&partition, segment_base_offset, position.into(), bytes, is_void)
            }
            Frame::Forget { .. } => Ok(()),
        })?;
        target.sync()?;
        Ok::<u64, JournalError>(count)
    };
    let mut target = Target::new(storage);
    target.done.blocks = pass(&mut target)?;
    if !target.successors.is_empty() {
        checkpoints.lower_recovery_points(&target.bases_before_successors())?;
        let mut rest = target.make_successors()?;
        pass(&mut rest)?;
        target.note_rest(rest);
    }
    drop(journal);
    file::remove(storage)?;
    Ok(Some(target.done()))
}

/// The blocks of a journal, from its anchor on.
struct Blocks<'a> {
    storage: &'a dyn Storage,
    file: &'a File,
    anchor: &'a Anchor,
}

impl Blocks<'_> {
    /// The number, in the order of the journal, of the last frame that voids those before it, by partition.
    fn voided(&self) -> Result<BTreeMap<TopicPartition, u64>, JournalError> {
        let mut voided = BTreeMap::new();
        self.walk(|number, frame| {
            if let Frame::Forget { partition } = frame {
                voided.insert(partition, number);
            }
            Ok(())
        })?;
        Ok(voided)
    }

    /// Gives every frame with its number to `visit`; the number of blocks.
    fn walk(&self, mut visit: impl FnMut(u64, Frame<'_>) -> Result<(), JournalError>) -> Result<u64, JournalError> {
        let (mut sequence, mut position) = (self.anchor.sequence, self.anchor.position);
        let mut number = 0;
        let mut buffer = Vec::new();
        while let Some(at) = self.find(sequence, position, &mut buffer)? {
            let malformed = |source| JournalError::Block { sequence, position: at, source };
            let block = Block::decode(&buffer).map_err(malformed)?;
            for frame in block.frames() {
                visit(number, frame.map_err(malformed)?)?;
                number += 1;
            }
            position = at + pages(block.header().len.into());
            sequence += 1;
        }
        Ok(sequence - self.anchor.sequence)
    }

    /// Reads the block of this number, which follows the one before or lies at the ring's begin.
    fn find(&self, sequence: u64, position: u64, buffer: &mut Vec<u8>) -> Result<Option<u64>, JournalError> {
        for at in [position, BLOCKS_AT] {
            if self.read(sequence, at, buffer)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Whether the block of this number is here, whole; its bytes are in `buffer` then.
    fn read(&self, sequence: u64, at: u64, buffer: &mut Vec<u8>) -> Result<bool, JournalError> {
        let mut front = [0; BLOCK_HEADER_SIZE];
        if at >= self.anchor.end || self.read_into(at, &mut front)? < front.len() {
            return Ok(false);
        }
        let Ok(header) = BlockHeader::decode(&front) else { return Ok(false) };
        let is_next = header.id == self.anchor.id && header.sequence == sequence;
        if !is_next || u64::from(header.len) > self.anchor.end - at {
            return Ok(false);
        }
        buffer.resize(usize::try_from(header.len).unwrap_or(0), 0);
        let read = self.read_into(at, buffer)?;
        Ok(read == buffer.len() && Block::decode(buffer).is_ok())
    }

    fn read_into(&self, at: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        storage::read_at(self.storage, self.file, at, into)
            .map_err(|error| StorageError::new("read", Path::new(JOURNAL), error))
    }
}

/// Bytes that a block takes in the file.
pub(super) fn pages(len: u64) -> u64 {
    len.next_multiple_of(u64::try_from(PAGE_SIZE).unwrap_or(1))
}

/// The last segments of the partitions that the journal speaks of.
struct Target<'a> {
    storage: &'a dyn Storage,
    /// `None` for a partition that is not there any more.
    logs: BTreeMap<TopicPartition, Option<LastSegment>>,
    /// Whether only these get anything.
    is_complete: bool,
    /// Bases of segments behind these of which the journal speaks, and which are not there.
    successors: BTreeMap<TopicPartition, Offset>,
    /// How many of their files are open.
    open: usize,
    /// Whether files were closed that are not durable, to make room for others.
    was_closed: bool,
    done: JournalReplay,
}

struct LastSegment {
    base_offset: Offset,
    path: PathBuf,
    file: Option<File>,
    len: u64,
    is_written: bool,
}

impl LastSegment {
    fn new(base_offset: Offset, path: PathBuf, len: u64) -> Self {
        Self { base_offset, path, file: None, len, is_written: false }
    }
}

impl<'a> Target<'a> {
    fn new(storage: &'a dyn Storage) -> Self {
        Self {
            storage,
            logs: BTreeMap::new(),
            is_complete: false,
            successors: BTreeMap::new(),
            open: 0,
            was_closed: false,
            done: JournalReplay::default(),
        }
    }

    fn write(
        &mut self,
        partition: &TopicPartition,
        segment_base_offset: Offset,
        position: u64,
        bytes: &[u8],
        is_void: bool,
    ) -> Result<(), JournalError> {
        let storage = self.storage;
        let last = match self.logs.entry(partition.clone()) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(_) if self.is_complete => return Ok(()),
            btree_map::Entry::Vacant(vacant) => vacant.insert(last_segment(storage, partition)?),
        };
        let last = match last {
            Some(last) if !is_void && last.base_offset <= segment_base_offset => last,
            _ => {
                self.done.passed_over += 1;
                return Ok(());
            }
        };
        if last.base_offset < segment_base_offset {
            return self.note_successor(partition, segment_base_offset);
        }
        if position > last.len {
            let len = last.len;
            return Err(JournalError::Gap { partition: partition.clone(), segment_base_offset, len, position });
        }
        let file = match &last.file {
            Some(file) => file,
            None => {
                self.open += 1;
                last.file.insert(storage.open(&last.path, Access::Write)?)
            }
        };
        last.is_written = true;
        storage::write_at(storage, file, position, bytes)
            .map_err(|error| StorageError::new("write", &last.path, error))?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        last.len = last.len.max(position + len);
        self.done.frames += 1;
        self.done.bytes += len;
        if self.open > storage.open_files().map_or(usize::MAX, |files| files.limit()) {
            self.logs.values_mut().flatten().for_each(|last| last.file = None);
            self.open = 0;
            self.was_closed = true;
        }
        Ok(())
    }

    /// There is at most one roll of a log that has not ended.
    fn note_successor(&mut self, partition: &TopicPartition, base_offset: Offset) -> Result<(), JournalError> {
        let known = *self.successors.entry(partition.clone()).or_insert(base_offset);
        if known == base_offset && !self.is_complete {
            return Ok(());
        }
        Err(JournalError::SegmentMissing { partition: partition.clone(), segment_base_offset: base_offset })
    }

    /// Makes durable what was written.
    fn sync(&mut self) -> Result<(), JournalError> {
        let written: Vec<_> =
            self.logs.values().flatten().filter_map(|last| Some((last.file.as_ref()?, &last.path))).collect();
        let mut ops: Vec<_> = written.iter().map(|(file, _)| Op::sync(file)).collect();
        self.storage.run(&mut ops);
        for (op, (_, path)) in ops.iter_mut().zip(&written) {
            op.take_result().map_err(|error| StorageError::new("sync", path, error))?;
        }
        if self.was_closed {
            // Tells of a failure with any file of the file system since the directory was opened.
            self.storage.sync_all()?;
        }
        Ok(())
    }

    /// What those segments lack that are about to get a successor, indexes and perhaps epochs, is made when they are read again.
    fn bases_before_successors(&self) -> BTreeMap<TopicPartition, Offset> {
        let base = |partition: &TopicPartition| Some(self.logs.get(partition)?.as_ref()?.base_offset);
        self.successors.keys().filter_map(|partition| Some((partition.clone(), base(partition)?))).collect()
    }

    /// Makes the segments that are not there, empty, behind those that have had everything, durably.
    fn make_successors(&mut self) -> Result<Self, JournalError> {
        self.logs.values_mut().flatten().for_each(|last| last.file = None);
        let mut rest = Self { is_complete: true, ..Self::new(self.storage) };
        for (partition, base_offset) in &self.successors {
            let dir = PathBuf::from(partition.to_string());
            let path = dir.join(names::log(*base_offset));
            drop(self.storage.open(&path, Access::Create)?);
            self.storage.sync_dir(&dir)?;
            rest.logs.insert(partition.clone(), Some(LastSegment::new(*base_offset, path, 0)));
        }
        Ok(rest)
    }

    /// Adds what the segments got that [`Target::make_successors`] made.
    fn note_rest(&mut self, rest: Self) {
        self.done.frames += rest.done.frames;
        self.done.bytes += rest.done.bytes;
        for (partition, last) in rest.logs {
            let was_written =
                self.logs.get(&partition).is_some_and(|known| known.as_ref().is_some_and(|it| it.is_written));
            self.logs
                .insert(partition, last.map(|last| LastSegment { is_written: last.is_written || was_written, ..last }));
        }
    }

    fn done(mut self) -> JournalReplay {
        let written = self.logs.values().flatten().filter(|last| last.is_written);
        self.done.partitions = u64::try_from(written.count()).unwrap_or(u64::MAX);
        self.done
    }
}

fn last_segment(storage: &dyn Storage, partition: &TopicPartition) -> Result<Option<LastSegment>, JournalError> {
    let dir = PathBuf::from(partition.to_string());
    let entries = match storage.list(&dir) {
        Err(error) if error.is_not_found() => return Ok(None),
        entries => entries?,
    };
    let logs = entries.into_iter().filter_map(|entry| match FileName::parse(&entry.name.to_string_lossy()) {
        FileName::Segment { offset, file: SegmentFile::Log, suffix: Suffix::None } => {
            Some(LastSegment::new(offset, dir.join(&entry.name), entry.len))
        }
        _ => None,
    });
    Ok(logs.max_by_key(|last| last.base_offset))
}
