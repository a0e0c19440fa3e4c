//! Every input of the committed corpora, and a few thousand seeded ones, on stable; with a bound on what each allocates.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use duramen_tests::{
    fuzz::{Counting, TARGETS, most_allocated},
    random::Random,
};
use std::{fs, panic::catch_unwind, path::Path};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that an input may allocate at most: buffers for scanning, a codec's tables, a simulated disk, and the input
/// itself a few times over.
const BOUND: usize = 24 << 20;

fn run(name: &str, target: fn(&[u8]), data: &[u8], what: &str) {
    let (result, used) = most_allocated(|| catch_unwind(|| target(data)));
    assert!(result.is_ok(), "{name} fails on {what}");
    assert!(used <= BOUND + 64 * data.len(), "P8: {name} allocates {used} bytes for {} bytes of {what}", data.len());
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn corpora_and_seeded_inputs_find_no_fault_within_the_bound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("fuzz/corpus");
    let seeds = seeds();
    let mut replayed = 0;
    let only = std::env::var("DURAMEN_TARGET").ok();
    for (name, target) in TARGETS.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        for entry in fs::read_dir(root.join(name)).into_iter().flatten() {
            let path = entry.unwrap().path();
            run(name, target, &fs::read(&path).unwrap(), &path.display().to_string());
            replayed += 1;
        }
        let mut random = Random::new(setting("DURAMEN_SEED", 17));
        // On real disks, where every sync takes its time.
        let inputs = if name == "backend_diff" { 30 } else { 300 };
        for number in 0..setting("DURAMEN_INPUTS", inputs) {
            let mut data = seeds[random.below(seeds.len())].clone();
            for _ in 0..random.below(6) {
                let at = random.below(data.len());
                data[at] = random.next().to_be_bytes()[0];
            }
            data.truncate(1 + random.below(data.len()));
            run(name, target, &data, &format!("seeded input {number}"));
        }
    }
    assert!(only.is_some() || replayed >= TARGETS.len(), "only {replayed} inputs of the corpora were found");
    println!("{replayed} inputs replayed");
}

/// Batches of real clients and arbitrary bytes to begin with.
fn seeds() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("bench/corpus");
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let bytes = fs::read(path).unwrap();
            seeds.push(bytes[..bytes.len().min(2000)].to_vec());
        }
    }
    let mut random = Random::new(5);
    seeds.extend((0..20).map(|_| (0..100).map(|_| random.next().to_be_bytes()[0]).collect::<Vec<u8>>()));
    seeds.sort();
    seeds
}
