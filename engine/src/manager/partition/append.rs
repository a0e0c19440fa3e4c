//! What an append answers, and why it may fail.

use crate::{
    error::KafkaErrorCode,
    log::{AppendInfo, LogError, ValidatedBatch},
    manager::waiting::{Ticket, WaitError},
};
use std::{
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

/// What an append has to survive before its ticket says that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process: it is in the page cache when the call returns, as in Kafka.
    Written,
    /// Power loss.
    #[default]
    Flushed,
}

/// An operation of a [`crate::Partition`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The partition's directory failed: nothing of it is written any more until it is opened again. Reads go on.
    #[error("the log directory failed: {cause}")]
    DirectoryFailed {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The partition was closed or deleted.
    #[error("the partition was closed")]
    Closed,
}

impl PartitionError {
    /// Kafka's code for this error.
    #[must_use]
    pub fn kafka_error_code(&self) -> KafkaErrorCode {
        match self {
            Self::Log(error) => error.kafka_error_code(),
            Self::DirectoryFailed { .. } => KafkaErrorCode::KafkaStorageError,
            Self::Closed => KafkaErrorCode::NotLeaderOrFollower,
        }
    }
}

/// Why [`crate::Partition::try_append_as_leader`] did not append.
#[derive(Debug, thiserror::Error)]
pub enum TryAppendError<B = Vec<u8>> {
    /// The directory has as much on its way to the disk as it may have, or no memory to gather the batch in: it comes
    /// back. [`crate::Partition::room`] tells when to try again.
    #[error("the log directory is busy")]
    Busy(ValidatedBatch<B>),
    /// It failed.
    #[error(transparent)]
    Failed(#[from] PartitionError),
}

/// An append that was made, and the ticket for its being durable. Wait for it as for any [`Ticket`]; or drop it, and the
/// append goes its way all the same.
#[derive(Debug)]
pub struct Append {
    /// What it did. A duplicate has the offsets of the batch that it repeats.
    pub info: AppendInfo,
    pub(super) ticket: Ticket,
}

impl Append {
    /// The ticket alone, to be given to a function or a queue.
    pub fn into_ticket(self) -> Ticket {
        self.ticket
    }

    /// Waits until the append is as durable as was asked for.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn wait(&self, deadline: Option<Instant>) -> Result<AppendInfo, WaitError> {
        self.ticket.wait(deadline).map(|()| self.info)
    }
}

impl Deref for Append {
    type Target = Ticket;

    fn deref(&self) -> &Ticket {
        &self.ticket
    }
}

impl Future for Append {
    type Output = Result<AppendInfo, WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let info = self.info;
        Pin::new(&mut self.ticket).poll(context).map_ok(|()| info)
    }
}
