//! The producers as of an offset, from the newest snapshot below it and the batches that follow.

use super::{LogError, producers::ProducerState, recovery, snapshots::Snapshots, state::Segments};
use crate::{
    storage::Storage,
    types::{Offset, Timestamp},
};

/// What a rebuild goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rebuild<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) segments: &'a Segments,
    pub(super) log_start: Offset,
    pub(super) now_ms: Timestamp,
    pub(super) expiration_ms: i64,
}

impl Rebuild<'_> {
    /// Brings the producers to `end`, exclusive, and wants snapshots at the last two bases and there
    /// (`UnifiedLog.rebuildProducerState`).
    pub(super) fn run(
        &self,
        producers: &mut ProducerState,
        snapshots: &mut Snapshots,
        end: Offset,
    ) -> Result<(), LogError> {
        let nothing_to_find = producers.is_empty() && producers.end_offset() >= end;
        self.reload(producers, snapshots, end)?;
        if end > producers.end_offset() && !nothing_to_find {
            self.replay(producers, snapshots, end)?;
        }
        producers.set_end_offset(end);
        snapshots.take(producers);
        Ok(())
    }

    /// Starts without producers, and wants empty snapshots where there should have been some.
    pub(super) fn forget(&self, producers: &mut ProducerState, snapshots: &mut Snapshots, end: Offset) {
        for offset in self.last_two_bases().into_iter().chain([end]) {
            producers.set_end_offset(offset);
            snapshots.take(producers);
        }
    }

    fn last_two_bases(&self) -> Vec<Offset> {
        let mut bases = self.segments.bases();
        bases.split_off(bases.len().saturating_sub(2))
    }

    /// Goes back to the newest snapshot, unless the producers are as of `end` already
    /// (`ProducerStateManager.truncateAndReload`).
    fn reload(&self, producers: &mut ProducerState, snapshots: &mut Snapshots, end: Offset) -> Result<(), LogError> {
        // One from before the first segment cannot be brought up to it: the batches between, markers perhaps, are gone.
        let first = self.segments.first().map_or(end, |first| first.base_offset());
        snapshots.retain(|offset| offset <= end && offset > self.log_start && offset >= first);
        if end == producers.end_offset() {
            producers.on_log_start(self.log_start);
            snapshots.on_log_start(self.log_start);
            return Ok(());
        }
        match snapshots.load_newest(self.log_start)? {
            Some((offset, entries)) => producers.reset_to(&entries, offset, self.now_ms, self.expiration_ms),
            None => producers.reset_to(&[], self.log_start, self.now_ms, self.expiration_ms),
        }
        Ok(())
    }

    fn replay(&self, producers: &mut ProducerState, snapshots: &mut Snapshots, end: Offset) -> Result<(), LogError> {
        let last_two = self.last_two_bases();
        let first = self.segments.floor(producers.end_offset()).map_or(Offset::MIN, |segment| segment.base_offset());
        for segment in self.segments.from(first).take_while(|segment| segment.base_offset() < end) {
            let start = segment.base_offset().max(producers.end_offset()).max(self.log_start);
            producers.set_end_offset(start);
            if last_two.contains(&segment.base_offset()) {
                snapshots.take(producers);
            }
            let mut completed = Vec::new();
            recovery::walk(self.storage, segment, start..end, &mut |header, marker| {
                completed.extend(producers.note(header, marker));
            })?;
            for txn in completed {
                producers.complete(txn);
            }
        }
        Ok(())
    }
}
