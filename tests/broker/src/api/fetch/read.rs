//! One look at all partitions of a fetch.

use super::Broker;
use crate::{
    api::check_epoch,
    protocol::{FetchedPartition, FetchedTopic},
    topics::Hosted,
};
use duramen::{Fetch, Fetched, FileSlice, Isolation, KafkaErrorCode, LogOffsets, LongPoll, format::uuid::Uuid};
use kafka_protocol::messages::{
    FetchRequest,
    fetch_request::{FetchPartition, FetchTopic},
};
use std::sync::Arc;

/// The first version that names topics by their ids.
const FIRST_WITH_IDS: i16 = 13;
/// The number of an isolation level that sees committed records alone.
const READ_COMMITTED: i8 = 1;

/// What a fetch may take, and how far it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) min_bytes: u64,
    max_bytes: u64,
    isolation: Isolation,
    /// A follower of some other broker asks.
    is_follower: bool,
}

impl Limits {
    /// Those of a request, and of the broker (`fetch.max.bytes`).
    pub(super) fn of(request: &FetchRequest, most: u64) -> Self {
        let bytes = |wanted: i32| u64::try_from(wanted).unwrap_or(0);
        let max_bytes = bytes(request.max_bytes).min(most);
        // The replica's id moved into a tagged field in version 15.
        let replica_id = request.replica_id.0.max(request.replica_state.replica_id.0);
        Self {
            min_bytes: bytes(request.min_bytes).min(max_bytes),
            max_bytes,
            isolation: if request.isolation_level == READ_COMMITTED {
                Isolation::ReadCommitted
            } else {
                Isolation::HighWatermark
            },
            is_follower: replica_id >= 0,
        }
    }
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) topics: Vec<FetchedTopic>,
    /// Bytes of records.
    pub(super) bytes: u64,
    /// Whether there is something to tell at once: an error, a log that differs, or no partition at all.
    pub(super) is_urgent: bool,
}

/// Reads all partitions in the order of the request, and adds them to a poll in case that it is not enough. Follows
/// `ReplicaManager.readFromLog`.
pub(super) fn pass(
    broker: &Broker,
    version: i16,
    request: &FetchRequest,
    limits: &Limits,
    mut poll: Option<&mut LongPoll>,
) -> Pass {
    let mut pass =
        Pass { is_urgent: request.topics.iter().all(|topic| topic.partitions.is_empty()), ..Pass::default() };
    for topic in &request.topics {
        let name = name_of(broker, version, topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let max_bytes = u64::try_from(asked.partition_max_bytes).unwrap_or(0);
            let fetch = Fetch {
                offset: asked.fetch_offset,
                max_bytes: max_bytes.min(limits.max_bytes.saturating_sub(pass.bytes)),
                isolation: limits.isolation,
                min_one_batch: pass.bytes == 0,
            };
            let read = name.as_ref().map_err(|code| *code).and_then(|name| {
                let hosted = hosted(broker, version, topic, name, asked, limits)?;
                read(&hosted, asked, fetch, poll.as_deref_mut())
            });
            let partition = read.unwrap_or_else(|code| failed(broker, asked, name.as_deref().ok(), code));
            pass.bytes += partition.records.as_ref().map_or(0, FileSlice::len);
            pass.is_urgent |= partition.error_code != 0 || partition.diverging.is_some();
            partitions.push(partition);
        }
        pass.topics.push(FetchedTopic { name: topic.topic.0.clone(), id: topic.topic_id.into_bytes(), partitions });
    }
    pass
}

fn name_of(broker: &Broker, version: i16, topic: &FetchTopic) -> Result<Arc<str>, KafkaErrorCode> {
    if version < FIRST_WITH_IDS {
        return Ok(topic.topic.as_str().into());
    }
    broker.topics.name_of(id_of(topic)).ok_or(KafkaErrorCode::UnknownTopicId)
}

fn id_of(topic: &FetchTopic) -> Uuid {
    Uuid::from_bytes(topic.topic_id.into_bytes())
}

fn hosted(
    broker: &Broker,
    version: i16,
    topic: &FetchTopic,
    name: &str,
    asked: &FetchPartition,
    limits: &Limits,
) -> Result<Arc<Hosted>, KafkaErrorCode> {
    let hosted = broker.topics.partition(name, asked.partition)?;
    if version >= FIRST_WITH_IDS && hosted.topic_id != id_of(topic) {
        // It was deleted and made again since its name was looked up.
        return Err(KafkaErrorCode::UnknownTopicId);
    }
    // No other node has a replica of anything here (`Partition.followerReplicaOrThrow`).
    if limits.is_follower {
        return Err(KafkaErrorCode::NotLeaderOrFollower);
    }
    check_epoch(&hosted, asked.current_leader_epoch)?;
    Ok(hosted)
}

/// Reads one partition. Follows `Partition.fetchRecords` and `Partition.readRecords`.
fn read(
    hosted: &Hosted,
    asked: &FetchPartition,
    fetch: Fetch,
    poll: Option<&mut LongPoll>,
) -> Result<FetchedPartition, KafkaErrorCode> {
    let partition = &hosted.partition;
    if let Some(diverging) = diverging(hosted, asked)? {
        let offsets = partition.offsets();
        return Ok(FetchedPartition { diverging: Some(diverging), ..found(asked.partition, &offsets) });
    }
    let fetched = match poll {
        Some(poll) => partition.read_or_watch(fetch, poll),
        None => partition.read(fetch),
    };
    let fetched = fetched.map_err(|error| error.kafka_error_code())?;
    let aborted = (fetch.isolation == Isolation::ReadCommitted).then(|| {
        fetched.aborted.iter().map(|transaction| (transaction.producer_id, transaction.first_offset)).collect()
    });
    // Taken after the read, so that no record lies above them.
    let offsets = partition.offsets();
    let records = whole(fetched);
    // The disk reads for all partitions while the first is sent.
    records.iter().for_each(FileSlice::read_ahead);
    Ok(FetchedPartition { aborted, records, ..found(asked.partition, &offsets) })
}

/// The records, unless not even the first batch is whole: a consumer of these versions asks for it again when it comes first,
/// and gets it then whatever its size (`ReplicaManager.readFromLog`).
fn whole(fetched: Fetched) -> Option<FileSlice> {
    fetched.records.filter(|records| !fetched.first_batch_incomplete && !records.is_empty())
}

fn found(index: i32, offsets: &LogOffsets) -> FetchedPartition {
    FetchedPartition {
        high_watermark: offsets.high_watermark,
        last_stable_offset: offsets.last_stable,
        log_start_offset: offsets.log_start,
        ..FetchedPartition::failed(index, 0)
    }
}

/// Whether the reader's log differs from this one before the offset that it asks for: the largest epoch in common, and where
/// it ends (KIP-595).
fn diverging(hosted: &Hosted, asked: &FetchPartition) -> Result<Option<(i32, i64)>, KafkaErrorCode> {
    if asked.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = hosted.partition.reader().end_offset_for_epoch(asked.last_fetched_epoch);
    let (epoch, end_offset) = end.ok_or(KafkaErrorCode::OffsetOutOfRange)?;
    let differs = epoch < asked.last_fetched_epoch || end_offset < asked.fetch_offset;
    Ok(differs.then_some((epoch, end_offset)))
}

/// A partition that cannot be read, with its leader where the reader goes by another one (`KafkaApis.handleFetchRequest`).
fn failed(broker: &Broker, asked: &FetchPartition, name: Option<&str>, code: KafkaErrorCode) -> FetchedPartition {
    let failed = FetchedPartition::failed(asked.partition, code.code());
    if !matches!(code, KafkaErrorCode::NotLeaderOrFollower | KafkaErrorCode::FencedLeaderEpoch) {
        return failed;
    }
    let known = name.and_then(|name| broker.topics.partition(name, asked.partition).ok());
    let epoch = known.map_or(-1, |hosted| hosted.leader_epoch);
    FetchedPartition { leader: Some((broker.config.node_id, epoch)), ..failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{BrokerId, fetch_request::ReplicaState};

    #[test]
    fn limits_are_the_smaller_ones_and_never_negative() {
        let request = FetchRequest::default().with_min_bytes(500).with_max_bytes(100);
        let limits = Limits::of(&request, 1000);
        assert_eq!((limits.min_bytes, limits.max_bytes, limits.is_follower), (100, 100, false));
        let limits = Limits::of(&request.clone().with_max_bytes(i32::MAX), 1000);
        assert_eq!((limits.min_bytes, limits.max_bytes), (500, 1000));
        let limits = Limits::of(&request.with_max_bytes(-1).with_min_bytes(-1), 1000);
        assert_eq!((limits.min_bytes, limits.max_bytes), (0, 0));
    }

    #[test]
    fn followers_are_known_in_every_version() {
        let old = FetchRequest::default().with_replica_id(BrokerId(3));
        let new = FetchRequest::default().with_replica_state(ReplicaState::default().with_replica_id(BrokerId(3)));
        assert!(Limits::of(&old, 1).is_follower && Limits::of(&new, 1).is_follower);
    }
}
