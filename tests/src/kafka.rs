//! Real Kafka 4.3.0: its tools, and a broker on directories of ours.

mod runner;

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use runner::Runner;
use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Prints why a test cannot run here; fails it where nothing may be skipped.
///
/// # Panics
/// When `DURAMEN_REQUIRE_ALL` is 1.
pub fn skip(why: &str) {
    println!("SKIPPED: {why}");
    assert_ne!(env::var("DURAMEN_REQUIRE_ALL").as_deref(), Ok("1"), "nothing may be skipped: {why}");
}

/// The first of these programs that is not installed.
#[must_use]
pub fn tools_missing<'a>(tools: &[&'a str]) -> Option<&'a str> {
    let runs = |tool: &&&str| {
        let version = match **tool {
            "python3" => "--version",
            "go" => "version",
            _ => "-version",
        };
        let status = Command::new(tool).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    tools.iter().find(|tool| !runs(tool)).copied()
}

/// A port that nothing listens on now. It is below those that the system gives to outgoing connections, one of which could
/// take it before a broker does; no two answers of a process are the same.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no port is free");
        let port = FIRST + std::process::id().wrapping_mul(97).wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("it is below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Kafka's jars.
#[derive(Debug)]
pub struct Kafka {
    libs: PathBuf,
    /// What runs the tools, from the first one on.
    runner: Mutex<Option<Runner>>,
}

impl Kafka {
    /// Gets Kafka, or says why it is not to be had here.
    ///
    /// # Errors
    /// The reason.
    pub fn get() -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/get");
        if let Some(tool) = tools_missing(&["java", "mvn"]) {
            return Err(format!("{tool} is not installed"));
        }
        let output = Command::new(script).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("Kafka was not got: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Self { libs: PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()), runner: Mutex::default() })
    }

    /// The folder of the jars.
    #[must_use]
    pub fn libs(&self) -> &Path {
        &self.libs
    }

    fn java(&self, level: &str) -> Command {
        let log4j = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/log4j2.yaml");
        let mut java = Command::new("java");
        java.args(["-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlevel={level}"))
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg("-cp")
            .arg(format!("{}/*", self.libs.display()))
            .stdin(Stdio::null());
        java
    }

    /// Runs one of Kafka's tools; everything that it printed.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn tool(&self, class: &str, args: &[&str]) -> String {
        let (status, text) = self.with_runner(|runner| runner.run(class, args));
        assert_eq!(status, 0, "{class} {args:?}: {text}");
        text
    }

    fn with_runner<T>(&self, with: impl FnOnce(&mut Runner) -> T) -> T {
        let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
        with(runner.get_or_insert_with(|| Runner::start(self.java("error"))))
    }

    /// Kafka's own dump of files; with its findings, if it has any, which do not change its exit status.
    #[must_use]
    pub fn dump(&self, files: &[PathBuf], flags: &[&str]) -> String {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let mut args = vec!["--files".to_owned(), names.join(",")];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.tool("org.apache.kafka.tools.DumpLogSegments", &args)
    }

    /// What a dump says is wrong. The tool exits 0 also then, and names every kind of finding in a line of its own.
    #[must_use]
    pub fn findings(dump: &str) -> Vec<&str> {
        let marks = [
            "Mismatches in :",
            "Found timestamp mismatch in :",
            "Found out of order timestamp in :",
            "The following indexed offsets are not found in",
            "invalid bytes at the end of",
            "isvalid: false",
            "isValid: false",
        ];
        // The tool counts from -1 in every file, so the first offset of one that begins elsewhere is no gap.
        let gap = |line: &str| line.contains(" is followed by ") && !line.trim_start().starts_with("-1 ");
        dump.lines().filter(|line| gap(line) || marks.iter().any(|mark| line.contains(mark))).collect()
    }

    /// A new node whose log directory is `home/logs`.
    #[must_use]
    pub fn node(&self, home: &Path) -> Node<'_> {
        self.node_with(home, &[])
    }

    /// The same with more settings; one that is there already has the value given here.
    #[must_use]
    pub fn node_with(&self, home: &Path, settings: &[(&str, &str)]) -> Node<'_> {
        let (broker, controller) = (free_port(), free_port());
        let properties = home.join("server.properties");
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            home.join("logs").display()
        );
        // Of a name that comes twice, a properties file holds the last.
        text.extend(settings.iter().map(|(name, value)| format!("{name}={value}\n")));
        fs::write(&properties, text).expect("a file");
        let config = properties.display().to_string();
        let _ = self.tool("kafka.tools.StorageTool", &["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", &config]);
        Node { kafka: self, properties, address: format!("127.0.0.1:{broker}"), process: None, is_beside_tools: false }
    }
}

/// One broker.
#[derive(Debug)]
pub struct Node<'a> {
    kafka: &'a Kafka,
    properties: PathBuf,
    address: String,
    process: Option<Child>,
    is_beside_tools: bool,
}

impl Node<'_> {
    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What starts it, for those who look after the process themselves; "Kafka Server started" is printed when it answers.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut java = self.kafka.java("info");
        java.arg("kafka.Kafka").arg(&self.properties);
        java
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&mut self) {
        let log = self.properties.with_extension("log");
        let out = File::create(&log).expect("a file");
        let mut java = self.command();
        java.stdout(out.try_clone().expect("a file")).stderr(out);
        self.process = Some(java.spawn().expect("java runs"));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(90) {
            let lines = BufReader::new(File::open(&log).expect("a file")).lines();
            if lines.map_while(Result::ok).any(|line| line.contains("Kafka Server started")) {
                return;
            }
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(ended.is_none(), "the broker died: {}", fs::read_to_string(&log).unwrap_or_default());
            thread::sleep(Duration::from_millis(100));
        }
        panic!("the broker does not answer: {}", fs::read_to_string(&log).unwrap_or_default());
    }

    /// Starts it in the process that runs the tools, and waits until it answers. What a process of its own needs seven seconds
    /// for takes one there from the second time on; it cannot be killed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_beside_tools(&mut self) {
        self.kafka.with_runner(|runner| runner.start_server(&self.properties));
        self.is_beside_tools = true;
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        if std::mem::take(&mut self.is_beside_tools) {
            self.kafka.with_runner(|runner| runner.stop_server(&self.properties));
        }
        self.signal(Signal::SIGTERM);
    }

    /// Ends it with SIGKILL; not one beside the tools.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
            signal::kill(pid, signal).expect("the broker runs");
            process.wait().expect("the broker ends");
        }
    }

    /// Runs a tool against it.
    #[must_use]
    pub fn tool(&self, class: &str, args: &[&str]) -> String {
        let mut all = vec!["--bootstrap-server", self.address.as_str()];
        all.extend(args);
        self.kafka.tool(&format!("org.apache.kafka.tools.{class}"), &all)
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A failed test leaves no broker behind.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
