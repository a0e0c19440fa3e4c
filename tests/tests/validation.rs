//! What is asked of a producer's batch before the log sees it, and what becomes of its bytes.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendOrigin, CompressionType, KafkaErrorCode, LogConfig, LogError, MessageTimestampType, ValidatedBatch,
    ValidationPolicy,
    format::{
        batch::{
            ATTRIBUTES_AT, BASE_SEQUENCE_AT, CRC_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT, MAX_TIMESTAMP_AT,
            RECORDS_COUNT_AT, TimestampType,
        },
        builder::{BatchBuilder, NewRecord},
        compression::{Codec, Compression},
    },
    validate,
};
use duramen_tests::fixture::{Fixture, NOW_MS, batch, batch_at, in_txn, marker, placed, records};

const CODECS: [(Codec, CompressionType); 5] = [
    (Codec::None, CompressionType::Uncompressed),
    (Codec::Gzip, CompressionType::Gzip),
    (Codec::Snappy, CompressionType::Snappy),
    (Codec::Lz4, CompressionType::Lz4),
    (Codec::Zstd, CompressionType::Zstd),
];

fn check(bytes: Vec<u8>, config: &LogConfig) -> Result<ValidatedBatch, LogError> {
    validate(bytes, &ValidationPolicy::from_config(config), NOW_MS)
}

fn refused(bytes: Vec<u8>, config: &LogConfig) -> KafkaErrorCode {
    check(bytes, config).unwrap_err().kafka_error_code()
}

/// A batch whose bytes at a place are others, with a checksum that fits.
fn harmed(batch: &BatchBuilder, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut harmed = batch.build().unwrap();
    harmed[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&harmed[ATTRIBUTES_AT..]);
    harmed[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    harmed
}

fn compressed(batch: BatchBuilder, codec: Codec) -> BatchBuilder {
    batch.compression(Compression::with_default_level(codec))
}

fn topic_of(compression_type: CompressionType) -> LogConfig {
    LogConfig { compression_type, ..LogConfig::default() }
}

// M 169, 170
#[test]
fn request_holds_one_batch_of_the_current_format() {
    let config = LogConfig::default();
    for (codec, _) in CODECS {
        let one = compressed(batch(2), codec).build().unwrap();
        assert!(check(one.clone(), &config).is_ok());
        assert_eq!(refused([one.clone(), one.clone()].concat(), &config), KafkaErrorCode::InvalidRecord);
        let mut old = one.clone();
        old[MAGIC_AT] = 1;
        assert_eq!(refused([one, old].concat(), &config), KafkaErrorCode::UnsupportedForMessageFormat);
    }
    assert!(matches!(check(Vec::new(), &config), Err(LogError::NothingToAppend)));
    let cut = batch(2).build().unwrap();
    assert!(matches!(check(cut[..cut.len() - 1].to_vec(), &config), Err(LogError::NothingToAppend)));
}

// M 171, 180
#[test]
fn codec_of_the_topic_decides_whether_bytes_stay() {
    for (codec, _) in CODECS {
        for (target, compression_type) in CODECS {
            let bytes = compressed(batch(20), codec).build().unwrap();
            let before = records(&bytes);
            let checked = check(bytes.clone(), &topic_of(compression_type)).unwrap();
            assert_eq!(checked.header().attributes().codec().unwrap(), target, "{codec:?} to {target:?}");
            assert_eq!(checked.bytes() == bytes, codec == target, "{codec:?} to {target:?}");
            assert_eq!(records(checked.bytes()), before);
        }
        let bytes = compressed(batch(20), codec).build().unwrap();
        assert_eq!(check(bytes.clone(), &topic_of(CompressionType::Producer)).unwrap().bytes(), bytes);
    }
    let level_1 = batch(20).compression(Compression::Gzip { level: Some(1) }).build().unwrap();
    let level_9 = LogConfig { compression_gzip_level: Some(9), ..topic_of(CompressionType::Gzip) };
    assert_eq!(check(level_1.clone(), &level_9).unwrap().bytes(), level_1, "another level is no other codec");
}

// M 172
#[test]
fn offsets_count_from_the_log_end_in_every_path() {
    const BASE: i64 = 1_234_567;
    for (codec, _) in CODECS {
        for (_, compression_type) in CODECS {
            let mut log = Fixture::new(topic_of(compression_type));
            log.truncate_fully_and_start_at(BASE, None, NOW_MS).unwrap();
            log.append(&compressed(batch(3), codec)).unwrap();
            let offsets: Vec<_> = log.records().iter().map(|record| record.offset).collect();
            assert_eq!(offsets, [BASE, BASE + 1, BASE + 2]);
        }
    }
}

// M 173
#[test]
fn log_append_time_is_that_of_every_record() {
    let stamped = |compression_type| LogConfig {
        message_timestamp_type: MessageTimestampType::LogAppendTime,
        ..topic_of(compression_type)
    };
    for (codec, _) in CODECS {
        for (_, compression_type) in CODECS {
            let bytes = compressed(batch_at(&[1, 2, 3]), codec).build().unwrap();
            let checked = check(bytes, &stamped(compression_type)).unwrap();
            let header = checked.header();
            assert_eq!(header.attributes().timestamp_type(), TimestampType::LogAppendTime);
            assert_eq!((header.max_timestamp(), checked.log_append_time()), (Some(NOW_MS), Some(NOW_MS)));
            assert!(records(checked.bytes()).iter().all(|record| record.timestamp == Some(NOW_MS)));
        }
    }
    let mut log = Fixture::new(stamped(CompressionType::Producer));
    let info = log.append(&batch_at(&[1, 2, 3])).unwrap();
    assert_eq!((info.log_append_time, info.max_timestamp), (Some(NOW_MS), Some(NOW_MS)));
    assert_eq!(log.reader().segments().unwrap()[0].largest_timestamp, Some(NOW_MS));
}

// M 174
#[test]
fn greatest_time_is_that_of_the_records_whatever_the_header_says() {
    let times = [NOW_MS - 5, NOW_MS - 1, NOW_MS - 3];
    for (codec, _) in CODECS {
        for said in [NOW_MS - 5, NOW_MS, 0] {
            let bytes = harmed(&compressed(batch_at(&times), codec), MAX_TIMESTAMP_AT, &said.to_be_bytes());
            let checked = check(bytes, &LogConfig::default()).unwrap();
            assert_eq!(checked.header().max_timestamp(), Some(NOW_MS - 1));
            assert_eq!(records(checked.bytes()).len(), 3, "with a checksum that fits");
        }
    }
}

// M 175
#[test]
fn times_out_of_bounds_name_every_record_and_outrank_other_faults() {
    let mut config = LogConfig {
        message_timestamp_before_max_ms: 1000,
        message_timestamp_after_max_ms: 500,
        ..LogConfig::default()
    };
    let at_fault = |batch: &BatchBuilder, config: &LogConfig| match check(batch.build().unwrap(), config) {
        Err(LogError::InvalidRecord { invalid_records, code, .. }) => Some((invalid_records, code)),
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(at_fault(&batch_at(&[NOW_MS - 1000, NOW_MS + 500]), &config), None);
    for (codec, _) in CODECS {
        let times = [NOW_MS - 1001, NOW_MS, NOW_MS + 501, NOW_MS - 5000];
        let expected = Some((vec![0, 2, 3], KafkaErrorCode::InvalidTimestamp));
        assert_eq!(at_fault(&compressed(batch_at(&times), codec), &config), expected);
    }
    config.cleanup_policy.compact = true;
    let keyed = BatchBuilder::new().record(NOW_MS, None, None).record(NOW_MS - 1001, Some(b"k"), None);
    let mixed = keyed.record(NOW_MS, None, None);
    assert_eq!(at_fault(&mixed, &config), Some((vec![0, 1, 2], KafkaErrorCode::InvalidTimestamp)));
}

// M 176: Kafka looks at inner offsets of compressed batches alone.
#[test]
fn inner_offsets_out_of_order_are_counted_anew_in_a_compressed_batch_and_refused_in_a_plain_one() {
    let record = |delta| NewRecord {
        timestamp: Some(NOW_MS),
        key: None,
        value: Some(b"v"),
        headers: &[],
        offset_delta: Some(delta),
    };
    let disordered = || BatchBuilder::new().append(record(0)).append(record(1)).append(record(3));
    for (codec, _) in CODECS {
        let bytes = harmed(&compressed(disordered(), codec), LAST_OFFSET_DELTA_AT, &2_i32.to_be_bytes());
        if codec == Codec::None {
            assert_eq!(refused(bytes, &LogConfig::default()), KafkaErrorCode::InvalidRecord);
            continue;
        }
        let checked = check(bytes, &LogConfig::default()).unwrap();
        let offsets: Vec<_> = records(checked.bytes()).iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 2], "{codec:?}");
    }
}

// M 176
#[test]
fn wrong_checksum_is_a_corrupt_message() {
    for (codec, _) in CODECS {
        let mut bytes = compressed(batch(3), codec).build().unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(refused(bytes, &LogConfig::default()), KafkaErrorCode::CorruptMessage);
    }
}

// M 177
#[test]
fn counts_that_are_wrong_are_refused() {
    let config = LogConfig::default();
    for (codec, _) in CODECS {
        for count in [-1_i32, -2, 0, 2, 4, i32::MAX] {
            let bytes = harmed(&compressed(batch(3), codec), RECORDS_COUNT_AT, &count.to_be_bytes());
            assert_eq!(refused(bytes, &config), KafkaErrorCode::InvalidRecord, "{codec:?}, count {count}");
        }
        for delta in [-1_i32, 0, 1, 3, i32::MAX] {
            let bytes = harmed(&compressed(batch(3), codec), LAST_OFFSET_DELTA_AT, &delta.to_be_bytes());
            assert!(check(bytes, &config).is_err(), "{codec:?}, last offset {delta}");
        }
        for real in [2_i32, 4] {
            let batch = compressed(batch(real.try_into().unwrap()), codec);
            let mut bytes = harmed(&batch, LAST_OFFSET_DELTA_AT, &2_i32.to_be_bytes());
            bytes[RECORDS_COUNT_AT..RECORDS_COUNT_AT + 4].copy_from_slice(&3_i32.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
            bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(refused(bytes, &config), KafkaErrorCode::InvalidRecord, "{codec:?}, {real} where 3 are said");
        }
    }
}

// M 178
#[test]
fn control_batch_comes_from_a_coordinator_alone_and_stays_uncompressed() {
    let bytes = marker(7, 0, true, 3);
    assert_eq!(refused(bytes.clone(), &LogConfig::default()), KafkaErrorCode::InvalidRecord);
    let policy = ValidationPolicy::from_config(&topic_of(CompressionType::Gzip));
    let checked = validate(bytes.clone(), &policy.with_origin(AppendOrigin::Coordinator), NOW_MS).unwrap();
    assert_eq!(checked.bytes(), bytes);
    assert!(checked.marker().unwrap().committed);
}

// M 179: down-conversion is gone.
#[test]
fn producer_without_a_sequence_is_refused() {
    let bytes = harmed(&in_txn(7, 0, 0, 2), BASE_SEQUENCE_AT, &(-1_i32).to_be_bytes());
    assert_eq!(refused(bytes.clone(), &LogConfig::default()), KafkaErrorCode::InvalidRecord);
    let coordinator = ValidationPolicy::from_config(&LogConfig::default()).with_origin(AppendOrigin::Coordinator);
    assert!(validate(bytes, &coordinator, NOW_MS).is_ok());
}

// M 181
#[test]
fn producer_and_epoch_of_a_batch_survive_every_path() {
    for (codec, _) in CODECS {
        for (_, compression_type) in CODECS {
            let mut log = Fixture::new(topic_of(compression_type));
            let bytes = compressed(in_txn(1_234, 14, 985, 3), codec).build().unwrap();
            let append = duramen::AppendAsLeader::new(40, NOW_MS);
            log.append_bytes(placed(bytes, 0, 15), AppendOrigin::Client, append).unwrap();
            let header = &log.batches()[0];
            let producer = header.producer().unwrap();
            assert_eq!((producer.id, producer.epoch, producer.base_sequence), (1_234, 14, Some(985)));
            assert_eq!((header.leader_epoch(), header.attributes().is_transactional()), (Some(40), true));
        }
    }
}
