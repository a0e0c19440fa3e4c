//! Topics over a real engine and real metadata.

#![allow(clippy::unwrap_used)]

use super::{
    fixtures::{Home, append},
    *,
};
use duramen::{Fetch, LogConfig, LongPoll};
use std::{fs, path::Path, time::Duration};

fn directories(dir: &Path, of: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> = names.filter(|name| name.starts_with(of)).collect();
    found.sort_unstable();
    found
}

fn set(name: &str, value: &str) -> Changes {
    vec![(name.to_owned(), Some(value.to_owned()))]
}

#[tokio::test]
async fn created_topic_is_complete_at_once_and_after_a_restart() {
    let home = Home::new();
    let image = home.topics.create("orders", 3, &BTreeMap::new()).await.unwrap();
    let hosted = home.topics.partition("orders", 2).unwrap();
    append(&hosted, 5);
    assert_eq!((hosted.topic_id, hosted.partition.offsets().high_watermark), (image.id, 5));
    assert_eq!(home.topics.name_of(image.id).as_deref(), Some("orders"));
    assert_eq!(home.topics.partition("orders", 3).unwrap_err(), KafkaErrorCode::UnknownTopicOrPartition);
    assert_eq!(home.topics.partition("orders", -1).unwrap_err(), KafkaErrorCode::UnknownTopicOrPartition);
    let before = hosted.leader_epoch;
    drop(hosted);
    let home = home.reopened();
    let hosted = home.topics.partition("orders", 2).unwrap();
    assert_eq!((hosted.topic_id, hosted.partition.offsets().log_end), (image.id, 5));
    assert!(hosted.leader_epoch > before);
    assert_eq!(hosted.partition.reader().latest_epoch(), Some(hosted.leader_epoch));
    assert!(home.topics.manager().strays().is_empty());
}

#[tokio::test]
async fn refused_creation_leaves_nothing() {
    let home = Home::new();
    home.create("a.b", 1, &[]).await;
    let create = async |name: &str, configs: &[(&str, &str)]| {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        home.topics.create(name, 1, &configs).await.unwrap_err()
    };
    assert!(matches!(create("a.b", &[]).await, TopicError::Exists { .. }));
    assert!(matches!(create("a_b", &[]).await, TopicError::Collides { .. }));
    assert!(matches!(create("a/b", &[]).await, TopicError::InvalidName { .. }));
    assert!(matches!(create("c", &[("segment.bytes", "1")]).await, TopicError::Config(_)));
    // A file where the partition's directory is to be.
    fs::write(home.dir.path().join("d-0"), "").unwrap();
    assert!(matches!(create("d", &[]).await, TopicError::Open(_)));
    let image = home.topics.metadata().image();
    let names: Vec<_> = image.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a.b"]);
    assert_eq!(home.topics.hosting().sorted().len(), 1);
}

#[tokio::test]
async fn deleted_topic_is_gone_and_another_of_its_name_begins_empty() {
    let home = Home::new();
    home.create("orders", 2, &[]).await;
    let old = home.topics.partition("orders", 0).unwrap();
    append(&old, 3);
    home.topics.delete("orders").await.unwrap();
    assert!(home.topics.topic("orders").is_none());
    assert_eq!(home.topics.name_of(old.topic_id), None);
    let left = directories(home.dir.path(), "orders");
    assert!(left.len() == 2 && left.iter().all(|name| name.ends_with("-delete")), "{left:?}");
    assert!(matches!(home.topics.delete("orders").await, Err(TopicError::Metadata(_))));
    home.create("orders", 1, &[]).await;
    let new = home.topics.partition("orders", 0).unwrap();
    assert_eq!(new.partition.offsets().log_end, 0);
    assert_ne!(new.topic_id, old.topic_id);
    let home = home.reopened();
    assert_eq!(home.topics.topic("orders").unwrap().partitions.len(), 1);
    assert!(home.topics.manager().strays().is_empty());
}

#[tokio::test]
async fn whoever_waits_for_a_deleted_partition_is_told() {
    let home = Home::new();
    home.create("orders", 1, &[]).await;
    let hosted = home.topics.partition("orders", 0).unwrap();
    let mut poll = LongPoll::new(1);
    hosted.partition.read_or_watch(Fetch::from(0), &mut poll).unwrap();
    home.topics.delete("orders").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(10), poll).await.is_ok());
}

#[tokio::test]
async fn start_makes_what_is_missing_and_sets_aside_what_is_not_named() {
    let home = Home::new();
    home.create("kept", 1, &[]).await;
    home.create("lost", 2, &[]).await;
    home.create("other", 1, &[]).await;
    append(&home.topics.partition("other", 0).unwrap(), 2);
    let dir = home.close();
    // A partition that no topic has, one that belongs to a topic of another id, and one that is gone.
    let path = |name: &str| dir.path().join(name);
    fs::rename(path("lost-1"), path("stranger-7")).unwrap();
    fs::copy(path("kept-0/partition.metadata"), path("other-0/partition.metadata")).unwrap();
    let home = Home::open(dir);
    let strays = home.topics.manager().strays();
    let mut names: Vec<_> = strays.iter().map(|(_, name)| name.split('.').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["other-0", "stranger-7"]);
    for (topic, index) in [("kept", 0), ("lost", 0), ("lost", 1), ("other", 0)] {
        let hosted = home.topics.partition(topic, index).unwrap();
        assert_eq!(hosted.partition.offsets().log_end, 0, "{topic}-{index}");
        append(&hosted, 1);
    }
    let home = home.reopened();
    assert_eq!(home.topics.partition("other", 0).unwrap().partition.offsets().log_end, 1);
    assert_eq!(home.topics.manager().strays().len(), 2);
}

#[tokio::test]
async fn growing_topic_keeps_what_it_has() {
    let home = Home::new();
    home.create("orders", 1, &[("retention.ms", "5000")]).await;
    let first = home.topics.partition("orders", 0).unwrap();
    append(&first, 4);
    home.topics.create_partitions("orders", 3).await.unwrap();
    let topic = home.topics.topic("orders").unwrap();
    assert_eq!(topic.partitions.len(), 3);
    assert!(Arc::ptr_eq(&first.partition, &topic.partitions[0].partition));
    assert_eq!(topic.partitions[2].config.retention_ms, Some(5000));
    append(&topic.partitions[2], 1);
    assert!(home.topics.create_partitions("orders", 3).await.is_err());
    assert!(home.topics.create_partitions("none", 3).await.is_err());
}

#[tokio::test]
async fn configuration_of_a_topic_reaches_its_logs() {
    let home = Home::new();
    home.create("orders", 1, &[]).await;
    let alter =
        async |validate_only, changes: Changes| home.topics.alter_topic("orders", validate_only, |_| Ok(changes)).await;
    let in_use = || {
        let hosted = home.topics.partition("orders", 0).unwrap();
        let config = hosted.partition.with(|log| log.config()).unwrap();
        assert_eq!(config, hosted.config);
        config.retention_ms
    };
    alter(true, set("retention.ms", "7")).await.unwrap();
    assert_eq!(in_use(), LogConfig::default().retention_ms);
    alter(false, set("retention.ms", "7")).await.unwrap();
    assert_eq!(in_use(), Some(7));
    assert!(matches!(alter(false, set("retention.ms", "x")).await, Err(TopicError::Config(_))));
    assert_eq!(in_use(), Some(7));
    alter(false, vec![("retention.ms".to_owned(), None)]).await.unwrap();
    assert_eq!(in_use(), LogConfig::default().retention_ms);
}

#[tokio::test]
async fn configuration_of_the_broker_reaches_topics_without_their_own() {
    let home = Home::new();
    home.create("own", 1, &[("retention.ms", "5")]).await;
    home.create("plain", 1, &[]).await;
    let alter = async |for_all, validate_only, changes: Changes| {
        home.topics.alter_broker(for_all, validate_only, |_| Ok(changes)).await
    };
    let in_use = |home: &Home, topic: &str| {
        home.topics.partition(topic, 0).unwrap().partition.with(|log| log.config().retention_ms).unwrap()
    };
    alter(true, false, set("log.retention.ms", "8")).await.unwrap();
    assert_eq!((in_use(&home, "own"), in_use(&home, "plain")), (Some(5), Some(8)));
    alter(false, true, set("log.retention.ms", "9")).await.unwrap();
    assert_eq!(in_use(&home, "plain"), Some(8));
    alter(false, false, set("log.retention.ms", "9")).await.unwrap();
    assert_eq!((in_use(&home, "own"), in_use(&home, "plain")), (Some(5), Some(9)));
    assert!(matches!(alter(false, false, set("node.id", "9")).await, Err(TopicError::Property(_))));
    home.create("new", 1, &[]).await;
    let home = home.reopened();
    assert_eq!((in_use(&home, "own"), in_use(&home, "plain"), in_use(&home, "new")), (Some(5), Some(9), Some(9)));
}

#[tokio::test]
async fn change_that_nobody_waits_for_is_made_to_its_end() {
    let home = Home::new();
    {
        let (topics, none) = (&home.topics, BTreeMap::new());
        let create = topics.create("orders", 20, &none);
        // Polled once, and given up.
        assert!(tokio::time::timeout(Duration::ZERO, create).await.is_err());
    }
    // The next change waits for its turn, and finds the one before whole.
    home.create("next", 1, &[]).await;
    assert_eq!(home.topics.topic("orders").unwrap().partitions.len(), 20);
}

#[tokio::test]
async fn changes_from_everywhere_come_one_after_the_other() {
    let home = Arc::new(Home::new());
    let tasks = (0..12).map(|number| {
        let home = Arc::clone(&home);
        tokio::spawn(async move {
            let name = format!("t{}", number % 4);
            home.topics.create(&name, 2, &BTreeMap::new()).await.is_ok()
        })
    });
    let mut made = 0;
    for task in tasks.collect::<Vec<_>>() {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!(made, 4);
    assert_eq!(home.topics.hosting().sorted().len(), 4);
}
