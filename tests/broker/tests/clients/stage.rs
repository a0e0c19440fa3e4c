//! What a test stands on: the shared broker, the programs in Go, and a folder and a topic of its own.

use crate::{
    broker::Broker,
    programs::{Ended, built_go_programs, run},
};
use duramen_tests::kafka::{skip, tools_missing};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The surroundings of one test.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) broker: &'static Broker,
    topic: String,
    programs: &'static Path,
    home: TempDir,
}

impl Stage {
    /// A stage whose topic has this name; `None`, and it was said why, where the programs cannot run.
    pub(crate) fn new(topic: &str) -> Option<Self> {
        if tools_missing(&["go"]).is_some() {
            skip("go is not installed");
            return None;
        }
        let programs = built_go_programs();
        let broker = Broker::shared()?;
        Some(Self { broker, topic: topic.to_owned(), programs, home: TempDir::new().unwrap() })
    }

    /// A program with these flags, which have spaces between them, and no broker.
    pub(crate) fn bare(&self, program: &str, flags: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(flags.split_whitespace());
        command
    }

    /// One of the programs on sarama, with the broker and the topic, and these flags.
    pub(crate) fn program(&self, program: &str, flags: &str) -> Command {
        self.bare(program, &format!("-brokers {} -topic {} {flags}", self.broker.address(), self.topic))
    }

    /// A file for a ledger; where two of a test would have the same name, it is the same.
    pub(crate) fn ledger(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs the async producer with a ledger. Everything handed over is acknowledged, or the test fails.
    pub(crate) fn produce(&self, limit: usize, flags: &str) -> Ended {
        let ledger = self.ledger("produced");
        let flags = format!("-limit {limit} -hand-over 60s -ledger {} {flags}", ledger.display());
        let ended = run(self.program("async-producer", &flags)).succeeded();
        let report = ended.report();
        assert_eq!((&report["successes"], &report["errors"]), (&limit.into(), &0.into()), "{report} {}", ended.errors);
        ended
    }

    /// Reads the topic back and compares it with the ledger of [`Self::produce`]; how many messages are in each partition.
    pub(crate) fn check(&self, flags: &str) -> Vec<u64> {
        let ended = run(self.program("check", &format!("-ledgers {} {flags}", self.ledger("produced").display())));
        let report = ended.succeeded().report();
        report["partitions"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
    }
}
