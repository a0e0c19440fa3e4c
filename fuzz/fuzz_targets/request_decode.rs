//! See `duramen_broker::fuzz`.
#![no_main]

use duramen_broker::fuzz;
use duramen_tests::fuzz::{Counting, most_allocated};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let ((), used) = most_allocated(|| fuzz::request_decode(data));
    assert!(used <= fuzz::allocated_at_most(data.len()), "{} bytes have {used} allocated", data.len());
});
