//! See `duramen_tests::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duramen_tests::fuzz::run("backend_diff", data));
