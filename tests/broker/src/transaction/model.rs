//! Random histories of one transactional id: two producers ask in any order, their requests and answers get lost, time passes,
//! writes fail, and the coordinator dies between any two effects. What must hold is in [`World::check`] and in the asserts on
//! the way. The partitions are a model of the engine's: epochs, guards and open transactions of a producer.
#![allow(clippy::unwrap_used)]

use super::{
    EndTransaction, InitProducerId, Markers, Metadata, Producer, State, Step, Transaction, TransactionVersion,
};
use crate::records::transactions::TransactionLogValue;
use duramen::TopicPartition;
use kafka_protocol::ResponseError;
use std::{collections::BTreeMap, sync::Arc};

const PARTITIONS: usize = 3;
const TIMEOUT_MS: i32 = 60_000;
const EXPIRATION_MS: i64 = 600_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What one partition knows of one producer id.
#[derive(Default)]
struct Known {
    epoch: i16,
    /// Transactions (by number) of the records that no marker has closed yet.
    open: Vec<usize>,
    guard: Option<(u64, i16)>,
}

#[derive(Default)]
struct Place {
    known: BTreeMap<i64, Known>,
    /// Outcomes of the transactions that were closed here.
    closed: BTreeMap<usize, bool>,
}

/// A batch that may be appended.
struct Admitted {
    place: usize,
    producer: Producer,
    guard: Option<u64>,
    transaction: usize,
}

/// What a client waits for.
#[derive(Clone, Copy)]
enum Asked {
    Init,
    Add { place: usize, producer: Producer, guard: Option<u64> },
    End { commit: bool },
}

#[derive(Default)]
struct Client {
    producer: Option<Producer>,
    waits: bool,
    /// An end whose answer was lost.
    lost_end: Option<bool>,
    /// The transaction of the records that were written since the last end that was answered.
    wrote: Option<usize>,
}

/// Something that the coordinator is at.
enum Effect {
    Append { next: Arc<Metadata>, asked: Option<(usize, Asked)> },
    Mark { markers: Markers, number: usize, left: Vec<usize> },
}

struct World {
    random: Random,
    /// The broker's version, and that of the clients.
    version: TransactionVersion,
    client_version: TransactionVersion,
    now_ms: i64,
    next_id: i64,
    next_guard: u64,
    log: Vec<Option<TransactionLogValue>>,
    /// Outcomes in the order in which the log took them: the number of a transaction is its index.
    outcomes: Vec<bool>,
    machine: Transaction,
    effects: Vec<Effect>,
    clients: [Client; 2],
    places: [Place; PARTITIONS],
    admitted: Vec<Admitted>,
    /// Who was told last that the id is its own: nobody older writes any more.
    owner: Option<Producer>,
    committed: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let (version, client_version) = match random.below(4) {
            0 => (TransactionVersion::V1, TransactionVersion::V0),
            1 => (TransactionVersion::V2, TransactionVersion::V0),
            _ => (TransactionVersion::V2, TransactionVersion::V2),
        };
        let mut world = Self {
            version,
            client_version,
            now_ms: 1_000,
            next_id: 100,
            next_guard: 0,
            log: Vec::new(),
            outcomes: Vec::new(),
            machine: Transaction::default(),
            effects: Vec::new(),
            clients: Default::default(),
            places: Default::default(),
            admitted: Vec::new(),
            owner: None,
            committed: 0,
            random,
        };
        if world.random.one_in(2) {
            // Soon out of epochs.
            let ask = InitProducerId { timeout_ms: TIMEOUT_MS, expected: None, version };
            let Ok(Step::Write(first)) = Transaction::default().init_producer_id(ask, Some(7), 0) else { panic!() };
            let producer = Producer { id: 7, epoch: i16::MAX - i16::try_from(world.random.below(9)).unwrap() };
            world.log.push(Some(Metadata { producer, ..(*first).clone() }.log_value()));
            world.reload();
        }
        world
    }

    fn fresh_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    /// The coordinator starts: everything but the log is gone.
    fn reload(&mut self) {
        self.effects.clear();
        self.machine = match self.log.last() {
            Some(Some(value)) => Transaction::loaded(Metadata::from_log_value(value).unwrap()),
            _ => Transaction::default(),
        };
        self.begin_markers();
    }

    fn begin_markers(&mut self) {
        if let Some(markers) = self.machine.complete(self.now_ms) {
            let left = markers.partitions.iter().map(|it| usize::try_from(it.partition()).unwrap()).collect();
            self.effects.push(Effect::Mark { markers, number: self.outcomes.len() - 1, left });
        }
    }

    /// It dies: what it was writing may be in the log or not.
    fn crash(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Append { next, asked } => {
                    if self.random.one_in(2) {
                        self.store(&next);
                    }
                    if let Some((client, asked)) = asked {
                        self.clients[client].waits = false;
                        if let Asked::End { commit } = asked {
                            self.clients[client].lost_end = Some(commit);
                        }
                    }
                }
                Effect::Mark { markers, left, .. } if left.is_empty() && self.random.one_in(2) => {
                    self.store(&markers.completed);
                }
                Effect::Mark { .. } => {}
            }
        }
        self.reload();
    }

    fn store(&mut self, next: &Metadata) {
        let before = self.log.last().and_then(Option::as_ref).map(|value| Metadata::from_log_value(value).unwrap());
        if let Some(before) = &before {
            assert!(next.state.may_follow(before.state), "{:?} after {:?}", next.state, before.state);
            let (old, new) = (before.producer, next.producer);
            assert!(new.id != old.id || new.epoch >= old.epoch, "epoch went back");
            assert!(new.id == old.id || (new.id > old.id && new.epoch == 0), "an old producer id came back");
        }
        if next.state.is_prepared() {
            self.outcomes.push(next.state == State::PrepareCommit);
        }
        self.log.push((next.state != State::Dead).then(|| next.log_value()));
    }

    /// The next effect of the coordinator, if there is one.
    fn advance(&mut self, may_fail: bool) {
        match self.effects.pop() {
            None => {}
            Some(Effect::Append { next, asked }) => {
                let written = !(may_fail && self.random.one_in(12));
                if written {
                    self.store(&next);
                }
                self.machine.settle(written);
                if written {
                    self.begin_markers();
                }
                if let Some((client, asked)) = asked {
                    let answer = if written { Ok(next) } else { Err(ResponseError::CoordinatorNotAvailable) };
                    self.answer(client, asked, answer);
                }
            }
            Some(Effect::Mark { markers, number, left }) if left.is_empty() => {
                self.store(&markers.completed);
                self.machine.settle(true);
                let _ = number;
            }
            Some(Effect::Mark { markers, number, mut left }) => {
                let place = left.swap_remove(self.random.below(left.len()));
                self.places[place].mark(&markers, number, self.client_version == TransactionVersion::V2);
                self.effects.push(Effect::Mark { markers, number, left });
            }
        }
    }

    /// A client asks, as it may or as it may not.
    fn act(&mut self, client: usize) {
        if self.clients[client].waits {
            return;
        }
        let producer = self.clients[client].producer;
        match (self.random.below(10), producer) {
            (0, _) | (_, None) => {
                let expected = producer.filter(|_| self.random.one_in(2));
                self.ask_init(client, expected);
            }
            // A client goes on only when it knows how its last transaction ended.
            (1..=5, Some(producer)) if self.clients[client].lost_end.is_none() => self.ask_to_write(client, producer),
            (_, Some(producer)) => {
                let commit = self.clients[client].lost_end.unwrap_or(self.random.one_in(2));
                let commit = commit ^ self.random.one_in(20);
                let ask = EndTransaction { producer, commit, version: self.client_version };
                self.ask(client, Asked::End { commit }, |machine, fresh_id, now_ms| machine.end(ask, fresh_id, now_ms));
            }
        }
    }

    fn ask_init(&mut self, client: usize, expected: Option<Producer>) {
        let ask = InitProducerId { timeout_ms: TIMEOUT_MS, expected, version: self.version };
        self.ask(client, Asked::Init, |machine, fresh_id, now_ms| machine.init_producer_id(ask, fresh_id, now_ms));
    }

    fn ask_to_write(&mut self, client: usize, producer: Producer) {
        let place = self.random.below(PARTITIONS);
        let partition = TopicPartition::new("t", i32::try_from(place).unwrap()).unwrap();
        let version = self.client_version;
        if version == TransactionVersion::V0 && self.random.one_in(2) {
            let add = Asked::Add { place, producer, guard: None };
            return self.ask(client, add, |machine, _, now_ms| {
                machine.add_partitions(producer, std::slice::from_ref(&partition), version, now_ms)
            });
        }
        self.next_guard += 1;
        match self.places[place].guard(producer, self.next_guard) {
            Err(()) => {}
            Ok(None) => {
                let transaction = *self.places[place].known[&producer.id].open.last().unwrap();
                self.admitted.push(Admitted { place, producer, guard: None, transaction });
            }
            Ok(Some(guard)) if version == TransactionVersion::V2 => {
                let add = Asked::Add { place, producer, guard: Some(guard) };
                self.ask(client, add, |machine, _, now_ms| {
                    machine.add_partitions(producer, std::slice::from_ref(&partition), version, now_ms)
                });
            }
            Ok(Some(guard)) => {
                if let Ok(answers) = self.machine.verify(producer, &[partition])
                    && answers == [Ok(())]
                {
                    let transaction = self.outcomes.len();
                    self.admitted.push(Admitted { place, producer, guard: Some(guard), transaction });
                }
            }
        }
    }

    fn ask(
        &mut self,
        client: usize,
        asked: Asked,
        decide: impl Fn(&mut Transaction, Option<i64>, i64) -> Result<Step, ResponseError>,
    ) {
        let mut fresh_id = None;
        loop {
            match decide(&mut self.machine, fresh_id, self.now_ms) {
                Ok(Step::NeedsProducerId) => fresh_id = Some(self.fresh_id()),
                Ok(Step::Write(next)) => {
                    assert!(self.effects.is_empty(), "two states on their way");
                    self.clients[client].waits = true;
                    return self.effects.push(Effect::Append { next, asked: Some((client, asked)) });
                }
                Ok(Step::Done) => {
                    let current = Arc::clone(self.machine.current().unwrap());
                    return self.answer(client, asked, Ok(current));
                }
                Err(error) => return self.answer(client, asked, Err(error)),
            }
        }
    }

    fn answer(&mut self, client: usize, asked: Asked, answer: Result<Arc<Metadata>, ResponseError>) {
        self.clients[client].waits = false;
        match (asked, answer) {
            (Asked::Init, Ok(metadata)) if metadata.state == State::Empty => {
                self.owner = Some(metadata.producer);
                self.clients[client] = Client { producer: Some(metadata.producer), ..Client::default() };
            }
            (Asked::Add { place, producer, guard: Some(guard) }, Ok(_)) => {
                let transaction = self.outcomes.len();
                self.admitted.push(Admitted { place, producer, guard: Some(guard), transaction });
            }
            (Asked::End { commit }, Ok(metadata)) => {
                let client = &mut self.clients[client];
                client.lost_end = None;
                if let Some(number) = client.wrote.take() {
                    assert_eq!(self.outcomes[number], commit, "the answer was another");
                    self.committed += usize::from(commit);
                }
                if self.client_version == TransactionVersion::V2 {
                    client.producer = Some(metadata.producer_after_end());
                }
            }
            (_, Err(ResponseError::ProducerFenced | ResponseError::InvalidProducerIdMapping)) => {
                self.clients[client] = Client::default();
            }
            (_, Err(error)) => assert_ne!(error, ResponseError::UnknownServerError),
            (Asked::Init | Asked::Add { .. }, Ok(_)) => {}
        }
    }

    /// A batch that was admitted reaches its partition, perhaps late.
    fn append(&mut self) {
        if self.admitted.is_empty() {
            return;
        }
        let at = self.random.below(self.admitted.len());
        let Admitted { place, producer, guard, transaction } = self.admitted.swap_remove(at);
        let clients_bump = self.client_version == TransactionVersion::V2;
        if !self.places[place].append(producer, guard, transaction, clients_bump) {
            return;
        }
        let owner = self.owner.unwrap();
        assert!(
            producer.id > owner.id || (producer.id == owner.id && producer.epoch >= owner.epoch),
            "fenced, but wrote"
        );
        // What comes after its end was decided, but before its marker, is known to nobody.
        let is_decided = transaction < self.outcomes.len();
        for client in &mut self.clients {
            if client.producer == Some(producer) && !is_decided {
                client.wrote = Some(transaction);
            }
        }
    }

    fn pass_time(&mut self) {
        let jump = if self.random.one_in(40) { EXPIRATION_MS } else { 20_000 };
        self.now_ms += i64::try_from(self.random.below(usize::try_from(jump).unwrap())).unwrap();
        if self.machine.is_late(self.now_ms) {
            let fresh_id = self.fresh_id();
            let Ok(Step::Write(next)) = self.machine.time_out(self.version, Some(fresh_id), self.now_ms) else {
                panic!()
            };
            self.effects.push(Effect::Append { next, asked: None });
        } else if self.machine.expire(EXPIRATION_MS, self.now_ms) {
            let dead = Metadata { state: State::Dead, ..(**self.machine.current().unwrap()).clone() };
            self.effects.push(Effect::Append { next: Arc::new(dead), asked: None });
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=6 => self.advance(true),
            7..=13 => {
                let client = self.random.below(2);
                self.act(client);
            }
            14..=16 => self.append(),
            17 | 18 => self.pass_time(),
            _ => self.crash(),
        }
        if self.effects.is_empty() {
            let current = self.machine.current().map(|current| Metadata { last_epoch: None, ..(**current).clone() });
            let stored = self.log.last().and_then(Option::as_ref).map(|value| Metadata::from_log_value(value).unwrap());
            assert_eq!(current, stored, "the log says something else");
        }
    }

    /// Everything that was begun ends; then every transaction ended alike everywhere.
    fn check(&mut self) {
        while !self.effects.is_empty() {
            self.advance(false);
        }
        assert!(self.clients.iter().all(|client| !client.waits), "a request was not answered");
        let is_open = self.machine.current().is_some_and(|current| current.state == State::Ongoing);
        for place in &self.places {
            for (number, committed) in &place.closed {
                assert_eq!(self.outcomes[*number], *committed, "not alike everywhere");
            }
            let open: Vec<usize> = place.known.values().flat_map(|known| known.open.iter().copied()).collect();
            assert!(
                open.iter().all(|number| is_open && *number == self.outcomes.len()),
                "a transaction hangs: {open:?}"
            );
        }
    }
}

impl Place {
    /// As `Log::start_transaction_verification`.
    fn guard(&mut self, producer: Producer, fresh: u64) -> Result<Option<u64>, ()> {
        let known = self.known.entry(producer.id).or_insert(Known { epoch: -1, ..Known::default() });
        if producer.epoch < known.epoch {
            return Err(());
        }
        if !known.open.is_empty() && known.epoch == producer.epoch {
            return Ok(None);
        }
        let (guard, epoch) = known.guard.unwrap_or((fresh, producer.epoch));
        known.guard = Some((guard, epoch.max(producer.epoch)));
        Ok(Some(guard))
    }

    /// As `Log::append_as_leader`: whether the batch was taken.
    fn append(&mut self, producer: Producer, guard: Option<u64>, transaction: usize, clients_bump: bool) -> bool {
        let known = self.known.get_mut(&producer.id).unwrap();
        if producer.epoch < known.epoch {
            return false;
        }
        let is_open = !known.open.is_empty() && known.epoch == producer.epoch;
        if !is_open && (guard.is_none() || known.guard.map(|(guard, _)| guard) != guard) {
            return false;
        }
        if known.open.first().is_some_and(|first| *first != transaction) {
            // Before version 2 nothing but the sequence tells a late batch from one of the next transaction.
            assert!(!clients_bump, "records of two transactions between markers");
            return false;
        }
        known.epoch = producer.epoch;
        known.open.push(transaction);
        known.guard = None;
        true
    }

    /// As `Log::append_as_leader` of an end marker; `clients_bump` is what the verifications said of their clients.
    fn mark(&mut self, markers: &Markers, number: usize, clients_bump: bool) {
        let Producer { id, epoch } = markers.producer;
        let known = self.known.entry(id).or_insert(Known { epoch: -1, ..Known::default() });
        let bumps = markers.version.supports_epoch_bump();
        let is_stale = if bumps { epoch <= known.epoch } else { epoch < known.epoch };
        let is_repeated = bumps && epoch == known.epoch && (known.open.is_empty() || epoch == i16::MAX);
        if is_stale && !is_repeated {
            assert!(known.open.is_empty(), "a marker is refused, and the transaction is open");
            return;
        }
        for transaction in known.open.drain(..) {
            assert_eq!(transaction, number, "closed by the marker of another transaction");
            self.closed.insert(transaction, markers.committed);
        }
        known.epoch = epoch;
        if !(clients_bump && known.guard.is_some_and(|(_, guarded)| guarded == epoch)) {
            known.guard = None;
        }
    }
}

#[test]
fn every_history_ends_each_transaction_alike_on_all_its_partitions() {
    let setting = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seed, histories) = (setting("DURAMEN_SEED", 1), setting("DURAMEN_HISTORIES", 3000));
    let mut committed = 0;
    for seed in seed..seed + histories {
        println!("DURAMEN_SEED={seed} DURAMEN_HISTORIES=1");
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
        world.check();
        committed += world.committed;
    }
    assert!(histories < 100 || committed > 300, "only {committed} transactions with records were committed");
}
