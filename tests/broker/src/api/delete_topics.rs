//! DeleteTopics (20): by name, or from version 6 on by id.

use super::{
    Broker, RequestContext,
    refusal::Refusal,
    wire::{from_wire, to_wire, topic_name},
};
use crate::topics::{Hosting, TopicError, is_internal};
use duramen::{KafkaErrorCode, format::uuid::Uuid};
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};
use std::collections::HashSet;

/// From this version on topics come in structs, by name or by id.
const IN_STRUCTS: i16 = 6;

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let asked = match context.version {
        IN_STRUCTS.. => request.topics,
        _ => {
            let by_name = |name| DeleteTopicState::default().with_name(Some(name));
            request.topic_names.into_iter().map(by_name).collect()
        }
    };
    let resolved = resolve(&broker.topics.hosting(), &asked);
    let mut responses = Vec::with_capacity(resolved.len());
    for Asked { name, id, refusal } in resolved {
        let result = match (refusal, &name) {
            (None, Some(name)) => delete(broker, name).await,
            (refusal, _) => refusal.map_or(Ok(()), Err),
        };
        let answer =
            DeletableTopicResult::default().with_name(name.as_deref().map(topic_name)).with_topic_id(to_wire(id));
        responses.push(match result {
            Ok(()) => answer,
            Err(refusal) => answer.with_error_code(refusal.code).with_error_message(refusal.text()),
        });
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete(broker: &Broker, name: &str) -> Result<(), Refusal> {
    if !broker.config.delete_topic_enable {
        return Err(Refusal::new(ResponseError::TopicDeletionDisabled, "Topic deletion is disabled."));
    }
    if is_internal(name) {
        // The coordinators append to it as long as the broker runs.
        return Err(TopicError::Internal { name: name.to_owned() }.into());
    }
    broker.topics.delete(name).await?;
    if let Some(groups) = broker.coordinators.opened_groups() {
        groups.topic_deleted(name);
    }
    Ok(())
}

/// A topic that is to be deleted, or why it is not.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    name: Option<String>,
    id: Uuid,
    refusal: Option<Refusal>,
}

/// Finds name and id of every topic (`ControllerApis.deleteTopics`).
fn resolve(hosting: &Hosting, asked: &[DeleteTopicState]) -> Vec<Asked> {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    let unknown = |code: KafkaErrorCode, what: &str| Some(Refusal { code: code.code(), message: what.to_owned() });
    let resolve = |topic: &DeleteTopicState| {
        let (name, id) = (topic.name.as_ref().map(|name| name.to_string()), from_wire(topic.topic_id));
        let refuse = |message: &str| Some(Refusal::invalid_request(message));
        match name {
            Some(name) if !id.is_zero() => {
                Asked { name: Some(name), id, refusal: refuse("You may not specify both topic name and topic id.") }
            }
            None if id.is_zero() => {
                Asked { name: None, id, refusal: refuse("Neither topic name nor id were specified.") }
            }
            Some(name) if !names.insert(name.clone()) => {
                Asked { name: Some(name), id, refusal: refuse("Duplicate topic name.") }
            }
            None if !ids.insert(id) => Asked { name: None, id, refusal: refuse("Duplicate topic id.") },
            Some(name) => match hosting.topic(&name) {
                Some(topic) => Asked { name: Some(name), id: topic.image.id, refusal: None },
                None => {
                    let refusal =
                        unknown(KafkaErrorCode::UnknownTopicOrPartition, "This server does not host this topic.");
                    Asked { name: Some(name), id, refusal }
                }
            },
            None => match hosting.name_of(id) {
                Some(name) => Asked { name: Some(name.to_string()), id, refusal: None },
                None => {
                    let refusal = unknown(KafkaErrorCode::UnknownTopicId, "This server does not host this topic ID.");
                    Asked { name: None, id, refusal }
                }
            },
        }
    };
    asked.iter().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::fixtures::{Home, context},
        *,
    };

    fn named(name: &str) -> DeleteTopicState {
        DeleteTopicState::default().with_name(Some(topic_name(name)))
    }

    fn by_id(id: Uuid) -> DeleteTopicState {
        DeleteTopicState::default().with_topic_id(to_wire(id))
    }

    async fn ask(home: &Home, topics: Vec<DeleteTopicState>) -> Vec<(Option<String>, i16)> {
        let request = DeleteTopicsRequest::default().with_topics(topics);
        let response = handle(&home.broker, &context(6), request).await;
        let told = response.responses.iter();
        told.map(|result| (result.name.as_ref().map(|name| name.to_string()), result.error_code)).collect()
    }

    #[tokio::test]
    async fn topics_are_deleted_by_name_and_by_id() {
        let home = Home::new();
        for name in ["a", "b", "c"] {
            home.create(name, 1, &[]).await;
        }
        let id = home.broker.topics.topic("b").unwrap().image.id;
        let deleted = |name: &str| (Some(name.to_owned()), 0);
        assert_eq!(ask(&home, vec![named("a"), by_id(id)]).await, [deleted("a"), deleted("b")]);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("c"), topic_name("none")]);
        let response = handle(&home.broker, &context(5), request).await;
        assert_eq!(response.responses.iter().map(|result| result.error_code).collect::<Vec<_>>(), [0, 3]);
        assert!(home.broker.topics.hosting().sorted().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_has_its_error() {
        let home = Home::new();
        home.create("a", 1, &[]).await;
        home.create("__consumer_offsets", 1, &[]).await;
        let unknown = Uuid::from_bytes([9; 16]);
        let asked = vec![
            named("none"),
            by_id(unknown),
            by_id(unknown),
            DeleteTopicState::default(),
            named("a").with_topic_id(to_wire(unknown)),
            named("__consumer_offsets"),
        ];
        let codes: Vec<_> = ask(&home, asked).await.into_iter().map(|(_, code)| code).collect();
        assert_eq!(codes, [3, 100, 42, 42, 42, 73]);
        assert_eq!(home.broker.topics.hosting().sorted().len(), 2);
    }
}
