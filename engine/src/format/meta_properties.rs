//! `meta.properties`: whose log directory it is.

use super::error::FormatError;
use std::{collections::BTreeMap, fmt::Write as _};

/// The keys and values of the file, by ascending key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaProperties {
    values: BTreeMap<String, String>,
}

impl MetaProperties {
    /// Reads a Java properties file: comments, escapes and continued lines included.
    ///
    /// # Errors
    /// [`FormatError::Text`] for bytes that are no text or an escape that is none; [`FormatError::UnsupportedVersion`]
    /// for another version than 0 and 1.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let wrong = |line, why| FormatError::Text { what: "meta.properties", line, why };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(1, "the file is not text"))?;
        let mut values = BTreeMap::new();
        let mut lines = (1_usize..).zip(text.lines());
        while let Some((number, first)) = lines.next() {
            let mut line = trim_start(first).to_owned();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            while is_continued(&line) {
                line.pop();
                line.push_str(lines.next().map_or("", |(_, next)| trim_start(next)));
            }
            let (key, value) = split(&line);
            let unescaped = |text| unescape(text).ok_or_else(|| wrong(number, "the escape is not one"));
            values.insert(unescaped(key)?, unescaped(value)?);
        }
        let properties = Self { values };
        match properties.get("version").map(str::parse::<i64>) {
            None | Some(Ok(0 | 1)) => Ok(properties),
            Some(Ok(version)) => Err(FormatError::UnsupportedVersion { what: "meta.properties", version }),
            Some(Err(_)) => Err(wrong(1, "the version is not a number")),
        }
    }

    /// The bytes of the file: a line for each key in ascending order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut text = String::from("#\n");
        for (key, value) in &self.values {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}={}", escape(key), escape(value));
        }
        text.into_bytes()
    }

    /// The value of a key such as `cluster.id`, `node.id` or `directory.id`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.to_owned(), value.to_owned());
    }

    /// All keys and values, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Without the white space that Java knows.
fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\u{c}'])
}

fn is_continued(line: &str) -> bool {
    let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    backslashes % 2 == 1
}

/// Key and value, at the first separator that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, letter)| {
            let separates = !escaped && matches!(letter, '=' | ':' | ' ' | '\t' | '\u{c}');
            escaped = *letter == '\\' && !escaped;
            separates
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at_checked(end).unwrap_or((line, ""));
    let rest = trim_start(rest);
    (key, trim_start(rest.strip_prefix(['=', ':']).unwrap_or(rest)))
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next()? {
            't' => out.push('\t'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            'f' => out.push('\u{c}'),
            'u' => {
                let digits: String = letters.by_ref().take(4).collect();
                out.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
            }
            other => out.push(other),
        }
    }
    Some(out)
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' | '=' | ':' | '#' | '!' | ' ' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_of_kafka_is_read() {
        let text = b"#\n#Fri Oct 25 10:00:00 UTC 2024\ncluster.id=5L6g3nShT-eMCtK--X86sw\nnode.id=1\nversion=1\n";
        let properties = MetaProperties::decode(text).unwrap();
        assert_eq!(properties.get("cluster.id"), Some("5L6g3nShT-eMCtK--X86sw"));
        assert_eq!(MetaProperties::decode(&properties.encode()).unwrap(), properties);
    }

    #[test]
    fn escapes_separators_and_continued_lines_are_read() {
        let text = b"! note\n a\\:b : c \\u0041\nlong = one \\\n   two\nempty\n";
        let properties = MetaProperties::decode(text).unwrap();
        assert_eq!(properties.get("a:b"), Some("c A"));
        assert_eq!(properties.get("long"), Some("one two"));
        assert_eq!(properties.get("empty"), Some(""));
        assert_eq!(MetaProperties::decode(&properties.encode()).unwrap(), properties);
    }

    #[test]
    fn unknown_version_is_refused() {
        assert!(matches!(MetaProperties::decode(b"version=2\n"), Err(FormatError::UnsupportedVersion { .. })));
        assert!(MetaProperties::decode(b"version=x\n").is_err());
        assert!(MetaProperties::decode(b"a=\\uZZZZ\n").is_err());
    }
}
