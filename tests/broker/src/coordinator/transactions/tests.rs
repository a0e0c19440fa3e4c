//! The coordinator over partitions of the engine: what outlives it, and how it is asked.
#![allow(clippy::unwrap_used)]

mod crashes;
mod steps;

use super::{admission::Admitted, *};
use crate::transaction::{Appending, Producer, State};
use duramen::{
    AppendAsLeader, DirectoryOptions, Fetch, HighWatermarkPolicy, Isolation, LogConfig, LogManager, ManagerOptions,
    TopicPartition, ValidationPolicy,
    format::{batch::Batches, builder::BatchBuilder, control::EndTxnMarker},
    validate,
};
use kafka_protocol::{
    messages::{
        AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest, EndTxnResponse,
        InitProducerIdRequest, ListTransactionsRequest,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic},
    },
    protocol::StrBytes,
};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicI64, Ordering},
};
use tempfile::TempDir;

const ID: &str = "etl";

/// A record or marker that was found in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Record(Producer, String),
    Marker(Producer, EndTxnMarker),
}

/// What outlives a coordinator.
struct Ground {
    _dir: TempDir,
    /// Keeps the partitions open.
    _manager: LogManager,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<Partition>>>,
    now_ms: AtomicI64,
    next_id: AtomicI64,
    told: Mutex<Vec<(i32, i64, bool)>>,
    notes: Mutex<Vec<String>>,
    /// The coordinator's epoch: one more for each that is opened.
    epoch: AtomicI64,
    durability: Durability,
}

struct Around(Arc<Ground>);

impl Partitions for Around {
    fn partition(&self, topic: &str, index: i32) -> Option<(Arc<Partition>, i32)> {
        let partitions = self.0.partitions.lock().unwrap();
        partitions.get(&TopicPartition::new(topic, index).ok()?).map(|partition| (Arc::clone(partition), 0))
    }
}

impl ProducerIds for Around {
    fn allocate(&self, count: i32) -> Result<Range<i64>, KafkaErrorCode> {
        let first = self.0.next_id.fetch_add(i64::from(count), Ordering::Relaxed);
        Ok(first..first + i64::from(count))
    }
}

impl Ground {
    fn new() -> Arc<Self> {
        Self::with(Durability::Written)
    }

    fn with(durability: Durability) -> Arc<Self> {
        let dir = TempDir::new().unwrap();
        let directory = DirectoryOptions { verify_transactions: true, ..DirectoryOptions::default() };
        let high_watermark = HighWatermarkPolicy::LogEnd;
        let options = ManagerOptions { directory, high_watermark, journal_bytes: 0, ..ManagerOptions::default() };
        let manager = LogManager::open(&[dir.path()], options).unwrap();
        let names = [(TRANSACTION_STATE, 0), (CONSUMER_OFFSETS, 0), ("orders", 0), ("orders", 1), ("orders", 2)];
        let partitions = names.map(|(topic, index)| {
            let name = TopicPartition::new(topic, index).unwrap();
            let partition = manager.get_or_create(&name, &LogConfig::default()).unwrap();
            (name, partition)
        });
        Arc::new(Self {
            _dir: dir,
            _manager: manager,
            partitions: Mutex::new(partitions.into()),
            now_ms: AtomicI64::new(1_700_000_000_000),
            next_id: AtomicI64::new(0),
            told: Mutex::default(),
            notes: Mutex::default(),
            epoch: AtomicI64::new(0),
            durability,
        })
    }

    fn partition(&self, topic: &str, index: i32) -> Arc<Partition> {
        Arc::clone(&self.partitions.lock().unwrap()[&TopicPartition::new(topic, index).unwrap()])
    }

    fn log(&self) -> (InternalLog, LeaderEpoch) {
        let epoch = i32::try_from(self.epoch.load(Ordering::Relaxed)).unwrap();
        let partition = self.partition(TRANSACTION_STATE, 0);
        (InternalLog::new(partition, &LogConfig::default(), self.durability, epoch), epoch)
    }

    fn coordinator(self: &Arc<Self>, config: TransactionConfig) -> Arc<TransactionCoordinator> {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        let [clock, told, notes] = [(); 3].map(|()| Arc::clone(self));
        let dependencies = TransactionDependencies {
            partitions: Arc::new(Around(Arc::clone(self))),
            producer_ids: Arc::new(Around(Arc::clone(self))),
            offsets_ended: Box::new(move |index, id, commit| told.told.lock().unwrap().push((index, id, commit))),
            version: Box::new(|| TransactionVersion::V2),
            now_ms: Box::new(move || clock.now_ms.load(Ordering::Relaxed)),
            offsets_partition: Box::new(|group| partition_of(group, 1)),
            note: Box::new(move |line| notes.notes.lock().unwrap().push(line.to_owned())),
        };
        let coordinator = TransactionCoordinator::open(config, vec![self.log()], dependencies).unwrap();
        coordinator.start();
        coordinator
    }

    fn found(&self, topic: &str, index: i32) -> Vec<Found> {
        let fetch = Fetch { isolation: Isolation::LogEnd, max_bytes: 1 << 30, ..Fetch::from(0) };
        let Some(records) = self.partition(topic, index).read(fetch).unwrap().records else { return Vec::new() };
        let bytes = records.to_vec().unwrap();
        let (mut scratch, mut found) = (Vec::new(), Vec::new());
        for batch in Batches::new(&bytes) {
            let batch = batch.unwrap();
            let identity = batch.header().producer().unwrap();
            let producer = Producer { id: identity.id, epoch: identity.epoch };
            for record in batch.records(&mut scratch, 0).unwrap() {
                let record = record.unwrap();
                found.push(match batch.header().attributes().is_control() {
                    true => Found::Marker(producer, EndTxnMarker::decode(&record).unwrap().unwrap()),
                    false => Found::Record(producer, String::from_utf8(record.value().unwrap().to_vec()).unwrap()),
                });
            }
        }
        found
    }
}

fn config() -> TransactionConfig {
    TransactionConfig { durability: Durability::Written, ..TransactionConfig::default() }
}

impl TransactionCoordinator {
    async fn init(self: &Arc<Self>, version: i16, expected: Option<Producer>) -> Result<Producer, ResponseError> {
        let expected = expected.unwrap_or(Producer { id: -1, epoch: -1 });
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(StrBytes::from_static_str(ID).into()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(expected.id.into())
            .with_producer_epoch(expected.epoch);
        let response = self.init_producer_id(version, request).await;
        let producer = Producer { id: response.producer_id.0, epoch: response.producer_epoch };
        ResponseError::try_from_code(response.error_code).map_or(Ok(producer), Err)
    }

    /// Asks until what an older producer left open is aborted.
    async fn init_patiently(self: &Arc<Self>) -> Result<Producer, ResponseError> {
        loop {
            match self.init(5, None).await {
                Err(ResponseError::ConcurrentTransactions) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    }

    async fn add(self: &Arc<Self>, version: i16, producer: Producer, indexes: &[i32]) -> Vec<i16> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(StrBytes::from_static_str("orders").into())
            .with_partitions(indexes.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(StrBytes::from_static_str(ID).into())
            .with_v3_and_below_producer_id(producer.id.into())
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let response = self.add_partitions_to_txn(version, request).await;
        let results = &response.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().map(|result| result.partition_error_code).collect()
    }

    async fn end_with(self: &Arc<Self>, version: i16, producer: Producer, commit: bool) -> EndTxnResponse {
        let request = EndTxnRequest::default()
            .with_transactional_id(StrBytes::from_static_str(ID).into())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        self.end_txn(version, request).await
    }

    async fn produce(
        self: &Arc<Self>,
        ground: &Ground,
        appending: Appending,
        producer: Producer,
        (index, sequence, text): (i32, i32, &str),
    ) -> Result<(), ResponseError> {
        let partition = ground.partition("orders", index);
        let admitted = Admitted { partition: Arc::clone(&partition), base_sequence: Some(sequence) };
        let guard = self.admit(ID, producer, appending, &[admitted]).await.remove(0)?;
        let now_ms = self.now_ms();
        let builder = BatchBuilder::new().producer(producer.id, producer.epoch, sequence).transactional();
        let bytes = builder.record(now_ms, None, Some(text.as_bytes())).build().unwrap();
        let batch = validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), now_ms).unwrap();
        let append = AppendAsLeader::new(0, now_ms).with_guard(guard);
        let appended = partition.append_as_leader(batch, append, Durability::Written);
        appended.map(|_| ()).map_err(|error| response_error(error.kafka_error_code()))
    }

    fn state(&self) -> Option<State> {
        Some(self.shards[0].current(ID)?.state)
    }

    async fn until(&self, state: State) {
        while self.state() != Some(state) {
            tokio::task::yield_now().await;
        }
    }
}

fn marker(producer: Producer, committed: bool) -> Found {
    Found::Marker(producer, EndTxnMarker { committed, coordinator_epoch: 1 })
}
