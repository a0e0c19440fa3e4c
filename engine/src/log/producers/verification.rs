//! Tokens by which a transaction's first batch proves that its coordinator was asked (KIP-890).

use crate::types::{ProducerEpoch, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};

/// Proof that a verification began at this log, since it was opened, and was not ended by a batch or a marker since.
///
/// The host gets one from [`crate::Log::start_transaction_verification`], asks the transaction's coordinator whether the
/// partition belongs to the transaction, and passes it on with the append. Follows `VerificationGuard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerificationGuard(u64);

/// Never handed out twice by a process, so that none outlives the log that it is for.
static NEXT_GUARD: AtomicU64 = AtomicU64::new(1);

/// A verification that has begun (`VerificationStateEntry`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verification {
    pub(super) guard: VerificationGuard,
    pub(super) begun_ms: Timestamp,
    pub(super) epoch: ProducerEpoch,
    /// The lowest sequence asked about in this epoch: no later one may open the transaction before it.
    pub(super) lowest_sequence: i32,
    /// Whether the client's epoch is bumped by every marker (transaction version 2).
    pub(super) supports_epoch_bump: bool,
}

impl Verification {
    pub(super) fn begin(epoch: ProducerEpoch, sequence: i32, supports_epoch_bump: bool, now_ms: Timestamp) -> Self {
        let guard = VerificationGuard(NEXT_GUARD.fetch_add(1, Ordering::Relaxed));
        Self { guard, begun_ms: now_ms, epoch, lowest_sequence: sequence, supports_epoch_bump }
    }

    /// A further question of the same producer.
    pub(super) fn ask_again(&mut self, epoch: ProducerEpoch, sequence: i32) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.lowest_sequence = sequence;
        } else if epoch == self.epoch {
            self.lowest_sequence = self.lowest_sequence.min(sequence);
        }
    }

    /// Whether a batch or marker of this epoch leaves the verification as it is: with epoch bumps the marker of the last
    /// transaction may come after the next one was asked about.
    pub(super) fn survives(&self, is_control: bool, epoch: ProducerEpoch) -> bool {
        self.supports_epoch_bump && is_control && epoch == self.epoch
    }
}
