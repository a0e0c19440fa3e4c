//! One process of Java that runs many programs: `tests/kafka/Runner.java`.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use tempfile::TempDir;

/// The file of what is logged between the programs: by servers, which Kafka's own start and stop make complain.
const LOG: &str = "log";

/// The running process; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Runner {
    process: Child,
    /// `None` once it is to end.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Where programs print to.
    printed: TempDir,
}

impl Runner {
    /// Starts it with this command, which has no class yet.
    pub(super) fn start(mut java: Command) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/Runner.java");
        let printed = TempDir::new().expect("a folder");
        let log = File::create(printed.path().join(LOG)).expect("a file");
        // More room than a tool or a server alone needs.
        java.arg("-Xmx600m").arg(source).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = java.spawn().expect("java runs");
        let requests = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, requests, answers, printed }
    }

    /// Runs a class; its exit status, and everything that it printed.
    pub(super) fn run(&mut self, class: &str, args: &[&str]) -> (i32, String) {
        let [out, err] = ["out", "err"].map(|name| self.printed.path().join(name).display().to_string());
        let status = self.ask(&[&["run", "/dev/null", &out, &err, class], args].concat());
        (status, self.text("out") + &self.text("err"))
    }

    /// What was printed into a file.
    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.printed.path().join(name)).expect("a file");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Starts a server.
    pub(super) fn start_server(&mut self, properties: &Path) {
        self.ask(&["start", &properties.display().to_string()]);
    }

    /// Stops it in order.
    pub(super) fn stop_server(&mut self, properties: &Path) {
        self.ask(&["stop", &properties.display().to_string()]);
    }

    fn ask(&mut self, words: &[&str]) -> i32 {
        assert!(!words.iter().any(|word| word.contains(['\t', '\n'])), "tabs stand between words: {words:?}");
        let requests = self.requests.as_mut().expect("it is there until the end");
        writeln!(requests, "{}", words.join("\t")).expect("java runs");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("java runs");
        answer.trim().parse().unwrap_or_else(|_| panic!("java has ended on {words:?}: {}", self.text(LOG)))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        drop(self.requests.take());
        // It ends at the end of its input, whatever its status.
        let _ = self.process.wait();
    }
}
