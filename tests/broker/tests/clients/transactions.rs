//! Exactly once with franz-go: what is consumed, transformed and produced in transactions is there once, also where the broker
//! is killed meanwhile.

use crate::{
    broker::Broker,
    ledger,
    programs::{PATIENCE, Running, run, wait_until},
    stage::Stage,
};
use duramen_tests::kafka::skip;
use std::{collections::BTreeSet, env, thread, time::Duration};

/// Messages that two members move in transactions.
struct Etl<'a> {
    count: usize,
    flags: &'a str,
    /// How long it may take after what happens meanwhile.
    patience: Duration,
}

impl Etl<'_> {
    /// Moves them while something happens, and asserts that each is there once, for one who reads them as they come and for one
    /// who comes after all; gives the sums of what the members report.
    fn run(&self, stage: &Stage, address: &str, meanwhile: impl FnOnce()) -> [u64; 3] {
        let Self { count, flags, patience } = self;
        let common = format!("-brokers {address} -from etl-source -to etl-target -count {count}");
        // The check wants both to have as many partitions.
        for topic in ["etl-source", "etl-target"] {
            run(stage.bare("admin", &format!("-brokers {address} create {topic} 4"))).succeeded();
        }
        run(stage.bare("etl", &format!("load {common}"))).succeeded();
        let member = |id: &str| {
            Running::start(stage.bare("etl", &format!("run {common} -group etl -id {id} -abort-every 5 {flags}")))
        };
        let (one, two) = (member("one"), member("two"));
        let watcher = Running::start(stage.bare("etl", &format!("watch {common}")));
        meanwhile();
        let reports = [one, two].map(|member| member.end_within(*patience).succeeded().report());
        assert_eq!(watcher.end().succeeded().report()["messages"], *count);
        let report = run(stage.bare("etl", &format!("check {common}"))).succeeded().report();
        assert_eq!(report["messages"], *count);
        ["commits", "aborts", "restarts"].map(|name| reports.iter().map(|report| report[name].as_u64().unwrap()).sum())
    }
}

#[test]
fn each_message_is_moved_once() {
    let Some(stage) = Stage::new("etl") else { return };
    let etl = Etl { count: 20_000, flags: "", patience: PATIENCE };
    let [commits, aborts, restarts] = etl.run(&stage, stage.broker.address(), || ());
    assert!(commits > 0 && aborts > 0 && restarts == 0, "{commits} {aborts} {restarts}");
}

/// A number that a campaign sets.
fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// How often the broker is killed, and how long it has to work between: `DURAMEN_BROKER_KILLS` and
/// `DURAMEN_BROKER_KILL_SECONDS`.
struct Kills {
    count: u64,
    every: Duration,
}

impl Kills {
    fn from_environment() -> Self {
        let every = Duration::from_secs(setting("DURAMEN_BROKER_KILL_SECONDS", 2));
        Self { count: setting("DURAMEN_BROKER_KILLS", 3), every }
    }

    /// How long they take at least.
    fn duration(&self) -> Duration {
        self.every * u32::try_from(self.count).unwrap()
    }

    /// Kills a broker now and then. That it has worked for long enough has no sign by which it could be seen.
    fn inflict(&self, broker: &mut Broker) {
        for _ in 0..self.count {
            thread::sleep(self.every);
            broker.kill_and_start();
        }
    }
}

/// A producer waits for every acknowledgement and a group consumes, while something happens: whatever was acknowledged is there
/// after all, in its place, and was received. How much that is.
fn assert_nothing_acknowledged_is_lost(stage: &Stage, address: &str, meanwhile: impl FnOnce()) -> usize {
    let (produced, consumed) = (stage.ledger("produced"), stage.ledger("consumed"));
    let common = format!("-brokers {address} -topic acknowledged");
    let flags = format!("{common} -acks all -limit 10000000 -pace 1ms -ledger {}", produced.display());
    let producer = Running::start(stage.bare("async-producer", &flags));
    let flags = format!("{common} -limit 0 -initial oldest -ledger {}", consumed.display());
    let consumer = Running::start(stage.bare("consumer-group", &flags));
    meanwhile();
    producer.terminate();
    producer.end().succeeded();
    let acknowledged: BTreeSet<_> = ledger::read(&produced).into_iter().collect();
    assert!(!acknowledged.is_empty());
    wait_until("all is received that was acknowledged", || {
        acknowledged.is_subset(&ledger::read(&consumed).into_iter().collect())
    });
    consumer.terminate();
    consumer.end().succeeded();
    run(stage.bare("check", &format!("{common} -at-least -ledgers {}", produced.display()))).succeeded();
    acknowledged.len()
}

/// Two members move messages in transactions, a reader follows what they commit, a producer and a group are at work beside
/// them, and the broker is killed again and again.
///
/// Not asked of Kafka 4.3.0, which fails now and then: right after its restart it completes an abort in `__transaction_state` and
/// never writes the marker into the partition, so that the batch is there twice or the transaction stays open.
#[test]
fn broker_that_is_killed_loses_nothing_and_moves_each_message_once() {
    if Broker::is_kafka() {
        return println!("not asked of Kafka");
    }
    let Some(stage) = Stage::new("killed") else { return };
    let mut broker = match Broker::start(&[]) {
        Ok(broker) => broker,
        Err(why) => return skip(&why),
    };
    let (address, kills) = (broker.address().to_owned(), Kills::from_environment());
    // Two members move 40 messages every 100 ms at most, so that there is work until the last kill.
    let count = usize::try_from(800 * kills.duration().as_secs()).unwrap();
    let etl = Etl { count, flags: "-batch 40 -pace 100ms", patience: PATIENCE + 2 * kills.duration() };
    let mut acknowledged = 0;
    let [commits, aborts, restarts] = etl.run(&stage, &address, || {
        acknowledged = assert_nothing_acknowledged_is_lost(&stage, &address, || kills.inflict(&mut broker));
    });
    println!(
        "{} kills: {count} messages were moved in {commits} transactions beside {aborts} that were aborted, members began anew \
         {restarts} times, {acknowledged} messages were acknowledged",
        kills.count
    );
}
