//! Reading the fields of a request.

use super::answers::Failure;
use duramen::LogConfig;
use serde_json::{Map, Value};

/// One request.
#[derive(Debug)]
pub(super) struct Request(pub(super) Value);

impl Request {
    pub(super) fn text(&self, field: &str, otherwise: &str) -> String {
        self.0.get(field).and_then(Value::as_str).unwrap_or(otherwise).to_owned()
    }

    pub(super) fn flag(&self, field: &str, otherwise: bool) -> bool {
        self.0.get(field).and_then(Value::as_bool).unwrap_or(otherwise)
    }

    pub(super) fn object(&self, field: &str) -> Map<String, Value> {
        self.0.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// A number that has to be there.
    pub(super) fn int(&self, field: &str) -> Result<i64, Failure> {
        self.optional(field)?.ok_or_else(|| Failure::bad_request(format!("needs {field}")))
    }

    pub(super) fn optional(&self, field: &str) -> Result<Option<i64>, Failure> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(Failure::bad_request(format!("not a number: {value}"))),
            },
        }
    }

    pub(super) fn hex(&self, field: &str) -> Result<Vec<u8>, Failure> {
        let text = self.text(field, "");
        let digit = |letter: char| letter.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digits: Option<Vec<u8>> = text.chars().map(digit).collect();
        match digits {
            Some(digits) if digits.len().is_multiple_of(2) => {
                Ok(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit)).collect())
            }
            _ => Err(Failure::bad_request(format!("{field} is not hexadecimal"))),
        }
    }
}

/// Topic properties as scripts give them. Small segments go by the name that allows them.
pub(super) fn log_config(given: &Map<String, Value>) -> Result<LogConfig, Failure> {
    let mut properties = Vec::new();
    for (name, value) in given {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let small = name == "segment.bytes" && text.parse::<i64>().is_ok_and(|bytes| bytes < 1 << 20);
        properties.push((if small { "internal.segment.bytes" } else { name.as_str() }, text));
    }
    let pairs = properties.iter().map(|(name, text)| (*name, text.as_str()));
    LogConfig::from_properties(pairs).map_err(|error| Failure::named("ConfigException", error.to_string()))
}
