//! DescribeLogDirs (35): which partitions are in which log directory, and how large they are.

use super::{
    Broker, RequestContext,
    wire::{text, topic_name},
};
use crate::{protocol::DescribedLogDirs, topics::Topic};
use duramen::KafkaErrorCode;
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse,
    describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic},
};
use nix::sys::statvfs::statvfs;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// Told where the size of a volume is not known.
const UNKNOWN_BYTES: i64 = -1;

/// A topic, and which of its partitions are asked for; `None` is all.
type Asked = (Arc<Topic>, Option<BTreeSet<i32>>);

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribedLogDirs {
    let hosting = broker.topics.hosting();
    let asked: Vec<Asked> = match request.topics {
        None => hosting.sorted().into_iter().map(|topic| (Arc::clone(topic), None)).collect(),
        Some(topics) => {
            let known = topics.into_iter().filter_map(|asked| {
                let topic = hosting.topic(&asked.topic)?;
                Some((Arc::clone(topic), Some(asked.partitions.into_iter().collect())))
            });
            known.collect()
        }
    };
    let failed: Vec<PathBuf> = broker.topics.manager().failed_directories().into_iter().map(|(path, _)| path).collect();
    let directories = broker.config.directories.clone();
    let describe = move || directories.iter().map(|path| describe(path, failed.contains(path), &asked)).collect();
    let response = DescribeLogDirsResponse::default();
    DescribedLogDirs(match spawn_blocking(describe).await {
        Ok(results) => response.with_results(results),
        Err(_) => response.with_error_code(KafkaErrorCode::UnknownServerError.code()),
    })
}

fn describe(path: &Path, has_failed: bool, asked: &[Asked]) -> DescribeLogDirsResult {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(&absolute.to_string_lossy()))
        .with_total_bytes(UNKNOWN_BYTES)
        .with_usable_bytes(UNKNOWN_BYTES);
    if has_failed {
        return result.with_error_code(KafkaErrorCode::KafkaStorageError.code());
    }
    let topics = asked.iter().map(|(topic, indexes)| describe_topic(path, topic, indexes.as_ref()));
    let topics = topics.filter(|topic| !topic.partitions.is_empty()).collect();
    let (total, usable) = volume(path);
    result.with_topics(topics).with_total_bytes(total).with_usable_bytes(usable)
}

/// The partitions of a topic that are in this directory.
fn describe_topic(path: &Path, topic: &Topic, indexes: Option<&BTreeSet<i32>>) -> DescribeLogDirsTopic {
    let asked = (0..).zip(&topic.partitions).filter(|(index, _)| indexes.is_none_or(|asked| asked.contains(index)));
    let here = asked.filter(|(_, hosted)| path.join(hosted.partition.name().to_string()).is_dir());
    let partitions = here.map(|(index, hosted)| {
        let size = i64::try_from(hosted.partition.reader().size()).unwrap_or(i64::MAX);
        DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size)
    });
    DescribeLogDirsTopic::default().with_name(topic_name(&topic.name)).with_partitions(partitions.collect())
}

/// All bytes of the volume that a directory is on, and those that can still be used.
fn volume(path: &Path) -> (i64, i64) {
    let Ok(volume) = statvfs(path) else { return (UNKNOWN_BYTES, UNKNOWN_BYTES) };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.fragment_size())).unwrap_or(i64::MAX);
    (bytes(volume.blocks()), bytes(volume.blocks_available()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::fixtures::{Home, append, context},
        *,
    };
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

    #[tokio::test]
    async fn partitions_are_told_with_their_sizes_and_the_metadata_are_not() {
        let home = Home::new();
        home.create("a", 2, &[]).await;
        home.create("b", 1, &[]).await;
        append(&home.broker.topics.partition("a", 1).unwrap(), 3);
        let ask = async |topics| {
            let request = DescribeLogDirsRequest::default().with_topics(topics);
            handle(&home.broker, &context(5), request).await.0.results.remove(0)
        };
        let told = |result: &DescribeLogDirsResult| {
            let topics = result.topics.iter();
            let of =
                |topic: &DescribeLogDirsTopic| topic.partitions.iter().map(|it| it.partition_size).collect::<Vec<_>>();
            topics.map(|topic| (topic.name.to_string(), of(topic))).collect::<Vec<_>>()
        };
        let size = i64::try_from(home.broker.topics.partition("a", 1).unwrap().partition.reader().size()).unwrap();
        let all = ask(None).await;
        assert_eq!(told(&all), [("a".to_owned(), vec![0, size]), ("b".to_owned(), vec![0])]);
        assert!(size > 0 && all.usable_bytes > 0 && all.total_bytes >= all.usable_bytes);
        assert_eq!(all.log_dir.as_str(), home.dir.path().to_str().unwrap());
        let some = |name, indexes| {
            vec![DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(indexes)]
        };
        assert_eq!(told(&ask(Some(some("a", vec![1, 7]))).await), [("a".to_owned(), vec![size])]);
        assert!(told(&ask(Some(some("none", vec![0]))).await).is_empty());
    }
}
