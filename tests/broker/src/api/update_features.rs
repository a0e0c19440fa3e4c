//! UpdateFeatures (57): other levels for the cluster's features.

use super::{Broker, RequestContext};
use crate::metadata::{Direction, FeatureUpdate};
use kafka_protocol::{
    messages::{
        UpdateFeaturesRequest, UpdateFeaturesResponse, update_features_request::FeatureUpdateKey,
        update_features_response::UpdatableFeatureResult,
    },
    protocol::StrBytes,
};

/// The last version whose answer names each feature.
const LAST_WITH_RESULTS: i16 = 1;
/// What is said of each feature whose level was changed: `Errors.NONE` has no message, so its name is taken for one.
const NO_ERROR: &str = "NONE";

/// Answers a request. Follows `QuorumController.updateFeatures`.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let updates = request.feature_updates.iter().map(update).collect();
    if let Err(error) = broker.topics.update_features(updates, request.validate_only).await {
        let message = format!("The update failed for all features since the following feature had an error: {error}");
        return UpdateFeaturesResponse::default()
            .with_error_code(error.kafka_error_code())
            .with_error_message(Some(StrBytes::from_string(message)));
    }
    let named = request.feature_updates.into_iter().filter(|_| context.version <= LAST_WITH_RESULTS);
    let changed = named.map(|update| {
        let message = StrBytes::from_static_str(NO_ERROR);
        UpdatableFeatureResult::default().with_feature(update.feature).with_error_message(Some(message))
    });
    UpdateFeaturesResponse::default().with_results(changed.collect())
}

fn update(key: &FeatureUpdateKey) -> FeatureUpdate {
    let direction = match key.upgrade_type {
        1 => Some(Direction::Upgrade),
        2 => Some(Direction::SafeDowngrade),
        3 => Some(Direction::UnsafeDowngrade),
        _ => None,
    };
    FeatureUpdate { name: key.feature.to_string(), level: key.max_version_level, direction }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fixtures::{Home, context},
            wire::text,
        },
        *,
    };

    async fn ask(home: &Home, version: i16, name: &str, level: i16, only: bool) -> UpdateFeaturesResponse {
        let update = FeatureUpdateKey::default().with_feature(text(name)).with_max_version_level(level);
        let update = update.with_upgrade_type(3);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_validate_only(only);
        handle(&home.broker, &context(version), request).await
    }

    #[tokio::test]
    async fn level_is_changed_and_stays() {
        let home = Home::new();
        let level = |home: &Home| home.broker.topics.metadata().image().feature("transaction.version");
        assert_eq!(ask(&home, 2, "transaction.version", 0, true).await.error_code, 0);
        assert_eq!(level(&home), 2);
        let answer = ask(&home, 1, "transaction.version", 1, false).await;
        let result = &answer.results[0];
        assert_eq!((result.feature.as_str(), result.error_code), ("transaction.version", 0));
        assert_eq!(level(&home), 1);
        assert!(ask(&home, 2, "transaction.version", 0, false).await.results.is_empty());
        assert_eq!(level(&home.reopened()), 0);
    }

    #[tokio::test]
    async fn feature_that_is_not_here_has_its_error() {
        let home = Home::new();
        let answer = ask(&home, 1, "no.such.feature", 1, false).await;
        assert_eq!((answer.error_code, answer.results.len()), (95, 0));
        assert!(answer.error_message.is_some_and(|message| message.contains("no.such.feature")));
    }
}
