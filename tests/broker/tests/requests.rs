//! Every request of the fuzz target's corpus, whole, cut and damaged, on stable: nothing panics, and nothing allocates more than
//! its bound. `DURAMEN_SEED` and `DURAMEN_INPUTS` choose other damages, and how many there are of each request.
#![allow(clippy::unwrap_used)]

use duramen_broker::fuzz;
use duramen_tests::{
    fuzz::{Counting, most_allocated},
    random::Random,
    sources::root,
};
use std::{env, fs, panic::catch_unwind};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are a count of their own, or part of one that is too large.
const TELLING: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// One input; how many bytes it has allocated for each of its own.
fn run(data: &[u8], what: &str) {
    let (result, used) = most_allocated(|| catch_unwind(|| fuzz::request_decode(data)));
    assert!(result.is_ok(), "{what}: {data:02x?}");
    assert!(
        used <= fuzz::allocated_at_most(data.len()),
        "{what}: {} bytes have {used} allocated: {data:02x?}",
        data.len()
    );
}

/// The request with some of its bytes replaced, some left out, and some repeated.
fn damaged(request: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = request.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(data.len());
        match random.below(4) {
            0 => data[at] = random.next().to_be_bytes()[0],
            1 => data[at] = TELLING[random.below(TELLING.len())],
            2 => data.truncate(1 + at),
            _ => data.extend_from_within(at..),
        }
    }
    data
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn no_request_panics_or_allocates_beyond_its_bound() {
    let seed = setting("DURAMEN_SEED", 17);
    println!("DURAMEN_SEED={seed}");
    let mut random = Random::new(seed);
    let mut paths: Vec<_> =
        fs::read_dir(root().join("fuzz/corpus/request_decode")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 200, "only {} requests", paths.len());
    for path in paths {
        let request = fs::read(&path).unwrap();
        let what = path.file_name().unwrap().to_string_lossy().into_owned();
        for len in 0..=request.len() {
            run(&request[..len], &what);
        }
        for _ in 0..setting("DURAMEN_INPUTS", 500) {
            run(&damaged(&request, &mut random), &what);
        }
    }
}
