//! The quorum of one that leads the metadata log, as KRaft keeps it.
//!
//! Owns: the control records that KRaft writes into the log and its snapshots, and the text of `quorum-state`. Pure. Keeps: a
//! quorum with anybody else in it is never led: they would have to be asked.

use super::flexible::{Malformed, Reader, Writer};
use duramen::format::{control::ControlType, record::Record, uuid::Uuid};
use serde_json::{Value, json};

/// A member of the quorum: its number, and the id of the directory in which it keeps the log, from `kraft.version` 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Voter {
    pub(super) id: i32,
    pub(super) directory_id: Uuid,
}

/// What log and snapshots say of the quorum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Quorum {
    /// From 1 on the voters are in the log; under 0 they are in the servers' settings alone.
    pub(super) kraft_version: i16,
    /// The voters, if the log tells.
    pub(super) voters: Option<Vec<Voter>>,
}

impl Quorum {
    /// Takes note of a control record.
    ///
    /// # Errors
    /// When its value cannot be read.
    pub(super) fn note(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        let kind = ControlType::decode(record.key().unwrap_or_default());
        let mut reader = Reader::new(record.value().unwrap_or_default());
        match kind.map_err(|_| Malformed("the key of a control record is none"))? {
            ControlType::KraftVersion => {
                reader.i16()?;
                self.kraft_version = reader.i16()?;
            }
            ControlType::KraftVoters => {
                reader.i16()?;
                self.voters = Some(reader.array(voter)?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The message that begins a term of this node's (`LeaderChangeMessage`): key and value of its control record. Of version 0
/// always: Kafka 4.3.0 reads no other (`ControlRecordUtils.LEADER_CHANGE_CURRENT_VERSION`), also from `kraft.version` 1 on.
pub(super) fn leader_change(leader_id: i32) -> ([u8; 4], Vec<u8>) {
    let value = Writer::field(|w| {
        w.i16(0);
        w.i32(leader_id);
        // Who may vote, and who voted for it.
        for _ in 0..2 {
            w.array(&[leader_id], |w, voter_id| {
                w.i32(*voter_id);
                w.tagged([]);
            });
        }
        w.tagged([]);
    });
    (ControlType::LeaderChange.encode(), value)
}

/// One of the voters in a `VotersRecord`.
fn voter(r: &mut Reader<'_>) -> Result<Voter, Malformed> {
    let voter = Voter { id: r.i32()?, directory_id: r.uuid()? };
    r.array(|r| {
        r.string()?;
        r.string()?;
        r.u16()?;
        r.no_tagged()
    })?;
    // The range of versions that it supports, a struct of its own.
    r.i16()?;
    r.i16()?;
    r.no_tagged()?;
    r.no_tagged()?;
    Ok(voter)
}

/// What a node remembers of elections, in `quorum-state` (`FileQuorumStateStore`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct QuorumState {
    /// The last term that the node knows of.
    pub(super) leader_epoch: i32,
    /// The voters by the servers' settings, under `kraft.version` 0.
    pub(super) current_voters: Vec<i32>,
}

impl QuorumState {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When it is none, or of another version than 0 and 1.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let state: Value = serde_json::from_slice(bytes).map_err(|_| Malformed("quorum-state is no JSON"))?;
        let number = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
        if !matches!(number(&state["data_version"]), Some(0 | 1)) {
            return Err(Malformed("quorum-state is of an unknown version"));
        }
        let leader_epoch = number(&state["leaderEpoch"]).ok_or(Malformed("quorum-state has no leaderEpoch"))?;
        let voters = state["currentVoters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let voters = voters.iter().map(|voter| number(&voter["voterId"]));
        let current_voters = voters.collect::<Option<_>>().ok_or(Malformed("quorum-state has a voter without id"))?;
        Ok(Self { leader_epoch, current_voters })
    }

    /// The file's text once this node has begun a term.
    pub(super) fn of_leader(leader_id: i32, leader_epoch: i32, kraft_version: i16) -> Vec<u8> {
        let state = if kraft_version == 0 {
            json!({
                "clusterId": "", "leaderId": leader_id, "leaderEpoch": leader_epoch, "votedId": -1, "appliedOffset": 0,
                "currentVoters": [{"voterId": leader_id}], "data_version": 0,
            })
        } else {
            let nobody = Uuid::ZERO.to_string();
            json!({
                "leaderId": leader_id, "leaderEpoch": leader_epoch, "votedId": -1, "votedDirectoryId": nobody,
                "data_version": 1,
            })
        };
        state.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use duramen::format::{batch::Batch, builder::BatchBuilder};

    const LEADER: Voter = Voter { id: 1, directory_id: Uuid::from_bytes([9; 16]) };

    fn noted(kind: ControlType, value: &[u8]) -> Result<Quorum, Malformed> {
        let bytes = BatchBuilder::new().control().record(0, Some(&kind.encode()), Some(value)).build().unwrap();
        let batch = Batch::parse(&bytes).unwrap();
        let mut scratch = Vec::new();
        let record = batch.records(&mut scratch, 0).unwrap().next().unwrap().unwrap();
        let mut quorum = Quorum::default();
        quorum.note(&record).map(|()| quorum)
    }

    #[test]
    fn leader_change_has_the_bytes_of_kafka() {
        // Kafka 4.3.0, a node 1 alone: version, leader, voters, granting voters.
        let (key, value) = leader_change(1);
        assert_eq!(key, [0, 0, 0, 2]);
        assert_eq!(value, [0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn voters_and_version_are_noted() {
        let version = noted(ControlType::KraftVersion, &[0, 0, 0, 1, 0]).unwrap();
        assert_eq!(version.kraft_version, 1);
        let value = Writer::field(|w| {
            w.i16(0);
            w.array(&[LEADER], |w, voter| {
                w.i32(voter.id);
                w.uuid(voter.directory_id);
                w.array(&[9093], |w, port| {
                    w.string("CONTROLLER");
                    w.string("localhost");
                    w.u16(*port);
                    w.tagged([]);
                });
                w.i16(0);
                w.i16(1);
                w.tagged([]);
                w.tagged([]);
            });
            w.tagged([]);
        });
        assert_eq!(noted(ControlType::KraftVoters, &value).unwrap().voters, Some(vec![LEADER]));
        assert!(noted(ControlType::KraftVoters, &value[..9]).is_err());
        assert_eq!(noted(ControlType::SnapshotFooter, &[0, 0, 0]), Ok(Quorum::default()));
    }

    #[test]
    fn quorum_state_of_kafka_is_read_and_ours_is_the_same() {
        let kafka = r#"{"clusterId":"","leaderId":1,"leaderEpoch":7,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#;
        let state = QuorumState::decode(kafka.as_bytes()).unwrap();
        assert_eq!(state, QuorumState { leader_epoch: 7, current_voters: vec![1] });
        assert_eq!(QuorumState::of_leader(1, 7, 0), kafka.as_bytes());
        let newer = QuorumState::decode(&QuorumState::of_leader(1, 8, 1)).unwrap();
        assert_eq!(newer, QuorumState { leader_epoch: 8, current_voters: vec![] });
    }

    #[test]
    fn damaged_quorum_state_is_refused() {
        for text in ["", "{}", r#"{"leaderEpoch":1,"data_version":2}"#, r#"{"leaderEpoch":-9e9,"data_version":0}"#] {
            assert!(QuorumState::decode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
