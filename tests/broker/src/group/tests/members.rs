//! What clients rely on, one by one.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn first_join_of_a_newer_version_gets_an_id_and_has_to_come_again() {
    let mut world = World::new(0);
    let id = world.join(&joiner());
    let response = &world.joins[&id];
    assert_eq!((response.error_code, response.generation_id), (ResponseError::MemberIdRequired.code(), -1));
    assert!(response.member_id.starts_with("client-"));
    let mut again = Joiner { member_id: response.member_id.clone(), ..joiner() };
    let id = world.join_fully(&mut again);
    let response = world.joined(id);
    assert_eq!((response.generation_id, &response.leader), (1, &again.member_id));
    assert_eq!(response.members.len(), 1);
    let id = world.join(&Joiner { version: 3, ..joiner() });
    assert!(!world.joins.contains_key(&id), "an older version waits for the rebalance at once");
}

#[test]
fn id_that_nobody_comes_back_with_is_forgotten() {
    let mut world = World::new(0);
    world.join(&joiner());
    assert!(!world.group.is_deletable());
    world.pass(10_000);
    assert!(world.group.is_deletable() && world.group.is_untouched());
}

#[test]
fn first_rebalance_of_an_empty_group_waits_for_more_members() {
    let mut world = World::new(3_000);
    let mut first = joiner();
    let a = world.join_fully(&mut first);
    world.pass(2_000);
    let b = world.join_fully(&mut joiner());
    world.pass(1_000);
    assert!(!world.joins.contains_key(&a), "a member came meanwhile");
    world.pass(3_000);
    assert_eq!((world.joined(a).generation_id, world.joined(b).generation_id), (1, 1));
    assert_eq!(world.joined(a).members.len() + world.joined(b).members.len(), 2, "the leader alone learns the members");
}

#[test]
fn assignment_is_given_out_once_it_is_stored() {
    let mut world = World::new(0);
    let mut member = joiner();
    let join = world.join_fully(&mut member);
    let generation = world.joined(join).generation_id;
    let sync = world.sync(&member.member_id, generation, &[(&member.member_id, "mine")]);
    assert!(!world.syncs.contains_key(&sync));
    assert_eq!(world.heartbeat(&member.member_id, generation), Ok(()));
    world.end_store(Ok(()));
    let response = &world.syncs[&sync];
    assert_eq!((&response.assignment[..], response.protocol_name.as_deref()), (&b"mine"[..], Some("range")));
    let stored = world.last_stored.unwrap();
    assert_eq!((stored.generation, &stored.members[0].assignment[..]), (1, &b"mine"[..]));
}

#[test]
fn assignment_that_cannot_be_stored_is_refused_and_the_group_rebalances() {
    let mut world = World::new(0);
    let mut member = joiner();
    world.join_fully(&mut member);
    let sync = world.sync(&member.member_id, 1, &[(&member.member_id, "mine")]);
    world.end_store(Err(KafkaErrorCode::KafkaStorageError));
    assert_eq!(world.syncs[&sync].error_code, ResponseError::NotCoordinator.code());
    assert_eq!(world.group.state, State::PreparingRebalance);
    let join = world.join(&member);
    assert_eq!(world.joined(join).generation_id, 2);
}

#[test]
fn member_that_comes_makes_the_others_join_again() {
    let mut world = World::new(0);
    let mut members = [joiner(), joiner()];
    world.stable(&mut members);
    let generation = world.group.generation;
    let mut third = joiner();
    let c = world.join_fully(&mut third);
    for member in &members {
        assert_eq!(world.heartbeat(&member.member_id, generation), Err(ResponseError::RebalanceInProgress));
    }
    let a = world.join(&members[0]);
    assert!(!world.joins.contains_key(&a));
    let b = world.join(&members[1]);
    for join in [a, b, c] {
        assert_eq!(world.joined(join).generation_id, generation + 1);
    }
    assert_eq!(world.heartbeat(&members[0].member_id, generation), Err(ResponseError::IllegalGeneration));
    assert_eq!(world.heartbeat(&text("nobody"), generation), Err(ResponseError::UnknownMemberId));
}

#[test]
fn member_that_does_not_join_again_is_left_behind() {
    let mut world = World::new(0);
    let mut members = [joiner(), joiner()];
    world.stable(&mut members);
    let generation = world.group.generation;
    let c = world.join_fully(&mut joiner());
    let a = world.join(&members[0]);
    world.pass(9_999);
    assert!(!world.joins.contains_key(&a));
    world.pass(1);
    assert_eq!(world.joined(a).generation_id, generation + 1);
    assert_eq!(world.joined(c).generation_id, generation + 1);
    assert_eq!(world.heartbeat(&members[1].member_id, generation), Err(ResponseError::UnknownMemberId));
}

#[test]
fn member_that_joined_and_does_not_sync_is_left_behind() {
    let mut world = World::new(0);
    let mut members = [joiner(), joiner()];
    world.stable(&mut members);
    let generation = world.group.generation;
    world.join_fully(&mut joiner());
    world.join(&members[0]);
    world.join(&members[1]);
    let sync = world.sync(&members[0].member_id, generation + 1, &[]);
    for _ in 0..12 {
        world.pass(5_000);
        for id in world.group.members.keys().cloned().collect::<Vec<_>>() {
            world.heartbeat(&id, generation + 1).ok();
        }
    }
    assert_eq!(world.syncs[&sync].error_code, ResponseError::RebalanceInProgress.code());
    assert_eq!(world.group.members.len(), 1, "those who never asked for their assignment have gone");
}

#[test]
fn last_member_that_leaves_empties_the_group_in_a_generation_of_its_own() {
    let mut world = World::new(0);
    let mut members = [joiner()];
    world.stable(&mut members);
    let generation = world.group.generation;
    assert_eq!(world.leave(&members[0].member_id), 0);
    world.end_store(Ok(()));
    assert_eq!((world.group.state, world.group.generation), (State::Empty, generation + 1));
    let stored = world.last_stored.clone().unwrap();
    assert_eq!((&*stored.protocol_type, stored.generation, stored.members.len()), ("consumer", generation + 1, 0));
    assert_eq!((stored.protocol, stored.leader), (None, None));
    assert_eq!(world.leave(&members[0].member_id), ResponseError::UnknownMemberId.code());
}

#[test]
fn static_member_that_comes_back_gets_its_place_without_a_rebalance() {
    for version in [5, 9] {
        let mut world = World::new(0);
        let mut members = [Joiner { instance_id: Some(text("one")), version, ..joiner() }];
        world.stable(&mut members);
        let (generation, old_id) = (world.group.generation, world.group.leader.clone().unwrap());
        let again = world.join(&members[0]);
        assert!(!world.joins.contains_key(&again), "it is stored first");
        world.end_store(Ok(()));
        let response = world.joined(again).clone();
        assert_eq!((response.generation_id, world.group.state), (generation, State::Stable));
        assert_ne!(response.member_id, old_id);
        if version == 9 {
            assert!(response.skip_assignment && response.leader == response.member_id && response.members.len() == 1);
        } else {
            assert!(!response.skip_assignment && response.leader == old_id && response.members.is_empty());
        }
        let sync = world.sync(&response.member_id, generation, &[]);
        assert_eq!(&world.syncs[&sync].assignment[..], b"parts");
        let fenced = HeartbeatRequest::default()
            .with_member_id(old_id)
            .with_group_instance_id(Some(text("one")))
            .with_generation_id(generation);
        assert_eq!(world.group.heartbeat(&fenced, world.now_ms), Err(ResponseError::FencedInstanceId));
    }
}

#[test]
fn static_member_that_cannot_be_stored_leaves_the_old_one_in_place() {
    let mut world = World::new(0);
    let mut members = [Joiner { instance_id: Some(text("one")), ..joiner() }];
    world.stable(&mut members);
    let (generation, old_id) = (world.group.generation, world.group.leader.clone().unwrap());
    let again = world.join(&members[0]);
    world.end_store(Err(KafkaErrorCode::KafkaStorageError));
    assert_eq!(world.join_error(again), ResponseError::NotCoordinator.code());
    assert_eq!(world.heartbeat(&old_id, generation), Ok(()));
    assert_eq!(world.group.leader, Some(old_id));
}

#[test]
fn static_member_is_removed_by_its_instance_id_alone() {
    let mut world = World::new(0);
    let mut members = [Joiner { instance_id: Some(text("one")), ..joiner() }];
    world.stable(&mut members);
    let member = |instance: &str| MemberIdentity::default().with_group_instance_id(Some(text(instance)));
    let request = LeaveGroupRequest::default().with_members(vec![member("two"), member("one"), member("one")]);
    let mut effects = Effects::default();
    let response = world.group.leave(&request, 5, world.now_ms, &mut effects);
    let codes: Vec<i16> = response.members.iter().map(|member| member.error_code).collect();
    assert_eq!(codes, [ResponseError::UnknownMemberId.code(), 0, ResponseError::UnknownMemberId.code()]);
    assert_eq!(world.group.state, State::Empty);
}

#[test]
fn protocol_is_the_one_that_most_like_best_among_those_that_all_know() {
    let mut world = World::new(1_000);
    let preferences: [&[&str]; 3] = [&["sticky", "range"], &["range", "sticky"], &["only", "range", "sticky"]];
    let joins: Vec<RequestId> = preferences
        .iter()
        .map(|names| {
            let protocols = names.iter().map(|name| (&*String::leak((*name).to_owned()), "x")).collect();
            world.join_fully(&mut Joiner { protocols, ..joiner() })
        })
        .collect();
    world.pass(4_000);
    for join in joins {
        assert_eq!(world.joined(join).protocol_name.as_deref(), Some("range"));
    }
    let other = world.join(&Joiner { protocols: vec![("other", "x")], ..joiner() });
    assert_eq!(world.join_error(other), ResponseError::InconsistentGroupProtocol.code());
}

#[test]
fn group_that_is_full_takes_nobody() {
    let mut world = World::new(1_000);
    let joins: Vec<RequestId> = (0..5).map(|_| world.join(&Joiner { version: 3, ..joiner() })).collect();
    assert_eq!(world.join_error(joins[4]), ResponseError::GroupMaxSizeReached.code());
    world.pass(60_000);
    assert_eq!(world.joined(joins[0]).generation_id, 1);
}

#[test]
fn commit_is_checked_against_generation_and_state() {
    let mut world = World::new(0);
    let mut members = [joiner()];
    let commit = |world: &mut World, generation, member_id: &StrBytes, is_transactional| {
        let committer = OffsetCommitter { generation, member_id, instance_id: None, is_transactional };
        world.group.check_offset_commit(committer, world.now_ms)
    };
    let nobody = StrBytes::new();
    assert_eq!(commit(&mut world, -1, &nobody, false), Ok(()));
    assert_eq!(commit(&mut world, 1, &text("m"), false), Err(ResponseError::UnknownMemberId));
    world.stable(&mut members);
    let (generation, id) = (world.group.generation, members[0].member_id.clone());
    assert_eq!(commit(&mut world, generation, &id, false), Ok(()));
    assert_eq!(commit(&mut world, generation + 1, &id, false), Err(ResponseError::IllegalGeneration));
    assert_eq!(commit(&mut world, -1, &nobody, false), Err(ResponseError::UnknownMemberId));
    assert_eq!(commit(&mut world, -1, &nobody, true), Ok(()));
    let join = world.join(&members[0]);
    let generation = world.joined(join).generation_id;
    assert_eq!(commit(&mut world, generation, &id, false), Err(ResponseError::RebalanceInProgress));
    assert_eq!(commit(&mut world, generation, &id, true), Ok(()));
}
