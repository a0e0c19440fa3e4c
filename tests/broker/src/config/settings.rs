//! Which settings there are: Kafka's broker settings by name, with type, default and bounds.
//!
//! Two tables: what has an effect here, and the names of what Kafka has and this broker has no use for.

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// A number of 32 bits, at least this.
    Int(i32),
    /// A number of 64 bits, at least this.
    Long(i64),
    /// A number with a fraction.
    Double,
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
}

/// A setting with an effect here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Setting {
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// Its type and lower bound.
    pub(crate) kind: Kind,
    /// Kafka's default as Kafka writes it; `None` where it has none, or where another setting is taken then.
    pub(crate) default: Option<&'static str>,
}

const fn setting(name: &'static str, kind: Kind, default: &'static str) -> Setting {
    Setting { name, kind, default: Some(default) }
}

const fn unset(name: &'static str, kind: Kind) -> Setting {
    Setting { name, kind, default: None }
}

use Kind::{Boolean, Double, Int, Long, Text};

/// The settings with an effect here, by topic of what they are about.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("node.id", Int(0), "1"),
    setting("listeners", Text, "PLAINTEXT://:9092"),
    unset("advertised.listeners", Text),
    setting("log.dir", Text, "/tmp/kafka-logs"),
    unset("log.dirs", Text),
    unset("broker.rack", Text),
    setting("num.partitions", Int(1), "1"),
    setting("default.replication.factor", Int(1), "1"),
    setting("auto.create.topics.enable", Boolean, "true"),
    setting("delete.topic.enable", Boolean, "true"),
    // The way of a request.
    setting("socket.request.max.bytes", Int(1), "104857600"),
    setting("queued.max.request.bytes", Long(-1), "-1"),
    setting("connections.max.idle.ms", Long(-1), "600000"),
    setting("max.connections", Int(0), "2147483647"),
    setting("max.connections.per.ip", Int(0), "2147483647"),
    setting("fetch.max.bytes", Int(1024), "57671680"),
    // Logs.
    setting("log.segment.bytes", Int(1 << 20), "1073741824"),
    unset("log.roll.ms", Long(1)),
    setting("log.roll.hours", Int(1), "168"),
    unset("log.roll.jitter.ms", Long(0)),
    setting("log.roll.jitter.hours", Int(0), "0"),
    unset("log.retention.ms", Long(-1)),
    unset("log.retention.minutes", Int(-1)),
    setting("log.retention.hours", Int(-1), "168"),
    setting("log.retention.bytes", Long(i64::MIN), "-1"),
    setting("log.retention.check.interval.ms", Long(1), "300000"),
    setting("log.cleanup.policy", Text, "delete"),
    setting("log.index.size.max.bytes", Int(4), "10485760"),
    setting("log.index.interval.bytes", Int(0), "4096"),
    setting("log.flush.interval.messages", Long(1), "9223372036854775807"),
    setting("log.segment.delete.delay.ms", Long(0), "60000"),
    unset("log.flush.interval.ms", Long(0)),
    setting("log.flush.scheduler.interval.ms", Long(0), "9223372036854775807"),
    setting("log.flush.offset.checkpoint.interval.ms", Int(0), "60000"),
    setting("log.preallocate", Boolean, "false"),
    setting("log.message.timestamp.type", Text, "CreateTime"),
    setting("log.message.timestamp.before.max.ms", Long(0), "9223372036854775807"),
    setting("log.message.timestamp.after.max.ms", Long(0), "3600000"),
    setting("log.local.retention.ms", Long(-2), "-2"),
    setting("log.local.retention.bytes", Long(-2), "-2"),
    setting("message.max.bytes", Int(0), "1048588"),
    setting("min.insync.replicas", Int(1), "1"),
    setting("unclean.leader.election.enable", Boolean, "false"),
    setting("compression.type", Text, "producer"),
    setting("compression.gzip.level", Int(-1), "-1"),
    setting("compression.lz4.level", Int(1), "9"),
    setting("compression.zstd.level", Int(-131_072), "3"),
    // Compaction.
    setting("log.cleaner.enable", Boolean, "true"),
    setting("log.cleaner.backoff.ms", Long(0), "15000"),
    setting("log.cleaner.dedupe.buffer.size", Long(i64::MIN), "134217728"),
    setting("log.cleaner.io.buffer.size", Int(0), "524288"),
    setting("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308"),
    setting("log.cleaner.min.cleanable.ratio", Double, "0.5"),
    setting("log.cleaner.delete.retention.ms", Long(0), "86400000"),
    setting("log.cleaner.min.compaction.lag.ms", Long(0), "0"),
    setting("log.cleaner.max.compaction.lag.ms", Long(1), "9223372036854775807"),
    // Groups.
    setting("group.min.session.timeout.ms", Int(i32::MIN), "6000"),
    setting("group.max.session.timeout.ms", Int(i32::MIN), "1800000"),
    setting("group.initial.rebalance.delay.ms", Int(i32::MIN), "3000"),
    setting("group.max.size", Int(1), "2147483647"),
    setting("offset.metadata.max.bytes", Int(i32::MIN), "4096"),
    setting("offsets.topic.num.partitions", Int(1), "50"),
    setting("offsets.topic.replication.factor", Int(1), "3"),
    setting("offsets.topic.segment.bytes", Int(1), "104857600"),
    setting("offsets.topic.compression.codec", Int(0), "0"),
    setting("offsets.retention.minutes", Int(1), "10080"),
    setting("offsets.retention.check.interval.ms", Long(1), "600000"),
    // Producers and transactions.
    setting("producer.id.expiration.ms", Int(1), "86400000"),
    setting("producer.id.expiration.check.interval.ms", Int(1), "600000"),
    setting("transaction.max.timeout.ms", Int(1), "900000"),
    setting("transactional.id.expiration.ms", Int(1), "604800000"),
    setting("transaction.state.log.num.partitions", Int(1), "50"),
    setting("transaction.state.log.replication.factor", Int(1), "3"),
    setting("transaction.state.log.min.isr", Int(1), "2"),
    setting("transaction.state.log.segment.bytes", Int(1), "104857600"),
    setting("transaction.abort.timed.out.transaction.cleanup.interval.ms", Int(1), "10000"),
    setting("transaction.remove.expired.transaction.cleanup.interval.ms", Int(1), "3600000"),
    setting("transaction.partition.verification.enable", Boolean, "true"),
    setting("transaction.two.phase.commit.enable", Boolean, "false"),
];

/// The broker's settings by which a topic's property goes when it is not set for the topic: the first that is set counts,
/// times the factor (`ServerTopicConfigSynonyms`).
pub(crate) const TOPIC_SYNONYMS: &[(&str, &[(&str, i64)])] = &[
    ("segment.bytes", &[("log.segment.bytes", 1)]),
    ("segment.ms", &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)]),
    ("segment.jitter.ms", &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)]),
    ("segment.index.bytes", &[("log.index.size.max.bytes", 1)]),
    ("index.interval.bytes", &[("log.index.interval.bytes", 1)]),
    ("flush.messages", &[("log.flush.interval.messages", 1)]),
    ("flush.ms", &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)]),
    ("retention.bytes", &[("log.retention.bytes", 1)]),
    ("retention.ms", &[("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)]),
    ("max.message.bytes", &[("message.max.bytes", 1)]),
    ("cleanup.policy", &[("log.cleanup.policy", 1)]),
    ("delete.retention.ms", &[("log.cleaner.delete.retention.ms", 1)]),
    ("min.compaction.lag.ms", &[("log.cleaner.min.compaction.lag.ms", 1)]),
    ("max.compaction.lag.ms", &[("log.cleaner.max.compaction.lag.ms", 1)]),
    ("min.cleanable.dirty.ratio", &[("log.cleaner.min.cleanable.ratio", 1)]),
    ("file.delete.delay.ms", &[("log.segment.delete.delay.ms", 1)]),
    ("preallocate", &[("log.preallocate", 1)]),
    ("compression.type", &[("compression.type", 1)]),
    ("compression.gzip.level", &[("compression.gzip.level", 1)]),
    ("compression.lz4.level", &[("compression.lz4.level", 1)]),
    ("compression.zstd.level", &[("compression.zstd.level", 1)]),
    ("message.timestamp.type", &[("log.message.timestamp.type", 1)]),
    ("message.timestamp.before.max.ms", &[("log.message.timestamp.before.max.ms", 1)]),
    ("message.timestamp.after.max.ms", &[("log.message.timestamp.after.max.ms", 1)]),
    ("min.insync.replicas", &[("min.insync.replicas", 1)]),
    ("unclean.leader.election.enable", &[("unclean.leader.election.enable", 1)]),
    ("local.retention.ms", &[("log.local.retention.ms", 1)]),
    ("local.retention.bytes", &[("log.local.retention.bytes", 1)]),
];

impl Setting {
    /// The setting of a name.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Why a text cannot be its value.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        let is_good = match self.kind {
            Int(least) => text.parse().is_ok_and(|value: i32| value >= least),
            Long(least) => text.parse().is_ok_and(|value: i64| value >= least),
            Double => text.parse().is_ok_and(|value: f64| value >= 0.0),
            Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
            Text => true,
        };
        if is_good { Ok(()) } else { Err(self.kind.rule()) }
    }
}

impl Kind {
    fn rule(self) -> String {
        match self {
            Int(least) => format!("it is a number of 32 bits, at least {least}"),
            Long(least) => format!("it is a number of 64 bits, at least {least}"),
            Double => "it is a number, at least 0".to_owned(),
            Boolean => "it is true or false".to_owned(),
            Text => "it is text".to_owned(),
        }
    }
}
