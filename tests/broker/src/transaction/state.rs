//! The states of a transaction, and the versions of the protocol by which clients run it.

/// The state of a transactional id (`TransactionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// A producer has the id; nothing was written in a transaction yet.
    Empty,
    /// Partitions belong to the transaction.
    Ongoing,
    /// It is going to be committed; markers are being written.
    PrepareCommit,
    /// It is going to be aborted; markers are being written.
    PrepareAbort,
    /// It was committed on all partitions.
    CompleteCommit,
    /// It was aborted on all partitions.
    CompleteAbort,
    /// The id is being forgotten. Never in the log: there a record without a value stands for it.
    Dead,
    /// An older producer is being fenced. Never in the log, and never a state of its own here: fencing and the beginning of
    /// the abort are one step.
    PrepareEpochFence,
}

impl State {
    /// All states, by their numbers.
    pub(crate) const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// The number in the log.
    pub(crate) fn id(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
            Self::Dead => 6,
            Self::PrepareEpochFence => 7,
        }
    }

    /// The state with this number.
    pub(crate) fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// The name that DescribeTransactions and ListTransactions give it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the outcome is decided and its markers are being written.
    pub(crate) fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }

    /// Whether nothing is open: the id may begin a transaction, get a new producer, or expire
    /// (`TransactionState.isExpirationAllowed`).
    pub(crate) fn is_at_rest(self) -> bool {
        matches!(self, Self::Empty | Self::CompleteCommit | Self::CompleteAbort)
    }

    /// Whether the log may have this state right after that one (`TransactionState.validPreviousStates`).
    pub(crate) fn may_follow(self, previous: Self) -> bool {
        match self {
            Self::Empty | Self::Dead => previous.is_at_rest(),
            Self::Ongoing | Self::PrepareAbort => previous.is_at_rest() || previous == Self::Ongoing,
            Self::PrepareCommit | Self::PrepareEpochFence => previous == Self::Ongoing,
            Self::CompleteCommit => previous == Self::PrepareCommit,
            Self::CompleteAbort => previous == Self::PrepareAbort,
        }
    }
}

/// The version of the transaction protocol (`TransactionVersion`, feature `transaction.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) enum TransactionVersion {
    /// As in the beginning.
    #[default]
    V0,
    /// Records in `__transaction_state` are flexible.
    V1,
    /// Every transaction has an epoch of its own, and partitions are added by what is written to them (KIP-890).
    V2,
}

impl TransactionVersion {
    /// The feature's level.
    pub(crate) fn level(self) -> i16 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version of a level; later ones are taken for the newest that is known.
    pub(crate) fn from_level(level: i16) -> Self {
        match level {
            ..=0 => Self::V0,
            1 => Self::V1,
            2.. => Self::V2,
        }
    }

    /// Whether every end of a transaction bumps the producer's epoch.
    pub(crate) fn supports_epoch_bump(self) -> bool {
        self >= Self::V2
    }

    /// The version of the values in `__transaction_state`.
    pub(crate) fn log_value_version(self) -> i16 {
        if self >= Self::V1 { 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_found_by_number_and_by_name() {
        for (id, state) in (0_i8..).zip(State::ALL) {
            assert_eq!((state.id(), State::from_id(id)), (id, Some(state)));
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!((State::from_id(8), State::from_id(-1), State::from_name("ongoing")), (None, None, None));
    }

    #[test]
    fn only_what_was_prepared_completes_and_only_an_open_transaction_commits() {
        for state in State::ALL {
            assert_eq!(State::CompleteCommit.may_follow(state), state == State::PrepareCommit);
            assert_eq!(State::CompleteAbort.may_follow(state), state == State::PrepareAbort);
            assert_eq!(State::PrepareCommit.may_follow(state), state == State::Ongoing);
            assert_eq!(State::Dead.may_follow(state), state.is_at_rest());
        }
    }
}
