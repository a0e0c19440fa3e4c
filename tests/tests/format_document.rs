//! `docs/FORMAT.md` and the code describe the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::format::{
    batch,
    builder::BatchBuilder,
    index_entry::{AbortedTxn, OffsetIndexEntry, TimeIndexEntry},
    journal::{self, Anchor, BlockHeader},
    snapshot::{self, LastBatch, ProducerSnapshotEntry},
    uuid::Uuid,
};
use std::{fs, path::Path};

/// A row of a table: where a field lies, how long it is, and what it is called.
#[derive(Debug)]
struct Field {
    offset: usize,
    size: usize,
    name: String,
}

/// The table whose last column has this title.
fn table(title: &str) -> Vec<Field> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/FORMAT.md");
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != format!("| offset | size | type | {title} |")).skip(2);
    let mut fields = Vec::new();
    for line in lines.by_ref().take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [offset, size, _, name] = cells.as_slice() else {
            panic!("{line}");
        };
        let size = size.parse().unwrap_or(0);
        fields.push(Field { offset: offset.parse().unwrap(), size, name: (*name).to_owned() });
    }
    assert!(!fields.is_empty(), "FORMAT.md has no table of '{title}'");
    for pair in fields.windows(2) {
        assert_eq!(pair[0].offset + pair[0].size, pair[1].offset, "the fields of '{title}' follow each other");
    }
    fields
}

/// The big-endian number in a field.
fn number(bytes: &[u8], fields: &[Field], name: &str) -> i64 {
    let field = fields.iter().find(|field| field.name.starts_with(name)).unwrap_or_else(|| panic!("no field {name}"));
    let bytes = &bytes[field.offset..field.offset + field.size];
    let negative = bytes[0] & 0x80 != 0;
    bytes.iter().fold(if negative { -1 } else { 0 }, |sum, byte| (sum << 8) | i64::from(*byte))
}

#[test]
fn batch_header_lies_where_the_document_says() {
    let fields = table("field");
    let at = |name: &str| fields.iter().find(|field| field.name.starts_with(name)).unwrap().offset;
    let constants = [
        ("base offset", batch::BASE_OFFSET_AT),
        ("batch length", batch::BATCH_LENGTH_AT),
        ("partition leader epoch", batch::LEADER_EPOCH_AT),
        ("magic", batch::MAGIC_AT),
        ("crc", batch::CRC_AT),
        ("attributes", batch::ATTRIBUTES_AT),
        ("last offset delta", batch::LAST_OFFSET_DELTA_AT),
        ("base timestamp", batch::BASE_TIMESTAMP_AT),
        ("max timestamp", batch::MAX_TIMESTAMP_AT),
        ("producer id", batch::PRODUCER_ID_AT),
        ("producer epoch", batch::PRODUCER_EPOCH_AT),
        ("base sequence", batch::BASE_SEQUENCE_AT),
        ("records count", batch::RECORDS_COUNT_AT),
        ("records, compressed", batch::HEADER_SIZE),
    ];
    assert_eq!(constants.len(), fields.len());
    for (name, constant) in constants {
        assert_eq!(at(name), constant, "{name}");
    }
    let builder = BatchBuilder::new().base_offset(11).leader_epoch(12).producer(13, 14, 15);
    let bytes = builder.record(1000, None, None).record(1001, None, None).build().unwrap();
    let expected = [
        ("base offset", 11),
        ("batch length", i64::try_from(bytes.len() - batch::LOG_OVERHEAD).unwrap()),
        ("partition leader epoch", 12),
        ("magic", 2),
        ("attributes", 0),
        ("last offset delta", 1),
        ("base timestamp", 1000),
        ("max timestamp", 1001),
        ("producer id", 13),
        ("producer epoch", 14),
        ("base sequence", 15),
        ("records count", 2),
    ];
    for (name, value) in expected {
        assert_eq!(number(&bytes, &fields, name), value, "{name}");
    }
}

#[test]
fn index_entries_lie_where_the_document_says() {
    let mut bytes = Vec::new();
    OffsetIndexEntry { offset: 105, position: 77 }.encode(100, &mut bytes).unwrap();
    let fields = table("index field");
    assert_eq!(bytes.len(), OffsetIndexEntry::SIZE);
    assert_eq!((number(&bytes, &fields, "last offset"), number(&bytes, &fields, "position")), (5, 77));
    bytes.clear();
    TimeIndexEntry { timestamp: 999, offset: 107 }.encode(100, &mut bytes).unwrap();
    let fields = table("time field");
    assert_eq!(bytes.len(), TimeIndexEntry::SIZE);
    assert_eq!((number(&bytes, &fields, "greatest"), number(&bytes, &fields, "last offset")), (999, 7));
    bytes.clear();
    AbortedTxn { producer_id: 1, first_offset: 2, last_offset: 3, last_stable_offset: 4 }.encode(&mut bytes);
    let fields = table("transaction field");
    assert_eq!(bytes.len(), AbortedTxn::SIZE);
    for (name, value) in
        [("version", 0), ("producer id", 1), ("first offset", 2), ("last offset", 3), ("last stable", 4)]
    {
        assert_eq!(number(&bytes, &fields, name), value, "{name}");
    }
}

#[test]
fn producer_snapshot_lies_where_the_document_says() {
    let last_batch = LastBatch { last_sequence: Some(3), last_offset: 4, offset_delta: 5, timestamp: 6 };
    let entry = ProducerSnapshotEntry {
        producer_id: 1,
        producer_epoch: 2,
        last_batch: Some(last_batch),
        timestamp: 6,
        coordinator_epoch: Some(7),
        current_txn_first_offset: Some(8),
    };
    let bytes = snapshot::encode(&[entry]);
    let fields = table("snapshot field");
    assert_eq!(number(&bytes, &fields, "version"), i64::from(snapshot::VERSION));
    assert_eq!(number(&bytes, &fields, "number of entries"), 1);
    assert_eq!(bytes.len(), snapshot::HEADER_SIZE + snapshot::ENTRY_SIZE);
    let fields = table("producer field");
    let bytes = &bytes[snapshot::HEADER_SIZE..];
    let expected = [
        ("producer id", 1),
        ("producer epoch", 2),
        ("last sequence", 3),
        ("last offset, ", 4),
        ("last offset less", 5),
        ("time of", 6),
        ("coordinator", 7),
        ("first offset", 8),
    ];
    assert_eq!(expected.len(), fields.len());
    for (name, value) in expected {
        assert_eq!(number(bytes, &fields, name), value, "{name}");
    }
}

#[test]
fn commit_journal_lies_where_the_document_says() {
    let id = Uuid::from_bytes([9; 16]);
    let bytes = Anchor { id, number: 2, sequence: 3, position: 8192, end: 1 << 20 }.encode();
    let fields = table("anchor field");
    assert_eq!(fields.iter().map(|field| field.size).sum::<usize>(), journal::ANCHOR_SIZE);
    let expected = [
        ("journal version", i64::from(journal::VERSION)),
        ("anchor number", 2),
        ("block number", 3),
        ("position", 8192),
        ("end of the ring", 1 << 20),
    ];
    for (name, value) in expected {
        assert_eq!(number(&bytes, &fields, name), value, "{name}");
    }
    let bytes = BlockHeader { id, sequence: 4, len: 50, frames: 6 }.encode(&[0; 10]);
    let fields = table("block field");
    assert_eq!(fields.last().unwrap().offset, journal::BLOCK_HEADER_SIZE);
    for (name, value) in [("block number", 4), ("length", 50), ("number of frames", 6)] {
        assert_eq!(number(&bytes, &fields, name), value, "{name}");
    }
    let orders = duramen::TopicPartition::new("orders", 7).unwrap();
    let bytes = journal::batches_header(&orders, 11, 12, 13);
    let fields = table("frame field");
    assert_eq!(fields.last().unwrap().offset, journal::FRAME_HEADER_SIZE);
    let expected = [
        ("kind", 0),
        ("bytes of the topic", 6),
        ("partition", 7),
        ("base offset", 11),
        ("position", 12),
        ("length of the batches", 13),
    ];
    for (name, value) in expected {
        assert_eq!(number(&bytes, &fields, name), value, "{name}");
    }
    assert_eq!(number(&journal::forget_header(&orders), &fields, "kind"), 1);
}
