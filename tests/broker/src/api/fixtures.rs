//! A broker in a directory of its own, for tests.

use super::{Broker, RequestContext};
use crate::{coordinator::Coordinators, stop::Stop, topics::fixtures};
use std::sync::Arc;
use tempfile::TempDir;

pub(super) use fixtures::{NODE_ID, append, append_transactional};

/// A broker, and its directory until the test ends.
pub(super) struct Home {
    pub(super) broker: Broker,
    pub(super) dir: TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        Self::of(fixtures::Home::new())
    }

    fn of(home: fixtures::Home) -> Self {
        let fixtures::Home { topics, config, dir } = home;
        let coordinators = Coordinators::new(topics.clone(), Arc::clone(&config));
        let broker = Broker { config, topics, coordinators, stop: Stop::pair().1 };
        Self { broker, dir }
    }

    fn into_topics(self) -> fixtures::Home {
        let config = Arc::clone(&self.broker.config);
        fixtures::Home { topics: self.broker.topics, config, dir: self.dir }
    }

    /// Closes the broker in order and opens it again.
    pub(super) fn reopened(self) -> Self {
        Self::of(self.into_topics().reopened())
    }

    /// Makes a topic.
    pub(super) async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let created = self.broker.topics.create(name, partitions, &configs).await;
        assert!(created.is_ok(), "{created:?}");
    }
}

pub(super) fn context(version: i16) -> RequestContext {
    RequestContext { version, client_id: "test".to_owned(), client_host: "/127.0.0.1".to_owned() }
}
