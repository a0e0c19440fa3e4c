//! fjall: an LSM tree; each append is inserted, and the journal then synced.

use super::Offsets;
use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

struct Fjall {
    database: Database,
    records: Keyspace,
    offsets: Offsets,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    let database = Database::builder(setup.dir).open()?;
    let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, records, offsets: Offsets::new(setup.case.partitions) }))
}

impl DurableLog for Fjall {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        self.records.insert(self.offsets.take_key(partition), batch)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}
