//! What a long poll and the partitions that it waits for share.
//!
//! Owns the sum of the bytes that can be read, as far as it is known, and who is to be woken when it suffices. Knows nothing
//! of offsets. Keeps: while there is no answer, every partition is armed such that the sum cannot reach the minimum without
//! one of them being heard of (`allotment.rs`); the first answer stays, and is delivered once.

use super::{
    allotment::{after_growth, share},
    error::WaitError,
    sync::{Mutex, lock},
    wakes::{Waiter, Wakes},
    watch::{Armed, Seen, Watch},
};
use std::{mem, sync::Arc};

/// The shared half of a long poll.
#[derive(Debug)]
pub(super) struct Poll {
    /// Guards everything. Watches are armed under it, so it comes before theirs.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    min_bytes: u64,
    parts: Vec<Part>,
    /// What every partition was allotted when everything was shared out last; 0 before that.
    share: u64,
    /// Bytes that the partitions may come to without being heard of: the sum of [`Part::silent`].
    silent: u64,
    answer: Option<Result<(), WaitError>>,
    waiter: Option<Waiter>,
}

/// Who is to be told, and what.
pub(super) type Due = (Waiter, Result<(), WaitError>);

/// One partition.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) watch: Arc<Watch>,
    pub(super) seen: Seen,
    /// Bytes that could be read when it was seen.
    pub(super) available: u64,
    /// Bytes that count of this partition, at most.
    pub(super) max_bytes: u64,
    /// Bytes that came since it was seen, as far as they count, when it was armed last. What is allotted is counted from here.
    pub(super) growth: u64,
    /// Its registration: by how much it is to grow, since it was seen, to be heard of; and the id.
    pub(super) armed: Option<(u64, u64)>,
}

impl Poll {
    pub(super) fn new(min_bytes: u64) -> Self {
        let state = State { min_bytes, parts: Vec::new(), share: 0, silent: 0, answer: None, waiter: None };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn add(&self, part: Part) {
        let mut state = lock(&self.state);
        state.parts.push(part);
        state.share = 0;
    }

    /// Makes `waiter` the one to be woken, in place of an earlier one, and delivers at once if there is an answer.
    pub(super) fn give_to(self: &Arc<Self>, waiter: Waiter) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        let earlier = state.waiter.replace(waiter);
        if state.answer.is_none() && state.share == 0 {
            state.answer = state.settle(self, None);
        }
        if let Some((waiter, answer)) = state.due() {
            wakes.answer(waiter, answer);
        }
        drop(state);
        drop(earlier);
        wakes.fire();
    }

    /// A partition has grown by its allotment. Who is to be told, if that suffices.
    pub(super) fn grown(self: &Arc<Self>, part: usize) -> Option<Due> {
        let mut state = lock(&self.state);
        if state.answer.is_none() {
            state.answer = state.settle(self, Some(part));
        }
        state.due()
    }

    /// A partition was truncated, failed or closed. Who is to be told.
    pub(super) fn end(&self, why: WaitError) -> Option<Due> {
        let mut state = lock(&self.state);
        state.answer.get_or_insert(Err(why));
        state.due()
    }

    /// Takes every registration back. Nobody is woken from here on.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        state.answer.get_or_insert(Err(WaitError::Closed));
        let (parts, waiter) = (mem::take(&mut state.parts), state.waiter.take());
        drop(state);
        drop(waiter);
        for mut part in parts {
            part.disarm();
        }
    }
}

impl State {
    fn due(&mut self) -> Option<Due> {
        let answer = self.answer.clone()?;
        self.waiter.take().map(|waiter| (waiter, answer))
    }

    /// Arms partitions until each that was heard of is silent again, or there is an answer. `heard_of`: the one that has
    /// used up its allotment; `None` for all of them, the first time.
    fn settle(&mut self, poll: &Arc<Poll>, heard_of: Option<usize>) -> Option<Result<(), WaitError>> {
        match self.try_settle(poll, heard_of) {
            Ok(false) => None,
            Ok(true) => Some(Ok(())),
            Err(why) => Some(Err(why)),
        }
    }

    /// Whether the minimum is there.
    fn try_settle(&mut self, poll: &Arc<Poll>, heard_of: Option<usize>) -> Result<bool, WaitError> {
        let mut grown = Vec::from_iter(heard_of);
        if heard_of.is_none() && self.share_out(poll, &mut grown)? {
            return Ok(true);
        }
        while let Some(index) = grown.pop() {
            if !self.allot(poll, index, &mut grown)? && self.share_out(poll, &mut grown)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives one partition its part of the reserve; false if that is scarce. What it may come to in silence, the others
    /// included, stays below the minimum: so while there is a reserve, the minimum is not there.
    fn allot(&mut self, poll: &Arc<Poll>, index: usize, grown: &mut Vec<usize>) -> Result<bool, WaitError> {
        let partitions = self.parts.len() as u64;
        let Some(part) = self.parts.get_mut(index) else {
            return Ok(true);
        };
        self.silent = self.silent.saturating_sub(part.silent());
        let growth = part.growth_now();
        let reserve = self.min_bytes.saturating_sub(self.silent.saturating_add(part.found()).saturating_add(growth));
        let since = growth.saturating_sub(part.growth);
        let allotment = after_growth(reserve, since, self.share, partitions);
        if let Some(more) = allotment
            && !part.arm(growth, more, (Arc::clone(poll), index))?
        {
            grown.push(index);
        }
        self.silent = self.silent.saturating_add(part.silent());
        Ok(allotment.is_some())
    }

    /// Takes the sum, and shares out what is missing among all partitions; whether nothing is. Those that have used up
    /// theirs by then are `grown`.
    fn share_out(&mut self, poll: &Arc<Poll>, grown: &mut Vec<usize>) -> Result<bool, WaitError> {
        let growths: Vec<u64> = self.parts.iter().map(Part::growth_now).collect();
        let found: u64 = self.parts.iter().map(Part::found).fold(0, u64::saturating_add);
        let missing = self.min_bytes.saturating_sub(growths.iter().copied().fold(found, u64::saturating_add));
        if missing == 0 {
            return Ok(true);
        }
        self.share = share(missing, self.parts.len() as u64);
        self.silent = 0;
        grown.clear();
        for ((index, part), growth) in self.parts.iter_mut().enumerate().zip(growths) {
            if !part.arm(growth, self.share, (Arc::clone(poll), index))? {
                grown.push(index);
            }
            self.silent = self.silent.saturating_add(part.silent());
        }
        Ok(false)
    }
}

impl Part {
    /// Bytes that were there when it was seen, as far as they count.
    fn found(&self) -> u64 {
        self.available.min(self.max_bytes)
    }

    /// Growth that counts, at most.
    fn room(&self) -> u64 {
        self.max_bytes.saturating_sub(self.available)
    }

    /// Bytes that came since it was seen, as far as they count.
    fn growth_now(&self) -> u64 {
        let bytes = self.watch.bytes(self.seen.position).saturating_sub(self.seen.mark.bytes);
        bytes.min(self.room())
    }

    /// Bytes that it may come to without being heard of. Nothing if it was heard of, and is looked at yet.
    fn silent(&self) -> u64 {
        let silent = self.armed.map(|(threshold, _)| threshold.saturating_sub(1).min(self.room()));
        silent.map_or(0, |growth| self.found().saturating_add(growth))
    }

    /// Wants to hear of `more` bytes above `growth`, the one that `more` was reckoned from: a later one has no part in that.
    /// False if they are there already.
    fn arm(&mut self, growth: u64, more: u64, part: (Arc<Poll>, usize)) -> Result<bool, WaitError> {
        self.disarm();
        self.growth = growth;
        let threshold = if growth == self.room() { u64::MAX } else { growth.saturating_add(more) };
        match self.watch.arm(&self.seen, self.in_bytes(threshold), part) {
            Armed::Waiting(id) => self.armed = Some((threshold, id)),
            Armed::Reached => return Ok(false),
            Armed::Over(why) => return Err(why),
        }
        Ok(true)
    }

    fn disarm(&mut self) {
        if let Some((threshold, id)) = self.armed.take() {
            self.watch.disarm(self.seen.position, self.in_bytes(threshold), id);
        }
    }

    fn in_bytes(&self, threshold: u64) -> u64 {
        self.seen.mark.bytes.saturating_add(threshold)
    }
}
