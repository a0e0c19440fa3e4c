//! What the figures were measured on.

use nix::sys::{statfs, utsname};
use std::{fmt, fs, io, path::Path};

/// Machine, kernel and file system.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    file_system: String,
    pub(crate) free_bytes: u64,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = indicatif::HumanBytes(self.free_bytes);
        write!(f, "{}, {} cores, Linux {}, {}, {free} free", self.processor, self.cores, self.kernel, self.file_system)
    }
}

pub(crate) fn describe(dir: &Path) -> io::Result<Machine> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let disk = statfs::statfs(dir)?;
    let kind = match disk.filesystem_type() {
        statfs::EXT4_SUPER_MAGIC => "ext4".to_owned(),
        statfs::XFS_SUPER_MAGIC => "XFS".to_owned(),
        statfs::BTRFS_SUPER_MAGIC => "Btrfs".to_owned(),
        statfs::TMPFS_MAGIC => "tmpfs (memory: nothing is ever synced)".to_owned(),
        other => format!("file system {:#x}", other.0),
    };
    Ok(Machine {
        processor: model.trim_start_matches(['\t', ' ', ':']).to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        kernel: utsname::uname()?.release().to_string_lossy().into_owned(),
        file_system: kind,
        free_bytes: free_bytes(dir)?,
    })
}

/// Bytes that may be written below a directory.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = statfs::statfs(dir)?;
    Ok(disk.blocks_available() * u64::try_from(disk.block_size()).unwrap_or(0))
}

/// Bytes of memory that may be used without swapping.
pub(crate) fn available_memory() -> io::Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("the kernel does not say how much memory is available"))
}
