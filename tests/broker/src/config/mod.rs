//! Floor 0: the broker's settings, by Kafka's names.
//!
//! Owns which names there are, and one value of all of them, made from a properties file and single settings. Knows nothing of
//! what is changed while the broker runs: that is in the metadata, and whoever goes by it looks there first. A name that only
//! Kafka has a use for is taken and noted; one that nobody has is refused, for it is a slip.

mod known;
mod properties;
mod settings;

#[cfg(test)]
pub(crate) use settings::SETTINGS;
pub(crate) use settings::{Setting, TOPIC_SYNONYMS};

use duramen::{Durability, LogConfig};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// A setting that is none, or a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} = '{value}': {why}")]
pub struct SettingError {
    /// The setting.
    pub name: String,
    /// The value offered.
    pub value: String,
    /// The rule it breaks.
    pub why: String,
}

/// Where settings come from; the later ones win over the earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Text of a properties file.
    pub properties: Option<String>,
    /// Single settings by Kafka's names.
    pub set: Vec<(String, String)>,
    /// Log directories, instead of `log.dirs`.
    pub directories: Vec<PathBuf>,
    /// Where to listen, instead of `listeners`: host and port; port 0 is any that is free.
    pub listen: Option<String>,
    /// Where clients find it, instead of `advertised.listeners`: host and port.
    pub advertise: Option<String>,
    /// Instead of `node.id`.
    pub node_id: Option<i32>,
    /// What an acknowledgement means. Kafka has no such setting.
    pub ack: Durability,
}

impl Sources {
    /// What arguments of their own say, as the settings in whose place they stand.
    fn arguments(&self) -> Vec<(&'static str, String)> {
        let plaintext = |address: &String| format!("PLAINTEXT://{address}");
        let directories: Vec<_> = self.directories.iter().map(|path| path.to_string_lossy()).collect();
        let arguments = [
            ("node.id", self.node_id.map(|id| id.to_string())),
            ("listeners", self.listen.as_ref().map(plaintext)),
            ("advertised.listeners", self.advertise.as_ref().map(plaintext)),
            ("log.dirs", (!directories.is_empty()).then(|| directories.join(","))),
        ];
        arguments.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// All settings of the broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// What was given, by name, whether or not it has an effect.
    given: BTreeMap<String, String>,
    pub(crate) node_id: i32,
    pub(crate) listen: SocketAddr,
    /// Where clients find it, if that is not where it listens.
    pub(crate) advertise: Option<(String, u16)>,
    pub(crate) directories: Vec<PathBuf>,
    /// What an acknowledged append has to survive.
    pub(crate) ack: Durability,
    /// What a topic goes by that sets nothing.
    pub(crate) log: LogConfig,
    pub(crate) num_partitions: i32,
    pub(crate) auto_create_topics: bool,
    pub(crate) delete_topic_enable: bool,
    pub(crate) net: NetConfig,
    pub(crate) upkeep: UpkeepConfig,
    pub(crate) groups: GroupSettings,
    pub(crate) transactions: TransactionSettings,
    /// Bytes of a fetch's records, at most, but for a batch that is larger.
    pub(crate) fetch_max_bytes: u64,
}

/// Limits of connections and of what they send.
#[derive(Debug, Clone)]
pub(crate) struct NetConfig {
    pub(crate) request_max_bytes: usize,
    /// Bytes of large requests at a time, over all connections; `None` is as many as come.
    pub(crate) queued_max_bytes: Option<u64>,
    /// `None` keeps connections however long nothing happens.
    pub(crate) max_idle: Option<Duration>,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_ip: usize,
}

/// How logs are looked after.
#[derive(Debug, Clone)]
pub(crate) struct UpkeepConfig {
    pub(crate) retention_interval: Duration,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) cleaner_enable: bool,
    pub(crate) cleaner_backoff: Duration,
    pub(crate) dedupe_buffer_bytes: usize,
    pub(crate) io_buffer_bytes: usize,
    pub(crate) bytes_per_second: u64,
    pub(crate) producer_id_expiration_ms: i64,
    pub(crate) producer_id_check_interval: Duration,
}

/// Groups and their offsets; names and units as Kafka's.
#[derive(Debug, Clone)]
pub(crate) struct GroupSettings {
    pub(crate) min_session_timeout_ms: i32,
    pub(crate) max_session_timeout_ms: i32,
    pub(crate) initial_rebalance_delay_ms: i32,
    pub(crate) max_size: i32,
    pub(crate) offset_metadata_max_bytes: i32,
    pub(crate) topic_num_partitions: i32,
    pub(crate) topic_segment_bytes: i32,
    pub(crate) offsets_retention_ms: i64,
    pub(crate) offsets_retention_check_interval: Duration,
}

/// Transactions; names and units as Kafka's.
#[derive(Debug, Clone)]
pub(crate) struct TransactionSettings {
    pub(crate) max_timeout_ms: i32,
    pub(crate) id_expiration_ms: i32,
    pub(crate) topic_num_partitions: i32,
    pub(crate) topic_segment_bytes: i32,
    pub(crate) abort_timed_out_interval: Duration,
    pub(crate) remove_expired_interval: Duration,
    pub(crate) verify_partitions: bool,
}

impl BrokerConfig {
    /// Puts all sources together.
    ///
    /// # Errors
    /// [`SettingError`] of the first setting that is none, or whose value it cannot have.
    pub fn from_sources(sources: Sources) -> Result<Self, SettingError> {
        let mut given = BTreeMap::new();
        let lines = sources.properties.as_deref().map(properties::parse).unwrap_or_default();
        let arguments = sources.arguments().into_iter().map(|(name, value)| (name.to_owned(), value));
        for (name, value) in lines.into_iter().chain(sources.set).chain(arguments) {
            given.insert(name, value.trim().to_owned());
        }
        given.iter().try_for_each(|(name, value)| check(name, value))?;
        let values = Values(&given);
        let advertised = values.text("advertised.listeners");
        let advertise = advertised.map(|list| host_and_port("advertised.listeners", &listener(list))).transpose()?;
        let directories = if sources.directories.is_empty() { values.directories() } else { sources.directories };
        Ok(Self {
            node_id: values.number("node.id"),
            listen: address_of("listeners", &listener(values.text("listeners").unwrap_or_default()))?,
            advertise,
            directories,
            ack: sources.ack,
            log: log_config(&given)?,
            num_partitions: values.number("num.partitions"),
            auto_create_topics: values.is_on("auto.create.topics.enable"),
            delete_topic_enable: values.is_on("delete.topic.enable"),
            net: values.net(),
            upkeep: values.upkeep(),
            groups: values.groups(),
            transactions: values.transactions(),
            fetch_max_bytes: values.number("fetch.max.bytes"),
            given,
        })
    }

    /// Where clients find this node: host and port. Of an address that is every one of this machine, the machine's name.
    pub(crate) fn advertised(&self) -> (String, u16) {
        match &self.advertise {
            Some((host, port)) if !host.is_empty() => (host.clone(), *port),
            Some((_, port)) => (self.own_host(), *port),
            None => (self.own_host(), self.listen.port()),
        }
    }

    fn own_host(&self) -> String {
        let ip = self.listen.ip();
        if ip.is_unspecified() { hostname() } else { ip.to_string() }
    }

    /// What was given, by name.
    pub(crate) fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// The value of a setting with an effect here: as given, or the default.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        Values(&self.given).text(name)
    }

    /// The names that were given and have no effect here.
    pub fn without_effect(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str).filter(|name| Setting::of(name).is_none())
    }
}

/// Whether a setting is one, and can have the value.
///
/// # Errors
/// [`SettingError`].
pub(crate) fn check(name: &str, value: &str) -> Result<(), SettingError> {
    let error = |why: String| SettingError { name: name.to_owned(), value: value.to_owned(), why };
    match Setting::of(name) {
        Some(setting) => setting.check(value).map_err(error),
        None if known::is_known(name) => Ok(()),
        None => Err(error("there is no such setting".to_owned())),
    }
}

/// What topics go by that set nothing, under these settings of the broker.
///
/// # Errors
/// [`SettingError`] by the topic's name of the property.
pub(crate) fn log_config(given: &BTreeMap<String, String>) -> Result<LogConfig, SettingError> {
    let mut config = LogConfig::default();
    for (property, synonyms) in TOPIC_SYNONYMS {
        let set = synonyms.iter().find_map(|(name, factor)| Some((given.get(*name)?, *factor)));
        let Some((text, factor)) = set else { continue };
        let scaled = text.parse::<i64>().ok().filter(|_| factor != 1).map(|value| match value {
            -1 => -1,
            value => value.saturating_mul(factor),
        });
        let text = scaled.map_or_else(|| text.clone(), |value| value.to_string());
        config.set(property, &text).map_err(SettingError::from)?;
    }
    config.validate()?;
    Ok(config)
}

impl From<duramen::ConfigError> for SettingError {
    fn from(error: duramen::ConfigError) -> Self {
        Self { name: error.name, value: error.value, why: error.why }
    }
}

/// Settings that were checked.
struct Values<'a>(&'a BTreeMap<String, String>);

impl<'a> Values<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).or_else(|| Setting::of(name)?.default)
    }

    /// A number; one that does not fit is the nearest that does.
    fn number<N: TryFrom<i64> + Default>(&self, name: &str) -> N {
        let value = self.text(name).and_then(|text| i64::from_str(text).ok()).unwrap_or_default();
        N::try_from(value).unwrap_or_default()
    }

    fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    fn ms(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    fn directories(&self) -> Vec<PathBuf> {
        let list = self.text("log.dirs").or_else(|| self.text("log.dir")).unwrap_or_default();
        list.split(',').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect()
    }

    fn net(&self) -> NetConfig {
        let not_negative = |name: &str| u64::try_from(self.number::<i64>(name)).ok();
        NetConfig {
            request_max_bytes: self.number("socket.request.max.bytes"),
            queued_max_bytes: not_negative("queued.max.request.bytes").filter(|bytes| *bytes > 0),
            max_idle: not_negative("connections.max.idle.ms").map(Duration::from_millis),
            max_connections: self.number("max.connections"),
            max_connections_per_ip: self.number("max.connections.per.ip"),
        }
    }

    fn upkeep(&self) -> UpkeepConfig {
        let per_second = self.text("log.cleaner.io.max.bytes.per.second").and_then(|text| text.parse().ok());
        UpkeepConfig {
            retention_interval: self.ms("log.retention.check.interval.ms"),
            checkpoint_interval: self.ms("log.flush.offset.checkpoint.interval.ms"),
            cleaner_enable: self.is_on("log.cleaner.enable"),
            cleaner_backoff: self.ms("log.cleaner.backoff.ms"),
            dedupe_buffer_bytes: self.number("log.cleaner.dedupe.buffer.size"),
            io_buffer_bytes: self.number("log.cleaner.io.buffer.size"),
            bytes_per_second: per_second.map_or(u64::MAX, whole),
            producer_id_expiration_ms: self.number("producer.id.expiration.ms"),
            producer_id_check_interval: self.ms("producer.id.expiration.check.interval.ms"),
        }
    }

    fn groups(&self) -> GroupSettings {
        GroupSettings {
            min_session_timeout_ms: self.number("group.min.session.timeout.ms"),
            max_session_timeout_ms: self.number("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: self.number("group.initial.rebalance.delay.ms"),
            max_size: self.number("group.max.size"),
            offset_metadata_max_bytes: self.number("offset.metadata.max.bytes"),
            topic_num_partitions: self.number("offsets.topic.num.partitions"),
            topic_segment_bytes: self.number("offsets.topic.segment.bytes"),
            offsets_retention_ms: self.number::<i64>("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval: self.ms("offsets.retention.check.interval.ms"),
        }
    }

    fn transactions(&self) -> TransactionSettings {
        TransactionSettings {
            max_timeout_ms: self.number("transaction.max.timeout.ms"),
            id_expiration_ms: self.number("transactional.id.expiration.ms"),
            topic_num_partitions: self.number("transaction.state.log.num.partitions"),
            topic_segment_bytes: self.number("transaction.state.log.segment.bytes"),
            abort_timed_out_interval: self.ms("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            remove_expired_interval: self.ms("transaction.remove.expired.transaction.cleanup.interval.ms"),
            verify_partitions: self.is_on("transaction.partition.verification.enable"),
        }
    }
}

/// Bytes without their fraction, at least one.
fn whole(bytes: f64) -> u64 {
    // From text: a cast would say nothing of numbers that do not fit.
    format!("{:.0}", bytes.max(1.0)).parse().unwrap_or(u64::MAX)
}

/// The name of this machine, as far as it has one.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

/// Host and port of the one listener for clients in Kafka's list: `PLAINTEXT://host:port,CONTROLLER://...`.
fn listener(list: &str) -> String {
    let of_clients = |listener: &&str| !listener.trim_start().to_ascii_uppercase().starts_with("CONTROLLER:");
    let chosen = list.split(',').find(of_clients).unwrap_or_default().trim();
    chosen.split_once("://").map_or(chosen, |(_, address)| address).to_owned()
}

fn host_and_port(name: &str, text: &str) -> Result<(String, u16), SettingError> {
    let error = |why: &str| SettingError { name: name.to_owned(), value: text.to_owned(), why: why.to_owned() };
    let (host, port) =
        text.rsplit_once(':').ok_or_else(|| error("it is a host and a port, with a colon between them"))?;
    let port = port.parse().map_err(|_| error("its port is a number from 0 to 65535"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// An address to listen on: of an empty host, every one of this machine.
fn address_of(name: &str, text: &str) -> Result<SocketAddr, SettingError> {
    let (host, port) = host_and_port(name, text)?;
    if host.is_empty() {
        return Ok(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port));
    }
    let error = |why: String| SettingError { name: name.to_owned(), value: text.to_owned(), why };
    let mut found = (host.as_str(), port).to_socket_addrs().map_err(|source| error(source.to_string()))?;
    found.next().ok_or_else(|| error("the host has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Result<BrokerConfig, SettingError> {
        let set = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        BrokerConfig::from_sources(Sources { set, ..Sources::default() })
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = set(&[]).unwrap();
        assert_eq!(config.log, LogConfig::default());
        assert_eq!((config.node_id, config.num_partitions, config.auto_create_topics), (1, 1, true));
        assert_eq!(config.net.request_max_bytes, 100 << 20);
        assert_eq!(config.net.max_idle, Some(Duration::from_secs(600)));
        assert_eq!(config.upkeep.bytes_per_second, u64::MAX);
        assert_eq!(config.groups.offsets_retention_ms, 7 * 24 * 3_600_000);
        assert_eq!(config.listen.port(), 9092);
        assert!(config.log.get("compression.lz4.level").is_some());
    }

    #[test]
    fn every_default_is_a_value_that_its_setting_takes() {
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                assert_eq!(setting.check(default), Ok(()), "{}", setting.name);
            }
            assert!(!known::is_known(setting.name), "{} is in both tables", setting.name);
        }
    }

    #[test]
    fn every_property_of_a_topic_has_the_default_of_its_synonyms() {
        for (property, synonyms) in TOPIC_SYNONYMS {
            let default = synonyms.iter().find_map(|(name, factor)| Some((Setting::of(name)?.default?, *factor)));
            let (default, factor) = default.unwrap();
            let scaled =
                if factor == 1 { default.to_owned() } else { (default.parse::<i64>().unwrap() * factor).to_string() };
            assert_eq!(LogConfig::default().get(property), Some(scaled), "{property}");
        }
    }

    #[test]
    fn more_exact_unit_wins_and_is_scaled() {
        let retention = |pairs: &[(&str, &str)]| set(pairs).unwrap().log.retention_ms;
        assert_eq!(retention(&[("log.retention.hours", "2")]), Some(7_200_000));
        assert_eq!(retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]), Some(180_000));
        assert_eq!(retention(&[("log.retention.ms", "5"), ("log.retention.minutes", "3")]), Some(5));
        assert_eq!(retention(&[("log.retention.hours", "-1")]), None);
    }

    #[test]
    fn slip_is_refused_and_what_only_kafka_uses_is_noted() {
        assert_eq!(set(&[("num.partition", "4")]).unwrap_err().why, "there is no such setting");
        assert!(set(&[("num.partitions", "0")]).is_err());
        assert!(set(&[("log.segment.bytes", "17")]).is_err());
        assert!(set(&[("auto.create.topics.enable", "maybe")]).is_err());
        let config = set(&[("controller.quorum.voters", "1@localhost:9093"), ("num.partitions", " 4 ")]).unwrap();
        assert_eq!(config.without_effect().collect::<Vec<_>>(), ["controller.quorum.voters"]);
        assert_eq!((config.num_partitions, config.value("num.partitions")), (4, Some("4")));
    }

    #[test]
    fn single_settings_win_over_the_file_and_arguments_over_both() {
        let sources = Sources {
            properties: Some(
                "num.partitions=2\nnode.id=5\nlog.dirs=/a, /b\nlisteners=CONTROLLER://:1,PLAINTEXT://127.0.0.1:7\n"
                    .into(),
            ),
            set: vec![("num.partitions".into(), "3".into())],
            node_id: Some(6),
            advertise: Some("[::1]:90".into()),
            ..Sources::default()
        };
        let config = BrokerConfig::from_sources(sources.clone()).unwrap();
        assert_eq!((config.num_partitions, config.node_id), (3, 6));
        assert_eq!(config.directories, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(config.listen, "127.0.0.1:7".parse().unwrap());
        assert_eq!(config.advertise, Some(("::1".to_owned(), 90)));
        let directories = vec![PathBuf::from("/c"), PathBuf::from("/d")];
        let arguments = Sources { directories: directories.clone(), listen: Some("127.0.0.1:8".into()), ..sources };
        let config = BrokerConfig::from_sources(arguments).unwrap();
        assert_eq!((config.directories.clone(), config.listen), (directories, "127.0.0.1:8".parse().unwrap()));
        let given =
            ["node.id", "log.dirs", "listeners", "advertised.listeners"].map(|name| config.value(name).unwrap());
        assert_eq!(given, ["6", "/c,/d", "PLAINTEXT://127.0.0.1:8", "PLAINTEXT://[::1]:90"]);
        assert!(BrokerConfig::from_sources(Sources { node_id: Some(-1), ..Sources::default() }).is_err());
    }
}
