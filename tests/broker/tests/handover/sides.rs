//! The two brokers, one of which has the directory, at one address.

use duramen_tests::kafka::{Kafka, Node};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// What both are told: small internal topics, and no waiting for the cleaner and for checkpoints.
const SETTINGS: [(&str, &str); 10] = [
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.num.partitions", "2"),
    ("transaction.state.log.num.partitions", "2"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("log.cleaner.backoff.ms", "200"),
    ("log.flush.offset.checkpoint.interval.ms", "300"),
    ("log.flush.start.offset.checkpoint.interval.ms", "300"),
    ("log.initial.task.delay.ms", "500"),
    ("log.cleaner.dedupe.buffer.size", "16000000"),
    ("log.segment.delete.delay.ms", "1000"),
];

/// Who has the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Kafka,
    Reference,
}

/// How a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    Killed,
}

/// Both, at most one of which runs.
#[derive(Debug)]
pub(crate) struct Sides<'a> {
    home: PathBuf,
    kafka: Node<'a>,
    reference: Option<Child>,
    /// Names the files that its log lines go to.
    starts: usize,
}

impl<'a> Sides<'a> {
    /// On a directory that Kafka has formatted.
    pub(crate) fn new(kafka: &'a Kafka, home: &Path) -> Self {
        Self { home: home.to_owned(), kafka: kafka.node_with(home, &SETTINGS), reference: None, starts: 0 }
    }

    pub(crate) fn address(&self) -> &str {
        self.kafka.address()
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// Starts one, when the other has ended, and waits until it answers.
    pub(crate) fn start(&mut self, side: Side) {
        match side {
            Side::Kafka => self.kafka.start(),
            Side::Reference => self.start_reference(),
        }
    }

    fn start_reference(&mut self) {
        self.starts += 1;
        let log = self.home.join(format!("broker-{}.log", self.starts));
        let out = File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_duramen-broker"));
        command.arg("--dir").arg(self.logs()).args(["--listen", self.address(), "--node-id", "1"]);
        command.args(SETTINGS.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]));
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let process = self.reference.insert(command.spawn().unwrap());
        let begun = Instant::now();
        loop {
            let said = fs::read_to_string(&log).unwrap();
            if said.contains("listening on") {
                return;
            }
            assert_eq!(process.try_wait().unwrap(), None, "the broker died: {said}");
            assert!(begun.elapsed() < Duration::from_secs(60), "the broker does not answer: {said}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the one that runs.
    pub(crate) fn end(&mut self, how: End) {
        let Some(mut process) = self.reference.take() else {
            return match how {
                End::InOrder => self.kafka.stop(),
                End::Killed => self.kafka.kill(),
            };
        };
        let signal = match how {
            End::InOrder => Signal::SIGTERM,
            End::Killed => Signal::SIGKILL,
        };
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        let status = process.wait().unwrap();
        assert_eq!(status.success(), how == End::InOrder, "{status}");
    }
}

impl Drop for Sides<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.reference.take() {
            // A failed test leaves no broker behind.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
