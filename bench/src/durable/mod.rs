//! Durable appends: the engine, the floors below it and what a user would link otherwise, in turns, in one run.

pub(crate) mod case;
mod drive;
mod engine;
mod kafka;
mod kernel;
mod plots;
mod space;
pub(crate) mod subject;
mod summary;
mod table;
mod tail;
mod upkeep;

use crate::{
    Failure,
    kafka::Kafka,
    machine,
    place::{Place, PlaceArgs},
    workloads::shapes,
};
use case::{Axes, Case, Load};
use drive::{Sample, Work};
use indicatif::{ProgressBar, ProgressStyle};
use kernel::Disk;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    collections::HashMap,
    fs::{self, File},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use subject::{Open, Setup, Subject};
use summary::Run;

/// Share of a run that only warms up, and the longest.
const WARM_UP_SHARE: f64 = 0.25;
const MAX_WARM_UP_S: f64 = 2.0;

/// Measure durable appends beside floors and peers (built with `--features peers`)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Seconds that each subject is measured on each case in each round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds, in which everybody takes turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of a batch
    #[arg(long, value_delimiter = ',', default_value = "1024,16384")]
    batch_bytes: Vec<usize>,
    /// Partitions, of which each append takes one at random
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,1000")]
    partitions: Vec<usize>,
    /// Threads that wait for each append, for those who are made for threads
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128")]
    threads: Vec<usize>,
    /// Appends in flight from one thread, for those who are made for that
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128,1024")]
    in_flight: Vec<usize>,
    /// Every combination, not only one axis at a time
    #[arg(long)]
    all: bool,
    /// Measure the engine with a tail consumer a partition, too, which so many threads serve: they read everything by fetch
    #[arg(long, value_name = "THREADS")]
    consumers: Option<NonZeroUsize>,
    /// Measure the engine with small segments, retention and compaction in the background, too
    #[arg(long)]
    maintenance: bool,
    /// Measure the engine up to the acknowledgement alone, too, with 4 GiB of memory and a journal of 4 GiB, so that for some
    /// seconds nothing goes to the segments
    #[arg(long)]
    journal_alone: bool,
    /// Only subjects whose names contain one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Whether these are whole names.
    #[arg(skip)]
    only_whole: bool,
    /// Measure Kafka's own log too: needs Java and `tests/oracle/build`
    #[arg(long)]
    kafka: bool,
    /// Write one object per row to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the report with plots to this file
    #[arg(long, default_value = "target/duramen-durable.html")]
    report: PathBuf,
}

/// Of the short run: seconds, rounds and what is measured.
const SHORT_SECONDS: f64 = 1.0;
const SHORT_ROUNDS: usize = 1;
const SHORT_PARTITIONS: [usize; 3] = [1, 64, 1000];
const SHORT_SUBJECTS: [&str; 5] =
    ["duramen", "duramen threads", "raw journal", "model 128k", "write all, fdatasync all"];

impl Args {
    /// A short run, for a first impression: the engine, and floors whose files are quickly made.
    pub(crate) fn short(place: PlaceArgs, report: PathBuf) -> Self {
        Self {
            place,
            seconds: SHORT_SECONDS,
            rounds: SHORT_ROUNDS,
            batch_bytes: vec![1024],
            partitions: SHORT_PARTITIONS.to_vec(),
            threads: vec![128],
            in_flight: vec![1024],
            all: false,
            consumers: None,
            maintenance: false,
            journal_alone: false,
            only: SHORT_SUBJECTS.map(str::to_owned).to_vec(),
            only_whole: true,
            kafka: false,
            json: None,
            report,
        }
    }

    fn cases(&self) -> Result<Vec<Case>, Failure> {
        let axis = |name: &str, values: &[usize]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values.dedup();
            if values.contains(&0) { Err(format!("--{name} may not be 0")) } else { Ok(values) }
        };
        let axes = Axes {
            batch_bytes: axis("batch-bytes", &self.batch_bytes)?,
            partitions: axis("partitions", &self.partitions)?,
            threads: axis("threads", &self.threads)?,
            in_flight: axis("in-flight", &self.in_flight)?,
        };
        Ok(if self.all { axes.all() } else { axes.one_at_a_time() })
    }

    fn subjects(&self) -> Result<Vec<Subject>, Failure> {
        let all = subject::all(self.consumers.is_some(), self.maintenance, self.journal_alone);
        let names: Vec<_> = all.iter().map(|subject| subject.name).collect();
        let is_wanted = |subject: &Subject| {
            let fits =
                |word: &String| if self.only_whole { subject.name == word } else { subject.name.contains(&**word) };
            self.only.is_empty() || self.only.iter().any(fits)
        };
        let wanted: Vec<_> = all.into_iter().filter(is_wanted).collect();
        if wanted.is_empty() {
            return Err(format!("--only names no subject; there are: {}", names.join(", ")).into());
        }
        Ok(wanted)
    }

    fn warm_up(&self) -> f64 {
        (self.seconds * WARM_UP_SHARE).min(MAX_WARM_UP_S)
    }
}

/// Measures, shows and writes the report. After an interruption what was measured until then is shown.
pub(crate) fn run(args: &Args, stop: &AtomicBool) -> Result<(), Failure> {
    #[cfg(feature = "peers")]
    crate::peers::silence()?;
    let cases = args.cases()?;
    let subjects = args.subjects()?;
    let place = Place::open(&args.place)?;
    let machine = machine::describe(place.path())?;
    println!("{machine}");
    allow_many_files()?;
    let disk = Disk::below(place.path())?;
    let session = Session { args, place: &place, disk: disk.as_ref(), stop };
    let measured = session.rounds(&cases, &subjects)?;
    let forces = disk.as_ref().is_some_and(|disk| disk.forces_single_writes);
    let mut rows = summary::rows(&cases, &subjects, &measured.runs, forces)?;
    if args.kafka && !stop.load(Ordering::SeqCst) {
        match Kafka::find() {
            Ok(found) => {
                let partitions = args.partitions.iter().copied().max().unwrap_or(1);
                rows.extend(kafka::rows(&found, partitions, args.seconds, args.rounds, place.path())?);
            }
            Err(why) => println!("Kafka's own log is left out: {why}"),
        }
    }
    rows.sort_by_key(|row| row.case);
    println!("{}\n{}", table::text(&rows), table::LEGEND);
    plots::write_html(&args.report, &machine, &rows)?;
    println!("report: {}", args.report.display());
    if let Some(path) = &args.json {
        table::write_json(path, &machine.to_string(), &rows)?;
    }
    if stop.load(Ordering::SeqCst) {
        return Err("interrupted; the disk is left clean".into());
    }
    if measured.failed.is_empty() { Ok(()) } else { Err(format!("{} subjects failed", measured.failed.len()).into()) }
}

/// A thousand partitions are a few thousand open files for some.
fn allow_many_files() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// What was measured, and who could not do it: nobody else has to begin again for that.
#[derive(Default)]
struct Measured {
    runs: Vec<Run>,
    failed: Vec<(Case, usize)>,
}

impl Measured {
    fn has_failed(&self, case: Case, subject: usize) -> bool {
        self.failed.contains(&(case, subject))
    }
}

struct Session<'a> {
    args: &'a Args,
    place: &'a Place,
    disk: Option<&'a Disk>,
    stop: &'a AtomicBool,
}

impl Session<'_> {
    fn rounds(&self, cases: &[Case], subjects: &[Subject]) -> Result<Measured, Failure> {
        let turns: Vec<(Case, usize)> = cases
            .iter()
            .flat_map(|case| (0..subjects.len()).map(move |index| (*case, index)))
            .filter(|(case, index)| subjects.get(*index).is_some_and(|subject| case.load.suits(subject.open)))
            .collect();
        let count = turns.len() * self.args.rounds;
        let seconds = count as f64 * (self.args.seconds + self.args.warm_up());
        println!("{count} runs, {:.0} minutes and what opening and closing takes", (seconds / 60.0).ceil());
        let bar = ProgressBar::new(u64::try_from(count)?);
        bar.set_style(ProgressStyle::with_template("{msg:64} {wide_bar} {pos}/{len} {eta}")?);
        let mut measured = Measured::default();
        for round in 0..self.args.rounds {
            // Of this round, by subject: what the half of is taken.
            let mut full: HashMap<usize, f64> = HashMap::new();
            for &(case, index) in &turns {
                let Some(subject) = subjects.get(index).filter(|_| !measured.has_failed(case, index)) else {
                    continue;
                };
                bar.set_message(format!("{}: {case}", subject.name));
                let rate = full.get(&index).map(|rate| rate / 2.0).filter(|_| matches!(case.load, Load::Half(_)));
                let sample = self.turn(subject, case, rate);
                if self.stop.load(Ordering::SeqCst) {
                    bar.finish_and_clear();
                    return Ok(measured);
                }
                bar.inc(1);
                match sample {
                    Ok(sample) => {
                        full.insert(index, sample.rate());
                        measured.runs.push(Run { case, subject: index, round, sample });
                    }
                    Err(error) => {
                        bar.println(format!("{}: {case}: {error}", subject.name));
                        measured.failed.push((case, index));
                    }
                }
            }
        }
        bar.finish_and_clear();
        Ok(measured)
    }

    /// One run in an empty directory, which is deleted, and what was left to write is written.
    fn turn(&self, subject: &Subject, case: Case, rate: Option<f64>) -> Result<Sample, Failure> {
        let (dir, kept) = (self.place.path().join("run"), self.place.path().join("kept"));
        fs::create_dir_all(&kept)?;
        fs::create_dir(&dir)?;
        let seconds = self.args.seconds + self.args.warm_up();
        let segment_bytes = space::segment_bytes(seconds, machine::free_bytes(&dir)?, case.partitions);
        let consumer_threads = self.args.consumers.map_or(1, NonZeroUsize::get);
        let setup = Setup { dir: &dir, kept: &kept, case, consumer_threads, segment_bytes };
        let sample = space::guarded(&kept, self.stop, |stop| self.measure(subject, &setup, rate, stop));
        fs::remove_dir_all(&dir)?;
        settle(&kept)?;
        sample
    }

    fn measure(
        &self,
        subject: &Subject,
        setup: &Setup<'_>,
        rate: Option<f64>,
        stop: &AtomicBool,
    ) -> Result<Sample, Failure> {
        let batch = shapes::batch_of(setup.case.batch_bytes)?;
        let work = || Work {
            partitions: setup.case.partitions,
            batch: &batch,
            load: setup.case.load,
            warm_up: Duration::from_secs_f64(self.args.warm_up()),
            measured: Duration::from_secs_f64(self.args.seconds),
            disk: self.disk,
            stop,
        };
        match subject.open {
            Open::Threads(open) => {
                let mut log = open(setup)?;
                settle(setup.kept)?;
                drive::threads(log.as_mut(), &work())
            }
            Open::InFlight(open) => {
                let mut log = open(setup)?;
                settle(setup.kept)?;
                drive::in_flight(log.as_mut(), &work(), rate)
            }
            Open::Shared(threads, open) => {
                let mut log = open(setup)?;
                settle(setup.kept)?;
                drive::in_flight_by(log.as_mut(), threads, &work(), rate)
            }
        }
    }
}

/// Writes back what one subject left, so that the next does not pay for it.
fn settle(dir: &Path) -> Result<(), Failure> {
    Ok(nix::unistd::syncfs(File::open(dir)?)?)
}
