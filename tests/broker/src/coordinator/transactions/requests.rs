//! From requests of the protocol to steps of an id, and back: which error a version of a request knows, and who is not asked
//! properly (`KafkaApis`).

use super::{CONSUMER_OFFSETS, TRANSACTION_STATE, TransactionCoordinator, code};
use crate::transaction::{EndTransaction, InitProducerId, Producer, State, Transaction, TransactionVersion};
use duramen::TopicPartition;
use kafka_protocol::{
    ResponseError,
    messages::{
        self, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
        DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
        InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        add_partitions_to_txn_response::{
            AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
        },
        describe_transactions_response::{self, TopicData},
        list_transactions_response,
    },
    protocol::StrBytes,
};
use regex::Regex;
use std::{sync::Arc, time::Duration};

/// "No producer id" and "no epoch".
const NO_PRODUCER: Producer = Producer { id: -1, epoch: -1 };
/// The first versions that know PRODUCER_FENCED (KIP-588); before them it is INVALID_PRODUCER_EPOCH.
const FENCED_SINCE_INIT_PRODUCER_ID: i16 = 4;
const FENCED_SINCE: i16 = 2;
/// The first version of EndTxn that bumps the epoch.
const BUMPS_SINCE_END_TXN: i16 = 5;
/// The first version of AddPartitionsToTxn in which a broker asks for several transactions.
const BATCHED_SINCE_ADD_PARTITIONS: i16 = 4;

impl TransactionCoordinator {
    /// Gives a producer its id and epoch.
    pub(crate) async fn init_producer_id(
        self: &Arc<Self>,
        version: i16,
        request: InitProducerIdRequest,
    ) -> InitProducerIdResponse {
        let answer = self.initialized(&request).await;
        let producer = answer.unwrap_or(NO_PRODUCER);
        let error = answer.map(|_| ()).map_err(|error| known(error, version >= FENCED_SINCE_INIT_PRODUCER_ID));
        InitProducerIdResponse::default()
            .with_error_code(code(error))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
    }

    async fn initialized(self: &Arc<Self>, request: &InitProducerIdRequest) -> Result<Producer, ResponseError> {
        let expected = match (request.producer_id.0, request.producer_epoch) {
            (-1, -1) => None,
            (id, epoch) if id != -1 && epoch != -1 => Some(Producer { id, epoch }),
            _ => return Err(ResponseError::InvalidRequest),
        };
        let Some(transactional_id) = &request.transactional_id else {
            return Ok(Producer { id: self.producer_ids.next().await?, epoch: 0 });
        };
        let timeout_ms = request.transaction_timeout_ms;
        if transactional_id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if timeout_ms <= 0 || timeout_ms > self.config.max_timeout_ms {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let ask = InitProducerId { timeout_ms, expected, version: self.version() };
        let init =
            |transaction: &mut Transaction, fresh_id, now_ms| transaction.init_producer_id(ask, fresh_id, now_ms);
        let written = self.change(transactional_id, Duration::ZERO, init).await?;
        // What the older producer left open is being aborted: the epoch of that is nobody's, and the producer comes again.
        if written.state == State::Empty { Ok(written.producer) } else { Err(ResponseError::ConcurrentTransactions) }
    }

    /// Adds partitions to transactions, or verifies that they belong to them.
    pub(crate) async fn add_partitions_to_txn(
        self: &Arc<Self>,
        version: i16,
        request: AddPartitionsToTxnRequest,
    ) -> AddPartitionsToTxnResponse {
        let response = AddPartitionsToTxnResponse::default();
        if version < BATCHED_SINCE_ADD_PARTITIONS {
            let (id, producer_id) = (request.v3_and_below_transactional_id, request.v3_and_below_producer_id);
            let producer = Producer { id: producer_id.0, epoch: request.v3_and_below_producer_epoch };
            let topics = request.v3_and_below_topics;
            let results = self.added(version, &id, producer, false, topics).await;
            return response.with_results_by_topic_v3_and_below(results);
        }
        let mut results = Vec::new();
        for asked in request.transactions {
            let producer = Producer { id: asked.producer_id.0, epoch: asked.producer_epoch };
            let topics = self.added(version, &asked.transactional_id, producer, asked.verify_only, asked.topics).await;
            let result = AddPartitionsToTxnResult::default().with_transactional_id(asked.transactional_id);
            results.push(result.with_topic_results(topics));
        }
        response.with_results_by_transaction(results)
    }

    /// All partitions of one transaction, or none: with one that does not exist the others are not tried.
    async fn added(
        self: &Arc<Self>,
        version: i16,
        id: &str,
        producer: Producer,
        verify_only: bool,
        topics: Vec<AddPartitionsToTxnTopic>,
    ) -> Vec<AddPartitionsToTxnTopicResult> {
        let is_client = version < BATCHED_SINCE_ADD_PARTITIONS;
        let names = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.as_str(), *index)));
        let found: Vec<_> = names.map(|(topic, index)| self.writable(topic, index, is_client)).collect();
        let answers = match found.iter().cloned().collect::<Result<Vec<_>, _>>() {
            Err(_) => {
                let untried = |found: &Result<_, _>| {
                    found.as_ref().err().copied().unwrap_or(ResponseError::OperationNotAttempted)
                };
                Ok(found.iter().map(|found| Err(untried(found))).collect())
            }
            Ok(partitions) if verify_only => self.verify(id, producer, &partitions),
            Ok(partitions) => {
                let client_version = if is_client { TransactionVersion::V0 } else { TransactionVersion::V2 };
                let added = self.add_partitions(id, producer, &partitions, client_version).await;
                added.map(|()| vec![Ok(()); partitions.len()])
            }
        };
        let answers = answers.unwrap_or_else(|error| vec![Err(error); found.len()]);
        by_topic(
            topics,
            answers.into_iter().map(|answer| answer.map_err(|error| known(error, version >= FENCED_SINCE))),
        )
    }

    /// The partition, if it is there and may be written to: clients do not write to internal topics.
    fn writable(&self, topic: &str, index: i32, is_client: bool) -> Result<TopicPartition, ResponseError> {
        if is_client && (topic == CONSUMER_OFFSETS || topic == TRANSACTION_STATE) {
            return Err(ResponseError::TopicAuthorizationFailed);
        }
        let found = self.dependencies.partitions.partition(topic, index);
        let name = found.and_then(|_| TopicPartition::new(topic, index).ok());
        name.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Adds the partition with a group's offsets to a transaction.
    pub(crate) async fn add_offsets_to_txn(
        self: &Arc<Self>,
        version: i16,
        request: AddOffsetsToTxnRequest,
    ) -> AddOffsetsToTxnResponse {
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        let index = (self.dependencies.offsets_partition)(&request.group_id);
        let added = match TopicPartition::new(CONSUMER_OFFSETS, index) {
            Ok(partition) => {
                let id = &request.transactional_id;
                self.add_partitions(id, producer, &[partition], TransactionVersion::V0).await
            }
            Err(_) => Err(ResponseError::CoordinatorNotAvailable),
        };
        let answer = added.map_err(|error| known(error, version >= FENCED_SINCE));
        AddOffsetsToTxnResponse::default().with_error_code(code(answer))
    }

    /// Commits or aborts a transaction: the outcome is in the log when this returns, its markers follow.
    pub(crate) async fn end_txn(self: &Arc<Self>, version: i16, request: EndTxnRequest) -> EndTxnResponse {
        let client_version = match version {
            BUMPS_SINCE_END_TXN.. => TransactionVersion::V2,
            _ => TransactionVersion::V0,
        };
        let ask = EndTransaction {
            producer: Producer { id: request.producer_id.0, epoch: request.producer_epoch },
            commit: request.committed,
            version: client_version,
        };
        let end = |transaction: &mut Transaction, fresh_id, now_ms| transaction.end(ask, fresh_id, now_ms);
        let ended = match request.transactional_id.as_str() {
            "" => Err(ResponseError::InvalidRequest),
            id => self.change(id, Duration::ZERO, end).await,
        };
        let producer = ended.as_ref().map_or(NO_PRODUCER, |ended| match client_version {
            TransactionVersion::V2 => ended.producer_after_end(),
            _ => NO_PRODUCER,
        });
        let answer = ended.map(|_| ()).map_err(|error| known(error, version >= FENCED_SINCE));
        EndTxnResponse::default()
            .with_error_code(code(answer))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
    }

    /// What is known of some ids.
    pub(crate) fn describe_transactions(&self, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
        let states = request.transactional_ids.into_iter().map(|id| self.described(id)).collect();
        DescribeTransactionsResponse::default().with_transaction_states(states)
    }

    fn described(&self, id: messages::TransactionalId) -> describe_transactions_response::TransactionState {
        let current = match id.as_str() {
            "" => Err(ResponseError::InvalidRequest),
            name => {
                self.shard(name).and_then(|shard| shard.current(name).ok_or(ResponseError::TransactionalIdNotFound))
            }
        };
        let state = describe_transactions_response::TransactionState::default().with_transactional_id(id);
        let current = match current {
            Ok(current) => current,
            Err(error) => return state.with_error_code(error.code()),
        };
        let topics = current.log_value().partitions.into_iter().flatten();
        let topics =
            topics.map(|(topic, indexes)| TopicData::default().with_topic(topic.into()).with_partitions(indexes));
        state
            .with_producer_id(current.producer.id.into())
            .with_producer_epoch(current.producer.epoch)
            .with_transaction_state(StrBytes::from_static_str(current.state.name()))
            .with_transaction_timeout_ms(current.timeout_ms)
            .with_transaction_start_time_ms(current.start_ms.unwrap_or(-1))
            .with_topics(topics.collect())
    }

    /// All ids that fit the filters; an empty filter fits all (`TransactionStateManager.listTransactionStates`).
    pub(crate) fn list_transactions(&self, request: ListTransactionsRequest) -> ListTransactionsResponse {
        let response = ListTransactionsResponse::default();
        let pattern = match pattern(request.transactional_id_pattern.as_deref()) {
            Ok(pattern) => pattern,
            Err(_) => return response.with_error_code(ResponseError::InvalidRegularExpression.code()),
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            request.state_filters.into_iter().partition(|name| State::from_name(name).is_some());
        let wants_state = |state: State| {
            (known.is_empty() && unknown.is_empty()) || known.iter().any(|name| name.as_str() == state.name())
        };
        let ids: Vec<i64> = request.producer_id_filters.iter().map(|id| id.0).collect();
        let now_ms = self.now_ms();
        let has_lasted = |start_ms: Option<i64>| {
            request.duration_filter < 0 || now_ms.saturating_sub(start_ms.unwrap_or(-1)) > request.duration_filter
        };
        let mut states = Vec::new();
        for shard in &self.shards {
            for (id, transaction) in shard.transactions().iter() {
                let Some(current) = transaction.current() else { continue };
                let fits = wants_state(current.state)
                    && (ids.is_empty() || ids.contains(&current.producer.id))
                    && has_lasted(current.start_ms)
                    && pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
                if fits {
                    let state = list_transactions_response::TransactionState::default()
                        .with_transactional_id(StrBytes::from_string(id.to_string()).into())
                        .with_producer_id(current.producer.id.into())
                        .with_transaction_state(StrBytes::from_static_str(current.state.name()));
                    states.push(state);
                }
            }
        }
        response.with_unknown_state_filters(unknown).with_transaction_states(states)
    }
}

/// The error as a version of a request knows it.
fn known(error: ResponseError, knows_fenced: bool) -> ResponseError {
    if error == ResponseError::ProducerFenced && !knows_fenced { ResponseError::InvalidProducerEpoch } else { error }
}

/// A pattern that has to fit the whole id; none where the text is empty. It is looked at alone first: what is put round it must
/// not make a pattern of what is none.
fn pattern(text: Option<&str>) -> Result<Option<Regex>, regex::Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    Regex::new(text)?;
    Regex::new(&format!("^(?:{text})$")).map(Some)
}

/// Answers in the order of the request's partitions, by its topics.
fn by_topic(
    topics: Vec<AddPartitionsToTxnTopic>,
    mut answers: impl Iterator<Item = Result<(), ResponseError>>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut results = Vec::new();
    for topic in topics {
        let partitions = topic.partitions.iter().zip(answers.by_ref()).map(|(index, answer)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code(answer))
        });
        let result = AddPartitionsToTxnTopicResult::default().with_results_by_partition(partitions.collect());
        results.push(result.with_name(topic.name));
    }
    results
}
