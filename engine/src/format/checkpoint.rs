//! Text checkpoints: a version, a number of entries, an entry a line.

use super::error::FormatError;
use crate::types::{LeaderEpoch, Offset, TopicPartition};
use std::{collections::BTreeMap, fmt::Write as _};

/// The only version of every checkpoint.
pub const VERSION: i64 = 0;

/// An offset for each partition: recovery points, log starts, high watermarks, cleaner points.
pub type OffsetCheckpoint = BTreeMap<TopicPartition, Offset>;

/// A leader epoch and the first offset written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch, 0 or greater.
    pub epoch: LeaderEpoch,
    /// Its first offset, inclusive.
    pub start_offset: Offset,
}

/// Reads a `leader-epoch-checkpoint`. An empty file and one with only a version hold no entry.
///
/// # Errors
/// [`FormatError::UnsupportedVersion`]; [`FormatError::Text`] with the line that is wrong.
pub fn decode_epochs(bytes: &[u8]) -> Result<Vec<EpochEntry>, FormatError> {
    let what = "leader-epoch-checkpoint";
    entries(what, bytes, |fields| match fields {
        [epoch, start_offset] => {
            let epoch = epoch.parse().ok().filter(|epoch| *epoch >= 0)?;
            Some(EpochEntry { epoch, start_offset: start_offset.parse().ok().filter(|offset| *offset >= 0)? })
        }
        _ => None,
    })
}

/// The bytes of a `leader-epoch-checkpoint`.
#[must_use]
pub fn encode_epochs(entries: &[EpochEntry]) -> Vec<u8> {
    encode(entries.len(), entries.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset)))
}

/// Reads a checkpoint of offsets.
///
/// # Errors
/// [`FormatError::UnsupportedVersion`]; [`FormatError::Text`] with the line that is wrong.
pub fn decode_offsets(bytes: &[u8]) -> Result<OffsetCheckpoint, FormatError> {
    let parsed = entries("offset checkpoint", bytes, |fields| match fields {
        [topic, partition, offset] => {
            Some((TopicPartition::new(topic, partition.parse().ok()?).ok()?, offset.parse().ok()?))
        }
        _ => None,
    })?;
    Ok(parsed.into_iter().collect())
}

/// The bytes of a checkpoint of offsets, by ascending topic and partition.
#[must_use]
pub fn encode_offsets(offsets: &OffsetCheckpoint) -> Vec<u8> {
    let line = |(partition, offset): (&TopicPartition, &Offset)| {
        format!("{} {} {offset}", partition.topic(), partition.partition())
    };
    encode(offsets.len(), offsets.iter().map(line))
}

fn encode(len: usize, lines: impl Iterator<Item = String>) -> Vec<u8> {
    let mut text = format!("{VERSION}\n{len}\n");
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text.into_bytes()
}

fn entries<T>(what: &'static str, bytes: &[u8], parse: impl Fn(&[&str]) -> Option<T>) -> Result<Vec<T>, FormatError> {
    let wrong = |line: usize, why| FormatError::Text { what, line, why };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(1, "the file is not text"))?;
    let mut lines = text.lines();
    let Some(version) = lines.next() else {
        return Ok(Vec::new());
    };
    let version: i64 = version.trim().parse().map_err(|_| wrong(1, "the version is not a number"))?;
    if version != VERSION {
        return Err(FormatError::UnsupportedVersion { what, version });
    }
    let Some(count) = lines.next() else {
        return Ok(Vec::new());
    };
    let count: usize = count.trim().parse().map_err(|_| wrong(2, "the number of entries is not a number"))?;
    let mut entries = Vec::new();
    for (number, line) in (3_usize..).zip(lines) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        entries.push(parse(&fields).ok_or_else(|| wrong(number, "the line is not an entry"))?);
    }
    if entries.len() != count {
        return Err(wrong(2, "the file holds another number of entries"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // M 225
    #[test]
    fn epochs_have_the_bytes_of_kafka() {
        let epochs = [EpochEntry { epoch: 0, start_offset: 0 }, EpochEntry { epoch: 7, start_offset: 51234 }];
        assert_eq!(encode_epochs(&epochs), b"0\n2\n0 0\n7 51234\n");
        assert_eq!(decode_epochs(b"0\n2\n0 0\n7 51234\n").unwrap(), epochs);
        assert_eq!(decode_epochs(b"").unwrap(), []);
        assert_eq!(decode_epochs(b"0\n").unwrap(), []);
    }

    // M 225
    #[test]
    fn offsets_round_trip() {
        let text = b"0\n2\norders 0 17\nwith-dash.dot 12 9\n";
        let offsets = decode_offsets(text).unwrap();
        assert_eq!(offsets.get(&TopicPartition::new("with-dash.dot", 12).unwrap()), Some(&9));
        assert_eq!(encode_offsets(&offsets), text);
    }

    // M 225
    #[test]
    fn malformed_files_name_their_line() {
        let line = |bytes: &[u8]| match decode_epochs(bytes) {
            Err(FormatError::Text { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line(b"what is this\n"), 1);
        assert_eq!(line(b"0\nx\n"), 2);
        assert_eq!(line(b"0\n4\n0 0\n1 6\n"), 2);
        assert_eq!(line(b"0\n1\n0 0\n\n"), 4);
        assert_eq!(line(b"0\n1\n-3 0\n"), 3);
        assert_eq!(line(b"0\n1\n0 0 0\n"), 3);
        assert_eq!(line(&[0xff, 0xfe]), 1);
        assert!(matches!(decode_epochs(b"1\n1\n0 0\n"), Err(FormatError::UnsupportedVersion { version: 1, .. })));
    }
}
