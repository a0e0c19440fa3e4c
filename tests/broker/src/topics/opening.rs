//! From what the metadata say to open partitions: when the broker starts, and when a topic comes or grows.
//!
//! Keeps: only a directory with the topic's own id is opened as its partition. One of another topic, or one that the metadata
//! do not name, is set aside as a stray with all that it holds, as Kafka does (`LogManager.isStrayReplica`).

use super::TopicError;
use crate::metadata::{Image, METADATA_TOPIC, TopicImage};
use duramen::{LogConfig, LogManager, Partition, TopicPartition, format::uuid::Uuid};
use std::{collections::HashMap, sync::Arc, thread};

/// Opens all logs that are there, several at once, and sets aside those of partitions that the metadata do not name. Those
/// need no log, and no recovery.
///
/// # Errors
/// [`TopicError::Open`] of the first that cannot be opened or set aside.
pub(super) fn load(
    manager: &LogManager,
    image: &Image,
    configs: &HashMap<&str, Arc<LogConfig>>,
) -> Result<(), TopicError> {
    for partition in manager.partitions() {
        if !is_named(image, &partition) {
            manager.set_aside_as_stray(&partition)?;
        }
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let config = |partition: &TopicPartition| configs.get(partition.topic()).map(|config| LogConfig::clone(config));
    // The metadata's own log, the only one without a configuration here, is open already.
    Ok(manager.load(threads, &|partition| config(partition).unwrap_or_default(), &|_| {})?)
}

/// Whether the metadata place this partition here; their own log is no topic's.
fn is_named(image: &Image, partition: &TopicPartition) -> bool {
    let index = usize::try_from(partition.partition()).unwrap_or(usize::MAX);
    partition.topic() == METADATA_TOPIC
        || image.topic(partition.topic()).is_some_and(|topic| index < topic.partitions.len())
}

/// All partitions of a topic, open and with its id, made where they are missing; this broker is their leader.
///
/// # Errors
/// [`TopicError::Open`], [`TopicError::Partition`], [`TopicError::Log`]: some may be there and open then.
pub(super) fn open_partitions(
    manager: &LogManager,
    topic: &TopicImage,
    config: &LogConfig,
) -> Result<Vec<Arc<Partition>>, TopicError> {
    let names: Result<Vec<_>, _> =
        (0_i32..).zip(&topic.partitions).map(|(index, _)| TopicPartition::new(&topic.name, index)).collect();
    let names = names?;
    set_aside_others(manager, topic.id, &names)?;
    let partitions = manager.get_or_create_topic(&names, topic.id, config)?;
    for (partition, described) in partitions.iter().zip(&topic.partitions) {
        // So that a consumer that asks where this epoch ends gets an answer before anything is appended
        // (`Partition.makeLeader`).
        partition.with(|log| log.assign_epoch_start_offset(described.leader_epoch, log.offsets().log_end))??;
    }
    Ok(partitions)
}

/// Sets aside what is open and belongs to another topic of the name; all that is there was opened when the broker started.
fn set_aside_others(manager: &LogManager, id: Uuid, names: &[TopicPartition]) -> Result<(), TopicError> {
    for partition in names.iter().filter_map(|name| manager.get(name)) {
        if !belongs(partition.reader().topic_id(), id, partition.offsets().log_end == 0) {
            manager.set_aside_as_stray(partition.name())?;
        }
    }
    Ok(())
}

/// Whether a directory is a partition of the topic with this id. One without an id has been made and nothing more, unless it
/// holds something: then nobody knows whose it is.
fn belongs(found: Option<Uuid>, id: Uuid, is_empty: bool) -> bool {
    found.map_or(is_empty, |found| found == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_belongs_to_the_topic_with_its_id_or_to_any_while_it_is_new() {
        let (id, other) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
        let table = [
            (Some(id), true, true),
            (Some(id), false, true),
            (Some(other), true, false),
            (Some(other), false, false),
            (None, true, true),
            (None, false, false),
        ];
        for (found, is_empty, expected) in table {
            assert_eq!(belongs(found, id, is_empty), expected, "{found:?}, empty: {is_empty}");
        }
    }
}
