//! Which features a cluster has, and how a new one begins.
//!
//! Owns: the levels that this broker knows, the decision to change one, and the bootstrap checkpoint, a snapshot without a log
//! that tells a controller with an empty log what to begin with. Pure.

use super::{MetadataError, changes::Decision, image::Image, record::Record};
use duramen::{
    Timestamp,
    format::{
        FormatError,
        builder::{BatchBuilder, NewRecord},
        control::ControlType,
    },
};
use std::collections::BTreeMap;

/// The level that the others depend on.
pub(super) const METADATA_VERSION: &str = "metadata.version";

/// What this broker knows, as Kafka 4.3.0 does: name, lowest and highest level. It begins new clusters with the highest, but
/// for `kraft.version`, which is no record of the metadata. Metadata versions below 3.7-IV2 have partitions without
/// directories; Kafka 4 takes them over, and brings them up to date with `kafka-features.sh`.
const KNOWN: [(&str, i16, i16); 7] = [
    (METADATA_VERSION, 17, 30),
    (ELIGIBLE_LEADER_REPLICAS, 0, 1),
    ("group.version", 0, 1),
    (KRAFT_VERSION, 0, 1),
    ("share.version", 0, 1),
    ("streams.version", 0, 1),
    ("transaction.version", 0, 2),
];

const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";
const KRAFT_VERSION: &str = "kraft.version";

/// The features that clients and tools find here and may change, with the least and the greatest level that this broker can keep
/// to. `group.version` 1 would be the newer group protocol, KIP-848.
pub(crate) const OFFERED: [(&str, i16, i16); 3] =
    [(METADATA_VERSION, 17, 30), ("transaction.version", 0, 2), ("group.version", 0, 0)];

/// In which direction a level may be changed (`FeatureUpdate.UpgradeType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Up only.
    Upgrade,
    /// Down, if nothing is lost.
    SafeDowngrade,
    /// Down, whatever is lost.
    UnsafeDowngrade,
}

/// A feature that is to have another level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeatureUpdate {
    pub(crate) name: String,
    pub(crate) level: i16,
    /// `None` is none that is known.
    pub(crate) direction: Option<Direction>,
}

/// Other levels for features: all of them, or none. Of a name that comes twice the last counts.
///
/// # Errors
/// [`MetadataError::FeatureUpdate`] of the first that cannot be.
pub(super) fn update(image: &Image, updates: &[FeatureUpdate]) -> Decision {
    let last: BTreeMap<_, _> = updates.iter().map(|update| (&update.name, update)).collect();
    for update in last.values() {
        let (feature, level) = (update.name.clone(), update.level);
        check_update(image, update).map_err(|why| MetadataError::FeatureUpdate { feature, level, why })?;
    }
    let changed = last.values().filter(|update| image.feature(&update.name) != update.level);
    Ok(changed.map(|update| Record::FeatureLevel { name: update.name.clone(), level: update.level }).collect())
}

/// Why a feature cannot have another level. Follows `FeatureControlManager.updateFeature`, but for `metadata.version`: what is in
/// the log may be in the form of its level, so that never goes down here.
fn check_update(image: &Image, update: &FeatureUpdate) -> Result<(), String> {
    let direction = update.direction.ok_or("The controller does not support the given upgrade type.")?;
    let (level, current) = (update.level, image.feature(&update.name));
    if level < 0 {
        return Err("A feature version cannot be less than 0.".to_owned());
    }
    let offered = OFFERED.iter().find(|(name, ..)| *name == update.name);
    let (_, least, most) = offered.ok_or("The broker does not support this feature.")?;
    if !(*least..=*most).contains(&level) {
        return Err(format!("The broker only supports versions {least}-{most}"));
    }
    let is_upgrade = direction == Direction::Upgrade;
    if level < current && is_upgrade {
        let why = "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
                   downgrade.";
        return Err(why.to_owned());
    }
    if level > current && !is_upgrade {
        return Err("Can't downgrade to a newer version.".to_owned());
    }
    if level < current && update.name == METADATA_VERSION {
        return Err("The metadata stay in the form that they have.".to_owned());
    }
    Ok(())
}

/// The features as a broker announces them.
pub(super) fn supported() -> Vec<(String, i16, i16)> {
    KNOWN.iter().map(|(name, min, max)| ((*name).to_owned(), *min, *max)).collect()
}

/// Compares the cluster's features with what is known.
///
/// # Errors
/// [`MetadataError::UnsupportedFeature`].
pub(super) fn check(image: &Image) -> Result<(), MetadataError> {
    for (feature, level) in image.features() {
        let known = KNOWN.iter().find(|known| known.0 == feature);
        let (min, max) = known.map_or((0, 0), |(_, min, max)| (*min, *max));
        if !(min..=max).contains(&level) {
            return Err(MetadataError::UnsupportedFeature { feature: feature.to_owned(), level, min, max });
        }
    }
    Ok(())
}

/// What a new cluster begins with.
pub(super) fn of_new_cluster() -> Vec<Record> {
    let levels = KNOWN.iter().filter(|(name, _, _)| *name != KRAFT_VERSION);
    levels.map(|(name, _, max)| Record::FeatureLevel { name: (*name).to_owned(), level: *max }).collect()
}

/// Whether replicas stay eligible which were in sync last.
pub(super) fn has_eligible_leader_replicas(image: &Image) -> bool {
    image.feature(ELIGIBLE_LEADER_REPLICAS) > 0
}

/// Whether a record turns on the feature that keeps replicas eligible which were in sync last.
pub(super) fn turns_on_eligible_leader_replicas(record: &Record) -> bool {
    matches!(record, Record::FeatureLevel { name, level } if name == ELIGIBLE_LEADER_REPLICAS && *level > 0)
}

/// The bytes of `bootstrap.checkpoint`: a header, the records, a footer, each in a batch (`BootstrapDirectory`).
///
/// # Errors
/// [`FormatError`] when there are no records.
pub(super) fn encode_checkpoint(records: &[Record], now_ms: Timestamp) -> Result<Vec<u8>, FormatError> {
    let batch = |base_offset| BatchBuilder::new().base_offset(base_offset).leader_epoch(0);
    let control = |base_offset, kind: ControlType, value: &[u8]| {
        batch(base_offset).control().record(now_ms, Some(&kind.encode()), Some(value)).build()
    };
    let mut data = batch(1);
    for record in records {
        let value = record.encode(0);
        data.push(&NewRecord { timestamp: Some(now_ms), value: Some(&value), ..NewRecord::default() });
    }
    let end = i64::from(data.records_count()).saturating_add(1);
    // Version 0; the header says also up to which time the snapshot goes: 0, and no tagged fields.
    let header = control(0, ControlType::SnapshotHeader, &[0; 11])?;
    let footer = control(end, ControlType::SnapshotFooter, &[0; 3])?;
    Ok([header, data.build()?, footer].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image(levels: &[(&str, i16)]) -> Image {
        let mut image = Image::default();
        for (name, level) in levels {
            image.apply(&Record::FeatureLevel { name: (*name).to_owned(), level: *level }).unwrap();
        }
        image
    }

    fn to(name: &str, level: i16, direction: Option<Direction>) -> FeatureUpdate {
        FeatureUpdate { name: name.to_owned(), level, direction }
    }

    const UP: Option<Direction> = Some(Direction::Upgrade);
    const DOWN: Option<Direction> = Some(Direction::SafeDowngrade);
    const LOSING: Option<Direction> = Some(Direction::UnsafeDowngrade);

    #[test]
    fn levels_go_up_and_down_in_the_direction_asked_for() {
        let image = image(&[(METADATA_VERSION, 20), ("transaction.version", 1)]);
        let good = [
            ("transaction.version", 2, UP),
            ("transaction.version", 0, DOWN),
            ("transaction.version", 0, LOSING),
            (METADATA_VERSION, 30, UP),
        ];
        for (name, level, direction) in good {
            let record = Record::FeatureLevel { name: name.to_owned(), level };
            assert_eq!(update(&image, &[to(name, level, direction)]).unwrap(), [record], "{name} {level}");
        }
        assert_eq!(update(&image, &[to("transaction.version", 1, UP)]).unwrap(), []);
        let bad = [
            ("transaction.version", 3, UP),
            ("transaction.version", -1, DOWN),
            ("transaction.version", 0, UP),
            ("transaction.version", 2, DOWN),
            ("transaction.version", 2, None),
            (METADATA_VERSION, 19, LOSING),
            ("group.version", 1, UP),
            ("share.version", 1, UP),
            ("no.such.feature", 1, UP),
        ];
        for (name, level, direction) in bad {
            let error = update(&image, &[to(name, level, direction)]).unwrap_err();
            assert_eq!(error.kafka_error_code(), 95, "{name} {level}: {error}");
        }
    }

    #[test]
    fn one_that_cannot_be_keeps_all_from_changing() {
        let image = image(&[(METADATA_VERSION, 20)]);
        assert!(update(&image, &[to(METADATA_VERSION, 30, UP), to("no.such.feature", 1, UP)]).is_err());
        let twice = [to(METADATA_VERSION, 31, UP), to(METADATA_VERSION, 21, UP)];
        assert_eq!(update(&image, &twice).unwrap().len(), 1);
    }

    #[test]
    fn what_is_offered_is_known() {
        for (name, least, most) in OFFERED {
            let known = KNOWN.iter().find(|known| known.0 == name).unwrap();
            assert!(known.1 <= least && most <= known.2, "{name}");
        }
    }
}
