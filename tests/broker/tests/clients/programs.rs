//! Programs as processes: started, watched while they print, told to end, and waited for with a limit of time.

use crate::broker::Broker;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long anything may take that should happen soon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of the clients.
pub(crate) fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Builds the programs in Go, once, and gives the folder that they are in.
pub(crate) fn built_go_programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-clients");
        std::fs::create_dir_all(&into).unwrap();
        let mut go = Command::new("go");
        go.arg("build").arg("-o").arg(&into).arg("./...").env("CGO_ENABLED", "0").current_dir(clients().join("go"));
        let output = go.output().unwrap();
        assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
        into
    })
}

/// What a program has left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
    pub(crate) errors: String,
}

impl Ended {
    /// The last line, which is the program's report.
    pub(crate) fn report(&self) -> serde_json::Value {
        let last = self.lines.last().expect("the program prints a report");
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{last:?}: {error}"))
    }

    /// The same, if the program itself thinks that all went well.
    pub(crate) fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}: {:#?} {}", self.status, self.lines, self.errors);
        self
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Option<(JoinHandle<()>, JoinHandle<String>)>,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = piped.spawn().unwrap_or_else(|error| panic!("{piped:?}: {error}"));
        let (out, mut err) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let read_lines =
            move || BufReader::new(out).lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line));
        let read_errors = move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        };
        Self { process, lines, readers: Some((thread::spawn(read_lines), thread::spawn(read_errors))) }
    }

    /// The lines that it has printed.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, Signal::SIGTERM).expect("it has not been waited for");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(self) -> Ended {
        self.end_within(PATIENCE)
    }

    /// The same of one that has much to do.
    pub(crate) fn end_within(mut self, patience: Duration) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < patience, "it does not end; it has said {:#?}", self.lines());
            thread::sleep(Duration::from_millis(10));
        };
        let (lines, errors) = self.readers.take().unwrap();
        lines.join().unwrap();
        Ended { status, lines: self.lines(), errors: errors.join().unwrap() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A failed test leaves no program behind; one that has ended cannot be killed, and that is right too.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a program to its end.
pub(crate) fn run(command: Command) -> Ended {
    Running::start(command).end()
}

/// Does something for each of these at once: most of it is waiting. With Kafka one after the other: it names the leader of a new
/// partition before that one knows of it, and the longer so the more topics are made.
pub(crate) fn at_once<T: Sync>(each: &[T], act: impl Fn(&T) + Sync) {
    if Broker::is_kafka() {
        return each.iter().for_each(act);
    }
    thread::scope(|scope| {
        for one in each {
            let act = &act;
            scope.spawn(move || act(one));
        }
    });
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "it never came to be so: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
