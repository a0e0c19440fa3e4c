//! What the driver answers: results, errors by Kafka's names, and the state of a log.

use super::slips::{self, Slips};
use duramen::{
    AppendInfo, Damage, Fetch, Isolation, Log, LogError, LogOffsetMetadata, ProducedBatch, TimestampAndOffset,
    format::batch::{Batch, Batches},
    storage::StorageError,
};
use serde_json::{Map, Value, json};

/// An operation failed: the name of the error, and what the engine says.
#[derive(Debug)]
pub(super) struct Failure {
    error: String,
    message: String,
    invalid_records: Option<Vec<usize>>,
}

impl Failure {
    pub(super) fn named(error: &str, message: String) -> Self {
        Self { error: error.into(), message, invalid_records: None }
    }

    pub(super) fn bad_request(message: String) -> Self {
        Self::named("BAD_REQUEST", message)
    }

    pub(super) fn not_open() -> Self {
        Self::named("NOT_OPEN", "there is no open log".into())
    }

    pub(super) fn answer(self) -> Map<String, Value> {
        let mut answer = fields([("error", json!(self.error)), ("message", json!(self.message))]);
        answer.extend(self.invalid_records.map(|indexes| ("invalid_records".into(), json!(indexes))));
        answer
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::named("IO_ERROR", error.to_string())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::named("IO_ERROR", error.to_string())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let name = match &error {
            LogError::InvalidArgument { .. } => "IllegalArgumentException",
            // Kafka takes it for a segment that has to be split, and finds nothing to split.
            LogError::Corrupt(corruption) if matches!(corruption.damage, Damage::OffsetOutOfRange { .. }) => {
                "IllegalArgumentException"
            }
            LogError::OffsetsOutOfOrder { .. } => "OffsetsOutOfOrderException",
            LogError::UnexpectedAppendOffset { .. } => "UnexpectedAppendOffsetException",
            other => other.kafka_error_code().name(),
        };
        // Kafka lists records only when records are at fault, not the batch.
        let invalid_records = match &error {
            LogError::InvalidRecord { invalid_records, .. } if !invalid_records.is_empty() => {
                Some(invalid_records.clone())
            }
            _ => None,
        };
        Self { error: name.into(), message: error.to_string(), invalid_records }
    }
}

pub(super) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn offsets(log: &Log, slips: &Slips) -> Value {
    let offsets = log.offsets();
    json!({
        "log_start": offsets.log_start,
        "last_stable": slips.last_stable(log),
        "high_watermark": slips.high_watermark(&offsets),
        "log_end": offsets.log_end,
        "recovery_point": offsets.recovery_point,
    })
}

/// Bytes of the whole batches in a request, and the leader epoch that the last of them carries.
pub(super) fn received(bytes: &[u8]) -> (usize, i32) {
    let whole = Batches::new(bytes).map_while(Result::ok);
    whole.fold((0, -1), |(sum, _), batch: Batch<'_>| {
        (sum + batch.bytes().len(), batch.header().leader_epoch().unwrap_or(-1))
    })
}

pub(super) fn append_info(info: &AppendInfo, (valid_bytes, last_leader_epoch): (usize, i32)) -> Map<String, Value> {
    fields([
        ("first_offset", json!(info.first_offset)),
        ("last_offset", json!(info.last_offset)),
        ("max_timestamp", json!(info.max_timestamp.unwrap_or(-1))),
        ("log_append_time", json!(info.log_append_time.unwrap_or(-1))),
        ("log_start_offset", json!(info.log_start_offset)),
        ("valid_bytes", json!(valid_bytes)),
        ("last_leader_epoch", json!(last_leader_epoch)),
    ])
}

pub(super) fn nothing_appended(log: &Log) -> Map<String, Value> {
    fields([
        ("first_offset", json!(-1)),
        ("last_offset", json!(-1)),
        ("max_timestamp", json!(-1)),
        ("log_append_time", json!(-1)),
        ("log_start_offset", json!(log.offsets().log_start)),
        ("valid_bytes", json!(0)),
        ("last_leader_epoch", json!(-1)),
    ])
}

pub(super) fn timestamp_and_offset(found: Option<TimestampAndOffset>) -> Map<String, Value> {
    fields([
        ("offset", json!(found.map_or(-1, |found| found.offset))),
        ("timestamp", json!(found.and_then(|found| found.timestamp).unwrap_or(-1))),
        ("leader_epoch", json!(found.and_then(|found| found.leader_epoch).unwrap_or(-1))),
    ])
}

fn metadata(metadata: Option<LogOffsetMetadata>) -> Value {
    let (offset, base, position) =
        metadata.map_or((-1, -1, json!(-1)), |at| (at.offset, at.segment_base_offset, json!(at.position)));
    json!({"offset": offset, "segment_base_offset": base, "position": position})
}

pub(super) fn read(log: &Log, slips: &Slips, fetch: &Fetch) -> Result<Map<String, Value>, Failure> {
    let bound = slips.bound(log, fetch.isolation);
    let fetched = log.reader().read(*fetch)?;
    let start = if fetch.offset > bound { slips::find(log, fetch.offset)? } else { fetched.start };
    let records = fetched.records.filter(|_| fetch.offset < bound);
    let bytes = records.as_ref().map_or(Ok(Vec::new()), |records| records.to_vec())?;
    let batches: Vec<_> = Batches::new(&bytes)
        .map_while(Result::ok)
        .map(|batch| json!([batch.header().base_offset(), batch.header().last_offset()]))
        .collect();
    // Kafka tells no aborted transactions where it finds no batch behind the offset in any segment.
    let batches_behind = || log.reader().read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(fetch.offset) });
    let looked_up = records.is_some() || fetch.offset >= bound || batches_behind()?.records.is_some();
    let aborted = (fetch.isolation == Isolation::ReadCommitted && looked_up).then(|| {
        let found = fetched.aborted.iter().filter(|_| records.is_some());
        let pairs = found.map(|txn| json!([txn.producer_id, txn.first_offset]));
        pairs.collect::<Vec<_>>()
    });
    Ok(fields([
        ("fetch_offset", metadata(start)),
        ("size", json!(bytes.len())),
        ("crc32c", json!(crc32c::crc32c(&bytes))),
        ("first_entry_incomplete", json!(fetched.first_batch_incomplete)),
        ("batches", json!(batches)),
        ("aborted_transactions", json!(aborted)),
    ]))
}

fn batch(batch: &ProducedBatch) -> Value {
    json!([
        batch.first_sequence.unwrap_or(-1),
        batch.last_sequence.unwrap_or(-1),
        batch.first_offset,
        batch.last_offset,
        batch.timestamp,
    ])
}

pub(super) fn state(log: &Log, slips: &Slips) -> Result<Map<String, Value>, Failure> {
    let reader = log.reader();
    let mut segments = Vec::new();
    for segment in reader.segments()? {
        segments.push(json!({
            "base_offset": segment.base_offset,
            "size": segment.size,
            "index_entries": segment.index_entries,
            "time_index_entries": segment.time_index_entries,
            "aborted_transactions": segment.aborted_transactions,
        }));
    }
    let producers: Vec<_> = log
        .active_producers()
        .iter()
        .map(|producer| {
            json!({
                "producer_id": producer.producer_id,
                "producer_epoch": producer.producer_epoch,
                "last_sequence": producer.last_sequence.unwrap_or(-1),
                "last_timestamp": producer.last_timestamp,
                "coordinator_epoch": producer.coordinator_epoch.unwrap_or(-1),
                "current_txn_first_offset": producer.current_txn_first_offset.unwrap_or(-1),
                "batches": producer.batches.iter().map(batch).collect::<Vec<_>>(),
            })
        })
        .collect();
    let epochs: Vec<_> = reader.leader_epochs().iter().map(|entry| json!([entry.epoch, entry.start_offset])).collect();
    let snapshots = log.snapshot_offsets();
    Ok(fields([
        ("log_end", metadata(Some(reader.log_end()))),
        ("first_unstable_offset", json!(slips.first_unstable(log).unwrap_or(-1))),
        ("segments", json!(segments)),
        ("producers", json!(producers)),
        ("producer_state_end_offset", json!(log.producer_state_end_offset())),
        ("oldest_snapshot", json!(snapshots.map_or(-1, |(oldest, _)| oldest))),
        ("latest_snapshot", json!(snapshots.map_or(-1, |(_, latest)| latest))),
        ("leader_epochs", json!(epochs)),
    ]))
}
