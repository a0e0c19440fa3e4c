//! Which memory the next append to a segment is going to touch.
//!
//! Addresses to be fetched ahead, nothing else: nobody reads through them, so they may be of a segment that is gone.

use super::{Handles, Segment};
use crate::storage::{Buffer, BufferEnd, prefetch};

/// Where the parts of a segment lie that an append touches.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Footprint {
    segment: usize,
    handles: usize,
    end: BufferEnd,
}

impl Footprint {
    pub(super) fn new(segment: &Segment, end: BufferEnd) -> Self {
        let handles = std::ptr::from_ref(&*segment.handles).addr();
        Self { segment: std::ptr::from_ref(segment).addr(), handles, end }
    }

    /// Fetches them into the processor's caches, for an append of `bytes`.
    pub(crate) fn prefetch(&self, bytes: usize) {
        prefetch(self.end.bytes, bytes);
        prefetch(self.segment, size_of::<Segment>());
        prefetch(self.handles, size_of::<Handles>());
        prefetch(self.end.buffer, size_of::<Buffer>());
    }
}
