//! What the fuzz target `request_decode` does with its input: it takes it for a request and reads it as the broker would.
//!
//! Whatever is read can be written again, and then reads as the same. Nothing here panics but for a fault of the decoder, and
//! what is allocated is at most [`allocated_at_most`].

#[cfg(test)]
mod samples;

use crate::{
    api::{ANSWERED, ForRequest, is_answered, with_type_of},
    protocol::{PartitionData, Produce, RequestHeader, Rewritable, TopicData, TopicKey, form},
};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ProduceRequest},
    protocol::{Decodable, Request},
};

/// Bytes of a request's key and version, which it begins with.
const KEY_AND_VERSION_BYTES: usize = 4;

/// Reads a request, and what it says once more.
///
/// # Panics
/// When the decoder is at fault.
pub fn request_decode(data: &[u8]) {
    let mut bytes = Bytes::from(as_answered(data));
    let Ok(header) = RequestHeader::take(&mut bytes) else { return };
    if !is_answered(header.key, header.version) {
        return;
    }
    if header.key == ApiKey::Produce {
        produce_again(bytes, header.version);
    } else {
        with_type_of(header.key, Again { version: header.version, body: bytes });
    }
}

/// The most bytes that reading a request of so many may allocate: no element of an array is larger than some hundred bytes, and
/// each takes at least one on the wire. Always allowed is what counts of a single byte, up to 126, make room for, one array in
/// the other: the decoder believes those.
#[must_use]
pub fn allocated_at_most(bytes: usize) -> usize {
    const ELEMENT_BYTES: usize = 512;
    const ALWAYS: usize = 128 << 10;
    ALWAYS + ELEMENT_BYTES * bytes
}

/// The input as a request that is answered: a key or a version that is not is taken for one that is.
fn as_answered(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let Some([key_1, key_2, version_1, version_2]) = data.first_chunk::<KEY_AND_VERSION_BYTES>() else { return bytes };
    let (key, version) = (i16::from_be_bytes([*key_1, *key_2]), i16::from_be_bytes([*version_1, *version_2]));
    let named = ANSWERED.iter().find(|answered| answered.key as i16 == key);
    let by_chance = || ANSWERED.get(usize::from(key.unsigned_abs()) % ANSWERED.len());
    let Some(answered) = named.or_else(by_chance) else { return bytes };
    let (least, most) = answered.versions;
    let version =
        if (least..=most).contains(&version) { version } else { least + version.rem_euclid(most - least + 1) };
    let front = [(answered.key as i16).to_be_bytes(), version.to_be_bytes()].concat();
    bytes.splice(..KEY_AND_VERSION_BYTES, front);
    bytes
}

/// Reads the body of a request, writes what was read, and reads that.
struct Again {
    version: i16,
    body: Bytes,
}

impl ForRequest for Again {
    type Output = ();

    fn call<T: Rewritable>(self) {
        let Ok(request) = T::read(self.body.clone(), self.version) else { return };
        let Some(known) = request.known(self.version) else { return };
        // No fewer bytes are left anywhere than were before, for the decoder believes no tag above 127 that exceeds them.
        let followed = [written(&known, form::<T::Known>(self.version)), self.body].concat();
        let again = T::read(followed.into(), self.version);
        assert_eq!(again.as_ref(), Ok(&request), "it reads otherwise");
    }
}

fn written(request: &impl Request, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    let result = request.encode(&mut bytes, version);
    assert!(result.is_ok(), "what was read cannot be written: {result:?}");
    bytes.freeze()
}

/// A produce request is read by hand. What is taken for one means the same to `kafka-protocol`, whose writing reads as the same.
fn produce_again(body: Bytes, version: i16) {
    let Ok(request) = Produce::decode(body.clone(), version) else { return };
    let theirs = ProduceRequest::decode(&mut body.clone(), version);
    assert!(theirs.is_ok(), "only this reads it: {theirs:?}");
    let Ok(theirs) = theirs else { return };
    assert_eq!(request, meaning(&theirs, version));
    assert_eq!(Produce::decode(written(&theirs, version), version).as_ref(), Ok(&request), "it reads otherwise");
}

/// What a request says, in the words of the decoder that is written by hand.
fn meaning(request: &ProduceRequest, version: i16) -> Produce {
    let topics = request.topic_data.iter().map(|topic| TopicData {
        topic: if version < 13 {
            TopicKey::Name(topic.name.0.clone())
        } else {
            TopicKey::Id(topic.topic_id.into_bytes())
        },
        partitions: topic
            .partition_data
            .iter()
            .map(|partition| PartitionData { index: partition.index, records: partition.records.clone() })
            .collect(),
    });
    Produce {
        transactional_id: request.transactional_id.clone().map(|id| id.0),
        acks: request.acks,
        timeout_ms: request.timeout_ms,
        topics: topics.collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn any_input_is_taken_for_a_request_that_is_answered() {
        for key in -300..300_i16 {
            for version in [0, 1, 4, 13, 14, i16::MAX, i16::MIN] {
                let input = [key.to_be_bytes(), version.to_be_bytes()].concat();
                let bytes = as_answered(&input);
                let found = i16::from_be_bytes([bytes[0], bytes[1]]);
                let answered = ANSWERED.iter().find(|answered| answered.key as i16 == found).unwrap();
                let (least, most) = answered.versions;
                assert!((least..=most).contains(&i16::from_be_bytes([bytes[2], bytes[3]])), "{key} {version}");
            }
        }
        assert_eq!(as_answered(&[1, 2, 3]), [1, 2, 3]);
    }
}
