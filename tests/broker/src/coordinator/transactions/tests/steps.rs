//! What producers and operators are answered, and what is in the partitions then.

use super::*;

#[tokio::test]
async fn transaction_of_version_1_is_committed_and_the_next_one_aborted() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(4, None).await.unwrap();
    assert_eq!(producer, Producer { id: 0, epoch: 0 });
    let old = Appending::Records(9);
    let early = coordinator.produce(&ground, old, producer, (0, 0, "early")).await;
    assert_eq!(early, Err(ResponseError::InvalidTxnState), "not added");
    assert_eq!(coordinator.add(3, producer, &[0, 1]).await, [0, 0]);
    coordinator.produce(&ground, old, producer, (0, 0, "a")).await.unwrap();
    assert_eq!(coordinator.end_with(3, producer, true).await.error_code, 0);
    coordinator.until(State::CompleteCommit).await;
    assert_eq!(coordinator.end_with(3, producer, true).await.error_code, 0, "again");
    let other = coordinator.end_with(3, producer, false).await.error_code;
    assert_eq!(other, ResponseError::InvalidTxnState.code());
    assert_eq!(ground.found("orders", 0), [Found::Record(producer, "a".into()), marker(producer, true)]);
    assert_eq!(ground.found("orders", 1), [marker(producer, true)]);
    assert_eq!(ground.partition("orders", 0).offsets().last_stable, 2);

    assert_eq!(coordinator.add(3, producer, &[2]).await, [0]);
    coordinator.produce(&ground, old, producer, (2, 0, "b")).await.unwrap();
    assert_eq!(coordinator.end_with(1, producer, false).await.error_code, 0);
    coordinator.until(State::CompleteAbort).await;
    assert_eq!(ground.found("orders", 2), [Found::Record(producer, "b".into()), marker(producer, false)]);
    coordinator.close().await;
}

#[tokio::test]
async fn transactions_of_version_2_add_what_is_written_and_bump_the_epoch() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let mut producer = coordinator.init(5, None).await.unwrap();
    let adds = Appending::Records(12);
    for (epoch, commit) in [(1, true), (2, false), (3, true)] {
        // The markers of the transaction before may still be on their way: this waits for them.
        coordinator.produce(&ground, adds, producer, (0, 0, "x")).await.unwrap();
        coordinator.produce(&ground, adds, producer, (0, 1, "y")).await.unwrap();
        let ended = coordinator.end_with(5, producer, commit).await;
        assert_eq!((ended.error_code, ended.producer_id.0, ended.producer_epoch), (0, producer.id, epoch));
        let complete = if commit { State::CompleteCommit } else { State::CompleteAbort };
        coordinator.until(complete).await;
        let again = coordinator.end_with(5, producer, commit).await;
        assert_eq!((again.error_code, again.producer_epoch), (0, epoch));
        let late = coordinator.produce(&ground, adds, producer, (1, 0, "late")).await;
        assert_eq!(late, Err(ResponseError::InvalidProducerEpoch));
        producer = Producer { epoch, ..producer };
    }
    let markers = ground.found("orders", 0).into_iter().filter(|found| matches!(found, Found::Marker(..)));
    let of = |epoch, commit| marker(Producer { id: producer.id, epoch }, commit);
    assert_eq!(markers.collect::<Vec<_>>(), [of(1, true), of(2, false), of(3, true)]);
    let unused = coordinator.end_with(5, producer, false).await;
    assert_eq!((unused.error_code, unused.producer_epoch), (0, 4), "an abort of nothing");
}

#[tokio::test]
async fn newer_producer_aborts_what_the_older_left_open_and_fences_it() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let old = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, old, &[0]).await;
    coordinator.produce(&ground, Appending::Records(9), old, (0, 0, "a")).await.unwrap();
    assert_eq!(coordinator.init(5, None).await, Err(ResponseError::ConcurrentTransactions));
    let new = coordinator.init_patiently().await.unwrap();
    assert_eq!(new, Producer { id: old.id, epoch: 2 }, "one for the abort, one for the new producer");
    assert_eq!(ground.found("orders", 0)[1], marker(Producer { id: old.id, epoch: 1 }, false));
    let (fenced, older) = (ResponseError::ProducerFenced.code(), ResponseError::InvalidProducerEpoch.code());
    assert_eq!((coordinator.add(3, old, &[0]).await, coordinator.add(1, old, &[0]).await), (vec![fenced], vec![older]));
    assert_eq!(coordinator.end_with(2, old, true).await.error_code, fenced);
    assert_eq!(coordinator.end_with(1, old, true).await.error_code, older);
    assert_eq!(coordinator.init(5, Some(old)).await, Err(ResponseError::ProducerFenced));
    assert_eq!(coordinator.init(3, Some(old)).await, Err(ResponseError::InvalidProducerEpoch));
    let bumped = coordinator.init(5, Some(new)).await.unwrap();
    assert_eq!(bumped.epoch, 3);
    assert_eq!(coordinator.init(5, Some(new)).await, Ok(bumped), "the answer was lost");
    let late = coordinator.produce(&ground, Appending::Records(9), old, (0, 1, "late")).await;
    assert_eq!(late, Err(ResponseError::InvalidProducerEpoch));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let nobody = Producer { id: 9, epoch: 0 };
    let mapping = ResponseError::InvalidProducerIdMapping.code();
    assert_eq!(coordinator.add(3, nobody, &[0]).await, [mapping]);
    assert_eq!(coordinator.end_with(5, nobody, true).await.error_code, mapping);
    assert!(coordinator.state().is_none(), "nothing is remembered of an id that nobody has");
    let half = coordinator.init(5, Some(Producer { id: 9, epoch: -1 })).await;
    assert_eq!(half, Err(ResponseError::InvalidRequest));
    for timeout_ms in [0, -1, 900_001] {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(StrBytes::from_static_str(ID).into()))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = coordinator.init_producer_id(5, request).await;
        assert_eq!(answer.error_code, ResponseError::InvalidTransactionTimeout.code());
    }
    let producer = coordinator.init(5, None).await.unwrap();
    let (missing, untried) =
        (ResponseError::UnknownTopicOrPartition.code(), ResponseError::OperationNotAttempted.code());
    assert_eq!(coordinator.add(3, producer, &[0, 7]).await, [untried, missing]);
    assert_eq!(coordinator.state(), Some(State::Empty));
}

#[tokio::test]
async fn producers_without_a_transactional_id_get_ids_of_their_own() {
    let coordinator = Ground::new().coordinator(config());
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let first = coordinator.init_producer_id(4, request.clone()).await;
    let second = coordinator.init_producer_id(4, request).await;
    assert_eq!((first.producer_id.0, second.producer_id.0, second.producer_epoch), (0, 1, 0));
}

#[tokio::test]
async fn groups_are_told_of_the_end_of_their_offsets() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(StrBytes::from_static_str(ID).into())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_group_id(StrBytes::from_static_str("group").into());
    assert_eq!(coordinator.add_offsets_to_txn(3, request).await.error_code, 0);
    coordinator.end_with(3, producer, true).await;
    coordinator.until(State::CompleteCommit).await;
    assert_eq!(*ground.told.lock().unwrap(), [(0, producer.id, true)]);
}

#[tokio::test]
async fn transaction_that_takes_too_long_is_aborted_and_an_idle_id_is_forgotten() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, producer, &[0]).await;
    ground.now_ms.fetch_add(60_000, Ordering::Relaxed);
    coordinator.abort_timed_out();
    assert_eq!(coordinator.state(), Some(State::Ongoing), "not yet");
    ground.now_ms.fetch_add(1, Ordering::Relaxed);
    coordinator.abort_timed_out();
    coordinator.until(State::CompleteAbort).await;
    assert_eq!(ground.found("orders", 0), [marker(Producer { epoch: 1, ..producer }, false)]);
    assert_eq!(coordinator.end_with(3, producer, true).await.error_code, ResponseError::ProducerFenced.code());

    ground.now_ms.fetch_add(config().expiration_ms - 1, Ordering::Relaxed);
    coordinator.remove_expired().await;
    assert!(coordinator.state().is_some());
    ground.now_ms.fetch_add(1, Ordering::Relaxed);
    coordinator.remove_expired().await;
    assert!(coordinator.state().is_none());
    assert!(ground.coordinator(config()).state().is_none(), "for ever");
    assert_eq!(ground.coordinator(config()).init(5, None).await.unwrap().epoch, 0);
}

#[tokio::test]
async fn decided_end_is_carried_out_by_the_next_coordinator() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, producer, &[0, 1]).await;
    coordinator.produce(&ground, Appending::Records(9), producer, (1, 0, "a")).await.unwrap();
    // The log takes the decision, and the coordinator dies before it can write a marker.
    let shard = &coordinator.shards[0];
    let ask = crate::transaction::EndTransaction { producer, commit: true, version: TransactionVersion::V0 };
    let step = shard.with(ID, |transaction| transaction.end(ask, None, 1)).unwrap();
    let Step::Write(prepared) = step else { panic!("{step:?}") };
    let offsets = TopicPartition::new(CONSUMER_OFFSETS, 0).unwrap();
    let partitions = prepared.partitions.iter().cloned().chain([offsets]).collect();
    let prepared = Metadata { partitions, ..(*prepared).clone() };
    shard.append(ID, &prepared, TransactionVersion::V2, 1).await.unwrap();
    coordinator.close().await;

    let next = ground.coordinator(config());
    assert_eq!(next.init(5, None).await, Err(ResponseError::ConcurrentTransactions));
    next.until(State::CompleteCommit).await;
    let marker = Found::Marker(producer, EndTxnMarker { committed: true, coordinator_epoch: 2 });
    assert_eq!(ground.found("orders", 1)[1], marker);
    assert_eq!(ground.found("orders", 0), [marker]);
    assert_eq!(*ground.told.lock().unwrap(), [(0, producer.id, true)]);
}

#[tokio::test]
async fn partition_that_is_gone_needs_no_marker() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, producer, &[0, 1]).await;
    ground.partitions.lock().unwrap().remove(&TopicPartition::new("orders", 0).unwrap());
    coordinator.end_with(3, producer, true).await;
    coordinator.until(State::CompleteCommit).await;
    assert_eq!(ground.found("orders", 1), [marker(producer, true)]);
}

#[tokio::test]
async fn step_goes_on_when_its_client_goes_away() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, producer, &[0]).await;
    let request = tokio::spawn({
        let coordinator = Arc::clone(&coordinator);
        async move { coordinator.end_with(3, producer, true).await }
    });
    tokio::task::yield_now().await;
    request.abort();
    coordinator.until(State::CompleteCommit).await;
    coordinator.close().await;
    assert_eq!(coordinator.init(5, None).await, Err(ResponseError::CoordinatorNotAvailable), "closed");
}

#[tokio::test]
async fn transactions_are_described_and_listed() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, producer, &[2, 0]).await;
    let ids = [ID, "nobody", ""].map(|id| StrBytes::from_static_str(id).into());
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.to_vec());
    let states = coordinator.describe_transactions(request).transaction_states;
    let codes: Vec<i16> = states.iter().map(|state| state.error_code).collect();
    let missing = ResponseError::TransactionalIdNotFound.code();
    assert_eq!(codes, [0, missing, ResponseError::InvalidRequest.code()]);
    assert_eq!((states[0].transaction_state.as_str(), states[0].transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!(states[0].topics[0].partitions, [0, 2]);

    let list = |request: ListTransactionsRequest| {
        let response = coordinator.list_transactions(request);
        (response.error_code, response.transaction_states.len(), response.unknown_state_filters.len())
    };
    let all = || ListTransactionsRequest::default().with_duration_filter(-1);
    let text = StrBytes::from_static_str;
    assert_eq!(list(all()), (0, 1, 0));
    assert_eq!(list(all().with_state_filters(vec![text("Ongoing"), text("Odd")])), (0, 1, 1));
    assert_eq!(list(all().with_state_filters(vec![text("Odd")])), (0, 0, 1));
    assert_eq!(list(all().with_state_filters(vec![text("Empty")])), (0, 0, 0));
    assert_eq!(list(all().with_producer_id_filters(vec![77.into()])), (0, 0, 0));
    assert_eq!(list(all().with_duration_filter(0)), (0, 0, 0), "it began now");
    assert_eq!(list(all().with_transactional_id_pattern(Some(text("e.l")))), (0, 1, 0));
    assert_eq!(list(all().with_transactional_id_pattern(Some(text("e.")))), (0, 0, 0), "the whole id");
    let broken = list(all().with_transactional_id_pattern(Some(text("e)(")))).0;
    assert_eq!(broken, ResponseError::InvalidRegularExpression.code());
}

#[tokio::test]
async fn operator_aborts_a_transaction_on_its_partition() {
    let ground = Ground::new();
    let coordinator = ground.coordinator(config());
    let producer = coordinator.init(5, None).await.unwrap();
    coordinator.add(3, producer, &[0]).await;
    coordinator.produce(&ground, Appending::Records(9), producer, (0, 0, "a")).await.unwrap();
    let topic = WritableTxnMarkerTopic::default()
        .with_name(StrBytes::from_static_str("orders").into())
        .with_partition_indexes(vec![0, 9]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_coordinator_epoch(-1)
        .with_topics(vec![topic]);
    let response = coordinator.write_txn_markers(vec![(marker, 0)]).await;
    let partitions = &response.markers[0].topics[0].partitions;
    let codes: Vec<i16> = partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [0, ResponseError::UnknownTopicOrPartition.code()]);
    assert_eq!(ground.partition("orders", 0).offsets().last_stable, 2);
}

#[test]
fn ids_are_spread_as_kafka_spreads_them() {
    assert_eq!((partition_of("etl", 50), partition_of("", 50)), (100_765 % 50, 0));
    assert_eq!(partition_of("polygenelubricants", 50), 0, "its hash is the least number");
    assert_eq!(partition_of("x", 0), 0);
}
