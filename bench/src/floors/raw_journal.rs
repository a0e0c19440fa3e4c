//! The floor of an acknowledgement: appends copied into blocks of a journal, and nothing else.

use super::{files, journal::Journal, ring::Ring};
use crate::{
    Failure,
    durable::subject::{InFlightLog, Setup},
};

struct RawJournal {
    ring: Ring,
    journal: Journal,
    done: Vec<super::ring::Done>,
}

/// A journal without segments behind it.
pub(crate) fn open(setup: &Setup<'_>) -> Result<Box<dyn InFlightLog>, Failure> {
    let (file, bytes) = files::journal(setup)?;
    let ring = Ring::new(2 * Journal::TOKENS as u32)?;
    Ok(Box::new(RawJournal { ring, journal: Journal::new(file, bytes), done: Vec::new() }))
}

impl InFlightLog for RawJournal {
    fn submit(&mut self, partition: usize, batch: &[u8], tag: u32) -> Result<(), Failure> {
        Ok(self.journal.push(&mut self.ring, batch, (partition as u32, 0), tag)?)
    }

    fn drain(&mut self, acked: &mut Vec<u32>, wait: bool) -> Result<(), Failure> {
        self.journal.send(&mut self.ring)?;
        self.ring.submit(usize::from(wait && self.ring.in_flight() > 0))?;
        self.ring.take(&mut self.done)?;
        for done in self.done.drain(..) {
            self.journal.landed(done.token, done.buffer, acked);
        }
        Ok(())
    }
}
