//! Which features a cluster has, and how a new one begins.
//!
//! Owns: the levels that this broker knows, and the bootstrap checkpoint, a snapshot without a log that tells a controller
//! with an empty log what to begin with. Pure.

use super::{MetadataError, image::Image, record::Record};
use duramen::{
    Timestamp,
    format::{
        FormatError,
        builder::{BatchBuilder, NewRecord},
        control::ControlType,
    },
};

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
