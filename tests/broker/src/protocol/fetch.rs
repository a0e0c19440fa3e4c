//! A fetch response, written by hand round the records, which stay in their files.
//!
//! Follows `FetchResponse.json`, versions 4 to 18.

use super::{Malformed, Reply, ReplyBuilder};
use bytes::{BufMut, BytesMut};
use duramen::FileSlice;
use kafka_protocol::protocol::StrBytes;

/// The first version with compact lengths and tagged fields.
const FIRST_FLEXIBLE: i16 = 12;
/// The first version that names topics by their ids.
const FIRST_WITH_IDS: i16 = 13;
/// The first version that may tell who leads a partition now.
pub(crate) const FIRST_WITH_LEADERS: i16 = 16;

/// The answer to a fetch.
#[derive(Debug, Default)]
pub(crate) struct FetchAnswer {
    pub(crate) error_code: i16,
    pub(crate) topics: Vec<FetchedTopic>,
    /// Where the leaders that partitions name are found.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Where a node is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) node_id: i32,
    pub(crate) host: StrBytes,
    pub(crate) port: u16,
}

/// The part of one topic.
#[derive(Debug)]
pub(crate) struct FetchedTopic {
    /// As the request named it; of versions that go by ids, nothing.
    pub(crate) name: StrBytes,
    /// As the request named it; of versions that go by names, zeros.
    pub(crate) id: [u8; 16],
    pub(crate) partitions: Vec<FetchedPartition>,
}

/// The part of one partition.
#[derive(Debug)]
pub(crate) struct FetchedPartition {
    pub(crate) index: i32,
    pub(crate) error_code: i16,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// Producer id and first offset of each transaction to be skipped, for readers of committed records alone.
    pub(crate) aborted: Option<Vec<(i64, i64)>>,
    /// Where the reader's log begins to differ: the largest epoch in common and where it ends.
    pub(crate) diverging: Option<(i32, i64)>,
    /// Who leads it now, and in which epoch.
    pub(crate) leader: Option<(i32, i32)>,
    pub(crate) records: Option<FileSlice>,
}

impl FetchedPartition {
    /// A partition of which nothing can be told but an error (`FetchResponse.partitionResponse`).
    pub(crate) fn failed(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: None,
            diverging: None,
            leader: None,
            records: None,
        }
    }
}

impl FetchAnswer {
    /// The whole response.
    ///
    /// # Errors
    /// [`Malformed`] when it is too large, or records cannot be read.
    pub(crate) fn encode(self, correlation_id: i32, version: i16) -> Result<Reply, Malformed> {
        let is_flexible = version >= FIRST_FLEXIBLE;
        let mut writer = Writer { reply: ReplyBuilder::new(correlation_id, is_flexible), version, is_flexible };
        writer.answer(self)?;
        writer.reply.finish()
    }
}

struct Writer {
    reply: ReplyBuilder,
    version: i16,
    is_flexible: bool,
}

impl Writer {
    fn answer(&mut self, answer: FetchAnswer) -> Result<(), Malformed> {
        let no_throttling = 0;
        self.bytes().put_i32(no_throttling);
        if self.version >= 7 {
            let no_session = 0;
            self.bytes().put_i16(answer.error_code);
            self.bytes().put_i32(no_session);
        }
        self.length(Some(answer.topics.len()));
        for topic in answer.topics {
            self.topic(topic)?;
        }
        let mut tagged = Vec::new();
        if self.version >= FIRST_WITH_LEADERS && !answer.endpoints.is_empty() {
            tagged.push((0, endpoints(&answer.endpoints)));
        }
        self.end(&tagged);
        Ok(())
    }

    fn topic(&mut self, topic: FetchedTopic) -> Result<(), Malformed> {
        if self.version >= FIRST_WITH_IDS {
            self.bytes().put_slice(&topic.id);
        } else if self.is_flexible {
            put_compact(self.bytes(), topic.name.as_bytes());
        } else {
            self.bytes().put_u16(u16::try_from(topic.name.len()).unwrap_or(u16::MAX));
            self.bytes().put_slice(topic.name.as_bytes());
        }
        self.length(Some(topic.partitions.len()));
        for partition in topic.partitions {
            self.partition(partition)?;
        }
        self.end(&[]);
        Ok(())
    }

    fn partition(&mut self, partition: FetchedPartition) -> Result<(), Malformed> {
        self.bytes().put_i32(partition.index);
        self.bytes().put_i16(partition.error_code);
        self.bytes().put_i64(partition.high_watermark);
        self.bytes().put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.bytes().put_i64(partition.log_start_offset);
        }
        self.length(partition.aborted.as_ref().map(Vec::len));
        for (producer_id, first_offset) in partition.aborted.unwrap_or_default() {
            self.bytes().put_i64(producer_id);
            self.bytes().put_i64(first_offset);
            self.end(&[]);
        }
        if self.version >= 11 {
            let no_preferred_replica = -1;
            self.bytes().put_i32(no_preferred_replica);
        }
        let len = partition.records.as_ref().map_or(0, FileSlice::len);
        self.length(Some(usize::try_from(len).unwrap_or(usize::MAX)));
        if let Some(records) = partition.records {
            self.reply.put_slice(records)?;
        }
        let diverging = partition.diverging.map(|(epoch, end_offset)| (0, pair(epoch, &end_offset.to_be_bytes())));
        let leader = partition.leader.filter(|_| self.version >= FIRST_WITH_LEADERS);
        let leader = leader.map(|(node_id, epoch)| (1, pair(node_id, &epoch.to_be_bytes())));
        let tagged: Vec<_> = diverging.into_iter().chain(leader).collect();
        self.end(&tagged);
        Ok(())
    }

    fn bytes(&mut self) -> &mut BytesMut {
        self.reply.bytes()
    }

    /// Of an array, or of bytes; `None` is null.
    fn length(&mut self, len: Option<usize>) {
        let len = len.map(|len| u32::try_from(len).unwrap_or(u32::MAX));
        if self.is_flexible {
            put_unsigned(self.bytes(), len.map_or(0, |len| len.saturating_add(1)));
        } else {
            self.bytes().put_i32(len.map_or(-1, |len| i32::try_from(len).unwrap_or(i32::MAX)));
        }
    }

    /// The end of a structure, with its tagged fields by ascending tag.
    fn end(&mut self, tagged: &[(u32, Vec<u8>)]) {
        if !self.is_flexible {
            return;
        }
        put_unsigned(self.bytes(), u32::try_from(tagged.len()).unwrap_or(u32::MAX));
        for (tag, field) in tagged {
            put_unsigned(self.bytes(), *tag);
            put_unsigned(self.bytes(), u32::try_from(field.len()).unwrap_or(u32::MAX));
            self.bytes().put_slice(field);
        }
    }
}

/// A structure of a number and something fixed, without tagged fields.
fn pair(first: i32, second: &[u8]) -> Vec<u8> {
    [&first.to_be_bytes()[..], second, &[0]].concat()
}

fn endpoints(endpoints: &[Endpoint]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    put_unsigned(&mut bytes, u32::try_from(endpoints.len()).unwrap_or(u32::MAX).saturating_add(1));
    for endpoint in endpoints {
        bytes.put_i32(endpoint.node_id);
        put_compact(&mut bytes, endpoint.host.as_bytes());
        bytes.put_i32(i32::from(endpoint.port));
        let (no_rack, no_tagged) = (0, 0);
        bytes.put_slice(&[no_rack, no_tagged]);
    }
    bytes.to_vec()
}

fn put_compact(bytes: &mut BytesMut, text: &[u8]) {
    put_unsigned(bytes, u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(1));
    bytes.put_slice(text);
}

/// An unsigned varint.
pub(super) fn put_unsigned(bytes: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        let [.., low] = value.to_be_bytes();
        bytes.put_u8(low | 0x80);
        value >>= 7;
    }
    let [.., last] = value.to_be_bytes();
    bytes.put_u8(last);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Buf;
    use kafka_protocol::{
        messages::{FetchResponse, ResponseHeader},
        protocol::{Decodable, HeaderVersion},
    };

    fn decoded(reply: Reply, version: i16) -> FetchResponse {
        assert!(reply.slices.is_empty());
        let mut bytes = reply.bytes;
        assert_eq!(usize::try_from(bytes.get_i32()).unwrap(), bytes.len());
        let header = ResponseHeader::decode(&mut bytes, FetchResponse::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 9);
        let response = FetchResponse::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "version {version} has bytes too many");
        response
    }

    fn answer(version: i16) -> FetchAnswer {
        let found = FetchedPartition {
            high_watermark: 500,
            last_stable_offset: 400,
            log_start_offset: 3,
            aborted: Some(vec![(7, 10), (8, 20)]),
            ..FetchedPartition::failed(0, 0)
        };
        let fenced = FetchedPartition { leader: Some((1, 5)), ..FetchedPartition::failed(300, 74) };
        let diverging = FetchedPartition { diverging: Some((2, 44)), ..FetchedPartition::failed(2, 0) };
        let partitions = vec![found, fenced, diverging];
        let name = StrBytes::from_static_str(if version < FIRST_WITH_IDS { "orders" } else { "" });
        let id = if version < FIRST_WITH_IDS { [0; 16] } else { [6; 16] };
        let endpoints = vec![Endpoint { node_id: 1, host: StrBytes::from_static_str("localhost"), port: 9092 }];
        FetchAnswer { error_code: 0, topics: vec![FetchedTopic { name, id, partitions }], endpoints }
    }

    #[test]
    fn every_version_reads_back() {
        for version in 4..=18 {
            let response = decoded(answer(version).encode(9, version).unwrap(), version);
            let topic = &response.responses[0];
            assert_eq!(topic.topic.as_str(), if version < FIRST_WITH_IDS { "orders" } else { "" });
            assert_eq!(topic.topic_id.into_bytes(), if version < FIRST_WITH_IDS { [0; 16] } else { [6; 16] });
            let [found, fenced, diverging] = &topic.partitions[..] else { panic!("three partitions") };
            assert_eq!((found.partition_index, found.error_code, found.preferred_read_replica.0), (0, 0, -1));
            assert_eq!((found.high_watermark, found.last_stable_offset), (500, 400));
            assert_eq!(found.log_start_offset, if version >= 5 { 3 } else { -1 });
            let aborted = found.aborted_transactions.as_ref().unwrap();
            assert_eq!((aborted[1].producer_id.0, aborted[1].first_offset), (8, 20));
            assert_eq!(found.records.as_deref(), Some(&b""[..]));
            assert_eq!((fenced.partition_index, fenced.error_code), (300, 74));
            assert_eq!(fenced.aborted_transactions, None);
            let epoch = if version >= FIRST_WITH_LEADERS { 5 } else { -1 };
            assert_eq!(fenced.current_leader.leader_epoch, epoch, "version {version}");
            let ends = if version >= FIRST_FLEXIBLE { (2, 44) } else { (-1, -1) };
            assert_eq!((diverging.diverging_epoch.epoch, diverging.diverging_epoch.end_offset), ends);
            assert_eq!(response.node_endpoints.len(), usize::from(version >= FIRST_WITH_LEADERS));
        }
    }

    #[test]
    fn error_of_a_whole_fetch_is_told_where_the_version_can() {
        for version in [7, 12, 18] {
            let answer = FetchAnswer { error_code: 70, ..FetchAnswer::default() };
            let response = decoded(answer.encode(9, version).unwrap(), version);
            assert_eq!((response.error_code, response.session_id), (70, 0));
        }
    }

    #[test]
    fn varints_have_as_many_bytes_as_they_need() {
        for (value, bytes) in
            [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f])]
        {
            let mut written = BytesMut::new();
            put_unsigned(&mut written, value);
            assert_eq!(written, bytes);
        }
    }
}
