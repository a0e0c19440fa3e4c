//! Crashes of real file systems: ext4 and XFS on loop devices are shut down without flushing their journals, mounted
//! again, and must hold what the log owes.
//!
//! `DURAMEN_ROUNDS` sets the number of crashes of each file system (24).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    AppendAsLeader, CompletionQueue, Damage, Durability, Fetch, Isolation, LogConfig, LogManager, ManagerOptions,
    TopicPartition, ValidationPolicy,
    format::{batch::Batches, builder::BatchBuilder},
    storage::{Storage, open_best},
    validate,
};
use duramen_tests::{
    disk::Crash,
    history::{self, History, Step},
    kafka::skip,
    random::Random,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// `FS_IOC_SHUTDOWN`; its argument 2 leaves the journal unflushed.
#[allow(missing_docs)] // made by a macro
mod ioctl {
    nix::ioctl_read!(shutdown, b'X', 125, u32);
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A file system on a loop device, unmounted when dropped.
struct Mount {
    home: TempDir,
    mounted: bool,
}

impl Mount {
    fn make(mkfs: &str, size: u64) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("loop devices need root".to_owned());
        }
        let home = TempDir::new().map_err(|error| error.to_string())?;
        let image = home.path().join("image");
        File::create(&image).and_then(|file| file.set_len(size)).map_err(|error| error.to_string())?;
        run(mkfs, &["-q", &image.display().to_string()])?;
        fs::create_dir(home.path().join("mount")).map_err(|error| error.to_string())?;
        let mut mount = Self { home, mounted: false };
        mount.mount()?;
        Ok(mount)
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("mount")
    }

    fn mount(&mut self) -> Result<(), String> {
        let image = self.home.path().join("image").display().to_string();
        run("mount", &["-o", "loop", &image, &self.path().display().to_string()])?;
        self.mounted = true;
        Ok(())
    }

    /// Cuts the power, and turns it on again.
    fn crash(&mut self) {
        self.shut_down();
        self.remount();
    }

    /// Cuts the power.
    fn shut_down(&self) {
        let root = File::open(self.path()).unwrap();
        let mut without_flushing = 2;
        // SAFETY: the descriptor is a directory of the file system, the argument a number that lives across the call.
        #[allow(unsafe_code)]
        unsafe { ioctl::shutdown(std::os::fd::AsRawFd::as_raw_fd(&root), &raw mut without_flushing) }.unwrap();
    }

    fn remount(&mut self) {
        // A ring lets go of its files a moment after it was dropped, a child of another test when it runs its program.
        let path = self.path().display().to_string();
        let unmounted = (0..200).any(|_| {
            let done = run("umount", &[&path]);
            if done.is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
            done.is_ok()
        });
        assert!(unmounted, "the file system stays busy");
        self.mounted = false;
        self.mount().unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            // Best effort: a failed test must not hide behind a busy mount.
            let _ = run("umount", &[&self.path().display().to_string()]);
        }
    }
}

fn storage(dir: &Path) -> Arc<dyn Storage> {
    open_best(dir).unwrap().0
}

/// Crashes a file system again and again in the middle of histories.
fn campaign(mkfs: &str, size: u64, expect_zero_tails: bool) {
    let mut mount = match Mount::make(mkfs, size) {
        Ok(mount) => mount,
        Err(why) => return skip(&why),
    };
    let rounds = std::env::var("DURAMEN_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    let mut zero_tails = 0;
    for round in 0..rounds {
        let mut random = Random::new(round);
        let dir = mount.path().join(format!("round-{round}"));
        fs::create_dir(&dir).unwrap();
        File::open(mount.path()).unwrap().sync_all().unwrap();
        let mut history = History::default();
        let mut steps = vec![Step::Append(4), Step::Flush];
        steps.extend((0..10 + random.below(20)).map(|_| match random.below(10) {
            0..=5 => Step::Append(u8::try_from(1 + random.below(6)).unwrap()),
            6 => Step::Flush,
            7 => Step::Roll,
            8 => Step::Truncate(u8::try_from(random.below(6)).unwrap()),
            _ => Step::Reopen,
        }));
        steps.push(Step::Append(5));
        history.run(&storage(&dir), &steps).unwrap();
        // Another file's sync commits the journal, and with it the new length of the log, but not its bytes.
        File::create(mount.path().join("other")).unwrap().sync_all().unwrap();
        mount.crash();
        let storage = storage(&dir);
        if let Ok(directory) = history::open_log(&storage) {
            let cuts = directory.report().partitions.values().filter_map(|(report, _)| report.cut.as_ref());
            zero_tails += cuts.filter(|cut| cut.damage == Damage::ZeroTail).count();
        }
        history.check(&storage, Crash::LoseAllUnsynced);
    }
    println!("{rounds} crashes, {zero_tails} zero tails");
    assert!(!expect_zero_tails || zero_tails > 0, "no crash was hard enough to leave a zero tail");
}

#[test]
fn ext4_shut_down_in_the_middle_keeps_what_was_flushed() {
    campaign("mkfs.ext4", 96 << 20, true);
}

#[test]
fn xfs_shut_down_in_the_middle_keeps_what_was_flushed() {
    campaign("mkfs.xfs", 320 << 20, false);
}

/// Partitions of a log manager that is crashed under load.
const PARTITIONS: usize = 20;

fn value(partition: usize, number: u64, len: usize) -> Vec<u8> {
    format!("{partition} {number} ").into_bytes().into_iter().cycle().take(len).collect()
}

/// Appends with many in flight until the disk stops; how many of each partition were acknowledged as durable.
fn append_until_it_stops(manager: &LogManager, begun: &[u64], mut after: impl FnMut(u64)) -> Vec<u64> {
    let config = LogConfig { segment_bytes: 256 << 10, ..LogConfig::default() };
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| manager.get_or_create(&orders(n), &config).unwrap()).collect();
    let queue = CompletionQueue::new().unwrap();
    let (mut next, mut acknowledged) = (begun.to_vec(), begun.to_vec());
    let (mut in_flight, mut done, mut answered) = (0, Vec::new(), 0);
    loop {
        while in_flight < 200 {
            let partition = usize::try_from(answered + in_flight).unwrap() * 7 % PARTITIONS;
            let batch = BatchBuilder::new().record(0, None, Some(&value(partition, next[partition], 700)));
            let policy = ValidationPolicy::from_config(&LogConfig {
                message_timestamp_before_max_ms: u64::MAX,
                ..config.clone()
            });
            let batch = validate(batch.build().unwrap(), &policy, 0).unwrap();
            let made = partitions[partition].append_as_leader(batch, AppendAsLeader::new(0, 0), Durability::Flushed);
            let Ok(append) = made else { return acknowledged };
            next[partition] += 1;
            let tag = u64::try_from(partition).unwrap() << 32 | next[partition];
            append.into_ticket().enqueue(&queue, tag);
            in_flight += 1;
        }
        assert!(queue.wait(Some(Instant::now() + Duration::from_secs(60))), "nothing is answered any more");
        queue.drain(&mut done);
        for completion in done.drain(..) {
            in_flight -= 1;
            if completion.result.is_err() {
                return acknowledged;
            }
            answered += 1;
            let partition = usize::try_from(completion.user_data >> 32).unwrap();
            acknowledged[partition] = acknowledged[partition].max(completion.user_data & 0xffff_ffff);
        }
        after(answered);
    }
}

fn orders(number: usize) -> TopicPartition {
    TopicPartition::new("orders", i32::try_from(number).unwrap()).unwrap()
}

/// Every acknowledged value is there, in order, and nothing else; how many there are of each partition.
fn check_values(manager: &LogManager, acknowledged: &[u64]) -> Vec<u64> {
    let found = acknowledged.iter().enumerate().map(|(number, least)| {
        let partition = manager.get_or_create(&orders(number), &LogConfig::default()).unwrap();
        let mut next = 0;
        loop {
            let fetch = Fetch { isolation: Isolation::LogEnd, ..Fetch::from(i64::try_from(next).unwrap()) };
            let Some(records) = partition.read(fetch).unwrap().records else { break };
            let bytes = records.to_vec().unwrap();
            for batch in Batches::new(&bytes).map_while(Result::ok) {
                let mut scratch = Vec::new();
                let record = batch.records(&mut scratch, 1 << 20).unwrap().next().unwrap().unwrap();
                assert_eq!(record.value().unwrap(), value(number, next, 700));
                next += 1;
            }
        }
        assert!(next >= *least, "{next} of {least} acknowledged in partition {number}");
        next
    });
    found.collect()
}

/// Crashes a file system below a log manager again and again, each time after thousands of appends were acknowledged.
fn manager_campaign(mkfs: &str, size: u64) {
    let mut mount = match Mount::make(mkfs, size) {
        Ok(mount) => mount,
        Err(why) => return skip(&why),
    };
    let dir = mount.path().join("data");
    let mut kept = vec![0; PARTITIONS];
    for round in 0..6 {
        let options = ManagerOptions {
            journal_bytes: 4 << 20,
            gather_bytes: 2 << 20,
            piece_bytes: 32 << 10,
            ..Default::default()
        };
        let manager = LogManager::open(&[dir.as_path()], options).unwrap();
        kept = check_values(&manager, &kept);
        let mut is_down = false;
        let acknowledged = append_until_it_stops(&manager, &kept, |answered| {
            if answered > 2000 + round * 300 && !is_down {
                is_down = true;
                mount.shut_down();
            }
        });
        assert!(acknowledged.iter().sum::<u64>() > kept.iter().sum::<u64>() + 2000);
        drop(manager);
        mount.remount();
        kept = acknowledged;
    }
    let manager = LogManager::open(&[dir.as_path()], ManagerOptions::default()).unwrap();
    let found = check_values(&manager, &kept);
    println!("{} acknowledged, {} found", kept.iter().sum::<u64>(), found.iter().sum::<u64>());
    manager.close().unwrap();
}

/// A file system that takes no writes until this is dropped.
struct Frozen(String);

impl Drop for Frozen {
    fn drop(&mut self) {
        // Best effort, as for a mount.
        let _ = run("fsfreeze", &["-u", &self.0]);
    }
}

#[test]
fn disk_that_stands_still_holds_up_nobody_who_only_gathers() {
    let mount = match Mount::make("mkfs.ext4", 256 << 20) {
        Ok(mount) => mount,
        Err(why) => return skip(&why),
    };
    let options = ManagerOptions { journal_bytes: 16 << 20, gather_bytes: 8 << 20, ..ManagerOptions::default() };
    let manager = LogManager::open(&[&mount.path()], options).unwrap();
    manager.prepare().unwrap();
    let partition = manager.get_or_create(&orders(0), &LogConfig::default()).unwrap();
    let now_ms = 1_700_000_000_000;
    let append = || {
        let bytes = BatchBuilder::new().record(now_ms, None, Some(&[7; 100])).build().unwrap();
        let batch = validate(bytes, &ValidationPolicy::from_config(&LogConfig::default()), now_ms).unwrap();
        partition.try_append_as_leader(batch, AppendAsLeader::new(0, now_ms), Durability::Flushed).unwrap()
    };
    append().wait(None).unwrap();
    let path = mount.path().display().to_string();
    run("fsfreeze", &["-f", &path]).unwrap();
    let frozen = Frozen(path);
    // By then the partition has come to rest, and what it gathered is being written.
    std::thread::sleep(Duration::from_millis(1500));
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| done.send((append(), partition.flush().unwrap())).unwrap());
        let appended = is_done.recv_timeout(Duration::from_secs(20));
        drop(frozen);
        let (append, flush) = appended.expect("the append waits for the disk");
        append.wait(None).unwrap();
        flush.wait(None).unwrap();
    });
    drop(partition);
    manager.close().unwrap();
}

#[test]
fn ext4_shut_down_under_a_log_manager_keeps_every_acknowledged_append() {
    manager_campaign("mkfs.ext4", 1 << 30);
}

#[test]
fn xfs_shut_down_under_a_log_manager_keeps_every_acknowledged_append() {
    manager_campaign("mkfs.xfs", 1 << 30);
}
