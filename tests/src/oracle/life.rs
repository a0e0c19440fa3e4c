//! Opening, closing and crashing the log, and what Kafka's checkpoint files would remember in between.

use super::{
    Answer, Driver, Opened, Remembered, START_MS,
    answers::Failure,
    request::{self, Request},
    slips::Slips,
};
use duramen::{
    Checkpoints, Log, OnCorruption, OpenOptions, TopicPartition,
    storage::{self, Posix, Storage},
};
use serde_json::{Map, Value};
use std::{path::PathBuf, sync::Arc};

impl Driver {
    pub(super) fn reset(&mut self, request: &Request) -> Answer {
        self.log = None;
        let dir = PathBuf::from(request.text("dir", ""));
        std::fs::create_dir_all(&dir)?;
        if std::fs::read_dir(&dir)?.next().is_some() {
            return Err(Failure::bad_request("reset needs a directory that is empty or absent".into()));
        }
        self.root = Some(dir);
        self.opened = None;
        self.cleaner_checkpoint = None;
        self.remembered = Remembered::default();
        self.slips = Slips::default();
        self.now_ms = request.optional("now_ms")?.unwrap_or(START_MS);
        Ok(Map::new())
    }

    pub(super) fn open(&mut self, request: &Request) -> Answer {
        if self.log.is_some() || self.root.is_none() {
            return Err(Failure::bad_request("a log is open, or there was no reset".into()));
        }
        let number = i32::try_from(request.optional("partition")?.unwrap_or(0)).unwrap_or(-1);
        let partition = TopicPartition::new(&request.text("topic", "t"), number)
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        self.opened = Some(Opened {
            partition,
            config: request.object("config"),
            topic_id: request.0.get("topic_id").and_then(Value::as_str).map(str::to_owned),
            verification: request.flag("transaction_verification", false),
            expiration_ms: request.optional("producer_id_expiration_ms")?.unwrap_or(86_400_000),
        });
        if let Some(now_ms) = request.optional("now_ms")? {
            self.now_ms = now_ms;
        }
        self.remembered = Remembered::default();
        self.take_checkpoints(request)?;
        self.load(request.flag("clean_shutdown", false))
    }

    pub(super) fn reopen(&mut self, request: &Request) -> Answer {
        let (None, Some(opened)) = (&self.log, &mut self.opened) else {
            return Err(Failure::bad_request("reopen needs a log that was closed or crashed".into()));
        };
        opened.config.extend(request.object("config"));
        self.take_checkpoints(request)?;
        self.load(request.flag("clean_shutdown", self.ended_clean))
    }

    pub(super) fn take_checkpoints(&mut self, request: &Request) -> Result<(), Failure> {
        let known = self.remembered;
        self.remembered = Remembered {
            recovery_point: request.optional("recovery_point")?.unwrap_or(known.recovery_point),
            log_start: request.optional("log_start_offset")?.unwrap_or(known.log_start),
            high_watermark: request.optional("high_watermark")?.unwrap_or(known.high_watermark),
        };
        Ok(())
    }

    pub(super) fn load(&mut self, clean: bool) -> Answer {
        let opened = self.opened.clone().ok_or(Failure::not_open())?;
        let root = self.root.clone().ok_or(Failure::not_open())?;
        let (disk, _) = storage::open_best(&root)?;
        let options = OpenOptions {
            clean,
            high_watermark: self.remembered.high_watermark,
            producer_id_expiration_ms: opened.expiration_ms,
            verify_transactions: opened.verification,
            on_corruption: OnCorruption::Truncate,
            replay_lost_producers: false,
            ..OpenOptions::new(request::log_config(&opened.config)?, self.now_ms)
        };
        let checkpoints = self.checkpoints_of(&opened.partition)?;
        self.guards.clear();
        let (mut log, _) = Log::open(&disk, &checkpoints, &opened.partition, &options, &mut |_| {})?;
        if let Some(topic_id) = &opened.topic_id {
            log.assign_topic_id(topic_id.parse().map_err(|_| Failure::bad_request("not a topic id".into()))?)?;
        }
        let (offset, offsets) = (self.remembered.high_watermark, log.offsets());
        self.slips.on_high_watermark_set(offset < offsets.log_start || offset < offsets.log_end);
        self.log = Some(log);
        Ok(Map::new())
    }

    /// Checkpoints that say what this driver remembers.
    pub(super) fn checkpoints_of(&self, partition: &TopicPartition) -> Result<Arc<Checkpoints>, Failure> {
        let disk: Arc<dyn Storage> = Arc::new(Posix::open(self.checkpoints.path())?);
        let checkpoints = Checkpoints::empty(disk);
        let log_start = (self.remembered.log_start != 0).then_some(self.remembered.log_start);
        checkpoints.write(&[(partition.clone(), self.remembered.recovery_point, log_start)])?;
        Ok(Arc::new(checkpoints))
    }

    pub(super) fn close(&mut self) -> Answer {
        let log = self.log.take().ok_or(Failure::not_open())?;
        // As Kafka writes them, also where the log ends in a gap: it then begins anew at the next open.
        let (first_base, offsets) = (log.first_base_offset(), log.offsets());
        log.close()?;
        self.remembered = Remembered {
            recovery_point: offsets.log_end,
            log_start: if offsets.log_start > first_base { offsets.log_start } else { 0 },
            high_watermark: self.slips.high_watermark(&offsets),
        };
        self.ended_clean = true;
        Ok(Map::new())
    }

    pub(super) fn crash(&mut self) -> Answer {
        self.log.take().ok_or(Failure::not_open())?;
        self.ended_clean = false;
        Ok(Map::new())
    }

    pub(super) fn remember(&mut self) {
        if let Some(log) = &self.log {
            let (offsets, first_base) = (log.offsets(), log.first_base_offset());
            self.remembered = Remembered {
                recovery_point: offsets.recovery_point,
                log_start: if offsets.log_start > first_base { offsets.log_start } else { 0 },
                high_watermark: self.slips.high_watermark(&offsets),
            };
        }
    }

    pub(super) fn update_config(&mut self, request: &Request) -> Answer {
        let opened = self.opened.as_mut().ok_or(Failure::not_open())?;
        opened.config.extend(request.object("config"));
        let config = request::log_config(&opened.config)?;
        self.log()?.set_config(config);
        Ok(Map::new())
    }
}
