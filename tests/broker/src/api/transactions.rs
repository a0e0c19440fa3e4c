//! Requests about producers and their transactions: passed on to their coordinator.

use super::{Broker, RequestContext};
use crate::protocol::WriteTxnMarkers;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId, WriteTxnMarkersResponse,
    add_partitions_to_txn_request::AddPartitionsToTxnTopic,
    add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    },
    describe_transactions_response::TransactionState,
    write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    },
};

/// Answers an InitProducerId.
pub(crate) async fn init_producer_id(
    broker: &Broker,
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match broker.coordinators.transactions().await {
        Ok(transactions) => transactions.init_producer_id(context.version, request).await,
        Err(code) => {
            let none = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
            none.with_error_code(code.code())
        }
    }
}

/// Answers an AddPartitionsToTxn.
pub(crate) async fn add_partitions(
    broker: &Broker,
    context: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let code = match broker.coordinators.transactions().await {
        Ok(transactions) => return transactions.add_partitions_to_txn(context.version, request).await,
        Err(code) => code.code(),
    };
    let refused = |topics: Vec<AddPartitionsToTxnTopic>| {
        let topic = |topic: AddPartitionsToTxnTopic| {
            let partitions = topic.partitions.iter().map(|index| {
                let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(*index);
                result.with_partition_error_code(code)
            });
            let results = partitions.collect();
            AddPartitionsToTxnTopicResult::default().with_results_by_partition(results).with_name(topic.name)
        };
        topics.into_iter().map(topic).collect()
    };
    let transactions = request.transactions.into_iter().map(|transaction| {
        let topics = refused(transaction.topics);
        let result = AddPartitionsToTxnResult::default().with_transactional_id(transaction.transactional_id);
        result.with_topic_results(topics)
    });
    AddPartitionsToTxnResponse::default()
        .with_error_code(code)
        .with_results_by_transaction(transactions.collect())
        .with_results_by_topic_v3_and_below(refused(request.v3_and_below_topics))
}

/// Answers an AddOffsetsToTxn.
pub(crate) async fn add_offsets(
    broker: &Broker,
    context: &RequestContext,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    match broker.coordinators.transactions().await {
        Ok(transactions) => transactions.add_offsets_to_txn(context.version, request).await,
        Err(code) => AddOffsetsToTxnResponse::default().with_error_code(code.code()),
    }
}

/// Answers an EndTxn.
pub(crate) async fn end(broker: &Broker, context: &RequestContext, request: EndTxnRequest) -> EndTxnResponse {
    match broker.coordinators.transactions().await {
        Ok(transactions) => transactions.end_txn(context.version, request).await,
        Err(code) => EndTxnResponse::default().with_error_code(code.code()),
    }
}

/// Answers a DescribeTransactions.
pub(crate) async fn describe(
    broker: &Broker,
    _: &RequestContext,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    match broker.coordinators.transactions().await {
        Ok(transactions) => transactions.describe_transactions(request),
        Err(code) => {
            let states = request.transactional_ids.into_iter();
            let states =
                states.map(|id| TransactionState::default().with_transactional_id(id).with_error_code(code.code()));
            DescribeTransactionsResponse::default().with_transaction_states(states.collect())
        }
    }
}

/// Answers a ListTransactions.
pub(crate) async fn list(
    broker: &Broker,
    _: &RequestContext,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    match broker.coordinators.transactions().await {
        Ok(transactions) => transactions.list_transactions(request),
        Err(code) => ListTransactionsResponse::default().with_error_code(code.code()),
    }
}

/// Answers a WriteTxnMarkers, with which an operator ends a transaction that hangs.
pub(crate) async fn write_markers(
    broker: &Broker,
    _: &RequestContext,
    WriteTxnMarkers(markers): WriteTxnMarkers,
) -> WriteTxnMarkersResponse {
    let code = match broker.coordinators.transactions().await {
        Ok(transactions) => return transactions.write_txn_markers(markers).await,
        Err(error) => error.code(),
    };
    let markers = markers.into_iter().map(|(marker, _)| {
        let topics = marker.topics.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code)
            });
            let partitions = partitions.collect();
            WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
        });
        let topics = topics.collect();
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics)
    });
    WriteTxnMarkersResponse::default().with_markers(markers.collect())
}
