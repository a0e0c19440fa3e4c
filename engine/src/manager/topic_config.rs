//! Changing the configuration of a topic while its logs are open.

use super::{LogManager, Partition, partition::ByName};
use crate::config::{ConfigError, LogConfig};
use std::sync::{Arc, PoisonError};

impl LogManager {
    /// Gives all partitions of a topic whose logs are open another configuration, one after the other; how many there were.
    /// It holds for what is appended, rolled, cleaned and deleted from then on; what is written stays as it is
    /// (`UnifiedLog.updateConfig`). Waits for no sync, but for each partition's append under way.
    ///
    /// A log that is opened later goes by the configuration with which it is opened: a host that changes one gives the new
    /// one to [`LogManager::get_or_create`] from before this call on.
    ///
    /// ```
    /// use duramen::{LogConfig, LogManager, ManagerOptions, TopicPartition};
    /// # let dir = tempfile::tempdir()?;
    /// let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &LogConfig::default())?;
    /// let hourly = LogConfig { segment_ms: 3_600_000, ..LogConfig::default() };
    /// assert_eq!(manager.set_topic_config("orders", &hourly)?, 1);
    /// assert_eq!(orders.with(|log| log.config().segment_ms)?, 3_600_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] as [`LogConfig::validate`]: nothing is changed then.
    pub fn set_topic_config(&self, topic: &str, config: &LogConfig) -> Result<usize, ConfigError> {
        config.validate()?;
        let config = self.shared(config);
        let of_topic: Vec<Arc<Partition>> = {
            let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
            let all = partitions.iter().map(|ByName(partition)| partition);
            all.filter(|partition| partition.name().topic() == topic).map(Arc::clone).collect()
        };
        // One that was closed meanwhile needs none.
        let set = of_topic.iter().filter(|partition| partition.with(|log| log.share_config(&config)).is_ok());
        Ok(set.count())
    }
}
