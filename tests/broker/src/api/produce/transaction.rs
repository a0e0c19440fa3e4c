//! Asking a transaction's coordinator before batches of the transaction are appended.
//!
//! Knows who asks and what for; what the coordinator says is its own affair.

use super::{
    Broker, Topic,
    answer::Refusal,
    prepare::{Prepared, mixed_producers},
};
use crate::{
    coordinator::transactions::{Admission, Admitted},
    transaction::{Appending, Producer},
};
use kafka_protocol::ResponseError;
use std::sync::Arc;

/// Asks for all batches of the transaction, and refuses those that may not be appended.
pub(super) async fn admit(broker: &Broker, transactional_id: &str, version: i16, topics: &mut [Topic<Prepared>]) {
    let mut asked = Vec::new();
    let mut producers = Vec::new();
    for prepared in transactional(topics).flatten() {
        let header = prepared.batch.header();
        let partition = Arc::clone(&prepared.hosted.partition);
        asked.push(Admitted { partition, base_sequence: header.base_sequence() });
        producers.extend(header.producer().map(|producer| Producer { id: producer.id, epoch: producer.epoch }));
    }
    let Some(producer) = producers.first().copied() else { return };
    if producers.iter().any(|other| *other != producer) {
        transactional(topics).for_each(|part| *part = Err(mixed_producers()));
        return;
    }
    let admissions: Vec<Admission> = match broker.coordinators.transactions().await {
        Ok(transactions) => transactions.admit(transactional_id, producer, Appending::Records(version), &asked).await,
        Err(_) => vec![Err(ResponseError::NotEnoughReplicas); asked.len()],
    };
    for (part, admission) in transactional(topics).zip(admissions) {
        match (admission, &mut *part) {
            (Ok(guard), Ok(prepared)) => prepared.guard = guard,
            (Err(error), _) => *part = Err(Refusal::with_code(error.code(), None)),
            (Ok(_), Err(_)) => {}
        }
    }
}

/// The batches that belong to a transaction.
fn transactional(topics: &mut [Topic<Prepared>]) -> impl Iterator<Item = &mut Result<Prepared, Refusal>> {
    let parts = topics.iter_mut().flat_map(|topic| &mut topic.parts).map(|(_, part)| part);
    parts.filter(|part| matches!(part, Ok(prepared) if prepared.batch.header().attributes().is_transactional()))
}
