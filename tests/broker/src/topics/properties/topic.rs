//! Properties of topics: which broker property each falls back to, and the configuration that comes of all.

use super::{Described, Kind, Levels, Source, Synonym};
use crate::{config::TOPIC_SYNONYMS, metadata::Configs};
use duramen::{ConfigError, LogConfig};

/// Topic properties and what their values are, in the engine's order.
const KINDS: [(&str, Kind); 34] = [
    ("segment.bytes", Kind::Int),
    ("segment.ms", Kind::Long),
    ("segment.jitter.ms", Kind::Long),
    ("segment.index.bytes", Kind::Int),
    ("index.interval.bytes", Kind::Int),
    ("flush.messages", Kind::Long),
    ("flush.ms", Kind::Long),
    ("retention.bytes", Kind::Long),
    ("retention.ms", Kind::Long),
    ("max.message.bytes", Kind::Int),
    ("cleanup.policy", Kind::List),
    ("delete.retention.ms", Kind::Long),
    ("min.compaction.lag.ms", Kind::Long),
    ("max.compaction.lag.ms", Kind::Long),
    ("min.cleanable.dirty.ratio", Kind::Double),
    ("file.delete.delay.ms", Kind::Long),
    ("preallocate", Kind::Boolean),
    ("compression.type", Kind::String),
    ("compression.gzip.level", Kind::Int),
    ("compression.lz4.level", Kind::Int),
    ("compression.zstd.level", Kind::Int),
    ("message.timestamp.type", Kind::String),
    ("message.timestamp.before.max.ms", Kind::Long),
    ("message.timestamp.after.max.ms", Kind::Long),
    ("min.insync.replicas", Kind::Int),
    ("unclean.leader.election.enable", Kind::Boolean),
    ("remote.storage.enable", Kind::Boolean),
    ("local.retention.ms", Kind::Long),
    ("local.retention.bytes", Kind::Long),
    ("remote.log.copy.disable", Kind::Boolean),
    ("remote.log.delete.on.disable", Kind::Boolean),
    ("leader.replication.throttled.replicas", Kind::List),
    ("follower.replication.throttled.replicas", Kind::List),
    ("internal.segment.bytes", Kind::Int),
];

/// What the value of a topic's property is; `None` if topics have no such.
pub(crate) fn kind_of_topic_property(name: &str) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The broker properties behind a topic property, of which the first that is set counts, and the factors between the units.
fn behind(name: &str) -> &'static [(&'static str, i64)] {
    TOPIC_SYNONYMS.iter().find(|(known, _)| *known == name).map_or(&[], |(_, behind)| behind)
}

/// Kafka's own default of a topic's property, whatever the broker says.
pub(crate) fn default_of_topic_property(name: &str) -> Option<String> {
    LogConfig::default().get(name)
}

/// The configuration of a topic: what was set for it, else what the broker says, else Kafka's defaults.
///
/// # Errors
/// [`ConfigError`] for a name that topics do not have, a value outside its bounds, or values that contradict each other.
pub(crate) fn log_config(levels: &Levels, overrides: &Configs) -> Result<LogConfig, ConfigError> {
    let mut config = LogConfig::default();
    for (name, behind) in TOPIC_SYNONYMS {
        if let Some(value) = of_broker(levels, behind)? {
            config.set(name, &value)?;
        }
    }
    for (name, value) in overrides {
        config.set(name, value)?;
    }
    config.validate()?;
    Ok(config)
}

/// What the broker says of a topic property, in the topic's unit. The level at which it says so does not matter before the
/// name: as in `KafkaConfig`, milliseconds win over hours.
fn of_broker(levels: &Levels, behind: &[(&str, i64)]) -> Result<Option<String>, ConfigError> {
    let set = behind.iter().find_map(|(name, factor)| Some((*name, *factor, levels.value(name)?)));
    let Some((name, factor, value)) = set else { return Ok(None) };
    if factor == 1 {
        return Ok(Some(value.to_owned()));
    }
    let number = value.trim().parse::<i64>().ok();
    let scaled = number.and_then(|number| if number < 0 { Some(-1) } else { number.checked_mul(factor) });
    let error =
        || ConfigError { name: name.to_owned(), value: value.to_owned(), why: "it is no such number".to_owned() };
    scaled.map(|number| Some(number.to_string())).ok_or_else(error)
}

/// The properties of a topic, by Kafka's names and in its order (`ConfigHelper.createTopicConfigEntry`). Kafka's back door
/// `internal.segment.bytes` is told of where it is used.
///
/// # Errors
/// As [`log_config`].
pub(crate) fn describe_topic(levels: &Levels, overrides: &Configs) -> Result<Vec<Described>, ConfigError> {
    let config = log_config(levels, overrides)?;
    let describe = |(name, kind): &(&'static str, Kind)| {
        let own = overrides.get(*name);
        // Behind a property stands the broker's in the smallest unit, with what that has behind it.
        let of_broker = behind(name).first().map(|(name, _)| levels.synonyms(name)).unwrap_or_default();
        // The engine has no value of `internal.segment.bytes` while it is not set.
        let known = config.get(name)?;
        // A list is told in the order in which it was set, and the engine knows of none.
        let set = own.map(String::as_str).or_else(|| levels.value(behind(name).first()?.0));
        let value = set.filter(|_| *kind == Kind::List).map_or(known, |text| kind.told(text));
        let own = own.map(|value| Synonym { name, value: Some(value.clone()), source: Source::Topic });
        Some(Described {
            name,
            value: Some(value),
            kind: *kind,
            is_read_only: false,
            is_sensitive: false,
            synonyms: own.into_iter().chain(of_broker).collect(),
        })
    };
    Ok(KINDS.iter().filter_map(describe).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::tests::{configs, levels},
        *,
    };

    #[test]
    fn table_has_what_the_engine_has() {
        let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, LogConfig::names());
        assert!(TOPIC_SYNONYMS.iter().all(|(name, _)| names.contains(name)));
    }

    #[test]
    fn every_broker_property_behind_a_topic_property_has_the_same_default() {
        let none = levels(&[], &[], &[]);
        for (property, behind) in TOPIC_SYNONYMS {
            let default = behind.iter().find_map(|(name, factor)| {
                let text = super::super::table::row_of(name).unwrap().default?;
                let scaled = text.parse::<i64>().map(|number| (number * factor).to_string());
                Some(if *factor == 1 { text.to_owned() } else { scaled.unwrap() })
            });
            if let Some(default) = default {
                assert_eq!(LogConfig::default().get(property), Some(default), "{property}");
            }
        }
        assert_eq!(log_config(&none, &Configs::new()).unwrap(), LogConfig::default());
    }

    #[test]
    fn topic_wins_over_broker_over_cluster_over_file_over_default() {
        let name = "log.segment.bytes";
        let value = |bytes: &'static str| [(name, bytes)];
        let (a, b, c) = (value("2000000"), value("3000000"), value("4000000"));
        let segment = |levels: &Levels, own: &[(&str, &str)]| {
            let described = describe_topic(levels, &configs(own)).unwrap();
            let found = described.into_iter().find(|it| it.name == "segment.bytes").unwrap();
            (found.source(), found.value.clone().unwrap(), found.synonyms.len())
        };
        let all = levels(&a, &b, &c);
        assert_eq!(segment(&all, &[("segment.bytes", "5000000")]), (Source::Topic, "5000000".to_owned(), 5));
        assert_eq!(segment(&all, &[]), (Source::Broker, "2000000".to_owned(), 4));
        assert_eq!(segment(&levels(&[], &b, &c), &[]), (Source::Cluster, "3000000".to_owned(), 3));
        assert_eq!(segment(&levels(&[], &[], &c), &[]), (Source::Static, "4000000".to_owned(), 2));
        assert_eq!(segment(&levels(&[], &[], &[]), &[]), (Source::Default, "1073741824".to_owned(), 1));
    }

    #[test]
    fn smaller_unit_wins_over_the_stronger_level() {
        let both = levels(&[("log.retention.hours", "2")], &[], &[("log.retention.ms", "5")]);
        assert_eq!(log_config(&both, &Configs::new()).unwrap().retention_ms, Some(5));
        let minutes = levels(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")], &[], &[]);
        assert_eq!(log_config(&minutes, &Configs::new()).unwrap().retention_ms, Some(180_000));
        let never = levels(&[], &[("log.retention.hours", "-1")], &[]);
        assert_eq!(log_config(&never, &Configs::new()).unwrap().retention_ms, None);
        let beyond = levels(&[("log.retention.hours", "9223372036854775807")], &[], &[]);
        assert_eq!(log_config(&beyond, &Configs::new()).unwrap_err().name, "log.retention.hours");
    }

    #[test]
    fn list_is_told_in_the_order_in_which_it_was_set() {
        let policy = |levels: &Levels, own: &[(&str, &str)]| {
            let described = describe_topic(levels, &configs(own)).unwrap();
            described.into_iter().find(|it| it.name == "cleanup.policy").unwrap().value.unwrap()
        };
        let none = levels(&[], &[], &[]);
        assert_eq!(policy(&none, &[("cleanup.policy", "delete,compact")]), "delete,compact");
        assert_eq!(policy(&none, &[("cleanup.policy", "compact, delete")]), "compact,delete");
        assert_eq!(policy(&none, &[]), "delete");
        let file = levels(&[], &[], &[("log.cleanup.policy", "delete,compact")]);
        assert_eq!(policy(&file, &[]), "delete,compact");
        assert_eq!(policy(&file, &[("cleanup.policy", "compact")]), "compact");
    }

    #[test]
    fn broker_properties_of_larger_units_are_told_behind_that_of_the_smallest() {
        let synonyms = |levels: &Levels| {
            let described = describe_topic(levels, &Configs::new()).unwrap();
            let found = described.into_iter().find(|it| it.name == "retention.ms").unwrap();
            found.synonyms.iter().map(|it| (it.name, it.source)).collect::<Vec<_>>()
        };
        let ms = levels(&[("log.retention.ms", "5")], &[], &[]);
        assert_eq!(synonyms(&ms), [("log.retention.ms", Source::Broker), ("log.retention.hours", Source::Default)]);
        assert_eq!(synonyms(&levels(&[], &[], &[("log.retention.hours", "5")])), []);
    }

    #[test]
    fn internal_segment_bytes_is_told_of_where_it_is_used() {
        let none = levels(&[], &[], &[]);
        let names = |own: &[(&str, &str)]| {
            describe_topic(&none, &configs(own)).unwrap().iter().map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), LogConfig::names()[..33]);
        assert_eq!(names(&[("internal.segment.bytes", "500")]), LogConfig::names());
    }

    #[test]
    fn names_of_no_topic_and_contradictions_are_refused() {
        let none = levels(&[], &[], &[]);
        assert!(log_config(&none, &configs(&[("no.such.name", "1")])).is_err());
        assert!(
            log_config(&none, &configs(&[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")])).is_err()
        );
    }
}
