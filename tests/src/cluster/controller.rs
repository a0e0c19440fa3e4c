//! A controller that never fails: it registers brokers, elects leaders and publishes a log of metadata, which every
//! broker replays at its own pace.

use super::message::{Body, Message};
use crate::random::Random;
use duramen::{
    KafkaErrorCode,
    replica::{
        AlterPartition, BrokerId, BrokerRegistration, Brokers, PartitionAltered, PartitionRegistration, UncleanElection,
    },
};

/// One version of the metadata.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub(super) partition: PartitionRegistration,
    pub(super) brokers: Brokers,
}

#[derive(Debug)]
pub(super) struct Controller {
    pub(super) versions: Vec<Metadata>,
    unclean: UncleanElection,
    next_broker_epoch: i64,
    /// Elections, and how many of them were unclean.
    pub(super) elections: (usize, usize),
}

impl Controller {
    pub(super) fn new(replicas: Vec<BrokerId>, unclean: UncleanElection) -> Self {
        let brokers = replicas.iter().map(|broker| (*broker, BrokerRegistration::alive(0))).collect();
        let versions = vec![Metadata { partition: PartitionRegistration::new(replicas), brokers }];
        Self { versions, unclean, next_broker_epoch: 1, elections: (0, 0) }
    }

    pub(super) fn now(&self) -> &Metadata {
        self.versions.last().expect("there is a first version")
    }

    fn publish(&mut self, brokers: Brokers) {
        let before = self.now().partition.clone();
        let election = before.elect(|broker| brokers.is_alive(broker), self.unclean);
        if election.partition.leader != before.leader {
            self.elections.0 += 1;
            self.elections.1 += usize::from(election.unclean);
        }
        let isr_and_osr = election.partition.isr.len() + election.partition.out_of_sync().len();
        assert_eq!(isr_and_osr, election.partition.replicas.len(), "AR = ISR + OSR");
        self.versions.push(Metadata { partition: election.partition, brokers });
    }

    /// A new incarnation of a broker: fenced until it has the metadata.
    pub(super) fn register(&mut self, broker: BrokerId) -> i64 {
        let epoch = self.next_broker_epoch;
        self.next_broker_epoch += 1;
        let mut brokers = self.now().brokers.clone();
        brokers.insert(broker, BrokerRegistration { fenced: true, ..BrokerRegistration::alive(epoch) });
        self.publish(brokers);
        epoch
    }

    /// The controller hears of a broker again, or not any more.
    pub(super) fn set_fenced(&mut self, broker: BrokerId, epoch: i64, fenced: bool) {
        if self.now().brokers.is_alive(broker) != fenced {
            return;
        }
        let mut brokers = self.now().brokers.clone();
        brokers.insert(broker, BrokerRegistration { fenced, ..BrokerRegistration::alive(epoch) });
        self.publish(brokers);
    }

    /// Answers a leader's request; or, as `random` has it, fails it.
    pub(super) fn alter(&mut self, change: AlterPartition, random: &mut Random) -> Message {
        // Not attempted is also a word about the epochs: that they are right.
        let is_current = (self.now().partition.partition_epoch, self.now().partition.leader_epoch)
            == (change.partition_epoch, change.leader_epoch);
        let answer = match random.below(20) {
            0 if is_current => Err(KafkaErrorCode::OperationNotAttempted),
            1 => Err(KafkaErrorCode::UnknownServerError),
            _ => self.try_alter(&change),
        };
        Message { from: None, to: Some(change.leader), body: Body::Altered(change, answer) }
    }

    fn try_alter(&mut self, change: &AlterPartition) -> Result<PartitionAltered, KafkaErrorCode> {
        let Metadata { partition, brokers } = self.now().clone();
        if partition.leader != Some(change.leader) || partition.leader_epoch != change.leader_epoch {
            return Err(KafkaErrorCode::FencedLeaderEpoch);
        }
        if partition.partition_epoch != change.partition_epoch {
            return Err(KafkaErrorCode::InvalidUpdateVersion);
        }
        if change.isr.iter().any(|(member, epoch)| !brokers.is_isr_eligible(*member, *epoch)) {
            return Err(KafkaErrorCode::IneligibleReplica);
        }
        assert!(change.isr.contains_key(&change.leader), "a leader is in its ISR");
        let isr = change.isr.keys().copied().collect();
        let partition = PartitionRegistration { isr, partition_epoch: partition.partition_epoch + 1, ..partition };
        let altered = PartitionAltered::from(&partition);
        self.versions.push(Metadata { partition, brokers });
        Ok(altered)
    }
}
