//! Reading a log from one end to the other, for those who want what is in it and not its bytes: a host that builds its state
//! from a log when it starts, a tool.

use super::{
    error::LogError,
    read::{Fetch, Isolation, LogReader},
};
use crate::{
    format::{
        batch::{Batch, Batches},
        names,
    },
    storage::StorageError,
    types::Offset,
};
use std::path::Path;

/// Bytes that are read at a time; a larger batch is read whole.
const READ_BYTES: u64 = 1 << 20;

impl LogReader {
    /// Gives every batch to `each`, in order: from the one that holds offset `from`, inclusive, to where `isolation` sees when
    /// this begins. Returns the offset behind the last of them; `from` if there is none. Batches of aborted transactions and
    /// control batches are among them; checksums are not looked at. Takes no more memory than the largest batch, or 1 MiB.
    ///
    /// ```
    /// # use duramen::{Isolation, LogConfig, LogError, LogManager, ManagerOptions, TopicPartition, ValidationPolicy};
    /// # use duramen::{AppendAsLeader, Durability, format::builder::BatchBuilder, validate};
    /// # let dir = tempfile::tempdir()?;
    /// # let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// # let config = LogConfig::default();
    /// # let partition = manager.get_or_create(&TopicPartition::new("settings", 0)?, &config)?;
    /// # let bytes = BatchBuilder::new().record(1_700_000_000_000, Some(b"colour"), Some(b"amber")).build()?;
    /// # let batch = validate(bytes, &ValidationPolicy::from_config(&config), 1_700_000_000_000)?;
    /// # partition.append_as_leader(batch, AppendAsLeader::new(0, 1_700_000_000_000), Durability::Written)?;
    /// let mut settings = std::collections::HashMap::new();
    /// let mut scratch = Vec::new();
    /// partition.reader().for_each_batch(0, Isolation::LogEnd, |batch| {
    ///     for record in batch.records(&mut scratch, 1 << 20)? {
    ///         let record = record?;
    ///         settings.insert(record.key().map(<[u8]>::to_vec), record.value().map(<[u8]>::to_vec));
    ///     }
    ///     Ok::<(), LogError>(())
    /// })?;
    /// assert_eq!(settings.len(), 1);
    /// # manager.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `each` fails with, which ends it; [`LogError::Format`] where a batch cannot be read; otherwise as
    /// [`LogReader::read`], [`LogError::OffsetOutOfRange`] also when retention overtakes it.
    pub fn for_each_batch<E: From<LogError>>(
        &self,
        from: Offset,
        isolation: Isolation,
        mut each: impl FnMut(&Batch<'_>) -> Result<(), E>,
    ) -> Result<Offset, E> {
        let offsets = self.offsets();
        let end = match isolation {
            Isolation::LogEnd => offsets.log_end,
            Isolation::HighWatermark => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        let mut next = from;
        while next < end {
            let before = next;
            let fetch = Fetch { offset: next, max_bytes: READ_BYTES, isolation, min_one_batch: true };
            for batch in Batches::new(&self.bytes(fetch)?) {
                let batch = batch.map_err(LogError::from)?;
                if batch.header().base_offset() >= end {
                    return Ok(next);
                }
                next = batch.header().next_offset();
                each(&batch)?;
            }
            if next == before {
                break;
            }
        }
        Ok(next)
    }

    fn bytes(&self, fetch: Fetch) -> Result<Vec<u8>, LogError> {
        let fetched = self.read(fetch)?;
        let (Some(records), Some(start)) = (fetched.records, fetched.start) else { return Ok(Vec::new()) };
        records.to_vec().map_err(|error| {
            let file = names::log(start.segment_base_offset);
            StorageError::new("read", &Path::new(&self.partition().to_string()).join(file), error).into()
        })
    }
}
