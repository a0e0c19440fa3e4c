//! Reading the files of directories without owning them.

use crate::output::Failure;
use duramen::{
    TopicPartition,
    format::{
        FormatError,
        batch::{Batch, FRAME_SIZE, Frame},
        checkpoint,
        names::{self, DirectoryKind, DirectoryName, FileName, SegmentFile, Suffix},
    },
};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A log file, read batch by batch.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    position: u64,
    buffer: Vec<u8>,
}

/// What lies at a position.
pub(crate) enum At {
    /// A whole batch, or what is wrong with its header.
    Batch(u64, Result<(), FormatError>),
    /// Less than a batch: so many bytes.
    Rest(u64, u64),
    /// The end.
    End,
}

impl LogFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(Failure::at(path.display()))?;
        Ok(Self { file, position: 0, buffer: Vec::new() })
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Steps over the next batch, by its length field; its bytes are then in [`LogFile::bytes`].
    pub(crate) fn step(&mut self) -> Result<At, Failure> {
        let failed = |error| Failure::new(format!("log file: {error}"));
        let len = self.file.metadata().map_err(failed)?.len();
        let left = len.saturating_sub(self.position);
        if left == 0 {
            return Ok(At::End);
        }
        let position = self.position;
        let mut front = [0; FRAME_SIZE];
        if left < FRAME_SIZE as u64 {
            return Ok(At::Rest(position, left));
        }
        self.file.read_exact_at(&mut front, position).map_err(failed)?;
        let frame = match Frame::decode(&front) {
            Ok(frame) => frame,
            Err(error) => return Ok(At::Batch(position, Err(error))),
        };
        if frame.size as u64 > left {
            return Ok(At::Rest(position, left));
        }
        self.buffer.resize(frame.size, 0);
        self.file.read_exact_at(&mut self.buffer, position).map_err(failed)?;
        self.position += frame.size as u64;
        Ok(At::Batch(position, frame.check_magic()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The batch that the last step stepped over.
    pub(crate) fn batch(&self) -> Result<Batch<'_>, FormatError> {
        Batch::parse(&self.buffer)
    }
}

/// The partition directories that a path means: itself, or those in it.
pub(crate) fn partitions(dir: &Path) -> Result<Vec<(TopicPartition, PathBuf)>, Failure> {
    if !dir.is_dir() {
        return Err(Failure::new(format!("{} is not a directory", dir.display())));
    }
    let canonical = dir.canonicalize().map_err(Failure::at(dir.display()))?;
    let name = canonical.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if let Ok(parsed) = DirectoryName::parse(&name)
        && holds_segments(dir)?
    {
        return Ok(vec![(parsed.partition, dir.to_path_buf())]);
    }
    let mut found = Vec::new();
    for (name, path) in entries(dir)? {
        if let Ok(DirectoryName { partition, kind: DirectoryKind::Current }) = DirectoryName::parse(&name)
            && path.is_dir()
        {
            found.push((partition, path));
        }
    }
    if found.is_empty() {
        let message =
            format!("{} is neither a partition's directory nor a log directory with partitions", dir.display());
        return Err(Failure::new(message));
    }
    Ok(found)
}

/// The path again, if it is a log directory and not that of a partition.
pub(crate) fn log_directory(dir: &Path) -> Result<&Path, Failure> {
    if !dir.is_dir() {
        return Err(Failure::new(format!("{} is not a directory", dir.display())));
    }
    if holds_segments(dir)? || dir.join(names::LEADER_EPOCH_CHECKPOINT).exists() {
        let message = format!("{} is a partition's directory: name the log directory above it", dir.display());
        return Err(Failure::new(message));
    }
    Ok(dir)
}

/// What a checkpoint of a log directory says of a partition; nothing if it cannot be read.
pub(crate) fn checkpointed(home: &Path, file: &str, partition: &TopicPartition) -> Result<Option<i64>, Failure> {
    let bytes = read(&home.join(file))?.unwrap_or_default();
    let offsets = checkpoint::decode_offsets(&bytes).unwrap_or_default();
    Ok(offsets.get(partition).copied())
}

/// Says so where a commit journal may have batches that no segment has.
pub(crate) fn warn_of_journal(home: &Path) {
    if home.join(names::JOURNAL).exists() {
        eprintln!(
            "duramen: the directory has a commit journal: what is in it alone is not seen before an open replays it"
        );
    }
}

fn holds_segments(dir: &Path) -> Result<bool, Failure> {
    Ok(entries(dir)?.iter().any(|(name, _)| matches!(FileName::parse(name), FileName::Segment { .. })))
}

/// Names and paths in a directory, sorted.
pub(crate) fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Failure::at(dir.display()))? {
        let entry = entry.map_err(Failure::at(dir.display()))?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

/// The segments of a partition's directory: base offset and path of the log file, ascending.
pub(crate) fn segments(dir: &Path) -> Result<Vec<(i64, PathBuf)>, Failure> {
    let named = entries(dir)?.into_iter().filter_map(|(name, path)| match FileName::parse(&name) {
        FileName::Segment { file: SegmentFile::Log, offset, suffix: Suffix::None } => Some((offset, path)),
        _ => None,
    });
    Ok(named.collect())
}

/// A file's bytes, or `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
    }
}
