//! What a leader asks of a producer's batch or marker before it is written. Pure.
//!
//! Follows `ProducerAppendInfo` and the checks in front of it in `UnifiedLog.analyzeAndValidateProducerState`. A follower
//! asks nothing: its leader has.

use super::{
    ProducerState,
    entry::{ProducedBatch, ProducerEntry},
    verification::{Verification, VerificationGuard},
};
use crate::{
    format::{
        batch::{BatchHeader, ProducerIdentity},
        control::EndTxnMarker,
    },
    log::{AppendOrigin, LogError},
    types::ProducerEpoch,
};

/// What the host says of an append.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Claims {
    pub(in crate::log) origin: AppendOrigin,
    pub(in crate::log) guard: Option<VerificationGuard>,
    pub(in crate::log) transaction_version: i16,
    /// Whether the host verifies transactions.
    pub(in crate::log) verification_enabled: bool,
}

impl ProducerState {
    /// Checks a batch of a producer. A duplicate is no error: the batch that it repeats is the answer.
    pub(in crate::log) fn check(
        &self,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        claims: &Claims,
    ) -> Result<Option<ProducedBatch>, LogError> {
        let Some(identity) = header.producer() else {
            return Ok(None);
        };
        let entry = self.entry(identity.id);
        if claims.origin == AppendOrigin::Client
            && let Some(duplicate) = entry.and_then(|entry| entry.find_duplicate(&identity, header.last_sequence()))
        {
            return Ok(Some(duplicate));
        }
        let verification = self.verification(identity.id);
        self.check_verified(header, &identity, verification, claims)?;
        match marker {
            Some(_) if claims.transaction_version < 0 => {
                let (value, why) = (i64::from(claims.transaction_version), "it is negative");
                return Err(LogError::InvalidArgument { what: "transaction version", value, why });
            }
            Some(marker) => check_marker(entry, &identity, marker, claims.transaction_version)?,
            None if header.attributes().is_control() => {}
            None => check_data(entry, &identity, header, verification, claims.origin)?,
        }
        Ok(None)
    }

    /// A transaction begins only after its coordinator was asked.
    fn check_verified(
        &self,
        header: &BatchHeader,
        identity: &ProducerIdentity,
        verification: Option<&Verification>,
        claims: &Claims,
    ) -> Result<(), LogError> {
        let asks = matches!(claims.origin, AppendOrigin::Client | AppendOrigin::Coordinator);
        if !asks || !header.attributes().is_transactional() || self.has_ongoing_transaction(identity.id, identity.epoch)
        {
            return Ok(());
        }
        if let Some(entry) = self.entry(identity.id).filter(|entry| identity.epoch < entry.epoch) {
            return Err(invalid_epoch(identity, entry.epoch));
        }
        let proven = verification.is_some_and(|verification| claims.guard == Some(verification.guard));
        if claims.verification_enabled && !header.attributes().is_control() && !proven {
            let why = "the transaction was not verified with its coordinator";
            return Err(LogError::InvalidTxnState { producer_id: identity.id, why });
        }
        Ok(())
    }
}

fn check_data(
    entry: Option<&ProducerEntry>,
    identity: &ProducerIdentity,
    header: &BatchHeader,
    verification: Option<&Verification>,
    origin: AppendOrigin,
) -> Result<(), LogError> {
    if let Some(entry) = entry.filter(|entry| identity.epoch < entry.epoch) {
        return Err(invalid_epoch(identity, entry.epoch));
    }
    if origin == AppendOrigin::Client {
        check_sequence(entry, identity, verification)?;
    }
    let in_transaction = entry.is_some_and(|entry| entry.current_txn_first_offset.is_some());
    if in_transaction && !header.attributes().is_transactional() {
        let why = "the producer's transaction is open, and the batch does not belong to it";
        return Err(LogError::InvalidTxnState { producer_id: identity.id, why });
    }
    Ok(())
}

fn check_sequence(
    entry: Option<&ProducerEntry>,
    identity: &ProducerIdentity,
    verification: Option<&Verification>,
) -> Result<(), LogError> {
    let Some(sequence) = identity.base_sequence else {
        return Ok(());
    };
    let out_of_order = |expected| {
        let (producer_id, producer_epoch) = (identity.id, identity.epoch);
        Err(LogError::OutOfOrderSequence { producer_id, producer_epoch, sequence, expected })
    };
    if let Some(verification) = verification {
        let unknown = entry.is_none_or(ProducerEntry::is_empty);
        if verification.supports_epoch_bump && unknown && sequence != 0 {
            return out_of_order(0);
        }
        if sequence > verification.lowest_sequence {
            return out_of_order(verification.lowest_sequence);
        }
    }
    // Nobody knows where an unknown producer is.
    let Some(entry) = entry.filter(|entry| entry.epoch >= 0) else {
        return Ok(());
    };
    let expected = if entry.epoch == identity.epoch { entry.last_sequence().map_or(0, next_sequence) } else { 0 };
    if sequence == expected { Ok(()) } else { out_of_order(expected) }
}

/// After 2147483647 comes 0.
fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

fn check_marker(
    entry: Option<&ProducerEntry>,
    identity: &ProducerIdentity,
    marker: EndTxnMarker,
    transaction_version: i16,
) -> Result<(), LogError> {
    let Some(entry) = entry else {
        return Ok(());
    };
    let stale = if transaction_version >= 2 { identity.epoch <= entry.epoch } else { identity.epoch < entry.epoch };
    // With version 2 the coordinator bumps the epoch before it writes the marker: the same epoch again is a repetition,
    // which is harmless once the transaction is closed, and all that is left at the last epoch.
    let repeated = transaction_version >= 2
        && identity.epoch == entry.epoch
        && (entry.current_txn_first_offset.is_none() || identity.epoch == ProducerEpoch::MAX);
    if stale && !repeated {
        return Err(invalid_epoch(identity, entry.epoch));
    }
    match entry.coordinator_epoch {
        Some(known) if known > marker.coordinator_epoch => Err(LogError::TransactionCoordinatorFenced {
            producer_id: identity.id,
            coordinator_epoch: marker.coordinator_epoch,
            known,
        }),
        _ => Ok(()),
    }
}

pub(super) fn invalid_epoch(identity: &ProducerIdentity, known: ProducerEpoch) -> LogError {
    LogError::InvalidProducerEpoch { producer_id: identity.id, producer_epoch: identity.epoch, known }
}
