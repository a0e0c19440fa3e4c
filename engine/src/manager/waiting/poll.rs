//! What a long poll and the partitions that it waits for share.
//!
//! Owns the sum of the bytes that can be read, as far as it is known, and who is to be woken when it suffices. Knows nothing
//! of offsets. Keeps: while there is no answer, every partition is armed such that the sum cannot reach the minimum without
//! one of them being heard of (`allotment.rs`); the first answer stays, and is delivered once.

use super::{
    allotment::{Allotment, after_growth, share_out},
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
    is_armed: bool,
    answer: Option<Result<(), WaitError>>,
    waiter: Option<Waiter>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) watch: Arc<Watch>,
    pub(super) seen: Seen,
    /// Bytes that could be read when it was seen.
    pub(super) available: u64,
    /// Bytes that count of this partition, at most.
    pub(super) max_bytes: u64,
    /// Bytes that came since it was seen, as far as they count, when the sum was last taken. What is allotted is counted
    /// from here: what came since then has no part in the sum yet.
    pub(super) growth: u64,
    /// By how much it is to grow, since it was seen, to be heard of; and the registration.
    pub(super) armed: Option<(u64, u64)>,
}

/// The sum over all partitions.
struct Survey {
    sum: u64,
    /// By how much it may still grow without anybody hearing of it, one partition not counted.
    unnoticed: u64,
}

impl Poll {
    pub(super) fn new(min_bytes: u64) -> Self {
        let state = State { min_bytes, parts: Vec::new(), is_armed: false, answer: None, waiter: None };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn add(&self, part: Part) {
        let mut state = lock(&self.state);
        state.parts.push(part);
        state.is_armed = false;
    }

    /// Makes `waiter` the one to be woken, in place of an earlier one, and delivers at once if there is an answer.
    pub(super) fn give_to(self: &Arc<Self>, waiter: Waiter) {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        let earlier = state.waiter.replace(waiter);
        if state.answer.is_none() && !state.is_armed {
            state.is_armed = true;
            state.answer = state.arm_all(self);
        }
        state.deliver(&mut wakes);
        drop(state);
        drop(earlier);
        wakes.fire();
    }

    /// A partition has grown by its allotment.
    pub(super) fn grown(self: &Arc<Self>, part: usize, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        if state.answer.is_none() {
            state.answer = state.hear_of(self, vec![part]);
            state.deliver(wakes);
        }
    }

    /// A partition was truncated, failed or closed.
    pub(super) fn end(&self, why: WaitError, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        if state.answer.is_none() {
            state.answer = Some(Err(why));
            state.deliver(wakes);
        }
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
    fn deliver(&mut self, wakes: &mut Wakes) {
        if let Some(answer) = &self.answer
            && let Some(waiter) = self.waiter.take()
        {
            wakes.answer(waiter, answer.clone());
        }
    }

    fn arm_all(&mut self, poll: &Arc<Poll>) -> Option<Result<(), WaitError>> {
        let missing = self.min_bytes.saturating_sub(self.survey(None).sum);
        if missing == 0 {
            return Some(Ok(()));
        }
        let mut reached = Vec::new();
        match self.allot(poll, None, share_out(missing, self.parts.len() as u64), &mut reached) {
            Ok(()) => self.hear_of(poll, reached),
            Err(why) => Some(Err(why)),
        }
    }

    /// Looks at partitions that have used up their allotments, and at those that do so meanwhile.
    fn hear_of(&mut self, poll: &Arc<Poll>, mut grown: Vec<usize>) -> Option<Result<(), WaitError>> {
        while let Some(part) = grown.pop() {
            let survey = self.survey(Some(part));
            let missing = self.min_bytes.saturating_sub(survey.sum);
            if missing == 0 {
                return Some(Ok(()));
            }
            let allotment = after_growth(missing, survey.unnoticed, self.parts.len() as u64);
            if let Err(why) = self.allot(poll, Some(part), allotment, &mut grown) {
                return Some(Err(why));
            }
        }
        None
    }

    fn survey(&mut self, without: Option<usize>) -> Survey {
        let mut survey = Survey { sum: 0, unnoticed: 0 };
        for (index, part) in self.parts.iter_mut().enumerate() {
            part.growth = part.growth_now();
            survey.sum = survey.sum.saturating_add(part.available.min(part.max_bytes)).saturating_add(part.growth);
            if Some(index) != without {
                survey.unnoticed = survey.unnoticed.saturating_add(part.unnoticed());
            }
        }
        survey
    }

    /// Arms one partition or all. Those that have come so far already are added to `reached`.
    fn allot(
        &mut self,
        poll: &Arc<Poll>,
        heard_of: Option<usize>,
        allotment: Allotment,
        reached: &mut Vec<usize>,
    ) -> Result<(), WaitError> {
        let more = match allotment {
            Allotment::Every(more) => {
                reached.clear();
                more
            }
            Allotment::One(more) => more,
        };
        for (index, part) in self.parts.iter_mut().enumerate() {
            let is_meant = heard_of.is_none_or(|heard_of| heard_of == index);
            if (is_meant || matches!(allotment, Allotment::Every(_))) && !part.arm(more, (Arc::clone(poll), index))? {
                reached.push(index);
            }
        }
        Ok(())
    }
}

impl Part {
    fn growth_now(&self) -> u64 {
        let bytes = self.watch.bytes(self.seen.position).saturating_sub(self.seen.mark.bytes);
        bytes.min(self.room())
    }

    /// Growth that counts, at most.
    fn room(&self) -> u64 {
        self.max_bytes.saturating_sub(self.available)
    }

    /// By how much the growth may still increase without being heard of.
    fn unnoticed(&self) -> u64 {
        let silent = self.armed.map_or(0, |(threshold, _)| threshold.saturating_sub(1));
        silent.min(self.room()).saturating_sub(self.growth)
    }

    /// Wants to hear of `more` bytes above the growth in the sum; false if they are there already.
    fn arm(&mut self, more: u64, part: (Arc<Poll>, usize)) -> Result<bool, WaitError> {
        self.disarm();
        let threshold = if self.growth == self.room() { u64::MAX } else { self.growth.saturating_add(more) };
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
