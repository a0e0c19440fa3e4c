//! Which requests are answered, in which versions, and by whom: the one table of it.

use super::{
    Broker, RequestContext, alter_configs, alter_partition_reassignments, api_versions, create_partitions,
    create_topics, delete_records, delete_topics, describe_acls, describe_cluster, describe_configs, describe_log_dirs,
    describe_producers, describe_quorum, describe_topic_partitions, elect_leaders, fetch, find_coordinator, groups,
    incremental_alter_configs, list_config_resources, list_offsets, list_partition_reassignments, metadata,
    offset_for_leader_epoch, produce, transactions, update_features,
};
use crate::protocol::{Malformed, Produce, Readable, Reply, RequestHeader, Rewritable, Writable};
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, FetchRequest, ProduceRequest};
use std::pin::Pin;

/// What comes of a request.
pub(crate) enum Outcome {
    /// A response.
    Answer(Reply),
    /// A response once something was waited for; the next request need not wait for that.
    Later(Pin<Box<dyn Future<Output = Result<Reply, Malformed>> + Send>>),
    /// No response, as the client wishes.
    Nothing,
    /// No response, and the connection ends: why.
    Close(String),
}

/// A request that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) key: ApiKey,
    /// The versions that clients are told of, both inclusive.
    pub(crate) versions: (i16, i16),
}

/// Makes the table, and the function that goes by it, from one line for each request: those whose handler takes what can be
/// read and gives what can be written.
macro_rules! answered {
    ($($key:ident $least:literal ..= $most:literal => $handler:path),* $(,)?) => {
        /// The requests that are answered, by ascending key. Versions are those of Kafka 4.3.0.
        pub(crate) const ANSWERED: &[Answered] = &[
            // Versions below 3 are refused, but librdkafka compresses nothing for brokers that do not name them (KAFKA-18659).
            Answered { key: ApiKey::Produce, versions: (0, 13) },
            Answered { key: ApiKey::Fetch, versions: (4, 18) },
            $(Answered { key: ApiKey::$key, versions: ($least, $most) },)*
            Answered { key: ApiKey::ApiVersions, versions: (0, 4) },
        ];

        async fn plain(broker: &Broker, asked: Asked) -> Result<Reply, Malformed> {
            match asked.header.key {
                $(ApiKey::$key => {
                    let request = Readable::read(asked.body, asked.header.version)?;
                    let response = $handler(broker, &asked.context, request).await;
                    response.write(asked.header.correlation_id, asked.header.version)
                })*
                key => Err(Malformed(format!("{key:?} is not answered"))),
            }
        }

        /// Does something with the type of a request that is answered; `None` for any other.
        pub(crate) fn with_type_of<F: ForRequest>(key: ApiKey, what: F) -> Option<F::Output> {
            match key {
                ApiKey::Produce => Some(what.call::<ProduceRequest>()),
                ApiKey::Fetch => Some(what.call::<FetchRequest>()),
                ApiKey::ApiVersions => Some(what.call::<ApiVersionsRequest>()),
                $(ApiKey::$key => Some(with_argument_of($handler, what)),)*
                _ => None,
            }
        }
    };
}

/// What can be done with any request, whatever its type.
pub(crate) trait ForRequest {
    /// What comes of it.
    type Output;

    /// Does it with this type.
    fn call<T: Rewritable>(self) -> Self::Output;
}

/// Takes the type from the handler that it is for; the handler is not called.
fn with_argument_of<F, T, R>(_: impl AsyncFn(&Broker, &RequestContext, T) -> R, what: F) -> F::Output
where
    F: ForRequest,
    T: Rewritable,
{
    what.call::<T>()
}

answered! {
    ListOffsets 1..=11 => list_offsets::handle,
    Metadata 0..=13 => metadata::handle,
    OffsetCommit 2..=10 => groups::commit,
    OffsetFetch 1..=10 => groups::fetch,
    FindCoordinator 0..=6 => find_coordinator::handle,
    JoinGroup 0..=9 => groups::join,
    Heartbeat 0..=4 => groups::heartbeat,
    LeaveGroup 0..=5 => groups::leave,
    SyncGroup 0..=5 => groups::sync,
    DescribeGroups 0..=6 => groups::describe,
    ListGroups 0..=5 => groups::list,
    CreateTopics 2..=7 => create_topics::handle,
    DeleteTopics 1..=6 => delete_topics::handle,
    DeleteRecords 0..=2 => delete_records::handle,
    InitProducerId 0..=5 => transactions::init_producer_id,
    OffsetForLeaderEpoch 2..=4 => offset_for_leader_epoch::handle,
    AddPartitionsToTxn 0..=5 => transactions::add_partitions,
    AddOffsetsToTxn 0..=4 => transactions::add_offsets,
    EndTxn 0..=5 => transactions::end,
    WriteTxnMarkers 1..=2 => transactions::write_markers,
    TxnOffsetCommit 0..=5 => groups::commit_in_transaction,
    DescribeAcls 1..=3 => describe_acls::handle,
    DescribeConfigs 1..=4 => describe_configs::handle,
    AlterConfigs 0..=2 => alter_configs::handle,
    DescribeLogDirs 1..=5 => describe_log_dirs::handle,
    CreatePartitions 0..=3 => create_partitions::handle,
    DeleteGroups 0..=2 => groups::delete,
    ElectLeaders 0..=2 => elect_leaders::handle,
    IncrementalAlterConfigs 0..=1 => incremental_alter_configs::handle,
    AlterPartitionReassignments 0..=1 => alter_partition_reassignments::handle,
    ListPartitionReassignments 0..=0 => list_partition_reassignments::handle,
    OffsetDelete 0..=0 => groups::delete_offsets,
    DescribeQuorum 0..=2 => describe_quorum::handle,
    UpdateFeatures 0..=2 => update_features::handle,
    DescribeCluster 0..=2 => describe_cluster::handle,
    DescribeProducers 0..=0 => describe_producers::handle,
    DescribeTransactions 0..=0 => transactions::describe,
    ListTransactions 0..=2 => transactions::list,
    ListConfigResources 0..=1 => list_config_resources::handle,
    DescribeTopicPartitions 0..=0 => describe_topic_partitions::handle,
}

/// The least version of Produce that is taken.
const LEAST_PRODUCE: i16 = 3;

/// A request whose body was not looked at yet.
struct Asked {
    header: RequestHeader,
    context: RequestContext,
    body: Bytes,
}

/// Answers a request. Follows `KafkaApis.handle`.
pub(crate) async fn handle(broker: &Broker, header: RequestHeader, client_host: &str, body: Bytes) -> Outcome {
    if !is_answered(header.key, header.version) && header.key != ApiKey::ApiVersions {
        return Outcome::Close(format!("{:?} of version {} is not answered", header.key, header.version));
    }
    let client_id = header.client_id.as_deref().unwrap_or_default().to_owned();
    let context = RequestContext { version: header.version, client_id, client_host: client_host.to_owned() };
    let asked = Asked { header, context, body };
    let answer = match asked.header.key {
        ApiKey::Produce => return produced(broker, asked).await,
        ApiKey::Fetch => fetched(broker, asked).await,
        ApiKey::ApiVersions => versions(broker, &asked),
        _ => plain(broker, asked).await,
    };
    answer.map_or_else(|error| Outcome::Close(error.to_string()), Outcome::Answer)
}

/// Whether a version of a request is taken.
pub(crate) fn is_answered(key: ApiKey, version: i16) -> bool {
    let found = ANSWERED.iter().find(|answered| answered.key == key);
    let is_old_produce = key == ApiKey::Produce && version < LEAST_PRODUCE;
    found.is_some_and(|answered| answered.versions.0 <= version && version <= answered.versions.1) && !is_old_produce
}

async fn produced(broker: &Broker, asked: Asked) -> Outcome {
    match Produce::decode(asked.body, asked.header.version) {
        Ok(request) => produce::handle(broker, &asked.context, asked.header.correlation_id, request).await,
        Err(error) => Outcome::Close(error.to_string()),
    }
}

async fn fetched(broker: &Broker, asked: Asked) -> Result<Reply, Malformed> {
    let request = FetchRequest::read(asked.body, asked.header.version)?;
    let answer = fetch::handle(broker, &asked.context, request).await;
    answer.encode(asked.header.correlation_id, asked.header.version)
}

/// A version that is not known is answered too, in the form of version 0, which all clients read, so that they see which are
/// (`RequestContext.parseRequest`).
fn versions(broker: &Broker, asked: &Asked) -> Result<Reply, Malformed> {
    let RequestHeader { correlation_id, version, .. } = asked.header;
    if !is_answered(ApiKey::ApiVersions, version) {
        return Reply::encode(correlation_id, 0, &api_versions::unsupported());
    }
    let request = ApiVersionsRequest::read(asked.body.clone(), version)?;
    api_versions::handle(broker, version, &request).write(correlation_id, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_each_request_once() {
        let mut keys: Vec<i16> = ANSWERED.iter().map(|answered| answered.key as i16).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
        assert!(ANSWERED.iter().all(|answered| answered.versions.0 <= answered.versions.1));
    }

    #[test]
    fn old_produce_is_named_and_not_taken() {
        assert!(
            !is_answered(ApiKey::Produce, 2) && is_answered(ApiKey::Produce, 3) && is_answered(ApiKey::Produce, 13)
        );
        assert!(!is_answered(ApiKey::Produce, 14) && !is_answered(ApiKey::Fetch, 3));
        assert!(!is_answered(ApiKey::ApiVersions, 5) && !is_answered(ApiKey::Vote, 0));
    }
}
