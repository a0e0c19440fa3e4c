//! What a user would link otherwise, each set up as its documentation says for synchronous durability, with as many logs
//! as there are partitions mapped in the way that is natural to it.

mod commitlog;
mod fjall;
mod okaywal;
mod raft_engine;
mod redb;
#[cfg(feature = "peers-rocksdb")]
mod rocksdb;
mod walrus;

use crate::{
    Failure,
    durable::subject::{Role, Subject},
};
use std::{
    os::unix::process::CommandExt,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

/// All that are built in.
pub(crate) fn all() -> Vec<Subject> {
    vec![
        Subject::threads(
            "raft-engine",
            Role::RaftEngine,
            raft_engine::open,
            "a region for each partition; the appends to a region wait for each other, as its indexes must be in order",
        ),
        #[cfg(feature = "peers-rocksdb")]
        Subject::threads("RocksDB", Role::Other, rocksdb::open, "keys of partition and offset; WriteOptions: sync"),
        Subject::threads("okaywal", Role::Other, okaywal::open, "one log for all partitions, nothing behind it"),
        Subject::threads(
            "walrus-rust",
            Role::Other,
            walrus::open,
            "a topic for each partition; FsyncSchedule::SyncEach",
        ),
        Subject::threads("fjall", Role::Other, fjall::open, "keys of partition and offset; PersistMode::SyncData"),
        Subject::threads(
            "redb",
            Role::Other,
            redb::open,
            "keys of partition and offset; a transaction for each append",
        ),
        Subject::threads(
            "commitlog",
            Role::Other,
            commitlog::open,
            "NOT DURABLE: it has no sync of what is appended; flush() syncs only its index",
        ),
    ]
}

/// walrus-rust prints what it does unless this is in the environment, so the program begins once more with it.
pub(crate) fn silence() -> Result<(), Failure> {
    const QUIET: &str = "WALRUS_QUIET";
    if std::env::var_os(QUIET).is_some() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    arguments.next();
    Err(Command::new(std::env::current_exe()?).args(arguments).env(QUIET, "1").exec().into())
}

/// The next offset of each partition, for peers that are not logs.
#[derive(Debug)]
struct Offsets(Vec<AtomicU64>);

impl Offsets {
    fn new(partitions: usize) -> Self {
        Self((0..partitions).map(|_| AtomicU64::new(0)).collect())
    }

    fn take(&self, partition: usize) -> u64 {
        self.0.get(partition).map_or(0, |next| next.fetch_add(1, Ordering::Relaxed))
    }

    /// Partition and offset, in an order that keeps a partition's records together.
    fn take_key(&self, partition: usize) -> [u8; 16] {
        let mut key = [0; 16];
        for (place, word) in key.chunks_mut(8).zip([partition as u64, self.take(partition)]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        key
    }
}
