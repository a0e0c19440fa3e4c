//! Appending batches, and verifying transactions.

use super::{
    Answer, Driver,
    answers::{self, Failure},
    request::Request,
};
use duramen::{
    AppendAsLeader, AppendOrigin, LogError, ValidationPolicy, VerifiedProducer,
    format::{builder, control::EndTxnMarker},
    validate,
};
use serde_json::json;

impl Driver {
    pub(super) fn append(&mut self, request: &Request) -> Answer {
        let bytes = request.hex("hex")?;
        let origin = match request.text("origin", "client").as_str() {
            "client" => AppendOrigin::Client,
            "coordinator" => AppendOrigin::Coordinator,
            "raft_leader" => AppendOrigin::RaftLeader,
            _ => return Err(Failure::bad_request("origin is client, coordinator or raft_leader".into())),
        };
        let number = usize::try_from(request.optional("guard")?.unwrap_or(0)).unwrap_or(0);
        let guard = number.checked_sub(1).and_then(|index| self.guards.get(index)).copied();
        let append = self.leader_append(request)?.with_guard(guard);
        self.append_as_leader(bytes, origin, append)
    }

    pub(super) fn leader_append(&self, request: &Request) -> Result<AppendAsLeader, Failure> {
        let epoch = i32::try_from(request.optional("leader_epoch")?.unwrap_or(0)).unwrap_or(-1);
        let version = i16::try_from(request.optional("transaction_version")?.unwrap_or(0)).unwrap_or(-1);
        Ok(AppendAsLeader::new(epoch, self.now_ms).with_transaction_version(version))
    }

    pub(super) fn append_as_leader(&mut self, bytes: Vec<u8>, origin: AppendOrigin, append: AppendAsLeader) -> Answer {
        let now_ms = self.now_ms;
        let log = self.log.as_mut().ok_or(Failure::not_open())?;
        let policy = ValidationPolicy::from_config(&log.config()).with_origin(origin);
        let received = answers::received(&bytes);
        let info = match validate(bytes, &policy, now_ms) {
            Err(LogError::NothingToAppend) => return Ok(answers::nothing_appended(log)),
            validated => log.append_as_leader(validated?, append)?,
        };
        self.slips.on_append(log);
        Ok(answers::append_info(&info, received))
    }

    pub(super) fn append_as_follower(&mut self, request: &Request) -> Answer {
        let bytes = request.hex("hex")?;
        let epoch = i32::try_from(request.optional("leader_epoch")?.unwrap_or(0)).unwrap_or(-1);
        let now_ms = self.now_ms;
        let log = self.log.as_mut().ok_or(Failure::not_open())?;
        let Some(info) = log.append_as_follower(&bytes, epoch, now_ms)? else {
            return Ok(answers::nothing_appended(log));
        };
        let received = answers::received(bytes.get(..usize::try_from(info.bytes).unwrap_or(0)).unwrap_or_default());
        self.slips.on_append(log);
        Ok(answers::append_info(&info, received))
    }

    pub(super) fn end_txn(&mut self, request: &Request) -> Answer {
        let producer_id = request.int("producer_id")?;
        let producer_epoch = i16::try_from(request.optional("producer_epoch")?.unwrap_or(0)).unwrap_or(-1);
        let marker = EndTxnMarker {
            committed: request.text("control", "") == "commit",
            coordinator_epoch: i32::try_from(request.optional("coordinator_epoch")?.unwrap_or(0)).unwrap_or(-1),
        };
        let timestamp = request.optional("timestamp")?.unwrap_or(self.now_ms);
        let bytes = builder::end_txn_marker(producer_id, producer_epoch, marker, timestamp)
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let append = self.leader_append(request)?;
        self.append_as_leader(bytes, AppendOrigin::Coordinator, append)
    }

    pub(super) fn start_verification(&mut self, request: &Request) -> Answer {
        let producer = VerifiedProducer {
            producer_id: request.int("producer_id")?,
            producer_epoch: i16::try_from(request.optional("producer_epoch")?.unwrap_or(0)).unwrap_or(-1),
            sequence: i32::try_from(request.optional("sequence")?.unwrap_or(0)).unwrap_or(-1),
            supports_epoch_bump: request.flag("supports_epoch_bump", false),
        };
        let now_ms = self.now_ms;
        let guard = self.log()?.start_transaction_verification(producer, now_ms)?;
        let number = guard.map_or(0, |guard| {
            let known = self.guards.iter().position(|known| *known == guard);
            known.unwrap_or_else(|| {
                self.guards.push(guard);
                self.guards.len() - 1
            }) + 1
        });
        Ok(answers::fields([("guard", json!(number))]))
    }
}
