//! Messages of Kafka 4.3.0 in versions that `kafka-protocol` does not know yet, on top of its types.
//!
//! Older versions, and those that differ in meaning alone, are read and written by `kafka-protocol`. Keeps: each message has
//! one type here, in which it is read or written whatever its version, so that nobody else knows of the difference.

use super::{Malformed, Reply, ReplyBuilder, decode::decode, fetch::put_unsigned, reader::Reader};
use bytes::{BufMut, Bytes};
use kafka_protocol::{
    messages::{
        DescribeLogDirsResponse, OffsetCommitRequest, OffsetFetchRequest, WriteTxnMarkersRequest,
        describe_log_dirs_response::DescribeLogDirsResult,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics},
        write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic},
    },
    protocol::{Encodable, HeaderVersion, Message, Request},
};
use uuid::Uuid;

/// The first version of OffsetCommit and OffsetFetch that names topics by their ids.
pub(crate) const FIRST_OFFSETS_WITH_IDS: i16 = 10;
/// The first version of WriteTxnMarkers that says by which protocol a transaction ends.
pub(super) const FIRST_MARKERS_WITH_TRANSACTION_VERSION: i16 = 2;
/// The first version of DescribeLogDirs that says which directories take no new partitions.
const FIRST_DIRECTORIES_WITH_CORDON: i16 = 5;

/// A request that can be read in every version in which it is answered.
pub(crate) trait Readable: Sized {
    /// Reads its body.
    ///
    /// # Errors
    /// [`Malformed`] when it is no request of that version.
    fn read(body: Bytes, version: i16) -> Result<Self, Malformed>;
}

impl<T: Request> Readable for T {
    fn read(body: Bytes, version: i16) -> Result<Self, Malformed> {
        decode(body, form::<T>(version))
    }
}

/// A response that can be written in every version in which it is given.
pub(crate) trait Writable {
    /// Writes it with its header.
    ///
    /// # Errors
    /// [`Malformed`] when a field is set that the version does not have.
    fn write(&self, correlation_id: i32, version: i16) -> Result<Reply, Malformed>;
}

impl<T: Encodable + HeaderVersion + Message> Writable for T {
    fn write(&self, correlation_id: i32, version: i16) -> Result<Reply, Malformed> {
        Reply::encode(correlation_id, form::<T>(version), self)
    }
}

/// The version in whose form `kafka-protocol` reads and writes a message: the same, or the newest that it knows.
pub(crate) fn form<T: Message>(version: i16) -> i16 {
    version.min(T::VERSIONS.max)
}

/// OffsetCommit, to version 10: topics have ids there, and no names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OffsetCommit(pub(crate) OffsetCommitRequest);

impl Readable for OffsetCommit {
    fn read(body: Bytes, version: i16) -> Result<Self, Malformed> {
        if version < FIRST_OFFSETS_WITH_IDS {
            return Readable::read(body, version).map(Self);
        }
        let mut reader = Reader::new(body, true);
        let request = OffsetCommitRequest::default()
            .with_group_id(reader.text()?.into())
            .with_generation_id_or_member_epoch(reader.i32()?)
            .with_member_id(reader.text()?)
            .with_group_instance_id(reader.nullable_text()?)
            .with_topics(reader.array(topic_to_commit)?);
        reader.end()?;
        Ok(Self(request))
    }
}

fn topic_to_commit(reader: &mut Reader) -> Result<OffsetCommitRequestTopic, Malformed> {
    let id = Uuid::from_bytes(reader.id()?);
    let partitions = reader.array(|reader| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(reader.i32()?)
            .with_committed_offset(reader.i64()?)
            .with_committed_leader_epoch(reader.i32()?)
            .with_committed_metadata(reader.nullable_text()?);
        reader.end().map(|()| partition)
    })?;
    reader.end()?;
    Ok(OffsetCommitRequestTopic::default().with_topic_id(id).with_partitions(partitions))
}

/// OffsetFetch, to version 10: topics have ids there, and no names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OffsetFetch(pub(crate) OffsetFetchRequest);

impl Readable for OffsetFetch {
    fn read(body: Bytes, version: i16) -> Result<Self, Malformed> {
        if version < FIRST_OFFSETS_WITH_IDS {
            return Readable::read(body, version).map(Self);
        }
        let mut reader = Reader::new(body, true);
        let request = OffsetFetchRequest::default()
            .with_groups(reader.array(group_to_fetch)?)
            .with_require_stable(reader.boolean()?);
        reader.end()?;
        Ok(Self(request))
    }
}

fn group_to_fetch(reader: &mut Reader) -> Result<OffsetFetchRequestGroup, Malformed> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(reader.text()?.into())
        .with_member_id(reader.nullable_text()?)
        .with_member_epoch(reader.i32()?)
        .with_topics(reader.nullable_array(topic_to_fetch)?);
    reader.end().map(|()| group)
}

fn topic_to_fetch(reader: &mut Reader) -> Result<OffsetFetchRequestTopics, Malformed> {
    let topic = OffsetFetchRequestTopics::default()
        .with_topic_id(Uuid::from_bytes(reader.id()?))
        .with_partition_indexes(reader.array(Reader::i32)?);
    reader.end().map(|()| topic)
}

/// WriteTxnMarkers, to version 2: each marker, and the version of the transaction protocol by which it ends its transaction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WriteTxnMarkers(pub(crate) Vec<(WritableTxnMarker, i16)>);

impl Readable for WriteTxnMarkers {
    fn read(body: Bytes, version: i16) -> Result<Self, Malformed> {
        if version < FIRST_MARKERS_WITH_TRANSACTION_VERSION {
            let request: WriteTxnMarkersRequest = Readable::read(body, version)?;
            return Ok(Self(request.markers.into_iter().map(|marker| (marker, 0)).collect()));
        }
        let mut reader = Reader::new(body, true);
        let markers = reader.array(marker)?;
        reader.end()?;
        Ok(Self(markers))
    }
}

fn marker(reader: &mut Reader) -> Result<(WritableTxnMarker, i16), Malformed> {
    let marker = WritableTxnMarker::default()
        .with_producer_id(reader.i64()?.into())
        .with_producer_epoch(reader.i16()?)
        .with_transaction_result(reader.boolean()?)
        .with_topics(reader.array(topic_to_mark)?)
        .with_coordinator_epoch(reader.i32()?);
    let transaction_version = reader.i8()?.into();
    reader.end()?;
    Ok((marker, transaction_version))
}

fn topic_to_mark(reader: &mut Reader) -> Result<WritableTxnMarkerTopic, Malformed> {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(reader.text()?.into())
        .with_partition_indexes(reader.array(Reader::i32)?);
    reader.end().map(|()| topic)
}

/// The answer to DescribeLogDirs, to version 5, which says of each directory whether it is cordoned: none is, here.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DescribedLogDirs(pub(crate) DescribeLogDirsResponse);

impl Writable for DescribedLogDirs {
    fn write(&self, correlation_id: i32, version: i16) -> Result<Reply, Malformed> {
        if version < FIRST_DIRECTORIES_WITH_CORDON {
            return self.0.write(correlation_id, version);
        }
        let Self(response) = self;
        let mut reply = ReplyBuilder::new(correlation_id, true);
        let bytes = reply.bytes();
        bytes.put_i32(response.throttle_time_ms);
        bytes.put_i16(response.error_code);
        put_unsigned(bytes, u32::try_from(response.results.len()).unwrap_or(u32::MAX).saturating_add(1));
        for directory in &response.results {
            let known = directory.encode(bytes, DescribeLogDirsResult::VERSIONS.max);
            known.map_err(|error| Malformed(format!("a response: {error}")))?;
            // The new field comes in front of the number of tagged fields, which is the last byte of those that have none.
            bytes.truncate(bytes.len().saturating_sub(1));
            let (is_cordoned, no_tagged) = (0, 0);
            bytes.put_slice(&[is_cordoned, no_tagged]);
        }
        let no_tagged = 0;
        bytes.put_u8(no_tagged);
        reply.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::protocol::StrBytes;

    const ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// A compact text or array of bytes as they stand, its length in front.
    fn compact(len: usize, bytes: &[u8]) -> Vec<u8> {
        [&[u8::try_from(len).unwrap() + 1], bytes].concat()
    }

    fn name(name: &str) -> Vec<u8> {
        compact(name.len(), name.as_bytes())
    }

    /// An OffsetCommit as `OffsetCommitRequest.json` says, and its bytes in version 10.
    fn commit() -> (OffsetCommitRequest, Vec<u8>) {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(7)
            .with_committed_offset(1 << 40)
            .with_committed_leader_epoch(3)
            .with_committed_metadata(Some(text("note")));
        let topic = OffsetCommitRequestTopic::default().with_topic_id(ID).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(text("group").into())
            .with_generation_id_or_member_epoch(5)
            .with_member_id(text("member"))
            .with_group_instance_id(None)
            .with_topics(vec![topic]);
        let offset =
            [&7_i32.to_be_bytes()[..], &(1_i64 << 40).to_be_bytes(), &3_i32.to_be_bytes(), &name("note"), &[0]];
        let topic = [&ID.as_bytes()[..], &compact(1, &offset.concat()), &[0]].concat();
        let parts = [&name("group")[..], &5_i32.to_be_bytes(), &name("member"), &[0], &compact(1, &topic), &[0]];
        (request, parts.concat())
    }

    /// An OffsetFetch of two groups, of which one asks for everything, and its bytes in version 10.
    fn fetch() -> (OffsetFetchRequest, Vec<u8>) {
        let topic = OffsetFetchRequestTopics::default().with_topic_id(ID).with_partition_indexes(vec![0, 9]);
        let some = OffsetFetchRequestGroup::default()
            .with_group_id(text("some").into())
            .with_member_id(Some(text("me")))
            .with_member_epoch(4)
            .with_topics(Some(vec![topic]));
        let all = OffsetFetchRequestGroup::default().with_group_id(text("all").into()).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![some, all]).with_require_stable(true);
        let indexes = [0_i32.to_be_bytes(), 9_i32.to_be_bytes()].concat();
        let topic = [&ID.as_bytes()[..], &compact(2, &indexes), &[0]].concat();
        let some = [&name("some")[..], &name("me"), &4_i32.to_be_bytes(), &compact(1, &topic), &[0]].concat();
        let all = [&name("all")[..], &[0], &(-1_i32).to_be_bytes(), &[0], &[0]].concat();
        (request, [&compact(2, &[some, all].concat())[..], &[1, 0]].concat())
    }

    /// Two markers of different transaction protocols, and their bytes in version 2.
    fn markers() -> (WriteTxnMarkers, Vec<u8>) {
        let topic = WritableTxnMarkerTopic::default().with_name(text("orders").into()).with_partition_indexes(vec![3]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(77.into())
            .with_producer_epoch(2)
            .with_transaction_result(true)
            .with_topics(vec![topic])
            .with_coordinator_epoch(6);
        let topic = [&name("orders")[..], &compact(1, &3_i32.to_be_bytes()), &[0]].concat();
        let bytes = |version: u8| {
            let front = [&77_i64.to_be_bytes()[..], &2_i16.to_be_bytes(), &[1], &compact(1, &topic)].concat();
            [&front[..], &6_i32.to_be_bytes(), &[version, 0]].concat()
        };
        let all = [compact(2, &[bytes(2), bytes(0)].concat()), vec![0]].concat();
        (WriteTxnMarkers(vec![(marker.clone(), 2), (marker, 0)]), all)
    }

    #[test]
    fn newest_versions_are_read() {
        assert_eq!(OffsetCommit::read(commit().1.into(), 10).unwrap().0, commit().0);
        assert_eq!(OffsetFetch::read(fetch().1.into(), 10).unwrap().0, fetch().0);
        assert_eq!(WriteTxnMarkers::read(markers().1.into(), 2).unwrap(), markers().0);
    }

    #[test]
    fn older_versions_are_read_as_they_were() {
        let (mut request, _) = commit();
        request.topics[0].topic_id = Uuid::nil();
        request.topics[0].name = text("orders").into();
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, 9).unwrap();
        assert_eq!(OffsetCommit::read(bytes.split().freeze(), 9).unwrap().0, request);
        let (mut request, _) = fetch();
        let topics = request.groups[0].topics.as_mut().unwrap();
        (topics[0].topic_id, topics[0].name) = (Uuid::nil(), text("orders").into());
        request.encode(&mut bytes, 9).unwrap();
        assert_eq!(OffsetFetch::read(bytes.split().freeze(), 9).unwrap().0, request);
        let marker = markers().0.0.remove(0).0;
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker.clone()]);
        request.encode(&mut bytes, 1).unwrap();
        assert_eq!(WriteTxnMarkers::read(bytes.freeze(), 1).unwrap().0, [(marker, 0)]);
    }

    #[test]
    fn tagged_fields_are_skipped() {
        let (request, mut bytes) = fetch();
        bytes.pop();
        bytes.extend([1, 5, 2, 0xaa, 0xbb]);
        assert_eq!(OffsetFetch::read(bytes.into(), 10).unwrap().0, request);
    }

    #[test]
    fn every_truncation_and_lying_count_is_an_error() {
        for whole in [commit().1, fetch().1, markers().1].map(Bytes::from) {
            for len in 0..whole.len() {
                let part = whole.slice(..len);
                let is_read = [
                    OffsetCommit::read(part.clone(), 10).is_ok(),
                    OffsetFetch::read(part.clone(), 10).is_ok(),
                    WriteTxnMarkers::read(part, 2).is_ok(),
                ];
                assert_eq!(is_read, [false; 3], "{len} bytes of {whole:?}");
            }
        }
        let many = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, 0, 0];
        assert!(OffsetFetch::read(Bytes::copy_from_slice(&many), 10).is_err());
        assert!(WriteTxnMarkers::read(Bytes::copy_from_slice(&many), 2).is_err());
    }

    #[test]
    fn every_damage_is_an_error_or_another_request() {
        for whole in [commit().1, fetch().1, markers().1] {
            for at in 0..whole.len() {
                for value in 0..=u8::MAX {
                    let mut damaged = whole.clone();
                    damaged[at] = value;
                    let damaged = Bytes::from(damaged);
                    // Whether it is read does not matter: nothing here may panic or abort.
                    drop(OffsetCommit::read(damaged.clone(), 10));
                    drop(OffsetFetch::read(damaged.clone(), 10));
                    drop(WriteTxnMarkers::read(damaged, 2));
                }
            }
        }
    }

    #[test]
    fn log_directories_have_one_field_more_in_version_5() {
        let directory = |path| DescribeLogDirsResult::default().with_log_dir(text(path)).with_total_bytes(9);
        let response = DescribeLogDirsResponse::default().with_results(vec![directory("/a"), directory("/b")]);
        let bytes = |version| DescribedLogDirs(response.clone()).write(1, version).unwrap().bytes;
        let (older, newer) = (bytes(4), bytes(5));
        assert_eq!(older, Reply::encode(1, 4, &response).unwrap().bytes);
        // Size, correlation id, header's tags, throttling, error, number of directories; error, path, topics, two sizes, tags.
        let (front, each) = (4 + 4 + 1 + 4 + 2 + 1, 2 + 3 + 1 + 8 + 8 + 1);
        let expected = [&older[4..front + each], &[0], &older[front + each..], &[0]].concat();
        assert_eq!(&newer[4..], &expected[..]);
        assert_eq!(newer[..4], i32::try_from(newer.len() - 4).unwrap().to_be_bytes());
    }

    #[test]
    fn newest_version_takes_the_form_of_the_newest_that_is_known() {
        use kafka_protocol::messages::{ListOffsetsRequest, ProduceRequest};
        assert_eq!((form::<ListOffsetsRequest>(11), form::<ListOffsetsRequest>(4)), (10, 4));
        assert_eq!(form::<ProduceRequest>(13), 13);
    }
}
