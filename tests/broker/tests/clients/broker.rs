//! The broker under test: the reference broker, or real Kafka where `DURAMEN_BROKER_UNDER_TEST` says so.
//!
//! One broker serves all tests of a run. Nothing in this process ends it, for nothing runs when a test process ends: a shell
//! beside it waits for the end of a pipe that this process holds, and then stops the broker and removes its directory.

use duramen_tests::kafka::{Kafka, free_port, skip};
use std::{
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How the broker differs from Kafka's defaults: the partitions that the notes' programs want, and no long waits.
const SETTINGS: [(&str, &str); 9] = [
    ("num.partitions", "4"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("log.cleaner.backoff.ms", "200"),
    ("log.initial.task.delay.ms", "500"),
    ("log.retention.check.interval.ms", "1000"),
    ("log.cleaner.dedupe.buffer.size", "16000000"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
];

/// What the shell does that looks after the broker: "$1" is its directory, the rest its command. For each line that it reads it
/// kills the broker and starts it again; where there is no more to read, it stops the broker in order.
const KEEPER: &str = r#"
home=$1; shift
start() { (sh -c 'echo $$ > "$0"; exec "$@"' "$home/pid" "$@" < /dev/null; echo "the broker has ended: $?") & }
start "$@"
while read -r _; do
  kill -9 "$(cat "$home/pid")"
  wait
  start "$@"
done
kill "$(cat "$home/pid")"
wait
rm -rf "$home"
"#;

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    address: String,
    log: PathBuf,
    keeper: Child,
    starts: usize,
}

impl Broker {
    /// The broker that the tests share; `None`, and it was said why, where there can be none.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref().inspect_err(|why| skip(why)).ok()
    }

    /// Whether the broker under test is Kafka itself.
    pub(crate) fn is_kafka() -> bool {
        env::var("DURAMEN_BROKER_UNDER_TEST").as_deref() == Ok("kafka")
    }

    /// Starts another one, with these settings too, which ends when it is dropped.
    ///
    /// # Errors
    /// Why Kafka is not to be had here.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Result<Self, String> {
        let home = TempDir::new().unwrap().keep();
        let settings = [&SETTINGS, settings].concat();
        let (command, address) =
            if Self::is_kafka() { Self::kafka(&home, &settings)? } else { Self::reference(&home, &settings) };
        let log = home.join("broker.log");
        let out = File::create(&log).unwrap();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&home)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let broker = Self { address, log, keeper, starts: 1 };
        broker.wait_until_started();
        Ok(broker)
    }

    /// Waits until the broker has said that it answers, as often as it was started.
    fn wait_until_started(&self) {
        let begun = Instant::now();
        loop {
            let said = fs::read_to_string(&self.log).unwrap();
            let started = said.matches("listening on").count() + said.matches("Kafka Server started").count();
            if started >= self.starts {
                return;
            }
            assert!(said.matches("the broker has ended").count() < self.starts, "the broker died: {said}");
            assert!(begun.elapsed() < Duration::from_secs(90), "the broker does not answer: {said}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it with SIGKILL, and starts it again.
    pub(crate) fn kill_and_start(&mut self) {
        writeln!(self.keeper.stdin.as_ref().unwrap()).unwrap();
        self.starts += 1;
        self.wait_until_started();
    }

    fn kafka(home: &Path, settings: &[(&str, &str)]) -> Result<(Command, String), String> {
        let kafka = Kafka::get()?;
        let node = kafka.node_with(home, settings);
        Ok((node.command(), node.address().to_owned()))
    }

    fn reference(home: &Path, settings: &[(&str, &str)]) -> (Command, String) {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_duramen-broker"));
        command.arg("--dir").arg(home.join("logs")).args(["--listen", &address, "--node-id", "1"]);
        command.args(settings.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]));
        // What an acknowledgement means, where it is not to be the broker's default.
        if let Ok(ack) = env::var("DURAMEN_BROKER_ACK") {
            command.args(["--ack", &ack]);
        }
        (command, address)
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait(); // it is only waited for, so that a test ends with its broker
    }
}
