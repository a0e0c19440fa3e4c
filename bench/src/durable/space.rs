//! The disk does not fill up: how much a run may leave, and an end to runs that leave more.

use crate::{Failure, machine};
use indicatif::HumanBytes;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// More than anybody appends in a second.
const MAX_BYTES_PER_S: f64 = 1e9;
/// The engine's segments may take one of so many parts of the free space.
const SHARE: u64 = 2;
/// A partition's segments: one that is appended to, two that retention leaves, one that is on its way out.
const SEGMENTS: u64 = 4;
/// The smallest segment that makes sense.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;
/// What stays free.
const RESERVE_BYTES: u64 = 1 << 30;
const TICK: Duration = Duration::from_millis(100);

/// Bytes of the engine's segments, of which retention has to keep few, for a run of so many seconds; `None` if all of it
/// fits.
pub(super) fn segment_bytes(seconds: f64, free_bytes: u64, partitions: usize) -> Option<u32> {
    let allowed = free_bytes.saturating_sub(RESERVE_BYTES) / SHARE;
    if seconds * MAX_BYTES_PER_S <= allowed as f64 {
        return None;
    }
    let bytes = allowed / SEGMENTS / (partitions as u64).max(1);
    Some(bytes.clamp(MIN_SEGMENT_BYTES, 1 << 30) as u32)
}

/// Runs `work`, which ends early when what it is given is set: by the user, or when the disk is nearly full.
pub(super) fn guarded<T>(
    dir: &Path,
    stop: &AtomicBool,
    work: impl FnOnce(&AtomicBool) -> Result<T, Failure>,
) -> Result<T, Failure> {
    enough(dir)?;
    let (halt, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let left = enough(dir);
                if left.is_err() || stop.load(Ordering::SeqCst) {
                    halt.store(true, Ordering::SeqCst);
                    return left;
                }
                thread::park_timeout(TICK);
            }
            Ok(())
        });
        let result = work(&halt);
        is_over.store(true, Ordering::Release);
        watch.thread().unpark();
        watch.join().map_err(|_| "the watch over free space panicked")??;
        result
    })
}

fn enough(dir: &Path) -> Result<(), Failure> {
    let free = machine::free_bytes(dir)?;
    if free < RESERVE_BYTES {
        let (free, reserve) = (HumanBytes(free), HumanBytes(RESERVE_BYTES));
        return Err(format!("only {free} are free; {reserve} have to stay, so the run was ended").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn short_run_needs_no_retention() {
        assert_eq!(segment_bytes(2.5, 57 << 30, 1000), None);
    }

    #[test]
    fn long_run_has_segments_of_which_four_a_partition_fit() {
        let free = 57 << 30;
        let bytes = segment_bytes(60.0, free, 1000).unwrap();
        assert!((MIN_SEGMENT_BYTES..1 << 24).contains(&u64::from(bytes)) && u64::from(bytes) * 4000 < free / 2);
        assert_eq!(segment_bytes(600.0, free, 1), Some(1 << 30));
    }

    #[test]
    fn guarded_work_is_told_that_the_user_stops() {
        let dir = tempfile::tempdir().unwrap();
        let seen = guarded(dir.path(), &AtomicBool::new(true), |halt| {
            while !halt.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            Ok(true)
        });
        assert!(seen.unwrap());
    }
}
