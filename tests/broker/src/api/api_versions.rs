//! ApiVersions: what this broker can do. Versions 0 to 4.

use super::{Broker, dispatch::ANSWERED};
use crate::metadata::OFFERED_FEATURES;
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse,
        api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey},
    },
    protocol::StrBytes,
};

/// Below this version a feature that may be off cannot be told: its least level, 0, would be taken for nonsense.
const FIRST_WITH_LEVEL_0: i16 = 4;
/// The first version that says who the client is.
const FIRST_WITH_CLIENT: i16 = 3;

/// Answers it. Follows `KafkaApis.handleApiVersionsRequest` and `ApiVersionsResponse.Builder`.
pub(super) fn handle(broker: &Broker, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if version >= FIRST_WITH_CLIENT && !is_valid(request) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    let image = broker.topics.metadata().image();
    let response =
        ApiVersionsResponse::default().with_api_keys(ANSWERED.iter().map(|answered| api_version(*answered)).collect());
    if version < FIRST_WITH_CLIENT {
        return response;
    }
    response
        .with_supported_features(supported(version))
        .with_finalized_features_epoch(image.next_offset().saturating_sub(1))
        .with_finalized_features(finalized(image.features()))
}

/// The answer to a version that is not known, to be written as version 0 (`ApiVersionsRequest.getErrorResponse`).
pub(super) fn unsupported() -> ApiVersionsResponse {
    let own = ANSWERED.iter().filter(|answered| answered.key == ApiKey::ApiVersions);
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(own.map(|answered| api_version(*answered)).collect())
}

fn api_version(answered: super::dispatch::Answered) -> ApiVersion {
    let (least, most) = answered.versions;
    ApiVersion::default().with_api_key(answered.key as i16).with_min_version(least).with_max_version(most)
}

fn supported(version: i16) -> Vec<SupportedFeatureKey> {
    let can_be_told = OFFERED_FEATURES.iter().filter(|(_, least, _)| version >= FIRST_WITH_LEVEL_0 || *least > 0);
    let key = |(name, least, most): &(&'static str, i16, i16)| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version(*least)
            .with_max_version(*most)
    };
    can_be_told.map(key).collect()
}

/// The levels at which features are on, as far as they are known here.
fn finalized<'a>(features: impl Iterator<Item = (&'a str, i16)>) -> Vec<FinalizedFeatureKey> {
    let level = |name: &str, level: i16| {
        let (name, _, most) = OFFERED_FEATURES.iter().find(|(known, _, _)| *known == name)?;
        Some((*name, level.min(*most))).filter(|(_, level)| *level > 0)
    };
    let key = |(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version_level(level)
            .with_max_version_level(level)
    };
    features.filter_map(|(name, on)| level(name, on)).map(key).collect()
}

/// Whether the client's name and version are words (`ApiVersionsRequest.isValid`): letters and digits, with dots and hyphens
/// between them.
fn is_valid(request: &ApiVersionsRequest) -> bool {
    is_word(&request.client_software_name) && is_word(&request.client_software_version)
}

fn is_word(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.bytes().all(is_allowed) && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients_are_words() {
        for good in ["apache-kafka-java", "4.3.0", "a", "confluent-kafka-python-rdkafka2"] {
            assert!(is_word(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "ä"] {
            assert!(!is_word(bad), "{bad}");
        }
    }

    #[test]
    fn features_that_are_off_or_unknown_are_not_finalized() {
        let image = [("group.version", 1), ("metadata.version", 29), ("share.version", 1), ("transaction.version", 2)];
        let told: Vec<_> =
            finalized(image.into_iter()).into_iter().map(|key| (key.name.to_string(), key.max_version_level)).collect();
        assert_eq!(told, [("metadata.version".to_owned(), 29), ("transaction.version".to_owned(), 2)]);
    }

    #[test]
    fn level_0_is_told_from_version_4_on() {
        assert_eq!((supported(3).len(), supported(4).len()), (1, 3));
    }

    #[test]
    fn unknown_version_is_told_the_known_ones() {
        let response = unsupported();
        assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
        let own = &response.api_keys[0];
        assert_eq!((own.api_key, own.min_version, own.max_version), (18, 0, 4));
    }
}
