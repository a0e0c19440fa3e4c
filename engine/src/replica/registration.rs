//! What the controller publishes: the partition's replicas and leader, and the brokers.

use super::{BrokerEpoch, BrokerId, PartitionEpoch};
use crate::types::LeaderEpoch;
use std::collections::{BTreeMap, BTreeSet};

/// A partition as the controller registers it (`PartitionRegistration`).
///
/// ```
/// use duramen::replica::PartitionRegistration;
/// let partition = PartitionRegistration::new(vec![1, 2, 3]);
/// assert_eq!(partition.leader, Some(1));
/// assert_eq!(partition.isr, [1, 2, 3].into());
/// assert_eq!(partition.out_of_sync(), [].into());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// Rises with every change.
    pub partition_epoch: PartitionEpoch,
    /// Rises with every election.
    pub leader_epoch: LeaderEpoch,
    /// The leader; `None` while there is none to elect.
    pub leader: Option<BrokerId>,
    /// The assigned replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// The committed in-sync replicas, a part of the assigned ones.
    pub isr: BTreeSet<BrokerId>,
}

impl PartitionRegistration {
    /// A new partition: the first replica leads, and all are in sync, since all are empty.
    #[must_use]
    pub fn new(replicas: Vec<BrokerId>) -> Self {
        let isr = replicas.iter().copied().collect();
        Self { partition_epoch: 0, leader_epoch: 0, leader: replicas.first().copied(), replicas, isr }
    }

    /// The assigned replicas that are not in sync.
    #[must_use]
    pub fn out_of_sync(&self) -> BTreeSet<BrokerId> {
        self.replicas.iter().copied().filter(|replica| !self.isr.contains(replica)).collect()
    }
}

/// A broker as the controller registers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Its present incarnation.
    pub epoch: BrokerEpoch,
    /// Whether it has lost touch with the controller, or has not caught up with the metadata yet.
    pub fenced: bool,
    /// Whether it is shutting down in order.
    pub in_controlled_shutdown: bool,
}

impl BrokerRegistration {
    /// A broker that is alive.
    #[must_use]
    pub fn alive(epoch: BrokerEpoch) -> Self {
        Self { epoch, fenced: false, in_controlled_shutdown: false }
    }
}

/// The registered brokers, as this broker's metadata has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brokers(BTreeMap<BrokerId, BrokerRegistration>);

impl Brokers {
    /// Registers a broker, or changes its registration.
    pub fn insert(&mut self, broker: BrokerId, registration: BrokerRegistration) {
        self.0.insert(broker, registration);
    }

    /// Forgets a broker.
    pub fn remove(&mut self, broker: BrokerId) {
        self.0.remove(&broker);
    }

    /// Incarnation of a broker that is registered and not fenced (`getAliveBrokerEpoch`).
    #[must_use]
    pub fn alive_epoch(&self, broker: BrokerId) -> Option<BrokerEpoch> {
        self.0.get(&broker).filter(|registration| !registration.fenced).map(|registration| registration.epoch)
    }

    /// Whether a broker is registered and not fenced.
    #[must_use]
    pub fn is_alive(&self, broker: BrokerId) -> bool {
        self.alive_epoch(broker).is_some()
    }

    /// Whether a broker whose last fetch carried this epoch may join an ISR: it is not fenced, does not shut down, and
    /// is still the incarnation that fetched (`Partition.isReplicaIsrEligible`). A fetch without an epoch passes.
    #[must_use]
    pub fn is_isr_eligible(&self, broker: BrokerId, fetched_with: Option<BrokerEpoch>) -> bool {
        self.0.get(&broker).is_some_and(|registration| {
            !registration.fenced
                && !registration.in_controlled_shutdown
                && fetched_with.is_none_or(|epoch| epoch == registration.epoch)
        })
    }
}

impl FromIterator<(BrokerId, BrokerRegistration)> for Brokers {
    fn from_iter<T: IntoIterator<Item = (BrokerId, BrokerRegistration)>>(brokers: T) -> Self {
        Self(brokers.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eligible_is_who_is_alive_stays_and_is_the_one_that_fetched() {
        let alive = BrokerRegistration::alive(7);
        for (registration, fetched_with, eligible) in [
            (alive, Some(7), true),
            (alive, None, true),
            (alive, Some(6), false),
            (BrokerRegistration { fenced: true, ..alive }, Some(7), false),
            (BrokerRegistration { in_controlled_shutdown: true, ..alive }, Some(7), false),
        ] {
            let brokers = Brokers::from_iter([(1, registration)]);
            assert_eq!(brokers.is_isr_eligible(1, fetched_with), eligible, "{registration:?} {fetched_with:?}");
        }
        assert!(!Brokers::default().is_isr_eligible(1, None), "it is not registered");
    }
}
