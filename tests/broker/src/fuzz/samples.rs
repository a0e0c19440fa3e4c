//! One request of each kind in each version that is answered, with something in all of its fields: the corpus that the fuzz
//! target begins with.
//!
//! `kafka-protocol` has no requests to show, but it reads them. So each is read from bytes that are always what is asked for:
//! small counts, short texts. `DURAMEN_WRITE_CORPUS=1` writes the corpus anew.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::Malformed;
use bytes::{Buf, TryGetError};
use duramen_tests::{random::Random, sources::root};
use kafka_protocol::{
    messages::RequestHeader as Header,
    protocol::{Encodable, StrBytes, buf::ByteBuf, encode_request_header_into_buffer},
};
use std::{collections::BTreeMap, env, fmt::Debug, fs, ops::Range, path::PathBuf};

/// What `kafka-protocol` does not know, and so does not write.
const READ_ONLY: [(ApiKey, i16); 3] =
    [(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10), (ApiKey::WriteTxnMarkers, 2)];

/// Bytes that fit to whatever is read.
struct Fitting {
    random: Random,
}

impl Fitting {
    fn below(&mut self, bound: usize) -> u8 {
        u8::try_from(self.random.below(bound)).unwrap()
    }
}

impl Buf for Fitting {
    fn remaining(&self) -> usize {
        1 << 20
    }

    fn chunk(&self) -> &[u8] {
        &[]
    }

    fn advance(&mut self, _: usize) {}

    /// Of booleans and varints: no, none, null, or one less than this.
    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        Ok(self.below(4))
    }

    fn try_get_i8(&mut self) -> Result<i8, TryGetError> {
        Ok(self.below(2).cast_signed())
    }

    /// Of a length: now and then null.
    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        Ok(i16::from(self.below(8)) - 1)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        Ok(i32::from(self.below(4)))
    }

    fn try_get_i64(&mut self) -> Result<i64, TryGetError> {
        Ok(i64::from(self.below(100)) << self.below(50))
    }

    fn try_copy_to_slice(&mut self, into: &mut [u8]) -> Result<(), TryGetError> {
        into.fill_with(|| self.below(256));
        Ok(())
    }
}

impl ByteBuf for Fitting {
    fn peek_bytes(&mut self, range: Range<usize>) -> Bytes {
        Bytes::from(vec![b'p'; range.len()])
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        (0..size).map(|_| b'a' + self.below(26)).collect()
    }
}

/// The body of a request in a version, which reads back.
struct Sample {
    version: i16,
    seed: u64,
}

impl ForRequest for Sample {
    type Output = Result<Bytes, Malformed>;

    fn call<T: Rewritable>(self) -> Self::Output {
        let version = form::<T::Known>(self.version);
        let unreadable = |error: &dyn Debug| Malformed(format!("{error:?}"));
        let request = T::Known::decode(&mut Fitting { random: Random::new(self.seed) }, version);
        let request = request.map_err(|error| unreadable(&error))?;
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).map_err(|error| unreadable(&error))?;
        Ok(bytes.freeze())
    }
}

/// The longest of several bodies: those are wanted that say much.
fn body(key: ApiKey, version: i16) -> Bytes {
    let bodies = (0..40).filter_map(|seed| with_type_of(key, Sample { version, seed }).unwrap().ok());
    bodies
        .filter(|body| body.len() < 400)
        .max_by_key(Bytes::len)
        .unwrap_or_else(|| panic!("no {key:?} of version {version}"))
}

/// All samples, by the names of their files.
fn samples() -> BTreeMap<String, Bytes> {
    let mut samples = BTreeMap::new();
    for answered in ANSWERED {
        let (least, most) = answered.versions;
        let is_written =
            |version: &i16| is_answered(answered.key, *version) && !READ_ONLY.contains(&(answered.key, *version));
        for version in (least..=most).filter(is_written) {
            let header = Header::default()
                .with_request_api_key(answered.key as i16)
                .with_request_api_version(version)
                .with_correlation_id(7)
                .with_client_id(Some(StrBytes::from_static_str("me")));
            let mut bytes = BytesMut::new();
            encode_request_header_into_buffer(&mut bytes, &header).unwrap();
            bytes.extend_from_slice(&body(answered.key, version));
            samples.insert(format!("{:?}-{version}", answered.key), bytes.freeze());
        }
    }
    samples
}

fn corpus() -> PathBuf {
    root().join("fuzz/corpus/request_decode")
}

/// The type that reads a sample is the one that its file is named after, and takes all of it.
struct TakesAll {
    version: i16,
    body: Bytes,
}

impl ForRequest for TakesAll {
    type Output = bool;

    fn call<T: Rewritable>(mut self) -> bool {
        T::Known::decode(&mut self.body, form::<T::Known>(self.version)).is_ok() && self.body.is_empty()
    }
}

#[test]
fn each_request_of_each_version_reads_as_it_was_written() {
    let samples = samples();
    assert!(samples.len() > 200, "only {} samples", samples.len());
    for (name, sample) in samples {
        println!("{name}");
        request_decode(&sample);
        let mut bytes = sample.clone();
        let header = RequestHeader::take(&mut bytes).unwrap();
        if header.key == ApiKey::Produce {
            Produce::decode(bytes.clone(), header.version).unwrap();
        }
        let takes_all = TakesAll { version: header.version, body: bytes };
        assert_eq!(with_type_of(header.key, takes_all), Some(true), "{name}");
    }
}

#[test]
fn corpus_holds_each_request_of_each_version() {
    let writes = env::var("DURAMEN_WRITE_CORPUS").as_deref() == Ok("1");
    for (name, sample) in samples() {
        let path = corpus().join(&name);
        if writes {
            fs::create_dir_all(corpus()).unwrap();
            fs::write(&path, &sample).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), sample, "{name} is to be written anew: DURAMEN_WRITE_CORPUS=1");
    }
}
