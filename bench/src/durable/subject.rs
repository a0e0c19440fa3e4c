//! Who is measured: anything that takes an append and says when it survives power loss.

use super::{case::Case, drive::Window, engine, upkeep};
#[cfg(feature = "peers")]
use crate::peers;
use crate::{
    Failure,
    floors::{group_commit, model, raw_journal},
};
use hdrhistogram::Histogram;
use std::path::Path;

/// Where a subject works, and on what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// Empty, and deleted after the run.
    pub(crate) dir: &'a Path,
    /// Kept for the whole session: files that must have been written before.
    pub(crate) kept: &'a Path,
    pub(crate) case: Case,
    /// Threads that serve the tail consumers of those who have any.
    pub(crate) consumer_threads: usize,
    /// Bytes of segments of which few may stay, where otherwise the disk would be full.
    pub(crate) segment_bytes: Option<u32>,
}

/// What consumers read.
#[derive(Debug, Clone)]
pub(crate) struct Consumed {
    pub(crate) bytes: u64,
    /// From before the append to when it was read, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// What went on beside the appends, if anything did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    pub(crate) consumed: Option<Consumed>,
    pub(crate) upkeep: Option<upkeep::Done>,
}

/// A log that is appended to by threads, each of which waits. Dropping it closes it.
pub(crate) trait DurableLog: Send + Sync {
    /// Returns when the batch, a Kafka record batch with base offset 0, survives power loss.
    fn append_and_wait(&self, partition: usize, batch: &[u8]) -> Result<(), Failure>;
    /// Tells what goes on beside the appends when it counts.
    fn count_in(&self, _: Window) {}
    /// After the last append: ends what goes on beside them, and tells what it did.
    fn end(&mut self) -> Result<Beside, Failure> {
        Ok(Beside::default())
    }
}

/// A log of which one thread has many appends in flight. Dropping it waits for them and closes it.
pub(crate) trait InFlightLog {
    /// Begins an append; may block where memory would run out.
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure>;
    /// Adds the tags of appends that now survive power loss, each once. With `wait` it may block until there is one,
    /// without it never; either way it is called again soon. Appends need not be under way before this is called.
    fn drain(&mut self, acked: &mut Vec<u32>, wait: bool) -> Result<(), Failure>;
    /// As [`DurableLog::count_in`].
    fn count_in(&self, _: Window) {}
    /// As [`DurableLog::end`].
    fn end(&mut self) -> Result<Beside, Failure> {
        Ok(Beside::default())
    }
}

/// A log of which each of several threads has many appends in flight. Dropping it closes it.
pub(crate) trait SharedLog: Send + Sync {
    /// What one thread appends by.
    fn handle(&self) -> Result<Box<dyn InFlightLog + '_>, Failure>;
    /// As [`DurableLog::count_in`].
    fn count_in(&self, _: Window) {}
    /// As [`DurableLog::end`].
    fn end(&mut self) -> Result<Beside, Failure> {
        Ok(Beside::default())
    }
}

/// How to open a subject.
#[derive(Clone, Copy)]
pub(crate) enum Open {
    /// For waiting threads.
    Threads(fn(&Setup<'_>) -> Result<Box<dyn DurableLog>, Failure>),
    /// For appends in flight.
    InFlight(fn(&Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure>),
    /// For appends in flight from so many threads.
    Shared(usize, fn(&Setup<'_>) -> Result<Box<dyn SharedLog>, Failure>),
}

/// What a subject is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The least that an acknowledgement costs.
    RawJournal,
    /// The least that everything costs; the best of these is the bar.
    Model,
    /// The engine.
    Engine,
    /// The peer that others are compared with.
    #[cfg_attr(not(feature = "peers"), allow(dead_code))]
    RaftEngine,
    /// For comparison.
    Other,
}

/// One way to do the work.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) open: Open,
    /// What a reader of the table has to know.
    pub(crate) note: &'static str,
}

impl Subject {
    pub(crate) const fn in_flight(
        name: &'static str,
        role: Role,
        open: fn(&Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure>,
    ) -> Self {
        Self { name, role, open: Open::InFlight(open), note: "" }
    }

    #[cfg_attr(not(feature = "peers"), allow(dead_code))]
    pub(crate) const fn threads(
        name: &'static str,
        role: Role,
        open: fn(&Setup<'_>) -> Result<Box<dyn DurableLog>, Failure>,
        note: &'static str,
    ) -> Self {
        Self { name, role, open: Open::Threads(open), note }
    }
}

/// Everybody, in the order of a round. The engine belongs before the floors; with consumers, with upkeep and up to the
/// journal alone it is measured once more each.
pub(crate) fn all(with_consumers: bool, with_upkeep: bool, with_journal: bool) -> Vec<Subject> {
    let chosen = |is_chosen: bool, subjects: &'static [Subject]| if is_chosen { subjects } else { &[] };
    let more = [chosen(with_consumers, &READ), chosen(with_upkeep, &KEPT_UP), chosen(with_journal, &JOURNAL)].concat();
    let subjects = [ENGINE.as_slice(), &more, FLOORS.as_slice()].concat();
    #[cfg(feature = "peers")]
    let subjects = [subjects, peers::all()].concat();
    subjects
}

const ENGINE: [Subject; 3] = [
    Subject::in_flight("duramen", Role::Engine, engine::open_in_flight),
    Subject {
        name: "duramen by 2",
        role: Role::Engine,
        open: Open::Shared(2, engine::open_shared),
        note: "two threads share what is in flight",
    },
    Subject::threads("duramen threads", Role::Engine, engine::open_threads, "each thread waits for its append"),
];

const READ: [Subject; 2] = [
    Subject::in_flight("duramen, read", Role::Engine, engine::open_in_flight_read),
    Subject::threads("duramen threads, read", Role::Engine, engine::open_threads_read, "a tail consumer a partition"),
];

const KEPT_UP: [Subject; 2] = [
    Subject::in_flight("duramen, upkeep", Role::Engine, engine::open_in_flight_kept_up),
    Subject::threads("duramen threads, upkeep", Role::Engine, engine::open_threads_kept_up, "retention and compaction"),
];

const JOURNAL: [Subject; 1] = [Subject {
    note: "nothing goes to the segments: up to the acknowledgement alone",
    ..Subject::in_flight("duramen, journal", Role::Engine, engine::open_in_flight_journal)
}];

const FLOORS: [Subject; 8] = [
    Subject::in_flight("raw journal", Role::RawJournal, raw_journal::open),
    Subject::in_flight("model 64k", Role::Model, model::open::<64, true>),
    Subject::in_flight("model 128k", Role::Model, model::open::<128, true>),
    Subject::in_flight("model 256k", Role::Model, model::open::<256, true>),
    Subject::in_flight("model 64k fresh", Role::Model, model::open::<64, false>),
    Subject::in_flight("model 128k fresh", Role::Model, model::open::<128, false>),
    Subject::in_flight("model 256k fresh", Role::Model, model::open::<256, false>),
    Subject::in_flight("write all, fdatasync all", Role::Other, group_commit::open),
];
