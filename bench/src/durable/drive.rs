//! Keeping appends going: by waiting threads, or many in flight from one.
//!
//! Only what completes in the measured window counts. The latency of an append is from its submission, or with a given
//! rate from when it was due, so that a stall costs every append that it holds up.

use super::{
    case::Load,
    kernel::{Cost, Counters, Disk},
    subject::{Beside, DurableLog, InFlightLog, SharedLog},
};
use crate::{Failure, workloads::shapes::Random};
use hdrhistogram::Histogram;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Significant digits of a latency.
const DIGITS: u8 = 2;
/// The longest latency that is told apart.
const MAX_NS: u64 = 60_000_000_000;

/// What is appended, where to, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) partitions: usize,
    pub(crate) batch: &'a [u8],
    pub(crate) load: Load,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) disk: Option<&'a Disk>,
    /// Set when the user wants to stop.
    pub(crate) stop: &'a AtomicBool,
}

/// What one run did in its window.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) appends: u64,
    pub(crate) seconds: f64,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) cost: Cost,
    pub(crate) beside: Beside,
}

impl Sample {
    pub(crate) fn rate(&self) -> f64 {
        self.appends as f64 / self.seconds
    }
}

pub(crate) fn latencies() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, MAX_NS, DIGITS)?)
}

/// The time in which appends count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn of(work: &Work<'_>) -> Self {
        let begin = Instant::now() + work.warm_up;
        Self { begin, end: begin + work.measured }
    }

    pub(crate) fn holds(&self, moment: Instant) -> bool {
        (self.begin..=self.end).contains(&moment)
    }
}

pub(crate) fn nanoseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(MAX_NS)
}

/// Threads that wait for each of their appends.
pub(crate) fn threads(log: &mut dyn DurableLog, work: &Work<'_>) -> Result<Sample, Failure> {
    let window = Window::of(work);
    log.count_in(window);
    let sample = all_threads(&*log, work, window)?;
    Ok(Sample { beside: log.end()?, ..sample })
}

fn all_threads(log: &dyn DurableLog, work: &Work<'_>, window: Window) -> Result<Sample, Failure> {
    let failed = AtomicBool::new(false);
    let (histograms, before, after) = thread::scope(|scope| {
        let threads: Vec<_> = (0..work.load.at_once())
            .map(|index| {
                let failed = &failed;
                scope.spawn(move || {
                    one_thread(log, work, window, index, failed).inspect_err(|_| failed.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let before = counters_at(window.begin, work, &failed);
        let after = counters_at(window.end, work, &failed);
        let histograms: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        (histograms, before, after)
    });
    let mut sum = latencies()?;
    for histogram in histograms {
        sum.add(histogram.map_err(|_| "a thread panicked")??)?;
    }
    let cost = after?.since(&before?);
    let beside = Beside::default();
    Ok(Sample { appends: sum.len(), seconds: work.measured.as_secs_f64(), latencies: sum, cost, beside })
}

fn one_thread(
    log: &dyn DurableLog,
    work: &Work<'_>,
    window: Window,
    index: usize,
    failed: &AtomicBool,
) -> Result<Histogram<u64>, Failure> {
    let mut random = Random(index as u64);
    let mut histogram = latencies()?;
    let mut begun = Instant::now();
    while begun < window.end && !work.stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
        log.append_and_wait(random.below(work.partitions), work.batch)?;
        let done = Instant::now();
        if window.holds(done) {
            histogram.saturating_record(nanoseconds(begun, done));
        }
        begun = done;
    }
    Ok(histogram)
}

fn counters_at(moment: Instant, work: &Work<'_>, failed: &AtomicBool) -> Result<Counters, Failure> {
    while !work.stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
        match moment.checked_duration_since(Instant::now()) {
            Some(left) => thread::sleep(left.min(Duration::from_millis(100))),
            None => break,
        }
    }
    Counters::now(work.disk)
}

/// One thread with appends in flight: as many as may be, or at a rate.
pub(crate) fn in_flight(log: &mut dyn InFlightLog, work: &Work<'_>, rate: Option<f64>) -> Result<Sample, Failure> {
    let mut generator = Generator::new(work.load.at_once(), rate, 0);
    let window = Window::of(work);
    log.count_in(window);
    let mut before = None;
    let mut histogram = latencies()?;
    generator.run(log, work, window, &mut histogram, |now| {
        if before.is_none() && now >= window.begin {
            before = Some(Counters::now(work.disk)?);
        }
        Ok(true)
    })?;
    let after = Counters::now(work.disk)?;
    generator.finish(log)?;
    let cost = after.since(&before.unwrap_or(after));
    let (seconds, beside) = (work.measured.as_secs_f64(), log.end()?);
    Ok(Sample { appends: histogram.len(), seconds, latencies: histogram, cost, beside })
}

/// As [`in_flight`], by several threads that share what is in flight, and the rate.
pub(crate) fn in_flight_by(
    log: &mut dyn SharedLog,
    threads: usize,
    work: &Work<'_>,
    rate: Option<f64>,
) -> Result<Sample, Failure> {
    let window = Window::of(work);
    log.count_in(window);
    let failed = AtomicBool::new(false);
    let one = |log: &dyn SharedLog, index: usize| {
        let rate = rate.map(|rate| rate / threads as f64);
        let mut generator = Generator::new(work.load.at_once().div_ceil(threads), rate, index as u64);
        let mut log = log.handle()?;
        let mut histogram = latencies()?;
        generator.run(log.as_mut(), work, window, &mut histogram, |_| Ok(!failed.load(Ordering::Relaxed)))?;
        generator.finish(log.as_mut())?;
        Ok::<_, Failure>(histogram)
    };
    let (shared, one) = (&*log, &one);
    let (histograms, before, after) = thread::scope(|scope| {
        let failed = &failed;
        let all: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || one(shared, index).inspect_err(|_| failed.store(true, Ordering::Relaxed))))
            .collect();
        let before = counters_at(window.begin, work, failed);
        let after = counters_at(window.end, work, failed);
        (all.into_iter().map(|thread| thread.join()).collect::<Vec<_>>(), before, after)
    });
    let mut sum = latencies()?;
    for histogram in histograms {
        sum.add(histogram.map_err(|_| "a thread panicked")??)?;
    }
    let (cost, beside) = (after?.since(&before?), log.end()?);
    Ok(Sample { appends: sum.len(), seconds: work.measured.as_secs_f64(), latencies: sum, cost, beside })
}

/// What is in flight, by tag.
struct Generator {
    random: Random,
    begun: Vec<Instant>,
    free: Vec<u32>,
    acked: Vec<u32>,
    /// Between appends, with a rate.
    interval: Option<Duration>,
    due: Instant,
}

impl Generator {
    fn new(at_once: usize, rate: Option<f64>, seed: u64) -> Self {
        let count = at_once as u32;
        let interval = rate.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate));
        let begun = vec![Instant::now(); count as usize];
        Self {
            random: Random(seed),
            begun,
            free: (0..count).collect(),
            acked: Vec::new(),
            interval,
            due: Instant::now(),
        }
    }

    fn in_flight(&self) -> usize {
        self.begun.len() - self.free.len()
    }

    /// Keeps appends going until the window ends, the user wants to stop, or `goes_on`, asked after each turn, says no.
    fn run(
        &mut self,
        log: &mut dyn InFlightLog,
        work: &Work<'_>,
        window: Window,
        histogram: &mut Histogram<u64>,
        mut goes_on: impl FnMut(Instant) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut now = Instant::now();
        while now < window.end && !work.stop.load(Ordering::Relaxed) && goes_on(now)? {
            self.submit(log, work)?;
            let wait = self.in_flight() > 0;
            log.drain(&mut self.acked, wait)?;
            now = Instant::now();
            self.take_acked(now, |latency| {
                if window.holds(now) {
                    histogram.saturating_record(latency);
                }
            });
        }
        Ok(())
    }

    /// Waits for what is in flight.
    fn finish(&mut self, log: &mut dyn InFlightLog) -> Result<(), Failure> {
        while self.in_flight() > 0 {
            log.drain(&mut self.acked, true)?;
            self.take_acked(Instant::now(), |_| {});
        }
        Ok(())
    }

    /// Submits as many as may be in flight; with a rate, as many as are due, and sleeps if that is none and none flies.
    fn submit(&mut self, log: &mut dyn InFlightLog, work: &Work<'_>) -> Result<(), Failure> {
        let mut now = Instant::now();
        if self.interval.is_some() && self.in_flight() == 0 {
            thread::sleep(self.due.saturating_duration_since(now));
            now = Instant::now();
        }
        while self.interval.is_none() || self.due <= now {
            let Some(tag) = self.free.pop() else {
                break;
            };
            let begun = match self.interval {
                Some(interval) => {
                    let due = self.due;
                    self.due += interval;
                    due
                }
                None => Instant::now(),
            };
            if let Some(place) = self.begun.get_mut(tag as usize) {
                *place = begun;
            }
            log.submit(self.random.below(work.partitions), work.batch, tag)?;
        }
        Ok(())
    }

    fn take_acked(&mut self, now: Instant, mut note: impl FnMut(u64)) {
        for tag in self.acked.drain(..) {
            if let Some(begun) = self.begun.get(tag as usize) {
                note(nanoseconds(*begun, now));
            }
            self.free.push(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::VecDeque;

    /// Acknowledges in order, one at a time.
    #[derive(Default)]
    struct OneByOne(VecDeque<u32>, usize);

    impl InFlightLog for OneByOne {
        fn submit(&mut self, _: usize, _: &[u8], tag: u32) -> Result<(), Failure> {
            assert!(!self.0.contains(&tag), "a tag is used once at a time");
            self.0.push_back(tag);
            self.1 = self.1.max(self.0.len());
            Ok(())
        }

        fn drain(&mut self, acked: &mut Vec<u32>, _: bool) -> Result<(), Failure> {
            acked.extend(self.0.pop_front());
            Ok(())
        }
    }

    struct Instantly;

    impl DurableLog for Instantly {
        fn append_and_wait(&self, partition: usize, _: &[u8]) -> Result<(), Failure> {
            if partition < 3 { Ok(()) } else { Err("no such partition".into()) }
        }
    }

    fn work(load: Load, stop: &AtomicBool) -> Work<'_> {
        let (warm_up, measured) = (Duration::from_millis(1), Duration::from_millis(20));
        Work { partitions: 3, batch: b"batch", load, warm_up, measured, disk: None, stop }
    }

    #[test]
    fn in_flight_keeps_as_many_going_as_asked() {
        let stop = AtomicBool::new(false);
        let mut log = OneByOne::default();
        let sample = in_flight(&mut log, &work(Load::InFlight(5), &stop), None).unwrap();
        assert!(sample.appends > 0 && log.1 == 5 && log.0.is_empty());
    }

    #[derive(Default)]
    struct EachItsOwn(std::sync::atomic::AtomicUsize);

    impl SharedLog for EachItsOwn {
        fn handle(&self) -> Result<Box<dyn InFlightLog + '_>, Failure> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(OneByOne::default()))
        }
    }

    #[test]
    fn several_threads_share_what_is_in_flight() {
        let stop = AtomicBool::new(false);
        let mut log = EachItsOwn::default();
        let sample = in_flight_by(&mut log, 3, &work(Load::InFlight(6), &stop), None).unwrap();
        assert!(sample.appends > 0 && sample.appends == sample.latencies.len() && log.0.into_inner() == 3);
    }

    #[test]
    fn in_flight_with_a_rate_stays_near_it() {
        let stop = AtomicBool::new(false);
        let sample = in_flight(&mut OneByOne::default(), &work(Load::Half(64), &stop), Some(1000.0)).unwrap();
        assert!((1..=23).contains(&sample.appends), "{} appends in 20 ms at 1,000 a second", sample.appends);
    }

    #[test]
    fn threads_count_what_completes() {
        let stop = AtomicBool::new(false);
        let sample = threads(&mut Instantly, &work(Load::Threads(2), &stop)).unwrap();
        assert!(sample.appends > 0 && sample.latencies.len() == sample.appends);
    }

    #[test]
    fn threads_tell_a_failure() {
        let stop = AtomicBool::new(false);
        let work = Work { partitions: 1000, ..work(Load::Threads(2), &stop) };
        assert!(threads(&mut Instantly, &work).is_err());
    }
}
