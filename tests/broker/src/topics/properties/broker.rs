//! Properties of the broker, as clients see them.

use super::{Changes, Described, Kind, Levels, Source, table};
use table::{Row, Scope};

/// What the value of a broker's property is; `None` if brokers have no such.
pub(crate) fn kind_of_broker_property(name: &str) -> Option<Kind> {
    table::row_of(name).map(|row| row.kind)
}

/// Kafka's default of a broker's property.
pub(crate) fn default_of_broker_property(name: &str) -> Option<&'static str> {
    table::row_of(name)?.default
}

/// A property of the broker that cannot be set while it runs, or not to this value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PropertyError {
    /// Only before the broker starts, or by nobody.
    #[error("Cannot update these configs dynamically: {name}")]
    Fixed {
        /// The property.
        name: String,
    },
    /// Each broker has its own.
    #[error("Cannot update these configs at default cluster level: {name}")]
    PerBroker {
        /// The property.
        name: String,
    },
    /// The value is of another kind.
    #[error("Invalid value {value} for configuration {name}")]
    Invalid {
        /// The property.
        name: String,
        /// The value.
        value: String,
    },
}

/// Checks whether the broker's properties can be changed so while it runs, for it alone or for all brokers. Properties that
/// Kafka does not have are for plug-ins, and taken (`DynamicBrokerConfig.validate`).
///
/// # Errors
/// [`PropertyError`] of the first that cannot.
pub(crate) fn check_changes(changes: &Changes, for_all: bool) -> Result<(), PropertyError> {
    for (name, value) in changes {
        let Some(row) = table::row_of(name) else { continue };
        match row.scope {
            Scope::ReadOnly => return Err(PropertyError::Fixed { name: name.clone() }),
            Scope::PerBroker if for_all => return Err(PropertyError::PerBroker { name: name.clone() }),
            Scope::PerBroker | Scope::ClusterWide => {}
        }
        if let Some(value) = value.as_ref().filter(|value| !row.kind.has(value)) {
            return Err(PropertyError::Invalid { name: name.clone(), value: value.clone() });
        }
    }
    Ok(())
}

/// All properties of this broker (`ConfigHelper.createBrokerConfigEntry`).
pub(crate) fn describe_broker(levels: &Levels) -> Vec<Described> {
    table::ROWS.iter().map(|row| describe(row, levels)).collect()
}

/// What was set for all brokers.
pub(crate) fn describe_cluster(levels: &Levels) -> Vec<Described> {
    let set = |mut described: Described| {
        described.synonyms.retain(|synonym| synonym.source == Source::Cluster);
        described.value = described.synonyms.first()?.value.clone();
        Some(described)
    };
    table::ROWS.iter().filter_map(|row| set(describe(row, levels))).collect()
}

fn describe(row: &'static Row, levels: &Levels) -> Described {
    let mut synonyms = levels.synonyms(row.name);
    let value = levels.value(row.name).or(row.default).map(|text| row.kind.told(text));
    let is_sensitive = row.kind == Kind::Password;
    if is_sensitive {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    let is_read_only = row.scope == Scope::ReadOnly;
    let value = value.filter(|_| !is_sensitive);
    Described { name: row.name, value, kind: row.kind, is_read_only, is_sensitive, synonyms }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::tests::levels, *};

    fn found(described: &[Described], name: &str) -> Described {
        described.iter().find(|it| it.name == name).unwrap().clone()
    }

    #[test]
    fn every_property_is_described_with_where_it_was_set() {
        let set =
            levels(&[("log.retention.ms", "5")], &[("log.retention.hours", "6")], &[("log.retention.hours", "7")]);
        let described = describe_broker(&set);
        assert_eq!(described.len(), table::ROWS.len());
        let hours = found(&described, "log.retention.hours");
        assert_eq!((hours.value.as_deref(), hours.source(), hours.is_read_only), (Some("6"), Source::Cluster, true));
        let ms = found(&described, "log.retention.ms");
        assert_eq!((ms.value.as_deref(), ms.source(), ms.is_read_only), (Some("5"), Source::Broker, false));
        let sources = |it: &Described| it.synonyms.iter().map(|it| (it.name, it.source)).collect::<Vec<_>>();
        let expected = [
            ("log.retention.ms", Source::Broker),
            ("log.retention.hours", Source::Cluster),
            ("log.retention.hours", Source::Static),
            ("log.retention.hours", Source::Default),
        ];
        assert_eq!(sources(&ms), expected);
        assert_eq!(sources(&hours), expected[1..]);
        assert_eq!(sources(&found(&described, "log.retention.minutes")), []);
    }

    #[test]
    fn lists_are_told_word_by_word() {
        let set = levels(&[], &[], &[("log.cleanup.policy", "delete , compact")]);
        assert_eq!(found(&describe_broker(&set), "log.cleanup.policy").value.as_deref(), Some("delete,compact"));
    }

    #[test]
    fn secrets_are_not_told() {
        let set = levels(&[("ssl.key.password", "secret")], &[], &[]);
        let password = found(&describe_broker(&set), "ssl.key.password");
        assert_eq!((password.value, password.is_sensitive), (None, true));
        assert!(password.synonyms.iter().all(|synonym| synonym.value.is_none()) && !password.synonyms.is_empty());
    }

    #[test]
    fn cluster_has_what_was_set_for_it_alone() {
        let set = levels(&[("log.retention.ms", "5")], &[("message.max.bytes", "6")], &[("log.retention.ms", "7")]);
        let described = describe_cluster(&set);
        assert_eq!(described.len(), 1);
        assert_eq!((described[0].name, described[0].value.as_deref()), ("message.max.bytes", Some("6")));
    }

    #[test]
    fn changes_are_checked_by_scope_and_kind() {
        let change = |name: &str, value: &str| vec![(name.to_owned(), Some(value.to_owned()))];
        assert_eq!(check_changes(&change("log.retention.ms", "5"), true), Ok(()));
        assert!(matches!(check_changes(&change("log.retention.ms", "x"), true), Err(PropertyError::Invalid { .. })));
        assert!(matches!(check_changes(&change("node.id", "5"), false), Err(PropertyError::Fixed { .. })));
        assert!(matches!(check_changes(&change("listeners", "5"), true), Err(PropertyError::PerBroker { .. })));
        assert_eq!(check_changes(&change("of.a.plug-in", "x"), false), Ok(()));
        assert_eq!(check_changes(&vec![("log.retention.ms".to_owned(), None)], false), Ok(()));
    }
}
