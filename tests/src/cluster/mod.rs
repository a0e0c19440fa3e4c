//! A cluster in one process: three to five brokers with real logs on simulated disks, a controller, and a network that
//! loses, delays and reorders. One seed decides everything.
//!
//! After every step the promises of [`duramen::replica`] are checked against what the brokers' logs really hold.

mod checks;
mod controller;
mod ledger;
mod message;
mod node;

use crate::{disk::Crash, random::Random};
use controller::Controller;
use duramen::{
    LogError,
    replica::{BrokerId, ReplicaConfig, RequiredAcks, UncleanElection},
};
use ledger::Ledger;
use message::{Body, Message};
use node::Node;
use std::collections::BTreeSet;

/// Lag after which a follower is out of sync, in ms.
const LAG_MS: i64 = 1_000;

/// Rounds in which a cluster without faults must come to rest.
const MAX_ROUNDS: usize = 400;

/// What may go wrong, and what must hold all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Processes die; what they wrote stays. Nothing that was committed may be lost.
    Processes,
    /// Machines lose power, any number of them at once; brokers flush before they acknowledge. Nothing may be lost.
    Power,
    /// As `Processes`, with unclean elections: records may be lost, but the replicas come to agree.
    UncleanElections,
}

/// How every broker is set up.
#[derive(Debug, Clone, Copy)]
struct Settings {
    seed: u64,
    replica: ReplicaConfig,
    durable: bool,
    /// Followers ask where their epoch ends before they fetch, as before Kafka 2.7.
    asks_first: bool,
    fetch_bytes: u64,
}

/// What happened in one run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Steps taken.
    pub steps: usize,
    /// Batches appended at a leader.
    pub appended: usize,
    /// Batches acknowledged with acks=all.
    pub acknowledged: usize,
    /// Changes of the leader.
    pub elections: usize,
    /// Those to a replica that was not in sync.
    pub unclean_elections: usize,
    /// Crashes.
    pub crashes: usize,
    /// Logs that were cut.
    pub truncations: usize,
    /// Logs that were begun anew.
    pub restarts_from_nothing: usize,
    /// Versions of the partition's registration.
    pub registrations: usize,
}

impl Summary {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.appended += other.appended;
        self.acknowledged += other.acknowledged;
        self.elections += other.elections;
        self.unclean_elections += other.unclean_elections;
        self.crashes += other.crashes;
        self.truncations += other.truncations;
        self.restarts_from_nothing += other.restarts_from_nothing;
        self.registrations += other.registrations;
    }
}

struct Cluster {
    random: Random,
    faults: Faults,
    nodes: Vec<Node>,
    controller: Controller,
    network: Vec<Message>,
    isolated: BTreeSet<BrokerId>,
    ledger: Ledger,
    now_ms: i64,
    serial: u64,
    summary: Summary,
}

/// Runs so many random steps, then lets the cluster come to rest and compares the logs.
///
/// # Panics
/// When a promise is broken.
pub fn run(seed: u64, faults: Faults, steps: usize) -> Summary {
    let mut cluster = Cluster::new(seed, faults);
    for _ in 0..steps {
        cluster.step();
    }
    cluster.come_to_rest();
    let summary = &mut cluster.summary;
    summary.steps = steps;
    (summary.elections, summary.unclean_elections) = cluster.controller.elections;
    summary.registrations = cluster.controller.versions.len();
    summary.truncations = cluster.nodes.iter().map(|node| node.truncations.0).sum();
    summary.restarts_from_nothing = cluster.nodes.iter().map(|node| node.truncations.1).sum();
    cluster.summary
}

impl Cluster {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let size = 3 + random.below(3);
        let settings = Settings {
            seed,
            replica: ReplicaConfig {
                replica_lag_time_max_ms: LAG_MS,
                min_insync_replicas: [1, 1, 2, 2, 3][random.below(5)],
            },
            durable: faults == Faults::Power,
            asks_first: random.below(4) == 0,
            fetch_bytes: [1, 1, 200, 5_000][random.below(4)],
        };
        let mut replicas: Vec<BrokerId> = (0..size).filter_map(|id| BrokerId::try_from(id).ok()).collect();
        let mut nodes: Vec<_> = replicas.iter().map(|id| Node::new(*id, settings)).collect();
        random.shuffle(&mut replicas);
        let unclean =
            if faults == Faults::UncleanElections { UncleanElection::Enabled } else { UncleanElection::Disabled };
        let controller = Controller::new(replicas, unclean);
        let now_ms = crate::history::NOW_MS;
        for node in &mut nodes {
            node.start(0, now_ms);
            node.learn(0, controller.now(), now_ms).unwrap();
        }
        Self {
            random,
            faults,
            nodes,
            controller,
            network: Vec::new(),
            isolated: BTreeSet::new(),
            ledger: Ledger::default(),
            now_ms,
            serial: 0,
            summary: Summary::default(),
        }
    }

    fn step(&mut self) {
        self.now_ms += i64::try_from(self.random.below(60)).unwrap_or(0);
        let n = self.random.below(self.nodes.len());
        match self.random.below(200) {
            0..40 => self.follow(n),
            40..125 => self.deliver(),
            125..150 => self.produce(),
            150..165 => self.learn(n),
            165..172 => self.on_node(n, |node, now_ms| Ok(node.shrink_isr(now_ms).into_iter().collect())),
            172..176 => self.on_node(n, |node, now_ms| node.flush(now_ms).map(|()| Vec::new())),
            176..178 => self.delete_records(n),
            178..180 => self.on_node(n, |node, _| {
                node.checkpoint();
                Ok(Vec::new())
            }),
            180 => self.crash(self.victim(n)),
            181 => self.crash_soon(self.victim(n)),
            182 if self.random.below(4) == 0 => self.crash_many(),
            183 if self.random.coin() => self.stop(n),
            182..188 => self.restart(self.one_that(n, |node| node.running.is_none())),
            188..190 => self.isolate(self.victim(n)),
            190..194 => {
                let isolated = self.isolated.clone();
                self.reconnect(self.one_that(n, |node| isolated.contains(&node.id)));
            }
            _ => (0..self.nodes.len()).for_each(|n| self.controller_notices(n)),
        }
    }

    /// Lets one broker do something, then checks what it did. A failure must come from a planned crash.
    fn on_node(&mut self, n: usize, act: impl FnOnce(&mut Node, i64) -> Result<Vec<Message>, LogError>) {
        let node = &mut self.nodes[n];
        if node.running.is_none() {
            return;
        }
        let before = node.disk.operations();
        if let Some(left) = node.doomed {
            node.disk.crash_at(before + left);
        }
        let result = act(node, self.now_ms);
        if node.disk.crashed() {
            return self.crash(n);
        }
        // What the checks read does not count.
        node.disk.heal();
        node.doomed = node.doomed.map(|left| left.saturating_sub(node.disk.operations() - before));
        let sent = result.unwrap_or_else(|error| panic!("broker {n}: {error}"));
        if sent.iter().any(|message| matches!(message.body, Body::Alter(_))) {
            self.forget_earlier_copies(n);
        }
        self.network.extend(sent);
        self.check(n);
    }

    /// Who asks the controller again has closed the connection of the time before.
    fn forget_earlier_copies(&mut self, n: usize) {
        let broker = Some(self.nodes[n].id);
        self.network.retain(|message| match message.body {
            Body::Alter(_) => message.from != broker,
            Body::Altered(..) => message.to != broker,
            _ => true,
        });
    }

    fn follow(&mut self, n: usize) {
        self.on_node(n, |node, now_ms| node.follow(now_ms).map(|message| message.into_iter().collect()));
    }

    /// Any message arrives, or gets lost.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let chosen = self.random.below(self.network.len());
        let message = self.network.swap_remove(chosen);
        let cut = [message.from, message.to].iter().flatten().any(|broker| self.isolated.contains(broker));
        if cut || self.random.below(25) == 0 {
            return;
        }
        self.arrive(message);
    }

    fn arrive(&mut self, message: Message) {
        match (message.to, message.body) {
            (None, Body::Alter(change)) => {
                let answer = self.controller.alter(change, &mut self.random);
                self.network.push(answer);
            }
            (Some(broker), body) => {
                let n = usize::try_from(broker).unwrap_or(0);
                let message = Message { body, ..message };
                self.on_node(n, |node, now_ms| node.receive(message, now_ms));
            }
            (None, _) => {}
        }
    }

    /// A producer sends to whoever says that it leads.
    fn produce(&mut self) {
        let leaders: Vec<_> = (0..self.nodes.len()).filter(|n| self.nodes[*n].is_leader()).collect();
        if leaders.is_empty() {
            return;
        }
        let n = leaders[self.random.below(leaders.len())];
        let acks = [RequiredAcks::None, RequiredAcks::Leader, RequiredAcks::All, RequiredAcks::All];
        let acks = acks[self.random.below(4)];
        self.serial += 1;
        let (serial, mut appended) = (self.serial, false);
        self.on_node(n, |node, now_ms| {
            appended = node.produce(acks, serial, now_ms)?;
            Ok(Vec::new())
        });
        self.summary.appended += usize::from(appended);
    }

    /// A broker replays the metadata, one version or all.
    fn learn(&mut self, n: usize) {
        if self.isolated.contains(&self.nodes[n].id) {
            return;
        }
        let all = self.random.coin();
        while let Some(known) = self.nodes[n].running.as_ref().map(|running| running.metadata) {
            let Some(metadata) = self.controller.versions.get(known + 1).cloned() else { break };
            self.on_node(n, |node, now_ms| node.learn(known + 1, &metadata, now_ms).map(|()| Vec::new()));
            if !all {
                break;
            }
        }
    }

    fn delete_records(&mut self, n: usize) {
        let keeps_all = self.nodes.len() == 4;
        if keeps_all || !self.nodes[n].is_leader() {
            return;
        }
        let offsets = self.nodes[n].log().offsets();
        let span = usize::try_from(offsets.high_watermark - offsets.log_start).unwrap_or(0);
        let offset = offsets.log_start + i64::try_from(self.random.below(span + 1)).unwrap_or(0);
        self.ledger.deleted_below = self.ledger.deleted_below.max(offset);
        self.on_node(n, |node, _| node.delete_records(offset).map(|_| Vec::new()));
    }

    /// The leader, mostly: what it alone knows is what an election can lose.
    fn victim(&self, n: usize) -> usize {
        let leader = self.controller.now().partition.leader;
        let leads = self.nodes.iter().position(|node| Some(node.id) == leader);
        if self.serial.is_multiple_of(4) { n } else { leads.unwrap_or(n) }
    }

    /// The first broker that is so, if there is one; otherwise `n`.
    fn one_that(&self, n: usize, is_so: impl Fn(&Node) -> bool) -> usize {
        self.nodes.iter().position(is_so).unwrap_or(n)
    }

    fn crash(&mut self, n: usize) {
        if self.nodes[n].running.is_none() {
            return;
        }
        let seed = self.random.next();
        let how = match self.faults {
            Faults::Processes | Faults::UncleanElections => Crash::ProcessOnly,
            Faults::Power => {
                let power = [Crash::LoseAllUnsynced, Crash::Random(seed), Crash::KeepAll, Crash::ZeroTail];
                power[self.random.below(4)]
            }
        };
        self.nodes[n].crash(how);
        self.summary.crashes += 1;
    }

    /// Some brokers crash at once, or all.
    fn crash_many(&mut self) {
        let all = self.random.coin();
        for n in 0..self.nodes.len() {
            if all || self.random.coin() {
                self.crash(n);
            }
        }
    }

    /// A broker will crash in the middle of what it does next.
    fn crash_soon(&mut self, n: usize) {
        self.nodes[n].doomed = Some(self.random.below(40) as u64);
    }

    fn stop(&mut self, n: usize) {
        self.nodes[n].stop();
    }

    fn restart(&mut self, n: usize) {
        let id = self.nodes[n].id;
        if self.nodes[n].running.is_some() || self.isolated.contains(&id) {
            return;
        }
        let epoch = self.controller.register(id);
        self.nodes[n].disk.heal();
        self.nodes[n].start(epoch, self.now_ms);
        // It is registered; the controller lets it in when it has the metadata of its registration.
        let version = self.controller.versions.len() - 1;
        let metadata = self.controller.now().clone();
        self.on_node(n, |node, now_ms| node.learn(version, &metadata, now_ms).map(|()| Vec::new()));
        if self.nodes[n].running.is_some() {
            self.set_fenced(n, false);
        }
    }

    fn isolate(&mut self, n: usize) {
        self.isolated.insert(self.nodes[n].id);
    }

    fn reconnect(&mut self, n: usize) {
        self.isolated.remove(&self.nodes[n].id);
    }

    /// Heartbeats arrive at the controller again, or have stopped.
    fn controller_notices(&mut self, n: usize) {
        let is_heard = self.nodes[n].running.is_some() && !self.isolated.contains(&self.nodes[n].id);
        self.set_fenced(n, !is_heard);
    }

    fn set_fenced(&mut self, n: usize, fenced: bool) {
        let node = &self.nodes[n];
        let registered = self.controller.now().brokers.clone();
        let epoch = node.running.as_ref().map(|running| running.broker_epoch);
        let Some(epoch) = epoch.or_else(|| registered.alive_epoch(node.id)) else { return };
        let before = self.controller.now().partition.leader;
        self.controller.set_fenced(node.id, epoch, fenced);
        if self.controller.now().partition.leader != before {
            self.check_elected();
        }
    }

    /// Ends all faults and lets every broker work until nothing changes; then all replicas are equal.
    fn come_to_rest(&mut self) {
        self.isolated.clear();
        for n in 0..self.nodes.len() {
            self.nodes[n].doomed = None;
        }
        for round in 0.. {
            assert!(round < MAX_ROUNDS, "the cluster does not come to rest: {}", self.describe());
            for n in 0..self.nodes.len() {
                self.restart(n);
                self.controller_notices(n);
                self.learn(n);
                self.follow(n);
                self.on_node(n, |node, now_ms| node.flush(now_ms).map(|()| Vec::new()));
                self.on_node(n, |node, now_ms| Ok(node.shrink_isr(now_ms).into_iter().collect()));
            }
            for _ in 0..1_000 {
                let Some(message) = self.network.pop() else { break };
                self.arrive(message);
            }
            self.now_ms += 50;
            // Records of the last epoch make every replica's epochs equal, too.
            if round == 100 {
                self.produce();
            }
            if round > 100 && self.is_at_rest() {
                break;
            }
        }
        self.check_equal();
    }
}
