//! A property's value on its way in: text, and how Kafka reads it.

use super::{CleanupPolicy, ConfigError};
use std::{fmt::Display, str::FromStr};

/// Text that a property is to have.
pub(super) struct Value<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Value<'_> {
    pub(super) fn error(&self, why: impl Display) -> ConfigError {
        ConfigError { name: self.name.to_owned(), value: self.text.to_owned(), why: why.to_string() }
    }

    pub(super) fn at_least<T: FromStr + PartialOrd + Display>(&self, least: T, most: T) -> Result<T, ConfigError> {
        match self.text.parse() {
            Ok(value) if value >= least && value <= most => Ok(value),
            _ => Err(self.error(format!("it is a number from {least} to {most}"))),
        }
    }

    pub(super) fn or_unlimited(&self, least: i64) -> Result<Option<u64>, ConfigError> {
        Ok(u64::try_from(self.at_least(least, i64::MAX)?).ok())
    }

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error("it is true or false")),
        }
    }

    pub(super) fn one_of<T: Copy>(&self, names: &[(&str, T)]) -> Result<T, ConfigError> {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let found = names.iter().find(|(name, _)| *name == self.text);
        found.map(|(_, value)| *value).ok_or_else(|| self.error(format!("it is one of {}", known.join(", "))))
    }

    pub(super) fn cleanup_policy(&self) -> Result<CleanupPolicy, ConfigError> {
        let mut policy = CleanupPolicy { compact: false, delete: false };
        for word in self.words() {
            match word {
                "compact" => policy.compact = true,
                "delete" => policy.delete = true,
                _ => return Err(self.error("it is a list of compact and delete")),
            }
        }
        Ok(policy)
    }

    /// The elements of a list; none of empty text, but an empty one beside a stray comma.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split(',').map(str::trim).filter(|_| !self.text.is_empty())
    }

    /// Kafka's list of throttled replicas: `*`, or `partition:broker` pairs.
    pub(super) fn replicas(&self) -> Result<String, ConfigError> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let pair =
            |word: &str| word.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker));
        if self.text != "*" && !self.words().all(|word| word.is_empty() || pair(word)) {
            return Err(self.error("it is * or a list of partition:broker"));
        }
        Ok(self.words().collect::<Vec<_>>().join(","))
    }
}
