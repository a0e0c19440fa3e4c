//! `partition.metadata`: the topic id of a partition directory.

use super::{error::FormatError, uuid::Uuid};

/// The version that is written.
pub const VERSION: i64 = 0;

/// Reads the topic id. Future versions are read like 0, as in Kafka.
///
/// # Errors
/// [`FormatError::Text`] for anything else than the two lines, or for the id that means "none".
pub fn decode(bytes: &[u8]) -> Result<Uuid, FormatError> {
    let wrong = |line, why| FormatError::Text { what: "partition.metadata", line, why };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(1, "the file is not text"))?;
    let mut lines = text.lines();
    let mut field = |line, name| {
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some(value), None) if key == name => Ok(value),
            _ => Err(wrong(line, "the line is not the one that belongs here")),
        }
    };
    let version: i64 = field(1, "version:")?.parse().map_err(|_| wrong(1, "the version is not a number"))?;
    if version < VERSION {
        return Err(wrong(1, "the version is negative"));
    }
    let id: Uuid = field(2, "topic_id:")?.parse().map_err(|_| wrong(2, "the topic id is not one"))?;
    if id.is_zero() {
        return Err(wrong(2, "the topic id is the one that means none"));
    }
    Ok(id)
}

/// The bytes for a topic id.
#[must_use]
pub fn encode(topic_id: Uuid) -> Vec<u8> {
    format!("version: {VERSION}\ntopic_id: {topic_id}").into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // M 225
    #[test]
    fn file_has_the_bytes_of_kafka() {
        let text = b"version: 0\ntopic_id: ABEiM0RVZneImaq7zN3u_w";
        assert_eq!(encode(decode(text).unwrap()), text);
        assert!(decode(b"version: 9\ntopic_id: ABEiM0RVZneImaq7zN3u_w\n").is_ok());
    }

    // M 225
    #[test]
    fn malformed_files_are_refused() {
        for text in [
            "",
            "version: 0",
            "version: x\ntopic_id: ABEiM0RVZneImaq7zN3u_w",
            "version: 0\ntopic_id: AAAA",
            "version: -1\ntopic_id: ABEiM0RVZneImaq7zN3u_w",
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
            "topic_id: ABEiM0RVZneImaq7zN3u_w\nversion: 0",
        ] {
            assert!(decode(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
