//! The way of a request, over a socket to a broker in this process.
#![allow(clippy::unwrap_used)]

mod client;
mod newer;
mod requests;

use bytes::Bytes;
use client::Running;
use duramen::{
    Durability,
    format::{batch::Batches, builder::BatchBuilder, compression::Compression},
};
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, FetchRequest, ProduceRequest, fetch_request::FetchPartition},
    protocol::StrBytes,
};
use requests::{batch, begin, fetch, fetch_of, get, list, now_ms, offset_query, produce, put};
use std::{
    io::{Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};
use tempfile::TempDir;

fn broker(settings: &[(&str, &str)]) -> (TempDir, Running) {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), Durability::Flushed, settings);
    (directory, running)
}

#[test]
fn batch_comes_back_as_it_went_in_every_version() {
    for ack in [Durability::Flushed, Durability::Written] {
        let directory = TempDir::new().unwrap();
        let broker = Running::start(directory.path(), ack, &[]);
        let mut connection = broker.connect();
        let sent = batch(&[b"one", b"two"]);
        let mut next = 0;
        for version in 3..=12 {
            for acks in [1, -1] {
                let response = connection.ask(version, &produce("orders", 1, acks, sent.clone())).unwrap();
                let partition = &response.responses[0].partition_responses[0];
                assert_eq!((partition.index, partition.error_code, partition.base_offset), (1, 0, next));
                assert_eq!(partition.log_append_time_ms, -1);
                next += 2;
            }
        }
        for version in 4..=12 {
            let found = get(&mut connection, version, &fetch("orders", 1, 5));
            let (high_watermark, records) = (found.high_watermark, found.records.unwrap());
            assert_eq!(
                (found.error_code, high_watermark, found.last_stable_offset),
                (0, next, next),
                "version {version}"
            );
            let batches: Vec<_> = Batches::new(&records).map(Result::unwrap).collect();
            // The batch that holds the offset comes first, as a whole.
            assert_eq!((batches[0].header().base_offset(), batches.len()), (4, 18));
            assert_eq!(batches[0].payload(), &sent[61..]);
        }
        broker.stop();
    }
}

#[test]
fn large_batch_comes_from_its_file() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let large = vec![7; 600 << 10];
    for number in 0..20 {
        assert_eq!(put(&mut connection, "orders", 0, batch(&[&large])).base_offset, number);
    }
    let partition = FetchPartition::default().with_partition_max_bytes(50 << 20);
    let found = get(&mut connection, 12, &fetch_of("orders", vec![partition]));
    let records = found.records.unwrap();
    let batches: Vec<_> = Batches::new(&records).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 20);
    assert!(batches.iter().all(|batch| batch.check_crc().is_ok()));
    broker.stop();
}

#[test]
fn producer_without_acks_gets_no_answer_and_an_error_ends_the_connection() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    connection.send(9, &produce("orders", 0, 0, batch(&[b"quiet"]))).unwrap();
    assert_eq!(put(&mut connection, "orders", 0, batch(&[b"loud"])).base_offset, 1);
    connection.send(9, &produce("nowhere", 0, 0, batch(&[b"lost"]))).unwrap();
    assert!(connection.is_closed());
    broker.stop();
}

#[test]
fn produce_errors_are_kafkas() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let mut code = |topic, index, records| put(&mut connection, topic, index, records).error_code;
    assert_eq!(code("nowhere", 0, batch(&[b"x"])), 3);
    assert_eq!(code("orders", 4, batch(&[b"x"])), 3);
    assert_eq!(code("orders", -1, batch(&[b"x"])), 3);
    assert_eq!(code("__consumer_offsets", 0, batch(&[b"x"])), 17);
    assert_eq!(code("orders", 0, Bytes::new()), 87);
    assert_eq!(code("orders", 0, [batch(&[b"x"]), batch(&[b"y"])].concat().into()), 87);
    assert_eq!(code("orders", 0, batch(&[&vec![1; 2 << 20]])), 10);
    let mut damaged = batch(&[b"x"]).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(code("orders", 0, damaged.into()), 2);
    let unkeyed = BatchBuilder::new().record(now_ms(), None, Some(b"x")).build().unwrap();
    let refused = put(&mut connection, "keyed", 0, unkeyed.into());
    assert_eq!((refused.error_code, refused.base_offset, refused.record_errors.len()), (87, -1, 1));
    let wrong_acks = connection.ask(9, &produce("orders", 0, 2, batch(&[b"x"]))).unwrap();
    assert_eq!(wrong_acks.responses[0].partition_responses[0].error_code, 21);
    let zstd = BatchBuilder::new()
        .compression(Compression::Zstd { level: 3 })
        .record(now_ms(), None, Some(b"x"))
        .build()
        .unwrap();
    for (version, code) in [(6, 76), (7, 0)] {
        let response = connection.ask(version, &produce("orders", 0, 1, zstd.clone().into())).unwrap();
        assert_eq!(response.responses[0].partition_responses[0].error_code, code);
    }
    broker.stop();
}

#[test]
fn times_of_the_broker_are_told() {
    let (_directory, broker) = broker(&[]);
    let before = now_ms();
    let answer = put(&mut broker.connect(), "stamped", 0, batch(&[b"x"]));
    assert!((before..=now_ms()).contains(&answer.log_append_time_ms));
    broker.stop();
}

#[test]
fn repeated_batch_is_answered_with_its_first_offset() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let idempotent =
        |sequence| BatchBuilder::new().producer(9, 0, sequence).record(now_ms(), None, Some(b"x")).build().unwrap();
    put(&mut connection, "orders", 0, batch(&[b"before"]));
    for _ in 0..2 {
        let answer = put(&mut connection, "orders", 0, idempotent(0).into());
        assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    }
    assert_eq!(put(&mut connection, "orders", 0, idempotent(5).into()).error_code, 45);
    broker.stop();
}

#[test]
fn batch_of_a_transaction_that_nobody_began_is_refused() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    assert_ne!(connection.ask(9, &begin("orders", 0)).unwrap().responses[0].partition_responses[0].error_code, 0);
    assert_eq!(list(&mut connection, 5, "orders", 0, -1).offset, 0);
    broker.stop();
}

#[test]
fn open_transaction_holds_back_readers_of_committed_records() {
    let (_directory, broker) = broker(&[("transaction.partition.verification.enable", "false")]);
    let mut connection = broker.connect();
    put(&mut connection, "orders", 0, batch(&[b"before"]));
    assert_eq!(connection.ask(9, &begin("orders", 0)).unwrap().responses[0].partition_responses[0].error_code, 0);
    put(&mut connection, "orders", 0, batch(&[b"after"]));
    for (isolation, end) in [(0, 3), (1, 1)] {
        let found = get(&mut connection, 12, &fetch("orders", 0, 0).with_isolation_level(isolation));
        let records = found.records.unwrap();
        let last = Batches::new(&records).last().unwrap().unwrap();
        assert_eq!((last.header().next_offset(), found.high_watermark, found.last_stable_offset), (end, 3, 1));
        assert_eq!(found.aborted_transactions.is_some(), isolation == 1);
        let mut request = offset_query("orders", 0, -1);
        request.isolation_level = isolation;
        assert_eq!(connection.ask(5, &request).unwrap().topics[0].partitions[0].offset, end);
    }
    broker.stop();
}

#[test]
fn produce_requests_overlap_and_answers_keep_their_order() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    for _ in 0..50 {
        connection.send(9, &produce("orders", 0, -1, batch(&[b"x"]))).unwrap();
    }
    connection.send(12, &fetch("orders", 0, 0)).unwrap();
    for number in 0..50 {
        let (id, response) = connection.read_any::<ProduceRequest>(9).unwrap();
        assert_eq!((i64::from(id), response.responses[0].partition_responses[0].base_offset), (number + 1, number));
    }
    let (id, response) = connection.read_any::<FetchRequest>(12).unwrap();
    assert_eq!(id, 51);
    // It need not wait for what was sent before it and is not flushed yet.
    assert!((0..=50).contains(&response.responses[0].partitions[0].high_watermark));
    connection.send(12, &fetch("orders", 0, 0)).unwrap();
    let (_, response) = connection.read_any::<FetchRequest>(12).unwrap();
    assert_eq!(response.responses[0].partitions[0].high_watermark, 50, "what was acknowledged can be read");
    broker.stop();
}

#[test]
fn fetch_waits_for_the_minimum_over_all_partitions_and_not_longer() {
    let (_directory, broker) = broker(&[]);
    let all = (0..4).map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20));
    let waiting = fetch_of("orders", all.collect()).with_min_bytes(200).with_max_wait_ms(15_000);
    let mut consumer = broker.connect();
    let begun = Instant::now();
    let short = waiting.clone().with_max_wait_ms(150);
    assert!(
        consumer.ask(12, &short).unwrap().responses[0].partitions.iter().all(|found| found
            .records
            .as_ref()
            .unwrap()
            .is_empty())
    );
    assert!(begun.elapsed() >= Duration::from_millis(150));
    consumer.send(12, &waiting).unwrap();
    let mut producer = broker.connect();
    put(&mut producer, "orders", 0, batch(&[b"too little"]));
    put(&mut producer, "orders", 3, batch(&[&[0; 150]]));
    let (_, response) = consumer.read_any::<FetchRequest>(12).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    let lens: Vec<_> =
        response.responses[0].partitions.iter().map(|found| found.records.as_ref().unwrap().len()).collect();
    assert!(lens[0] > 0 && lens[3] > 150 && lens[1] + lens[2] == 0, "{lens:?}");
    broker.stop();
}

#[test]
fn fetch_gives_one_whole_batch_and_no_more_than_was_asked_for() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    for index in [0, 1] {
        put(&mut connection, "orders", index, batch(&[&[1; 5000]]));
        put(&mut connection, "orders", index, batch(&[&[2; 5000]]));
    }
    let partition = |index| FetchPartition::default().with_partition(index).with_partition_max_bytes(100);
    let request = fetch_of("orders", vec![partition(2), partition(0), partition(1)]);
    let response = connection.ask(12, &request).unwrap();
    let lens: Vec<_> =
        response.responses[0].partitions.iter().map(|found| found.records.as_ref().unwrap().len()).collect();
    assert!(lens[0] == 0 && (5000..5200).contains(&lens[1]) && lens[2] == 0, "{lens:?}");
    let large = request.with_max_bytes(11_000);
    let mut large = large;
    large.topics[0].partitions.iter_mut().for_each(|partition| partition.partition_max_bytes = 1 << 20);
    let response = connection.ask(12, &large).unwrap();
    let total: usize = response.responses[0].partitions.iter().map(|found| found.records.as_ref().unwrap().len()).sum();
    assert!((10_000..=11_000).contains(&total), "{total}");
    broker.stop();
}

#[test]
fn fetch_errors_are_kafkas() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    put(&mut connection, "orders", 0, batch(&[b"x"]));
    let epoch = list(&mut connection, 10, "orders", 0, -1).leader_epoch;
    for (topic, index, offset, code) in
        [("nowhere", 0, 0, 3), ("orders", 9, 0, 3), ("orders", 0, 2, 1), ("orders", 0, -1, 1)]
    {
        let found = get(&mut connection, 12, &fetch(topic, index, offset));
        assert_eq!((found.error_code, found.high_watermark), (code, -1), "{topic} {index} {offset}");
    }
    for (current, code) in [(epoch, 0), (epoch - 1, 74), (epoch + 1, 75)] {
        let partition = FetchPartition::default().with_current_leader_epoch(current).with_partition_max_bytes(1 << 20);
        let found = get(&mut connection, 12, &fetch_of("orders", vec![partition]));
        assert_eq!(found.error_code, if current < 0 { 0 } else { code }, "epoch {current}");
    }
    let diverged = FetchPartition::default().with_last_fetched_epoch(epoch).with_fetch_offset(1);
    let found = get(&mut connection, 12, &fetch_of("orders", vec![diverged.clone()]));
    assert_eq!((found.error_code, found.diverging_epoch.end_offset), (0, -1));
    let found = get(&mut connection, 12, &fetch_of("orders", vec![diverged.with_fetch_offset(7)]));
    assert_eq!((found.diverging_epoch.epoch, found.diverging_epoch.end_offset), (epoch, 1));
    let session = fetch("orders", 0, 0).with_session_id(5).with_session_epoch(3);
    assert_eq!(connection.ask(12, &session).unwrap().error_code, 70);
    let by_id = FetchRequest::default().with_topics(vec![
        kafka_protocol::messages::fetch_request::FetchTopic::default().with_partitions(vec![FetchPartition::default()]),
    ]);
    assert_eq!(get(&mut connection, 18, &by_id).error_code, 100);
    broker.stop();
}

#[test]
fn offsets_are_listed_by_time_and_by_end() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let at = |time| BatchBuilder::new().record(time, None, Some(b"x")).build().unwrap();
    let base = now_ms() - 1_000_000;
    for time in [base, base + 200, base + 100] {
        put(&mut connection, "orders", 2, at(time).into());
    }
    for version in 1..=10 {
        let mut found = |timestamp| {
            let found = list(&mut connection, version, "orders", 2, timestamp);
            (found.error_code, found.offset, found.timestamp)
        };
        assert_eq!(found(-1), (0, 3, -1));
        assert_eq!(found(-2), (0, 0, -1));
        assert_eq!(found(base + 150), (0, 1, base + 200));
        assert_eq!(found(base + 201), (0, -1, -1));
        assert_eq!(found(-3), if version >= 7 { (0, 1, base + 200) } else { (35, -1, -1) });
        assert_eq!(found(-4), if version >= 8 { (0, 0, -1) } else { (35, -1, -1) });
        assert_eq!(found(-5), if version >= 9 { (0, -1, -1) } else { (35, -1, -1) });
        assert_eq!(found(-9), (35, -1, -1));
    }
    assert_eq!(list(&mut connection, 5, "nowhere", 0, -1).error_code, 3);
    broker.stop();
}

#[test]
fn versions_are_told_in_every_form() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("wire"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    for version in 0..=4 {
        let response = connection.ask(version, &request).unwrap();
        let produce = response.api_keys.iter().find(|key| key.api_key == ApiKey::Produce as i16).unwrap();
        assert_eq!((response.error_code, produce.min_version, produce.max_version), (0, 0, 13));
        assert_eq!(
            response.finalized_features.iter().any(|feature| feature.name.as_str() == "transaction.version"),
            version >= 3
        );
    }
    let nameless = ApiVersionsRequest::default();
    assert_eq!(connection.ask(3, &nameless).unwrap().error_code, 42);
    // franz-go asks version 5 first: the answer has the form of version 0.
    connection.send_body(18, 5, b"whatever it is").unwrap();
    let frame = connection.read_frame().unwrap();
    assert_eq!(&frame[4..], [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    broker.stop();
}

#[test]
fn what_cannot_be_understood_ends_the_connection_and_nothing_else() {
    let (_directory, broker) = broker(&[("socket.request.max.bytes", "1000000")]);
    let mut good = broker.connect();
    put(&mut good, "orders", 0, batch(&[b"x"]));
    let frames: [&[u8]; 8] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x7f, 0xff, 0xff, 0xff],
        // One byte more than allowed.
        &1_000_001_i32.to_be_bytes(),
        // No request, half a header, and a key that nobody knows.
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 0, 0, 0],
        &[0, 0, 0, 10, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        // A fetch with two thousand million topics, and one cut short.
        &[
            0, 0, 0, 31, 0, 1, 0, 4, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f,
            0xff, 0xff, 0xff,
        ],
        &[0, 0, 0, 11, 0, 1, 0, 12, 0, 0, 0, 0, 0xff, 0xff, 0],
    ];
    for frame in frames {
        let mut bad = broker.connect();
        bad.stream.write_all(frame).unwrap();
        assert!(bad.is_closed(), "{frame:?}");
    }
    for (key, version) in [(0, 2), (0, 14), (1, 3), (44, 99), (52, 0)] {
        let mut bad = broker.connect();
        bad.send_body(key, version, &[0; 100]).unwrap();
        assert!(bad.is_closed(), "key {key}, version {version}");
    }
    assert_eq!(put(&mut good, "orders", 0, batch(&[b"y"])).base_offset, 1);
    broker.stop();
}

#[test]
fn connections_at_rest_or_half_open_are_closed_in_time() {
    let (_directory, broker) = broker(&[("connections.max.idle.ms", "300")]);
    let (mut silent, mut stuck, mut half) = (broker.connect(), broker.connect(), broker.connect());
    stuck.stream.write_all(&[0, 0, 1, 0, 0, 0]).unwrap();
    half.send(12, &fetch("orders", 0, 0)).unwrap();
    half.stream.shutdown(Shutdown::Write).unwrap();
    assert!(half.read_any::<FetchRequest>(12).is_ok(), "what was asked is answered");
    assert!(half.is_closed() && silent.is_closed() && stuck.is_closed());
    broker.stop();
}

#[test]
fn reader_that_does_not_read_is_read_from_no_more() {
    let (_directory, broker) = broker(&[]);
    let mut connection = broker.connect();
    for _ in 0..16 {
        put(&mut connection, "orders", 0, batch(&[&vec![1; 1 << 19]]));
    }
    let mut slow = broker.connect();
    let partition = FetchPartition::default().with_partition_max_bytes(50 << 20);
    let request = fetch_of("orders", vec![partition]);
    // The socket buffers take a few answers of 8 MiB at the very most; then writing blocks, for nobody reads here or there.
    slow.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    while sent < 2_000_000 && slow.send(12, &request).is_ok() {
        sent += 1;
    }
    assert!(sent < 2_000_000, "the broker reads on");
    assert_eq!(put(&mut connection, "orders", 1, batch(&[b"others go on"])).error_code, 0);
    let mut rest = vec![0; 8 << 20];
    slow.stream.read_exact(&mut rest).unwrap();
    // The end would wait for it to take the rest.
    drop(slow);
    broker.stop();
}

#[test]
fn as_many_connect_as_may() {
    let (_directory, broker) = broker(&[("max.connections.per.ip", "2")]);
    let begun = Instant::now();
    // That of the start may not have ended yet.
    let (mut first, mut second) = loop {
        let (mut first, mut second) = (broker.connect(), broker.connect());
        let is_in = |connection: &mut client::Connection| connection.ask(0, &ApiVersionsRequest::default()).is_ok();
        if is_in(&mut first) && is_in(&mut second) {
            break (first, second);
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    };
    assert!(broker.connect().is_closed());
    for connection in [&mut first, &mut second] {
        assert!(connection.ask(0, &ApiVersionsRequest::default()).is_ok());
    }
    broker.stop();
}

#[test]
fn end_answers_who_waits_and_the_next_start_needs_no_recovery() {
    let directory = TempDir::new().unwrap();
    let broker = Running::start(directory.path(), Durability::Flushed, &[]);
    let mut consumer = broker.connect();
    put(&mut consumer, "orders", 0, batch(&[b"kept"]));
    let waiting = fetch("orders", 0, 1).with_max_wait_ms(60_000).with_min_bytes(1);
    consumer.send(12, &waiting).unwrap();
    let begun = Instant::now();
    // It may come before the broker has read the request: then the connection ends without an answer.
    broker.stop();
    assert!(begun.elapsed() < Duration::from_secs(9), "the end waited for a fetch");
    drop(consumer);
    assert!(directory.path().join(".kafka_cleanshutdown").exists());
    let again = Running::start(directory.path(), Durability::Flushed, &[]);
    assert_eq!(list(&mut again.connect(), 5, "orders", 0, -1).offset, 1);
    again.stop();
}
