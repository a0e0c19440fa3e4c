//! What the properties that have an effect here are for, a sentence each.

use crate::config::TOPIC_SYNONYMS;

/// What a property of a broker or of a topic is for; `None` where it has no effect here. A topic's property is for the same as
/// the broker's behind it.
pub(crate) fn documentation(name: &str) -> Option<&'static str> {
    let behind = TOPIC_SYNONYMS.iter().find(|(property, _)| *property == name).and_then(|(_, behind)| behind.first());
    let name = behind.map_or(name, |(name, _)| name);
    TEXTS.iter().find(|(documented, _)| *documented == name).map(|(_, text)| *text)
}

const TEXTS: &[(&str, &str)] = &[
    ("node.id", "The number of this node in its cluster."),
    ("listeners", "The addresses at which the broker waits for clients."),
    ("advertised.listeners", "The addresses that clients are told to connect to, if they are not those of listeners."),
    ("log.dir", "The log directory, if log.dirs names none."),
    ("log.dirs", "The log directories, with commas between them."),
    ("broker.rack", "Where the broker stands; clients may prefer brokers that are near."),
    ("num.partitions", "How many partitions a topic gets when nobody says it."),
    ("default.replication.factor", "How many replicas a partition gets when nobody says it; one node has one."),
    ("auto.create.topics.enable", "Whether a topic that somebody asks for is made if it is not there."),
    ("delete.topic.enable", "Whether topics can be deleted."),
    (
        "socket.request.max.bytes",
        "Size of the largest request that is taken; the connection of a larger one is closed.",
    ),
    ("queued.max.request.bytes", "How many bytes of requests may wait to be answered; -1 is any number."),
    ("connections.max.idle.ms", "After how long without a request a connection is closed; -1 is never."),
    ("max.connections", "How many connections there may be at a time."),
    ("max.connections.per.ip", "How many connections there may be at a time from one address."),
    ("fetch.max.bytes", "How many bytes of records an answer to a fetch holds at most, but for the first batch."),
    ("log.segment.bytes", "Size at which a segment is closed and the next begun."),
    ("log.roll.ms", "Age at which a segment is closed and the next begun."),
    ("log.roll.hours", "As log.roll.ms, which goes before it, in hours."),
    (
        "log.roll.jitter.ms",
        "How much earlier than at log.roll.ms a segment may be closed, so that not all are at once.",
    ),
    ("log.roll.jitter.hours", "As log.roll.jitter.ms, which goes before it, in hours."),
    ("log.retention.ms", "Age at which a segment is deleted; -1 is never."),
    ("log.retention.minutes", "As log.retention.ms, which goes before it, in minutes."),
    ("log.retention.hours", "As log.retention.minutes, which goes before it, in hours."),
    ("log.retention.bytes", "Size of a partition beyond which its oldest segments are deleted; -1 is no such size."),
    ("log.retention.check.interval.ms", "How often is looked for segments to delete."),
    ("log.cleanup.policy", "What becomes of old records: delete them, compact them to the last of each key, or both."),
    ("log.index.size.max.bytes", "Size of the largest index of a segment; a segment with a full index is closed."),
    ("log.index.interval.bytes", "How many bytes of records lie between two entries of an offset index."),
    ("log.flush.interval.messages", "After how many records a partition is flushed to the disk."),
    ("log.segment.delete.delay.ms", "How long the files of a deleted segment stay, for those who still read them."),
    ("log.flush.interval.ms", "How long a record may wait to be flushed to the disk."),
    ("log.flush.scheduler.interval.ms", "How often is looked for partitions to flush to the disk."),
    ("log.flush.offset.checkpoint.interval.ms", "How often the offsets are noted from which recovery would begin."),
    ("log.preallocate", "Whether a new segment takes its whole size on the disk at once."),
    ("log.message.timestamp.type", "Whether a record has the time of its making, or of its append."),
    ("log.message.timestamp.before.max.ms", "How far a record's time may lie back when it is appended."),
    ("log.message.timestamp.after.max.ms", "How far a record's time may lie ahead when it is appended."),
    ("log.local.retention.ms", "As log.retention.ms, for what is kept elsewhere too; -2 is the same."),
    ("log.local.retention.bytes", "As log.retention.bytes, for what is kept elsewhere too; -2 is the same."),
    ("message.max.bytes", "Size of the largest batch of records that is taken, as it is compressed."),
    ("min.insync.replicas", "How many replicas must have a record before acks=all is answered; one node has one."),
    ("unclean.leader.election.enable", "Whether a replica may lead that does not have all records."),
    ("compression.type", "With what records are compressed in the log; producer leaves them as they come."),
    ("compression.gzip.level", "How hard gzip tries, where compression.type says gzip."),
    ("compression.lz4.level", "How hard lz4 tries, where compression.type says lz4."),
    ("compression.zstd.level", "How hard zstd tries, where compression.type says zstd."),
    ("log.cleaner.enable", "Whether partitions are compacted whose policy says so."),
    ("log.cleaner.backoff.ms", "How long the cleaner waits when there is nothing to compact."),
    ("log.cleaner.dedupe.buffer.size", "Memory in which the cleaner keeps the last offset of each key."),
    ("log.cleaner.io.buffer.size", "Memory through which the cleaner reads and writes."),
    ("log.cleaner.io.max.bytes.per.second", "How many bytes the cleaner reads and writes in a second at most."),
    ("log.cleaner.min.cleanable.ratio", "Share of a log that must be uncompacted before it is compacted."),
    ("log.cleaner.delete.retention.ms", "How long a record without a value stays in a compacted log."),
    ("log.cleaner.min.compaction.lag.ms", "How old a record must be before it may be compacted away."),
    ("log.cleaner.max.compaction.lag.ms", "How old a record may become before its log is compacted."),
    ("group.min.session.timeout.ms", "The shortest session that a member of a group may ask for."),
    ("group.max.session.timeout.ms", "The longest session that a member of a group may ask for."),
    ("group.initial.rebalance.delay.ms", "How long the first rebalance of an empty group waits for more members."),
    ("group.max.size", "How many members a group may have."),
    ("offset.metadata.max.bytes", "Size of the largest text that may go with a committed offset."),
    ("offsets.topic.num.partitions", "How many partitions the topic of committed offsets gets."),
    ("offsets.topic.replication.factor", "How many replicas the topic of committed offsets gets; one node has one."),
    ("offsets.topic.segment.bytes", "Size of a segment of the topic of committed offsets."),
    (
        "offsets.topic.compression.codec",
        "With what the topic of committed offsets is compressed: 0 to 4, 0 is nothing.",
    ),
    ("offsets.retention.minutes", "How long committed offsets stay when nobody uses them any more."),
    ("offsets.retention.check.interval.ms", "How often is looked for committed offsets that are to go."),
    ("producer.id.expiration.ms", "How long a partition remembers a producer that writes nothing."),
    ("producer.id.expiration.check.interval.ms", "How often is looked for producers to forget."),
    ("transaction.max.timeout.ms", "The longest time that a producer may ask for its transactions."),
    ("transactional.id.expiration.ms", "How long a transactional id is remembered that is not used."),
    ("transaction.state.log.num.partitions", "How many partitions the topic of transactions gets."),
    ("transaction.state.log.replication.factor", "How many replicas the topic of transactions gets; one node has one."),
    ("transaction.state.log.min.isr", "The min.insync.replicas of the topic of transactions."),
    ("transaction.state.log.segment.bytes", "Size of a segment of the topic of transactions."),
    (
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "How often is looked for transactions that have taken too long, and are aborted.",
    ),
    (
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "How often is looked for transactional ids that are to be forgotten.",
    ),
    (
        "transaction.partition.verification.enable",
        "Whether a transaction's records are taken only where the coordinator knows of the partition.",
    ),
    ("transaction.two.phase.commit.enable", "Whether a producer may leave the end of its transactions to others."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn every_setting_with_an_effect_is_documented_once() {
        let settings: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(TEXTS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), settings);
    }

    #[test]
    fn topics_property_is_documented_as_the_brokers_behind_it() {
        assert!(documentation("retention.ms").is_some());
        assert_eq!(documentation("retention.ms"), documentation("log.retention.ms"));
        assert_eq!(documentation("min.insync.replicas"), documentation("min.insync.replicas"));
        assert_eq!((documentation("ssl.protocol"), documentation("no.such.name")), (None, None));
    }
}
