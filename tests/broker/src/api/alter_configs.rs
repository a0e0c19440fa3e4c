//! AlterConfigs (33): all properties of a topic or broker at once: what is not named goes back to its default.

use super::{
    Broker, RequestContext,
    altering::{alter, named_twice},
    counting::{has_duplicates, times},
    refusal::Refusal,
};
use crate::{
    metadata::Configs,
    topics::{
        TopicError,
        properties::{ChangeError, Changes},
    },
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, alter_configs_request::AlterConfigsResource,
    alter_configs_response::AlterConfigsResourceResponse,
};

/// Answers a request.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let named = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let times = times(request.resources.iter().map(named));
    for resource in &request.resources {
        let result = match times.get(&named(resource)) {
            Some(1) => replace(broker, resource, request.validate_only).await,
            _ => Err(named_twice()),
        };
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match result {
            Ok(()) => answer,
            Err(refusal) => answer.with_error_code(refusal.code).with_error_message(refusal.text()),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn replace(broker: &Broker, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    if has_duplicates(resource.configs.iter().map(|config| &config.name)) {
        return Err(Refusal::invalid_request("Error due to duplicate config keys"));
    }
    let given = resource
        .configs
        .iter()
        .map(|config| (config.name.to_string(), config.value.as_ref().map(|value| value.to_string())));
    let given: Vec<_> = given.collect();
    let name = resource.resource_name.as_str();
    alter(broker, (resource.resource_type, name), validate_only, |set| changes(set, given)).await
}

/// What has to change for exactly this to be set (`ConfigurationControlManager.legacyAlterConfigs`).
fn changes(set: &Configs, given: Vec<(String, Option<String>)>) -> Result<Changes, TopicError> {
    if let Some((name, _)) = given.iter().find(|(_, value)| value.is_none()) {
        return Err(ChangeError::NoValue { name: name.clone() }.into());
    }
    let gone = set.keys().filter(|name| !given.iter().any(|(kept, _)| kept == *name));
    let gone: Vec<_> = gone.map(|name| (name.clone(), None)).collect();
    Ok(given.into_iter().chain(gone).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_named_is_taken_back() {
        let set = Configs::from([("a", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        let given = vec![("b".to_owned(), Some("3".to_owned())), ("c".to_owned(), Some("4".to_owned()))];
        let mut expected = given.clone();
        expected.push(("a".to_owned(), None));
        assert_eq!(changes(&set, given).unwrap(), expected);
        assert!(changes(&set, vec![("b".to_owned(), None)]).is_err());
    }
}
