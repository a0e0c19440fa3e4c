//! What the kernel counted, whatever a subject says: flushes and bytes of the disk, processor time of the process.

use crate::Failure;
use nix::{
    sys::time::TimeValLike,
    sys::{
        resource::{UsageWho, getrusage},
        stat::{major, minor, stat},
    },
};
use std::{fs, path::Path};

/// `/proc/diskstats` counts sectors of this size, whatever the disk has.
const SECTOR_BYTES: u64 = 512;

/// The device below a directory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// Whose sectors count: a whole disk, a partition of it, or a loop device.
    device: (u64, u64),
    /// Whose flushes count: the kernel counts them for whole disks only.
    whole: (u64, u64),
    /// Whether a durable write may pass without a flush that could be counted.
    pub(crate) forces_single_writes: bool,
}

impl Disk {
    /// The device, if the kernel has a line for it: Btrfs and tmpfs, for example, have none.
    pub(crate) fn below(dir: &Path) -> Result<Option<Self>, Failure> {
        let number = stat(dir)?.st_dev;
        let device = (major(number), minor(number));
        if counters_of(&fs::read_to_string("/proc/diskstats")?, device).is_none() {
            return Ok(None);
        }
        let mut block = fs::canonicalize(format!("/sys/dev/block/{}:{}", device.0, device.1))?;
        if block.join("partition").exists() {
            block.pop();
        }
        let whole = numbers(&fs::read_to_string(block.join("dev"))?).unwrap_or(device);
        let forces = fs::read_to_string(block.join("queue/fua")).is_ok_and(|text| text.trim() == "1");
        Ok(Some(Self { device, whole, forces_single_writes: forces }))
    }

    fn counted(&self) -> Result<DiskCounters, Failure> {
        let text = fs::read_to_string("/proc/diskstats")?;
        let written = counters_of(&text, self.device).ok_or("the device has gone")?.written_bytes;
        let flushes = counters_of(&text, self.whole).ok_or("the disk has gone")?.flushes;
        Ok(DiskCounters { written_bytes: written, flushes })
    }
}

/// "254:0".
fn numbers(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Of a line of `/proc/diskstats`, what is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskCounters {
    pub(crate) written_bytes: u64,
    /// Flush requests that the disk has completed; there may have been many callers for one.
    pub(crate) flushes: u64,
}

/// The counters of a device; none without its line, or if the kernel is older than 5.5 and counts no flushes.
fn counters_of(diskstats: &str, (major, minor): (u64, u64)) -> Option<DiskCounters> {
    let mut lines = diskstats.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let field = |line: &[&str], at: usize| line.get(at)?.parse::<u64>().ok();
    let line = lines.find(|line| (field(line, 0), field(line, 1)) == (Some(major), Some(minor)))?;
    Some(DiskCounters { written_bytes: field(&line, 9)? * SECTOR_BYTES, flushes: field(&line, 18)? })
}

/// A moment's counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    disk: Option<DiskCounters>,
    processor_us: u64,
}

/// What happened between two moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// None where the device has no line.
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) flushes: Option<u64>,
    pub(crate) processor_us: u64,
}

impl Counters {
    pub(crate) fn now(disk: Option<&Disk>) -> Result<Self, Failure> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let processor_us = (usage.user_time() + usage.system_time()).num_microseconds();
        Ok(Self { disk: disk.map(Disk::counted).transpose()?, processor_us: u64::try_from(processor_us)? })
    }

    pub(crate) fn since(&self, before: &Self) -> Cost {
        let both = self.disk.zip(before.disk);
        Cost {
            disk_bytes: both.map(|(now, then)| now.written_bytes.saturating_sub(then.written_bytes)),
            flushes: both.map(|(now, then)| now.flushes.saturating_sub(then.flushes)),
            processor_us: self.processor_us.saturating_sub(before.processor_us),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DISKSTATS: &str = "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 31644 5866 3267402 19098 59017 22254 2184192 14785 0 12040 36581 11121 75 371272 1538 15087 1159
   8       1 sda1 10 0 80 1 20 0 160 2 0 3 3
";

    #[test]
    fn diskstats_line_gives_bytes_and_flushes() {
        let counters = counters_of(DISKSTATS, (254, 0));
        assert_eq!(counters, Some(DiskCounters { written_bytes: 2_184_192 * 512, flushes: 15_087 }));
    }

    #[test]
    fn diskstats_of_an_idle_device_are_zero() {
        assert_eq!(counters_of(DISKSTATS, (7, 0)), Some(DiskCounters { written_bytes: 0, flushes: 0 }));
    }

    #[test]
    fn diskstats_without_the_line_or_without_flushes_give_nothing() {
        assert_eq!(counters_of(DISKSTATS, (0, 42)), None);
        assert_eq!(counters_of(DISKSTATS, (8, 1)), None);
    }

    #[test]
    fn device_numbers_are_parsed() {
        assert_eq!(numbers("254:16\n"), Some((254, 16)));
        assert_eq!(numbers("none"), None);
    }

    #[test]
    fn processor_time_grows() {
        let before = Counters::now(None).unwrap();
        let mut sum = 0_u64;
        while Counters::now(None).unwrap().since(&before).processor_us == 0 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!(Counters::now(None).unwrap().since(&before).disk_bytes.is_none() && sum < u64::MAX);
    }
}
