//! Which way an append goes.

use crate::{manager::journal::Journal, segment::Gather};
use std::sync::Arc;

/// Which way an append goes.
#[derive(Debug)]
pub(in crate::manager) enum Route {
    /// To the segment's file at once; durable after a sync.
    File,
    /// To memory and the journal.
    Journal(Arc<Journal>, Gather),
    /// To the segment's file and the journal, so that what follows can be durable by the journal.
    FileAndJournal(Arc<Journal>),
}

impl Route {
    pub(in crate::manager) fn is_journal(&self) -> bool {
        !matches!(self, Self::File)
    }

    pub(in crate::manager) fn journal(&self) -> Option<&Arc<Journal>> {
        match self {
            Self::File => None,
            Self::Journal(journal, _) | Self::FileAndJournal(journal) => Some(journal),
        }
    }

    pub(in crate::manager) fn gather(&self) -> Option<Gather> {
        match self {
            Self::Journal(_, gather) => Some(gather.clone()),
            Self::File | Self::FileAndJournal(_) => None,
        }
    }
}
