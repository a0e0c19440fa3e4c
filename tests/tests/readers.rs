//! Readers beside the writer: on other threads, on sockets, and with slices in their hands while the log is cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    AppendAsLeader, CleanerControl, CleanerOptions, Fetch, Isolation, Log, LogConfig, LogDirectory, LogError,
    LogReader, TimestampQuery, TopicPartition, ValidationPolicy,
    format::{batch::Batches, builder::BatchBuilder},
    validate,
};
use proptest::prelude::*;
use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tempfile::TempDir;

const NOW_MS: i64 = 1_700_000_000_000;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 8000, index_interval_bytes: 300, ..LogConfig::default() }
}

fn open(dir: &TempDir) -> LogDirectory {
    LogDirectory::open(dir.path()).unwrap()
}

fn log(directory: &mut LogDirectory) -> &mut Log {
    directory.get_or_create(&TopicPartition::new("readers", 0).unwrap(), &config()).unwrap()
}

/// Appends a batch of records whose values tell their offsets.
fn append(log: &mut Log, records: i64, timestamp: i64) {
    let first = log.offsets().log_end;
    let mut builder = BatchBuilder::new();
    for offset in first..first + records {
        builder = builder.record(timestamp, None, Some(format!("{offset} {}", "x".repeat(40)).as_bytes()));
    }
    let batch = validate(builder.build().unwrap(), &ValidationPolicy::from_config(&config()), NOW_MS).unwrap();
    log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
}

fn read(reader: &LogReader, offset: i64) -> Vec<u8> {
    let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap();
    fetched.records.map_or(Vec::new(), |records| records.to_vec().unwrap())
}

/// Checks that every record tells its own offset; the offset behind the last whole batch.
fn check(bytes: &[u8]) -> Option<i64> {
    let mut scratch = Vec::new();
    let mut end = None;
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        batch.check_crc().unwrap();
        for record in batch.records(&mut scratch, 0).unwrap() {
            let record = record.unwrap();
            let text = String::from_utf8_lossy(record.value().unwrap()).into_owned();
            assert!(text.starts_with(&format!("{} ", record.offset())), "{text} at offset {}", record.offset());
        }
        end = Some(batch.header().next_offset());
    }
    end
}

#[test]
fn readers_beside_a_writer_see_whole_batches_in_order() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let log = log(&mut directory);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (reader, stop) = (log.reader(), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut offset, mut seen) = (0, 0);
                loop {
                    let ended = stop.load(Ordering::SeqCst);
                    match check(&read(&reader, offset)) {
                        Some(next) => offset = next,
                        None if ended => offset = reader.offsets().log_end,
                        None => {}
                    }
                    seen += 1;
                    if ended && offset >= reader.offsets().log_end {
                        return (offset, seen);
                    }
                }
            })
        })
        .collect();
    for n in 0..3000 {
        append(log, 1 + n % 5, NOW_MS + n);
    }
    let log_end = log.offsets().log_end;
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        let (offset, seen) = reader.join().unwrap();
        assert_eq!(offset, log_end);
        assert!(seen > 0);
    }
}

// M 232
#[test]
fn slice_keeps_its_bytes_when_the_log_is_cut_and_written_again() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let log = log(&mut directory);
    for _ in 0..20 {
        append(log, 5, NOW_MS);
    }
    let reader = log.reader();
    let held = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(0) }).unwrap().records.unwrap();
    let before = held.to_vec().unwrap();
    assert!(log.truncate_to(50, NOW_MS).unwrap());
    for _ in 0..20 {
        append(log, 3, NOW_MS + 1);
    }
    assert!(held.to_vec().unwrap() == before, "P9: a slice changed");
    assert_eq!(check(&read(&reader, 50)).unwrap(), log.offsets().log_end);
    assert_eq!(log.offsets().log_end, 110);
    log.truncate_fully_and_start_at(7, None, NOW_MS).unwrap();
    assert!(held.to_vec().unwrap() == before, "P9: a slice changed");
    assert!(matches!(reader.read(Fetch::from(0)), Err(LogError::OffsetOutOfRange { log_start: 7, .. })));
}

#[test]
fn readers_beside_truncations_see_one_history_or_the_other() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let log = log(&mut directory);
    for n in 0..50 {
        append(log, 4, NOW_MS + n);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|offset| {
            let (reader, stop) = (log.reader(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut reads = 0;
                while !stop.load(Ordering::SeqCst) {
                    let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(120 + offset * 13) };
                    match reader.read(fetch) {
                        Ok(fetched) => {
                            check(&fetched.records.map_or(Vec::new(), |records| records.to_vec().unwrap()));
                        }
                        Err(LogError::OffsetOutOfRange { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for n in 0..150 {
        log.truncate_to(104 + 4 * (n % 9), NOW_MS).unwrap();
        for _ in 0..25 {
            append(log, 1 + n % 7, NOW_MS + n);
        }
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

/// A compacted topic that is also deleted from, with records of few keys whose values tell their offsets.
fn compacted_config() -> LogConfig {
    let mut config = LogConfig { retention_bytes: Some(24_000), retention_ms: None, ..config() };
    config.cleanup_policy.compact = true;
    config.cleanup_policy.delete = true;
    config
}

fn append_keyed(log: &mut Log, records: i64) {
    let first = log.offsets().log_end;
    let mut builder = BatchBuilder::new();
    for offset in first..first + records {
        let (key, value) = (format!("key {}", offset % 40), format!("{offset} {}", "x".repeat(40)));
        builder = builder.record(NOW_MS, Some(key.as_bytes()), Some(value.as_bytes()));
    }
    let batch = validate(builder.build().unwrap(), &ValidationPolicy::from_config(&config()), NOW_MS).unwrap();
    log.append_as_leader(batch, AppendAsLeader::new(0, NOW_MS)).unwrap();
    log.update_high_watermark(log.offsets().log_end);
}

fn clean(log: &mut Log) {
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue).unwrap();
    log.remove_retired_files(i64::MAX).unwrap();
}

#[test]
fn slices_keep_their_bytes_through_compaction_retention_and_the_end_of_the_writer() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let log = directory.get_or_create(&TopicPartition::new("readers", 0).unwrap(), &compacted_config()).unwrap();
    for n in 0..300 {
        append_keyed(log, 1 + n % 7);
    }
    let reader = log.reader();
    let held: Vec<_> = (0..log.offsets().log_end)
        .step_by(50)
        .map(|offset| reader.read(Fetch::from(offset)).unwrap().records.unwrap())
        .map(|slice| (slice.to_vec().unwrap(), slice))
        .collect();
    let size = reader.size();
    let unchanged =
        |when: &str| held.iter().for_each(|(bytes, slice)| assert!(slice.to_vec().unwrap() == *bytes, "P9: {when}"));
    clean(log);
    assert!(reader.size() < size / 2);
    unchanged("compaction");
    log.increment_log_start_offset(log.offsets().high_watermark).unwrap();
    assert!(!log.delete_old_segments(NOW_MS).unwrap().is_empty());
    log.remove_retired_files(i64::MAX).unwrap();
    unchanged("retention");
    // The writer is gone without closing, and another one opens the log and writes on.
    drop(directory);
    let mut directory = open(&dir);
    let log = directory.get_or_create(&TopicPartition::new("readers", 0).unwrap(), &compacted_config()).unwrap();
    append_keyed(log, 5);
    log.truncate_fully_and_start_at(3, None, NOW_MS).unwrap();
    unchanged("the end of the writer");
}

#[test]
fn readers_beside_retention_and_compaction_see_whole_batches_or_that_they_are_gone() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let log = directory.get_or_create(&TopicPartition::new("readers", 0).unwrap(), &compacted_config()).unwrap();
    for n in 0..100 {
        append_keyed(log, 1 + n % 7);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|thread| {
            let (reader, stop) = (log.reader(), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut offset, mut reads) = (0, 0);
                while !stop.load(Ordering::SeqCst) {
                    let offsets = reader.offsets();
                    let isolation = if thread == 0 { Isolation::ReadCommitted } else { Isolation::LogEnd };
                    offset = match reader.read(Fetch { isolation, max_bytes: 3000, ..Fetch::from(offset) }) {
                        Ok(fetched) => fetched.records.map(|records| records.to_vec().unwrap()).map_or(0, |bytes| {
                            let whole: usize =
                                Batches::new(&bytes).map_while(Result::ok).map(|batch| batch.bytes().len()).sum();
                            check(&bytes[..whole]).unwrap_or(0)
                        }),
                        Err(LogError::OffsetOutOfRange { .. }) => offsets.log_start,
                        Err(error) => panic!("{error}"),
                    };
                    let time = TimestampQuery::At(NOW_MS);
                    reader.offset_for_timestamp(time, Isolation::LogEnd).unwrap();
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for n in 0..60 {
        for _ in 0..20 {
            append_keyed(log, 1 + n % 7);
        }
        clean(log);
        if n % 3 == 0 {
            log.increment_log_start_offset(log.offsets().log_end - 60).unwrap();
        }
        log.delete_old_segments(NOW_MS).unwrap();
        log.remove_retired_files(i64::MAX).unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

// M 232
#[test]
fn slow_socket_gets_the_bytes_of_the_time_of_the_read() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let big = LogConfig { segment_bytes: 16 << 20, ..config() };
    let log = directory.get_or_create(&TopicPartition::new("readers", 0).unwrap(), &big).unwrap();
    for _ in 0..3000 {
        append(log, 20, NOW_MS);
    }
    let fetch = Fetch { isolation: Isolation::LogEnd, max_bytes: 8 << 20, ..Fetch::from(0) };
    let slice = log.reader().read(fetch).unwrap().records.unwrap();
    let expected = slice.to_vec().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBuf, &(64 << 10)).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    // The socket's buffers fill up; then the log is cut and written again; then the peer begins to read.
    let mut sent = 0;
    while let Ok(now) = slice.send_to(socket.as_fd(), sent) {
        sent += now;
        if sent == slice.len() {
            break;
        }
    }
    assert!(sent > 0 && sent < slice.len(), "the socket took {sent} of {} bytes at once", slice.len());
    log.truncate_to(100, NOW_MS).unwrap();
    for _ in 0..3000 {
        append(log, 7, NOW_MS + 5);
    }
    let taker = thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        received
    });
    while sent < slice.len() {
        match slice.send_to(socket.as_fd(), sent) {
            Ok(now) => sent += now,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    drop(socket);
    assert!(taker.join().unwrap() == expected, "P9: the peer received other bytes");
}

// M 218
#[test]
fn second_open_of_a_directory_is_refused_and_a_closed_one_is_not() {
    let dir = TempDir::new().unwrap();
    let directory = open(&dir);
    let options = duramen::DirectoryOptions { lock_timeout: Duration::ZERO, ..Default::default() };
    let second = LogDirectory::open_with(dir.path(), options);
    assert!(matches!(second, Err(duramen::OpenError::Locked { .. })), "P10");
    directory.close().unwrap();
    open(&dir).close().unwrap();
}

// M 2, 3, 4, 25
#[test]
fn follower_keeps_offsets_and_gaps_and_refuses_what_goes_back() {
    let dir = TempDir::new().unwrap();
    let mut directory = open(&dir);
    let log = log(&mut directory);
    let batch = |base_offset, leader_epoch| {
        let builder = BatchBuilder::new().base_offset(base_offset).leader_epoch(leader_epoch);
        builder.record(NOW_MS, None, Some(b"a")).record(NOW_MS, None, Some(b"b")).build().unwrap()
    };
    let set = [batch(10, 0), batch(12, 1), batch(20, 2)].concat();
    let info = log.append_as_follower(&set, 1, NOW_MS).unwrap().unwrap();
    assert_eq!((info.first_offset, info.last_offset), (10, 13), "the batch of a higher epoch is left out");
    log.append_as_follower(&batch(20, 2), 2, NOW_MS).unwrap();
    assert!(matches!(log.append_as_follower(&batch(5, 2), 2, NOW_MS), Err(LogError::UnexpectedAppendOffset { .. })));
    let back = [batch(30, 2), batch(28, 2)].concat();
    assert!(matches!(log.append_as_follower(&back, 2, NOW_MS), Err(LogError::OffsetsOutOfOrder { .. })));
    let mut harmed = batch(30, 2);
    harmed[65] ^= 1;
    assert!(matches!(log.append_as_follower(&harmed, 2, NOW_MS), Err(LogError::Format(_))));
    assert_eq!(log.offsets().log_end, 22);
    let reader = log.reader();
    let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(15) }).unwrap();
    assert_eq!(fetched.start.unwrap().offset, 20, "a gap leads to the next batch");
    let epochs: Vec<_> = reader.leader_epochs().iter().map(|entry| (entry.epoch, entry.start_offset)).collect();
    assert_eq!(epochs, [(0, 10), (1, 12), (2, 20)]);
    assert_eq!(reader.end_offset_for_epoch(1), Some((1, 20)));
}

// M 7, 8
#[test]
fn producer_batches_are_refused_whole_with_the_records_at_fault() {
    let policy = |config: &LogConfig| ValidationPolicy::from_config(config);
    let compacted = LogConfig::from_properties([("cleanup.policy", "compact")]).unwrap();
    let batch = BatchBuilder::new().record(NOW_MS, Some(b"k"), None).record(NOW_MS, None, None).build().unwrap();
    match validate(batch.clone(), &policy(&compacted), NOW_MS) {
        Err(error @ LogError::InvalidRecord { .. }) => {
            assert_eq!(error.kafka_error_code().code(), 87);
            assert!(error.to_string().contains("[1]"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let future = validate(batch.clone(), &policy(&LogConfig::default()), NOW_MS - 4_000_000).unwrap_err();
    assert_eq!(future.kafka_error_code().code(), 32);
    let small = LogConfig::from_properties([("max.message.bytes", "70")]).unwrap();
    assert_eq!(validate(batch.clone(), &policy(&small), NOW_MS).unwrap_err().kafka_error_code().code(), 10);
    let twice = [batch.clone(), batch.clone()].concat();
    assert_eq!(validate(twice, &policy(&LogConfig::default()), NOW_MS).unwrap_err().kafka_error_code().code(), 87);
    let zstd = LogConfig::from_properties([("compression.type", "zstd")]).unwrap();
    let recompressed = validate(batch, &policy(&zstd), NOW_MS).unwrap();
    assert_eq!(recompressed.header().attributes().codec().unwrap().name(), "zstd");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every question, against a list of records.
    // M 33, 111
    #[test]
    fn look_ups_answer_like_a_list(batches in proptest::collection::vec((1_i64..6, 0_i64..50), 1..80), rolls: u64) {
        let dir = TempDir::new().unwrap();
        let mut directory = open(&dir);
        let log = log(&mut directory);
        let mut records = Vec::new();
        for (n, (count, time)) in batches.iter().enumerate() {
            if rolls >> (n % 64) & 7 == 7 {
                log.roll(NOW_MS).unwrap();
            }
            for _ in 0..*count {
                records.push((i64::try_from(records.len()).unwrap(), NOW_MS + time));
            }
            append(log, *count, NOW_MS + time);
        }
        let reader = log.reader();
        for (offset, _) in &records {
            let bytes = read(&reader, *offset);
            check(&bytes).unwrap();
            let first = Batches::new(&bytes).next().unwrap().unwrap().header().clone();
            prop_assert!(first.base_offset() <= *offset && *offset < first.next_offset());
        }
        for time in 0..50 {
            let timestamp = NOW_MS + time;
            let expected = records.iter().find(|(_, at)| *at >= timestamp).map(|(offset, _)| *offset);
            let found = reader.offset_for_timestamp(TimestampQuery::At(timestamp), Isolation::LogEnd).unwrap();
            prop_assert_eq!(found.map(|found| found.offset), expected);
        }
        let most = records.iter().map(|(_, at)| *at).max();
        let expected = records.iter().find(|(_, at)| Some(*at) == most).map(|(offset, _)| *offset);
        let found = reader.offset_for_timestamp(TimestampQuery::MaxTimestamp, Isolation::LogEnd).unwrap();
        prop_assert_eq!(found.map(|found| found.offset), expected);
    }
}
