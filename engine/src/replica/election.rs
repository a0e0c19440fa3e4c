//! Who leads a partition when brokers come and go: the controller's choice, as a value.

use super::{BrokerId, PartitionRegistration};

/// Whether a replica that was not in sync may lead (`unclean.leader.election.enable`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UncleanElection {
    /// Only in-sync replicas may lead: the partition waits for one, and loses nothing.
    #[default]
    Disabled,
    /// Any live replica may lead if no in-sync one is alive. What it lacks is lost.
    Enabled,
}

/// What an election did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The registration afterwards; the same as before if nothing changed.
    pub partition: PartitionRegistration,
    /// Whether the leader was not in sync.
    pub unclean: bool,
}

impl PartitionRegistration {
    /// The partition with only live brokers in its ISR, and with a leader among them
    /// (`PartitionChangeBuilder.electAnyLeader`). The leader stays while it is alive and in sync; otherwise the first of
    /// the assigned replicas that is follows. If none is, the ISR stays as it was, so that its last members alone may
    /// lead later; unless an unclean election gives the partition to the first live replica, and an ISR of it alone.
    ///
    /// The leader epoch rises when the leader changes, also to none; the partition epoch rises with every change.
    ///
    /// ```
    /// use duramen::replica::{PartitionRegistration, UncleanElection};
    /// let partition = PartitionRegistration::new(vec![1, 2, 3]);
    /// let elected = partition.elect(|broker| broker != 1, UncleanElection::Disabled).partition;
    /// assert_eq!((elected.leader, elected.leader_epoch), (Some(2), 1));
    /// assert_eq!(elected.isr, [2, 3].into());
    /// ```
    #[must_use]
    pub fn elect(&self, is_alive: impl Fn(BrokerId) -> bool, unclean: UncleanElection) -> Election {
        let mut after = self.clone();
        after.isr.retain(|broker| is_alive(*broker));
        let stays = self.leader.filter(|leader| after.isr.contains(leader));
        let first =
            |eligible: &dyn Fn(BrokerId) -> bool| self.replicas.iter().copied().find(|broker| eligible(*broker));
        after.leader = stays.or_else(|| first(&|broker| after.isr.contains(&broker)));
        let mut is_unclean = false;
        if after.leader.is_none() {
            after.isr.clone_from(&self.isr);
            if unclean == UncleanElection::Enabled
                && let Some(leader) = first(&is_alive)
            {
                (after.leader, after.isr, is_unclean) = (Some(leader), [leader].into(), true);
            }
        }
        if after.leader != self.leader {
            after.leader_epoch = self.leader_epoch.saturating_add(1);
        }
        if after != *self {
            after.partition_epoch = self.partition_epoch.saturating_add(1);
        }
        Election { partition: after, unclean: is_unclean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use UncleanElection::{Disabled, Enabled};

    #[test]
    fn the_first_assigned_in_sync_live_replica_leads() {
        // (leader, ISR, alive, unclean allowed) -> (leader, ISR, unclean)
        let cases: [(_, &[BrokerId], &[BrokerId], _, _, &[BrokerId], _); 10] = [
            (Some(3), &[1, 2, 3], &[1, 2, 3], Disabled, Some(3), &[1, 2, 3], false),
            (Some(3), &[1, 2, 3], &[1, 3], Disabled, Some(3), &[1, 3], false),
            (Some(3), &[1, 2, 3], &[1, 2], Disabled, Some(2), &[1, 2], false),
            (Some(3), &[1, 3], &[1, 2], Disabled, Some(1), &[1], false),
            (Some(3), &[3], &[1, 2], Disabled, None, &[3], false),
            (None, &[3], &[1, 2, 3], Disabled, Some(3), &[3], false),
            (Some(3), &[3], &[1, 2], Enabled, Some(2), &[2], true),
            (Some(3), &[1, 3], &[1, 2], Enabled, Some(1), &[1], false),
            (Some(3), &[3], &[], Enabled, None, &[3], false),
            (None, &[3], &[], Disabled, None, &[3], false),
        ];
        for (leader, isr, alive, unclean, elected, isr_after, is_unclean) in cases {
            let before = PartitionRegistration {
                leader,
                isr: isr.iter().copied().collect(),
                leader_epoch: 5,
                partition_epoch: 8,
                replicas: vec![2, 1, 3],
            };
            let election = before.elect(|broker| alive.contains(&broker), unclean);
            let after = &election.partition;
            assert_eq!((after.leader, election.unclean), (elected, is_unclean), "{before:?} {alive:?}");
            assert!(after.isr.iter().eq(isr_after), "{before:?} {alive:?}: {after:?}");
            assert_eq!(after.leader_epoch, if leader == elected { 5 } else { 6 });
            assert_eq!(after.partition_epoch, if *after == before { 8 } else { 9 });
        }
    }
}
