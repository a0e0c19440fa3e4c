//! Who waits at a partition, by position.
//!
//! Knows nothing of where a position stands. Keeps: a partition that nobody waits for, or only for what is flushed, is small.

use super::{poll::Poll, position::Position, thresholds::Thresholds, wakes::Waiter};
use crate::types::Offset;
use std::sync::Arc;

/// A long poll, and which of its partitions this one is.
pub(super) type Part = (Arc<Poll>, usize);

/// Waiters, in the order of what they wait for at each position.
#[derive(Debug, Default)]
pub(super) struct WaitersByPosition {
    /// Tickets for what is flushed.
    flushed: Thresholds<Offset, Waiter>,
    /// From the first other waiter on.
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    /// None for what is flushed.
    tickets: [Thresholds<Offset, Waiter>; Position::ALL.len()],
    polls: [Thresholds<u64, Part>; Position::ALL.len()],
}

impl WaitersByPosition {
    /// Tickets for a position, by offset; `None` where there never was one.
    pub(super) fn tickets(&mut self, position: Position) -> Option<&mut Thresholds<Offset, Waiter>> {
        match position {
            Position::Flushed => Some(&mut self.flushed),
            _ => self.others.as_mut().map(|others| &mut others.tickets[position as usize]),
        }
    }

    /// As [`WaitersByPosition::tickets`], for one to be added.
    pub(super) fn tickets_to_fill(&mut self, position: Position) -> &mut Thresholds<Offset, Waiter> {
        match position {
            Position::Flushed => &mut self.flushed,
            _ => &mut self.others.get_or_insert_default().tickets[position as usize],
        }
    }

    /// Long polls at a position, by bytes; `None` where there never was one.
    pub(super) fn polls(&mut self, position: Position) -> Option<&mut Thresholds<u64, Part>> {
        self.others.as_mut().map(|others| &mut others.polls[position as usize])
    }

    /// As [`WaitersByPosition::polls`], for one to be added.
    pub(super) fn polls_to_fill(&mut self, position: Position) -> &mut Thresholds<u64, Part> {
        &mut self.others.get_or_insert_default().polls[position as usize]
    }
}
