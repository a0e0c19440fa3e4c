//! Floor 4: the arithmetic of a replicated partition, as values.
//!
//! A partition has replicas on several brokers. The controller names them and elects one of them leader; producers
//! write to the leader, and the followers fetch from it, as consumers do. This floor decides; it does no I/O, owns no
//! log, reads no clock and sends nothing. Time is an argument, the log is an argument ([`LocalOffsets`]), and what is to
//! be sent or done comes back as a value.
//!
//! ```text
//!  assigned replicas (AR)  =  in-sync replicas (ISR)  +  out-of-sync replicas (OSR)
//!
//!                        log start              high watermark     log end
//!  1  leader, in sync       |=======================|##############|        ISR = {1, 2}, OSR = {3}
//!  2  follower, in sync     |=======================|                       = committed: min log end over the ISR
//!  3  follower, lagging     |==============|                                # only appended: consumers do not see it
//! ```
//!
//! What is below the high watermark is in every in-sync replica; a leader elected among these has it. While a change of
//! the ISR is on its way to the controller, the high watermark waits for both the old and the new set: the *maximal* ISR.
//!
//! | who | when | calls |
//! |---|---|---|
//! | any replica | the controller published a change | [`Partition::apply`]: whether it leads or follows |
//! | leader | before an append | [`LeaderState::check_acks`] |
//! | leader | after an append | [`LeaderState::maybe_increment_high_watermark`]; with acks=all a [`DelayedProduce`] waits |
//! | leader | a follower's fetch arrived | [`Partition::check_fetch`], then the read, then [`LeaderState::on_follower_fetch`] |
//! | leader | every half `replica.lag.time.max.ms` | [`LeaderState::maybe_shrink_isr`] |
//! | leader | the controller answered an [`AlterPartition`] | [`LeaderState::on_alter_partition`] |
//! | follower | it begins to follow | [`FetchState::new`] |
//! | follower | the leader answered | [`FetchState::on_records`], [`FetchState::on_truncation`], [`reset_out_of_range`], [`reset_for_batch`] |
//! | controller | a broker came or went | [`PartitionRegistration::elect`] |
//!
//! A fetch acknowledges everything below its offset. Where acknowledged records must survive power loss, a follower
//! flushes what it appended before it calls [`FetchState::on_records`], and a leader counts only the flushed part of its
//! own log; then they survive it on all brokers at once.
//!
//! Whoever changes the high watermark of its log then asks the waiting requests again; nothing here calls out.
//!
//! The words are Kafka's: `kafka.cluster.Partition` and `Replica`, `AbstractFetcherThread`, `DelayedProduce` and the
//! controller's `PartitionChangeBuilder`. The eligible leader replicas of KIP-966 are not here.

mod acks;
mod election;
mod error;
mod fetch;
mod fetch_state;
mod in_sync;
mod leader;
mod partition;
mod registration;
mod replica_state;
mod truncation;

pub use acks::{DelayedProduce, ProduceStatus, RequiredAcks};
pub use election::{Election, UncleanElection};
pub use error::ReplicaError;
pub use fetch::{AdmittedFetch, FetchVerdict, FollowerFetch};
pub use fetch_state::{FetchPhase, FetchState};
pub use in_sync::{AfterAlterPartition, AlterPartition, InSyncReplicas, PartitionAltered};
pub use leader::{FetchEffects, LeaderState};
pub use partition::{Partition, ReplicaConfig, Transition};
pub use registration::{BrokerRegistration, Brokers, PartitionRegistration};
pub use replica_state::ReplicaState;
pub use truncation::{EpochEndOffset, OutOfRangeReset, Truncation, reset_for_batch, reset_out_of_range};

use crate::types::Offset;

/// Number of a broker.
pub type BrokerId = i32;

/// Incarnation of a broker: the controller gives a new one each time the broker registers.
pub type BrokerEpoch = i64;

/// Version of a partition's registration: it rises with every change that the controller makes.
pub type PartitionEpoch = i32;

/// The offsets of the local log that these decisions need, of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalOffsets {
    /// First readable offset, inclusive.
    pub log_start: Offset,
    /// Everything below is committed, exclusive.
    pub high_watermark: Offset,
    /// The next offset to be assigned, exclusive end of the log. A leader that acknowledges only what survives power loss
    /// gives its flushed end ([`crate::LogOffsets::recovery_point`]) where the high watermark is asked for
    /// ([`LeaderState::maybe_increment_high_watermark`], [`LeaderState::on_follower_fetch`]).
    pub log_end: Offset,
}
