//! The journal's folder and file: how they come, how replay finds its begin, how they go.
//!
//! Keeps: a file of the journal's name always has an anchor; of two anchors one is whole whatever was being written when
//! the power failed.

use super::JournalError;
use crate::{
    format::{
        journal::{Anchor, BLOCKS_AT, PAGE_SIZE},
        names::{JOURNAL, JOURNAL_DIRECTORY},
        uuid::Uuid,
    },
    storage::{self, Access, BufferPool, File, Op, Storage, StorageError, remove_if_there},
};
use std::{io, path::Path, sync::Arc};

/// The file while it is being made.
const UNFINISHED: &str = "journal/ring.tmp";
/// Bytes of zeros written at once.
const ZEROS_BYTES: usize = 1 << 20;
/// The first block's number.
pub(super) const FIRST_SEQUENCE: u64 = 1;

/// The open file of a journal.
#[derive(Debug)]
pub(super) struct JournalFile {
    storage: Arc<dyn Storage>,
    /// For anchors.
    cached: File,
    /// For blocks.
    direct: Arc<File>,
    anchor: Anchor,
}

impl JournalFile {
    /// Makes a journal of `bytes`, whose blocks have been written once, so that writing them again moves no metadata.
    ///
    /// Steps, and what the next open finds after each: the folder made (it is removed); zeros and the first anchor written
    /// to a file of another name, and synced (both are removed); renamed and both folders synced (an empty journal).
    pub(super) fn create(storage: &Arc<dyn Storage>, id: Uuid, bytes: u64) -> Result<Self, StorageError> {
        match storage.create_dir(Path::new(JOURNAL_DIRECTORY)) {
            Err(error) if error.source.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let unfinished = Path::new(UNFINISHED);
        remove_if_there(&**storage, unfinished)?;
        let page = u64::try_from(PAGE_SIZE).unwrap_or(u64::MAX);
        let end = bytes.max(2 * BLOCKS_AT) / page * page;
        let anchor = Anchor { id, number: 1, sequence: FIRST_SEQUENCE, position: BLOCKS_AT, end };
        let cached = storage.open(unfinished, Access::Create)?;
        fill_with_zeros(&**storage, unfinished, end)?;
        storage::write_at(&**storage, &cached, anchor_at(anchor.number), &anchor.encode())
            .and_then(|()| storage::sync(&**storage, &cached))
            .map_err(|error| StorageError::new("write the anchor of", unfinished, error))?;
        storage.rename(unfinished, Path::new(JOURNAL))?;
        storage.sync_dir(Path::new(JOURNAL_DIRECTORY))?;
        storage.sync_dir(Path::new(""))?;
        let direct = Arc::new(storage.open_direct(Path::new(JOURNAL))?);
        Ok(Self { storage: Arc::clone(storage), cached, direct, anchor })
    }

    pub(super) fn id(&self) -> Uuid {
        self.anchor.id
    }

    pub(super) fn end(&self) -> u64 {
        self.anchor.end
    }

    /// The file, for blocks.
    pub(super) fn direct(&self) -> Arc<File> {
        Arc::clone(&self.direct)
    }

    /// Makes replay begin with a later block; durable when it returns.
    pub(super) fn move_anchor(&mut self, sequence: u64, position: u64) -> Result<(), StorageError> {
        let anchor = Anchor { number: self.anchor.number + 1, sequence, position, ..self.anchor };
        let bytes = anchor.encode();
        let mut ops = [Op::write_durable(&self.cached, anchor_at(anchor.number), &bytes)];
        self.storage.run(&mut ops);
        let [mut op] = ops;
        op.take_result().map_err(|error| StorageError::new("write the anchor of", Path::new(JOURNAL), error))?;
        self.anchor = anchor;
        Ok(())
    }
}

/// Where an anchor lies: two places take turns.
fn anchor_at(number: u64) -> u64 {
    (number % 2) * u64::try_from(PAGE_SIZE).unwrap_or(0)
}

/// Writes the file once, past the page cache where that can be had.
fn fill_with_zeros(storage: &dyn Storage, path: &Path, end: u64) -> Result<(), StorageError> {
    let named = |error| StorageError::new("allocate", path, error);
    let file = storage.open_direct(path)?;
    let mut zeros =
        BufferPool::new(ZEROS_BYTES).take(ZEROS_BYTES).ok_or_else(|| named(io::ErrorKind::OutOfMemory.into()))?;
    let filled = zeros.append(&vec![0; ZEROS_BYTES]);
    debug_assert!(filled, "the buffer was made for it");
    let zeros = zeros.share();
    let mut at = 0;
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        storage::write_at(storage, &file, at, zeros.filled().get(..len).unwrap_or_default()).map_err(named)?;
        at += u64::try_from(len).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// The anchor that holds; `None` where there is no journal. What is left of one that was never finished is removed.
pub(super) fn find_anchor(storage: &dyn Storage) -> Result<Option<(File, Anchor)>, JournalError> {
    let file = match storage.open(Path::new(JOURNAL), Access::Write) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => {
            remove(storage)?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    // After a failed sync the page cache may show what the disk does not have.
    storage.forget_cached(&file).map_err(|error| StorageError::new("read", Path::new(JOURNAL), error))?;
    let mut found: Result<Option<Anchor>, JournalError> = Ok(None);
    for number in [0, 1] {
        let mut page = [0; PAGE_SIZE];
        storage::read_at(storage, &file, anchor_at(number), &mut page)
            .map_err(|error| StorageError::new("read", Path::new(JOURNAL), error))?;
        found = match (found, Anchor::decode(&page)) {
            (Ok(Some(known)), Ok(anchor)) if known.number > anchor.number => Ok(Some(known)),
            (_, Ok(anchor)) => Ok(Some(anchor)),
            (Ok(Some(known)), Err(_)) => Ok(Some(known)),
            (_, Err(source)) => Err(JournalError::Unreadable { source }),
        };
    }
    Ok(found?.map(|anchor| (file, anchor)))
}

/// Removes the journal, durably. The file goes first: a folder without it holds nothing.
pub(super) fn remove(storage: &dyn Storage) -> Result<(), StorageError> {
    let folder = Path::new(JOURNAL_DIRECTORY);
    match storage.list(folder) {
        Err(error) if error.is_not_found() => return Ok(()),
        listed => listed?,
    };
    for path in [JOURNAL, UNFINISHED] {
        remove_if_there(storage, Path::new(path))?;
    }
    storage.sync_dir(folder)?;
    storage.remove_dir(folder)?;
    storage.sync_dir(Path::new(""))
}
