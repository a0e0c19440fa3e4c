//! Appending: what a leader takes from producers, and what a follower takes from its leader.

use super::{
    Log, LogError,
    epochs::EpochCache,
    roll::{self, ActiveSegment, Incoming},
    state::LogOffsetMetadata,
    validate::ValidatedBatch,
};
use crate::{
    format::{
        batch::{BatchHeader, Batches},
        control::EndTxnMarker,
        index_entry::AbortedTxn,
    },
    types::{LeaderEpoch, Offset, Timestamp},
};

/// How a leader appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendAsLeader {
    leader_epoch: LeaderEpoch,
    now_ms: Timestamp,
}

impl AppendAsLeader {
    /// Stamps the batch with the leader's epoch; `now_ms` is the time, in ms.
    #[must_use]
    pub fn new(leader_epoch: LeaderEpoch, now_ms: Timestamp) -> Self {
        Self { leader_epoch, now_ms }
    }
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// First offset, inclusive.
    pub first_offset: Offset,
    /// Last offset, inclusive.
    pub last_offset: Offset,
    /// Greatest timestamp of a record, in ms.
    pub max_timestamp: Option<Timestamp>,
    /// The log start offset at that moment.
    pub log_start_offset: Offset,
    /// Bytes written.
    pub bytes: u64,
    /// Whether a new segment was begun for it.
    pub rolled: bool,
}

impl Log {
    /// Appends a batch of a producer: assigns offset and epoch in place and writes it behind the last one. When it
    /// returns the batch can be read and survives the death of the process; power loss it survives after [`Log::flush`].
    ///
    /// # Errors
    /// * [`LogError::RecordListTooLarge`]: the batch exceeds `segment.bytes`;
    /// * [`LogError::DiskFull`]: the log is as before; append again when there is space;
    /// * [`LogError::Storage`]: the end of the log is unknown; and from then on [`LogError::Poisoned`].
    pub fn append_as_leader(
        &mut self,
        mut batch: ValidatedBatch,
        append: AppendAsLeader,
    ) -> Result<AppendInfo, LogError> {
        self.append_batch(&mut batch, append)
    }

    /// As [`Log::append_as_leader`], and gives the batch's buffer back to be filled again.
    ///
    /// # Errors
    /// As [`Log::append_as_leader`]; the buffer is then gone.
    pub fn append_as_leader_reusing(
        &mut self,
        mut batch: ValidatedBatch,
        append: AppendAsLeader,
    ) -> Result<(AppendInfo, Vec<u8>), LogError> {
        let info = self.append_batch(&mut batch, append)?;
        Ok((info, batch.into_bytes()))
    }

    fn append_batch(&mut self, batch: &mut ValidatedBatch, append: AppendAsLeader) -> Result<AppendInfo, LogError> {
        self.check_writable()?;
        let log_end = self.shared.read().log_end.offset;
        batch.assign(log_end, append.leader_epoch)?;
        self.append(batch.bytes(), std::slice::from_ref(batch.header()), &[], append.now_ms)
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
        self.check_writable()?;
        let mut headers: Vec<BatchHeader> = Vec::new();
        let mut markers = Vec::new();
        let mut len = 0;
        for batch in Batches::new(bytes) {
            let batch = batch?;
            let header = batch.header();
            if header.leader_epoch().is_some_and(|epoch| epoch > leader_epoch) {
                break;
            }
            batch.check_crc()?;
            if let Some(previous) = headers.last().map(BatchHeader::last_offset)
                && header.last_offset() <= previous
            {
                return Err(LogError::OffsetsOutOfOrder { last_offset: header.last_offset(), previous });
            }
            if header.attributes().is_control() {
                let mut scratch = Vec::new();
                let record = batch.records(&mut scratch, 0)?.next().transpose()?;
                let marker = record.map(|record| EndTxnMarker::decode(&record)).transpose()?.flatten();
                markers.extend(marker.map(|marker| (headers.len(), marker)));
            }
            len += batch.bytes().len();
            headers.push(header.clone());
        }
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Ok(None);
        };
        let log_end = self.shared.read().log_end.offset;
        if first.base_offset() < log_end {
            let (first_offset, last_offset) = (first.base_offset(), last.last_offset());
            return Err(LogError::UnexpectedAppendOffset { first_offset, last_offset, log_end });
        }
        self.append(bytes.get(..len).unwrap_or_default(), &headers, &markers, now_ms).map(Some)
    }

    /// Writes batches whose offsets are assigned. `markers` are the end markers among them, by index.
    fn append(
        &mut self,
        bytes: &[u8],
        headers: &[BatchHeader],
        markers: &[(usize, EndTxnMarker)],
        now_ms: Timestamp,
    ) -> Result<AppendInfo, LogError> {
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            let why = "there is nothing to append";
            return Err(LogError::InvalidArgument { what: "batches", value: 0, why });
        };
        let config = self.config();
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > u64::from(config.segment_bytes) {
            return Err(LogError::RecordListTooLarge { size, limit: u64::from(config.segment_bytes) });
        }
        let max_timestamp = headers.iter().filter_map(BatchHeader::max_timestamp).max();
        let incoming = Incoming { size, max_timestamp, last_offset: last.last_offset() };
        let rolled = self.must_roll(&incoming, now_ms)?;
        self.assign_epochs(headers)?;
        if rolled {
            let log_end = self.shared.read().log_end.offset;
            self.roll_at(first.base_offset().max(log_end), now_ms)?;
        }
        let active = self.active()?;
        let was_empty = active.size() == 0;
        active.append(bytes, headers).map_err(|failure| self.append_failed(failure))?;
        if was_empty {
            self.segment_first_timestamp = first.max_timestamp();
        }
        let aborted = self.note_producers(headers, markers);
        let log_start_offset = self.publish(last.next_offset(), active.base_offset(), active.size());
        // The index of aborted transactions is made from the log again if this fails.
        for txn in aborted {
            active.append_txn(txn).map_err(|error| self.poison(error))?;
        }
        self.flush_if_many(config.flush_messages)?;
        Ok(AppendInfo {
            first_offset: first.base_offset(),
            last_offset: last.last_offset(),
            max_timestamp,
            log_start_offset,
            bytes: size,
            rolled,
        })
    }

    fn must_roll(&self, incoming: &Incoming, now_ms: Timestamp) -> Result<bool, LogError> {
        let config = self.config();
        let active = self.active()?;
        let facts = ActiveSegment {
            base_offset: active.base_offset(),
            size: active.size(),
            index_full: active.is_index_full(),
            created_ms: self.segment_created_ms,
            first_timestamp: self.segment_first_timestamp,
            jitter_ms: roll::jitter_ms(&config, self.jitter_seed, active.base_offset()),
        };
        Ok(roll::should_roll(&facts, incoming, &config, now_ms))
    }

    /// A new epoch is durable before the first batch that carries it.
    fn assign_epochs(&mut self, headers: &[BatchHeader]) -> Result<(), LogError> {
        let known = std::sync::Arc::clone(&self.shared.read().epochs);
        let is_new = |header: &BatchHeader| header.leader_epoch().is_some_and(|epoch| known.latest() != Some(epoch));
        if !headers.iter().any(is_new) {
            return Ok(());
        }
        let mut epochs = EpochCache::clone(&known);
        for header in headers {
            if let Some(epoch) = header.leader_epoch() {
                epochs.assign(epoch, header.base_offset());
            }
        }
        if epochs == *known { Ok(()) } else { self.publish_epochs(epochs) }
    }

    fn note_producers(&mut self, headers: &[BatchHeader], markers: &[(usize, EndTxnMarker)]) -> Vec<AbortedTxn> {
        let mut aborted = Vec::new();
        let mut markers = markers.iter().peekable();
        for (index, header) in headers.iter().enumerate() {
            match markers.next_if(|(at, _)| *at == index) {
                Some((_, marker)) => aborted.extend(self.producers.end_txn(header, *marker)),
                None if header.attributes().is_control() => {}
                None => self.producers.append(header),
            }
        }
        aborted
    }

    /// Lets readers see the new end; the log start offset.
    fn publish(&mut self, log_end: Offset, segment_base_offset: Offset, position: u64) -> Offset {
        let mut view = self.shared.write();
        view.log_end = LogOffsetMetadata { offset: log_end, segment_base_offset, position };
        view.first_unstable = self.producers.first_unstable_offset();
        view.log_start
    }

    fn flush_if_many(&mut self, flush_messages: u64) -> Result<(), LogError> {
        let offsets = self.offsets();
        let unflushed = u64::try_from(offsets.log_end.saturating_sub(offsets.recovery_point)).unwrap_or(0);
        if unflushed >= flush_messages { self.flush() } else { Ok(()) }
    }
}
