//! The soak of `cargo run --release -p duramen-tests --bin soak`, for a few seconds.
#![allow(clippy::unwrap_used)]

use duramen_tests::soak::Heap;
use std::time::Duration;

#[global_allocator]
static HEAP: Heap = Heap;

#[test]
fn soak_of_a_few_generations_breaks_no_promise_and_leaks_nothing() {
    let home = tempfile::tempdir().unwrap();
    duramen_tests::soak::run(home.path(), Duration::from_secs(4), Duration::from_millis(700), 1).unwrap();
}
