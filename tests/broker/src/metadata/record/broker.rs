//! What the metadata log says of brokers.

use super::{number, uuids};
use crate::metadata::flexible::{Malformed, Reader, Writer};
use duramen::format::uuid::Uuid;

/// A broker announced itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RegisterBroker {
    pub(crate) broker_id: i32,
    pub(crate) is_migrating_zk_broker: bool,
    pub(crate) incarnation_id: Uuid,
    pub(crate) broker_epoch: i64,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Name, and the lowest and highest level that the broker supports.
    pub(crate) features: Vec<(String, i16, i16)>,
    pub(crate) rack: Option<String>,
    pub(crate) fenced: bool,
    pub(crate) in_controlled_shutdown: bool,
    pub(crate) log_dirs: Vec<Uuid>,
    pub(crate) cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// Where a broker is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security_protocol: i16,
}

/// What changed of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BrokerRegistrationChange {
    pub(crate) broker_id: i32,
    pub(crate) broker_epoch: i64,
    /// -1 it was unfenced, 1 it was fenced, 0 neither.
    pub(crate) fenced: i8,
    pub(crate) in_controlled_shutdown: i8,
    pub(crate) log_dirs: Vec<Uuid>,
    pub(crate) cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl RegisterBroker {
    pub(super) fn read(r: &mut Reader<'_>, version: u32) -> Result<Self, Malformed> {
        let mut record = Self {
            broker_id: r.i32()?,
            is_migrating_zk_broker: version >= 2 && r.bool()?,
            incarnation_id: r.uuid()?,
            broker_epoch: r.i64()?,
            endpoints: r.array(Endpoint::read)?,
            features: r.array(|r| {
                let feature = (r.string()?, r.i16()?, r.i16()?);
                r.no_tagged()?;
                Ok(feature)
            })?,
            rack: r.nullable_string()?,
            fenced: r.bool()?,
            in_controlled_shutdown: version >= 1 && r.bool()?,
            ..Self::default()
        };
        r.tagged(|tag, field| {
            match tag {
                0 => record.log_dirs = field.array(Reader::uuid)?,
                1 => record.cordoned_log_dirs = field.nullable_array(Reader::uuid)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.broker_id);
        if version >= 2 {
            w.bool(self.is_migrating_zk_broker);
        }
        w.uuid(self.incarnation_id);
        w.i64(self.broker_epoch);
        w.array(&self.endpoints, |w, endpoint| endpoint.write(w));
        w.array(&self.features, |w, (name, min, max)| {
            w.string(name);
            w.i16(*min);
            w.i16(*max);
            w.tagged([]);
        });
        w.nullable_string(self.rack.as_deref());
        w.bool(self.fenced);
        if version >= 1 {
            w.bool(self.in_controlled_shutdown);
        }
        let log_dirs = (version >= 3 && !self.log_dirs.is_empty()).then(|| uuids(&self.log_dirs));
        let cordoned = self.cordoned_log_dirs.as_ref().filter(|_| version >= 4);
        w.tagged([(0, log_dirs), (1, cordoned.map(|dirs| uuids(dirs)))]);
    }
}

impl Endpoint {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let endpoint = Self { name: r.string()?, host: r.string()?, port: r.u16()?, security_protocol: r.i16()? };
        r.no_tagged()?;
        Ok(endpoint)
    }

    fn write(&self, w: &mut Writer) {
        w.string(&self.name);
        w.string(&self.host);
        w.u16(self.port);
        w.i16(self.security_protocol);
        w.tagged([]);
    }
}

impl BrokerRegistrationChange {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut record = Self { broker_id: r.i32()?, broker_epoch: r.i64()?, ..Self::default() };
        r.tagged(|tag, field| {
            match tag {
                0 => record.fenced = field.i8()?,
                1 => record.in_controlled_shutdown = field.i8()?,
                2 => record.log_dirs = field.array(Reader::uuid)?,
                3 => record.cordoned_log_dirs = field.nullable_array(Reader::uuid)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }

    pub(super) fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.broker_id);
        w.i64(self.broker_epoch);
        let shutdown = self.in_controlled_shutdown;
        let log_dirs = (version >= 2 && !self.log_dirs.is_empty()).then(|| uuids(&self.log_dirs));
        let cordoned = self.cordoned_log_dirs.as_ref().filter(|_| version >= 3);
        w.tagged([
            (0, (self.fenced != 0).then(|| number(self.fenced))),
            (1, (version >= 1 && shutdown != 0).then(|| number(shutdown))),
            (2, log_dirs),
            (3, cordoned.map(|dirs| uuids(dirs))),
        ]);
    }
}
