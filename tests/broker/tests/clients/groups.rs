//! The consumer group of the notes: members come and go, and every message is received, once and in order.

use crate::{
    ledger::{self, assert_each_once, assert_in_order},
    programs::{Running, at_once, run, wait_until},
    stage::Stage,
};
use std::collections::BTreeSet;

/// A member that runs.
struct Member {
    name: String,
    running: Running,
}

impl Member {
    fn start(stage: &Stage, group: &str, name: &str, flags: &str) -> Self {
        let ledger = stage.ledger(name);
        let flags =
            format!("-group {group} -name {name} -limit 0 -initial oldest -ledger {} {flags}", ledger.display());
        Self { name: name.to_owned(), running: Running::start(stage.program("consumer-group", &flags)) }
    }

    /// Its generation and partitions, as it has said when it joined last.
    fn joined(&self) -> Option<(u32, Vec<i32>)> {
        let lines = self.running.lines();
        let line = lines
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix(&format!("running: {} ", self.name)).map(str::to_owned))?;
        let (generation, partitions) = line.strip_prefix("generation ")?.split_once(" partitions ")?;
        let partitions = partitions.trim_matches(['[', ']']).split_whitespace().map(|word| word.parse().unwrap());
        Some((generation.parse().unwrap(), partitions.collect()))
    }

    /// Lets it leave, in order, and gives what it has received.
    fn leave(self, stage: &Stage) -> Vec<ledger::Entry> {
        self.running.terminate();
        self.running.end().succeeded();
        let received = ledger::read(&stage.ledger(&self.name));
        assert_in_order(&received);
        received
    }
}

/// Waits until these are the members of one generation who share the four partitions, so many each; they come in any order.
fn wait_for_shares(members: &[&Member], shares: &[usize]) {
    wait_until(&format!("{shares:?} partitions"), || {
        let Some(joined) = members.iter().map(|member| member.joined()).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let generations: BTreeSet<u32> = joined.iter().map(|(generation, _)| *generation).collect();
        let mut counts: Vec<usize> = joined.iter().map(|(_, partitions)| partitions.len()).collect();
        counts.sort_unstable();
        let all: BTreeSet<i32> = joined.iter().flat_map(|(_, partitions)| partitions.iter().copied()).collect();
        generations.len() == 1 && counts == shares && all == BTreeSet::from([0, 1, 2, 3])
    });
}

/// Fills the topic, which makes it.
fn filled(topic: &str, messages: usize) -> Option<Stage> {
    let stage = Stage::new(topic)?;
    stage.produce(messages, "-partitioner roundrobin");
    Some(stage)
}

#[test]
fn one_member_three_members_one_member() {
    let Some(stage) = filled("one-three-one", 1_000) else { return };
    let more = stage.ledger("more");
    let flags = format!("-name more -limit 1000000 -pace 500us -hand-over 60s -ledger {}", more.display());

    let first = Member::start(&stage, "one-three-one", "first", "");
    wait_for_shares(&[&first], &[4]);
    let producer = Running::start(stage.program("async-producer", &flags));
    let (second, third) =
        (Member::start(&stage, "one-three-one", "second", ""), Member::start(&stage, "one-three-one", "third", ""));
    wait_for_shares(&[&first, &second, &third], &[1, 1, 2]);
    let mut received = second.leave(&stage);
    received.extend(third.leave(&stage));
    wait_for_shares(&[&first], &[4]);
    producer.terminate();
    assert_eq!(producer.end().succeeded().report()["errors"], 0);

    let produced = [ledger::read(&stage.ledger("produced")), ledger::read(&more)].concat();
    let behind = received.len();
    wait_until("all is received", || ledger::read(&stage.ledger("first")).len() + behind >= produced.len());
    received.extend(first.leave(&stage));
    assert_each_once(&produced, &received);
}

#[test]
fn every_strategy_gives_each_partition_to_one_member() {
    at_once(&["range", "roundrobin", "sticky"], |strategy| {
        let Some(stage) = filled(&format!("strategy-{strategy}"), 1_000) else { return };
        let group = format!("strategy-{strategy}");
        let flags = format!("-strategy {strategy}");
        let members = ["a", "b", "c"].map(|name| Member::start(&stage, &group, name, &flags));
        wait_for_shares(&members.each_ref(), &[1, 1, 2]);
        wait_until("all is received", || {
            ["a", "b", "c"].iter().map(|name| ledger::read(&stage.ledger(name)).len()).sum::<usize>() >= 1_000
        });
        let received: Vec<_> = members.into_iter().flat_map(|member| member.leave(&stage)).collect();
        assert_each_once(&ledger::read(&stage.ledger("produced")), &received);
    });
}

#[test]
fn members_without_a_partition_wait() {
    let Some(stage) = filled("six-members", 1_000) else { return };
    let members: Vec<_> = (0..6).map(|n| Member::start(&stage, "six-members", &format!("member-{n}"), "")).collect();
    wait_for_shares(&members.iter().collect::<Vec<_>>(), &[0, 0, 1, 1, 1, 1]);
}

#[test]
fn two_groups_receive_everything_each_at_its_own_pace() {
    let Some(stage) = filled("two-groups", 1_000) else { return };
    let produced = ledger::read(&stage.ledger("produced"));
    let slow = Member::start(&stage, "slow", "slow", "-pace 4ms");
    let fast = Member::start(&stage, "fast", "fast", "");
    wait_until("the fast group has all", || ledger::read(&stage.ledger("fast")).len() >= produced.len());
    assert_each_once(&produced, &fast.leave(&stage));
    wait_until("the slow group has all", || ledger::read(&stage.ledger("slow")).len() >= produced.len());
    assert_each_once(&produced, &slow.leave(&stage));
}

#[test]
fn next_member_begins_where_the_last_one_has_committed() {
    let Some(stage) = filled("resume", 3_000) else { return };
    let mut received = Vec::new();
    for part in 0..3 {
        let ledger = stage.ledger(&format!("part-{part}"));
        let flags = format!("-group resume -limit 1000 -initial oldest -ledger {}", ledger.display());
        run(stage.program("consumer-group", &flags)).succeeded();
        received.extend(ledger::read(&ledger));
    }
    assert_each_once(&ledger::read(&stage.ledger("produced")), &received);
}

#[test]
fn newest_receives_only_what_comes_later() {
    let Some(stage) = filled("newest", 1_000) else { return };
    let member = Member::start(&stage, "newest", "newest", "-initial newest");
    wait_for_shares(&[&member], &[4]);
    // sarama asks for the newest offsets once it runs, and says nothing of it: messages are sent until one has come.
    let mut sent = 0;
    wait_until("a message comes", || {
        let flags = format!("-name later-{sent} -limit 4 -partitioner roundrobin");
        run(stage.program("sync-producer", &flags)).succeeded();
        sent += 1;
        !ledger::read(&stage.ledger("newest")).is_empty()
    });
    let received = member.leave(&stage);
    assert!(received.iter().all(|entry| entry.value.starts_with("later-")), "{received:?}");
}
