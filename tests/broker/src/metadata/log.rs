//! The metadata log, led by this node.
//!
//! Owns: the partition `__cluster_metadata-0`, its reading at the start, the term in which this node leads it, and appends. Knows
//! nothing of what the records mean. Keeps: everything in the log counts, for the node is its only voter; an append is durable
//! when it returns; after one of which that is not known, nothing is appended any more.

use super::{
    MetadataError, Node, Term,
    home::Home,
    image::Image,
    quorum::{self, Quorum, QuorumState, Voter},
    record::Record,
    replay::Replay,
};
use duramen::{
    AppendAsLeader, AppendOrigin, Durability, Fetch, Isolation, LogConfig, LogManager, Offset, Partition, Timestamp,
    TopicPartition, ValidationPolicy,
    format::{
        builder::{BatchBuilder, NewRecord},
        uuid::Uuid,
    },
    validate,
};
use std::sync::Arc;

/// The topic of the metadata, which is none of the cluster's topics.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";
/// The id of the metadata's topic (`Uuid.METADATA_TOPIC_ID`).
const TOPIC_ID: Uuid = Uuid::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
/// Most bytes of a batch (`KafkaRaftClient.MAX_BATCH_SIZE_BYTES`).
const MAX_BATCH_BYTES: u32 = 8 << 20;
/// Most records of a batch (`QuorumController.MAX_RECORDS_PER_USER_OP`).
pub(super) const MAX_BATCH_RECORDS: usize = 10_000;
/// Bytes of the log that are read at once.
const READ_BYTES: u64 = 8 << 20;

/// The log, for its one writer.
#[derive(Debug)]
pub(super) struct MetadataLog {
    partition: Arc<Partition>,
    policy: ValidationPolicy,
    leader_epoch: i32,
    /// By which directory the voters know this node; nil where they are known by their numbers alone.
    voter_directory_id: Uuid,
    is_poisoned: bool,
}

impl MetadataLog {
    /// Opens the log, or makes it; reads the newest snapshot and what lies behind it; and begins a term, as
    /// `KafkaRaftClient` does where there is one voter. Steps, and what the next open finds after each: an empty log (the same
    /// as none); a `quorum-state` of the new term (it begins a newer one); the message that the term has begun; the end of a
    /// transaction that nobody ends any more (`ActivationRecordsGenerator`).
    ///
    /// # Errors
    /// [`MetadataError`] when log or snapshot cannot be read, or have other voters.
    pub(super) fn open(
        manager: &LogManager,
        home: &Home,
        node: &Node,
        now_ms: Timestamp,
    ) -> Result<(Self, Image), MetadataError> {
        let config = config();
        let partition = manager.get_or_create(&TopicPartition::new(METADATA_TOPIC, 0)?, &config)?;
        partition.with(|log| log.assign_topic_id(TOPIC_ID))??;
        let (replay, snapshot_epoch) = read(&partition, home)?;
        let is_in_transaction = replay.is_in_transaction();
        let (mut image, quorum) = replay.finish();
        let state = home.quorum_state()?;
        let leader = Voter { id: node.id, directory_id: home.metadata_directory_id() };
        check_voters(&quorum, &state, leader)?;
        let last_epoch = partition.reader().latest_epoch().unwrap_or(0).max(snapshot_epoch).max(state.leader_epoch);
        let policy = ValidationPolicy::from_config(&config).with_origin(AppendOrigin::RaftLeader);
        let leader_epoch = last_epoch.saturating_add(1);
        home.write_quorum_state(&QuorumState::of_leader(node.id, leader_epoch, quorum.kraft_version))?;
        let voter_directory_id = if quorum.kraft_version > 0 { leader.directory_id } else { Uuid::default() };
        let mut log = Self { partition, policy, leader_epoch, voter_directory_id, is_poisoned: false };
        let (key, value) = quorum::leader_change(node.id);
        let mut end = log.append_batch(&log.batch().control().record(now_ms, Some(&key), Some(&value)), now_ms)?;
        if is_in_transaction {
            let reason = Some("the controller that began it is gone".to_owned());
            end = log.append(&[Record::AbortTransaction { reason }], 0, now_ms)?;
        }
        image.advance_to(end);
        Ok((log, image))
    }

    /// The term that has begun.
    pub(super) fn term(&self) -> Term {
        Term { leader_epoch: self.leader_epoch, directory_id: self.voter_directory_id }
    }

    /// Appends records as one batch and waits until it is durable; the offset behind it.
    ///
    /// # Errors
    /// [`MetadataError::TooLarge`], or what the log says; [`MetadataError::Poisoned`] after a failure.
    pub(super) fn append(
        &mut self,
        records: &[Record],
        metadata_version: i16,
        now_ms: Timestamp,
    ) -> Result<Offset, MetadataError> {
        if records.len() > MAX_BATCH_RECORDS {
            return Err(MetadataError::TooLarge { records: records.len(), limit: MAX_BATCH_RECORDS });
        }
        let mut batch = self.batch();
        for record in records {
            let value = record.encode(record.version_for(metadata_version));
            batch.push(&NewRecord { timestamp: Some(now_ms), value: Some(&value), ..NewRecord::default() });
        }
        self.append_batch(&batch, now_ms)
    }

    /// Takes no more appends.
    pub(super) fn close(&mut self) {
        self.is_poisoned = true;
    }

    fn batch(&self) -> BatchBuilder {
        BatchBuilder::new().leader_epoch(self.leader_epoch)
    }

    fn append_batch(&mut self, batch: &BatchBuilder, now_ms: Timestamp) -> Result<Offset, MetadataError> {
        if self.is_poisoned {
            return Err(MetadataError::Poisoned);
        }
        let batch = validate(batch.build()?, &self.policy, now_ms)?;
        let append = AppendAsLeader::new(self.leader_epoch, now_ms);
        let append = self.partition.append_as_leader(batch, append, Durability::Flushed)?;
        // It is in the log by now, whatever the waiting brings.
        let info = append.wait(None).inspect_err(|_| self.is_poisoned = true)?;
        Ok(info.last_offset.saturating_add(1))
    }
}

/// As Kafka has the metadata log (`KafkaRaftLog.createLog`): what goes, goes below a snapshot, and neither by age nor by size.
fn config() -> LogConfig {
    LogConfig { max_message_bytes: MAX_BATCH_BYTES, retention_bytes: None, retention_ms: None, ..LogConfig::default() }
}

/// Reads the newest snapshot and everything behind it; also the snapshot's epoch.
fn read(partition: &Partition, home: &Home) -> Result<(Replay, i32), MetadataError> {
    let mut replay = Replay::default();
    let mut snapshot_epoch = 0;
    if let Some(snapshot) = home.newest_snapshot()? {
        replay.snapshot(&snapshot.bytes, &snapshot.name, snapshot.id.end_offset)?;
        snapshot_epoch = snapshot.id.epoch;
    }
    let (snapshot_end, log_start) = (replay.next_offset(), partition.offsets().log_start);
    if snapshot_end < log_start || snapshot_end > partition.offsets().log_end {
        return Err(MetadataError::MissingSnapshot { log_start, snapshot_end });
    }
    while let Some(bytes) = read_piece(partition, replay.next_offset())? {
        replay.log(&bytes)?;
    }
    Ok((replay, snapshot_epoch))
}

/// The next batches of the log, of which the first is whole; `None` at its end.
fn read_piece(partition: &Partition, offset: Offset) -> Result<Option<Vec<u8>>, MetadataError> {
    if offset >= partition.offsets().log_end {
        return Ok(None);
    }
    let fetch = Fetch { offset, max_bytes: READ_BYTES, isolation: Isolation::LogEnd, min_one_batch: true };
    let fetched = partition.read(fetch)?;
    let bytes = fetched.records.map(|records| records.to_vec()).transpose();
    bytes.map_err(MetadataError::Read)
}

/// This node must be the only voter: by the log where that has them, else by what was last known of the servers' settings.
fn check_voters(quorum: &Quorum, state: &QuorumState, leader: Voter) -> Result<(), MetadataError> {
    let is_alone = match &quorum.voters {
        Some(voters) => voters.as_slice() == [leader],
        None => state.current_voters.iter().all(|id| *id == leader.id),
    };
    if is_alone {
        return Ok(());
    }
    let in_log = quorum.voters.iter().flatten().map(|voter| voter.id);
    Err(MetadataError::OtherVoters { voters: in_log.chain(state.current_voters.iter().copied()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorum_of_others_is_not_led() {
        let leader = Voter { id: 1, directory_id: Uuid::from_bytes([1; 16]) };
        let other = Voter { id: 2, ..leader };
        let elsewhere = Voter { directory_id: Uuid::ZERO, ..leader };
        let alone = |voters: Option<&[Voter]>, current_voters: &[i32]| {
            let quorum = Quorum { kraft_version: 0, voters: voters.map(<[Voter]>::to_vec) };
            let state = QuorumState { leader_epoch: 3, current_voters: current_voters.to_vec() };
            check_voters(&quorum, &state, leader).is_ok()
        };
        assert!(alone(None, &[]) && alone(None, &[1]) && alone(Some(&[leader]), &[]));
        assert!(!alone(None, &[1, 2]) && !alone(Some(&[leader, other]), &[]) && !alone(Some(&[elsewhere]), &[]));
    }
}
