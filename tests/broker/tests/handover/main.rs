//! Real Kafka 4.3.0 and the reference broker take turns on one directory, and clients that live through it find no difference.
//!
//! In each turn one of them has the directory, and everything is done to it that brokers do: see the program
//! `clients/go/handover`. After the turn it is stopped in order or killed. Then the other starts on what it left: what clients
//! see is the same, to the last digest; and of the files no byte has changed that is not the new one's to change.
//!
//! `DURAMEN_HANDOVER_ROUNDS` says how many turns each has, which is one if nobody does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod difference;
mod files;
mod player;
mod sides;

use duramen_tests::kafka::{Kafka, skip, tools_missing};
use files::Files;
use player::Player;
use sides::{End, Side, Sides};
use std::env;
use tempfile::TempDir;

/// How a turn of each side ends, by round: all four pairs come by.
const ENDS: [(End, End); 4] = [
    (End::InOrder, End::Killed),
    (End::Killed, End::InOrder),
    (End::InOrder, End::InOrder),
    (End::Killed, End::Killed),
];

fn rounds() -> usize {
    env::var("DURAMEN_HANDOVER_ROUNDS").map_or(1, |text| text.parse().expect("DURAMEN_HANDOVER_ROUNDS is a number"))
}

#[test]
fn kafka_and_this_broker_take_turns_on_one_directory() {
    if tools_missing(&["go"]).is_some() {
        return skip("go is not installed");
    }
    let kafka = match Kafka::get() {
        Ok(kafka) => kafka,
        Err(why) => return skip(&why),
    };
    let home = TempDir::new().unwrap();
    let mut sides = Sides::new(&kafka, home.path());
    let mut player = Player::start(home.path(), sides.address());
    sides.start(Side::Kafka);
    let _ = player.tell("prepare");
    for round in 0..rounds() {
        let (first, second) = ENDS[round % ENDS.len()];
        for (side, end, next) in [(Side::Kafka, first, Side::Reference), (Side::Reference, second, Side::Kafka)] {
            println!("round {round}: {side:?}, {end:?}: {}", player.tell("turn"));
            let seen = player.tell("digest");
            files::wait_for_checkpoint(&sides.logs(), "trimmed", &seen["Partitions"]["trimmed-0"]["Start"]);
            sides.end(end);
            if (side, end) == (Side::Reference, End::Killed) {
                // Its commit journal holds what no segment has yet; Kafka does not start beside one.
                sides.start(side);
                let what = format!("round {round}, {side:?} after it was killed");
                difference::assert_none(&seen, &player.tell("digest"), &what);
                sides.end(End::InOrder);
            }
            let left = Files::of(&sides.logs());
            sides.start(next);
            let what = format!("round {round}, {next:?} after {side:?}, {end:?}");
            difference::assert_none(&seen, &player.tell("digest"), &what);
            left.assert_kept(&sides.logs(), &what);
        }
    }
    println!("at the end: {}", player.tell("drain"));
    sides.end(End::InOrder);
    let dump = kafka.dump(&files::segments_and_indexes(&sides.logs()), &["--deep-iteration"]);
    assert_eq!(Kafka::findings(&dump), Vec::<&str>::new());
}
