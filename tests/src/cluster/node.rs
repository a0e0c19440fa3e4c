//! One broker: a log on its own simulated disk, and what it knows of the partition.

use super::{
    Settings,
    controller::Metadata,
    message::{Body, FetchAnswer, Message},
};
use crate::{
    disk::{Crash, SimDisk},
    history,
};
use duramen::{
    AppendAsLeader, DirectoryOptions, Fetch, Isolation, LeaderEpoch, Log, LogDirectory, LogError, Offset,
    ValidationPolicy,
    format::{batch::Batches, builder::BatchBuilder},
    replica::{
        AfterAlterPartition, BrokerId, Brokers, DelayedProduce, EpochEndOffset, FetchPhase, FetchState, FetchVerdict,
        FollowerFetch, LocalOffsets, OutOfRangeReset, Partition, ProduceStatus, ReplicaError, RequiredAcks, Transition,
        Truncation, reset_for_batch, reset_out_of_range,
    },
    validate,
};
use std::{sync::Arc, time::Duration};

/// How long a follower waits for an answer.
const REQUEST_TIMEOUT_MS: i64 = 500;

/// A produce request that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Wait {
    produce: DelayedProduce,
    pub(super) base_offset: Offset,
    pub(super) bytes: Vec<u8>,
}

/// A broker while its process runs.
#[derive(Debug)]
pub(super) struct Running {
    directory: LogDirectory,
    pub(super) partition: Partition,
    pub(super) fetching: Option<FetchState>,
    pub(super) brokers: Brokers,
    pub(super) broker_epoch: i64,
    /// Version of the metadata that it has.
    pub(super) metadata: usize,
    waiting: Vec<Wait>,
    correlation_id: u64,
    /// When it last asked its leader something that is not answered yet.
    asked_ms: Option<i64>,
    /// Below, its log was compared with what is committed.
    pub(super) verified: Offset,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) disk: SimDisk,
    pub(super) settings: Settings,
    pub(super) running: Option<Running>,
    /// It will crash after so many more operations of the disk.
    pub(super) doomed: Option<u64>,
    /// Cuts, and starts from nothing.
    pub(super) truncations: (usize, usize),
}

impl Node {
    pub(super) fn new(id: BrokerId, settings: Settings) -> Self {
        let disk = SimDisk::new(settings.seed.wrapping_add(u64::try_from(id).unwrap_or(0)));
        Self { id, disk, settings, running: None, doomed: None, truncations: (0, 0) }
    }

    /// Opens the log directory, as the new incarnation that the controller registered.
    pub(super) fn start(&mut self, broker_epoch: i64, now_ms: i64) {
        let options = DirectoryOptions {
            now_ms: Some(now_ms),
            lock_timeout: Duration::from_millis(1),
            ..DirectoryOptions::default()
        };
        let mut directory = LogDirectory::open_on(Arc::new(self.disk.clone()), options).unwrap();
        directory.get_or_create(&history::partition(), &history::config()).unwrap();
        self.running = Some(Running {
            directory,
            partition: Partition::new(self.id, self.settings.replica),
            fetching: None,
            brokers: Brokers::default(),
            broker_epoch,
            metadata: 0,
            waiting: Vec::new(),
            correlation_id: 0,
            asked_ms: None,
            verified: 0,
        });
    }

    /// The process dies, or the machine.
    pub(super) fn crash(&mut self, how: Crash) {
        self.disk = self.disk.crash_image(how);
        self.running = None;
        self.doomed = None;
    }

    /// The process ends in order.
    pub(super) fn stop(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(error) = running.directory.close()
        {
            assert!(self.disk.crashed(), "{error}");
        }
    }

    pub(super) fn is_leader(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.partition.leader().is_ok())
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the broker runs")
    }

    pub(super) fn log(&mut self) -> &mut Log {
        self.running().log()
    }

    /// The offsets to decide by. A durable broker counts of its own log only what is flushed.
    fn committable(&mut self) -> LocalOffsets {
        let durable = self.settings.durable;
        let offsets = self.log().offsets();
        let log_end = if durable { offsets.recovery_point } else { offsets.log_end };
        LocalOffsets { log_end, ..LocalOffsets::from(offsets) }
    }

    fn flush_if_durable(&mut self) -> Result<(), LogError> {
        if self.settings.durable { self.log().flush() } else { Ok(()) }
    }

    /// Takes a version of the metadata.
    pub(super) fn learn(&mut self, version: usize, metadata: &Metadata, now_ms: i64) -> Result<(), LogError> {
        let asks_first = self.settings.asks_first;
        let running = self.running();
        running.metadata = version;
        running.brokers = metadata.brokers.clone();
        let local = LocalOffsets::from(running.log().offsets());
        match running.partition.apply(&metadata.partition, &local, now_ms) {
            Transition::Ignored => {}
            Transition::Leader { epoch_starts_at } => {
                running.fetching = None;
                if let Some(offset) = epoch_starts_at {
                    running.log().assign_epoch_start_offset(metadata.partition.leader_epoch, offset)?;
                    running.verified = 0;
                }
                self.move_high_watermark(now_ms);
            }
            Transition::Follower { restart_fetching: false } => {}
            Transition::Follower { restart_fetching: true } => {
                let latest = running.log().reader().latest_epoch();
                let begin = if asks_first { FetchState::asking_first } else { FetchState::new };
                running.asked_ms = None;
                running.fetching = Some(begin(metadata.partition.leader_epoch, &local, latest));
            }
        }
        Ok(())
    }

    pub(super) fn move_high_watermark(&mut self, now_ms: i64) {
        let local = self.committable();
        let running = self.running();
        if let Ok(leader) = running.partition.leader()
            && let Some(offset) = leader.maybe_increment_high_watermark(&local, &running.brokers, now_ms)
        {
            running.log().update_high_watermark(offset);
        }
    }

    /// A producer sends a batch; whether it was appended.
    pub(super) fn produce(&mut self, acks: RequiredAcks, serial: u64, now_ms: i64) -> Result<bool, LogError> {
        let running = self.running();
        let Ok(leader) = running.partition.leader() else { return Ok(false) };
        if leader.check_acks(acks).is_err() {
            return Ok(false);
        }
        let leader_epoch = leader.leader_epoch();
        let mut batch = BatchBuilder::new();
        for record in 0..=serial % 3 {
            batch = batch.record(now_ms, None, Some(format!("{serial}/{record}").as_bytes()));
        }
        let batch = validate(batch.build()?, &ValidationPolicy::from_config(&running.log().config()), now_ms)?;
        let log = running.log();
        let (info, bytes) = log.append_as_leader_reusing(batch, AppendAsLeader::new(leader_epoch, now_ms))?;
        if acks == RequiredAcks::All {
            let (base_offset, required_offset) = (info.first_offset, info.last_offset + 1);
            let produce = DelayedProduce { leader_epoch, required_offset, deadline_ms: now_ms + 3_000 };
            running.waiting.push(Wait { produce, base_offset, bytes });
        }
        self.move_high_watermark(now_ms);
        Ok(true)
    }

    /// A durable leader flushes now and then; its own end counts from then on.
    pub(super) fn flush(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.log().flush()?;
        self.move_high_watermark(now_ms);
        Ok(())
    }

    /// The requests that are done, and whether they are acknowledged.
    pub(super) fn finished(&mut self, now_ms: i64) -> Vec<(Wait, Result<(), ReplicaError>)> {
        let running = self.running();
        let high_watermark = running.log().offsets().high_watermark;
        let mut finished = Vec::new();
        for wait in std::mem::take(&mut running.waiting) {
            match wait.produce.status(&running.partition, high_watermark, now_ms) {
                ProduceStatus::Waiting => running.waiting.push(wait),
                ProduceStatus::Acknowledged => finished.push((wait, Ok(()))),
                ProduceStatus::Failed(error) => finished.push((wait, Err(error))),
            }
        }
        finished
    }

    /// What a follower sends next, or does at once.
    pub(super) fn follow(&mut self, now_ms: i64) -> Result<Option<Message>, LogError> {
        let id = self.id;
        let running = self.running();
        if running.asked_ms.is_some_and(|asked_ms| now_ms - asked_ms < REQUEST_TIMEOUT_MS) {
            return Ok(None);
        }
        let (Some(leader), Some(fetching)) = (running.partition.leader_id(), running.fetching) else {
            return Ok(None);
        };
        if leader == id {
            return Ok(None);
        }
        let local = LocalOffsets::from(running.log().offsets());
        let body = match fetching.phase() {
            FetchPhase::Fetching => {
                running.correlation_id += 1;
                let fetch = fetching.fetch(id, Some(running.broker_epoch), &local);
                Body::Fetch { id: running.correlation_id, fetch }
            }
            FetchPhase::AskingEpochEnd(epoch) => Body::AskEpochEnd { leader_epoch: fetching.leader_epoch(), epoch },
            FetchPhase::TruncatingTo(offset) => {
                self.truncate(Truncation { offset, complete: true })?;
                return Ok(None);
            }
        };
        running.asked_ms = Some(now_ms);
        Ok(Some(Message { from: Some(id), to: Some(leader), body }))
    }

    /// A timer of the leader: members of the ISR that lag are to leave; an unanswered request is sent again.
    pub(super) fn shrink_isr(&mut self, now_ms: i64) -> Option<Message> {
        let (id, local) = (self.id, self.committable());
        let running = self.running();
        let leader = running.partition.leader_mut().ok()?;
        let pending = leader.in_sync_replicas().pending().cloned();
        let change = pending.or_else(|| leader.maybe_shrink_isr(&local, &running.brokers, now_ms))?;
        Some(Message { from: Some(id), to: None, body: Body::Alter(change) })
    }

    /// Records are deleted on request, up to an offset.
    pub(super) fn delete_records(&mut self, offset: Offset) -> Result<bool, LogError> {
        self.log().increment_log_start_offset(offset)
    }

    /// Takes a message; the one that it leads to.
    pub(super) fn receive(&mut self, message: Message, now_ms: i64) -> Result<Vec<Message>, LogError> {
        let (id, from) = (self.id, message.from);
        let reply = |body| Message { from: Some(id), to: from, body };
        match message.body {
            Body::Fetch { id, fetch } => {
                let (answer, alter) = self.answer_fetch(&fetch, now_ms)?;
                let answer = reply(Body::Fetched { id, fetch, answer });
                Ok([Some(answer), alter].into_iter().flatten().collect())
            }
            Body::Fetched { id, fetch, answer } => {
                let running = self.running();
                let awaited = running.correlation_id == id && running.fetching.is_some_and(|it| it.awaits(&fetch));
                if awaited {
                    running.asked_ms = None;
                    self.take_answer(answer, now_ms)?;
                }
                Ok(Vec::new())
            }
            Body::AskEpochEnd { leader_epoch, epoch } => {
                let running = self.running();
                let leads = running.partition.check_leader_epoch(Some(leader_epoch)).is_ok()
                    && running.partition.leader().is_ok();
                let end = running.log().reader().end_offset_for_epoch(epoch);
                let end = EpochEndOffset { leader_epoch: end.map(|end| end.0), end_offset: end.map(|end| end.1) };
                Ok(leads.then(|| reply(Body::EpochEnd { leader_epoch, epoch, end })).into_iter().collect())
            }
            Body::EpochEnd { leader_epoch, epoch, end } => {
                let asked = self.running().fetching.is_some_and(|it| {
                    it.leader_epoch() == leader_epoch && it.phase() == FetchPhase::AskingEpochEnd(epoch)
                });
                if asked {
                    self.running().asked_ms = None;
                    self.cut_by(end)?;
                }
                Ok(Vec::new())
            }
            Body::Altered(sent, answer) => {
                let running = self.running();
                let Ok(leader) = running.partition.leader_mut() else { return Ok(Vec::new()) };
                match leader.on_alter_partition(&sent, answer) {
                    AfterAlterPartition::Committed => self.move_high_watermark(now_ms),
                    AfterAlterPartition::Retry => {
                        return Ok(vec![Message { from: Some(id), to: None, body: Body::Alter(sent) }]);
                    }
                    _ => {}
                }
                Ok(Vec::new())
            }
            Body::Alter(_) => Ok(Vec::new()),
        }
    }

    fn answer_fetch(&mut self, fetch: &FollowerFetch, now_ms: i64) -> Result<(FetchAnswer, Option<Message>), LogError> {
        let (id, committable) = (self.id, self.committable());
        let max_bytes = self.settings.fetch_bytes;
        let running = self.running();
        let local = LocalOffsets::from(running.log().offsets());
        let reader = running.log().reader();
        let epoch_end = fetch.last_fetched_epoch.and_then(|epoch| reader.end_offset_for_epoch(epoch));
        let admitted = match running.partition.check_fetch(fetch, &local, epoch_end) {
            Ok(FetchVerdict::Read(admitted)) => admitted,
            Ok(FetchVerdict::Diverging(end)) => return Ok((FetchAnswer::Diverging(end), None)),
            Err(ReplicaError::OffsetOutOfRange { log_start, log_end, .. }) => {
                return Ok((FetchAnswer::OutOfRange(log_start..log_end), None));
            }
            Err(_) => return Ok((FetchAnswer::Refused, None)),
        };
        let read = Fetch { isolation: Isolation::LogEnd, max_bytes, ..Fetch::from(fetch.fetch_offset) };
        let records = reader.read(read)?.records;
        let Ok(bytes) = records.map_or(Ok(Vec::new()), |records| records.to_vec()) else {
            return Ok((FetchAnswer::Refused, None));
        };
        let Ok(leader) = running.partition.leader_mut() else { return Ok((FetchAnswer::Refused, None)) };
        let Ok(effects) = leader.on_follower_fetch(&admitted, &committable, &running.brokers, now_ms) else {
            return Ok((FetchAnswer::Refused, None));
        };
        if let Some(offset) = effects.high_watermark {
            running.log().update_high_watermark(offset);
        }
        let alter =
            effects.alter_partition.map(|change| Message { from: Some(id), to: None, body: Body::Alter(change) });
        let offsets = running.log().offsets();
        let (high_watermark, log_start) = (offsets.high_watermark, offsets.log_start);
        Ok((FetchAnswer::Records { bytes, high_watermark, log_start }, alter))
    }

    fn take_answer(&mut self, answer: FetchAnswer, now_ms: i64) -> Result<(), LogError> {
        match answer {
            FetchAnswer::Refused => {}
            FetchAnswer::Diverging(end) => self.cut_by(end)?,
            FetchAnswer::OutOfRange(leader) => match reset_out_of_range(self.log().offsets().log_end, leader) {
                OutOfRangeReset::TruncateTo(offset) => self.truncate(Truncation { offset, complete: true })?,
                OutOfRangeReset::StartOverAt(offset) => {
                    self.start_over_at(offset, now_ms)?;
                    self.running().note_truncation(Truncation { offset, complete: true });
                }
                OutOfRangeReset::Continue => {
                    let offset = self.log().offsets().log_end;
                    self.running().note_truncation(Truncation { offset, complete: true });
                }
            },
            FetchAnswer::Records { bytes, high_watermark, log_start } => {
                if !bytes.is_empty() {
                    self.append(&bytes, now_ms)?;
                }
                let log = self.log();
                log.update_high_watermark(high_watermark);
                let reachable = log_start.min(log.offsets().high_watermark);
                log.increment_log_start_offset(reachable)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8], now_ms: i64) -> Result<(), LogError> {
        let running = self.running();
        let Some(leader_epoch) = running.partition.leader_epoch() else { return Ok(()) };
        let log = running.log();
        let appended = match log.append_as_follower(bytes, leader_epoch, now_ms) {
            Err(LogError::UnexpectedAppendOffset { first_offset, last_offset, log_end }) => {
                let local = LocalOffsets::from(log.offsets());
                match reset_for_batch(first_offset..=last_offset, &local) {
                    Some(OutOfRangeReset::StartOverAt(offset)) => self.start_over_at(offset, now_ms)?,
                    Some(OutOfRangeReset::TruncateTo(offset)) => {
                        self.truncate(Truncation { offset, complete: true })?;
                    }
                    _ => {
                        panic!("the leader sent {first_offset} to {last_offset}, the log ends at {log_end}: {local:?}")
                    }
                }
                self.log().append_as_follower(bytes, leader_epoch, now_ms)?
            }
            other => other?,
        };
        self.flush_if_durable()?;
        if let Some(info) = appended {
            let epoch = last_epoch(bytes, info.last_offset);
            self.running().fetching.iter_mut().for_each(|it| it.on_records(info.last_offset + 1, epoch));
        }
        Ok(())
    }

    fn start_over_at(&mut self, offset: Offset, now_ms: i64) -> Result<(), LogError> {
        self.truncations.1 += 1;
        self.running().verified = 0;
        self.log().truncate_fully_and_start_at(offset, None, now_ms)
    }

    fn cut_by(&mut self, end: EpochEndOffset) -> Result<(), LogError> {
        let running = self.running();
        let local = LocalOffsets::from(running.log().offsets());
        let own = end.leader_epoch.and_then(|epoch| running.log().reader().end_offset_for_epoch(epoch));
        let Some(cut) = running.fetching.map(|it| it.truncation(end, own, &local)) else { return Ok(()) };
        self.truncate(cut)
    }

    fn truncate(&mut self, cut: Truncation) -> Result<(), LogError> {
        self.truncations.0 += usize::from(self.log().truncate_to(cut.offset, 0)?);
        let running = self.running();
        running.verified = running.verified.min(cut.offset);
        running.note_truncation(cut);
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) {
        if let Err(error) = self.running().directory.checkpoint() {
            assert!(self.disk.crashed(), "{error}");
        }
    }
}

impl Running {
    pub(super) fn log(&mut self) -> &mut Log {
        self.directory.get_or_create(&history::partition(), &history::config()).expect("the log is open")
    }

    fn note_truncation(&mut self, done: Truncation) {
        let latest = self.log().reader().latest_epoch();
        self.fetching.iter_mut().for_each(|it| it.on_truncation(done, latest));
    }
}

/// The leader epoch of the batch that ends with an offset.
fn last_epoch(bytes: &[u8], last_offset: Offset) -> Option<LeaderEpoch> {
    let mut headers = Batches::new(bytes).map_while(Result::ok).map(|batch| batch.header().clone());
    headers.find(|header| header.last_offset() == last_offset)?.leader_epoch()
}
