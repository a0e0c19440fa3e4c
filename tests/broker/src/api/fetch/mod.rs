//! Fetch: what consumers read, sent from the files that it lies in. Versions 4 to 18.
//!
//! Keeps: an answer holds at least one whole batch if any partition has one; no more than was asked for otherwise; and it
//! waits only while there is less than the minimum and nothing else to tell.

mod read;

use super::{Broker, RequestContext};
use crate::protocol::{Endpoint, FetchAnswer};
use duramen::LongPoll;
use kafka_protocol::{ResponseError, messages::FetchRequest, protocol::StrBytes};
use read::{Limits, Pass};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Answers it: after one look at all partitions, or, if that found too little, after a second one when there is enough or
/// the wait is over. Follows `KafkaApis.handleFetchRequest`, `ReplicaManager.fetchMessages` and `DelayedFetch`.
pub(super) async fn handle(broker: &Broker, context: &RequestContext, request: FetchRequest) -> FetchAnswer {
    // A session would be told by its id, and every answer here says 0: there is none.
    let is_new_session_or_none = request.session_epoch <= 0;
    if !is_new_session_or_none {
        let error_code = ResponseError::FetchSessionIdNotFound.code();
        return FetchAnswer { error_code, ..FetchAnswer::default() };
    }
    let limits = Limits::of(&request, broker.config.fetch_max_bytes);
    let patience = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + patience;
    let mut poll = LongPoll::new(limits.min_bytes);
    let first = read::pass(broker, context.version, &request, &limits, Some(&mut poll));
    if patience.is_zero() || first.is_urgent || first.bytes >= limits.min_bytes || broker.stop.is_set() {
        return answer(broker, first);
    }
    // What was found is given up meanwhile: it may be memory of the engine's.
    drop(first);
    tokio::select! {
        // Whether enough came, or a partition was cut, failed or closed: the second pass tells.
        _ = timeout_at(deadline, &mut poll) => {}
        () = broker.stop.wait() => {}
    }
    drop(poll);
    answer(broker, read::pass(broker, context.version, &request, &limits, None))
}

fn answer(broker: &Broker, pass: Pass) -> FetchAnswer {
    let names_a_leader =
        pass.topics.iter().flat_map(|topic| &topic.partitions).any(|partition| partition.leader.is_some());
    let endpoints = if names_a_leader { vec![endpoint(broker)] } else { Vec::new() };
    FetchAnswer { error_code: 0, topics: pass.topics, endpoints }
}

fn endpoint(broker: &Broker) -> Endpoint {
    let (host, port) = broker.config.advertised();
    Endpoint { node_id: broker.config.node_id, host: StrBytes::from_string(host), port }
}
