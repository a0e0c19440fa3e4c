//! Members that come, go, crash and are slow in any order, and stores that fail.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Act {
    Join { client: usize, version: i16, changes: bool },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Crash { client: usize },
    Stored { well: bool },
    Time { ms: i64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let client = 0_usize..6;
    let act = prop_oneof![
        6 => (client.clone(), prop_oneof![Just(0_i16), Just(3), Just(5), Just(9)], proptest::bool::weighted(0.1))
            .prop_map(|(client, version, changes)| Act::Join { client, version, changes }),
        5 => client.clone().prop_map(|client| Act::Sync { client }),
        3 => client.clone().prop_map(|client| Act::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Act::Leave { client }),
        1 => client.prop_map(|client| Act::Crash { client }),
        4 => proptest::bool::weighted(0.9).prop_map(|well| Act::Stored { well }),
        3 => (0_i64..20_000).prop_map(|ms| Act::Time { ms }),
    ];
    proptest::collection::vec(act, 1..120)
}

/// Clients that do as clients do with what they are told.
struct Clients {
    world: World,
    joiners: Vec<Joiner>,
    generations: Vec<i32>,
    /// Which client sent a join.
    sent: BTreeMap<RequestId, usize>,
    syncs_sent: BTreeSet<RequestId>,
    /// What the members of a generation were told: protocol and leader.
    told: BTreeMap<i32, (Option<StrBytes>, StrBytes)>,
    leaders: BTreeMap<i32, BTreeSet<StrBytes>>,
    heard: BTreeSet<RequestId>,
}

impl Clients {
    fn new(delay_ms: i32) -> Self {
        let new = |index: usize| {
            // Two of them are static.
            Joiner { instance_id: (index >= 4).then(|| text(&format!("static-{index}"))), ..joiner() }
        };
        Self {
            world: World::new(delay_ms),
            joiners: (0..6).map(new).collect(),
            generations: vec![-1; 6],
            sent: BTreeMap::new(),
            syncs_sent: BTreeSet::new(),
            told: BTreeMap::new(),
            leaders: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Join { client, version, changes } => {
                self.joiners[client].version = if client >= 4 { version.max(5) } else { version };
                if changes {
                    self.joiners[client].protocols = vec![("range", "b"), ("sticky", "c")];
                }
                let id = self.world.join(&self.joiners[client].clone());
                self.sent.insert(id, client);
            }
            Act::Sync { client } => {
                let (id, generation) = (self.joiners[client].member_id.clone(), self.generations[client]);
                let members: Vec<StrBytes> = self.world.group.members.keys().cloned().collect();
                let assignments: Vec<_> = members.iter().map(|member| (member, "parts")).collect();
                let sync = self.world.sync(&id, generation, &assignments);
                self.syncs_sent.insert(sync);
            }
            Act::Heartbeat { client } => {
                let (id, generation) = (self.joiners[client].member_id.clone(), self.generations[client]);
                if let Err(ResponseError::UnknownMemberId) = self.world.heartbeat(&id, generation) {
                    self.joiners[client].member_id = StrBytes::new();
                }
            }
            Act::Leave { client } => {
                self.world.leave(&self.joiners[client].member_id.clone());
                self.joiners[client].member_id = StrBytes::new();
            }
            Act::Crash { client } => self.joiners[client].member_id = StrBytes::new(),
            Act::Stored { well } => {
                let result = if well { Ok(()) } else { Err(KafkaErrorCode::KafkaStorageError) };
                self.world.end_store(result);
            }
            Act::Time { ms } => self.world.pass(ms),
        }
        self.hear();
    }

    /// Every client takes the answers that came.
    fn hear(&mut self) {
        for (id, response) in &self.world.joins {
            if !self.heard.insert(*id) {
                continue;
            }
            let client = self.sent[id];
            if response.error_code == 0 {
                self.joiners[client].member_id = response.member_id.clone();
                self.generations[client] = response.generation_id;
                let known = self.told.entry(response.generation_id);
                let known = known.or_insert_with(|| (response.protocol_name.clone(), response.leader.clone()));
                assert_eq!(known.0, response.protocol_name, "one protocol in a generation");
                if !response.members.is_empty() {
                    assert_eq!(response.leader, response.member_id);
                    // A static leader that came back is the same leader under another id.
                    let owner = self.joiners[client].instance_id.clone().unwrap_or(response.member_id.clone());
                    self.leaders.entry(response.generation_id).or_default().insert(owner);
                }
            } else if response.error_code == ResponseError::MemberIdRequired.code() {
                self.joiners[client].member_id = response.member_id.clone();
            } else if response.error_code != ResponseError::RebalanceInProgress.code() {
                self.joiners[client].member_id = StrBytes::new();
            }
        }
    }

    fn check(&self) {
        let group = &self.world.group;
        assert!(
            group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader)),
            "the leader is a member"
        );
        assert_eq!(group.leader.is_none(), group.members.is_empty());
        for (instance, id) in &group.static_members {
            assert_eq!(group.members[id].instance_id.as_ref(), Some(instance));
        }
        match group.state {
            State::Empty => assert!(group.members.is_empty()),
            State::PreparingRebalance => assert!(group.join_timer.is_some(), "a rebalance has a deadline"),
            State::CompletingRebalance | State::Stable => {
                assert!(!group.members.is_empty());
                assert!(group.protocol.is_some());
                assert!(group.join_timer.is_none());
                assert!(group.pending_syncs.is_empty() || group.sync_timer_ms.is_some());
            }
        }
        for id in &group.pending_syncs {
            assert!(group.members.contains_key(id));
        }
        // Whoever waits is known to a member: everything else was answered.
        let waiting: BTreeSet<RequestId> =
            group.members.values().flat_map(|member| [member.awaits_join, member.awaits_sync]).flatten().collect();
        let unanswered = |id: &&RequestId| !self.world.joins.contains_key(id) && !self.world.syncs.contains_key(id);
        let open: BTreeSet<RequestId> = self.sent.keys().chain(&self.syncs_sent).filter(unanswered).copied().collect();
        assert_eq!(open, waiting);
        self.check_replay();
    }

    /// A group that is stable, and not about to change what is stored, is found again as it is.
    fn check_replay(&self) {
        let group = &self.world.group;
        let is_settled = matches!(group.state, State::Stable | State::Empty) && self.world.stores.is_empty();
        let Some(stored) = self.world.last_stored.as_ref().filter(|_| is_settled) else { return };
        let replayed = ClassicGroup::from_stored(text("g"), stored.clone(), self.world.now_ms);
        let as_stored =
            |group: &ClassicGroup| GroupMetadata { state_since_ms: None, ..group.store(Purpose::Emptied).group };
        assert_eq!(as_stored(&replayed), as_stored(group));
        assert_eq!(replayed.state, group.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1_500)))]

    #[test]
    fn members_in_any_order_leave_a_group_consistent(acts in acts(), delay_ms in prop_oneof![Just(0), Just(3_000)]) {
        let mut clients = Clients::new(delay_ms);
        for act in &acts {
            clients.act(act);
            clients.check();
        }
        // Nobody does anything any more: everybody is answered, and the group becomes empty.
        for _ in 0..20 {
            clients.world.end_store(Ok(()));
            clients.act(&Act::Time { ms: 600_000 });
            clients.check();
        }
        prop_assert!(clients.world.group.is_deletable(), "{:?}", clients.world.group);
        prop_assert_eq!(clients.world.group.next_deadline_ms(), None);
        let answered = clients.world.joins.len() + clients.world.syncs.len();
        prop_assert_eq!(answered, clients.sent.len() + clients.syncs_sent.len());
        for (generation, leaders) in &clients.leaders {
            prop_assert_eq!(leaders.len(), 1, "generation {} has leaders {:?}", generation, leaders);
        }
    }
}
