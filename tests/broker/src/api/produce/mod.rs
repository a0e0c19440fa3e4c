//! Produce: batches are appended as they came. Versions 3 to 13.
//!
//! Keeps: the batches of a connection are appended in the order of its requests, before the next request is looked at; only
//! the wait until they are as durable as the answer says goes on beside the next ones.

mod answer;
mod append;
mod prepare;
pub(crate) mod transaction;

use super::{Broker, Outcome, RequestContext};
use crate::{
    protocol::{Malformed, Produce, Reply, TopicKey},
    trace::now_ms,
};
use answer::{Appended, Leader, Refusal};
use duramen::{Append, KafkaErrorCode};
use prepare::{Preparation, Prepared};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A topic of the request, and what came of the batch of each partition in it.
struct Topic<T> {
    key: TopicKey,
    parts: Vec<(i32, Result<T, Refusal>)>,
}

/// Answers it. Follows `KafkaApis.handleProduceRequest` and `ReplicaManager.handleProduceAppend`.
pub(super) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    correlation_id: i32,
    request: Produce,
) -> Outcome {
    let (version, acks, now_ms) = (context.version, request.acks, now_ms());
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let preparation = Preparation { broker, context, acks, now_ms };
    let mut topics: Vec<Topic<Prepared>> = request.topics.into_iter().map(|topic| preparation.topic(topic)).collect();
    if let Some(transactional_id) = &request.transactional_id {
        transaction::admit(broker, transactional_id, version, &mut topics).await;
    }
    let mut appended = Vec::with_capacity(topics.len());
    for Topic { key, parts } in topics {
        let mut done = Vec::with_capacity(parts.len());
        for (index, prepared) in parts {
            let append = match prepared {
                Ok(prepared) => append::append(prepared, broker.config.ack, now_ms, deadline).await,
                Err(refusal) => Err(refusal),
            };
            done.push((index, append));
        }
        appended.push(Topic { key, parts: done });
    }
    if acks == 0 {
        return unanswered(&appended);
    }
    let leader = Leader::of(broker);
    let is_done =
        appended.iter().flat_map(|topic| &topic.parts).all(|(_, part)| part.as_ref().map_or(true, |it| it.is_done()));
    let reply = reply(correlation_id, version, leader, appended, deadline);
    if is_done {
        return reply.await.map_or_else(|error| Outcome::Close(error.to_string()), Outcome::Answer);
    }
    Outcome::Later(Box::pin(reply))
}

/// A producer that wants no answer cannot be told of an error but by the end of its connection.
fn unanswered(topics: &[Topic<Append>]) -> Outcome {
    let mut all = topics.iter().flat_map(|topic| &topic.parts);
    match all.find_map(|(index, part)| Some((index, part.as_ref().err()?))) {
        Some((index, refusal)) => {
            Outcome::Close(format!("partition {index}, of a producer that wants no answer: {refusal}"))
        }
        None => Outcome::Nothing,
    }
}

/// The response, once all that was appended is as durable as was asked for.
async fn reply(
    correlation_id: i32,
    version: i16,
    leader: Leader,
    topics: Vec<Topic<Append>>,
    deadline: Instant,
) -> Result<Reply, Malformed> {
    let mut answered = Vec::with_capacity(topics.len());
    for Topic { key, parts } in topics {
        let mut done = Vec::with_capacity(parts.len());
        for (index, part) in parts {
            let result = match part {
                Ok(append) => durable(append, deadline).await,
                Err(refusal) => Err(refusal),
            };
            done.push((index, result));
        }
        answered.push(Topic { key, parts: done });
    }
    Reply::encode(correlation_id, version, &answer::response(version, &leader, answered))
}

async fn durable(append: Append, deadline: Instant) -> Result<Appended, Refusal> {
    match timeout_at(deadline, append).await {
        Ok(Ok(info)) => Ok(Appended::from(info)),
        Ok(Err(error)) => Err(Refusal::new(error.kafka_error_code(), error)),
        Err(_) => Err(Refusal::from(KafkaErrorCode::RequestTimedOut)),
    }
}
