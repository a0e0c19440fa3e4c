//! An ordinary file system of its own to measure on: made on a loop device, and gone afterwards whatever happens.
//!
//! The image has no name any more once it is attached, the device is given up as soon as it is mounted (which means,
//! when it is unmounted), and the mount is in a name space of this process. So all of it ends with the process; when
//! that is killed, an empty directory stays.

use crate::Failure;
use clap::ValueEnum;
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};
use tempfile::TempDir;

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileSystem {
    /// With its journal, as `mkfs.ext4` makes it
    Ext4,
    /// As `mkfs.xfs` makes it
    Xfs,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Everything is initialised at once: nothing may be written behind a measurement's back.
    fn make_options(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
            Self::Xfs => &["-q", "-f", "-K"],
        }
    }
}

/// A mounted file system; dropped, it is unmounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    point: TempDir,
}

impl Mounted {
    /// Makes and mounts a file system of so many GiB, whose image takes as much of `home`.
    ///
    /// For this thread and those that it starts later: no other sees the mount. Needs root.
    pub(crate) fn new(kind: FileSystem, gib: u64, home: &Path) -> Result<Self, Failure> {
        let bytes = gib << 30;
        let free = crate::machine::free_bytes(home)?;
        if free < bytes + (1 << 30) {
            return Err(format!("{} are free, too little for --fs-gib {gib}", indicatif::HumanBytes(free)).into());
        }
        let point = TempDir::with_prefix_in("duramen-bench-fs-", home)?;
        let image = point.path().join("image");
        let device = attach(kind, bytes, &image)?;
        let mounted = mount_privately(kind, &device, point.path());
        // Kept by the mount from here on; without one, it is free again.
        run("losetup", &["--detach", &device])?;
        mounted?;
        Ok(Self { point })
    }

    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = umount2(self.path(), MntFlags::empty()).or_else(|_| umount2(self.path(), MntFlags::MNT_DETACH));
        if let Err(error) = unmounted {
            eprintln!("duramen-bench: unmount {}: {error}; it ends with this process", self.path().display());
        }
    }
}

/// Makes the image and the device over it; the image loses its name.
fn attach(kind: FileSystem, bytes: u64, image: &Path) -> Result<String, Failure> {
    let name = image.to_string_lossy();
    let file = File::create_new(image)?;
    fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes)?)?;
    drop(file);
    let options = [kind.make_options(), &[&*name]].concat();
    run(&format!("mkfs.{}", kind.name()), &options)?;
    let device = run("losetup", &["--find", "--show", "--direct-io=on", &name])?;
    fs::remove_file(image)?;
    Ok(device.trim().to_owned())
}

fn mount_privately(kind: FileSystem, device: &str, point: &Path) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(device), point, Some(kind.name()), MsFlags::empty(), none)
}

/// Runs a command; what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {} (--fs needs root and loop devices)", said.trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
