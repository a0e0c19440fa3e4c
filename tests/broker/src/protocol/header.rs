//! What stands in front of every request.

use super::Malformed;
use bytes::{Buf, Bytes};
use kafka_protocol::{messages::ApiKey, protocol::StrBytes};

/// Which request it is, in which version, and whose answer it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Takes the header off a request's front and leaves the body. Follows `RequestHeader.parse`: version 1 of the header,
    /// or 2 where the request's version is a flexible one; the client id is never compact.
    ///
    /// # Errors
    /// [`Malformed`] for a key that nobody knows, or bytes that end too early.
    pub(crate) fn take(bytes: &mut Bytes) -> Result<Self, Malformed> {
        let early = |_| Malformed("the request ends within its header".to_owned());
        let key = bytes.try_get_i16().map_err(early)?;
        let version = bytes.try_get_i16().map_err(early)?;
        let correlation_id = bytes.try_get_i32().map_err(early)?;
        let client_id = match bytes.try_get_i16().map_err(early)? {
            -1 => None,
            len => Some(text(bytes, len)?),
        };
        let key = ApiKey::try_from(key).map_err(|()| Malformed(format!("there is no request of key {key}")))?;
        if key.request_header_version(version) >= 2 {
            skip_tagged(bytes)?;
        }
        Ok(Self { key, version, correlation_id, client_id })
    }
}

fn text(bytes: &mut Bytes, len: i16) -> Result<StrBytes, Malformed> {
    let len = usize::try_from(len).map_err(|_| Malformed(format!("a client id of {len} bytes")))?;
    if bytes.remaining() < len {
        return Err(Malformed("the client id is longer than its request".to_owned()));
    }
    StrBytes::from_utf8(bytes.split_to(len)).map_err(|error| Malformed(format!("the client id is no text: {error}")))
}

/// No tagged field of a header means anything yet.
pub(super) fn skip_tagged(bytes: &mut Bytes) -> Result<(), Malformed> {
    for _ in 0..unsigned(bytes)? {
        unsigned(bytes)?;
        let len = usize::try_from(unsigned(bytes)?).unwrap_or(usize::MAX);
        if bytes.remaining() < len {
            return Err(Malformed("a tagged field is longer than its request".to_owned()));
        }
        bytes.advance(len);
    }
    Ok(())
}

/// An unsigned varint of at most 32 bits.
pub(super) fn unsigned(bytes: &mut Bytes) -> Result<u32, Malformed> {
    let mut value = 0_u64;
    for at in 0..5 {
        let byte = bytes.try_get_u8().map_err(|_| Malformed("the request ends within a number".to_owned()))?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| Malformed(format!("{value} is above 32 bits")));
        }
    }
    Err(Malformed("a number of more than five bytes".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::RequestHeader as Theirs,
        protocol::{Encodable, encode_request_header_into_buffer},
    };

    fn encoded(key: ApiKey, version: i16, client_id: Option<&'static str>) -> Bytes {
        let header = Theirs::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        let mut bytes = BytesMut::new();
        encode_request_header_into_buffer(&mut bytes, &header).unwrap();
        bytes.extend_from_slice(b"body");
        bytes.freeze()
    }

    #[test]
    fn header_is_taken_off_whatever_its_version() {
        for (version, client_id) in [(8, Some("me")), (9, Some("me")), (13, None), (3, None)] {
            let mut bytes = encoded(ApiKey::Produce, version, client_id);
            let header = RequestHeader::take(&mut bytes).unwrap();
            let client_id = client_id.map(StrBytes::from_static_str);
            assert_eq!(header, RequestHeader { key: ApiKey::Produce, version, correlation_id: 7, client_id });
            assert_eq!(bytes, &b"body"[..]);
        }
    }

    #[test]
    fn tagged_fields_of_a_header_are_skipped() {
        let theirs = Theirs::default()
            .with_request_api_key(ApiKey::Produce as i16)
            .with_request_api_version(9)
            .with_unknown_tagged_field(300, Bytes::from_static(b"future"));
        let mut bytes = BytesMut::new();
        theirs.encode(&mut bytes, 2).unwrap();
        let mut bytes = bytes.freeze();
        RequestHeader::take(&mut bytes).unwrap();
        assert!(bytes.is_empty());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = encoded(ApiKey::Produce, 9, Some("me"));
        for len in 0..whole.len() - b"body".len() {
            assert!(RequestHeader::take(&mut whole.slice(..len)).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn unknown_key_and_impossible_lengths_are_errors() {
        for bytes in [&[0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 0, 0, 3, 0, 0, 0, 0, 0xff, 0xfe]] {
            assert!(RequestHeader::take(&mut Bytes::copy_from_slice(bytes)).is_err());
        }
        assert!(unsigned(&mut Bytes::from_static(&[0xff; 5])).is_err());
        assert_eq!(unsigned(&mut Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f])), Ok(u32::MAX));
        assert!(unsigned(&mut Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f])).is_err());
    }
}
