//! Appending: what a leader takes from producers, and what a follower takes from its leader.

use super::{
    Log, LogError, open,
    producers::{Claims, CompletedTxn, VerificationGuard},
    roll::{self, ActiveSegment},
    state::LogOffsetMetadata,
    validate::ValidatedBatch,
};
use crate::{
    format::{
        batch::{self, BatchHeader, Batches, Frame},
        control::EndTxnMarker,
    },
    segment::{Footprint, Gather, Segment, SegmentError},
    types::{LeaderEpoch, Offset, Timestamp},
};
use std::sync::Arc;

/// How a leader appends.
///
/// ```
/// use duramen::AppendAsLeader;
/// let append = AppendAsLeader::new(7, 1_700_000_000_000).with_transaction_version(2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendAsLeader {
    leader_epoch: LeaderEpoch,
    now_ms: Timestamp,
    guard: Option<VerificationGuard>,
    transaction_version: i16,
}

impl AppendAsLeader {
    /// Stamps the batch with the leader's epoch; `now_ms` is the time, in ms.
    #[must_use]
    pub fn new(leader_epoch: LeaderEpoch, now_ms: Timestamp) -> Self {
        Self { leader_epoch, now_ms, guard: None, transaction_version: 0 }
    }

    /// Proves that the transaction which the batch opens was verified with its coordinator.
    #[must_use]
    pub fn with_guard(mut self, guard: Option<VerificationGuard>) -> Self {
        self.guard = guard;
        self
    }

    /// The version of the transaction protocol by which an end marker is written, 0 or greater (default 0). From 2 on
    /// the coordinator bumps the producer's epoch with every marker.
    #[must_use]
    pub fn with_transaction_version(mut self, transaction_version: i16) -> Self {
        self.transaction_version = transaction_version;
        self
    }
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// First offset, inclusive; of a duplicate, that of the batch that it repeats.
    pub first_offset: Offset,
    /// Last offset, inclusive.
    pub last_offset: Offset,
    /// Greatest timestamp of a record, in ms.
    pub max_timestamp: Option<Timestamp>,
    /// The time that the batch was stamped with, in ms, if the topic's `message.timestamp.type` is `LogAppendTime`; of a
    /// duplicate, the greatest timestamp of the batch that it repeats, as in Kafka.
    pub log_append_time: Option<Timestamp>,
    /// The log start offset at that moment.
    pub log_start_offset: Offset,
    /// Bytes written; 0 for a duplicate.
    pub bytes: u64,
    /// Whether a new segment was begun for it.
    pub rolled: bool,
    /// Whether it repeats one of its producer's last five batches: nothing was written.
    pub is_duplicate: bool,
}

/// Batches about to be appended, their offsets assigned.
struct Incoming<'a> {
    bytes: &'a [u8],
    headers: &'a [BatchHeader],
    /// The end markers among them, by index.
    markers: &'a [(usize, EndTxnMarker)],
    log_append_time: Option<Timestamp>,
    /// What is asked of the producer; a follower asks nothing.
    claims: Option<Claims>,
    /// Where the batches gather, if they do not go to the file at once.
    gather: Option<&'a Gather<'a>>,
}

/// What an append has to know of the log as it is.
struct Moment {
    log_start: Offset,
    recovery_point: Offset,
    log_end: Offset,
    active: Arc<Segment>,
}

/// Where gathered batches lie, for whoever makes them durable and writes them.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) segment: Arc<Segment>,
    /// Where they begin in the segment's file, in bytes.
    pub(crate) position: u64,
    /// Begins of the pieces that became full.
    pub(crate) full: Vec<u64>,
    /// What the next append is going to touch.
    pub(crate) footprint: Footprint,
}

impl Log {
    /// Appends a batch of a producer: assigns offset and epoch in place and writes it behind the last one. When it
    /// returns the batch can be read and survives the death of the process; power loss it survives after [`Log::flush`].
    ///
    /// # Errors
    /// * [`LogError::RecordListTooLarge`]: the batch exceeds `segment.bytes`;
    /// * [`LogError::DiskFull`]: the log is as before; append again when there is space;
    /// * [`LogError::Storage`]: the end of the log is unknown; and from then on [`LogError::Poisoned`].
    pub fn append_as_leader<B: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        mut batch: ValidatedBatch<B>,
        append: AppendAsLeader,
    ) -> Result<AppendInfo, LogError> {
        self.append_batch(&mut batch, append)
    }

    /// As [`Log::append_as_leader`], and gives the batch's buffer back to be filled again.
    ///
    /// # Errors
    /// As [`Log::append_as_leader`]; the buffer is then gone.
    pub fn append_as_leader_reusing<B: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        mut batch: ValidatedBatch<B>,
        append: AppendAsLeader,
    ) -> Result<(AppendInfo, B), LogError> {
        let info = self.append_batch(&mut batch, append)?;
        Ok((info, batch.into_buffer()))
    }

    fn append_batch<B: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        batch: &mut ValidatedBatch<B>,
        append: AppendAsLeader,
    ) -> Result<AppendInfo, LogError> {
        self.append_batch_gathering(batch, append, None).map(|(info, _)| info)
    }

    /// As [`Log::append_as_leader`], but with `gather` the batch stays in memory: somebody else has to make it durable. A
    /// duplicate has no place.
    ///
    /// # Errors
    /// [`LogError::NoMemory`]; otherwise as [`Log::append_as_leader`].
    pub(crate) fn append_batch_gathering<B: AsRef<[u8]> + AsMut<[u8]>>(
        &mut self,
        batch: &mut ValidatedBatch<B>,
        append: AppendAsLeader,
        gather: Option<&Gather<'_>>,
    ) -> Result<(AppendInfo, Option<Gathered>), LogError> {
        self.check_writable()?;
        let moment = self.moment()?;
        batch.assign(moment.log_end, append.leader_epoch)?;
        let claims = Claims {
            origin: batch.origin(),
            guard: append.guard,
            transaction_version: append.transaction_version,
            verification_enabled: self.verification_enabled,
        };
        let marker = batch.marker().map(|marker| (0, marker));
        let incoming = Incoming {
            bytes: batch.bytes(),
            headers: std::slice::from_ref(batch.header()),
            markers: marker.as_slice(),
            log_append_time: batch.log_append_time(),
            claims: Some(claims),
            gather,
        };
        self.append(&incoming, &moment, append.now_ms)
    }

    /// Appends batches that a leader sent, with their offsets and epochs: one set, byte for byte. Gaps between offsets
    /// are kept. A partial batch at the end is left out, and so are a batch of a higher epoch than `leader_epoch` and
    /// everything behind it. `None` when nothing is left to append (`UnifiedLog.appendAsFollower`).
    ///
    /// # Errors
    /// * [`LogError::Format`]: a batch is damaged or of magic 0 or 1;
    /// * [`LogError::OffsetsOutOfOrder`], [`LogError::UnexpectedAppendOffset`]: offsets do not ascend, or begin below
    ///   the log end;
    /// * otherwise as [`Log::append_as_leader`].
    pub fn append_as_follower(
        &mut self,
        bytes: &[u8],
        leader_epoch: LeaderEpoch,
        now_ms: Timestamp,
    ) -> Result<Option<AppendInfo>, LogError> {
        Ok(self.append_set_gathering(bytes, leader_epoch, now_ms, None)?.map(|(info, _)| info))
    }

    /// As [`Log::append_as_follower`], but with `gather` the batches stay in memory.
    pub(crate) fn append_set_gathering(
        &mut self,
        bytes: &[u8],
        leader_epoch: LeaderEpoch,
        now_ms: Timestamp,
        gather: Option<&Gather<'_>>,
    ) -> Result<Option<(AppendInfo, Option<Gathered>)>, LogError> {
        self.check_writable()?;
        let headers = analyze(bytes, leader_epoch)?;
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Ok(None);
        };
        let moment = self.moment()?;
        let log_end = moment.log_end;
        // A negative base is no offset to compare: what Kafka compares then is the end of the batch.
        let reaches = if first.base_offset() < 0 { first.last_offset() } else { first.base_offset() };
        if reaches < log_end {
            let (first_offset, last_offset) = (first.base_offset(), last.last_offset());
            return Err(LogError::UnexpectedAppendOffset { first_offset, last_offset, log_end });
        }
        if first.base_offset() < 0 {
            let (value, why) = (first.base_offset(), "it is negative");
            return Err(LogError::InvalidArgument { what: "base offset", value, why });
        }
        let bytes = bytes.get(..headers.iter().map(BatchHeader::size).sum()).unwrap_or_default();
        let markers = markers(bytes)?;
        let incoming =
            Incoming { bytes, headers: &headers, markers: &markers, log_append_time: None, claims: None, gather };
        self.append(&incoming, &moment, now_ms).map(Some)
    }

    /// Writes batches whose offsets are assigned. Epochs and a new segment come before the producer is asked, so that a
    /// batch that is refused can leave an epoch or an empty segment behind, as in Kafka: they say nothing wrong.
    fn append(
        &mut self,
        incoming: &Incoming<'_>,
        moment: &Moment,
        now_ms: Timestamp,
    ) -> Result<(AppendInfo, Option<Gathered>), LogError> {
        let (Some(first), Some(last)) = (incoming.headers.first(), incoming.headers.last()) else {
            return Err(LogError::NothingToAppend);
        };
        if incoming.gather.is_none() {
            // The journal does not have this, so the file has to be found.
            self.end_roll()?;
        }
        self.assign_epochs(incoming.headers)?;
        let size = u64::try_from(incoming.bytes.len()).unwrap_or(u64::MAX);
        let limit = u64::from(self.config.segment_bytes);
        if size > limit {
            return Err(LogError::RecordListTooLarge { size, limit });
        }
        let max_timestamp = incoming.headers.iter().filter_map(BatchHeader::max_timestamp).max();
        let wanted = roll::Incoming { size, max_timestamp, last_offset: last.last_offset() };
        let rolled = self.must_roll(&moment.active, &wanted, now_ms);
        if rolled {
            self.roll_at(first.base_offset().max(moment.log_end), incoming.gather, now_ms)?;
        }
        let info = AppendInfo {
            first_offset: first.base_offset(),
            last_offset: last.last_offset(),
            max_timestamp,
            log_append_time: incoming.log_append_time,
            log_start_offset: moment.log_start,
            bytes: size,
            rolled,
            is_duplicate: false,
        };
        if let Some(claims) = &incoming.claims
            && let Some(known) =
                self.producers.check(first, incoming.markers.first().map(|(_, marker)| *marker), claims)?
        {
            let (first_offset, last_offset) = (known.first_offset, known.last_offset);
            let log_append_time = Some(known.timestamp);
            let known = AppendInfo { first_offset, last_offset, log_append_time, bytes: 0, is_duplicate: true, ..info };
            return Ok((known, None));
        }
        let active = if rolled { self.active()? } else { Arc::clone(&moment.active) };
        let gathered = self.write(active, incoming, last.next_offset())?;
        let unflushed = u64::try_from(last.next_offset().saturating_sub(moment.recovery_point)).unwrap_or(0);
        // What is gathered is about to be durable without the segment.
        if gathered.is_none() && unflushed >= self.config.flush_messages {
            self.flush()?;
        }
        Ok((info, gathered))
    }

    fn moment(&self) -> Result<Moment, LogError> {
        let view = self.shared.read();
        let active = view.active().map(Arc::clone).ok_or_else(open::no_segment)?;
        let (log_start, recovery_point) = (view.log_start, view.recovery_point);
        Ok(Moment { log_start, recovery_point, log_end: view.log_end.offset, active })
    }

    /// Writes the batches, takes note of them and lets readers see them.
    fn write(
        &mut self,
        active: Arc<Segment>,
        incoming: &Incoming<'_>,
        next_offset: Offset,
    ) -> Result<Option<Gathered>, LogError> {
        let position = active.size();
        let was_empty = position == 0;
        let (full, footprint) = active
            .append(incoming.bytes, incoming.headers, incoming.gather)
            .map_err(|failure| self.append_failed(failure))?;
        if was_empty {
            self.segment_first_timestamp = incoming.headers.first().and_then(BatchHeader::max_timestamp);
        }
        let completed = self.note_producers(incoming);
        self.producers.set_end_offset(next_offset);
        let completed = self.complete(&active, completed);
        self.publish(next_offset, active.base_offset(), active.size());
        // The index of aborted transactions is made from the log again if this fails.
        completed.map_err(|error| self.poison(error))?;
        if incoming.gather.is_some() {
            self.note_journalled();
        }
        Ok(incoming.gather.map(|_| Gathered { segment: active, position, full, footprint }))
    }

    fn must_roll(&self, active: &Segment, incoming: &roll::Incoming, now_ms: Timestamp) -> bool {
        let facts = ActiveSegment {
            base_offset: active.base_offset(),
            size: active.size(),
            index_full: active.is_index_full(),
            created_ms: active.created_ms().unwrap_or(self.opened_ms),
            first_timestamp: self.segment_first_timestamp,
            jitter_ms: roll::jitter_ms(&self.config, self.jitter_seed, active.base_offset()),
        };
        roll::should_roll(&facts, incoming, &self.config, now_ms)
    }

    /// A new epoch is durable before the first batch that carries it, or by it: see [`super::epoch_file`].
    fn assign_epochs(&mut self, headers: &[BatchHeader]) -> Result<(), LogError> {
        let latest = self.latest_epoch;
        let is_known = |header: &BatchHeader, epoch| {
            latest.is_some_and(|latest| latest.epoch == epoch && header.base_offset() >= latest.start_offset)
        };
        if headers.iter().all(|header| header.leader_epoch().is_none_or(|epoch| is_known(header, epoch))) {
            return Ok(());
        }
        let known = self.shared.read().epochs.clone();
        let mut epochs = known.clone();
        for header in headers {
            if let Some(epoch) = header.leader_epoch() {
                epochs.assign(epoch, header.base_offset());
            }
        }
        if epochs == known { Ok(()) } else { self.add_epochs(epochs, &known) }
    }

    /// Takes note of all batches of a set; the transactions that they end.
    fn note_producers(&mut self, incoming: &Incoming<'_>) -> Vec<CompletedTxn> {
        let mut completed = Vec::new();
        let mut markers = incoming.markers.iter().peekable();
        for (index, header) in incoming.headers.iter().enumerate() {
            let marker = markers.next_if(|(at, _)| *at == index).map(|(_, marker)| *marker);
            completed.extend(self.producers.note(header, marker));
        }
        completed
    }

    /// Ends transactions once all of a set is noted: what else began in it counts for the last stable offset that the index
    /// of aborted transactions keeps. The index comes first: until it tells of a transaction, readers of what is committed
    /// must not get beyond its beginning (`UnifiedLog.append`).
    fn complete(&mut self, active: &Segment, completed: Vec<CompletedTxn>) -> Result<(), SegmentError> {
        for txn in completed {
            if let Some(aborted) = self.producers.aborted(&txn) {
                active.append_txn(aborted)?;
            }
            self.producers.complete(txn);
        }
        Ok(())
    }

    /// Lets readers see the new end.
    fn publish(&mut self, log_end: Offset, segment_base_offset: Offset, position: u64) {
        let mut view = self.shared.write();
        view.log_end = LogOffsetMetadata { offset: log_end, segment_base_offset, position };
        if self.is_sole_replica {
            view.high_watermark = log_end;
            self.producers.on_high_watermark(log_end);
        }
        view.first_unstable = self.producers.first_unstable_offset();
    }
}

/// The batches that a follower takes: whole and undamaged ones whose last offsets ascend, up to the first of an epoch that
/// the follower does not know yet (`UnifiedLog.analyzeAndValidateRecords`).
fn analyze(bytes: &[u8], leader_epoch: LeaderEpoch) -> Result<Vec<BatchHeader>, LogError> {
    let mut headers: Vec<BatchHeader> = Vec::new();
    let mut rest = bytes;
    while let Some(batch) = Frame::first_batch(rest)? {
        Frame::decode(batch)?.check_magic()?;
        let header = BatchHeader::decode_anywhere(batch)?;
        if header.leader_epoch().is_some_and(|epoch| epoch > leader_epoch) {
            break;
        }
        batch::check_crc(batch)?;
        let previous = headers.last().map_or(-1, BatchHeader::last_offset);
        if header.last_offset() <= previous {
            return Err(LogError::OffsetsOutOfOrder { last_offset: header.last_offset(), previous });
        }
        headers.push(header);
        rest = rest.get(batch.len()..).unwrap_or_default();
    }
    Ok(headers)
}

/// The end markers in batches, by the index of their batch.
fn markers(bytes: &[u8]) -> Result<Vec<(usize, EndTxnMarker)>, LogError> {
    let mut markers = Vec::new();
    for (index, batch) in Batches::new(bytes).enumerate() {
        let batch = batch?;
        if batch.header().attributes().is_control() && batch.header().producer().is_some() {
            let mut scratch = Vec::new();
            let record = batch.records(&mut scratch, 0)?.next().transpose()?;
            let marker = record.map(|record| EndTxnMarker::decode(&record)).transpose()?.flatten();
            markers.extend(marker.map(|marker| (index, marker)));
        }
    }
    Ok(markers)
}
