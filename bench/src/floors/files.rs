//! The files of the floors. What has to be written before is written once a session, and used by all runs.

use crate::{Failure, durable::subject::Setup, machine};
use nix::{
    fcntl::{FallocateFlags, fallocate},
    libc,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// Bytes of the journal, if a sixteenth of the free space allows it.
const MAX_JOURNAL_BYTES: u64 = 2 << 30;
/// Files of partitions; those of more partitions than this are as many.
const MIN_FILES: usize = 1000;
/// Bytes of a segment file, if an eighth of the free space allows it for all of them.
const MAX_SEGMENT_BYTES: u64 = 4 << 20;
/// The largest chunk, of which a segment file is a multiple.
const MAX_CHUNK_BYTES: u64 = 256 << 10;
/// What files are written with before.
static PATTERN: [u8; 1 << 20] = [0xa5; 1 << 20];

/// Segment files of equal length, opened for direct I/O.
pub(super) struct SegmentFiles {
    pub(super) all: Vec<Arc<File>>,
    pub(super) bytes: u64,
    /// Whether their extents have been written before.
    pub(super) recycled: bool,
}

/// The journal's file, written from end to end before, and its length.
pub(super) fn journal(setup: &Setup<'_>) -> Result<(File, u64), Failure> {
    let path = setup.kept.join("journal");
    if !path.exists() {
        let bytes = MAX_JOURNAL_BYTES.min(machine::free_bytes(setup.kept)? / 16) / PATTERN.len() as u64;
        fill(&path, bytes * PATTERN.len() as u64)?;
    }
    let file = direct(&path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// Files that were written before; those of all partition counts are the same.
pub(super) fn recycled(setup: &Setup<'_>) -> Result<SegmentFiles, Failure> {
    let dir = setup.kept.join("segments");
    if !dir.exists() {
        fs::create_dir(&dir)?;
    }
    let count = setup.case.partitions.max(MIN_FILES);
    let bytes = match fs::metadata(dir.join("0")) {
        Ok(first) => first.len(),
        Err(_) => segment_bytes(setup, count)?,
    };
    let all: Result<Vec<_>, io::Error> = (0..count)
        .map(|index| {
            let path = dir.join(index.to_string());
            if !path.exists() {
                fill(&path, bytes)?;
            }
            Ok(Arc::new(direct(&path)?))
        })
        .collect();
    Ok(SegmentFiles { all: all?, bytes, recycled: true })
}

/// Files whose extents are allocated and never written: two for each, so that one is renewed while the other is written.
pub(super) fn fresh(setup: &Setup<'_>) -> Result<SegmentFiles, Failure> {
    let count = 2 * setup.case.partitions.max(MIN_FILES);
    let bytes = segment_bytes(setup, count)?;
    let all: Result<Vec<_>, io::Error> = (0..count)
        .map(|index| {
            let path = setup.dir.join(index.to_string());
            File::create_new(&path)?;
            let file = direct(&path)?;
            fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes).map_err(io::Error::other)?)?;
            Ok(Arc::new(file))
        })
        .collect();
    Ok(SegmentFiles { all: all?, bytes, recycled: false })
}

fn segment_bytes(setup: &Setup<'_>, count: usize) -> io::Result<u64> {
    let share = machine::free_bytes(setup.dir)? / 2 / count as u64;
    Ok(share.clamp(2 * MAX_CHUNK_BYTES, MAX_SEGMENT_BYTES) / MAX_CHUNK_BYTES * MAX_CHUNK_BYTES)
}

fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create_new(path)?;
    let mut at = 0;
    while at < bytes {
        let piece = PATTERN.get(..PATTERN.len().min((bytes - at) as usize)).unwrap_or_default();
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    file.sync_all()
}

fn direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)
}
