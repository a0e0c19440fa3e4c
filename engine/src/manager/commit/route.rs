//! Which way an append goes.

use crate::{manager::journal::Journal, segment::Gather};

/// Which way an append goes.
#[derive(Debug)]
pub(in crate::manager) enum Route<'a> {
    /// To the segment's file at once; durable after a sync.
    File,
    /// To memory and the journal.
    Journal(&'a Journal, Gather<'a>),
    /// To the segment's file and the journal, so that what follows can be durable by the journal.
    FileAndJournal(&'a Journal),
}

impl<'a> Route<'a> {
    pub(in crate::manager) fn is_journal(&self) -> bool {
        !matches!(self, Self::File)
    }

    pub(in crate::manager) fn journal(&self) -> Option<&'a Journal> {
        match self {
            Self::File => None,
            Self::Journal(journal, _) | Self::FileAndJournal(journal) => Some(journal),
        }
    }

    pub(in crate::manager) fn gather(&self) -> Option<&Gather<'a>> {
        match self {
            Self::Journal(_, gather) => Some(gather),
            Self::File | Self::FileAndJournal(_) => None,
        }
    }
}
