//! What must hold after every step, and at the end.

use super::{Cluster, Faults, ledger::batches};
use duramen::{LeaderEpoch, Log, LogOffsets, Offset};
use std::collections::BTreeSet;

impl Cluster {
    /// After a broker did something: its own sums, its log against what is committed, and who is acknowledged.
    pub(super) fn check(&mut self, n: usize) {
        self.check_leader_state(n);
        let may_lose = self.faults == Faults::UncleanElections;
        if !may_lose {
            self.check_committed(n);
        }
        for (wait, result) in self.nodes[n].finished(self.now_ms) {
            if result.is_ok() {
                self.summary.acknowledged += 1;
                if !may_lose {
                    self.ledger.check_acknowledged(wait.base_offset, &wait.bytes);
                }
            }
        }
    }

    /// AR = ISR + OSR, and the high watermark lies where the leader's own table says.
    fn check_leader_state(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(running) = node.running.as_mut() else { return };
        let offsets = running.log().offsets();
        let Ok(leader) = running.partition.leader() else { return };
        let committed = leader.in_sync_replicas().committed();
        let out_of_sync = leader.out_of_sync_replicas();
        let assigned: BTreeSet<_> = leader.followers().map(|(broker, _)| broker).chain([node.id]).collect();
        assert!(committed.is_disjoint(&out_of_sync) && (committed | &out_of_sync) == assigned, "AR = ISR + OSR");
        let maximal = leader.in_sync_replicas().maximal();
        assert!(maximal.is_superset(committed) && maximal.is_subset(&assigned) && maximal.contains(&node.id));
        let own_end = if node.settings.durable { offsets.recovery_point } else { offsets.log_end };
        let of_maximal = leader.followers().filter(|(broker, _)| maximal.contains(broker));
        let ends: Option<Vec<_>> = of_maximal.map(|(_, state)| state.log_end()).collect();
        let may_move = committed.len() >= leader.effective_min_isr();
        if let Some(ends) = ends
            && may_move
        {
            let smallest = ends.into_iter().chain([own_end]).min().unwrap();
            // It waits for followers that are about to join, and never moves down.
            let waits_for = leader.followers().filter_map(|(_, state)| state.log_end()).min().unwrap_or(smallest);
            assert!(
                offsets.high_watermark >= smallest.min(waits_for),
                "the high watermark {} stays below {smallest}",
                offsets.high_watermark
            );
        }
    }

    fn check_committed(&mut self, n: usize) {
        let Some(running) = self.nodes[n].running.as_mut() else { return };
        let led = running.partition.leader().ok().map(|leader| {
            let is_under_min_isr = leader.in_sync_replicas().committed().len() < leader.effective_min_isr();
            (leader.leader_epoch(), leader.leader_epoch_start_offset(), is_under_min_isr)
        });
        let verified = running.verified;
        let log = running.log();
        let offsets = log.offsets();
        let high_watermark = offsets.high_watermark;
        let mut new = Vec::new();
        match &led {
            None => assert!(
                high_watermark <= self.ledger.end(),
                "broker {n} follows with a high watermark of {high_watermark}, {} is committed",
                self.ledger.end()
            ),
            Some((epoch, epoch_start, is_under_min_isr)) => {
                new = self.ledger.extend(log);
                assert!(new.is_empty() || !is_under_min_isr, "records were committed under min.insync.replicas");
                self.ledger.serve(*epoch, high_watermark, high_watermark >= *epoch_start);
            }
        }
        if high_watermark > verified {
            self.ledger.check(log, verified, high_watermark);
        }
        running.verified = high_watermark;
        if !new.is_empty() {
            self.check_members(high_watermark);
        }
    }

    /// Whoever is in sync by the controller's word, and may be elected, holds all that is committed.
    fn check_members(&mut self, committed: i64) {
        let members = self.controller.now().partition.isr.clone();
        for node in self.nodes.iter_mut().filter(|node| members.contains(&node.id)) {
            let Some(running) = node.running.as_mut() else { continue };
            let verified = running.verified;
            self.ledger.check(running.log(), verified.min(committed), committed);
        }
    }

    /// A leader that was in sync has everything that was ever committed.
    pub(super) fn check_elected(&mut self) {
        let leader = self.controller.now().partition.leader;
        let node = self.nodes.iter_mut().find(|node| Some(node.id) == leader);
        if let Some(running) = node.and_then(|node| node.running.as_mut())
            && self.faults != Faults::UncleanElections
        {
            self.ledger.check(running.log(), 0, self.ledger.end());
        }
    }

    pub(super) fn is_at_rest(&mut self) -> bool {
        let partition = self.controller.now().partition.clone();
        let versions = self.controller.versions.len();
        let knows = |node: &super::Node| node.running.as_ref().is_some_and(|running| running.metadata + 1 == versions);
        let offsets: Vec<_> = self.nodes.iter_mut().map(|node| (knows(node), node.log().offsets())).collect();
        let first = offsets[0].1;
        let equal = |other: &LogOffsets| (other.log_end, other.high_watermark) == (first.log_end, first.high_watermark);
        partition.isr.len() == partition.replicas.len()
            && first.high_watermark == first.log_end
            && offsets.iter().all(|(knows, offsets)| *knows && equal(offsets))
    }

    /// The registration, and every broker's log and role.
    pub(super) fn describe(&mut self) -> String {
        let mut text = format!("{:?}", self.controller.now());
        for running in self.nodes.iter_mut().filter_map(|node| node.running.as_mut()) {
            let offsets = running.log().offsets();
            let (partition, fetching) = (&running.partition, &running.fetching);
            text += &format!("\n{offsets:?}\n  {partition:?}\n  {fetching:?}");
        }
        text
    }

    /// All replicas hold the same batches and the same epochs.
    pub(super) fn check_equal(&mut self) {
        // A log start is checkpointed now and then, so a broker may begin earlier than another after a crash.
        let begin = self.nodes.iter_mut().map(|node| node.log().offsets().log_start).max().unwrap();
        let begin = begin.max(self.ledger.deleted_below);
        // And its epochs from there on are all that it knows of.
        let known = self.nodes.iter_mut().filter_map(|node| node.log().reader().leader_epochs().first().copied());
        let known = known.map(|entry| entry.start_offset).max().unwrap_or(0).max(begin);
        let contents = self.nodes.iter_mut().map(|node| {
            let log = node.log();
            (batches(log, begin, log.offsets().log_end), epochs_from(log, known))
        });
        let contents: Vec<_> = contents.collect();
        for (n, content) in contents.iter().enumerate() {
            assert!(content.0 == contents[0].0, "the logs of brokers 0 and {n} differ");
            assert_eq!(content.1, contents[0].1, "the epochs of brokers 0 and {n} differ");
        }
        if self.faults != Faults::UncleanElections {
            let end = self.ledger.end();
            self.nodes.iter_mut().for_each(|node| self.ledger.check(node.log(), 0, end));
        }
    }
}

/// The epochs of a log from an offset on, with the first offset of each there.
fn epochs_from(log: &Log, begin: Offset) -> Vec<(LeaderEpoch, Offset)> {
    let entries = log.reader().leader_epochs();
    let first = entries.iter().rposition(|entry| entry.start_offset <= begin).unwrap_or(0);
    entries.iter().skip(first).map(|entry| (entry.epoch, entry.start_offset.max(begin))).collect()
}
