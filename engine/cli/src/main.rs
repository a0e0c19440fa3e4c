//! The `duramen` command: looks into Kafka log directories, checks, repairs, compacts and fills them, without a JVM.
//!
//! `dump`, `verify`, `read`, `info` and every `--dry-run` only read, take no lock, and work on directories that a broker
//! has open; `recover`, `append`, `compact` and `retain` open the directory as its owner.

mod append;
mod args;
mod cleaning;
mod compact;
mod dump;
mod facts;
mod files;
mod frozen;
mod info;
mod output;
mod owner;
mod read;
mod recover;
mod retain;
mod target;
mod verify;
mod view;

use args::{Args, Command};
use clap::Parser;
use output::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Dump(args) => dump::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Read(args) => read::run(&args),
        Command::Append(args) => append::run(&args),
        Command::Recover(args) => recover::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::Retain(args) => retain::run(&args),
    };
    match result {
        Ok(code) => code,
        // Whoever reads our output has seen enough.
        Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            eprintln!("duramen: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            eprintln!("duramen: {message}");
            ExitCode::from(1)
        }
    }
}
