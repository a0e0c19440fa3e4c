//! Segments whose offsets leave their range are split when the log is opened; what only looks like one is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    CleanerControl, CleanerOptions, DirectoryOptions, Fetch, Isolation, Log, LogDirectory, LogError, OnCorruption,
    OpenError, RecoveryReport, TimestampQuery,
    format::{
        batch::{Batches, assign_in_place},
        builder::{BatchBuilder, end_txn_marker},
        control::EndTxnMarker,
        names,
    },
    storage::{Access, Storage, sync, write_at},
};
use duramen_tests::{
    disk::{Crash, SimDisk},
    history::{self, NOW_MS, partition},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// One more than the range of a segment with base 0 holds.
const BEYOND: i64 = 1 << 31;
const CRASHES: [Crash; 6] =
    [Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::ZeroTail, Crash::Random(1), Crash::Torn(2)];
const MODIFIED_MS: i64 = NOW_MS - 77_000;

/// Base offsets of segments, and their bytes.
type Segments = Vec<(i64, Vec<u8>)>;

/// A batch of records, each with a time of its own.
fn batch(base_offset: i64, records: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new().base_offset(base_offset).leader_epoch(0);
    for offset in base_offset..base_offset + records {
        builder = builder.record(time_of(offset), Some(b"key"), Some(format!("record {offset}").as_bytes()));
    }
    builder.build().unwrap()
}

fn time_of(offset: i64) -> i64 {
    NOW_MS - 1_000_000 + offset / BEYOND * 1000 + offset % BEYOND % 1000
}

/// Batches of two records from each of these offsets on.
fn batches(base_offsets: &[i64]) -> Vec<u8> {
    base_offsets.iter().flat_map(|base_offset| batch(*base_offset, 2)).collect()
}

/// How a log was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Closed, with index files that do not fit.
    Clean,
    /// Closed, without index files.
    CleanUnindexed,
    Unclean,
}

const ALL_LEFT: [Left; 3] = [Left::Clean, Left::CleanUnindexed, Left::Unclean];

/// A log directory whose segments hold these bytes, everything durable.
fn write(segments: &[(i64, Vec<u8>)], left: Left, recovery_point: i64) -> SimDisk {
    let disk = SimDisk::new(5);
    let storage = history::on(&disk);
    let mut directory = open(&disk, OnCorruption::Report);
    directory.get_or_create(&partition(), &history::config()).unwrap();
    if left == Left::Unclean {
        drop(directory)
    } else {
        directory.close().unwrap()
    }
    let dir = PathBuf::from(partition().to_string());
    for path in disk.files().into_keys().filter(|path| path.starts_with(&dir)) {
        if !path.ends_with(names::PARTITION_METADATA) {
            storage.unlink(&path).unwrap();
        }
    }
    disk.set_clock_ms(MODIFIED_MS);
    for (base_offset, bytes) in segments {
        put(&*storage, &dir.join(names::log(*base_offset)), bytes);
        if left == Left::Clean {
            put(&*storage, &dir.join(names::offset_index(*base_offset)), &[]);
            put(&*storage, &dir.join(names::time_index(*base_offset)), &[]);
        }
    }
    let checkpoint = format!("0\n1\n{} {} {recovery_point}\n", partition().topic(), partition().partition());
    let path = Path::new("recovery-point-offset-checkpoint");
    let _ = storage.unlink(path);
    put(&*storage, path, checkpoint.as_bytes());
    storage.sync_dir(&dir).unwrap();
    storage.sync_dir(Path::new("")).unwrap();
    disk.set_clock_ms(NOW_MS);
    disk
}

fn put(storage: &dyn Storage, path: &Path, bytes: &[u8]) {
    let file = storage.open(path, Access::Create).unwrap();
    write_at(storage, &file, 0, bytes).unwrap();
    sync(storage, &file).unwrap();
}

fn open(disk: &SimDisk, on_corruption: OnCorruption) -> LogDirectory {
    let options = DirectoryOptions {
        now_ms: Some(NOW_MS),
        lock_timeout: Duration::from_secs(2),
        on_corruption,
        ..DirectoryOptions::default()
    };
    LogDirectory::open_on(history::on(disk), options).unwrap()
}

fn report(directory: &LogDirectory) -> RecoveryReport {
    let told = directory.report().partitions.get(&partition()).map(|(report, _)| report.clone());
    told.unwrap_or_else(RecoveryReport::as_left)
}

/// Base offset and size of every segment.
fn segments(log: &Log) -> Vec<(i64, u64)> {
    log.reader().segments().unwrap().iter().map(|segment| (segment.base_offset, segment.size)).collect()
}

/// Every record is found by its offset and by its time, and every offset between two batches leads to the next one.
fn check_lookups(log: &Log, content: &[u8]) {
    let reader = log.reader();
    let mut next_offset = log.offsets().log_start;
    for batch in Batches::new(content) {
        let header = batch.unwrap().header().clone();
        let (first, last) = (header.base_offset(), header.last_offset());
        for offset in [next_offset, (next_offset + first) / 2, first, last] {
            let fetched = reader.read(Fetch { isolation: Isolation::LogEnd, ..Fetch::from(offset) }).unwrap();
            let bytes = fetched.records.unwrap().to_vec().unwrap();
            assert_eq!(Batches::new(&bytes).next().unwrap().unwrap().header().base_offset(), first, "offset {offset}");
        }
        for offset in first..=last {
            let found =
                reader.offset_for_timestamp(TimestampQuery::At(time_of(offset)), Isolation::LogEnd).unwrap().unwrap();
            assert_eq!((found.offset, found.timestamp), (offset, Some(time_of(offset))));
        }
        next_offset = header.next_offset();
    }
}

/// Opens the log; its content, and what is there by path.
fn check(disk: &SimDisk, expected: &[(i64, Vec<u8>)], log_end: i64) -> RecoveryReport {
    let content: Vec<u8> = expected.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let mut directory = open(disk, OnCorruption::Report);
    let log = directory.get_or_create(&partition(), &history::config()).unwrap();
    let sizes: Vec<_> = expected.iter().map(|(base, bytes)| (*base, bytes.len() as u64)).collect();
    assert_eq!(segments(log), sizes);
    assert!(history::read_all(log) == content, "records are lost");
    assert_eq!(log.offsets().log_end, log_end);
    log.update_high_watermark(log_end);
    check_lookups(log, &content);
    let report = report(&directory);
    for path in disk.files().into_keys() {
        let name = path.to_string_lossy().into_owned();
        assert!(![".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end)), "{name} is left");
    }
    report
}

/// What is to be split, into what, and the log's end.
fn cases() -> Vec<(&'static str, Vec<u8>, Segments)> {
    let part = |base: i64, offsets: &[i64]| (base, batches(offsets));
    let straddling = [batches(&[0]), batch(BEYOND - 1, 2)].concat();
    vec![
        (
            "two parts",
            batches(&[0, 2, BEYOND, BEYOND + 2]),
            vec![part(0, &[0, 2]), part(BEYOND, &[BEYOND, BEYOND + 2])],
        ),
        ("last batch", batches(&[0, 2, BEYOND + 7]), vec![part(0, &[0, 2]), part(BEYOND + 7, &[BEYOND + 7])]),
        ("last offset", straddling, vec![part(0, &[0]), part(BEYOND - 1, &[BEYOND - 1])]),
        ("one batch", batches(&[BEYOND + 7]), vec![part(BEYOND + 7, &[BEYOND + 7])]),
        (
            "three parts",
            batches(&[0, 5, BEYOND + 9, BEYOND + 20, 2 * BEYOND + 9, 2 * BEYOND + 30]),
            vec![
                part(0, &[0, 5]),
                part(BEYOND + 9, &[BEYOND + 9, BEYOND + 20]),
                part(2 * BEYOND + 9, &[2 * BEYOND + 9, 2 * BEYOND + 30]),
            ],
        ),
        (
            "gaps",
            batches(&[3, 1 << 33, 1 << 40]),
            vec![part(0, &[3]), part(1 << 33, &[1 << 33]), part(1 << 40, &[1 << 40])],
        ),
    ]
}

fn end_of(bytes: &[u8]) -> i64 {
    Batches::new(bytes).last().unwrap().unwrap().header().next_offset()
}

// M 75, 101, 117
#[test]
fn overflowing_segment_is_split_where_offsets_leave_the_range() {
    for (what, bytes, parts) in cases() {
        for left in ALL_LEFT {
            println!("{what}, {left:?}");
            let disk = write(&[(0, bytes.clone())], left, 0);
            let report = check(&disk, &parts, end_of(&bytes));
            assert_eq!(report.segments_split, [0]);
            assert!(report.is_whole() && report.to_string().contains("segments [0] split"), "{report}");
            let first = files(&disk);
            let again = check(&disk, &parts, end_of(&bytes));
            assert!(again.segments_split.is_empty(), "{again}");
            assert_eq!(files(&disk), first, "opening twice is opening once");
            // It goes on, closes in order, and opens without a scan.
            let mut directory = open(&disk, OnCorruption::Report);
            let log = directory.get_or_create(&partition(), &history::config()).unwrap();
            log.append_as_follower(&batch(end_of(&bytes), 2), 0, NOW_MS).unwrap();
            let all = history::read_all(log);
            directory.close().unwrap();
            let mut directory = open(&disk, OnCorruption::Report);
            let log = directory.get_or_create(&partition(), &history::config()).unwrap();
            assert!(history::read_all(log) == all && all.starts_with(&bytes));
            let report = self::report(&directory);
            assert!(report.clean && report.segments_scanned == 0 && report.segments_split.is_empty(), "{report}");
        }
    }
}

/// The files of the partition that are part of the log.
fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let dir = PathBuf::from(partition().to_string());
    disk.files().into_iter().filter(|(path, _)| path.starts_with(&dir)).collect()
}

#[test]
fn parts_are_as_old_as_the_segment() {
    let disk = write(&[(0, batches(&[0, BEYOND, 2 * BEYOND])), (3 * BEYOND, batches(&[3 * BEYOND]))], Left::Unclean, 0);
    open(&disk, OnCorruption::Report).get_or_create(&partition(), &history::config()).unwrap();
    let storage = history::on(&disk);
    for base_offset in [0, BEYOND, 2 * BEYOND] {
        let path = PathBuf::from(partition().to_string()).join(names::log(base_offset));
        let file = storage.open(&path, Access::Read).unwrap();
        assert_eq!(storage.modified_ms(&file).unwrap(), MODIFIED_MS, "{path:?}");
    }
}

#[test]
fn sealed_segment_is_split_up_to_the_next_one() {
    let next = 2 * BEYOND;
    for left in ALL_LEFT {
        for recovery_point in [0, next, next + 2] {
            let last = next - 2;
            let sealed = batches(&[100, BEYOND + 100, last]);
            let disk = write(&[(0, batches(&[0, 2])), (100, sealed), (next, batches(&[next]))], left, recovery_point);
            let parts = [
                (0, batches(&[0, 2])),
                (100, batches(&[100])),
                (BEYOND + 100, batches(&[BEYOND + 100, last])),
                (next, batches(&[next])),
            ];
            let report = check(&disk, &parts, next + 2);
            assert_eq!(report.segments_split, [100], "{left:?}, recovery point {recovery_point}");
            assert!(check(&disk, &parts, next + 2).segments_split.is_empty());
        }
    }
}

#[test]
fn every_overflowing_segment_is_split() {
    let (first, second) = (batches(&[0, BEYOND]), batches(&[2 * BEYOND, 4 * BEYOND]));
    for left in ALL_LEFT {
        let disk = write(&[(0, first.clone()), (2 * BEYOND, second.clone())], left, 0);
        let parts = [0, BEYOND, 2 * BEYOND, 4 * BEYOND].map(|base| (base, batches(&[base])));
        let report = check(&disk, &parts, 4 * BEYOND + 2);
        assert_eq!(report.segments_split, [0, 2 * BEYOND], "{left:?}");
    }
}

#[test]
fn torn_tail_behind_the_overflow_is_cut_from_the_last_part() {
    let mut bytes = batches(&[0, 2, BEYOND]);
    let torn = batch(BEYOND + 2, 2);
    bytes.extend(&torn[..torn.len() - 5]);
    for left in [Left::CleanUnindexed, Left::Unclean] {
        let disk = write(&[(0, bytes.clone())], left, 0);
        let parts = [(0, batches(&[0, 2])), (BEYOND, batches(&[BEYOND]))];
        let report = check(&disk, &parts, BEYOND + 2);
        assert_eq!(report.segments_split, [0]);
        let cut = report.cut.unwrap();
        assert_eq!((cut.segment, cut.bytes), (BEYOND, torn.len() as u64 - 5));
    }
}

/// Opens, expects a refusal, and that nothing was changed; where the damage is said to begin.
fn check_refused(
    what: &str,
    segments: &[(i64, Vec<u8>)],
    left: Left,
    recovery_point: i64,
    on_corruption: OnCorruption,
) -> u64 {
    let disk = write(segments, left, recovery_point);
    let before = files(&disk);
    let mut directory = open(&disk, on_corruption);
    let corruption = match directory.get_or_create(&partition(), &history::config()) {
        Err(OpenError::Partition { source: LogError::Corrupt(corruption), .. }) => corruption,
        other => panic!("{what}: {:?}", other.map(|log| log.offsets())),
    };
    assert_eq!(files(&disk), before, "{what}");
    corruption.position
}

#[test]
fn damaged_offset_that_looks_like_an_overflow_is_refused_untouched() {
    let goes_back = batches(&[0, BEYOND + 2, 4]);
    let mut damaged = batches(&[0, BEYOND, BEYOND + 2, BEYOND + 4]);
    let at = batches(&[0, BEYOND, BEYOND + 2]).len() - 1;
    damaged[at] ^= 1;
    for on_corruption in [OnCorruption::Report, OnCorruption::Truncate] {
        let position = check_refused("goes back", &[(0, goes_back.clone())], Left::Unclean, 0, on_corruption);
        assert_eq!(position, batches(&[0]).len() as u64, "the batch in range is whole");
        let overlap = [(0, batches(&[0, BEYOND + 2])), (BEYOND, batches(&[BEYOND]))];
        check_refused("overlaps the next segment", &overlap, Left::Unclean, 0, on_corruption);
        let below = [(0, damaged.clone())];
        check_refused("damage below the recovery point", &below, Left::Unclean, BEYOND + 6, on_corruption);
        check_refused("damage below the recovery point", &below, Left::Clean, BEYOND + 6, on_corruption);
    }
}

#[test]
fn nothing_is_split_when_the_open_refuses_something_else() {
    let mut damaged = batches(&[2 * BEYOND, 2 * BEYOND + 2]);
    let at = batch(2 * BEYOND, 2).len() - 1;
    damaged[at] ^= 1;
    let segments = [(0, batches(&[0, BEYOND])), (2 * BEYOND, damaged)];
    for left in [Left::CleanUnindexed, Left::Unclean] {
        check_refused("damage behind the overflow", &segments, left, 2 * BEYOND + 4, OnCorruption::Report);
    }
}

#[test]
fn aborted_transactions_stay_known_in_their_part() {
    let transactional = |base_offset| {
        let builder = BatchBuilder::new().base_offset(base_offset).leader_epoch(0).producer(9, 0, 0).transactional();
        builder.record(time_of(base_offset), Some(b"key"), Some(b"aborted")).build().unwrap()
    };
    let mut marker = end_txn_marker(9, 0, EndTxnMarker { committed: false, coordinator_epoch: 0 }, NOW_MS).unwrap();
    assign_in_place(&mut marker, BEYOND + 3, 0).unwrap();
    let bytes = [batch(0, 2), transactional(2), batch(BEYOND, 2), marker].concat();
    for left in ALL_LEFT {
        let disk = write(&[(0, bytes.clone())], left, 0);
        let mut directory = open(&disk, OnCorruption::Report);
        let log = directory.get_or_create(&partition(), &history::config()).unwrap();
        log.update_high_watermark(log.offsets().log_end);
        assert_eq!(segments(log).iter().map(|segment| segment.0).collect::<Vec<_>>(), [0, BEYOND]);
        for offset in [0, 2] {
            let fetch = Fetch { isolation: Isolation::ReadCommitted, ..Fetch::from(offset) };
            let aborted = log.reader().read(fetch).unwrap().aborted;
            assert_eq!(aborted.len(), 1, "{left:?}, from {offset}: {aborted:?}");
        }
    }
}

#[test]
fn full_disk_leaves_the_segment_whole() {
    let bytes = batches(&[0, 2, BEYOND]);
    let disk = write(&[(0, bytes.clone())], Left::Unclean, 0);
    let before = files(&disk);
    let mut directory = open(&disk, OnCorruption::Report);
    disk.set_capacity(Some(disk.files().values().map(|bytes| bytes.len() as u64).sum()));
    match directory.get_or_create(&partition(), &history::config()) {
        Err(OpenError::Partition { source: LogError::DiskFull(_), .. }) => {}
        other => panic!("{:?}", other.map(|log| log.offsets())),
    }
    drop(directory);
    assert_eq!(files(&disk), before);
    disk.set_capacity(None);
    check(&disk, &[(0, batches(&[0, 2])), (BEYOND, batches(&[BEYOND]))], BEYOND + 2);
}

/// What a crash left opens to all records.
fn check_crashed(image: &SimDisk, parts: &[(i64, Vec<u8>)], log_end: i64, place: &str) {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check(image, parts, log_end);
        assert!(check(image, parts, log_end).segments_split.is_empty());
    }));
    if let Err(failure) = outcome {
        panic!("{place}: {}", failure.downcast_ref::<String>().cloned().unwrap_or_else(|| "?".into()));
    }
}

/// Disks whose open stopped at each of its operations in turn, from the split on: what crashes before is in every open.
fn crashed_in_split(disk: &SimDisk) -> Vec<(u64, SimDisk)> {
    stopped_at_each(|| disk.deep_clone()).into_iter().filter(|(_, crashed)| has_begun(crashed)).collect()
}

/// Disks whose open stopped at each of its operations in turn, until it came to its end.
fn stopped_at_each(disk: impl Fn() -> SimDisk) -> Vec<(u64, SimDisk)> {
    let stopped = |operation| {
        let disk = disk();
        disk.crash_at(disk.operations() + operation);
        open_and_crash(&disk);
        disk.crashed().then_some((operation, disk))
    };
    (0..).map_while(stopped).collect()
}

fn has_begun(disk: &SimDisk) -> bool {
    disk.trace().iter().any(|line| line.contains(".cleaned"))
}

fn open_and_crash(disk: &SimDisk) {
    let options =
        DirectoryOptions { now_ms: Some(NOW_MS), lock_timeout: Duration::from_secs(2), ..DirectoryOptions::default() };
    if let Ok(mut directory) = LogDirectory::open_on(history::on(disk), options) {
        let _ = directory.get_or_create(&partition(), &history::config());
    }
}

// M 102
#[test]
fn crash_at_any_operation_of_a_split_loses_nothing() {
    let mut checked = 0;
    for (what, bytes, parts) in cases() {
        for left in [Left::Clean, Left::Unclean] {
            for (operation, crashed) in crashed_in_split(&write(&[(0, bytes.clone())], left, 0)) {
                let random = (0..6).map(|n| Crash::Random(operation * 100 + n));
                for (how, image) in crashed.distinct_crash_images(CRASHES.into_iter().chain(random)) {
                    let place = format!("{what}, {left:?}, crash at {operation}, {how:?}");
                    check_crashed(&image, &parts, end_of(&bytes), &place);
                    checked += 1;
                }
            }
        }
    }
    println!("{checked} crashed disks checked");
    assert!(checked > 300);
}

#[test]
fn crash_of_the_recovery_of_a_split_is_just_another_crash() {
    let mut checked = 0;
    let (_, bytes, parts) = cases().into_iter().find(|case| case.0 == "three parts").unwrap();
    for (operation, crashed) in crashed_in_split(&write(&[(0, bytes.clone())], Left::Unclean, 0)) {
        let how = if operation % 3 == 0 { Crash::KeepAll } else { Crash::Random(operation) };
        for (at, again) in stopped_at_each(|| crashed.crash_image(how)) {
            let second = if at % 3 == 0 { Crash::LoseAllUnsynced } else { Crash::Random(at) };
            let place = format!("crash at {operation}, {how:?}, then at {at}, {second:?}");
            check_crashed(&again.crash_image(second), &parts, end_of(&bytes), &place);
            checked += 1;
        }
    }
    println!("{checked} crashed disks checked");
    assert!(checked > 300);
}

#[test]
fn cleaning_that_meets_an_offset_out_of_range_gives_up_untouched() {
    // Not split: its last batch reaches into the next segment. Behind an orderly close nobody looks at it.
    let sealed = (0, batches(&[0, BEYOND + 2]));
    let disk = write(&[sealed, (BEYOND, batches(&[BEYOND, BEYOND + 4]))], Left::Clean, BEYOND + 6);
    let mut config = history::config();
    (config.cleanup_policy.compact, config.cleanup_policy.delete) = (true, false);
    let mut directory = open(&disk, OnCorruption::Report);
    let log = directory.get_or_create(&partition(), &config).unwrap();
    log.update_high_watermark(log.offsets().log_end);
    let before = files(&disk);
    let to_clean = log.log_to_clean(None, NOW_MS).unwrap();
    let cleaned = log.clean(&to_clean, &CleanerOptions::default(), NOW_MS, &mut |_| CleanerControl::Continue);
    assert!(matches!(cleaned, Err(LogError::CleaningAborted { .. })), "{cleaned:?}");
    assert_eq!(files(&disk), before);
}
