//! The simulated disk obeys each of its crash rules: every test here fails if its rule is missing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use duramen::storage::{
    Access, BufferPool, File, Op, QueuedWrite, Storage, Wait, queue, read_at, read_file, sync, write_at,
    write_atomically,
};
use duramen_tests::disk::{Crash, Fault, SimDisk};
use nix::errno::Errno;

const SEEDS: u64 = 300;
const ROOT: &str = "";

fn create(disk: &SimDisk, path: &str) -> File {
    disk.open(Path::new(path), Access::Create).unwrap()
}

/// A file whose bytes and name are durable.
fn durable(disk: &SimDisk, path: &str, bytes: &[u8]) -> File {
    let file = create(disk, path);
    write_at(disk, &file, 0, bytes).unwrap();
    sync(disk, &file).unwrap();
    disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    file
}

fn rename(disk: &SimDisk, from: &str, to: &str) {
    disk.rename(Path::new(from), Path::new(to)).unwrap();
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.files().remove(Path::new(path))
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.files().keys().map(|path: &PathBuf| path.display().to_string()).collect()
}

/// What becomes of `path` over many seeds.
fn outcomes(disk: &SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS).map(|seed| content(&disk.crash_image(Crash::Random(seed)), path)).collect()
}

/// The file names found over many seeds.
fn name_outcomes(disk: &SimDisk) -> BTreeSet<Vec<String>> {
    (0..SEEDS).map(|seed| names(&disk.crash_image(Crash::Random(seed)))).collect()
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn every_crash() -> Vec<Crash> {
    let mut all = vec![Crash::ProcessOnly, Crash::LoseAllUnsynced, Crash::KeepAll, Crash::ZeroTail];
    all.extend((0..20).flat_map(|seed| [Crash::Random(seed), Crash::Torn(seed)]));
    all
}

#[test]
fn synced_file_in_synced_directory_survives_every_crash() {
    let disk = SimDisk::new(1);
    durable(&disk, "a", b"durable");
    for how in every_crash() {
        assert_eq!(content(&disk.crash_image(how), "a").unwrap(), b"durable", "{how:?}");
    }
}

#[test]
fn file_sync_does_not_make_the_name_durable() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    write_at(&disk, &file, 0, b"bytes").unwrap();
    sync(&disk, &file).unwrap();
    assert_eq!(content(&disk.crash_image(Crash::LoseAllUnsynced), "a"), None);
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, Some(b"bytes".to_vec())]));
}

#[test]
fn directory_sync_does_not_make_bytes_durable() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    write_at(&disk, &file, 0, b"bytes").unwrap();
    disk.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(content(&disk.crash_image(Crash::LoseAllUnsynced), "a").unwrap(), b"");
    let found = outcomes(&disk, "a");
    assert!(found.contains(&Some(b"".to_vec())), "length and data lost");
    assert!(found.contains(&Some(b"bytes".to_vec())), "both kept");
    assert!(found.contains(&Some(vec![0; 5])), "the length ahead of the data");
}

#[test]
fn directory_sync_does_not_reach_its_parent() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("p")).unwrap();
    let file = create(&disk, "p/f");
    write_at(&disk, &file, 0, b"x").unwrap();
    sync(&disk, &file).unwrap();
    disk.sync_dir(Path::new("p")).unwrap();
    assert_eq!(disk.crash_image(Crash::LoseAllUnsynced).list(Path::new(ROOT)).unwrap(), []);
    disk.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(content(&disk.crash_image(Crash::LoseAllUnsynced), "p/f").unwrap(), b"x");
}

#[test]
fn process_death_keeps_everything_written_and_power_can_still_take_it() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    write_at(&disk, &file, 0, b"bytes").unwrap();
    let after = disk.crash_image(Crash::ProcessOnly);
    assert_eq!(content(&after, "a").unwrap(), b"bytes");
    assert_eq!(names(&after.crash_image(Crash::LoseAllUnsynced)), list(&[]));
}

#[test]
fn zero_tail_keeps_the_length_and_loses_the_appended_bytes() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", b"head");
    write_at(&disk, &file, 4, b"tail").unwrap();
    assert_eq!(content(&disk.crash_image(Crash::ZeroTail), "a").unwrap(), b"head\0\0\0\0");
}

#[test]
fn sectors_of_one_write_are_lost_each_by_itself() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", &[1; 1536]);
    write_at(&disk, &file, 0, &[2; 1536]).unwrap();
    let found: BTreeSet<Vec<u8>> = outcomes(&disk, "a")
        .into_iter()
        .map(|bytes| {
            let bytes = bytes.unwrap();
            assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "no torn sector");
            bytes.into_iter().step_by(512).collect()
        })
        .collect();
    assert_eq!(found.len(), 8, "every combination of three sectors: {found:?}");
}

#[test]
fn torn_crash_splits_a_sector() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", &[1; 512]);
    write_at(&disk, &file, 0, &[2; 512]).unwrap();
    let torn = (0..SEEDS).filter(|seed| {
        let bytes = content(&disk.crash_image(Crash::Torn(*seed)), "a").unwrap();
        let split = bytes.iter().filter(|byte| **byte == 2).count();
        assert!(bytes[..split].iter().all(|byte| *byte == 2), "torn in one place");
        split != 0 && split != 512
    });
    assert!(torn.count() > 10);
}

#[test]
fn later_write_to_a_sector_never_survives_without_the_earlier() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", &[0; 512]);
    write_at(&disk, &file, 0, b"A").unwrap();
    write_at(&disk, &file, 1, b"B").unwrap();
    let found: BTreeSet<Vec<u8>> = outcomes(&disk, "a").into_iter().map(|bytes| bytes.unwrap()[..2].to_vec()).collect();
    assert_eq!(found, BTreeSet::from([b"\0\0".to_vec(), b"A\0".to_vec(), b"AB".to_vec()]));
}

#[test]
fn appended_length_can_be_behind_and_ahead_of_the_data() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", b"");
    write_at(&disk, &file, 0, &[1; 512]).unwrap();
    write_at(&disk, &file, 512, &[2; 512]).unwrap();
    let found = outcomes(&disk, "a");
    let lengths: BTreeSet<usize> = found.iter().flatten().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([0, 512, 1024]));
    let hole = [vec![0; 512], vec![2; 512]].concat();
    assert!(found.contains(&Some(hole)), "the second sector was written back before the first");
}

#[test]
fn unsynced_cut_may_come_back_whole_but_never_mixed_with_what_followed() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", &[1; 1536]);
    disk.set_len(&file, 512).unwrap();
    write_at(&disk, &file, 512, &[2; 512]).unwrap();
    let tails: BTreeSet<Vec<u8>> =
        outcomes(&disk, "a").into_iter().map(|bytes| bytes.unwrap()[512..].to_vec()).collect();
    assert_eq!(tails, BTreeSet::from([vec![1; 1024], vec![], vec![0; 512], vec![2; 512]]));
}

#[test]
fn unsynced_cut_within_a_sector_leaves_no_old_byte_beyond_it() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", &[1; 100]);
    disk.set_len(&file, 50).unwrap();
    disk.set_len(&file, 80).unwrap();
    let found: BTreeSet<Vec<u8>> = outcomes(&disk, "a").into_iter().flatten().collect();
    let extended = [vec![1; 50], vec![0; 30]].concat();
    assert_eq!(found, BTreeSet::from([vec![1; 100], vec![1; 50], extended]));
}

#[test]
fn synced_length_is_durable() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", &[1; 1024]);
    disk.set_len(&file, 512).unwrap();
    sync(&disk, &file).unwrap();
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([Some(vec![1; 512])]));
}

#[test]
fn unsynced_rename_leaves_the_old_or_the_new_name_never_both_and_never_none() {
    let disk = SimDisk::new(1);
    durable(&disk, "old", b"x");
    rename(&disk, "old", "new");
    assert_eq!(name_outcomes(&disk), BTreeSet::from([list(&["new"]), list(&["old"])]));
    disk.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(name_outcomes(&disk), BTreeSet::from([list(&["new"])]));
}

#[test]
fn unsynced_rename_over_a_file_leaves_the_old_or_the_new_content() {
    let disk = SimDisk::new(1);
    durable(&disk, "a", b"old");
    durable(&disk, "a.tmp", b"new");
    rename(&disk, "a.tmp", "a");
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
}

#[test]
fn rename_never_survives_the_loss_of_the_creation() {
    let disk = SimDisk::new(1);
    create(&disk, "a.tmp");
    rename(&disk, "a.tmp", "a");
    assert_eq!(name_outcomes(&disk), BTreeSet::from([list(&[]), list(&["a"]), list(&["a.tmp"])]));
}

#[test]
fn two_unsynced_renames_leave_one_name() {
    let disk = SimDisk::new(1);
    durable(&disk, "a", b"x");
    rename(&disk, "a", "b");
    rename(&disk, "b", "c");
    assert_eq!(name_outcomes(&disk), BTreeSet::from([list(&["a"]), list(&["b"]), list(&["c"])]));
}

#[test]
fn keep_all_and_zero_tail_keep_every_name() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    write_at(&disk, &file, 0, b"x").unwrap();
    assert_eq!(content(&disk.crash_image(Crash::KeepAll), "a").unwrap(), b"x");
    assert_eq!(content(&disk.crash_image(Crash::ZeroTail), "a").unwrap(), b"\0");
    assert_eq!(disk.deep_clone().unsynced(), Vec::<PathBuf>::new());
}

#[test]
fn lost_directory_takes_its_files_and_their_space_with_it() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("p")).unwrap();
    durable(&disk, "p/f", b"12345");
    disk.set_capacity(Some(5));
    let image = disk.crash_image(Crash::LoseAllUnsynced);
    durable(&image, "g", b"12345");
    assert_eq!(names(&image), ["g"]);
}

#[test]
fn load_and_store_keep_every_file() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("p")).unwrap();
    durable(&disk, "p/f", b"12345");
    durable(&disk, "a", b"");
    let dir = tempfile::tempdir().unwrap();
    disk.store(dir.path()).unwrap();
    let loaded = SimDisk::load(1, dir.path()).unwrap();
    assert_eq!(loaded.files(), disk.files());
    assert_eq!(loaded.crash_image(Crash::LoseAllUnsynced).files(), disk.files(), "what is loaded is durable");
    assert_eq!(loaded.operations(), 0);
}

#[test]
fn fail_next_waits_for_its_operation() {
    let disk = SimDisk::new(1);
    let (a, b) = (create(&disk, "a"), create(&disk, "b"));
    disk.fail_next("sync b", Fault::Error(Errno::EIO));
    sync(&disk, &a).unwrap();
    sync(&disk, &b).unwrap_err();
    sync(&disk, &b).unwrap();
}

#[test]
fn unsynced_names_survive_in_any_combination() {
    let disk = SimDisk::new(1);
    create(&disk, "a");
    create(&disk, "b");
    let all = [list(&[]), list(&["a"]), list(&["b"]), list(&["a", "b"])];
    assert_eq!(name_outcomes(&disk), BTreeSet::from(all));
}

#[test]
fn removed_file_may_come_back_with_its_durable_bytes() {
    let disk = SimDisk::new(1);
    durable(&disk, "a", b"x");
    disk.unlink(Path::new("a")).unwrap();
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(outcomes(&disk, "a"), BTreeSet::from([None]));
}

#[test]
fn rename_between_directories_never_loses_the_file_or_doubles_it() {
    let disk = SimDisk::new(1);
    durable(&disk, "f", b"x");
    disk.create_dir(Path::new("d")).unwrap();
    rename(&disk, "f", "d/f");
    assert_eq!(name_outcomes(&disk), BTreeSet::from([list(&["d/f"]), list(&["f"])]));
    disk.sync_dir(Path::new("d")).unwrap();
    assert_eq!(name_outcomes(&disk), BTreeSet::from([list(&["d/f"])]));
}

#[test]
fn write_atomically_crashed_at_every_step_leaves_the_old_or_the_new_content() {
    let before = SimDisk::new(1);
    durable(&before, "a", b"old");
    let steps = {
        let disk = before.deep_clone();
        write_atomically(&disk, Path::new("a"), b"new content").unwrap();
        assert_eq!(disk.unsynced(), Vec::<PathBuf>::new());
        disk.operations()
    };
    let mut found = BTreeSet::new();
    for (step, how) in (0..steps).flat_map(|step| every_crash().into_iter().map(move |how| (step, how))) {
        let disk = before.deep_clone();
        disk.crash_at(step);
        let error = write_atomically(&disk, Path::new("a"), b"new content").unwrap_err();
        assert!(SimDisk::is_crash(&error.source) && disk.crashed());
        let image = disk.crash_image(how);
        found.insert(content(&image, "a"));
        write_atomically(&image, Path::new("a"), b"third").unwrap();
        assert_eq!(read_file(&image, Path::new("a"), 5).unwrap().unwrap(), b"third", "a stale temporary is in no way");
    }
    assert_eq!(found, BTreeSet::from([Some(b"old".to_vec()), Some(b"new content".to_vec())]));
}

#[test]
fn write_atomically_without_its_file_sync_would_be_caught() {
    let disk = SimDisk::new(1);
    durable(&disk, "a", b"old");
    let file = create(&disk, "a.tmp");
    write_at(&disk, &file, 0, b"new").unwrap();
    rename(&disk, "a.tmp", "a");
    disk.sync_dir(Path::new(ROOT)).unwrap();
    assert!(outcomes(&disk, "a").contains(&Some(vec![0; 3])));
}

#[test]
fn failed_sync_that_drops_pages_makes_later_syncs_lie() {
    for evict in [false, true] {
        let disk = SimDisk::new(1);
        let file = durable(&disk, "a", b"old");
        write_at(&disk, &file, 0, b"NEW and more").unwrap();
        disk.fail_at(disk.operations(), Fault::DropPages { errno: Errno::EIO, evict });
        assert_eq!(sync(&disk, &file).unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        sync(&disk, &file).unwrap();
        let lost = b"old\0\0\0\0\0\0\0\0\0".to_vec();
        assert_eq!(content(&disk.crash_image(Crash::KeepAll), "a").unwrap(), lost, "the data is gone");
        let mut cached = vec![0; 12];
        read_at(&disk, &file, 0, &mut cached).unwrap();
        assert_eq!(cached, if evict { lost } else { b"NEW and more".to_vec() });
    }
}

#[test]
fn planned_error_fails_that_operation_alone_and_does_nothing() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", b"old");
    disk.fail_at(disk.operations(), Fault::Error(Errno::ENOSPC));
    let error = write_at(&disk, &file, 0, b"new").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a").unwrap(), b"old");
    write_at(&disk, &file, 0, b"new").unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"new");
}

#[test]
fn planned_short_write_leaves_a_true_prefix() {
    let mut lengths = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "a");
        disk.fail_at(disk.operations(), Fault::Short(Errno::EIO));
        write_at(&disk, &file, 0, b"12345").unwrap_err();
        let bytes = content(&disk, "a").unwrap();
        assert!(b"12345".starts_with(&bytes));
        lengths.insert(bytes.len());
    }
    assert_eq!(lengths, (0..5).collect());
}

#[test]
fn full_disk_cuts_the_write_short_until_space_returns() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    disk.set_capacity(Some(3));
    let error = write_at(&disk, &file, 0, b"12345").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a").unwrap(), b"123");
    write_at(&disk, &file, 0, b"abc").unwrap();
    assert_eq!(disk.allocate(&file, 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.heal();
    write_at(&disk, &file, 3, b"45").unwrap();
}

#[test]
fn crash_stops_every_later_call_and_spares_what_came_before() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", b"x");
    disk.crash_at(disk.operations());
    for _ in 0..2 {
        let error = disk.sync_dir(Path::new(ROOT)).unwrap_err();
        assert!(SimDisk::is_crash(&error.source));
    }
    assert!(SimDisk::is_crash(&write_at(&disk, &file, 0, b"y").unwrap_err()));
    assert!(SimDisk::is_crash(&disk.len(&file).unwrap_err()));
    assert!(SimDisk::is_crash(&disk.open(Path::new("a"), Access::Read).unwrap_err().source));
    assert!(!SimDisk::is_crash(&io::Error::other("another")));
    assert_eq!(content(&disk.crash_image(Crash::ProcessOnly), "a").unwrap(), b"x");
}

#[test]
fn crash_at_an_operation_that_fails_anyway_is_still_a_crash() {
    let disk = SimDisk::new(1);
    durable(&disk, "a", b"x");
    let read_only = disk.open(Path::new("a"), Access::Read).unwrap();
    disk.crash_at(disk.operations());
    assert!(SimDisk::is_crash(&write_at(&disk, &read_only, 0, b"y").unwrap_err()));
    assert!(disk.crashed());
}

#[test]
fn trace_names_a_file_by_its_latest_path() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("p")).unwrap();
    let file = create(&disk, "p/f.tmp");
    rename(&disk, "p/f.tmp", "p/f");
    rename(&disk, "p", "q");
    sync(&disk, &file).unwrap();
    assert_eq!(disk.trace().last().unwrap(), "4 sync q/f: 0");
}

#[test]
fn crash_during_a_write_leaves_any_prefix_in_the_page_cache() {
    let lengths: BTreeSet<usize> = (0..SEEDS)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = create(&disk, "a");
            disk.crash_at(disk.operations());
            write_at(&disk, &file, 0, b"123").unwrap_err();
            content(&disk.crash_image(Crash::ProcessOnly), "a").unwrap().len()
        })
        .collect();
    assert_eq!(lengths, (0..=3).collect());
}

#[test]
fn run_may_end_a_sync_before_the_write_submitted_ahead_of_it() {
    let durable_bytes: BTreeSet<Vec<u8>> = (0..SEEDS)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = durable(&disk, "a", b"");
            let mut ops = [Op::write(&file, 0, b"x"), Op::sync(&file)];
            disk.run(&mut ops);
            assert!(ops.iter_mut().all(|op| op.take_result().is_ok()));
            content(&disk.crash_image(Crash::LoseAllUnsynced), "a").unwrap()
        })
        .collect();
    assert_eq!(durable_bytes, BTreeSet::from([b"".to_vec(), b"x".to_vec()]));
}

#[test]
fn fault_inside_a_run_hits_one_operation() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    disk.fail_at(disk.operations() + 1, Fault::Error(Errno::EIO));
    let mut ops: Vec<_> = (0..4).map(|at| Op::write(&file, at, b"x")).collect();
    disk.run(&mut ops);
    let failed = ops.iter_mut().filter_map(|op| op.take_result().err()).count();
    assert_eq!(failed, 1);
}

#[test]
fn equal_seeds_give_equal_traces_and_images() {
    let script = |seed| {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "a");
        disk.fail_at(3, Fault::Short(Errno::EIO));
        let mut ops: Vec<_> = (0..8).map(|i| Op::write(&file, i * 100, &[7; 100])).collect();
        disk.run(&mut ops);
        drop(disk.open(Path::new("missing"), Access::Read).unwrap_err());
        disk.crash_at(disk.operations());
        drop(disk.unlink(Path::new("a")).unwrap_err());
        (disk.trace(), disk.crash_image(Crash::Random(seed)).files())
    };
    assert_eq!(script(5), script(5));
    assert_ne!(script(5).0, script(6).0);
    assert!(script(5).0.iter().any(|line| line.ends_with("ENOENT")));
}

#[test]
fn lock_is_free_after_the_crash() {
    let disk = SimDisk::new(1);
    let held = disk.lock(Path::new(".lock")).unwrap();
    assert_eq!(disk.lock(Path::new(".lock")).unwrap_err().source.kind(), io::ErrorKind::WouldBlock);
    drop(disk.crash_image(Crash::ProcessOnly).lock(Path::new(".lock")).unwrap());
    drop(held);
    drop(disk.lock(Path::new(".lock")).unwrap());
}

#[test]
fn file_of_one_disk_is_refused_by_another() {
    let disk = SimDisk::new(1);
    let file = durable(&disk, "a", b"x");
    let other = disk.deep_clone();
    assert!(other.len(&file).is_err());
    assert!(write_at(&other, &file, 0, b"y").is_err());
}

#[test]
fn unsynced_names_what_power_could_take() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    write_at(&disk, &file, 0, b"x").unwrap();
    assert_eq!(disk.unsynced(), [Path::new("/"), Path::new("a")]);
    disk.sync_dir(Path::new(ROOT)).unwrap();
    sync(&disk, &file).unwrap();
    assert_eq!(disk.unsynced(), Vec::<PathBuf>::new());
}

/// The model against a naive one: whatever happens, a synced prefix of a file that is only appended to survives.
#[test]
fn random_appends_and_syncs_keep_the_synced_prefix_in_every_image() {
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        let file = durable(&disk, "a", b"");
        let (mut expected, mut synced) = (Vec::new(), 0);
        for step in 0..12_u64 {
            let bytes = vec![u8::try_from(step + 1).unwrap(); usize::try_from((seed * 31 + step * 97) % 700).unwrap()];
            write_at(&disk, &file, expected.len() as u64, &bytes).unwrap();
            expected.extend(bytes);
            if (seed + step) % 5 == 0 {
                sync(&disk, &file).unwrap();
                synced = expected.len();
            }
        }
        assert_eq!(disk.files(), BTreeMap::from([(PathBuf::from("a"), expected.clone())]));
        for how in [Crash::Random(seed), Crash::Torn(seed), Crash::ZeroTail, Crash::LoseAllUnsynced] {
            let found = content(&disk.crash_image(how), "a").unwrap();
            assert_eq!(found[..synced], expected[..synced], "seed {seed}, {how:?}");
            assert!(found.len() <= expected.len());
            let wrong = found.iter().zip(&expected).any(|(byte, written)| *byte != 0 && byte != written);
            assert!(!wrong, "seed {seed}, {how:?}: a byte that was never written there");
        }
    }
}

#[test]
fn queued_write_on_a_full_disk_fails_and_the_next_goes_on_when_there_is_space() {
    let sim = SimDisk::new(3);
    let disk: Arc<dyn Storage> = Arc::new(sim.clone());
    let file = Arc::new(disk.open(Path::new("a"), Access::Create).unwrap());
    let pool = BufferPool::new(1 << 20);
    let mut queue = queue(&disk, 4).unwrap();
    let mut write = |tag: u64| {
        let mut writer = pool.take(4096).unwrap();
        assert!(writer.append(&[7; 4096]));
        let (file, buffer) = (Arc::clone(&file), writer.share());
        queue.submit(QueuedWrite { file, at: 4096 * tag, buffer, range: 0..4096, durable: true, tag });
        let mut ended = Vec::new();
        queue.reap(Wait::No, &mut ended);
        ended.remove(0).result.map_err(|error| error.kind())
    };
    sim.set_capacity(Some(6000));
    assert_eq!([write(0), write(1)], [Ok(()), Err(ErrorKind::StorageFull)]);
    sim.set_capacity(None);
    assert_eq!(write(1), Ok(()));
    disk.sync_dir(Path::new("")).unwrap();
    let lost = sim.crash_image(Crash::LoseAllUnsynced);
    assert_eq!(lost.files()[Path::new("a")], [7; 8192], "durable when they were answered");
}
