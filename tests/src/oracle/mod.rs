//! A driver of one log behind the line protocol that real Kafka's log also speaks, so that both can be compared
//! operation by operation: JSON requests in, JSON answers out.
//!
//! Owns the translation and what Kafka's log manager would keep: the clock, the checkpoints between two opens, the cleaner's
//! point. Everything about the log is the engine's.

mod answers;
mod append;
mod clean;
mod files;
mod life;
mod request;
mod slips;

use answers::Failure;
use duramen::{Fetch, Isolation, Log, TimestampQuery, TopicPartition, VerificationGuard};
use request::Request;
use serde_json::{Map, Value, json};
use slips::Slips;
use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// The clock of a script begins here, in ms.
const START_MS: i64 = 1_700_000_000_000;

type Answer = Result<Map<String, Value>, Failure>;

/// What Kafka's checkpoint files say of the log.
#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    recovery_point: i64,
    log_start: i64,
    high_watermark: i64,
}

/// How the log was opened.
#[derive(Debug, Clone)]
struct Opened {
    partition: TopicPartition,
    config: Map<String, Value>,
    topic_id: Option<String>,
    verification: bool,
    expiration_ms: i64,
}

/// The driver.
#[derive(Debug)]
pub struct Driver {
    /// Modification times later than this were made by the machine's clock.
    started_ms: i64,
    now_ms: i64,
    root: Option<PathBuf>,
    /// Where checkpoint files go, which are not part of the comparison.
    checkpoints: tempfile::TempDir,
    opened: Option<Opened>,
    remembered: Remembered,
    ended_clean: bool,
    log: Option<Log>,
    guards: Vec<VerificationGuard>,
    cleaner_checkpoint: Option<i64>,
    slips: Slips,
}

impl Driver {
    /// A driver without a directory.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new() -> std::io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            started_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) - 60_000,
            now_ms: START_MS,
            root: None,
            checkpoints: tempfile::tempdir()?,
            opened: None,
            remembered: Remembered::default(),
            ended_clean: false,
            log: None,
            guards: Vec::new(),
            cleaner_checkpoint: None,
            slips: Slips::default(),
        })
    }

    /// Answers one line.
    pub fn answer(&mut self, line: &str) -> String {
        let request = match serde_json::from_str::<Value>(line) {
            Ok(request) => Request(request),
            Err(error) => return json!({"error": "BAD_REQUEST", "message": error.to_string()}).to_string(),
        };
        let mut reply = Map::new();
        reply.insert("op".into(), json!(request.text("op", "")));
        if let Some(id) = request.0.get("id") {
            reply.insert("id".into(), id.clone());
        }
        match self.perform(&request) {
            Ok(answer) => reply.extend(answer),
            Err(failure) => reply.extend(failure.answer()),
        }
        if let Err(failure) = self.afterwards() {
            reply.extend(failure.answer());
        }
        if let Some(log) = &self.log {
            reply.insert("offsets".into(), answers::offsets(log, &self.slips));
        }
        Value::Object(reply).to_string()
    }

    /// Background work that is due, and modification times.
    fn afterwards(&mut self) -> Result<(), Failure> {
        if let Some(log) = &mut self.log {
            log.remove_retired_files(self.now_ms)?;
        }
        if let (Some(root), Some(opened)) = (&self.root, &self.opened) {
            files::stamp(&root.join(opened.partition.to_string()), self.started_ms, self.now_ms)?;
        }
        Ok(())
    }

    fn perform(&mut self, request: &Request) -> Answer {
        let op = request.text("op", "");
        match op.as_str() {
            "hello" => Ok(answers::fields([("driver", json!("duramen")), ("protocol", json!(1))])),
            "note" => Ok(Map::new()),
            "reset" => self.reset(request),
            "open" => self.open(request),
            "reopen" => self.reopen(request),
            "close" => self.close(),
            "crash" => self.crash(),
            "checkpoint" => {
                self.log()?;
                self.remember();
                Ok(Map::new())
            }
            "damage" => files::damage(&self.partition_dir()?, request),
            "set_mtime" => files::set_mtime(&self.partition_dir()?, request),
            _ => self.perform_on_log(&op, request),
        }
    }

    fn perform_on_log(&mut self, op: &str, request: &Request) -> Answer {
        let now_ms = self.now_ms;
        match op {
            "append" => self.append(request),
            "append_as_follower" => self.append_as_follower(request),
            "end_txn" => self.end_txn(request),
            "start_verification" => self.start_verification(request),
            "read" => self.read(request),
            "offset_for_timestamp" => self.offset_for_timestamp(request),
            "end_offset_for_epoch" => {
                let epoch = request.int("leader_epoch")?;
                let found = self.log()?.reader().end_offset_for_epoch(i32::try_from(epoch).unwrap_or(-1));
                let (epoch, end) = found.map_or((-1, -1), |(epoch, end)| (epoch, end));
                Ok(answers::fields([("leader_epoch", json!(epoch)), ("end_offset", json!(end))]))
            }
            "update_high_watermark" => {
                let offset = request.int("offset")?;
                let log = self.log()?;
                let high_watermark = log.update_high_watermark(offset);
                let offsets = log.offsets();
                self.slips.on_high_watermark_set(offset < offsets.log_start || offset < offsets.log_end);
                Ok(answers::fields([("high_watermark", json!(high_watermark))]))
            }
            "maybe_increment_high_watermark" => self.maybe_increment_high_watermark(request),
            "increment_log_start_offset" => {
                let offset = request.int("offset")?;
                let log = self.log.as_mut().ok_or(Failure::not_open())?;
                self.slips.check_log_start(log, offset)?;
                let changed = log.increment_log_start_offset(offset)?;
                self.slips.on_log_start(changed);
                Ok(answers::fields([("changed", json!(changed))]))
            }
            "assign_epoch" => {
                let epoch = i32::try_from(request.int("leader_epoch")?).unwrap_or(-1);
                let offset = request.int("offset")?;
                self.log()?.assign_epoch_start_offset(epoch, offset)?;
                Ok(Map::new())
            }
            "truncate_to" => {
                let offset = request.int("offset")?;
                let log = self.log.as_mut().ok_or(Failure::not_open())?;
                let before = self.slips.first_unstable(log);
                let truncated = log.truncate_to(offset, now_ms)?;
                if truncated {
                    self.slips.on_truncation(log, before);
                }
                self.lower_cleaner_checkpoint(offset);
                Ok(answers::fields([("truncated", json!(truncated))]))
            }
            "truncate_fully_and_start_at" => {
                let offset = request.int("offset")?;
                let log_start = request.optional("log_start_offset")?;
                self.log()?.truncate_fully_and_start_at(offset, log_start, now_ms)?;
                self.slips.on_high_watermark_set(false);
                self.lower_cleaner_checkpoint(offset);
                Ok(Map::new())
            }
            "roll" => {
                let log = self.log.as_mut().ok_or(Failure::not_open())?;
                let base_offset = log.roll(now_ms)?;
                self.slips.on_roll(log);
                Ok(answers::fields([("base_offset", json!(base_offset))]))
            }
            "flush" => {
                let offset = request.optional("offset")?.unwrap_or(i64::MAX);
                self.log()?.flush_up_to(offset)?;
                Ok(Map::new())
            }
            "advance_clock" => {
                self.now_ms += request.int("ms")?;
                Ok(Map::new())
            }
            "run_scheduler" => {
                if let Some(log) = &mut self.log {
                    log.remove_retired_files(i64::MAX)?;
                }
                Ok(Map::new())
            }
            "delete_old_segments" => {
                let log = self.log()?;
                let log_start = log.offsets().log_start;
                let deleted = log.delete_old_segments(now_ms)?.len();
                let moved = log.offsets().log_start > log_start;
                self.slips.on_log_start(moved);
                Ok(answers::fields([("deleted", json!(deleted))]))
            }
            "remove_expired_producers" => {
                self.log()?.remove_expired_producers(now_ms);
                Ok(Map::new())
            }
            "take_snapshot" => {
                self.log()?.take_producer_snapshot()?;
                Ok(Map::new())
            }
            "clean" => self.clean(request),
            "update_config" => self.update_config(request),
            "state" => {
                let log = self.log.as_ref().ok_or(Failure::not_open())?;
                answers::state(log, &self.slips)
            }
            _ => Err(Failure::bad_request(format!("unknown op {op}"))),
        }
    }

    fn lower_cleaner_checkpoint(&mut self, offset: i64) {
        self.cleaner_checkpoint = self.cleaner_checkpoint.map(|known| known.min(offset));
    }

    fn log(&mut self) -> Result<&mut Log, Failure> {
        self.log.as_mut().ok_or(Failure::not_open())
    }

    fn partition_dir(&self) -> Result<PathBuf, Failure> {
        let (Some(root), Some(opened)) = (&self.root, &self.opened) else {
            return Err(Failure::bad_request("no log was opened".into()));
        };
        Ok(root.join(opened.partition.to_string()))
    }

    fn read(&mut self, request: &Request) -> Answer {
        let isolation = match request.text("isolation", "log_end").as_str() {
            "log_end" => Isolation::LogEnd,
            "high_watermark" => Isolation::HighWatermark,
            "read_committed" => Isolation::ReadCommitted,
            _ => return Err(Failure::bad_request("isolation is log_end, high_watermark or read_committed".into())),
        };
        let fetch = Fetch {
            offset: request.int("offset")?,
            max_bytes: u64::try_from(request.optional("max_bytes")?.unwrap_or(1 << 20)).unwrap_or(0),
            isolation,
            min_one_batch: request.flag("min_one", true),
        };
        let log = self.log.as_mut().ok_or(Failure::not_open())?;
        if fetch.offset >= log.offsets().log_start {
            self.slips.on_bounded_read(log, isolation)?;
        }
        answers::read(log, &self.slips, &fetch)
    }

    fn maybe_increment_high_watermark(&mut self, request: &Request) -> Answer {
        let offset = request.int("offset")?;
        let log = self.log.as_mut().ok_or(Failure::not_open())?;
        let changed = self.slips.increment_high_watermark(log, offset)?;
        Ok(answers::fields([("changed", json!(changed))]))
    }

    fn offset_for_timestamp(&mut self, request: &Request) -> Answer {
        let query = match request.int("timestamp")? {
            -1 => TimestampQuery::Latest,
            -2 | -4 => TimestampQuery::Earliest,
            -3 => TimestampQuery::MaxTimestamp,
            timestamp if timestamp >= 0 => TimestampQuery::At(timestamp),
            // Nothing is ever in tiered storage.
            _ => return Ok(answers::timestamp_and_offset(None)),
        };
        let found = self.log()?.reader().offset_for_timestamp(query, Isolation::LogEnd)?;
        Ok(answers::timestamp_and_offset(found))
    }
}

/// Reads requests line by line and answers each, until the input ends.
///
/// # Errors
/// What input or output say.
pub fn serve(input: impl std::io::BufRead, mut output: impl std::io::Write) -> std::io::Result<()> {
    let mut driver = Driver::new()?;
    for line in input.lines() {
        let line = line?;
        if !line.trim().is_empty() {
            writeln!(output, "{}", driver.answer(&line))?;
            output.flush()?;
        }
    }
    Ok(())
}
