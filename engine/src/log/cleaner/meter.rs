//! Progress of a cleaning, and the moments at which it can be held up or given up.

use super::{
    claim::{Claim, REVOKED},
    options::{CleanerControl, CleanerProgress},
};
use crate::log::LogError;

/// Reports progress and asks whether to go on, about once for each buffer.
pub(super) struct Meter<'a> {
    control: &'a mut dyn FnMut(CleanerProgress) -> CleanerControl,
    claim: &'a Claim,
    progress: CleanerProgress,
    unreported: u64,
    interval: u64,
}

impl<'a> Meter<'a> {
    /// Reports after so many bytes read and written.
    pub(super) fn new(
        control: &'a mut dyn FnMut(CleanerProgress) -> CleanerControl,
        claim: &'a Claim,
        interval_bytes: usize,
    ) -> Self {
        let interval = u64::try_from(interval_bytes).unwrap_or(u64::MAX);
        Self { control, claim, progress: CleanerProgress::default(), unreported: 0, interval }
    }

    pub(super) fn read(&mut self, bytes: usize) -> Result<(), LogError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.progress.bytes_read = self.progress.bytes_read.saturating_add(bytes);
        self.count(bytes)
    }

    pub(super) fn wrote(&mut self, bytes: u64) -> Result<(), LogError> {
        self.progress.bytes_written = self.progress.bytes_written.saturating_add(bytes);
        self.count(bytes)
    }

    fn count(&mut self, bytes: u64) -> Result<(), LogError> {
        self.unreported = self.unreported.saturating_add(bytes);
        if self.unreported < self.interval { Ok(()) } else { self.report() }
    }

    pub(super) fn report(&mut self) -> Result<(), LogError> {
        self.unreported = 0;
        if self.claim.is_revoked() {
            return Err(LogError::CleaningAborted { why: REVOKED });
        }
        match (self.control)(self.progress) {
            CleanerControl::Continue => Ok(()),
            CleanerControl::Abort => Err(LogError::CleaningAborted { why: "its host asked for it" }),
        }
    }
}
