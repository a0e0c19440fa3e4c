//! `.kafka_cleanshutdown`: its existence says that the log directory was closed in order.

/// The bytes of the marker.
#[must_use]
pub fn encode(broker_epoch: i64) -> Vec<u8> {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}").into_bytes()
}

/// The broker epoch in a marker; `None` if the content says nothing that can be understood, as in older ones.
#[must_use]
pub fn broker_epoch(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, rest) = text.split_once("\"brokerEpoch\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find(|letter: char| !letter.is_ascii_digit() && letter != '-').unwrap_or(value.len());
    value.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // M 214, 225
    #[test]
    fn marker_tells_the_broker_epoch_or_nothing() {
        assert_eq!(encode(17), b"{\"version\":0,\"brokerEpoch\":17}");
        assert_eq!(broker_epoch(&encode(17)), Some(17));
        assert_eq!(broker_epoch(b"{ \"brokerEpoch\" : -1, \"more\": 2 }"), Some(-1));
        assert_eq!(broker_epoch(b""), None);
        assert_eq!(broker_epoch(&[0xff]), None);
    }
}
