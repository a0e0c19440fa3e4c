//! Crashes of real file systems: ext4 and XFS on loop devices are shut down without flushing their journals, mounted
//! again, and must hold what the log owes.
//!
//! `DURAMEN_ROUNDS` sets the number of crashes of each file system (24).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen::{
    Damage,
    storage::{Storage, open_best},
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
        let root = File::open(self.path()).unwrap();
        let mut without_flushing = 2;
        // SAFETY: the descriptor is a directory of the file system, the argument a number that lives across the call.
        #[allow(unsafe_code)]
        unsafe { ioctl::shutdown(std::os::fd::AsRawFd::as_raw_fd(&root), &raw mut without_flushing) }.unwrap();
        drop(root);
        run("umount", &[&self.path().display().to_string()]).unwrap();
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
