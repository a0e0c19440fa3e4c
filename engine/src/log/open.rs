//! Opening a log: from the files of a partition directory to a writer.
//!
//! Order, and what a crash leaves: leftovers go first (they are recognised again); then everything is read and decided,
//! and nothing is written when the decision is to refuse; a segment whose offsets leave its range is split, and all
//! begins again (see [`super::split`]); then segments behind a cut go, newest first with a directory sync each (a prefix
//! of the log); then the cut; then indexes and snapshots (made anew the next time).

use super::{
    Log, LogError,
    checkpoints::Checkpoints,
    cleaner::swap,
    creation,
    epochs::EpochCache,
    loading::{self, Listing},
    producers::ProducerState,
    rebuild::Rebuild,
    recovery::{self, Cut, Decision, Found, OnCorruption, RecoveryProgress, RecoveryReport, Replay, Scan},
    snapshots::Snapshots,
    split::{self, Interrupted},
    state::{LogOffsetMetadata, Segments, Shared, View},
};
use crate::{
    config::LogConfig,
    format::{FormatError, checkpoint, names},
    segment::{Damage, IndexLimits, MAX_SEGMENT_BYTES, Segment, SegmentError, TxnIndex},
    storage::{self, Storage, StorageError, remove_if_there},
    types::{Offset, Timestamp, TopicPartition},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// More bytes than a leader-epoch checkpoint of a million epochs has.
const MAX_EPOCH_BYTES: u64 = 64 << 20;

/// What a host knows when it opens a log.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The topic's configuration.
    pub config: Arc<LogConfig>,
    /// Whether the log directory was closed in order.
    pub clean: bool,
    /// The high watermark as it was checkpointed.
    pub high_watermark: Offset,
    /// The time, in ms.
    pub now_ms: Timestamp,
    /// Producers without an open transaction that wrote nothing for so long are forgotten.
    pub producer_id_expiration_ms: i64,
    /// Whether the producers of a log that has lost all its snapshots are replayed from its batches, also behind a clean
    /// close. Kafka forgets them then, which is faster by a pass over the whole log.
    pub replay_lost_producers: bool,
    /// Whether a transaction may begin only with a guard (`transaction.partition.verification.enable`).
    pub verify_transactions: bool,
    /// Draws each segment's part of `segment.jitter.ms`.
    pub jitter_seed: u64,
    /// What to do about damage below the recovery point.
    pub on_corruption: OnCorruption,
    /// Whether a sync failed since the machine started, so that recovery has to read past the page cache.
    pub distrust_cache: bool,
}

impl OpenOptions {
    /// An unclean open with Kafka's defaults at the given time.
    #[must_use]
    pub fn new(config: impl Into<Arc<LogConfig>>, now_ms: Timestamp) -> Self {
        Self {
            config: config.into(),
            clean: false,
            high_watermark: 0,
            now_ms,
            producer_id_expiration_ms: 86_400_000,
            replay_lost_producers: true,
            verify_transactions: false,
            jitter_seed: 0,
            on_corruption: OnCorruption::default(),
            distrust_cache: false,
        }
    }
}

/// An open in progress.
pub(super) struct Opening<'a> {
    pub(super) storage: &'a Arc<dyn Storage>,
    checkpoints: &'a Arc<Checkpoints>,
    partition: &'a TopicPartition,
    dir: Arc<Path>,
    pub(super) options: &'a OpenOptions,
    limits: IndexLimits,
    report: RecoveryReport,
    /// What the leader-epoch checkpoint holds, if it can be read.
    epochs_on_disk: Option<EpochCache>,
}

pub(super) fn open(
    storage: &Arc<dyn Storage>,
    checkpoints: &Arc<Checkpoints>,
    partition: &TopicPartition,
    options: &OpenOptions,
    progress: &mut dyn FnMut(RecoveryProgress),
) -> Result<(Log, RecoveryReport), LogError> {
    let mut opening = Opening {
        storage,
        checkpoints,
        partition,
        dir: PathBuf::from(partition.to_string()).into(),
        options,
        limits: IndexLimits::from_config(&options.config),
        report: RecoveryReport { clean: options.clean, ..RecoveryReport::default() },
        epochs_on_disk: None,
    };
    loop {
        let listing = opening.clean_up()?;
        match opening.load(&listing, progress) {
            Ok(log) => return Ok((log, opening.report)),
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::Overflow(overflow)) => {
                overflow.split(&**storage, &opening.dir)?;
                opening.report.restart(overflow.base_offset());
            }
        }
    }
}

impl Opening<'_> {
    /// Removes leftovers and finishes swaps; the listing that remains.
    fn clean_up(&mut self) -> Result<Listing, LogError> {
        match self.storage.create_dir(&self.dir) {
            Ok(()) => self.storage.sync_dir(Path::new(""))?,
            Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let entries = self.storage.list(&self.dir)?;
        let listing = loading::sort_out(&entries);
        let mut remove: BTreeSet<String> = listing.remove.iter().cloned().collect();
        if !listing.swapped_logs.is_empty() {
            let (first, end) =
                swap::replaced_offsets(&**self.storage, &self.dir, listing.swapped_logs.keys().copied())?;
            remove.extend(listing.replaced_by_swap(&entries, first, end));
        }
        if remove.is_empty() && listing.swapped_files.is_empty() {
            self.report.foreign.clone_from(&listing.foreign);
            return Ok(listing);
        }
        let leftovers: Vec<&str> = remove.iter().map(String::as_str).collect();
        swap::remove_leftovers(&**self.storage, &self.dir, &leftovers)?;
        self.report.files_removed.extend(remove);
        let mut names = listing.swapped_files.clone();
        if let Some(name) = listing.empty_part() {
            let swap = format!("{name}{}", names::Suffix::Swap.text());
            swap::remove_leftovers(&**self.storage, &self.dir, &[swap.as_str()])?;
            names.retain(|other| *other != name);
        }
        swap::finish_renames(&**self.storage, &self.dir, &names)?;
        let listing = loading::sort_out(&self.storage.list(&self.dir)?);
        self.report.foreign.clone_from(&listing.foreign);
        Ok(listing)
    }

    fn segment(&self, base_offset: Offset, size: u64) -> Segment {
        Segment::open(self.storage, Arc::clone(&self.dir), base_offset, self.limits, size)
    }

    fn load(&mut self, listing: &Listing, progress: &mut dyn FnMut(RecoveryProgress)) -> Result<Log, Interrupted> {
        let recovery_point = self.checkpoints.recovery_point(self.partition).unwrap_or(0);
        if let Some(found) = listing.segments.values().find(|found| found.log_bytes > MAX_SEGMENT_BYTES) {
            let value = i64::try_from(found.log_bytes).unwrap_or(i64::MAX);
            let why = "a log file holds at most 2147483647 bytes";
            return Err(LogError::InvalidArgument { what: "size of a segment", value, why }.into());
        }
        let found = listing.segments.iter();
        let mut segments: Segments =
            found.map(|(base, found)| Arc::new(self.segment(*base, found.log_bytes))).collect();
        if self.options.distrust_cache {
            for segment in segments.iter() {
                let failed = |error| StorageError::new("read", &segment.files().log(), error);
                self.storage.forget_cached(&*segment.log()?).map_err(failed)?;
            }
        }
        recovery::check_old_formats(&segments)?;
        let mut snapshots = Snapshots::new(self.storage, Arc::clone(&self.dir), listing.snapshots.iter().copied());
        let mut epochs = self.read_epochs(listing, &segments)?;
        let log_start = self.log_start(&segments);
        let mut replay = Replay { log_start, ..Replay::default() };
        if self.report.epochs_rebuilt {
            for segment in segments.iter() {
                recovery::walk(&**self.storage, segment, 0..Offset::MAX, &mut |header, _| {
                    replay.epochs.observe(header)
                })?;
            }
        }
        self.repair(listing, &mut segments, &mut snapshots, &mut replay, recovery_point)?;
        self.split_sealed(listing, &segments, recovery_point)?;
        let log_end = if self.options.clean {
            self.open_clean(listing, &segments, recovery_point)?
        } else {
            self.recover(listing, &mut segments, &mut snapshots, &mut replay, recovery_point, progress)?
        };
        epochs.truncate_from_end(log_end);
        replay.epochs = epochs.extended_by(&replay.epochs);
        Ok(self.finish(segments, snapshots, replay, log_end, recovery_point)?)
    }

    /// The epochs in their checkpoint; if that is lost or unreadable they come from the batches.
    fn read_epochs(&mut self, listing: &Listing, segments: &Segments) -> Result<EpochCache, LogError> {
        let path = self.dir.join(names::LEADER_EPOCH_CHECKPOINT);
        let bytes = storage::read_file(&**self.storage, &path, MAX_EPOCH_BYTES)?;
        match bytes.map(|bytes| checkpoint::decode_epochs(&bytes)) {
            Some(Ok(entries)) => {
                let epochs = EpochCache::new(entries);
                self.epochs_on_disk = Some(epochs.clone());
                return Ok(epochs);
            }
            Some(Err(error @ FormatError::UnsupportedVersion { .. })) => return Err(error.into()),
            Some(Err(_)) | None => {}
        }
        self.report.epochs_rebuilt = listing.has_epochs || segments.iter().any(|segment| segment.size() > 0);
        Ok(EpochCache::default())
    }

    /// Reads again the segments that recovery would not look at, but whose offset index is lost or whose transaction
    /// index is damaged, and makes everything derived of them anew (`LogLoader.loadSegmentFiles`).
    fn repair(
        &mut self,
        listing: &Listing,
        segments: &mut Segments,
        snapshots: &mut Snapshots,
        replay: &mut Replay,
        recovery_point: Offset,
    ) -> Result<(), Interrupted> {
        let recovered_from = self.recovered_from(segments, recovery_point);
        let trusted: Vec<_> = segments.iter().map(Arc::clone).collect();
        for segment in trusted.iter().take_while(|segment| segment.base_offset() < recovered_from) {
            if !needs_repair(listing, segment)? {
                continue;
            }
            let before = segments.below(segment.base_offset());
            let scan = self.scan_segment(&before, segment, snapshots, replay, &mut |_| {})?;
            if split::left_range(scan.damage.as_ref()) {
                self.split_if_whole(listing, segments, segment, recovery_point)?;
            }
            if scan.damage.is_some() {
                self.check_log_start(segments, scan.next_offset)?;
            }
            self.report.segments_scanned += 1;
            self.report.bytes_scanned += scan.valid_bytes;
            let scans = vec![(Arc::clone(segment), scan)];
            self.carry_out(segments, snapshots, scans, recovery_point.max(segment.base_offset()))?;
        }
        Ok(())
    }

    /// The base of the first segment that recovery reads again.
    pub(super) fn recovered_from(&self, segments: &Segments, recovery_point: Offset) -> Offset {
        let floor = segments.floor(recovery_point).or(segments.first()).filter(|_| !self.options.clean);
        floor.map_or(Offset::MAX, |floor| floor.base_offset())
    }

    /// After a clean close: no batch is read but those behind the last index entry. The result is the log end.
    fn open_clean(
        &mut self,
        listing: &Listing,
        segments: &Segments,
        recovery_point: Offset,
    ) -> Result<Offset, Interrupted> {
        let Some(active) = segments.active().map(Arc::clone) else {
            return Ok(self.log_start(segments));
        };
        let tail = active.activate()?;
        let next_offset = tail.next_offset.unwrap_or(active.base_offset());
        if split::is_beyond(active.base_offset(), next_offset.saturating_sub(1)) {
            self.split_if_whole(listing, segments, &active, recovery_point)?;
            let scan = recovery::scan(&**self.storage, &active, &mut Replay::default(), u64::MAX, &mut |_| {})?;
            return Err(self.refuse(&active, &scan, recovery_point)?.into());
        }
        self.check_log_start(segments, next_offset)?;
        let Some(damage) = tail.damage else {
            return Ok(next_offset);
        };
        let found = Found { damage: Some(&damage), valid_bytes: tail.position, next_offset, recovery_point };
        match recovery::decide(found, self.options.on_corruption) {
            Decision::Keep => {}
            Decision::Cut { position } => self.cut(&active, position, &damage)?,
            Decision::Refuse => {
                let scan = recovery::scan(&**self.storage, &active, &mut Replay::default(), u64::MAX, &mut |_| {})?;
                return Err(self.refuse(&active, &scan, recovery_point)?.into());
            }
        }
        Ok(next_offset)
    }

    /// Reads every segment from the one that holds the recovery point, decides, and carries it out.
    fn recover(
        &mut self,
        listing: &Listing,
        segments: &mut Segments,
        snapshots: &mut Snapshots,
        replay: &mut Replay,
        recovery_point: Offset,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<Offset, Interrupted> {
        let from = self.recovered_from(segments, recovery_point);
        let bytes_total = segments.from(from).map(|segment| segment.size()).sum();
        let mut bytes_done = 0;
        let mut scans = Vec::new();
        for segment in segments.from(from) {
            let scan = self.scan_segment(segments, segment, snapshots, replay, &mut |bytes| {
                bytes_done += bytes;
                progress(RecoveryProgress { segment: segment.base_offset(), bytes_done, bytes_total });
            })?;
            let damaged = scan.damage.is_some();
            scans.push((Arc::clone(segment), scan));
            if damaged {
                break;
            }
        }
        self.report.segments_scanned = scans.len();
        self.report.bytes_scanned = bytes_done;
        if let Some((last, scan)) = scans.last() {
            if split::left_range(scan.damage.as_ref()) {
                self.split_if_whole(listing, segments, last, recovery_point)?;
            }
            self.check_log_start(segments, scan.next_offset)?;
        }
        Ok(self.carry_out(segments, snapshots, scans, recovery_point)?)
    }

    /// Reads a segment's batches, its producers having been rebuilt from what lies before it (`LogLoader.recoverSegment`).
    fn scan_segment(
        &self,
        segments: &Segments,
        segment: &Segment,
        snapshots: &mut Snapshots,
        replay: &mut Replay,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Scan, LogError> {
        let log_start = self.checkpoints.log_start(self.partition).unwrap_or(0);
        let epochs = replay.epochs.clone();
        let mut scan_to = |limit, snapshots: &mut Snapshots, replay: &mut Replay| {
            replay.producers = ProducerState::default();
            snapshots.restart();
            self.rebuild(segments, log_start).run(&mut replay.producers, snapshots, segment.base_offset())?;
            Ok::<_, LogError>(recovery::scan(&**self.storage, segment, replay, limit, progress)?)
        };
        let mut scan = scan_to(u64::MAX, snapshots, replay)?;
        if let Some(suspect) = scan.suspect {
            replay.epochs = epochs;
            scan = Scan { damage: scan.damage, ..scan_to(suspect, snapshots, replay)? };
        }
        snapshots.take(&replay.producers);
        Ok(scan)
    }

    fn rebuild<'s>(&'s self, segments: &'s Segments, log_start: Offset) -> Rebuild<'s> {
        Rebuild {
            storage: &**self.storage,
            segments,
            log_start,
            now_ms: self.options.now_ms,
            expiration_ms: self.options.producer_id_expiration_ms,
        }
    }

    /// Executes the decision on the last scanned segment and writes what the scans made.
    fn carry_out(
        &mut self,
        segments: &mut Segments,
        snapshots: &mut Snapshots,
        scans: Vec<(Arc<Segment>, Scan)>,
        recovery_point: Offset,
    ) -> Result<Offset, LogError> {
        let Some((last, last_scan)) = scans.last() else {
            return Ok(self.log_start(segments));
        };
        let log_end = last_scan.next_offset;
        match (recovery::decide(last_scan.found(recovery_point), self.options.on_corruption), &last_scan.damage) {
            (Decision::Refuse, _) => return Err(self.refuse(last, last_scan, recovery_point)?),
            (Decision::Cut { position }, Some(damage)) => {
                self.checkpoints.lower(self.partition, log_end.max(self.log_start(segments)))?;
                self.drop_above(segments, snapshots, last.base_offset())?;
                self.cut(last, position, damage)?;
            }
            _ => {}
        }
        let active = last.base_offset();
        for (segment, scan) in scans {
            self.report.indexes_rebuilt.push(segment.base_offset());
            segment.set_size(scan.valid_bytes);
            let mut live = scan.live;
            live.restart_interval();
            segment.set_live_index(live);
            segment.replace_txns(TxnIndex::new(scan.aborted))?;
            if segment.base_offset() != active || segments.active().map(|active| active.base_offset()) != Some(active) {
                segment.write_and_sync(&[])?;
                segment.release_index();
            }
        }
        Ok(log_end)
    }

    pub(super) fn refuse(&self, segment: &Segment, scan: &Scan, recovery_point: Offset) -> Result<LogError, LogError> {
        let partition = self.partition.to_string();
        let corruption = recovery::corruption(&**self.storage, partition, segment, scan, recovery_point)?;
        Ok(LogError::Corrupt(Box::new(corruption)))
    }

    /// Removes every segment above a base, the newest first, each durably: a crash in between leaves a prefix.
    fn drop_above(
        &mut self,
        segments: &mut Segments,
        snapshots: &mut Snapshots,
        base_offset: Offset,
    ) -> Result<(), LogError> {
        let above: Vec<_> = segments.iter().rev().map(Arc::clone).collect();
        for segment in above.into_iter().take_while(|segment| segment.base_offset() > base_offset) {
            remove_segment(&**self.storage, &self.dir, &segment)?;
            segments.remove(segment.base_offset());
            snapshots.remove(segment.base_offset());
            self.report.segments_dropped.push(segment.base_offset());
        }
        Ok(())
    }

    /// Cuts a segment's log file.
    fn cut(&mut self, segment: &Segment, position: u64, damage: &Damage) -> Result<(), LogError> {
        let log = segment.log()?;
        let failed = |error| StorageError::new("truncate", &segment.files().log(), error);
        let len = self.storage.len(&log).map_err(failed)?;
        self.storage.set_len(&log, position).and_then(|()| storage::sync(&**self.storage, &log)).map_err(failed)?;
        segment.set_size(position);
        self.report.cut = Some(Cut {
            segment: segment.base_offset(),
            position,
            bytes: len.saturating_sub(position),
            damage: damage.clone(),
        });
        Ok(())
    }

    /// The log start offset: as checkpointed, but not below the first segment.
    pub(super) fn log_start(&self, segments: &Segments) -> Offset {
        let checkpointed = self.checkpoints.log_start(self.partition).unwrap_or(0);
        segments.first().map_or(checkpointed, |first| checkpointed.max(first.base_offset()))
    }

    /// A log start above the end would empty the log: a checkpoint alone does not decide that (P6). One that is empty, as
    /// starting over leaves it for a moment, has nothing to lose.
    pub(super) fn check_log_start(&self, segments: &Segments, log_end: Offset) -> Result<(), LogError> {
        let log_start = self.log_start(segments);
        let is_empty = segments.iter().all(|segment| segment.size() == 0);
        if log_end >= log_start || is_empty || self.options.on_corruption == OnCorruption::Truncate {
            return Ok(());
        }
        let why = "the checkpointed log start lies above the end of the log";
        Err(LogError::InvalidArgument { what: "log start offset", value: log_start, why })
    }

    fn finish(
        &mut self,
        mut segments: Segments,
        mut snapshots: Snapshots,
        mut replay: Replay,
        mut log_end: Offset,
        recovery_point: Offset,
    ) -> Result<Log, LogError> {
        let mut log_start = self.log_start(&segments);
        let had_segments = segments.active().is_some();
        replay.producers = ProducerState::default();
        if had_segments && log_end < log_start {
            self.drop_above(&mut segments, &mut snapshots, Offset::MIN)?;
            replay = Replay { producers: ProducerState::starting_at(log_start), ..Replay::default() };
            snapshots.retain(|_| false);
            log_end = log_start;
        }
        if segments.active().is_none() {
            let bytes = self.options.config.preallocate.then_some(u64::from(self.options.config.segment_bytes));
            let segment = Segment::create(self.storage, Arc::clone(&self.dir), log_start, self.limits, bytes)?;
            if self.epochs_on_disk.is_none() && creation::create_epoch_file(&**self.storage, &self.dir)? {
                self.epochs_on_disk = Some(EpochCache::default());
            }
            self.storage.sync_dir(&self.dir)?;
            segments.insert(Arc::new(segment));
            log_end = log_start;
        }
        log_start = log_start.max(segments.first().map_or(0, |first| first.base_offset()));
        replay.epochs.truncate_from_end(log_end);
        replay.epochs.truncate_from_start(self.checkpoints.log_start(self.partition).unwrap_or(0));
        snapshots.restart();
        snapshots.remove_strays(&segments.bases());
        let rebuild = self.rebuild(&segments, log_start);
        if self.options.clean && !self.options.replay_lost_producers && snapshots.range().is_none() {
            rebuild.forget(&mut replay.producers, &mut snapshots, log_end);
        } else {
            rebuild.run(&mut replay.producers, &mut snapshots, log_end)?;
        }
        snapshots.commit()?;
        let active = segments.active().map(Arc::clone).ok_or_else(no_segment)?;
        let recovery_point =
            if self.options.clean && had_segments { log_end } else { recovery_point.min(log_end) }.max(log_start);
        let metadata =
            LogOffsetMetadata { offset: log_end, segment_base_offset: active.base_offset(), position: active.size() };
        let high_watermark = self.options.high_watermark.clamp(log_start, log_end);
        replay.producers.on_high_watermark(high_watermark);
        replay.producers.on_log_start(log_start);
        let mut view = View::new(segments, replay.epochs, metadata);
        view.log_start = log_start;
        view.high_watermark = high_watermark;
        view.first_unstable = replay.producers.first_unstable_offset();
        view.recovery_point = recovery_point.min(log_end);
        let write_epochs = self.epochs_on_disk.as_ref() != Some(&view.epochs);
        let shared = Arc::new(Shared::new(Arc::clone(self.storage), self.partition.clone(), view));
        let log = Log::assemble(
            shared,
            Arc::clone(self.checkpoints),
            self.dir.clone(),
            snapshots,
            replay.producers,
            self.options,
        )?;
        if write_epochs {
            log.write_epochs(self.epochs_on_disk.is_none())?;
        }
        Ok(log)
    }
}

/// Whether what is derived of a segment has to be made anew (`LogLoader.loadSegmentFiles`).
pub(super) fn needs_repair(listing: &Listing, segment: &Segment) -> Result<bool, SegmentError> {
    let found = listing.segments.get(&segment.base_offset()).copied().unwrap_or_default();
    Ok(!found.has_offset_index || (found.has_txn_index && segment.read_txns()?.is_none()))
}

/// Removes the files of one segment, the log first and durably; what is left without a log is a leftover.
pub(super) fn remove_segment(storage: &dyn Storage, dir: &Path, segment: &Segment) -> Result<(), LogError> {
    segment.detach();
    for path in segment.files().all() {
        remove_if_there(storage, &path)?;
    }
    storage.sync_dir(dir)?;
    Ok(())
}

/// An open log always has a segment.
pub(super) fn no_segment() -> LogError {
    let damage = Damage::ZeroTail;
    LogError::Segment(SegmentError::Corrupt { base_offset: 0, position: 0, damage })
}
