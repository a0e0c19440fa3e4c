//! DescribeTopicPartitions (75): topics and partitions, so many at a time: the next request goes on at the cursor.

use super::{
    Broker, RequestContext, authorized,
    wire::{only, to_wire, topic_name},
};
use crate::topics::{Hosting, Topic, check_name, is_internal};
use duramen::KafkaErrorCode;
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    },
};
use std::{collections::BTreeSet, ops::Range};

/// A response has so many partitions at most (`max.request.partition.size.limit`).
const MAX_PARTITIONS: usize = 2000;

/// Answers a request (`DescribeTopicPartitionsRequestHandler`).
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let hosting = broker.topics.hosting();
    let (names, first) = match asked(&hosting, &request) {
        Ok(asked) => asked,
        Err(code) => return refuse(&request, code),
    };
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MAX_PARTITIONS);
    let page = paginate(&names, first, limit, |name| hosting.topic(name).map(|topic| topic.partitions.len()));
    let topics = page.topics.into_iter().map(|(name, indexes)| {
        let described = match hosting.topic(name) {
            Some(topic) => describe(topic, indexes, broker.config.node_id),
            None => missing(name),
        };
        described.with_topic_authorized_operations(authorized::on_topic(true))
    });
    let cursor =
        |(name, index)| Cursor::default().with_topic_name(topic_name(name)).with_partition_index(index_of(index));
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect()).with_next_cursor(page.next.map(cursor))
}

/// The names that are asked for, each once and in order, from the cursor's on, and the first partition of the first of them.
fn asked<'a>(
    hosting: &'a Hosting,
    request: &'a DescribeTopicPartitionsRequest,
) -> Result<(Vec<&'a str>, usize), KafkaErrorCode> {
    let mut names: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    let is_all = names.is_empty();
    if is_all {
        names = hosting.sorted().into_iter().map(|topic| &*topic.name).collect();
    }
    let Some(cursor) = &request.cursor else { return Ok((names.into_iter().collect(), 0)) };
    let index = usize::try_from(cursor.partition_index).map_err(|_| KafkaErrorCode::InvalidRequest)?;
    let at = cursor.topic_name.as_str();
    let names: Vec<_> = names.into_iter().filter(|name| *name >= at).collect();
    // The cursor's topic may have been deleted since: then what follows is told from its begin on.
    let first = if names.first() == Some(&at) { index } else { 0 };
    Ok((names, first))
}

/// What one response tells.
#[derive(Debug, PartialEq, Eq)]
struct Page<'a> {
    topics: Vec<(&'a str, Range<usize>)>,
    /// Where the next one goes on.
    next: Option<(&'a str, usize)>,
}

/// Takes `limit` partitions, the first topic's from `first` on. Topics that are not there take no room.
fn paginate<'a>(
    names: &[&'a str],
    mut first: usize,
    limit: usize,
    partitions_of: impl Fn(&str) -> Option<usize>,
) -> Page<'a> {
    let mut page = Page { topics: Vec::new(), next: None };
    let mut room = limit;
    for name in names {
        if room == 0 {
            page.next = Some((name, 0));
            break;
        }
        let count = partitions_of(name).unwrap_or(0);
        let begin = std::mem::take(&mut first).min(count);
        let end = count.min(begin.saturating_add(room));
        page.topics.push((name, begin..end));
        room -= end - begin;
        if end < count {
            page.next = Some((name, end));
            break;
        }
    }
    page
}

fn refuse(request: &DescribeTopicPartitionsRequest, code: KafkaErrorCode) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| {
        let name = Some(topic.name.clone());
        DescribeTopicPartitionsResponseTopic::default().with_name(name).with_error_code(code.code())
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match check_name(name) {
        Ok(()) => KafkaErrorCode::UnknownTopicOrPartition.code(),
        Err(error) => error.kafka_error_code(),
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_error_code(code)
        .with_is_internal(is_internal(name))
}

fn describe(topic: &Topic, indexes: Range<usize>, node_id: i32) -> DescribeTopicPartitionsResponseTopic {
    let partitions = indexes.filter_map(|index| {
        let hosted = topic.partitions.get(index)?;
        let partition = DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index_of(index))
            .with_leader_id(BrokerId(node_id))
            .with_leader_epoch(hosted.leader_epoch)
            .with_replica_nodes(only(node_id))
            .with_isr_nodes(only(node_id))
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()));
        Some(partition)
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(to_wire(topic.image.id))
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
}

fn index_of(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::fixtures::{Home, context},
        *,
    };
    use kafka_protocol::messages::describe_topic_partitions_request::{Cursor as Asked, TopicRequest};

    /// Topics with as many partitions as their name says; `x` is not there.
    fn partitions_of(name: &str) -> Option<usize> {
        name.get(1..).and_then(|count| count.parse().ok())
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let names = ["a3", "b1", "c0", "d7", "e2", "x"];
        for limit in 1..15 {
            let (mut from, mut first, mut told) = (0, 0, Vec::new());
            loop {
                let page = paginate(&names[from..], first, limit, partitions_of);
                assert!(page.topics.iter().map(|(_, range)| range.len()).sum::<usize>() <= limit);
                told.extend(
                    page.topics.iter().flat_map(|(name, range)| range.clone().map(move |index| (*name, index))),
                );
                let Some((name, index)) = page.next else { break };
                from = names.iter().position(|known| *known == name).unwrap_or(names.len());
                first = index;
            }
            let all =
                names.iter().flat_map(|name| (0..partitions_of(name).unwrap_or(0)).map(move |index| (*name, index)));
            assert_eq!(told, all.collect::<Vec<_>>(), "limit {limit}");
        }
    }

    #[test]
    fn cursor_stands_where_the_room_ends() {
        let page = paginate(&["a3", "b4"], 1, 2, partitions_of);
        assert_eq!(page, Page { topics: vec![("a3", 1..3)], next: Some(("b4", 0)) });
        let page = paginate(&["a3", "b4"], 1, 3, partitions_of);
        assert_eq!(page, Page { topics: vec![("a3", 1..3), ("b4", 0..1)], next: Some(("b4", 1)) });
        let page = paginate(&["a3"], 9, 3, partitions_of);
        assert_eq!(page, Page { topics: vec![("a3", 3..3)], next: None });
    }

    #[tokio::test]
    async fn all_topics_are_told_page_by_page() {
        let home = Home::new();
        home.create("b", 3, &[]).await;
        home.create("a", 2, &[]).await;
        let (mut told, mut cursor) = (Vec::new(), None);
        loop {
            let request =
                DescribeTopicPartitionsRequest::default().with_response_partition_limit(2).with_cursor(cursor);
            let response = handle(&home.broker, &context(0), request).await;
            for topic in &response.topics {
                assert_eq!((topic.error_code, topic.topic_authorized_operations), (0, 3576));
                let name = topic.name.as_ref().unwrap().to_string();
                told.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
            }
            let Some(next) = response.next_cursor else { break };
            cursor = Some(Asked::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index));
        }
        let all = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)];
        assert_eq!(told, all.map(|(name, index)| (name.to_owned(), index)));
    }

    #[tokio::test]
    async fn named_topics_are_told_in_order_with_their_errors() {
        let home = Home::new();
        home.create("b", 1, &[]).await;
        let topics = ["none", "b", "a b"].map(|name| TopicRequest::default().with_name(topic_name(name)));
        let request = DescribeTopicPartitionsRequest::default().with_topics(topics.to_vec()).with_cursor(None);
        let response = handle(&home.broker, &context(0), request.clone()).await;
        let told = response.topics.iter().map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.error_code));
        let expected = [("a b", 17), ("b", 0), ("none", 3)];
        assert_eq!(told.collect::<Vec<_>>(), expected.map(|(name, code)| (name.to_owned(), code)));
        let cursor = Asked::default().with_topic_name(topic_name("b")).with_partition_index(-1);
        let response = handle(&home.broker, &context(0), request.with_cursor(Some(cursor))).await;
        assert!(response.topics.iter().all(|topic| topic.error_code == 42));
    }
}
