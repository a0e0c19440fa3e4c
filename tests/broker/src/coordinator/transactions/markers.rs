//! Ending a transaction on its partitions: a marker in each, all at once, durable before anybody is told.
//!
//! What another broker would do for `TransactionMarkerChannelManager` over the network is an append here. A partition that is
//! gone needs no marker. A partition that knows a newer epoch of the producer, or was told by a newer coordinator, has ended
//! the transaction already.

use super::{CONSUMER_OFFSETS, RETRY, TransactionCoordinator, code, response_error};
use crate::transaction::{Markers, Producer};
use duramen::{
    Append, AppendAsLeader, AppendOrigin, KafkaErrorCode, PartitionError, TopicPartition, TryAppendError,
    ValidationPolicy,
    format::{builder::end_txn_marker, control::EndTxnMarker},
    validate,
};
use kafka_protocol::{
    ResponseError,
    messages::{
        WriteTxnMarkersResponse,
        write_txn_markers_request::WritableTxnMarker,
        write_txn_markers_response::{
            WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
        },
    },
};

/// A marker for any partition.
#[derive(Debug, Clone, Copy)]
struct Marker {
    producer: Producer,
    end: EndTxnMarker,
    /// The version of the transaction protocol by which it ends, as a number: another broker's may be one that is none.
    version: i16,
}

/// Why a marker was not written.
#[derive(Debug)]
enum Refusal {
    /// There is no such partition.
    Unknown,
    /// The partition has ended the transaction already.
    Fenced(KafkaErrorCode),
    /// It may be written another time.
    Failed(KafkaErrorCode),
}

impl From<PartitionError> for Refusal {
    fn from(error: PartitionError) -> Self {
        match error.kafka_error_code() {
            code @ (KafkaErrorCode::InvalidProducerEpoch | KafkaErrorCode::TransactionCoordinatorFenced) => {
                Self::Fenced(code)
            }
            code => Self::Failed(code),
        }
    }
}

impl TransactionCoordinator {
    /// Writes the markers of an end, again and again until all partitions have theirs; `false` when the coordinator closes
    /// before.
    pub(super) async fn write_markers(&self, id: &str, markers: &Markers, coordinator_epoch: i32) -> bool {
        let end = EndTxnMarker { committed: markers.committed, coordinator_epoch };
        let marker = Marker { producer: markers.producer, end, version: markers.version.level() };
        let mut left: Vec<&TopicPartition> = markers.partitions.iter().collect();
        let mut wait = RETRY.0;
        loop {
            // Every append begins before the first is waited for, so that one write to the disk carries them all.
            let begun: Vec<_> =
                left.iter().map(|partition| (*partition, self.begin_marker(partition, marker))).collect();
            left = Vec::new();
            for (partition, begun) in begun {
                match self.end_marker(partition, marker, begun).await {
                    Ok(()) | Err(Refusal::Unknown) => {}
                    Err(Refusal::Fenced(error)) => {
                        self.note(&format!(
                            "transactional id {id}: {partition} had its marker already: {}",
                            error.name()
                        ));
                    }
                    Err(Refusal::Failed(error)) => {
                        self.note(&format!("transactional id {id}: no marker in {partition} yet: {}", error.name()));
                        left.push(partition);
                    }
                }
            }
            if left.is_empty() {
                return true;
            }
            if !self.pause(&mut wait).await {
                return false;
            }
        }
    }

    /// Appends a marker; it is not durable yet.
    fn begin_marker(&self, partition: &TopicPartition, marker: Marker) -> Result<Append, Refusal> {
        let found = self.dependencies.partitions.partition(partition.topic(), partition.partition());
        let (partition, leader_epoch) = found.ok_or(Refusal::Unknown)?;
        let now_ms = self.now_ms();
        let Producer { id, epoch } = marker.producer;
        let bytes =
            end_txn_marker(id, epoch, marker.end, now_ms).map_err(|error| Refusal::Failed(error.kafka_error_code()))?;
        let config = partition.with(|log| log.config())?;
        let policy = ValidationPolicy::from_config(&config).with_origin(AppendOrigin::Coordinator);
        let batch = validate(bytes, &policy, now_ms).map_err(|error| Refusal::Failed(error.kafka_error_code()))?;
        let append = AppendAsLeader::new(leader_epoch, now_ms).with_transaction_version(marker.version);
        match partition.try_append_as_leader(batch, append, self.config.durability) {
            Ok(append) => Ok(append),
            Err(TryAppendError::Busy(_)) => Err(Refusal::Failed(KafkaErrorCode::RequestTimedOut)),
            Err(TryAppendError::Failed(error)) => Err(error.into()),
        }
    }

    /// Waits until a marker is durable, and tells the groups if it was one of theirs.
    async fn end_marker(
        &self,
        partition: &TopicPartition,
        marker: Marker,
        begun: Result<Append, Refusal>,
    ) -> Result<(), Refusal> {
        begun?.await.map_err(|error| Refusal::Failed(error.kafka_error_code()))?;
        if partition.topic() == CONSUMER_OFFSETS {
            (self.dependencies.offsets_ended)(partition.partition(), marker.producer.id, marker.end.committed);
        }
        Ok(())
    }

    /// Ends transactions as somebody else says: an operator who aborts one that hangs (`KafkaApis.handleWriteTxnMarkersRequest`).
    /// Each marker comes with the version of the transaction protocol by which it ends its transaction.
    pub(crate) async fn write_txn_markers(&self, markers: Vec<(WritableTxnMarker, i16)>) -> WriteTxnMarkersResponse {
        let mut results = Vec::new();
        for (asked, version) in markers {
            let marker = Marker {
                producer: Producer { id: asked.producer_id.0, epoch: asked.producer_epoch },
                end: EndTxnMarker { committed: asked.transaction_result, coordinator_epoch: asked.coordinator_epoch },
                version,
            };
            let mut topics = Vec::new();
            for topic in asked.topics {
                let mut partitions = Vec::new();
                for index in topic.partition_indexes {
                    let error_code = code(self.write_marker(&topic.name, index, marker).await);
                    let result = WritableTxnMarkerPartitionResult::default();
                    partitions.push(result.with_partition_index(index).with_error_code(error_code));
                }
                topics.push(WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions));
            }
            let result = WritableTxnMarkerResult::default();
            results.push(result.with_producer_id(asked.producer_id).with_topics(topics));
        }
        WriteTxnMarkersResponse::default().with_markers(results)
    }

    async fn write_marker(&self, topic: &str, index: i32, marker: Marker) -> Result<(), ResponseError> {
        let unknown = ResponseError::UnknownTopicOrPartition;
        let partition = TopicPartition::new(topic, index).map_err(|_| unknown)?;
        let begun = self.begin_marker(&partition, marker);
        self.end_marker(&partition, marker, begun).await.map_err(|refusal| match refusal {
            Refusal::Unknown => unknown,
            Refusal::Fenced(error) | Refusal::Failed(error) => response_error(error),
        })
    }
}
