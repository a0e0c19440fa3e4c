//! Who may name files with `.cleaned` at the end: at most one cleaning, until the log needs the names itself.
//!
//! A cleaning works beside the log's writer. A truncation uses the same suffix, and recovery draws conclusions from it,
//! so the writer revokes the claim first: from then on the cleaning neither makes, renames nor removes a file. So does a log
//! that is closed or deleted: the names are the next log's of this partition.

use super::super::LogError;
use std::sync::{Mutex, PoisonError};

/// Why a cleaning whose claim was revoked ends.
pub(super) const REVOKED: &str = "the log was truncated, closed or deleted";

/// The right to the names of one log.
#[derive(Debug, Default)]
pub(in crate::log) struct Claim {
    /// Guards whether the claim is revoked; held while a cleaning changes names, which takes no more than a few calls.
    revoked: Mutex<bool>,
}

impl Claim {
    /// Waits until no name is being changed and allows no more.
    pub(in crate::log) fn revoke(&self) {
        *self.revoked.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    pub(super) fn is_revoked(&self) -> bool {
        *self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes names, if that is still allowed.
    pub(super) fn while_held<T>(&self, change: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if *revoked { Err(LogError::CleaningAborted { why: REVOKED }) } else { change() }
    }
}
