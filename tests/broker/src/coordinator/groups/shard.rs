//! The groups of one partition of `__consumer_offsets`, and what is done for them after each change.
//!
//! Keeps: the log has a group's records in the order of its changes; a group that nothing is to be remembered of is forgotten.

use super::GroupCoordinator;
use crate::{
    coordinator::clock::wall_ms,
    group::{ClassicGroup, Effects, GroupOffsets, Purpose, RequestId, Store, as_response_error},
    internal::{Appended, InTransaction, InternalLog, Keyed},
    records::{
        fields::RecordError,
        offsets::{GroupMetadata, encode_group_key},
    },
};
use duramen::{KafkaErrorCode, ProducerId};
use kafka_protocol::{
    ResponseError,
    messages::{JoinGroupResponse, SyncGroupResponse},
    protocol::StrBytes,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// One partition of `__consumer_offsets`.
#[derive(Debug)]
pub(super) struct Shard {
    /// Guards the groups, and the order of what is appended for them.
    shared: Mutex<Shared>,
}

/// What the lock of a [`Shard`] guards.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) log: InternalLog,
    pub(super) groups: HashMap<StrBytes, Group>,
    /// Which groups open transactions commit offsets for.
    pub(super) transactions: HashMap<ProducerId, BTreeSet<StrBytes>>,
    joins: HashMap<RequestId, oneshot::Sender<JoinGroupResponse>>,
    syncs: HashMap<RequestId, oneshot::Sender<SyncGroupResponse>>,
}

/// A group, its offsets, and when it is looked at next.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) classic: ClassicGroup,
    pub(super) offsets: GroupOffsets,
    /// The earliest of its entries among the timers.
    pub(super) scheduled_ms: Option<i64>,
}

impl Group {
    pub(super) fn new(classic: ClassicGroup, offsets: GroupOffsets) -> Self {
        Self { classic, offsets, scheduled_ms: None }
    }
}

impl Shard {
    pub(super) fn new(
        log: InternalLog,
        groups: HashMap<StrBytes, Group>,
        transactions: HashMap<ProducerId, BTreeSet<StrBytes>>,
    ) -> Self {
        let (joins, syncs) = (HashMap::new(), HashMap::new());
        Self { shared: Mutex::new(Shared { log, groups, transactions, joins, syncs }) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) fn group_ids(&self) -> Vec<StrBytes> {
        self.groups.keys().cloned().collect()
    }

    /// The group, made if it does not exist.
    pub(super) fn get_or_create(&mut self, id: &StrBytes, now_ms: i64) -> &mut Group {
        let new = || Group::new(ClassicGroup::new(id.clone(), now_ms), GroupOffsets::default());
        self.groups.entry(id.clone()).or_insert_with(new)
    }

    /// Where the answer to a join will come.
    pub(super) fn await_join(&mut self, request: RequestId) -> oneshot::Receiver<JoinGroupResponse> {
        let (sender, receiver) = oneshot::channel();
        self.joins.insert(request, sender);
        receiver
    }

    /// Where the answer to a sync will come.
    pub(super) fn await_sync(&mut self, request: RequestId) -> oneshot::Receiver<SyncGroupResponse> {
        let (sender, receiver) = oneshot::channel();
        self.syncs.insert(request, sender);
        receiver
    }

    /// Appends records, within a transaction or without.
    pub(super) fn append(
        &self,
        records: Result<Vec<Keyed>, RecordError>,
        transaction: Option<InTransaction>,
    ) -> Result<Option<Appended>, KafkaErrorCode> {
        let records = records.map_err(|_| KafkaErrorCode::InvalidRequest)?;
        self.log.begin(&records, transaction, wall_ms())
    }

    /// Tells everybody who waits to ask again.
    pub(super) fn unload(&mut self) {
        let mut effects = Effects::default();
        for group in self.groups.values_mut() {
            group.classic.unload(ResponseError::NotCoordinator, &mut effects);
        }
        self.answer(&mut effects);
    }

    /// Whoever does not listen any more has closed its connection.
    fn answer(&mut self, effects: &mut Effects) {
        for (request, response) in effects.joins.drain(..) {
            if let Some(sender) = self.joins.remove(&request) {
                drop(sender.send(response));
            }
        }
        for (request, response) in effects.syncs.drain(..) {
            if let Some(sender) = self.syncs.remove(&request) {
                drop(sender.send(response));
            }
        }
    }
}

impl GroupCoordinator {
    /// Changes a group, and does what it wants done. Nothing if there is no such group.
    pub(super) fn change<T>(
        &self,
        index: usize,
        shared: &mut Shared,
        id: &StrBytes,
        change: impl FnOnce(&mut Group, i64, &mut Effects) -> T,
    ) -> Option<T> {
        let mut effects = Effects::default();
        let result = change(shared.groups.get_mut(id)?, self.clock.steady_ms(), &mut effects);
        self.settle(index, shared, id, effects);
        Some(result)
    }

    /// Carries out what a group wants until it wants nothing more, and notes when it is to be looked at again.
    fn settle(&self, index: usize, shared: &mut Shared, id: &StrBytes, mut effects: Effects) {
        loop {
            let mut more = Effects::default();
            for store in std::mem::take(&mut effects.store) {
                self.store(index, shared, id, store, &mut more);
            }
            shared.answer(&mut effects);
            let Some(group) = shared.groups.get_mut(id) else { return };
            let now_ms = self.clock.steady_ms();
            let deadline_ms = group.classic.next_deadline_ms();
            if deadline_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                group.classic.tick(now_ms, &mut more);
            } else if more.is_empty() {
                self.schedule(index, group, id, deadline_ms);
                if group.classic.is_untouched() && group.offsets.is_empty() {
                    shared.groups.remove(id);
                }
                return;
            }
            effects = more;
        }
    }

    /// One entry among the timers is enough: when it is due, the group's real deadline is looked at.
    fn schedule(&self, index: usize, group: &mut Group, id: &StrBytes, deadline_ms: Option<i64>) {
        if let Some(at_ms) = deadline_ms
            && group.scheduled_ms.is_none_or(|scheduled_ms| at_ms < scheduled_ms)
        {
            group.scheduled_ms = Some(at_ms);
            self.timers.add(at_ms, index, id.clone());
        }
    }

    /// Appends a group's record, and sees to it that the group hears how that went.
    fn store(&self, index: usize, shared: &mut Shared, id: &StrBytes, store: Store, effects: &mut Effects) {
        let Store { group, purpose } = store;
        match shared.append(group_record(id, &group), None) {
            Ok(Some(appended)) => {
                let (me, id) = (self.me.clone(), id.clone());
                self.runtime.spawn(async move {
                    let result = appended.durable().await;
                    if let Some(me) = me.upgrade() {
                        me.stored(index, &id, purpose, result);
                    }
                });
            }
            result => {
                let result = result.map(|_| ());
                if let Some(group) = shared.groups.get_mut(id) {
                    group.classic.stored(purpose, result, self.clock.steady_ms(), effects);
                }
            }
        }
    }

    fn stored(&self, index: usize, id: &StrBytes, purpose: Purpose, result: Result<(), KafkaErrorCode>) {
        if let Err(error) = result {
            (self.dependencies.note)(&format!("group {id} could not be stored: {}", error.name()));
        }
        let Some(shard) = self.shards.get(index) else { return };
        let mut shared = shard.lock();
        self.change(index, &mut shared, id, |group, now_ms, effects| {
            group.classic.stored(purpose, result, now_ms, effects);
        });
    }
}

fn group_record(id: &StrBytes, group: &GroupMetadata) -> Result<Vec<Keyed>, RecordError> {
    Ok(vec![Keyed { key: encode_group_key(id)?, value: Some(group.encode()?) }])
}

/// Waits for an append, and says what the client is told if it fails.
pub(super) async fn durable(appended: Option<Appended>) -> Result<(), ResponseError> {
    match appended {
        Some(appended) => appended.durable().await.map_err(as_response_error),
        None => Ok(()),
    }
}
