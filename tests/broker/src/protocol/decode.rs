//! Decoding requests whose counts may lie.
//!
//! `kafka-protocol` makes room for as many elements as an array says that it has before it reads the first one: a count of
//! two thousand million in a request of 20 bytes would end the process. Kafka refuses a count that exceeds the bytes that are
//! left, for no element takes less than one (the generated `read` of each message). So does this, without knowing any
//! message:
//! * a varint is looked at when its first byte is read. All varints of requests are counts, lengths and tags, and none may
//!   exceed what is left. (A tag could, in Kafka. But messages number theirs from 0, and no varint of one byte is refused.)
//! * a number of 32 bits can be a count or anything else. So a request of an older version, where counts are such numbers, is
//!   decoded twice. The first time every number that exceeds what is left reads as one more than that: no array has so many
//!   elements and no bytes are so long, hence a count or length that lies fails in reading, while other numbers do not decide
//!   about what is read next. What passes is decoded as it stands.

use super::Malformed;
use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::{Decodable, HeaderVersion, buf::ByteBuf};

/// Decodes the body of a request.
///
/// # Errors
/// [`Malformed`] when it is no request of that version.
pub(crate) fn decode<T: Decodable + HeaderVersion>(body: Bytes, version: i16) -> Result<T, Malformed> {
    let has_plain_counts = T::header_version(version) < 2;
    if has_plain_counts {
        decode_guarded::<T>(body.clone(), version, true)?;
    }
    decode_guarded(body, version, false)
}

fn decode_guarded<T: Decodable>(bytes: Bytes, version: i16, caps_numbers: bool) -> Result<T, Malformed> {
    T::decode(&mut Guarded { bytes, caps_numbers }, version).map_err(|error| Malformed(error.to_string()))
}

/// Bytes that are on their guard against counts.
struct Guarded {
    bytes: Bytes,
    /// Whether numbers that exceed what is left read as one more than that.
    caps_numbers: bool,
}

impl Guarded {
    /// The unsigned varint at the front, as large as any that is read from here. A byte that begins none has its own value.
    fn varint(&self) -> u64 {
        let mut value = 0;
        for (at, byte) in (0..5).zip(self.bytes.iter()) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn left(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    /// Booleans and varints are read by this one. Their last byte is below 128, and so small an array does no harm.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let continues = self.bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        if continues && self.varint() > self.left() {
            let requested = usize::try_from(self.varint()).unwrap_or(usize::MAX);
            return Err(TryGetError { requested, available: self.bytes.len() });
        }
        self.bytes.try_get_u8()
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let number = self.bytes.try_get_i32()?;
        let too_many = i32::try_from(self.left() + 1).unwrap_or(i32::MAX);
        Ok(if self.caps_numbers { number.min(too_many) } else { number })
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{
            FetchRequest, MetadataRequest, OffsetCommitRequest, TopicName,
            fetch_request::{FetchPartition, FetchTopic},
            metadata_request::MetadataRequestTopic,
        },
        protocol::{Encodable, StrBytes},
    };

    fn encoded(message: &impl Encodable, version: i16) -> Bytes {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    fn fetch(version: i16) -> FetchRequest {
        let partition = FetchPartition::default().with_fetch_offset(1 << 40).with_partition_max_bytes(i32::MAX);
        let topic = FetchTopic::default().with_partitions(vec![partition; 300]);
        let named = topic.clone().with_topic(TopicName(StrBytes::from_static_str("orders")));
        let topic = if version < 13 { named } else { topic };
        FetchRequest::default().with_max_wait_ms(i32::MAX).with_max_bytes(i32::MAX).with_topics(vec![topic])
    }

    #[test]
    fn honest_requests_decode_as_ever() {
        for version in 4..=18 {
            let bytes = encoded(&fetch(version), version);
            assert_eq!(decode::<FetchRequest>(bytes, version).unwrap(), fetch(version), "version {version}");
        }
    }

    #[test]
    fn lying_count_of_a_plain_array_is_an_error() {
        // No topics but two thousand million; and as many partitions of a topic.
        assert!(decode::<MetadataRequest>(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]), 1).is_err());
        let mut bytes = encoded(&fetch(4), 4).to_vec();
        let partitions_at = 4 + 4 + 4 + 4 + 1 + 4 + 2 + b"orders".len();
        bytes[partitions_at..partitions_at + 4].copy_from_slice(&0x7fff_ffff_i32.to_be_bytes());
        assert!(decode::<FetchRequest>(bytes.into(), 4).is_err());
    }

    #[test]
    fn lying_count_of_a_compact_array_is_an_error() {
        for count in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0xff], &[0x80, 0x80, 0x80, 0x04]] {
            assert!(decode::<MetadataRequest>(Bytes::copy_from_slice(&[count, &[0; 20]].concat()), 9).is_err());
        }
    }

    #[test]
    fn boolean_that_looks_like_a_varint_does_not_hide_a_count() {
        // Groups and members first; the boolean of Metadata 12 comes after its topics, so a boolean that continues is
        // followed by tagged fields, whose number is refused in its own right.
        let request = encoded(&MetadataRequest::default().with_topics(Some(Vec::new())), 12).to_vec();
        let mut lying = request[..1].to_vec();
        lying.extend([0x80, 0x80, 0xff, 0xff, 0xff, 0x7f]);
        assert!(decode::<MetadataRequest>(lying.into(), 12).is_err());
    }

    #[test]
    fn every_damage_is_an_error_or_another_request() {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("orders"))));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let commit = OffsetCommitRequest::default();
        for version in 2..=9 {
            for bytes in
                [encoded(&request, version), encoded(&fetch(version.max(4)), version.max(4)), encoded(&commit, version)]
            {
                let bytes = bytes.slice(..bytes.len().min(200));
                for at in 0..bytes.len() {
                    for value in [0, 0x7f, 0x80, 0xff] {
                        let mut damaged = bytes.to_vec();
                        damaged[at] = value;
                        // Whether it decodes does not matter: nothing here may panic or abort.
                        drop(decode::<MetadataRequest>(damaged.clone().into(), version));
                        drop(decode::<FetchRequest>(damaged.clone().into(), version.max(4)));
                        drop(decode::<OffsetCommitRequest>(damaged.into(), version));
                    }
                }
            }
        }
    }
}
