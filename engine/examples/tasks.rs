//! Tasks of an async runtime (tokio here, any will do): an append is a plain future.

use duramen::{
    Append, AppendAsLeader, Durability, Fetch, HighWatermarkPolicy, LogConfig, LogManager, LongPoll, ManagerOptions,
    Partition, TopicPartition, TryAppendError, ValidatedBatch, ValidationPolicy, format::builder::BatchBuilder,
    validate,
};
use std::{error::Error, sync::Arc, time::SystemTime};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let options = ManagerOptions { high_watermark: HighWatermarkPolicy::LogEnd, ..ManagerOptions::default() };
    let manager = LogManager::open(&[home.path()], options)?;
    let config = LogConfig::default();
    let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &config)?;
    let reader = Arc::clone(&orders);
    // A consumer that waits for bytes ...
    let consumer = tokio::spawn(async move {
        let mut poll = LongPoll::new(1);
        reader.read_or_watch(Fetch::from(0), &mut poll)?;
        poll.await?;
        Ok::<u64, Box<dyn Error + Send + Sync>>(reader.read(Fetch::from(0))?.len())
    });
    tokio::task::yield_now().await;
    // ... and a producer that waits for durability.
    let now_ms = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let batch = BatchBuilder::new().record(now_ms, Some(b"key"), Some(b"value")).build()?;
    let batch = validate(batch, &ValidationPolicy::from_config(&config), now_ms)?;
    let info = append(&orders, batch, now_ms).await?.await?;
    let read = consumer.await?.map_err(|error| error.to_string())?;
    println!("offset {} is durable; the consumer read {read} bytes", info.first_offset);
    drop(orders);
    manager.close()?;
    Ok(())
}

/// Appends. Where the directory has too much on its way to the disk the task waits, not the runtime's thread.
async fn append(partition: &Partition, mut batch: ValidatedBatch, now_ms: i64) -> Result<Append, Box<dyn Error>> {
    loop {
        match partition.try_append_as_leader(batch, AppendAsLeader::new(0, now_ms), Durability::Flushed) {
            Err(TryAppendError::Busy(again)) => batch = again,
            result => return Ok(result?),
        }
        partition.room(batch.bytes().len())?.await?;
    }
}
