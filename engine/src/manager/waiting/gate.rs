//! A gate that opens now and then, for as many as can go on.
//!
//! Owns who stands before it: whoever finds it shut asks for bytes and gets a ticket, and bytes are granted in the order in
//! which they were asked for. Knows nothing of what opens it. Keeps:
//!
//! * no lost wake-up: who asks notes that, and then looks at the gate again; who opens it does so, and then looks whether
//!   somebody asked, all of it sequentially consistent;
//! * a ticket that is dropped leaves a number and nothing else. What is granted to it is nobody's: so whoever grants less than
//!   everything has to come again by himself.

use super::{
    error::WaitError,
    position::{Mark, Position},
    sync::{AtomicI64, AtomicU64},
    ticket::Ticket,
    wakes::Wakes,
    watch::Watch,
};
use std::sync::{Arc, atomic::Ordering::SeqCst};

/// What moves when bytes are granted: it only rises.
const GRANTED: Position = Position::Flushed;

/// A gate, and who stands before it.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Bytes granted so far, as an offset, and the tickets for more.
    watch: Arc<Watch>,
    /// Bytes asked for so far.
    asked: AtomicI64,
    /// The fewest bytes that anybody asked for since everybody was let through.
    least: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        let watch = Arc::new(Watch::new([Mark::default(); Position::ALL.len()]));
        Self { watch, asked: AtomicI64::new(0), least: AtomicU64::new(u64::MAX) }
    }
}

impl Gate {
    /// A ticket for going through with so many bytes: done, if the gate is open.
    pub(crate) fn ticket(&self, bytes: usize, is_open: impl Fn() -> bool) -> Ticket {
        if is_open() {
            return self.watch.ticket(GRANTED, 0);
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).max(1);
        self.least.fetch_min(bytes.unsigned_abs(), SeqCst);
        let threshold = self.asked.fetch_add(bytes, SeqCst).saturating_add(bytes);
        self.watch.ticket(GRANTED, if is_open() { 0 } else { threshold })
    }

    /// Whether somebody may be standing before it.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(SeqCst) > self.watch.get(GRANTED)
    }

    /// Bytes that the one who needs fewest needs, or fewer.
    pub(crate) fn least(&self) -> usize {
        usize::try_from(self.least.load(SeqCst)).unwrap_or(usize::MAX)
    }

    /// Lets those through who came first and asked for so many bytes together.
    pub(crate) fn grant(&self, bytes: usize) -> Wakes {
        let asked = self.asked.load(SeqCst);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let granted = self.watch.get(GRANTED).saturating_add(bytes).min(asked);
        if granted == asked {
            self.least.store(u64::MAX, SeqCst);
        }
        self.watch.advance(&[(GRANTED, Mark { offset: granted, bytes: 0 })])
    }

    /// Nobody comes through any more: all who stand there are told why.
    pub(crate) fn end(&self, why: WaitError) -> Wakes {
        match why {
            WaitError::Failed { cause } => self.watch.fail(cause),
            _ => self.watch.close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::waiting::fixtures::is_idle;

    #[test]
    fn open_gate_is_passed_at_once_and_asked_of_nothing() {
        let gate = Gate::default();
        assert_eq!(gate.ticket(7, || true).wait(None), Ok(()));
        assert!(!gate.is_asked());
    }

    #[test]
    fn those_who_came_first_are_let_through_as_far_as_the_bytes_go() {
        let gate = Gate::default();
        let tickets = [100, 50, 200].map(|bytes| gate.ticket(bytes, || false));
        let done = || tickets.each_ref().map(Ticket::is_done);
        assert_eq!((gate.is_asked(), gate.least()), (true, 50));
        gate.grant(120).fire();
        assert_eq!(done(), [true, false, false]);
        gate.grant(30).fire();
        assert_eq!(done(), [true, true, false]);
        gate.grant(usize::MAX).fire();
        assert_eq!((done(), gate.is_asked(), gate.least()), ([true; 3], false, usize::MAX));
        let next = gate.ticket(1, || false);
        assert!(!next.is_done(), "what was granted and not asked for is not kept");
    }

    #[test]
    fn dropped_ticket_leaves_a_number_that_the_next_grant_takes_away() {
        let gate = Gate::default();
        drop(gate.ticket(100, || false));
        assert!(gate.is_asked() && is_idle(&gate.watch));
        gate.grant(usize::MAX).fire();
        assert!(!gate.is_asked());
    }

    #[test]
    fn end_reaches_those_before_the_gate_and_those_who_come_later() {
        let gate = Gate::default();
        let (before, cause) = (gate.ticket(1, || false), "disk".into());
        let why = WaitError::Failed { cause };
        gate.end(why.clone()).fire();
        gate.end(WaitError::Closed).fire();
        assert_eq!(before.wait(None), Err(why.clone()));
        assert_eq!(gate.ticket(1, || false).wait(None), Err(why));
    }
}
