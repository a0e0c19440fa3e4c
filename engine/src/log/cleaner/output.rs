//! The new segment of a cleaning, under names that end in `.cleaned` until it is put in its place.
//!
//! Batches are gathered and written in large pieces; index entries go where an append of the same batches would have put
//! them. The disk is asked to begin with every piece as soon as it is written; what makes it durable is the sync of the files
//! that [`OutputWriter::finish`] gives back.

use super::{super::LogError, claim::Claim, rewriting::Failure};
use crate::{
    config::LogConfig,
    format::{
        batch::{Batch, BatchHeader},
        index_entry::AbortedTxn,
        names::Suffix,
        rewrite::{self, KeptRecord},
    },
    segment::{
        IndexLimits, LiveIndex, MAX_RELATIVE_OFFSET, MAX_SEGMENT_BYTES, Segment, SegmentError, SegmentFiles, TxnIndex,
    },
    storage::{self, Access, File, Storage, StorageError, remove_if_there},
    types::{Offset, Timestamp},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A new segment, and those that it replaces.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) files: SegmentFiles,
    pub(super) base_offset: Offset,
    pub(super) sources: Vec<Arc<Segment>>,
    pub(super) size: u64,
    pub(super) has_txns: bool,
}

impl Output {
    /// Name of one of its files with a suffix.
    pub(super) fn named(&self, path: &Path, suffix: Suffix) -> PathBuf {
        self.files.with_suffix(path, suffix)
    }

    /// Removes what there is of it before it was renamed.
    pub(super) fn remove(&self, storage: &dyn Storage) -> Result<(), LogError> {
        for path in self.files.all() {
            remove_if_there(storage, &self.named(&path, Suffix::Cleaned))?;
        }
        Ok(())
    }
}

/// An output whose files are written and not yet durable.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes of the log.
    pub(super) size: u64,
    /// Whether there are aborted transactions, and so a file of them.
    pub(super) has_txns: bool,
    pub(super) files: Vec<(PathBuf, File)>,
}

/// Writes the batches of one output.
#[derive(Debug)]
pub(super) struct OutputWriter {
    storage: Arc<dyn Storage>,
    files: SegmentFiles,
    base_offset: Offset,
    log: File,
    index: LiveIndex,
    /// Bytes in the file; those in the buffer come behind them.
    written: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
    scratch: Vec<u8>,
}

impl OutputWriter {
    pub(super) fn create(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        base_offset: Offset,
        config: &LogConfig,
        buffer_bytes: usize,
    ) -> Result<(Self, Output), LogError> {
        let files = || SegmentFiles::new(dir, base_offset);
        let output = Output { files: files(), base_offset, sources: Vec::new(), size: 0, has_txns: false };
        output.remove(&**storage)?;
        let log = storage.open(&output.named(&output.files.log(), Suffix::Cleaned), Access::Create)?;
        let writer = Self {
            storage: Arc::clone(storage),
            files: files(),
            base_offset,
            log,
            index: LiveIndex::new(base_offset, IndexLimits::from_config(config)),
            written: 0,
            buffer: Vec::new(),
            buffer_bytes,
            scratch: Vec::new(),
        };
        Ok((writer, output))
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.written.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(u64::MAX))
    }

    /// Adds a batch as it is; its bytes.
    pub(super) fn copy(&mut self, batch: &Batch<'_>) -> Result<u64, Failure> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(batch.bytes());
        self.add(start)
    }

    /// Adds a batch with fewer records, or another delete horizon; its new bytes.
    pub(super) fn rebuild(
        &mut self,
        batch: &Batch<'_>,
        records: &[KeptRecord<'_>],
        delete_horizon_ms: Option<Timestamp>,
    ) -> Result<u64, Failure> {
        let start = self.buffer.len();
        rewrite::rebuild(batch, records, delete_horizon_ms, &mut self.scratch, &mut self.buffer)?;
        self.add(start)
    }

    /// Adds a batch without records; its new bytes.
    pub(super) fn write_empty(&mut self, batch: &Batch<'_>) -> Result<u64, Failure> {
        let start = self.buffer.len();
        rewrite::empty(batch, &mut self.buffer)?;
        self.add(start)
    }

    /// Takes note of the batch that was gathered from byte `start` of the buffer on.
    fn add(&mut self, start: usize) -> Result<u64, Failure> {
        let header = BatchHeader::decode(self.buffer.get(start..).unwrap_or_default())?;
        let position = self.written.saturating_add(u64::try_from(start).unwrap_or(u64::MAX));
        if header.last_offset().saturating_sub(self.base_offset) > MAX_RELATIVE_OFFSET {
            let why = "a segment's offsets leave its range: the log has to be opened again, which splits it";
            return Err(Failure::Log(LogError::CleaningAborted { why }));
        }
        if self.size() > MAX_SEGMENT_BYTES {
            let why = "its output would be larger than a segment can be";
            return Err(Failure::Log(LogError::CleaningAborted { why }));
        }
        self.index.observe(&header, u32::try_from(position).unwrap_or(u32::MAX));
        if self.buffer.len() >= self.buffer_bytes {
            self.flush()?;
        }
        Ok(u64::try_from(header.size()).unwrap_or(u64::MAX))
    }

    fn flush(&mut self) -> Result<(), LogError> {
        let written = storage::write_at(&*self.storage, &self.log, self.written, &self.buffer);
        written.map_err(|error| self.failed("write", error))?;
        let size = self.size();
        self.storage.begin_writing_out(&self.log, self.written, size.saturating_sub(self.written));
        self.written = size;
        self.buffer.clear();
        Ok(())
    }

    fn failed(&self, operation: &'static str, error: std::io::Error) -> LogError {
        let path = self.files.with_suffix(&self.files.log(), Suffix::Cleaned);
        SegmentError::from(StorageError::new(operation, &path, error)).into()
    }

    /// Writes what is left and the indexes with their last entries. The log's modification time becomes that of its
    /// newest source, by which retention counts.
    pub(super) fn finish(
        mut self,
        claim: &Claim,
        aborted: Vec<AbortedTxn>,
        modified_ms: Timestamp,
    ) -> Result<Written, LogError> {
        self.flush()?;
        self.index.seal();
        let has_txns = !aborted.is_empty();
        let mut derived = vec![
            (self.files.offset_index(), self.index.encode_offsets()?),
            (self.files.time_index(), self.index.encode_times()?),
        ];
        if has_txns {
            derived.push((self.files.txn_index(), TxnIndex::new(aborted).encode()));
        }
        let dated = self.storage.set_modified_ms(&self.log, modified_ms);
        dated.map_err(|error| self.failed("set the modification time of", error))?;
        let log = self.files.with_suffix(&self.files.log(), Suffix::Cleaned);
        let mut files = vec![(log, self.log)];
        for (path, bytes) in &derived {
            let path = self.files.with_suffix(path, Suffix::Cleaned);
            let file = claim.while_held(|| Ok(self.storage.open(&path, Access::Create)?))?;
            storage::write_at(&*self.storage, &file, 0, bytes)
                .map_err(|error| LogError::from(SegmentError::from(StorageError::new("write", &path, error))))?;
            files.push((path, file));
        }
        Ok(Written { size: self.written, has_txns, files })
    }
}
