//! What a host is told of its log directories, without asking.
//!
//! Keeps: the host's function runs on a thread of the directory, or the one that polls, with no lock held; what is noted on
//! another thread waits for that.

use super::waiting::contained;
use crate::{log::CleanerStats, types::TopicPartition};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Something that a host may want to say in its log, or act on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The directory takes no appends any more.
    DirectoryFailed {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The commit journal is there: flushed appends go through it from now on.
    JournalMade {
        /// Bytes of its file.
        bytes: u64,
    },
    /// The commit journal could not be made: flushed appends are made durable by group commit, and it is tried again
    /// with the first one that comes ten seconds later. Told once for each cause.
    JournalRefused {
        /// Why.
        cause: String,
    },
    /// The disk is full: a write was refused, and so are appends until there is space. What was acknowledged is kept.
    DiskFull,
    /// The disk takes writes again after [`Event::DiskFull`]. Told within a second of the first write; with no journal, of the
    /// first append that is tried.
    DiskHasSpace,
    /// The kernel refuses io_uring, as a whole or one ring more: writes go by plain system calls, one after the other.
    RingRefused {
        /// The kernel's reason, and what it is likely to mean.
        cause: String,
    },
    /// Retention removed segments of a log.
    SegmentsRemoved {
        /// The log's partition.
        partition: TopicPartition,
        /// How many.
        segments: usize,
        /// Bytes of their log files.
        bytes: u64,
    },
    /// A log was compacted.
    Compacted {
        /// The log's partition.
        partition: TopicPartition,
        /// What went and what stayed.
        stats: CleanerStats,
    },
    /// [`Maintenance`](crate::Maintenance) failed on something, which stays as it was.
    MaintenanceFailed {
        /// Of what, and why.
        cause: String,
    },
    /// A sync, of segments or of the file system, took longer than [`ManagerOptions::slow_sync`](crate::ManagerOptions).
    SlowSync {
        /// How long it took.
        took: Duration,
    },
}

/// One line for a log, without the directory.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DirectoryFailed { cause } => write!(f, "failed, and takes no appends any more: {cause}"),
            Self::JournalMade { bytes } => write!(f, "has a commit journal of {bytes} bytes"),
            Self::JournalRefused { cause } => write!(f, "has no commit journal, and syncs each segment: {cause}"),
            Self::DiskFull => f.write_str("its disk is full: appends are refused until there is space"),
            Self::DiskHasSpace => f.write_str("its disk takes writes again"),
            Self::RingRefused { cause } => write!(f, "writes by plain system calls, without io_uring: {cause}"),
            Self::SegmentsRemoved { partition, segments, bytes } => {
                write!(f, "{partition}: retention removed {segments} segments of {bytes} bytes")
            }
            Self::Compacted { partition, stats } => {
                let CleanerStats { bytes_read, bytes_written, messages_read, messages_written, .. } = stats;
                write!(
                    f,
                    "{partition}: compacted {bytes_read} bytes, {messages_read} records, to {bytes_written} bytes, \
                     {messages_written} records"
                )
            }
            Self::MaintenanceFailed { cause } => write!(f, "upkeep failed: {cause}"),
            Self::SlowSync { took } => write!(f, "a sync took {} ms", took.as_millis()),
        }
    }
}

/// A host's function for [`Event`]s: it gets the number of the directory, as it was given to the open, and what happened. It is
/// called by the directory's threads within half a second, or by [`LogManager::poll`](crate::LogManager::poll), and should
/// return soon: appends are not durable meanwhile. It may do what
/// [`Ticket::on_done`](crate::Ticket::on_done) says. If it panics, the panic hook tells of it, and everything goes on.
///
/// ```
/// use duramen::{EventHandler, ManagerOptions};
/// let events = EventHandler::new(|directory, event| eprintln!("log directory {directory}: {event}"));
/// let options = ManagerOptions { events, ..ManagerOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Default)]
pub struct EventHandler(Option<Arc<dyn Fn(usize, Event) + Send + Sync>>);

impl EventHandler {
    /// Calls a function for each event.
    pub fn new(handle: impl Fn(usize, Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(handle)))
    }
}

impl fmt::Debug for EventHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "EventHandler" } else { "no EventHandler" })
    }
}

/// Events of one directory on their way to the host.
#[derive(Debug)]
pub(super) struct Events {
    directory: usize,
    handler: EventHandler,
    /// Guards what was not told yet; held for a few instructions.
    noted: Mutex<Vec<Event>>,
}

impl Events {
    pub(super) fn new(directory: usize, handler: EventHandler) -> Self {
        Self { directory, handler, noted: Mutex::default() }
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what happened, under whatever lock.
    pub(super) fn note(&self, event: Event) {
        if self.handler.0.is_some() {
            self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }

    /// Tells what was noted, under no lock.
    pub(super) fn tell(&self) {
        if let Some(handle) = &self.handler.0 {
            self.take().into_iter().for_each(|event| contained(|| handle(self.directory, event)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn events_say_what_happened_in_one_line() {
        let partition = TopicPartition::new("orders", 3).unwrap();
        let removed = Event::SegmentsRemoved { partition: partition.clone(), segments: 2, bytes: 7000 };
        assert_eq!(removed.to_string(), "orders-3: retention removed 2 segments of 7000 bytes");
        let stats = CleanerStats { bytes_read: 900, bytes_written: 100, messages_read: 9, ..CleanerStats::default() };
        let compacted = Event::Compacted { partition, stats };
        assert_eq!(compacted.to_string(), "orders-3: compacted 900 bytes, 9 records, to 100 bytes, 0 records");
        assert_eq!(Event::SlowSync { took: Duration::from_micros(1_500_900) }.to_string(), "a sync took 1500 ms");
    }
}
