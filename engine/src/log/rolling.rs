//! A roll that no append waits for: the new segment takes batches at once, and has no name until the old one is durable.
//!
//! Only where batches gather, which a commit journal has made durable already. Keeps: on the disk a segment that has a
//! successor is durable, with all that is derived from it, as after any roll; there is one such roll of a log at a time;
//! until it has ended the log is cut nowhere, neither of the two segments is compacted or removed, and the journal keeps what
//! it has of them.
//!
//! Steps, and what is found after a crash behind each, once the journal was replayed:
//! 1. the new log file made, called as an unfinished copy (the old segment is the last one; the file is removed, and made anew
//!    from the journal if batches in it were acknowledged);
//! 2. what the old one gathered, its indexes, the epochs and the snapshot written and synced (the same);
//! 3. the epochs put in place and the new file given its name, and both synced (two segments, of which the first is durable).

use super::{Log, LogError, snapshots::Changes, state::LogOffsetMetadata};
use crate::{
    format::{checkpoint, names},
    segment::{IndexLimits, Segment, SegmentError},
    storage::{Replacement, Storage},
    types::Offset,
};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A roll that has begun. Whoever syncs the file system ends it, without the log.
#[derive(Debug)]
pub(crate) struct Roll {
    storage: Arc<dyn Storage>,
    epoch_path: PathBuf,
    /// What the epoch checkpoint is to hold, if it lacks any.
    epochs: Option<Vec<u8>>,
    sealed: Arc<Segment>,
    successor: Arc<Segment>,
    /// What frames of the successor are marked with in the journal, at least.
    mark: u64,
    /// Guards how far it is; held by whoever takes it further, and during their syncs.
    progress: Mutex<Progress>,
    is_done: AtomicBool,
}

#[derive(Debug)]
struct Progress {
    /// What is left to be written of the snapshots.
    snapshots: Changes,
    stage: Stage,
}

/// How far a roll is.
#[derive(Debug)]
enum Stage {
    /// Nothing is written, or not everything.
    Begun,
    /// Everything is written; this is to be put in place.
    Written(Option<Replacement>),
    /// The successor has its name.
    Named,
    /// A sync may have lost something: what another one says is worth nothing.
    Failed,
}

/// A roll that somebody takes further; see [`end`].
#[derive(Debug)]
pub(crate) struct RollStep<'a> {
    roll: &'a Roll,
    progress: MutexGuard<'a, Progress>,
}

impl Roll {
    /// Whether both segments are as after any roll.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// The lowest mark in the journal of what is not in the segments.
    pub(crate) fn oldest_mark(&self) -> u64 {
        self.sealed.oldest_mark().unwrap_or(u64::MAX).min(self.mark)
    }

    /// Nobody takes it further, as the log is about to be deleted. Waits for somebody who does.
    pub(super) fn abandon(&self) {
        let _progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.sealed.discard();
        self.is_done.store(true, Ordering::Release);
    }

    /// Takes it further; waits for somebody who does. `None` if it is done.
    pub(crate) fn step(&self) -> Option<RollStep<'_>> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.is_done()).then_some(RollStep { roll: self, progress })
    }
}

/// Ends rolls together; `sync` syncs the file system. With a full disk it can be tried again; after any other failure never.
pub(crate) fn end(mut steps: Vec<RollStep<'_>>, sync: impl Fn() -> Result<(), LogError>) -> Result<(), LogError> {
    if steps.is_empty() {
        return Ok(());
    }
    match take_further(&mut steps, sync) {
        Ok(()) => steps.into_iter().for_each(RollStep::end),
        Err(error @ LogError::DiskFull(_)) => return Err(error),
        Err(error) => {
            steps.iter_mut().for_each(|step| step.progress.stage = Stage::Failed);
            return Err(error);
        }
    }
    Ok(())
}

fn take_further(steps: &mut [RollStep<'_>], sync: impl Fn() -> Result<(), LogError>) -> Result<(), LogError> {
    steps.iter_mut().try_for_each(RollStep::write)?;
    sync()?;
    // A sync of such a segment that failed beside this one may have taken along what this one should have written.
    if !steps.iter().all(|step| step.roll.sealed.is_sound()) {
        return Err(failed());
    }
    steps.iter_mut().try_for_each(RollStep::name)?;
    sync()
}

fn failed() -> LogError {
    LogError::Poisoned { cause: "a sync of a segment failed".to_owned() }
}

impl RollStep<'_> {
    /// Step 2 without its sync.
    fn write(&mut self) -> Result<(), LogError> {
        match self.progress.stage {
            Stage::Begun => {}
            Stage::Written(_) | Stage::Named => return Ok(()),
            Stage::Failed => return Err(failed()),
        }
        let Roll { storage, epoch_path, epochs, sealed, .. } = self.roll;
        sealed.write_whole()?;
        self.progress.snapshots.write()?;
        let epochs = epochs.as_ref().map(|bytes| Replacement::write(&**storage, epoch_path, bytes)).transpose();
        self.progress.stage = Stage::Written(epochs.map_err(SegmentError::from)?.map(|(epochs, _)| epochs));
        Ok(())
    }

    /// Step 3 without its sync.
    fn name(&mut self) -> Result<(), LogError> {
        let Stage::Written(epochs) = &mut self.progress.stage else { return Ok(()) };
        let epochs = epochs.take();
        // Where this fails everything is written and synced once more.
        self.progress.stage = Stage::Begun;
        if let Some(epochs) = epochs {
            epochs.rename(&*self.roll.storage).map_err(SegmentError::from)?;
        }
        self.roll.successor.give_name().map_err(SegmentError::from)?;
        self.progress.stage = Stage::Named;
        Ok(())
    }

    fn end(self) {
        self.roll.sealed.release_index();
        self.roll.is_done.store(true, Ordering::Release);
    }
}

impl Log {
    /// Begins a new segment at `base_offset`, for batches that gather; `mark` is the journal's.
    pub(super) fn begin_roll(&mut self, active: Arc<Segment>, base_offset: Offset, mark: u64) -> Result<(), LogError> {
        let config = self.config();
        let preallocate = config.preallocate.then_some(u64::from(config.segment_bytes));
        let limits = IndexLimits::from_config(&config);
        let storage = &self.shared.storage;
        let successor = Segment::create_unnamed(storage, Arc::clone(&self.dir), base_offset, limits, preallocate);
        let successor = Arc::new(successor.map_err(SegmentError::from)?);
        self.snapshots.take(&self.producers);
        let epochs = self.epoch_file.hand_over().then(|| {
            let view = self.shared.read();
            checkpoint::encode_epochs(view.epochs.entries())
        });
        let roll = Roll {
            storage: Arc::clone(storage),
            epoch_path: self.dir.join(names::LEADER_EPOCH_CHECKPOINT),
            epochs,
            sealed: active,
            successor: Arc::clone(&successor),
            mark,
            progress: Mutex::new(Progress { snapshots: self.snapshots.hand_over(), stage: Stage::Begun }),
            is_done: AtomicBool::new(false),
        };
        let mut view = self.shared.write();
        let mut segments = view.segments().clone();
        segments.insert(successor);
        view.set_segments(segments);
        view.log_end = LogOffsetMetadata { offset: base_offset, segment_base_offset: base_offset, position: 0 };
        view.roll = Some(Arc::new(roll));
        Ok(())
    }

    /// Ends a roll that is under way: for whatever needs the segments on the disk to be as the log has them.
    pub(super) fn end_roll(&mut self) -> Result<(), LogError> {
        let Some(roll) = self.shared.read().roll.clone() else { return Ok(()) };
        match end(Vec::from_iter(roll.step()), || Ok(self.storage().sync_all()?)) {
            // Nothing was lost: it can be tried again.
            Err(error @ LogError::DiskFull(_)) => return Err(error),
            ended => ended.map_err(|error| self.poison(error))?,
        }
        let mut view = self.shared.write();
        view.recovery_point = view.recovery_point.max(roll.successor.base_offset());
        view.roll = None;
        Ok(())
    }

    /// The base of the first segment that a roll under way has not made durable yet.
    pub(super) fn rolling_from(&mut self) -> Result<Option<Offset>, LogError> {
        let under_way = self.shared.read().roll.as_ref().filter(|roll| !roll.is_done()).map(Arc::clone);
        if under_way.is_none() {
            self.end_roll()?;
        }
        Ok(under_way.map(|roll| roll.sealed.base_offset()))
    }
}
