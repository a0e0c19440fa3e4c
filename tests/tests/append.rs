//! What a leader and a follower take, and what they refuse.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, AppendOrigin, Fetch, Isolation, KafkaErrorCode, LogConfig, LogError,
    format::{
        builder::{BatchBuilder, NewRecord},
        compression::{Codec, Compression},
        uuid::Uuid,
    },
};
use duramen_tests::{
    disk::Fault,
    fixture::{Fixture, NOW_MS, batch, file, placed, produced, records},
};
use nix::errno::Errno;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn default() -> Fixture {
    Fixture::new(LogConfig::default())
}

// M 1
#[test]
fn appends_as_leader_get_consecutive_offsets_from_the_log_end() {
    let mut log = default();
    let mut expected = 0;
    for records in [1, 3, 2, 10] {
        let info = log.append(&batch(records)).unwrap();
        let records = i64::try_from(records).unwrap();
        assert_eq!((info.first_offset, info.last_offset), (expected, expected + records - 1));
        expected += records;
        assert_eq!(log.offsets().log_end, expected);
    }
    let offsets: Vec<_> = log.records().iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..expected).collect::<Vec<_>>());
}

// M 2
#[test]
fn follower_keeps_offsets_with_gaps_as_given() {
    let mut log = default();
    let offsets = [0, 1, 3, 7, 50, 51, 1000];
    for offset in offsets {
        log.follow(&placed(batch(1).build().unwrap(), offset, 0)).unwrap();
    }
    assert_eq!(log.records().iter().map(|record| record.offset).collect::<Vec<_>>(), offsets);
    assert_eq!(log.offsets().log_end, 1001);
}

// M 3
#[test]
fn follower_refuses_a_set_whose_last_offsets_do_not_increase() {
    let mut log = default();
    let one = |offset| placed(batch(1).build().unwrap(), offset, 0);
    for set in [[one(0), one(3), one(3)].concat(), [one(0), one(5), one(2)].concat()] {
        assert!(matches!(log.follow(&set), Err(LogError::OffsetsOutOfOrder { .. })));
        assert_eq!(log.offsets().log_end, 0);
    }
    assert!(log.records().is_empty());
}

// M 4
#[test]
fn follower_refuses_what_begins_below_the_log_end_in_every_codec() {
    for codec in CODECS {
        let mut log = default();
        let set = |base: i64| {
            let three = batch(3).compression(Compression::with_default_level(codec)).build().unwrap();
            [placed(three.clone(), base, 0), placed(three, base + 3, 0)].concat()
        };
        log.follow(&set(0)).unwrap();
        match log.follow(&set(4)) {
            Err(LogError::UnexpectedAppendOffset { first_offset, last_offset, log_end }) => {
                assert_eq!((first_offset, last_offset, log_end), (4, 9, 6), "{codec:?}");
            }
            other => panic!("{codec:?}: {other:?}"),
        }
        assert_eq!(log.offsets().log_end, 6);
    }
}

// M 5
#[test]
fn empty_log_that_starts_higher_refuses_what_lies_below() {
    let mut log = default();
    log.truncate_fully_and_start_at(7, None, NOW_MS).unwrap();
    let below = log.follow(&placed(batch(2).build().unwrap(), 4, 0));
    assert!(
        matches!(below, Err(LogError::UnexpectedAppendOffset { first_offset: 4, last_offset: 5, log_end: 7 })),
        "{below:?}"
    );
    assert_eq!(log.offsets().log_end, 7);
    log.follow(&placed(batch(2).build().unwrap(), 7, 0)).unwrap();
    assert_eq!(log.offsets().log_end, 9);
}

// M 6
#[test]
fn set_that_fits_the_segment_exactly_is_taken_and_a_byte_more_is_not() {
    let size = u32::try_from(batch(3).build().unwrap().len()).unwrap();
    let mut log = Fixture::new(LogConfig { segment_bytes: size, ..LogConfig::default() });
    assert_eq!(log.append(&batch(3)).unwrap().bytes, u64::from(size));
    log.set_config(LogConfig { segment_bytes: size - 1, ..LogConfig::default() });
    let refused = log.append(&batch(3)).unwrap_err();
    assert!(matches!(refused, LogError::RecordListTooLarge { .. }), "{refused}");
    assert_eq!(refused.kafka_error_code(), KafkaErrorCode::RecordListTooLarge);
    let as_follower = log.follow(&placed(batch(3).build().unwrap(), 3, 0));
    assert!(matches!(as_follower, Err(LogError::RecordListTooLarge { .. })));
    assert_eq!(log.offsets().log_end, 3);
}

// M 7
#[test]
fn batch_over_max_message_bytes_is_refused_by_a_leader_and_taken_by_a_follower() {
    let bytes = batch(3).build().unwrap();
    let limit = u32::try_from(bytes.len()).unwrap() - 1;
    let mut log = Fixture::new(LogConfig { max_message_bytes: limit, ..LogConfig::default() });
    assert!(matches!(log.append(&batch(3)), Err(LogError::MessageTooLarge { .. })));
    assert_eq!(log.offsets().log_end, 0);
    log.follow(&placed(bytes, 0, 0)).unwrap();
    assert_eq!(log.offsets().log_end, 3);
}

// M 8
#[test]
fn compacted_topic_refuses_records_without_a_key_and_names_each() {
    let mut config = LogConfig::default();
    config.cleanup_policy.compact = true;
    for codec in CODECS {
        let mut log = Fixture::new(config.clone());
        let empty = || BatchBuilder::new().compression(Compression::with_default_level(codec));
        let keyed = |batch: BatchBuilder| batch.record(NOW_MS, Some(b"k"), Some(b"v"));
        let bare = |batch: BatchBuilder| batch.record(NOW_MS, None, Some(b"v"));
        let cases = [
            (bare(empty()), vec![0]),
            (bare(keyed(empty())), vec![1]),
            (bare(keyed(bare(keyed(bare(empty()))))), vec![0, 2, 4]),
        ];
        for (batch, at_fault) in cases {
            match log.append(&batch) {
                Err(LogError::InvalidRecord { invalid_records, code, .. }) => {
                    assert_eq!((invalid_records, code), (at_fault, KafkaErrorCode::InvalidRecord), "{codec:?}");
                }
                other => panic!("{codec:?}: {other:?}"),
            }
        }
        assert_eq!(log.offsets().log_end, 0);
        log.append(&keyed(keyed(empty()))).unwrap();
        assert_eq!(log.offsets().log_end, 2);
    }
}

// M 9
#[test]
fn raft_batch_of_another_epoch_is_refused() {
    let mut log = default();
    let bytes = placed(batch(1).build().unwrap(), 0, 3);
    let as_leader_of = |epoch| AppendAsLeader::new(epoch, NOW_MS);
    let refused = log.append_bytes(bytes.clone(), AppendOrigin::RaftLeader, as_leader_of(4)).unwrap_err();
    assert_eq!(refused.kafka_error_code(), KafkaErrorCode::InvalidRecord);
    assert_eq!(log.offsets().log_end, 0);
    log.append_bytes(bytes, AppendOrigin::RaftLeader, as_leader_of(3)).unwrap();
    assert_eq!(log.batches()[0].leader_epoch(), Some(3));
}

// M 10
#[test]
fn null_value_and_null_key_come_back_as_null() {
    let mut log = default();
    log.append(&BatchBuilder::new().record(NOW_MS, None, None).record(NOW_MS, Some(b""), Some(b""))).unwrap();
    let found = log.records();
    assert_eq!((&found[0].key, &found[0].value), (&None, &None));
    assert_eq!((found[1].key.as_deref(), found[1].value.as_deref()), (Some(&b""[..]), Some(&b""[..])));
}

// M 11
#[test]
fn records_without_a_timestamp_are_taken_when_time_is_not_limited() {
    let unlimited = i64::MAX.cast_unsigned();
    let mut log = Fixture::new(LogConfig {
        message_timestamp_before_max_ms: unlimited,
        message_timestamp_after_max_ms: unlimited,
        ..LogConfig::default()
    });
    let record = NewRecord { timestamp: None, key: None, value: Some(b"v"), headers: &[], offset_delta: None };
    let info = log.append(&BatchBuilder::new().append(record).append(record)).unwrap();
    assert_eq!(info.max_timestamp, None);
    assert!(log.records().iter().all(|record| record.timestamp.is_none()));
}

// M 12: nothing is written for a topic without an id, which is what Kafka's switch is for.
#[test]
fn topic_id_is_on_disk_once_assigned_and_never_another() {
    let ids = ["AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAg"];
    let [first, second] = ids.map(|text| text.parse::<Uuid>().unwrap());
    let mut log = default();
    log.fill(1, 1);
    assert!(!log.files().contains(&"partition.metadata".to_owned()));
    log.assign_topic_id(first).unwrap();
    let written = file(&log.disk, "partition.metadata").unwrap();
    assert!(String::from_utf8(written).unwrap().contains("topic_id: AAAAAAAAAAAAAAAAAAAAAQ"));
    log.assign_topic_id(first).unwrap();
    let other = log.assign_topic_id(second).unwrap_err();
    assert_eq!(other.kafka_error_code(), KafkaErrorCode::InconsistentTopicId);
    let log = log.reopen();
    assert_eq!(log.topic_id(), Some(first));
}

// M 13: unlike Kafka the log still answers readers after a write failed.
#[test]
fn append_after_the_disk_failed_is_a_storage_error_and_reads_go_on() {
    let mut log = default();
    log.fill(1, 2);
    log.disk.fail_next("write", Fault::Error(Errno::EIO));
    for _ in 0..2 {
        let refused = log.append(&batch(1)).unwrap_err();
        assert_eq!(refused.kafka_error_code(), KafkaErrorCode::KafkaStorageError, "{refused}");
    }
    assert!(log.is_poisoned());
    assert_eq!(log.records().len(), 2);
}

// M 14, 79: a closed log is gone by its type; what is left of it answers and harms nothing.
#[test]
fn readers_of_a_closed_log_answer_and_the_next_open_finds_all() {
    let mut log = default();
    log.fill(3, 2);
    let reader = log.reader();
    let (disk, options) = log.close();
    let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(0) }).unwrap();
    let before = fetched.records.unwrap().to_vec().unwrap();
    let mut log = Fixture::open(disk, options).unwrap();
    assert_eq!(records(&before), log.records());
    log.fill(1, 1);
    assert_eq!(reader.offsets().log_end, 6);
}

// M 56
#[test]
fn follower_appends_what_a_leader_would_call_a_duplicate() {
    let mut log = default();
    for base in [0, 2, 4] {
        log.follow(&placed(produced(1, 0, 0, 2).build().unwrap(), base, 0)).unwrap();
    }
    assert_eq!(log.records().len(), 6);
    assert_eq!(log.active_producers()[0].last_sequence, Some(1));
}
