//! Compaction: of each key the last value stays, the rest of the log goes.
//!
//! A cleaning has three parts. [`Log::begin_cleaning`] takes what it needs of the log; [`Cleaning::run`] reads the dirty
//! part into a map of last offsets, then everything up to its end, and writes what stays into new segments, which takes
//! long and does not need the log; [`Log::finish_cleaning`] puts them in place of the old ones, which takes a few
//! renames. So the log takes appends and is read all the time. Files and answers are those of Kafka's `Cleaner`.
//!
//! Keeps: offsets never change; the bytes of a slice that a reader holds never change; a damaged batch is reported and
//! never rewritten; until `finish_cleaning` the log is as it was.

mod claim;
mod filter;
mod group;
mod meter;
mod offset_map;
mod options;
mod output;
mod pass;
mod range;
mod rewriting;
pub(in crate::log) mod swap;
mod transactions;
mod unsynced;

pub(in crate::log) use claim::Claim;
pub use options::{CleanerControl, CleanerOptions, CleanerProgress, CleanerStats, Removed, RemovedRecords};
pub use pass::{Cleaned, Cleaning};
pub use range::LogToClean;

use super::{Log, LogError};
use crate::{
    format::names::{FileName, Suffix},
    segment::{Segment, SegmentError},
    storage::StorageError,
    types::{Offset, Timestamp},
};
use range::{LogFacts, SegmentFacts};
use std::sync::Arc;

impl Log {
    /// What a cleaning of the log would take, from where the last one ended (`LogCleanerManager.cleanableOffsets`,
    /// `LogToClean`). Reads a header of each dirty segment.
    ///
    /// # Errors
    /// [`LogError::Storage`] and [`LogError::Segment`] when a dirty segment cannot be read.
    pub fn log_to_clean(&self, checkpoint: Option<Offset>, now_ms: Timestamp) -> Result<LogToClean, LogError> {
        let view = self.shared.view();
        let active = self.active()?;
        let facts = LogFacts {
            checkpoint,
            log_start: view.log_start,
            last_stable: view.last_stable(),
            log_end: view.log_end.offset,
            active_base: active.base_offset(),
            active_size: active.size(),
        };
        let config = self.config();
        let plain = |segment: &Arc<Segment>| SegmentFacts {
            base_offset: segment.base_offset(),
            size: segment.size(),
            largest_timestamp: None,
            first_timestamp: None,
        };
        let mut sealed: Vec<_> = view.segments().iter().map(plain).collect();
        sealed.pop();
        let (first_dirty, _) = range::first_dirty(&facts);
        let clean = sealed.len().saturating_sub(range::from_floor(&sealed, first_dirty).len());
        for (known, segment) in sealed.iter_mut().zip(view.segments().iter()).skip(clean) {
            known.first_timestamp = self.first_timestamp(segment)?;
            if config.min_compaction_lag_ms > 0 {
                known.largest_timestamp = Some(self.largest_timestamp(segment)?);
            }
        }
        Ok(range::decide(&facts, &sealed, &config, now_ms))
    }

    /// Greatest timestamp in a segment; when it has none, the time of its last modification.
    fn largest_timestamp(&self, segment: &Segment) -> Result<Timestamp, LogError> {
        if let Some(greatest) = segment.greatest_timestamp()? {
            return Ok(greatest.timestamp);
        }
        let failed = |error| SegmentError::from(StorageError::new("read", &segment.files().log(), error));
        Ok(self.storage().modified_ms(&*segment.log()?).map_err(failed)?)
    }

    /// Begins a cleaning. There is at most one: it ends with [`Log::finish_cleaning`], or when what this returns is
    /// dropped. A truncation ends it as well, and so does the end of the log.
    ///
    /// # Errors
    /// [`LogError::InvalidArgument`] while another one goes on, or when the log has changed so that the range is no
    /// longer right; [`LogError::Poisoned`]; [`LogError::Storage`] when the disk refuses to make the log's end durable: the
    /// log then takes no more appends.
    pub fn begin_cleaning(&mut self, to_clean: &LogToClean, now_ms: Timestamp) -> Result<Cleaning, LogError> {
        self.check_writable()?;
        if self.cleaning.strong_count() > 0 {
            let why = "another cleaning of the log goes on";
            return Err(LogError::InvalidArgument {
                what: "first dirty offset",
                value: to_clean.first_dirty_offset,
                why,
            });
        }
        self.end_roll()?;
        let view = self.shared.view();
        let (first_dirty, end) = (to_clean.first_dirty_offset, to_clean.first_uncleanable_offset);
        let is_base = view.segments().floor(end).is_some_and(|segment| segment.base_offset() == end);
        let last_stable = view.last_stable();
        if !is_base || end > last_stable.max(first_dirty) || first_dirty < view.log_start {
            let (what, value) = ("first uncleanable offset", end);
            return Err(LogError::InvalidArgument { what, value, why: "the log has changed: ask again what to clean" });
        }
        self.remove_cleaned_files()?;
        // The last batch of a producer is what stays for it: it must not get lost after the one before it went. The
        // recovery point stays, as in Kafka, which takes that risk.
        self.active()?.sync().map_err(|error| self.sync_failed(error))?;
        let claim = Arc::new(Claim::default());
        self.cleaning = Arc::downgrade(&claim);
        Ok(Cleaning {
            storage: Arc::clone(&self.shared.storage),
            dir: self.dir.clone(),
            config: self.config(),
            segments: view.segments().clone(),
            log_start: view.log_start,
            first_dirty: to_clean.first_dirty_offset,
            first_uncleanable: to_clean.first_uncleanable_offset,
            last_records: self.producers.last_records(),
            now_ms,
            claim,
        })
    }

    /// Outputs that a cleaning left behind would make recovery undo the swap of this one.
    fn remove_cleaned_files(&self) -> Result<(), LogError> {
        for entry in self.storage().list(&self.dir)? {
            let name = entry.name.to_string_lossy();
            if matches!(FileName::parse(&name), FileName::Segment { suffix: Suffix::Cleaned, .. }) {
                self.storage().unlink(&self.dir.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// Puts the outputs of a cleaning in the place of their sources. The sources' files are renamed and go after
    /// `file.delete.delay.ms`, see [`Log::remove_retired_files`].
    ///
    /// # Errors
    /// [`LogError::CleaningAborted`] when the log is no longer made of the segments that were read: the outputs are
    /// removed and the log stays as it is. [`LogError::Storage`] when the disk fails in between: the log then takes no
    /// more writes until it is opened again, which finishes or undoes the change.
    pub fn finish_cleaning(&mut self, cleaned: Cleaned, now_ms: Timestamp) -> Result<CleanerStats, LogError> {
        self.check_writable()?;
        if !self.is_current(&cleaned) {
            let removed = cleaned
                .claim
                .while_held(|| cleaned.outputs.iter().try_for_each(|output| output.remove(self.storage())));
            // What cannot be removed now, or may not, is removed by the next cleaning or open.
            drop(removed);
            return Err(LogError::CleaningAborted { why: "the log has changed meanwhile" });
        }
        for output in &cleaned.outputs {
            let swapped = self.swap(output, now_ms);
            swapped.map_err(|error| self.poison(error))?;
        }
        Ok(cleaned.stats)
    }

    /// Whether outputs are this log's, and made of segments that it still has.
    fn is_current(&self, cleaned: &Cleaned) -> bool {
        let known = self.cleaning.upgrade().is_some_and(|claim| Arc::ptr_eq(&claim, &cleaned.claim));
        let segments = self.shared.read().segments().clone();
        let active = segments.active().map(|active| active.base_offset());
        let mut sources = cleaned.outputs.iter().flat_map(|output| &output.sources);
        known
            && !cleaned.claim.is_revoked()
            && sources.all(|source| {
                let same = segments.floor(source.base_offset()).is_some_and(|found| Arc::ptr_eq(found, source));
                same && Some(source.base_offset()) != active
            })
    }

    /// Keeps a cleaning that goes on from changing names and from being finished.
    pub(super) fn revoke_cleaning(&self) {
        if let Some(claim) = self.cleaning.upgrade() {
            claim.revoke();
        }
    }

    /// A whole cleaning in one call, during which the log does nothing else.
    ///
    /// # Errors
    /// As [`Log::begin_cleaning`], [`Cleaning::run`] and [`Log::finish_cleaning`].
    pub fn clean(
        &mut self,
        to_clean: &LogToClean,
        options: &CleanerOptions,
        now_ms: Timestamp,
        control: &mut dyn FnMut(CleanerProgress) -> CleanerControl,
    ) -> Result<CleanerStats, LogError> {
        let cleaned = self.begin_cleaning(to_clean, now_ms)?.run(options, control)?;
        self.finish_cleaning(cleaned, now_ms)
    }
}
