//! The program `clients/go/handover`: it is told what to do, a line each, and answers with a line of JSON.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The program, as long as it runs. Its errors go where the test's go.
#[derive(Debug)]
pub(crate) struct Player {
    process: Child,
    tells: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Player {
    /// Builds it into a folder and starts it, for a broker that need not be there yet.
    pub(crate) fn start(into: &Path, address: &str) -> Self {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
        let program = into.join("handover");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&program).arg("./handover").env("CGO_ENABLED", "0").current_dir(clients);
        let built = go.output().unwrap();
        assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
        let mut command = Command::new(program);
        command.args(["-brokers", address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (tells, says) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, tells, says }
    }

    /// Has it do something, which it gives up by itself if that takes too long.
    pub(crate) fn tell(&mut self, command: &str) -> Value {
        writeln!(self.tells, "{command}").unwrap();
        let mut answer = String::new();
        self.says.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{command} failed; see what the program said"))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Whether it has ended by itself or not: nothing of it is needed any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
