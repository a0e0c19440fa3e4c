//! `soak --minutes 20 [--seed n]`: see `duramen_tests::soak`. Works in the temporary directory and cleans up.

use duramen_tests::soak::Heap;
use std::{process::ExitCode, time::Duration};

#[global_allocator]
static HEAP: Heap = Heap;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn main() -> std::io::Result<ExitCode> {
    let home = tempfile::tempdir()?;
    let time = Duration::from_secs(60 * argument("--minutes", 20));
    match duramen_tests::soak::run(home.path(), time, Duration::from_secs(10), argument("--seed", 1)) {
        Ok(()) => {
            println!("no promise was broken");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            println!("VIOLATION: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}
