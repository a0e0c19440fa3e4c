//! RocksDB: an LSM tree whose threads share the syncs of its write-ahead log.

use super::Offsets;
use crate::{
    Failure,
    durable::subject::{DurableLog, Setup},
};
use rocksdb::{DB, WriteOptions};

struct RocksDb {
    database: DB,
    offsets: Offsets,
}

pub(super) fn open(setup: &Setup<'_>) -> Result<Box<dyn DurableLog>, Failure> {
    let database = DB::open_default(setup.dir)?;
    Ok(Box::new(RocksDb { database, offsets: Offsets::new(setup.case.partitions) }))
}

impl DurableLog for RocksDb {
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.database.put_opt(self.offsets.take_key(partition), batch, &options)?)
    }
}
