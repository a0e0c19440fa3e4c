//! Many threads, each of which waits until its append survives power loss: they share the journal's writes.

use duramen::{
    AppendAsLeader, Durability, LogConfig, LogManager, ManagerOptions, TopicPartition, ValidationPolicy,
    format::builder::BatchBuilder, validate,
};
use std::{
    error::Error,
    thread,
    time::{Instant, SystemTime},
};

type Failure = Box<dyn Error + Send + Sync>;

const THREADS: i32 = 8;
const APPENDS: u64 = 500;

fn append_all(manager: &LogManager, partition: i32, now_ms: i64) -> Result<u64, Failure> {
    let config = LogConfig::default();
    let policy = ValidationPolicy::from_config(&config);
    let partition = manager.get_or_create(&TopicPartition::new("orders", partition)?, &config)?;
    for _ in 0..APPENDS {
        let batch = BatchBuilder::new().record(now_ms, Some(b"key"), Some(b"value")).build()?;
        let batch = validate(batch, &policy, now_ms)?;
        partition.append_as_leader(batch, AppendAsLeader::new(0, now_ms), Durability::Flushed)?.wait(None)?;
    }
    Ok(APPENDS)
}

fn main() -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let manager = LogManager::open(&[home.path()], ManagerOptions::default())?;
    manager.prepare()?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let begun = Instant::now();
    let appends = thread::scope(|scope| -> Result<u64, Failure> {
        let manager = &manager;
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || append_all(manager, n, now_ms))).collect();
        let mut sum = 0;
        for thread in threads {
            sum += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(sum)
    })?;
    let writes = manager.metrics().remove(0).journal_blocks;
    println!("{appends} durable appends in {:?}, in {writes} writes", begun.elapsed());
    manager.close()?;
    Ok(())
}
