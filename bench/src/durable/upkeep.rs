//! What a host does beside the appends: one thread that applies retention to some partitions and compacts the others.

use crate::Failure;
use duramen::{CleanerControl, CleanerOptions, CleanupPolicy, LogConfig, Partition};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two passes over all partitions.
const PAUSE: Duration = Duration::from_millis(100);
/// The timestamp to go by: that of the batches, so that nothing goes for its age.
const NOW_MS: i64 = super::engine::NOW_MS;
/// Bytes that all active segments together have at most, where upkeep is what is measured.
const ACTIVE_BYTES: u64 = 128 << 20;
/// The smallest and the largest segment.
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
const MAX_SEGMENT_BYTES: u64 = 16 << 20;
/// Segments that retention leaves.
const KEPT_SEGMENTS: u64 = 2;

/// Segments so small that there is always something to remove and to compact; every other partition is compacted.
pub(super) fn busy_config(partition: usize, partitions: usize) -> LogConfig {
    let segment_bytes = (ACTIVE_BYTES / partitions as u64).clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
    let compact = partition % 2 == 1 || partitions == 1;
    let retained = retained_config(segment_bytes as u32);
    LogConfig { cleanup_policy: CleanupPolicy { compact, delete: !compact || partitions == 1 }, ..retained }
}

/// Segments of so many bytes, two of which are kept beside the one that is appended to.
pub(super) fn retained_config(segment_bytes: u32) -> LogConfig {
    LogConfig {
        segment_bytes,
        retention_bytes: Some(KEPT_SEGMENTS * u64::from(segment_bytes)),
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) segments_removed: u64,
    pub(crate) cleanings: u64,
    pub(crate) bytes_cleaned: u64,
}

impl Done {
    /// Of two runs together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            segments_removed: self.segments_removed + other.segments_removed,
            cleanings: self.cleanings + other.cleanings,
            bytes_cleaned: self.bytes_cleaned + other.bytes_cleaned,
        }
    }
}

/// The thread.
pub(super) struct Upkeep {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Done, Failure>>>,
}

impl Upkeep {
    pub(super) fn start(partitions: &[Arc<Partition>]) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let partitions = partitions.to_vec();
        let thread = thread::Builder::new().name("upkeep".to_owned()).spawn(move || work(&partitions, &seen))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// What was done until now; nothing more is.
    pub(super) fn end(&mut self) -> Result<Done, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| "upkeep panicked")?,
            None => Ok(Done::default()),
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("retention or compaction failed: {error}");
        }
    }
}

fn work(partitions: &[Arc<Partition>], stop: &AtomicBool) -> Result<Done, Failure> {
    let mut done = Done::default();
    // By partition: up to where it is clean, exclusive.
    let mut clean = vec![None; partitions.len()];
    loop {
        for (partition, clean) in partitions.iter().zip(&mut clean) {
            if stop.load(Ordering::Relaxed) {
                return Ok(done);
            }
            done.segments_removed += retain(partition)?;
            if partition.with(|log| log.config().cleanup_policy.compact)? {
                compact(partition, clean, &mut done)?;
            }
        }
        thread::sleep(PAUSE);
    }
}

fn retain(partition: &Partition) -> Result<u64, Failure> {
    let removed = partition.with(|log| {
        let removed = log.delete_old_segments(NOW_MS)?;
        log.remove_retired_files(NOW_MS)?;
        Ok::<_, duramen::LogError>(removed.len())
    })??;
    Ok(removed as u64)
}

/// Compacts if that is due. Appends go on meanwhile: only the beginning and the end are on the partition's one writer.
fn compact(partition: &Partition, clean: &mut Option<i64>, done: &mut Done) -> Result<(), Failure> {
    let to_clean = partition.with(|log| log.log_to_clean(*clean, NOW_MS))??;
    if !to_clean.is_eligible {
        return Ok(());
    }
    let cleaning = partition.with(|log| log.begin_cleaning(&to_clean, NOW_MS))??;
    let cleaned = cleaning.run(&CleanerOptions::default(), &mut |_| CleanerControl::Continue)?;
    let stats = partition.with(|log| log.finish_cleaning(cleaned, NOW_MS))??;
    *clean = Some(stats.end_offset);
    done.cleanings += 1;
    done.bytes_cleaned += to_clean.cleanable_bytes;
    Ok(())
}
