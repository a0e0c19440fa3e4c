//! The same operations on plain system calls, on io_uring and on the simulated disk: the same answers and the same bytes.
//!
//! What is proved on the simulated disk is worth as much as it is like the others. Operations of one call never depend on
//! each other here, since they end in any order; and what a backend is free to choose is not compared.

mod calls;
mod managed;

use crate::{
    disk::SimDisk,
    history::{self, History},
};
use duramen::{
    Background,
    storage::{DEFAULT_RING_ENTRIES, EntryKind, Posix, Storage, Uring, read_file},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// More than any file here has.
const FILE_BYTES: u64 = 8 << 20;
/// Bytes of an input that are looked at: a real disk is slow, and what an operation does shows in a few.
const INPUT_BYTES: usize = 200;

/// Files and directories of a disk by path.
type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// An input taken byte by byte; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number from 0 to `end`, exclusive.
    fn below(&mut self, end: u8) -> usize {
        usize::from(self.byte() % end)
    }
}

/// A disk by the name of its backend, and where its files are unless they are simulated.
struct Subject {
    name: &'static str,
    storage: Arc<dyn Storage>,
    _home: Option<TempDir>,
}

impl Subject {
    fn simulated() -> Self {
        let disk = SimDisk::new(1);
        disk.set_clock_ms(history::NOW_MS);
        Self { name: "the simulated disk", storage: Arc::new(disk), _home: None }
    }

    fn posix() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { name: "posix", storage: Arc::new(Posix::open(home.path()).unwrap()), _home: Some(home) }
    }

    /// `None` where the kernel refuses io_uring.
    fn uring() -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let storage = Uring::open(home.path(), DEFAULT_RING_ENTRIES).ok()?;
        Some(Self { name: "io_uring", storage: Arc::new(storage), _home: Some(home) })
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        let mut next = vec![PathBuf::new()];
        while let Some(dir) = next.pop() {
            for entry in self.storage.list(&dir).unwrap() {
                let path = dir.join(&entry.name);
                if entry.kind == EntryKind::Directory {
                    next.push(path.clone());
                    files.insert(path, None);
                } else {
                    let bytes = read_file(&*self.storage, &path, FILE_BYTES).unwrap();
                    files.insert(path, bytes);
                }
            }
        }
        files
    }
}

/// What a run answered, and the files that it left.
struct Outcome {
    answers: Vec<String>,
    files: Files,
}

impl Outcome {
    fn of(subject: &Subject, run: impl Fn(&Arc<dyn Storage>) -> Vec<String>) -> Self {
        Self { answers: run(&subject.storage), files: subject.files() }
    }

    fn check(&self, name: &str, expected: &Self) {
        for (number, (found, expected)) in self.answers.iter().zip(&expected.answers).enumerate() {
            assert!(found == expected, "answer {number}\n{name}: {found:?}\nthe simulated disk: {expected:?}");
        }
        assert_eq!(self.answers.len(), expected.answers.len(), "answers of {name}");
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&self.files), names(&expected.files), "names on {name} and on the simulated disk");
        for (path, bytes) in &self.files {
            let expected = expected.files.get(path);
            assert!(Some(bytes) == expected, "{}: bytes on {name} and on the simulated disk", path.display());
        }
    }
}

/// Does one thing to every backend and compares.
fn compare(run: impl Fn(&Arc<dyn Storage>) -> Vec<String>) {
    let expected = Outcome::of(&Subject::simulated(), &run);
    for subject in [Some(Subject::posix()), Subject::uring()].into_iter().flatten() {
        Outcome::of(&subject, &run).check(subject.name, &expected);
    }
}

/// A log manager that the host polls, on every backend, beside one on the simulated disk that has its own threads.
fn compare_polled(data: &[u8]) {
    let expected = Outcome::of(&Subject::simulated(), |storage| managed::run(storage, Background::Threads, data));
    for subject in [Some(Subject::simulated()), Some(Subject::posix()), Subject::uring()].into_iter().flatten() {
        let polled = Outcome::of(&subject, |storage| managed::run(storage, Background::Host, data));
        polled.check(&format!("{}, polled", subject.name), &expected);
    }
}

/// A third of the inputs are calls of a storage, a third steps of one log, a third appends to a log manager, which has its
/// own threads or is polled.
pub(super) fn backend_diff(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let rest = &rest[..rest.len().min(INPUT_BYTES)];
    match first % 3 {
        0 => compare(|storage| calls::run(storage, rest)),
        1 => compare(|storage| log(storage, rest, first & 4 != 0)),
        _ if first / 3 % 2 == 0 => compare(|storage| managed::run(storage, Background::Threads, rest)),
        _ => compare_polled(rest),
    }
}

/// The steps of a history, all of which succeed; then what the log says.
fn log(storage: &Arc<dyn Storage>, steps: &[u8], is_compacted: bool) -> Vec<String> {
    let steps: Vec<_> = steps.iter().take(24).map(|byte| super::step_of(*byte, is_compacted)).collect();
    let mut history = if is_compacted { History::compacted() } else { History::default() };
    history.run(storage, &steps).unwrap();
    let mut directory = history::open_log(storage).unwrap();
    let log = directory.get_or_create(&history::partition(), &history::config()).unwrap();
    let content = crc32c::crc32c(&history::read_all(log));
    let (offsets, epochs) = (log.offsets(), log.reader().leader_epochs());
    vec![format!("{offsets:?}"), format!("{epochs:?}"), format!("{:?}", log.active_producers()), content.to_string()]
}

fn path(name: &str) -> &Path {
    Path::new(name)
}
