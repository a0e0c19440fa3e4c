//! redb: a copy-on-write B-tree; each append is a transaction, and they come one after the other.

use super::Offsets;
use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
use redb::{Database, TableDefinition};

const RECORDS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("records");

struct Redb {
    database: Database,
    offsets: Offsets,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    let database = Database::create(setup.dir.join("redb"))?;
    Ok(Box::new(Redb { database, offsets: Offsets::new(setup.case.partitions) }))
}

impl DurableLog for Redb {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        // Durability::Immediate is its default.
        let transaction = self.database.begin_write()?;
        let key = (partition as u64, self.offsets.take(partition));
        transaction.open_table(RECORDS)?.insert(key, batch)?;
        Ok(transaction.commit()?)
    }
}
