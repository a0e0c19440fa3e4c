//! A topic's configuration, as far as it touches a log: Kafka's names, defaults and bounds.
//!
//! Floor 0: plain values. What acts on a value lives above.

mod value;

use crate::error::KafkaErrorCode;
use std::collections::BTreeMap;
use value::Value;

/// What happens to old records. Both may hold, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CleanupPolicy {
    /// Keep the last record of each key.
    pub compact: bool,
    /// Remove segments by age and size.
    pub delete: bool,
}

/// Codec of stored batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    /// None.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    Lz4,
    /// zstd.
    Zstd,
}

/// Whose clock stamps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageTimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// A property that is not Kafka's, or a value outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} = '{value}': {why}")]
pub struct ConfigError {
    /// The property.
    pub name: String,
    /// The value offered.
    pub value: String,
    /// The rule it breaks.
    pub why: String,
}

impl ConfigError {
    /// Kafka's code for this error.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        KafkaErrorCode::InvalidConfig
    }
}

/// Kafka's topic-level properties that touch a log. Fields are in the units of their names; `None` is Kafka's -1.
///
/// ```
/// use duramen::LogConfig;
/// let config = LogConfig::from_properties([("segment.bytes", "1048576"), ("cleanup.policy", "compact")])?;
/// assert_eq!(config.segment_bytes, 1 << 20);
/// assert_eq!(config.get("retention.ms").as_deref(), Some("604800000"));
/// assert!(LogConfig::from_properties([("segment.bytes", "17")]).is_err());
/// # Ok::<(), duramen::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes` (or `internal.segment.bytes`): a segment is rolled before it would exceed this.
    pub segment_bytes: u32,
    /// `segment.ms`: age at which a segment is rolled.
    pub segment_ms: u64,
    /// `segment.jitter.ms`: at most this much earlier, at random.
    pub segment_jitter_ms: u64,
    /// `segment.index.bytes`: size at which an index is full.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: bytes of log between two index entries.
    pub index_interval_bytes: u32,
    /// `flush.messages`: records after which the log is flushed.
    pub flush_messages: u64,
    /// `flush.ms`: age at which unflushed records are flushed.
    pub flush_ms: u64,
    /// `retention.bytes`: size that retention keeps the log at.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: age beyond which segments are removed.
    pub retention_ms: Option<u64>,
    /// `max.message.bytes`: largest batch that a producer may append.
    pub max_message_bytes: u32,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `delete.retention.ms`: how long a tombstone stays after it was first compacted.
    pub delete_retention_ms: u64,
    /// `min.compaction.lag.ms`: age below which records are not compacted.
    pub min_compaction_lag_ms: u64,
    /// `max.compaction.lag.ms`: age by which records are compacted.
    pub max_compaction_lag_ms: u64,
    /// `min.cleanable.dirty.ratio`: share of uncompacted bytes from which on a log is compacted.
    pub min_cleanable_dirty_ratio: f64,
    /// `file.delete.delay.ms`: time between retiring and removing a file.
    pub file_delete_delay_ms: u64,
    /// `preallocate`: reserve a segment's blocks when it is created.
    pub preallocate: bool,
    /// `compression.type`.
    pub compression_type: CompressionType,
    /// `compression.gzip.level`: 1 to 9.
    pub compression_gzip_level: Option<u32>,
    /// `compression.lz4.level`: 1 to 17.
    pub compression_lz4_level: u32,
    /// `compression.zstd.level`: -131072 to 22.
    pub compression_zstd_level: i32,
    /// `message.timestamp.type`.
    pub message_timestamp_type: MessageTimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's time may lie in the past.
    pub message_timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`: how far a record's time may lie in the future.
    pub message_timestamp_after_max_ms: u64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election_enable: bool,
    /// What has no effect here and is kept as text for the host: the properties of tiered storage and of throttling,
    /// and `segment.bytes` while `internal.segment.bytes` is set.
    pub passive: BTreeMap<&'static str, String>,
}

/// `i64::MAX`, Kafka's "never".
const NEVER: u64 = 9_223_372_036_854_775_807;
/// Smallest `segment.bytes` that a topic may have.
const MIN_SEGMENT_BYTES: u32 = 1 << 20;

/// Every name that `set` takes, in Kafka's order.
const NAMES: [&str; 34] = [
    "segment.bytes",
    "segment.ms",
    "segment.jitter.ms",
    "segment.index.bytes",
    "index.interval.bytes",
    "flush.messages",
    "flush.ms",
    "retention.bytes",
    "retention.ms",
    "max.message.bytes",
    "cleanup.policy",
    "delete.retention.ms",
    "min.compaction.lag.ms",
    "max.compaction.lag.ms",
    "min.cleanable.dirty.ratio",
    "file.delete.delay.ms",
    "preallocate",
    "compression.type",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "remote.storage.enable",
    "local.retention.ms",
    "local.retention.bytes",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "internal.segment.bytes",
];

/// The properties without effect here, with Kafka's defaults.
const PASSIVE: [(&str, &str); 7] = [
    ("remote.storage.enable", "false"),
    ("local.retention.ms", "-2"),
    ("local.retention.bytes", "-2"),
    ("remote.log.copy.disable", "false"),
    ("remote.log.delete.on.disable", "false"),
    ("leader.replication.throttled.replicas", ""),
    ("follower.replication.throttled.replicas", ""),
];

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            flush_messages: NEVER,
            flush_ms: NEVER,
            retention_bytes: None,
            retention_ms: Some(604_800_000),
            max_message_bytes: (1 << 20) + 12,
            cleanup_policy: CleanupPolicy { compact: false, delete: true },
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: NEVER,
            min_cleanable_dirty_ratio: 0.5,
            file_delete_delay_ms: 60_000,
            preallocate: false,
            compression_type: CompressionType::Producer,
            compression_gzip_level: None,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            message_timestamp_type: MessageTimestampType::CreateTime,
            message_timestamp_before_max_ms: NEVER,
            message_timestamp_after_max_ms: 3_600_000,
            min_insync_replicas: 1,
            unclean_leader_election_enable: false,
            passive: BTreeMap::new(),
        }
    }
}

impl LogConfig {
    /// The defaults with these properties set, and the whole checked.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown name, a value outside its bounds, or values that contradict each other.
    pub fn from_properties<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (name, value) in properties {
            config.set(name, value)?;
        }
        config.validate()?;
        Ok(config)
    }

    /// The names that [`LogConfig::set`] takes.
    #[must_use]
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Sets one property by Kafka's name. `internal.segment.bytes` has no lower bound and wins over `segment.bytes`,
    /// whichever is set first (`LogConfig.segmentSize`).
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown name or a value outside its bounds; nothing is changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        // Java's idea of white space.
        let value = Value { name, text: text.trim_matches(|c| c <= ' ') };
        match name {
            "segment.bytes" => {
                let bytes: u32 = value.at_least(MIN_SEGMENT_BYTES, MAX_INT)?;
                match self.passive.get_mut("segment.bytes") {
                    Some(shadowed) => *shadowed = bytes.to_string(),
                    None => self.segment_bytes = bytes,
                }
            }
            "internal.segment.bytes" => {
                let bytes = value.at_least(0, MAX_INT)?;
                self.passive.entry("segment.bytes").or_insert_with(|| self.segment_bytes.to_string());
                self.segment_bytes = bytes;
            }
            "segment.ms" => self.segment_ms = value.at_least(1, NEVER)?,
            "segment.jitter.ms" => self.segment_jitter_ms = value.at_least(0, NEVER)?,
            "segment.index.bytes" => self.segment_index_bytes = value.at_least(4, MAX_INT)?,
            "index.interval.bytes" => self.index_interval_bytes = value.at_least(0, MAX_INT)?,
            "flush.messages" => self.flush_messages = value.at_least(1, NEVER)?,
            "flush.ms" => self.flush_ms = value.at_least(0, NEVER)?,
            "retention.bytes" => self.retention_bytes = value.or_unlimited(i64::MIN)?,
            "retention.ms" => self.retention_ms = value.or_unlimited(-1)?,
            "max.message.bytes" => self.max_message_bytes = value.at_least(0, MAX_INT)?,
            "cleanup.policy" => self.cleanup_policy = value.cleanup_policy()?,
            "delete.retention.ms" => self.delete_retention_ms = value.at_least(0, NEVER)?,
            "min.compaction.lag.ms" => self.min_compaction_lag_ms = value.at_least(0, NEVER)?,
            "max.compaction.lag.ms" => self.max_compaction_lag_ms = value.at_least(1, NEVER)?,
            "min.cleanable.dirty.ratio" => self.min_cleanable_dirty_ratio = value.at_least(0.0, 1.0)?,
            "file.delete.delay.ms" => self.file_delete_delay_ms = value.at_least(0, NEVER)?,
            "preallocate" => self.preallocate = value.boolean()?,
            "compression.type" => self.compression_type = value.one_of(&COMPRESSION_TYPES)?,
            "compression.gzip.level" => {
                let level = value.at_least(-1_i32, 9)?;
                self.compression_gzip_level = match level {
                    0 => return Err(value.error("it is -1, or 1 to 9")),
                    _ => u32::try_from(level).ok(),
                };
            }
            "compression.lz4.level" => self.compression_lz4_level = value.at_least(1, 17)?,
            "compression.zstd.level" => self.compression_zstd_level = value.at_least(-131_072, 22)?,
            "message.timestamp.type" => self.message_timestamp_type = value.one_of(&TIMESTAMP_TYPES)?,
            "message.timestamp.before.max.ms" => self.message_timestamp_before_max_ms = value.at_least(0, NEVER)?,
            "message.timestamp.after.max.ms" => self.message_timestamp_after_max_ms = value.at_least(0, NEVER)?,
            "min.insync.replicas" => self.min_insync_replicas = value.at_least(1, MAX_INT)?,
            "unclean.leader.election.enable" => self.unclean_leader_election_enable = value.boolean()?,
            _ => self.set_passive(&value)?,
        }
        Ok(())
    }

    fn set_passive(&mut self, value: &Value<'_>) -> Result<(), ConfigError> {
        let Some((name, _)) = PASSIVE.iter().find(|(name, _)| *name == value.name) else {
            return Err(value.error("there is no such property"));
        };
        let text = match *name {
            "local.retention.ms" | "local.retention.bytes" => value.at_least(-2_i64, i64::MAX)?.to_string(),
            name if name.starts_with("remote.") => value.boolean()?.to_string(),
            _ => value.replicas()?,
        };
        self.passive.insert(name, text);
        Ok(())
    }

    /// The value of a property as Kafka writes it; `None` for an unknown name, and for `internal.segment.bytes` while
    /// it is not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        fn signed(value: Option<u64>) -> String {
            value.map_or("-1".to_owned(), |value| value.to_string())
        }
        Some(match name {
            "segment.bytes" => self.passive.get("segment.bytes").cloned().unwrap_or(self.segment_bytes.to_string()),
            "internal.segment.bytes" => {
                self.passive.get("segment.bytes")?;
                self.segment_bytes.to_string()
            }
            "segment.ms" => self.segment_ms.to_string(),
            "segment.jitter.ms" => self.segment_jitter_ms.to_string(),
            "segment.index.bytes" => self.segment_index_bytes.to_string(),
            "index.interval.bytes" => self.index_interval_bytes.to_string(),
            "flush.messages" => self.flush_messages.to_string(),
            "flush.ms" => self.flush_ms.to_string(),
            "retention.bytes" => signed(self.retention_bytes),
            "retention.ms" => signed(self.retention_ms),
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "cleanup.policy" => match self.cleanup_policy {
                CleanupPolicy { compact: true, delete: true } => "compact,delete",
                CleanupPolicy { compact: true, delete: false } => "compact",
                CleanupPolicy { compact: false, delete: true } => "delete",
                CleanupPolicy { compact: false, delete: false } => "",
            }
            .to_owned(),
            "delete.retention.ms" => self.delete_retention_ms.to_string(),
            "min.compaction.lag.ms" => self.min_compaction_lag_ms.to_string(),
            "max.compaction.lag.ms" => self.max_compaction_lag_ms.to_string(),
            "min.cleanable.dirty.ratio" => java_double(self.min_cleanable_dirty_ratio),
            "file.delete.delay.ms" => self.file_delete_delay_ms.to_string(),
            "preallocate" => self.preallocate.to_string(),
            "compression.type" => name_of(&COMPRESSION_TYPES, self.compression_type),
            "compression.gzip.level" => signed(self.compression_gzip_level.map(u64::from)),
            "compression.lz4.level" => self.compression_lz4_level.to_string(),
            "compression.zstd.level" => self.compression_zstd_level.to_string(),
            "message.timestamp.type" => name_of(&TIMESTAMP_TYPES, self.message_timestamp_type),
            "message.timestamp.before.max.ms" => self.message_timestamp_before_max_ms.to_string(),
            "message.timestamp.after.max.ms" => self.message_timestamp_after_max_ms.to_string(),
            "min.insync.replicas" => self.min_insync_replicas.to_string(),
            "unclean.leader.election.enable" => self.unclean_leader_election_enable.to_string(),
            _ => {
                let (_, default) = PASSIVE.iter().find(|(known, _)| *known == name)?;
                self.passive.get(name).map_or((*default).to_owned(), Clone::clone)
            }
        })
    }

    /// Checks every value against its bounds, as [`LogConfig::set`] does, and what no property alone can tell
    /// (`LogConfig.validateValues` and `validateTopicLogConfigValues`). A field `segment_bytes` that was given a value by hand
    /// counts as `internal.segment.bytes`. Whether the cluster has tiered storage at all, and what a topic was before, is the
    /// host's to check.
    ///
    /// ```
    /// use duramen::LogConfig;
    /// let never_cleaned = LogConfig { min_cleanable_dirty_ratio: f64::NAN, ..LogConfig::default() };
    /// assert_eq!(never_cleaned.validate().unwrap_err().name, "min.cleanable.dirty.ratio");
    /// ```
    ///
    /// # Errors
    /// [`ConfigError`] when a value is outside its bounds, or two contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_bounds()?;
        let error = |name: &str, why: &str| {
            let value = self.get(name).unwrap_or_default();
            Err(ConfigError { name: name.to_owned(), value, why: why.to_owned() })
        };
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return error("min.compaction.lag.ms", "it exceeds max.compaction.lag.ms");
        }
        let remote = self.is_on("remote.storage.enable");
        if remote && self.cleanup_policy.compact {
            return error("remote.storage.enable", "a compacted topic cannot have it");
        }
        for (local, total) in
            [("local.retention.ms", self.retention_ms), ("local.retention.bytes", self.retention_bytes)]
        {
            match (self.local_retention(local).filter(|_| remote), total) {
                (Some(local_value), _) if self.is_on("remote.log.copy.disable") && local_value != total => {
                    return error(local, "it equals the whole retention where nothing more is copied");
                }
                (Some(None), Some(_)) => return error(local, "it is unlimited, the whole retention is not"),
                (Some(Some(kept)), Some(total)) if kept > total => {
                    return error(local, "it exceeds the whole retention");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets what it has once more: fields may have been given any value by hand.
    fn validate_bounds(&self) -> Result<(), ConfigError> {
        let mut checked = Self::default();
        checked.set("internal.segment.bytes", &self.segment_bytes.to_string())?;
        let values = NAMES.iter().filter(|name| **name != "segment.bytes" || self.passive.contains_key(*name));
        values.filter_map(|name| Some((name, self.get(name)?))).try_for_each(|(name, value)| checked.set(name, &value))
    }

    fn is_on(&self, passive: &str) -> bool {
        self.passive.get(passive).is_some_and(|text| text == "true")
    }

    /// A local retention, of which `Some(None)` is unlimited; `None` follows the whole retention, Kafka's -2.
    fn local_retention(&self, name: &str) -> Option<Option<u64>> {
        let value: i64 = self.passive.get(name)?.parse().ok()?;
        (value != -2).then(|| u64::try_from(value).ok())
    }
}

/// Kafka's largest int.
const MAX_INT: u32 = 2_147_483_647;

const COMPRESSION_TYPES: [(&str, CompressionType); 6] = [
    ("uncompressed", CompressionType::Uncompressed),
    ("zstd", CompressionType::Zstd),
    ("lz4", CompressionType::Lz4),
    ("snappy", CompressionType::Snappy),
    ("gzip", CompressionType::Gzip),
    ("producer", CompressionType::Producer),
];

const TIMESTAMP_TYPES: [(&str, MessageTimestampType); 2] =
    [("CreateTime", MessageTimestampType::CreateTime), ("LogAppendTime", MessageTimestampType::LogAppendTime)];

fn name_of<T: PartialEq>(names: &[(&str, T)], value: T) -> String {
    names.iter().find(|(_, known)| *known == value).map_or(String::new(), |(name, _)| (*name).to_owned())
}

/// A number from 0 to 1 as Java's `Double.toString` writes it: always with a fraction, an exponent below 0.001.
fn java_double(value: f64) -> String {
    if value == 0.0 || value >= 1e-3 {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    if text.contains('.') { text } else { text.replace('E', ".0E") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const LONG_MAX: &str = "9223372036854775807";
    const LONG_OVER: &str = "9223372036854775808";
    const INT_MAX: &str = "2147483647";
    const INT_OVER: &str = "2147483648";

    /// Every property with Kafka's default, the least and the most that it takes, and what lies one beyond either.
    /// `retention.bytes` takes any negative number, so nothing lies below its least but what is no `long`.
    const NUMBERS: [(&str, &str, [&str; 4]); 23] = [
        ("segment.bytes", "1073741824", ["1048575", "1048576", INT_MAX, INT_OVER]),
        ("segment.ms", "604800000", ["0", "1", LONG_MAX, LONG_OVER]),
        ("segment.jitter.ms", "0", ["-1", "0", LONG_MAX, LONG_OVER]),
        ("segment.index.bytes", "10485760", ["3", "4", INT_MAX, INT_OVER]),
        ("index.interval.bytes", "4096", ["-1", "0", INT_MAX, INT_OVER]),
        ("flush.messages", LONG_MAX, ["0", "1", LONG_MAX, LONG_OVER]),
        ("flush.ms", LONG_MAX, ["-1", "0", LONG_MAX, LONG_OVER]),
        ("retention.bytes", "-1", ["-9223372036854775809", "-1", LONG_MAX, LONG_OVER]),
        ("retention.ms", "604800000", ["-2", "-1", LONG_MAX, LONG_OVER]),
        ("max.message.bytes", "1048588", ["-1", "0", INT_MAX, INT_OVER]),
        ("delete.retention.ms", "86400000", ["-1", "0", LONG_MAX, LONG_OVER]),
        ("min.compaction.lag.ms", "0", ["-1", "0", LONG_MAX, LONG_OVER]),
        ("max.compaction.lag.ms", LONG_MAX, ["0", "1", LONG_MAX, LONG_OVER]),
        ("min.cleanable.dirty.ratio", "0.5", ["-0.001", "0.0", "1.0", "1.001"]),
        ("file.delete.delay.ms", "60000", ["-1", "0", LONG_MAX, LONG_OVER]),
        ("compression.gzip.level", "-1", ["-2", "-1", "9", "10"]),
        ("compression.lz4.level", "9", ["0", "1", "17", "18"]),
        ("compression.zstd.level", "3", ["-131073", "-131072", "22", "23"]),
        ("message.timestamp.before.max.ms", LONG_MAX, ["-1", "0", LONG_MAX, LONG_OVER]),
        ("message.timestamp.after.max.ms", "3600000", ["-1", "0", LONG_MAX, LONG_OVER]),
        ("min.insync.replicas", "1", ["0", "1", INT_MAX, INT_OVER]),
        ("local.retention.ms", "-2", ["-3", "-2", LONG_MAX, LONG_OVER]),
        ("local.retention.bytes", "-2", ["-3", "-2", LONG_MAX, LONG_OVER]),
    ];

    /// The others, with default, values that are taken and values that are not.
    const WORDS: [(&str, &str, &[&str], &[&str]); 10] = [
        ("cleanup.policy", "delete", &["", "compact", "compact,delete"], &["none", "Compact", "compact,", ","]),
        ("preallocate", "false", &["true"], &["yes", "", "1"]),
        ("unclean.leader.election.enable", "false", &["true"], &["yes"]),
        ("compression.type", "producer", &["uncompressed", "zstd", "lz4", "snappy", "gzip"], &["none", "GZIP", ""]),
        ("message.timestamp.type", "CreateTime", &["LogAppendTime"], &["createtime", ""]),
        ("remote.storage.enable", "false", &["true"], &["on"]),
        ("remote.log.copy.disable", "false", &["true"], &["on"]),
        ("remote.log.delete.on.disable", "false", &["true"], &["on"]),
        ("leader.replication.throttled.replicas", "", &["*", "0:1,1:2"], &["0:", "x", "0:1,*", "0:1:2"]),
        ("follower.replication.throttled.replicas", "", &["*", "0:1"], &[":1", "-1:1"]),
    ];

    fn refuse(name: &str, bad: &str) {
        let mut config = LogConfig::default();
        let error = config.set(name, bad).expect_err(&format!("{name} = {bad}"));
        assert_eq!((error.name.as_str(), error.value.as_str()), (name, bad));
        assert_eq!(error.kafka_error_code(), KafkaErrorCode::InvalidConfig);
        assert_eq!(config, LogConfig::default(), "{name} = {bad} changed something");
    }

    fn take(name: &str, good: &str) {
        let mut config = LogConfig::default();
        config.set(name, good).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.get(name).unwrap(), good, "{name}");
    }

    #[test]
    fn tables_of_these_tests_hold_every_name() {
        let listed = NUMBERS.iter().map(|row| row.0).chain(WORDS.iter().map(|row| row.0));
        let mut listed: Vec<_> = listed.chain(["internal.segment.bytes"]).collect();
        let mut names = LogConfig::names().to_vec();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names);
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        for (name, default) in NUMBERS.iter().map(|row| (row.0, row.1)).chain(WORDS.iter().map(|row| (row.0, row.1))) {
            assert_eq!(LogConfig::default().get(name).unwrap(), default, "{name}");
            take(name, default);
        }
        assert_eq!(LogConfig::default().get("internal.segment.bytes"), None);
    }

    #[test]
    fn numbers_one_beyond_a_bound_are_refused() {
        for (name, _, [below, least, most, above]) in NUMBERS {
            take(name, least);
            take(name, most);
            for bad in [below, above, "", "x", "1_0", "0x10"] {
                refuse(name, bad);
            }
        }
        refuse("compression.gzip.level", "0");
        take("compression.gzip.level", "1");
        refuse("min.cleanable.dirty.ratio", "NaN");
        take("internal.segment.bytes", "0");
        take("internal.segment.bytes", INT_MAX);
        refuse("internal.segment.bytes", "-1");
        refuse("internal.segment.bytes", INT_OVER);
    }

    #[test]
    fn words_outside_their_set_are_refused() {
        for (name, _, good, bad) in WORDS {
            good.iter().for_each(|good| take(name, good));
            bad.iter().for_each(|bad| refuse(name, bad));
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        refuse("no.such.name", "1");
        assert_eq!(LogConfig::default().get("no.such.name"), None);
    }

    #[test]
    fn text_is_read_as_kafka_reads_it() {
        let read = [
            ("preallocate", " TRUE\t", "true"),
            ("remote.storage.enable", "True", "true"),
            ("segment.ms", " +7 ", "7"),
            ("retention.bytes", "-7", "-1"),
            ("cleanup.policy", " delete ,compact", "compact,delete"),
            ("cleanup.policy", "compact,compact", "compact"),
            ("leader.replication.throttled.replicas", "0:1 , 1:2", "0:1,1:2"),
            ("min.cleanable.dirty.ratio", "1", "1.0"),
            ("min.cleanable.dirty.ratio", "0.001", "0.001"),
            ("min.cleanable.dirty.ratio", "0.0001", "1.0E-4"),
            ("min.cleanable.dirty.ratio", "0.00025", "2.5E-4"),
        ];
        for (name, text, canonical) in read {
            let config = LogConfig::from_properties([(name, text)]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.get(name).unwrap(), canonical, "{name}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let remote = ("remote.storage.enable", "TRUE");
        let copied = ("remote.log.copy.disable", "true");
        // The property at fault, or none, and the properties.
        type Properties<'a> = &'a [(&'a str, &'a str)];
        let sets: [(Option<&str>, Properties<'_>); 16] = [
            (Some("min.compaction.lag.ms"), &[("min.compaction.lag.ms", "11"), ("max.compaction.lag.ms", "10")]),
            (None, &[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "10")]),
            (Some("remote.storage.enable"), &[remote, ("cleanup.policy", "compact")]),
            (Some("remote.storage.enable"), &[remote, ("cleanup.policy", "compact,delete")]),
            (None, &[remote, ("cleanup.policy", "")]),
            (None, &[("remote.storage.enable", "false"), ("cleanup.policy", "compact")]),
            (Some("local.retention.ms"), &[remote, ("retention.ms", "10"), ("local.retention.ms", "11")]),
            (None, &[remote, ("retention.ms", "10"), ("local.retention.ms", "10")]),
            (None, &[("retention.ms", "10"), ("local.retention.ms", "11")]),
            (Some("local.retention.ms"), &[remote, ("local.retention.ms", "-1")]),
            (None, &[remote, ("retention.ms", "-1"), ("local.retention.ms", "-1")]),
            (Some("local.retention.bytes"), &[remote, ("retention.bytes", "10"), ("local.retention.bytes", "11")]),
            (None, &[remote, ("local.retention.bytes", "11")]),
            (Some("local.retention.ms"), &[remote, copied, ("retention.ms", "10"), ("local.retention.ms", "9")]),
            (None, &[remote, copied, ("retention.ms", "10"), ("local.retention.ms", "10")]),
            (None, &[remote, copied, ("local.retention.ms", "-2")]),
        ];
        for (fault, properties) in sets {
            let result = LogConfig::from_properties(properties.iter().copied());
            assert_eq!(result.err().map(|error| error.name).as_deref(), fault, "{properties:?}");
        }
    }

    #[test]
    fn values_given_by_hand_are_checked_as_those_of_properties() {
        let good = LogConfig { segment_bytes: 100, segment_ms: 1, ..LogConfig::default() };
        assert_eq!(good.validate(), Ok(()));
        let beyond = NEVER + 1;
        let bad = [
            ("min.cleanable.dirty.ratio", LogConfig { min_cleanable_dirty_ratio: f64::NAN, ..good.clone() }),
            ("min.cleanable.dirty.ratio", LogConfig { min_cleanable_dirty_ratio: -0.25, ..good.clone() }),
            ("internal.segment.bytes", LogConfig { segment_bytes: MAX_INT + 1, ..good.clone() }),
            ("segment.ms", LogConfig { segment_ms: 0, ..good.clone() }),
            ("segment.index.bytes", LogConfig { segment_index_bytes: 0, ..good.clone() }),
            ("retention.ms", LogConfig { retention_ms: Some(beyond), ..good.clone() }),
            ("retention.bytes", LogConfig { retention_bytes: Some(beyond), ..good.clone() }),
            ("compression.gzip.level", LogConfig { compression_gzip_level: Some(0), ..good.clone() }),
            ("compression.zstd.level", LogConfig { compression_zstd_level: 23, ..good.clone() }),
            ("segment.bytes", LogConfig { passive: [("segment.bytes", "1".to_owned())].into(), ..good }),
        ];
        for (name, config) in bad {
            assert_eq!(config.validate().unwrap_err().name, name);
        }
    }

    #[test]
    fn internal_segment_bytes_wins_in_any_order() {
        let small = ("internal.segment.bytes", "500");
        let large = ("segment.bytes", "2097152");
        for properties in [[small, large], [large, small]] {
            let config = LogConfig::from_properties(properties).unwrap();
            assert_eq!(config.segment_bytes, 500);
            assert_eq!(config.get("segment.bytes").as_deref(), Some("2097152"));
            assert_eq!(config.get("internal.segment.bytes").as_deref(), Some("500"));
        }
    }

    #[test]
    fn properties_that_were_read_out_can_be_put_in_again() {
        let given = [("internal.segment.bytes", "500"), ("retention.ms", "-1"), ("remote.storage.enable", "true")];
        let config = LogConfig::from_properties(given).unwrap();
        let out: Vec<_> = LogConfig::names().iter().filter_map(|name| Some((*name, config.get(name)?))).collect();
        let back = LogConfig::from_properties(out.iter().map(|(name, value)| (*name, value.as_str()))).unwrap();
        assert!(LogConfig::names().iter().all(|name| back.get(name) == config.get(name)));
        assert_eq!(back.segment_bytes, 500);
    }
}
