//! What an open finds after a close, after a crash, and after somebody lost or harmed a file.
#![allow(clippy::unwrap_used)]

use duramen::{
    AppendAsLeader, AppendOrigin, Fetch, Isolation, LogConfig, LogError, Offset, OnCorruption, OpenOptions,
    storage::Storage,
};
use duramen_tests::{
    fixture::{
        Fixture, NOW_MS, batch, batch_at, file, files, in_txn, marker, placed, produced, records, remove_file,
        write_file,
    },
    random::Random,
};
use std::path::Path;

/// What becomes of a file's bytes; `None` when the file is lost.
type Harm = fn(&[u8]) -> Option<Vec<u8>>;

fn small() -> LogConfig {
    LogConfig { segment_bytes: 400, index_interval_bytes: 100, ..LogConfig::default() }
}

fn known(log: &Fixture) -> Vec<(i64, Option<i32>)> {
    log.active_producers().iter().map(|one| (one.producer_id, one.last_sequence)).collect()
}

fn index_entries(log: &Fixture) -> Vec<(usize, usize)> {
    let segments = log.reader().segments().unwrap();
    segments.iter().map(|segment| (segment.index_entries, segment.time_index_entries)).collect()
}

// M 87, 89
#[test]
fn clean_open_recovers_nothing_and_an_unclean_one_does() {
    let mut log = Fixture::new(small());
    for sequence in 0..20 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
    }
    let segments = log.bases().len();
    let log = log.reopen();
    assert!(log.report.clean);
    assert_eq!((log.report.segments_scanned, log.report.bytes_scanned), (0, 0));
    let (disk, options) = log.close();
    let log = Fixture::open(disk, OpenOptions { clean: false, ..options }).unwrap();
    assert!(!log.report.clean && log.report.segments_scanned == 1, "from the recovery point on");
    assert!(segments > 3);
}

// M 88
#[test]
fn crash_costs_the_segments_from_the_recovery_point_on_and_makes_their_snapshots() {
    let mut log = Fixture::new(LogConfig::default());
    for sequence in 0..6 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
        if sequence == 2 {
            log.checkpoint();
        }
    }
    log.append(&produced(1, 0, 6, 1)).unwrap();
    let (disk, options) = log.abandon();
    for offset in 4..=6 {
        remove_file(&disk, &format!("{offset:020}.snapshot"));
    }
    let operations = disk.trace().len();
    let log = Fixture::open(disk, options).unwrap();
    assert_eq!(log.report.segments_scanned, 4, "3, 4, 5 and 6");
    let created = |line: &String| line.split_once("create fixture-0/")?.1.split_once(".snapshot")?.0.parse().ok();
    let written: Vec<Offset> = log.disk.trace()[operations..].iter().filter_map(created).collect();
    assert_eq!(written, [4, 5, 6, 7]);
    assert_eq!((log.snapshots(), known(&log)), ((1..=7).collect(), vec![(1, Some(6))]));
}

// M 90
#[test]
fn coordinator_epoch_that_went_back_does_not_fail_recovery() {
    let mut log = Fixture::new(LogConfig::default());
    for (offset, coordinator_epoch) in [(0, 5), (1, 3), (2, 4)] {
        log.follow(&placed(marker(1, 0, false, coordinator_epoch), offset, 0)).unwrap();
    }
    let log = log.crash();
    assert_eq!((log.offsets().log_end, log.active_producers()[0].coordinator_epoch), (3, Some(4)));
}

// M 92: a recovery reads whole segments and so knows also who wrote below the log start, as Kafka 4.3.0 does.
#[test]
fn producers_below_the_log_start_are_not_read_again_behind_a_clean_close() {
    let mut log = Fixture::new(LogConfig::default());
    log.append(&produced(1, 0, 0, 1)).unwrap();
    log.append(&produced(2, 0, 0, 1)).unwrap();
    log.replicate();
    log.increment_log_start_offset(1).unwrap();
    assert_eq!(known(&log).len(), 2, "moving the log start forgets nobody");
    let (disk, options) = log.close();
    assert_eq!(known(&Fixture::open(disk.deep_clone(), options.clone()).unwrap()).len(), 2, "nor does a snapshot");
    remove_file(&disk, "00000000000000000002.snapshot");
    let unclean = OpenOptions { clean: false, ..options.clone() };
    assert_eq!(known(&Fixture::open(disk.deep_clone(), unclean).unwrap()).len(), 2);
    let log = Fixture::open(disk, options).unwrap();
    assert_eq!((known(&log), log.offsets().log_start), (vec![(2, Some(0))], 1));
}

// M 93
#[test]
fn recovery_point_at_the_end_and_at_zero_lead_to_the_same_log() {
    let mut log = Fixture::new(small());
    log.fill(30, 1);
    log.flush().unwrap();
    log.checkpoint();
    let (records, entries) = (log.records(), index_entries(&log));
    let (disk, options) = log.abandon();
    for lost_checkpoint in [false, true] {
        let disk = disk.deep_clone();
        if lost_checkpoint {
            disk.unlink(Path::new("recovery-point-offset-checkpoint")).unwrap();
        }
        let log = Fixture::open(disk, options.clone()).unwrap();
        assert_eq!((log.offsets().log_end, log.records()), (30, records.clone()));
        assert_eq!(log.report.segments_scanned == log.bases().len(), lost_checkpoint);
        // The active segment gets the last entry of its time index, as a close would have written it.
        assert_eq!(index_entries(&log).split_last().unwrap().1, entries.split_last().unwrap().1);
    }
}

// M 94, 95, 112: where Kafka leaves a lost time index empty, it is made anew here.
#[test]
fn indexes_lost_or_full_of_nonsense_answer_as_before() {
    let mut log = Fixture::new(LogConfig { segment_bytes: 4000, index_interval_bytes: 100, ..LogConfig::default() });
    for n in 0..200 {
        log.append(&batch_at(&[NOW_MS - 1000 + n])).unwrap();
    }
    let log = log.reopen();
    let (entries, bases) = (index_entries(&log), log.bases());
    let (disk, options) = log.close();
    let harms: [(&str, Harm); 4] = [
        ("lost", |_| None),
        ("emptied", |_| Some(Vec::new())),
        ("nonsense from byte 5", |bytes| Some([&bytes[..5], &vec![37; bytes.len() - 5]].concat())),
        ("nonsense", |bytes| Some(vec![0xa5; bytes.len() + 3])),
    ];
    for (extensions, clean) in
        [(vec![".index"], true), (vec![".timeindex"], true), (vec![".index", ".timeindex"], false)]
    {
        for (what, harm) in harms {
            let disk = disk.deep_clone();
            for name in files(&disk).iter().filter(|name| extensions.iter().any(|end| name.ends_with(end))) {
                match harm(&file(&disk, name).unwrap()) {
                    None => remove_file(&disk, name),
                    Some(bytes) => write_file(&disk, name, &bytes),
                }
            }
            let log = Fixture::open(disk, OpenOptions { clean, ..options.clone() }).unwrap();
            for n in 0..200 {
                let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(n) };
                assert_eq!(log.reader().read(fetch).unwrap().start.unwrap().offset, n, "{what} {extensions:?}");
                let query = duramen::TimestampQuery::At(NOW_MS - 1000 + n);
                let found = log.reader().offset_for_timestamp(query, Isolation::LogEnd).unwrap();
                assert_eq!(found.map(|found| found.offset), Some(n), "{what} {extensions:?}");
            }
            assert_eq!(log.bases(), bases);
            // An offset index that is empty behind a clean close says nothing wrong, and the log is read from its start.
            if what != "emptied" || !clean {
                assert_eq!(index_entries(&log), entries, "{what} {extensions:?}");
            }
        }
    }
}

// M 96
#[test]
fn files_without_a_log_and_leftovers_of_removals_go_at_the_open() {
    let mut log = Fixture::new(LogConfig::default());
    log.fill(2, 1);
    let (disk, options) = log.close();
    let whole = files(&disk);
    let leftovers = [
        "00000000000000000005.index",
        "00000000000000000005.timeindex",
        "00000000000000000005.txnindex",
        "00000000000000000007.log.deleted",
        "00000000000000000007.index.deleted",
        "00000000000000000009.log.cleaned",
    ];
    for name in leftovers {
        write_file(&disk, name, b"something");
    }
    let log = Fixture::open(disk, options).unwrap();
    assert_eq!(log.files(), whole);
    assert_eq!(log.report.files_removed.len(), leftovers.len());
    assert_eq!(log.records().len(), 2);
}

// M 97, 113
#[test]
fn garbage_behind_or_over_the_log_leaves_the_whole_batches_before_it() {
    let mut log = Fixture::new(LogConfig::default());
    for records in [1, 3, 2, 5, 1, 4] {
        log.append(&batch(records)).unwrap();
    }
    let content = log.content();
    let sizes: Vec<_> = log.batches().iter().map(|batch| batch.size()).collect();
    let (disk, options) = log.abandon();
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut bytes = content.clone();
        let mut garbage: Vec<u8> =
            (0..1 + random.below(200)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let at = if seed % 2 == 0 { bytes.len() } else { random.below(bytes.len()) };
        bytes.truncate(at);
        bytes.append(&mut garbage);
        if let Some(rest) = content.get(bytes.len()..) {
            bytes.extend(rest);
        }
        // An overwritten batch may keep its bytes by chance; what is equal counts as whole.
        let equal = bytes.iter().zip(&content).take_while(|(a, b)| a == b).count();
        let whole: usize = sizes
            .iter()
            .scan(0, |end, size| {
                Some({
                    *end += size;
                    *end
                })
            })
            .filter(|end| *end <= equal)
            .max()
            .unwrap_or(0);
        let disk = disk.deep_clone();
        write_file(&disk, "00000000000000000000.log", &bytes);
        let log = Fixture::open(disk, options.clone()).unwrap();
        assert_eq!(log.records(), records(&content[..whole]), "seed {seed}");
        assert_eq!(log.report.cut.as_ref().map(|cut| cut.position), Some(whole.try_into().unwrap()), "seed {seed}");
    }
}

// M 98: Kafka empties the log; here that is for the host to choose.
#[test]
fn log_that_ends_below_its_start_is_emptied_by_choice_alone() {
    let mut log = Fixture::new(small());
    log.fill(30, 1);
    log.flush().unwrap();
    log.replicate();
    let second = log.bases()[1];
    log.increment_log_start_offset(second + 1).unwrap();
    log.checkpoint();
    let (disk, options) = log.abandon();
    let name = format!("{second:020}.log");
    let mut bytes = file(&disk, &name).unwrap();
    bytes[70] ^= 1;
    write_file(&disk, &name, &bytes);
    disk.unlink(Path::new("recovery-point-offset-checkpoint")).unwrap();
    let refused = Fixture::open(disk.deep_clone(), options.clone());
    assert!(matches!(refused, Err(LogError::InvalidArgument { .. } | LogError::Corrupt(_))), "{refused:?}");
    let log = Fixture::open(disk, OpenOptions { on_corruption: OnCorruption::Truncate, ..options }).unwrap();
    assert_eq!((log.bases(), log.reader().size()), (vec![second + 1], 0));
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (second + 1, second + 1));
}

// M 99
#[test]
fn cut_in_the_middle_keeps_the_snapshots_below_it() {
    let mut log = Fixture::new(LogConfig::default());
    for sequence in 0..5 {
        log.append(&produced(1, 0, sequence, 1)).unwrap();
        log.roll(NOW_MS).unwrap();
    }
    let (disk, options) = log.abandon();
    let mut bytes = file(&disk, "00000000000000000002.log").unwrap();
    bytes[65] ^= 1;
    write_file(&disk, "00000000000000000002.log", &bytes);
    let options = OpenOptions { on_corruption: OnCorruption::Truncate, ..options };
    let mut log = Fixture::open(disk, options).unwrap();
    assert_eq!((log.bases(), log.offsets().log_end), (vec![0, 1, 2], 2));
    assert_eq!(log.snapshots(), [1, 2]);
    assert_eq!(known(&log), [(1, Some(1))]);
    log.append(&produced(1, 0, 2, 1)).unwrap();
}

// M 100, 107
#[test]
fn gap_beyond_the_range_of_a_segment_begins_another() {
    const FAR: i64 = 2_147_483_647 + 2;
    for records in [1, 3] {
        let mut log = Fixture::new(LogConfig::default());
        log.follow(&placed(batch(records).build().unwrap(), 0, 0)).unwrap();
        log.follow(&placed(batch(records).build().unwrap(), FAR, 0)).unwrap();
        log.follow(&placed(batch(records).build().unwrap(), FAR + 5, 0)).unwrap();
        assert_eq!(log.bases(), [0, FAR]);
        let before = log.records();
        let log = log.crash();
        assert_eq!((log.bases(), log.records()), (vec![0, FAR], before));
        let log = log.reopen();
        assert_eq!(log.offsets().log_end, FAR + 5 + i64::try_from(records).unwrap());
    }
}

// M 105
#[test]
fn empty_active_segment_after_a_crash_is_opened_and_gets_its_indexes() {
    let mut log = Fixture::new(LogConfig::default());
    log.fill(2, 1);
    log.roll(NOW_MS).unwrap();
    let log = log.crash();
    assert_eq!((log.bases(), log.offsets().log_end), (vec![0, 2], 2));
    let (disk, options) = log.close();
    for name in ["00000000000000000002.index", "00000000000000000002.timeindex"] {
        assert!(files(&disk).contains(&name.to_owned()));
    }
    Fixture::open(disk, options).unwrap().fill(1, 1);
}

// M 114
#[test]
fn recovery_makes_the_transaction_index_also_of_one_begun_in_an_earlier_segment() {
    for begun_before in [false, true] {
        let mut log = Fixture::new(LogConfig::default());
        log.truncate_fully_and_start_at(75, None, NOW_MS).unwrap();
        let mut sequence = 0;
        if begun_before {
            log.follow(&placed(in_txn(2, 0, 0, 1).build().unwrap(), 75, 0)).unwrap();
            sequence = 1;
        } else {
            log.follow(&placed(batch(1).build().unwrap(), 75, 0)).unwrap();
        }
        log.follow(&placed(batch(1).build().unwrap(), 99, 0)).unwrap();
        assert_eq!(log.roll(NOW_MS).unwrap(), 100);
        for (base, bytes) in [
            (100, in_txn(1, 0, 0, 2).build().unwrap()),
            (102, in_txn(2, 0, sequence, 2).build().unwrap()),
            (104, in_txn(1, 0, 2, 2).build().unwrap()),
            (106, marker(2, 0, false, 0)),
            (107, marker(1, 0, true, 0)),
        ] {
            log.follow(&placed(bytes, base, 0)).unwrap();
        }
        log.replicate();
        let (disk, options) = log.abandon();
        remove_file(&disk, "00000000000000000100.txnindex");
        let log = Fixture::open(disk, options).unwrap();
        let fetch = Fetch { isolation: Isolation::ReadCommitted, ..Fetch::from(100) };
        let aborted = log.reader().read(fetch).unwrap().aborted;
        assert_eq!(aborted.len(), 1);
        let (txn, first) = (aborted[0], if begun_before { 75 } else { 102 });
        assert_eq!((txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset), (2, first, 106, 100));
    }
}

// M 116
#[test]
fn preallocated_segment_is_trimmed_by_close_and_roll() {
    let mut log = Fixture::new(LogConfig { segment_bytes: 50_000, preallocate: true, ..LogConfig::default() });
    log.fill(3, 2);
    let size = log.reader().size();
    let log = log.reopen();
    assert_eq!(log.reader().size(), size);
    assert_eq!(file(&log.disk, "00000000000000000000.log").unwrap().len(), usize::try_from(size).unwrap());
    let mut log = log.crash();
    assert_eq!((log.reader().size(), log.records().len()), (size, 6));
    log.roll(NOW_MS).unwrap();
    log.fill(1, 1);
    assert_eq!(log.crash().records().len(), 7);
}

// M 86
#[test]
fn flush_of_a_log_whose_directory_was_renamed_does_not_fail() {
    let mut log = Fixture::new(LogConfig::default());
    log.fill(2, 1);
    log.disk.rename(Path::new("fixture-0"), Path::new("fixture-0.gone")).unwrap();
    log.flush().unwrap();
    assert_eq!(log.offsets().recovery_point, 2);
}

// M 68
#[test]
fn fencing_by_the_coordinator_is_known_after_a_recovery() {
    let mut log = Fixture::new(LogConfig::default());
    let append = AppendAsLeader::new(0, NOW_MS);
    log.append_bytes(marker(1, 0, true, 7), AppendOrigin::Coordinator, append).unwrap();
    let mut log = log.crash();
    let refused = log.append_bytes(marker(1, 0, true, 6), AppendOrigin::Coordinator, append).unwrap_err();
    assert!(matches!(refused, LogError::TransactionCoordinatorFenced { known: 7, .. }));
}
