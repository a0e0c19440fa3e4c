//! What the metadata log says of partitions.

use super::{ids, number, uuids};
use crate::metadata::flexible::{Malformed, Reader, Writer};
use duramen::format::uuid::Uuid;

/// A partition as it was made, or as a snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartitionRecord {
    pub(crate) partition_id: i32,
    pub(crate) topic_id: Uuid,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
    pub(crate) removing_replicas: Vec<i32>,
    pub(crate) adding_replicas: Vec<i32>,
    /// -1 is none.
    pub(crate) leader: i32,
    pub(crate) leader_recovery_state: i8,
    pub(crate) leader_epoch: i32,
    pub(crate) partition_epoch: i32,
    pub(crate) directories: Vec<Uuid>,
    pub(crate) eligible_leader_replicas: Option<Vec<i32>>,
    pub(crate) last_known_elr: Option<Vec<i32>>,
}

/// What changed of a partition; `None` is what did not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartitionChange {
    pub(crate) partition_id: i32,
    pub(crate) topic_id: Uuid,
    pub(crate) isr: Option<Vec<i32>>,
    /// -1 is none.
    pub(crate) leader: Option<i32>,
    pub(crate) replicas: Option<Vec<i32>>,
    pub(crate) removing_replicas: Option<Vec<i32>>,
    pub(crate) adding_replicas: Option<Vec<i32>>,
    pub(crate) leader_recovery_state: Option<i8>,
    pub(crate) directories: Option<Vec<Uuid>>,
    pub(crate) eligible_leader_replicas: Option<Vec<i32>>,
    pub(crate) last_known_elr: Option<Vec<i32>>,
}

impl PartitionRecord {
    pub(super) fn read(r: &mut Reader<'_>, version: u32) -> Result<Self, Malformed> {
        let mut record = Self {
            partition_id: r.i32()?,
            topic_id: r.uuid()?,
            replicas: r.array(Reader::i32)?,
            isr: r.array(Reader::i32)?,
            removing_replicas: r.array(Reader::i32)?,
            adding_replicas: r.array(Reader::i32)?,
            leader: r.i32()?,
            leader_epoch: r.i32()?,
            partition_epoch: r.i32()?,
            directories: if version >= 1 { r.array(Reader::uuid)? } else { Vec::new() },
            ..Self::default()
        };
        r.tagged(|tag, field| {
            match tag {
                0 => record.leader_recovery_state = field.i8()?,
                1 => record.eligible_leader_replicas = field.nullable_array(Reader::i32)?,
                2 => record.last_known_elr = field.nullable_array(Reader::i32)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.partition_id);
        w.uuid(self.topic_id);
        for replicas in [&self.replicas, &self.isr, &self.removing_replicas, &self.adding_replicas] {
            w.array(replicas, |w, id| w.i32(*id));
        }
        w.i32(self.leader);
        w.i32(self.leader_epoch);
        w.i32(self.partition_epoch);
        if version >= 1 {
            w.array(&self.directories, |w, id| w.uuid(*id));
        }
        let list = |list: &Option<Vec<i32>>| list.as_ref().filter(|_| version >= 2).map(|list| ids(list));
        w.tagged([
            (0, (self.leader_recovery_state != 0).then(|| number(self.leader_recovery_state))),
            (1, list(&self.eligible_leader_replicas)),
            (2, list(&self.last_known_elr)),
        ]);
    }
}

impl PartitionChange {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut record = Self { partition_id: r.i32()?, topic_id: r.uuid()?, ..Self::default() };
        r.tagged(|tag, field| {
            match tag {
                0 => record.isr = field.nullable_array(Reader::i32)?,
                1 => record.leader = Some(field.i32()?).filter(|leader| *leader != -2),
                2 => record.replicas = field.nullable_array(Reader::i32)?,
                3 => record.removing_replicas = field.nullable_array(Reader::i32)?,
                4 => record.adding_replicas = field.nullable_array(Reader::i32)?,
                5 => record.leader_recovery_state = Some(field.i8()?).filter(|state| *state != -1),
                6 => record.eligible_leader_replicas = field.nullable_array(Reader::i32)?,
                7 => record.last_known_elr = field.nullable_array(Reader::i32)?,
                8 => record.directories = field.nullable_array(Reader::uuid)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.partition_id);
        w.uuid(self.topic_id);
        let list = |list: &Option<Vec<i32>>, since| list.as_ref().filter(|_| version >= since).map(|list| ids(list));
        w.tagged([
            (0, list(&self.isr, 0)),
            (1, self.leader.map(|leader| Writer::field(|w| w.i32(leader)))),
            (2, list(&self.replicas, 0)),
            (3, list(&self.removing_replicas, 0)),
            (4, list(&self.adding_replicas, 0)),
            (5, self.leader_recovery_state.map(number)),
            (6, list(&self.eligible_leader_replicas, 2)),
            (7, list(&self.last_known_elr, 2)),
            (8, self.directories.as_ref().filter(|_| version >= 1).map(|directories| uuids(directories))),
        ]);
    }
}
