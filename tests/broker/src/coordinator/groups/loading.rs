//! Reading a partition of `__consumer_offsets`: groups and offsets as they were.
//!
//! Follows `CoordinatorLoaderImpl` and `GroupCoordinatorShard.replay`. Keeps: the state after reading is the one before the
//! broker stopped, but that members have to show that they are there.

use super::shard::{Group, Shard};
use crate::{
    group::{ClassicGroup, Committed, GroupOffsets},
    internal::{Content, InternalLog, Replayed},
    records::{
        fields::RecordError,
        offsets::{GroupMetadata, Key, OffsetCommit, OffsetKey},
    },
};
use bytes::Bytes;
use duramen::{LogError, ProducerId};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeSet, HashMap};

/// Reads a partition.
pub(super) fn load(log: InternalLog, now_ms: i64, note: &dyn Fn(&str)) -> Result<Shard, LogError> {
    let mut loaded = Loaded::default();
    log.replay(|record| {
        if let Err(error) = loaded.take(&record) {
            let partition = log.partition();
            note(&format!(
                "__consumer_offsets-{partition}: the record at offset {} is left alone: {error}",
                record.offset
            ));
        }
    })?;
    if loaded.others > 0 {
        let (partition, others) = (log.partition(), loaded.others);
        note(&format!("__consumer_offsets-{partition}: {others} records of newer kinds of groups are left alone"));
    }
    let transactions = std::mem::take(&mut loaded.transactions);
    let groups = loaded.into_groups(now_ms);
    Ok(Shard::new(log, groups, transactions))
}

/// What the records up to some offset say.
#[derive(Debug, Default)]
struct Loaded {
    groups: HashMap<StrBytes, GroupMetadata>,
    offsets: HashMap<StrBytes, GroupOffsets>,
    /// Which groups open transactions commit offsets for.
    transactions: HashMap<ProducerId, BTreeSet<StrBytes>>,
    others: u64,
}

impl Loaded {
    fn take(&mut self, record: &Replayed<'_>) -> Result<(), RecordError> {
        let producer = record.producer.map(|(producer, _)| producer);
        match (record.content, producer) {
            (Content::Marker(marker), Some(producer)) => {
                for id in self.transactions.remove(&producer).unwrap_or_default() {
                    if let Some(offsets) = self.offsets.get_mut(&id) {
                        offsets.end_transaction(producer, marker.committed);
                    }
                }
                Ok(())
            }
            (Content::Marker(_), None) => Ok(()),
            (Content::Keyed(key, value), producer) => {
                let value = value.map(Bytes::copy_from_slice);
                match Key::decode(Bytes::copy_from_slice(key))? {
                    Key::Offset(key) => self.take_offset(key, value, record.offset, producer),
                    Key::Group(id) => self.take_group(id, value),
                    Key::Other(_) => {
                        self.others += 1;
                        Ok(())
                    }
                }
            }
        }
    }

    fn take_offset(
        &mut self,
        key: OffsetKey,
        value: Option<Bytes>,
        record_offset: i64,
        producer: Option<ProducerId>,
    ) -> Result<(), RecordError> {
        let OffsetKey { group, topic, partition } = key;
        let offsets = self.offsets.entry(group.clone()).or_default();
        let Some(value) = value else {
            offsets.remove(&topic, partition);
            return Ok(());
        };
        let committed = Committed { record_offset, commit: OffsetCommit::decode(value)? };
        match producer {
            Some(producer) => {
                offsets.commit_pending(producer, topic, partition, committed);
                self.transactions.entry(producer).or_default().insert(group);
            }
            None => offsets.commit(topic, partition, committed),
        }
        Ok(())
    }

    fn take_group(&mut self, id: StrBytes, value: Option<Bytes>) -> Result<(), RecordError> {
        match value {
            Some(value) => self.groups.insert(id, GroupMetadata::decode(value)?),
            None => self.groups.remove(&id),
        };
        Ok(())
    }

    fn into_groups(self, now_ms: i64) -> HashMap<StrBytes, Group> {
        let Self { groups, mut offsets, .. } = self;
        let mut found: HashMap<StrBytes, Group> = HashMap::new();
        for (id, metadata) in groups {
            let offsets = offsets.remove(&id).unwrap_or_default();
            let classic = ClassicGroup::from_stored(id.clone(), metadata, now_ms);
            found.insert(id, Group::new(classic, offsets));
        }
        for (id, offsets) in offsets.into_iter().filter(|(_, offsets)| !offsets.is_empty()) {
            let classic = ClassicGroup::new(id.clone(), now_ms);
            found.insert(id, Group::new(classic, offsets));
        }
        found
    }
}
