//! What topics and brokers can be configured with: Kafka's names, where each value comes from, and what changes it.
//!
//! Owns: the hierarchy topic, broker, cluster, file, default; which broker property stands behind which topic property.
//! Pure. Knows nothing of requests and of logs. Keeps: the value that is described is the one that the log goes by.

mod broker;
mod changes;
mod documentation;
mod table;
mod topic;

pub(crate) use broker::{
    PropertyError, check_changes, default_of_broker_property, describe_broker, describe_cluster,
    kind_of_broker_property,
};
pub(crate) use changes::{ChangeError, Operation, changed};
pub(crate) use documentation::documentation;
pub(crate) use topic::{default_of_topic_property, describe_topic, kind_of_topic_property, log_config};

use crate::{
    config::BrokerConfig,
    metadata::{Configs, Image},
};
use std::sync::Arc;

/// Where a value was set (`DescribeConfigsResponse.ConfigSource`), as a number of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Source {
    /// For the topic.
    Topic = 1,
    /// For this broker, while it ran.
    Broker = 2,
    /// For all brokers, while they ran.
    Cluster = 3,
    /// In the file or on the command line that the broker was started with.
    Static = 4,
    /// Nowhere.
    Default = 5,
}

/// What a value is (`DescribeConfigsResponse.ConfigType`), as a number of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// A number of 32 bits.
    Int = 3,
    /// A number of 16 bits.
    Short = 4,
    /// A number of 64 bits.
    Long = 5,
    /// A number with a fraction.
    Double = 6,
    /// Texts with commas between them.
    List = 7,
    /// The name of a Java class, of which there are none here.
    Class = 8,
    /// A secret: never told.
    Password = 9,
}

impl Kind {
    /// Whether a text is of this kind, as far as that can be seen.
    fn has(self, text: &str) -> bool {
        let text = text.trim();
        match self {
            Self::Boolean => text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
            Self::Int => text.parse::<i32>().is_ok(),
            Self::Short => text.parse::<i16>().is_ok(),
            Self::Long => text.parse::<i64>().is_ok(),
            Self::Double => text.parse::<f64>().is_ok(),
            Self::String | Self::List | Self::Class | Self::Password => true,
        }
    }

    /// A value as it is told: a list without the space round its words (`ConfigDef.parseType` and `convertToString`).
    fn told(self, text: &str) -> String {
        match self {
            Self::List => text.split(',').map(str::trim).collect::<Vec<_>>().join(","),
            _ => text.to_owned(),
        }
    }
}

/// Names of which one stands for the others; the first that is set counts (`DynamicBrokerConfig.brokerConfigSynonyms`).
const NAMES: [&[&str]; 4] = [
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
];

/// One place at which a value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synonym {
    /// The property there.
    pub(crate) name: &'static str,
    /// What it is set to; `None` is a secret.
    pub(crate) value: Option<String>,
    /// Where that is.
    pub(crate) source: Source,
}

/// A property as it is told to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value; `None` is none, or a secret.
    pub(crate) value: Option<String>,
    /// What the value is.
    pub(crate) kind: Kind,
    /// Whether it can only be set before the broker starts.
    pub(crate) is_read_only: bool,
    /// Whether it is a secret.
    pub(crate) is_sensitive: bool,
    /// Where it was set, the place that counts first.
    pub(crate) synonyms: Vec<Synonym>,
}

impl Described {
    /// Where its value comes from.
    pub(crate) fn source(&self) -> Source {
        self.synonyms.first().map_or(Source::Default, |synonym| synonym.source)
    }
}

/// Properties and their new values; `None` takes back what was set.
pub(crate) type Changes = Vec<(String, Option<String>)>;

/// Makes changes.
pub(crate) fn apply(set: &mut Configs, changes: &Changes) {
    for (name, value) in changes {
        match value {
            Some(value) => set.insert(name.clone(), value.clone()),
            None => set.remove(name),
        };
    }
}

/// What was set for the broker, at each level.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    broker: Configs,
    cluster: Configs,
    config: Arc<BrokerConfig>,
}

impl Levels {
    /// The levels of this moment.
    pub(crate) fn new(image: &Image, config: &Arc<BrokerConfig>) -> Self {
        let broker = image.broker_configs(config.node_id).cloned().unwrap_or_default();
        Self { broker, cluster: image.cluster_configs().cloned().unwrap_or_default(), config: Arc::clone(config) }
    }

    /// What was set while the broker ran: for it alone, or for all brokers.
    pub(crate) fn dynamic(&self, for_all: bool) -> &Configs {
        if for_all { &self.cluster } else { &self.broker }
    }

    /// The levels after a change of one of them.
    pub(crate) fn with(mut self, for_all: bool, changes: &Changes) -> Self {
        let level = if for_all { &mut self.cluster } else { &mut self.broker };
        apply(level, changes);
        self
    }

    /// What each level sets, the strongest first.
    fn all(&self) -> [(Source, &Configs); 3] {
        [(Source::Broker, &self.broker), (Source::Cluster, &self.cluster), (Source::Static, self.config.given())]
    }

    /// Where a property of the broker could come from, by its own name or by one that stands for it, the place that counts
    /// first. What comes in front of the property's own name is another property's (`ConfigHelper.configSynonyms`).
    fn synonyms(&self, name: &'static str) -> Vec<Synonym> {
        let own = [name];
        let names = NAMES.into_iter().find(|names| names.contains(&name)).unwrap_or(&own);
        let mut found = Vec::new();
        for (source, configs) in self.all() {
            let set = names.iter().filter_map(|name| Some((*name, configs.get(*name)?.clone())));
            found.extend(set.map(|(name, value)| Synonym { name, value: Some(value), source }));
        }
        let defaults = names.iter().filter_map(|name| Some((*name, table::row_of(name)?.default?.to_owned())));
        found.extend(defaults.map(|(name, value)| Synonym { name, value: Some(value), source: Source::Default }));
        found.into_iter().skip_while(|synonym| synonym.name != name).collect()
    }

    /// The value by which the broker goes of one name.
    fn value(&self, name: &str) -> Option<&str> {
        self.all().into_iter().find_map(|(_, configs)| configs.get(name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Sources;

    pub(super) fn configs(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Levels with this set for the broker, for all, and in the file.
    pub(super) fn levels(broker: &[(&str, &str)], cluster: &[(&str, &str)], file: &[(&str, &str)]) -> Levels {
        let set = configs(file).into_iter().collect();
        let config = BrokerConfig::from_sources(Sources { set, ..Sources::default() }).unwrap();
        Levels { broker: configs(broker), cluster: configs(cluster), config: Arc::new(config) }
    }
}
