//! The offsets that one group committed, within transactions and without.
//!
//! Knows nothing of the group's members. Keeps: what a transaction committed shows only when it is committed, and the later
//! record of a partition wins, whichever way it came. Follows `OffsetMetadataManager`.

use super::ClassicGroup;
use crate::records::offsets::OffsetCommit;
use duramen::{Offset, ProducerId};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};

/// A committed offset, and where its record lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The record's offset in `__consumer_offsets`.
    pub(crate) record_offset: Offset,
    /// What it says.
    pub(crate) commit: OffsetCommit,
}

type ByPartition = BTreeMap<StrBytes, BTreeMap<i32, Committed>>;

/// All offsets of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupOffsets {
    committed: ByPartition,
    /// Of transactions that are open.
    pending: BTreeMap<ProducerId, ByPartition>,
}

impl GroupOffsets {
    /// Takes a committed offset.
    pub(crate) fn commit(&mut self, topic: StrBytes, partition: i32, committed: Committed) {
        self.committed.entry(topic).or_default().insert(partition, committed);
    }

    /// Takes an offset that a transaction of this producer commits if it is committed itself.
    pub(crate) fn commit_pending(
        &mut self,
        producer: ProducerId,
        topic: StrBytes,
        partition: i32,
        committed: Committed,
    ) {
        self.pending.entry(producer).or_default().entry(topic).or_default().insert(partition, committed);
    }

    /// The producer's transaction is decided. A mix of offsets within and without transactions shows the one that was written
    /// last: compaction keeps that one too.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, is_committed: bool) {
        let decided = self.pending.remove(&producer).filter(|_| is_committed).unwrap_or_default();
        for (topic, partitions) in decided {
            let known = self.committed.entry(topic).or_default();
            for (partition, new) in partitions {
                if known.get(&partition).is_none_or(|old| old.record_offset < new.record_offset) {
                    known.insert(partition, new);
                }
            }
        }
    }

    /// Forgets a partition's offset, also those of open transactions; whether there was one.
    pub(crate) fn remove(&mut self, topic: &StrBytes, partition: i32) -> bool {
        let mut removed = remove_from(&mut self.committed, topic, partition);
        self.pending.retain(|_, offsets| {
            removed |= remove_from(offsets, topic, partition);
            !offsets.is_empty()
        });
        removed
    }

    /// The committed offset of a partition.
    pub(crate) fn get(&self, topic: &StrBytes, partition: i32) -> Option<&OffsetCommit> {
        self.committed.get(topic)?.get(&partition).map(|committed| &committed.commit)
    }

    /// Whether an open transaction is about to commit an offset of a partition.
    pub(crate) fn is_pending(&self, topic: &StrBytes, partition: i32) -> bool {
        let mut transactions = self.pending.values();
        transactions.any(|offsets| offsets.get(topic).is_some_and(|partitions| partitions.contains_key(&partition)))
    }

    /// The partitions with a committed offset, by topic.
    pub(crate) fn committed(&self) -> impl Iterator<Item = (&StrBytes, &BTreeMap<i32, Committed>)> {
        self.committed.iter()
    }

    /// Whether there is no offset, committed or about to be.
    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// All partitions that have an offset, committed or about to be; of one topic, or all.
    pub(crate) fn partitions(&self, topic: Option<&StrBytes>) -> BTreeSet<(StrBytes, i32)> {
        let all = std::iter::once(&self.committed).chain(self.pending.values()).flatten();
        all.filter(|(name, _)| topic.is_none_or(|topic| topic == *name))
            .flat_map(|(name, partitions)| partitions.keys().map(|partition| (name.clone(), *partition)))
            .collect()
    }

    /// The partitions whose offsets have been kept long enough (`OffsetMetadataManager.cleanupExpiredOffsets`,
    /// `ClassicGroup.offsetExpirationCondition`): while a group has members, those of topics that none of them consumes.
    pub(crate) fn expired(&self, group: &ClassicGroup, retention_ms: i64, now_ms: i64) -> Vec<(StrBytes, i32)> {
        let Some(rule) = ExpirationRule::of(group) else { return Vec::new() };
        let mut expired = Vec::new();
        for (topic, partitions) in self.committed() {
            if rule.keeps(topic) {
                continue;
            }
            for (partition, committed) in partitions {
                if rule.is_expired(&committed.commit, retention_ms, now_ms) && !self.is_pending(topic, *partition) {
                    expired.push((topic.clone(), *partition));
                }
            }
        }
        expired
    }
}

fn remove_from(offsets: &mut ByPartition, topic: &StrBytes, partition: i32) -> bool {
    let Some(partitions) = offsets.get_mut(topic) else { return false };
    let removed = partitions.remove(&partition).is_some();
    if partitions.is_empty() {
        offsets.remove(topic);
    }
    removed
}

/// From when an offset's time counts, and which topics' offsets do not expire.
struct ExpirationRule {
    /// Since when the group is empty, if that is what counts; otherwise an offset's own time does.
    empty_since_ms: Option<i64>,
    subscribed: BTreeSet<StrBytes>,
}

impl ExpirationRule {
    /// `None` where nothing expires.
    fn of(group: &ClassicGroup) -> Option<Self> {
        use super::State;
        let none = BTreeSet::new();
        match group.state() {
            // A consumer that uses the group for its offsets alone.
            _ if !group.has_protocol_type() => Some(Self { empty_since_ms: None, subscribed: none }),
            State::Empty => Some(Self { empty_since_ms: group.state_since_ms(), subscribed: none }),
            State::Stable => group.subscribed_topics().map(|subscribed| Self { empty_since_ms: None, subscribed }),
            State::PreparingRebalance | State::CompletingRebalance => None,
        }
    }

    fn keeps(&self, topic: &StrBytes) -> bool {
        self.subscribed.contains(topic)
    }

    fn is_expired(&self, commit: &OffsetCommit, retention_ms: i64, now_ms: i64) -> bool {
        match commit.expire_timestamp_ms {
            Some(at_ms) => now_ms >= at_ms,
            None => {
                let since_ms = self.empty_since_ms.unwrap_or(commit.commit_timestamp_ms);
                now_ms.saturating_sub(since_ms) >= retention_ms
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::records::offsets::{GroupMetadata, MemberMetadata};
    use bytes::Bytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn topic(name: &'static str) -> StrBytes {
        StrBytes::from_static_str(name)
    }

    fn at(record_offset: Offset, offset: i64, commit_timestamp_ms: i64) -> Committed {
        let commit = OffsetCommit {
            offset,
            leader_epoch: None,
            metadata: StrBytes::new(),
            commit_timestamp_ms,
            expire_timestamp_ms: None,
            topic_id: Uuid::nil(),
        };
        Committed { record_offset, commit }
    }

    fn group_of(protocol_type: &'static str, members: Vec<MemberMetadata>) -> ClassicGroup {
        let metadata = GroupMetadata {
            protocol_type: topic(protocol_type),
            generation: 3,
            protocol: Some(topic("range")),
            leader: None,
            state_since_ms: Some(1_000),
            members,
        };
        ClassicGroup::from_stored(topic("g"), metadata, 1_000)
    }

    fn consumer_of_orders(subscription: &'static [u8]) -> MemberMetadata {
        MemberMetadata {
            member_id: topic("m"),
            group_instance_id: None,
            client_id: topic("c"),
            client_host: topic("/h"),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 1,
            subscription: Bytes::from_static(subscription),
            assignment: Bytes::new(),
        }
    }

    #[test]
    fn offset_of_an_open_transaction_shows_when_it_is_committed_and_never_over_a_later_one() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(topic("t"), 0, at(10, 1, 0));
        offsets.commit_pending(7, topic("t"), 0, at(11, 2, 0));
        offsets.commit_pending(7, topic("t"), 1, at(11, 3, 0));
        offsets.commit_pending(8, topic("t"), 1, at(12, 4, 0));
        assert!(offsets.is_pending(&topic("t"), 0) && !offsets.is_pending(&topic("u"), 0));
        assert_eq!(offsets.get(&topic("t"), 0).unwrap().offset, 1);
        offsets.end_transaction(8, true);
        offsets.end_transaction(7, true);
        assert_eq!(offsets.get(&topic("t"), 0).unwrap().offset, 2);
        assert_eq!(offsets.get(&topic("t"), 1).unwrap().offset, 4, "its record came later");
        offsets.commit_pending(9, topic("t"), 0, at(13, 5, 0));
        offsets.end_transaction(9, false);
        assert_eq!(offsets.get(&topic("t"), 0).unwrap().offset, 2);
        assert!(!offsets.is_pending(&topic("t"), 0));
    }

    #[test]
    fn offset_that_is_removed_is_removed_from_open_transactions_too() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(topic("t"), 0, at(1, 1, 0));
        offsets.commit_pending(7, topic("t"), 0, at(2, 2, 0));
        assert_eq!(offsets.partitions(None), BTreeSet::from([(topic("t"), 0)]));
        assert!(offsets.remove(&topic("t"), 0));
        assert!(offsets.is_empty() && !offsets.remove(&topic("t"), 0));
    }

    #[test]
    fn offset_of_an_empty_group_expires_by_the_time_since_it_is_empty() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(topic("t"), 0, at(1, 1, 0));
        let expired = |group: &ClassicGroup, now_ms| offsets.expired(group, 100, now_ms).len();
        let empty = group_of("consumer", Vec::new());
        assert_eq!((expired(&empty, 1_099), expired(&empty, 1_100)), (0, 1));
        let simple = ClassicGroup::new(topic("g"), 1_000);
        assert_eq!((expired(&simple, 99), expired(&simple, 100)), (0, 1));
    }

    #[test]
    fn offset_of_a_topic_that_members_consume_does_not_expire() {
        let mut offsets = GroupOffsets::default();
        offsets.commit(topic("orders"), 0, at(1, 1, 0));
        offsets.commit(topic("old"), 0, at(2, 1, 0));
        let subscription: &'static [u8] = b"\x00\x01\x00\x00\x00\x01\x00\x06orders\xff\xff\xff\xff";
        let stable = group_of("consumer", vec![consumer_of_orders(subscription)]);
        assert_eq!(offsets.expired(&stable, 100, 5_000), [(topic("old"), 0)]);
        let unreadable = group_of("consumer", vec![consumer_of_orders(b"\x00")]);
        assert_eq!(offsets.expired(&unreadable, 100, 5_000), []);
        let others = group_of("connect", vec![consumer_of_orders(subscription)]);
        assert_eq!(offsets.expired(&others, 100, 5_000), []);
    }

    #[test]
    fn time_that_the_client_asked_for_counts_alone_and_an_open_transaction_keeps_its_offset() {
        let mut offsets = GroupOffsets::default();
        let mut kept = at(1, 1, 0);
        kept.commit.expire_timestamp_ms = Some(9_000);
        offsets.commit(topic("t"), 0, kept);
        offsets.commit(topic("t"), 1, at(1, 1, 0));
        offsets.commit_pending(7, topic("t"), 1, at(2, 2, 0));
        let simple = ClassicGroup::new(topic("g"), 0);
        assert_eq!(offsets.expired(&simple, 100, 8_999), []);
        assert_eq!(offsets.expired(&simple, 100, 9_000), [(topic("t"), 0)]);
    }

    proptest! {
        /// Whatever the order in which transactions end, the record written last among the committed ones wins.
        #[test]
        fn record_written_last_wins(
            writes in proptest::collection::vec((0_i64..4, 0_i32..3), 1..20),
            ends in proptest::collection::vec((1_i64..4, any::<bool>()), 0..6),
        ) {
            let mut offsets = GroupOffsets::default();
            let mut committed: BTreeMap<i32, i64> = BTreeMap::new();
            let mut open: BTreeMap<i64, BTreeMap<i32, i64>> = BTreeMap::new();
            for (record_offset, (producer, partition)) in (0_i64..).zip(&writes) {
                let new = at(record_offset, record_offset, 0);
                if *producer == 0 {
                    offsets.commit(topic("t"), *partition, new);
                    committed.insert(*partition, record_offset);
                } else {
                    offsets.commit_pending(*producer, topic("t"), *partition, new);
                    open.entry(*producer).or_default().insert(*partition, record_offset);
                }
            }
            for (producer, is_committed) in ends {
                offsets.end_transaction(producer, is_committed);
                for (partition, offset) in open.remove(&producer).unwrap_or_default() {
                    let known = committed.entry(partition).or_insert(-1);
                    if is_committed {
                        *known = offset.max(*known);
                    }
                }
            }
            for partition in 0..3 {
                let expected = committed.get(&partition).copied().filter(|offset| *offset >= 0);
                prop_assert_eq!(offsets.get(&topic("t"), partition).map(|commit| commit.offset), expected);
                let pending = open.values().any(|partitions| partitions.contains_key(&partition));
                prop_assert_eq!(offsets.is_pending(&topic("t"), partition), pending);
            }
        }
    }
}
