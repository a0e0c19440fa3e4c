//! Waiting until the directory takes appends again, for those who must not be blocked by an append.

use super::{Partition, PartitionError};
use crate::manager::waiting::{CompletionQueue, Ticket, WaitError};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

/// Says when it is worth trying an append again that the directory was too busy for; see [`Partition::room`].
///
/// Use it as a [`Ticket`]: block a thread, await it in any runtime, give it a function, or have the answer put into a queue.
/// Dropped, it leaves nothing behind. The answer is `Ok(())`, or
/// * [`WaitError::Failed`]: the directory failed;
/// * [`WaitError::Closed`]: it was closed.
///
/// `Ok(())` reserves nothing: another append may be faster. Those who wait go on in the order in which they began to, as many
/// at a time as the journal has room for; all at once where it has plenty, or where memory was lacking, which comes in large
/// parts. When the disk gets full meanwhile the answer is `Ok(())` too: the next try says so.
#[derive(Debug)]
#[must_use = "it does nothing unless it is waited for"]
pub struct Room(Ticket);

impl Room {
    /// Whether there is an answer, good or bad.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// Blocks the thread until there is an answer or the deadline passes (`None`: never). Not for the thread that polls, where
    /// that is the host ([`crate::Background::Host`]).
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], and it is as good as before; the others as [`Room`] says.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<(), WaitError> {
        self.0.wait(deadline)
    }

    /// Calls `callback` with the answer, once, as [`Ticket::on_done`].
    pub fn on_done(self, callback: impl FnOnce(Result<(), WaitError>) + Send + 'static) {
        self.0.on_done(callback);
    }

    /// Puts the answer into `queue`, marked with `user_data`, as [`Ticket::enqueue`].
    pub fn enqueue(self, queue: &Arc<CompletionQueue>, user_data: u64) {
        self.0.enqueue(queue, user_data);
    }
}

impl Future for Room {
    type Output = Result<(), WaitError>;

    /// As [`Room`] says; never [`WaitError::TimedOut`]. Wakes the waker of the last poll only.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl Partition {
    /// What tells when an append of `bytes` bytes, those of its batch, is worth a try: when less than
    /// [`ManagerOptions::pending_bytes`](crate::ManagerOptions) wait for the journal, and there is memory to gather it in. Where
    /// memory is lacking this asks for it to be freed. Never waits.
    ///
    /// With [`crate::Background::Host`] it is answered by [`LogManager::poll`](crate::LogManager::poll), and
    /// [`LogManager::tick`](crate::LogManager::tick) is needed too. Of a partition that is deleted while one waits the next try
    /// tells, not this.
    ///
    /// # Errors
    /// [`PartitionError::Closed`]; [`PartitionError::DirectoryFailed`]; [`PartitionError::Log`] with
    /// [`LogError::DiskFull`](crate::LogError) while the disk has no room for what was gathered.
    ///
    /// ```
    /// # use duramen::{AppendAsLeader, Durability, LogConfig, LogManager, ManagerOptions, TopicPartition};
    /// # use duramen::{TryAppendError, ValidationPolicy, format::builder::BatchBuilder, validate};
    /// # let dir = tempfile::tempdir()?;
    /// # let manager = LogManager::open(&[dir.path()], ManagerOptions::default())?;
    /// # let config = LogConfig::default();
    /// # let orders = manager.get_or_create(&TopicPartition::new("orders", 0)?, &config)?;
    /// # let bytes = BatchBuilder::new().record(1_700_000_000_000, None, Some(b"value")).build()?;
    /// # let mut batch = validate(bytes, &ValidationPolicy::from_config(&config), 1_700_000_000_000)?;
    /// # let leader = AppendAsLeader::new(0, 1_700_000_000_000);
    /// let append = loop {
    ///     match orders.try_append_as_leader(batch, leader, Durability::Flushed) {
    ///         Err(TryAppendError::Busy(again)) => batch = again,
    ///         result => break result?,
    ///     }
    ///     orders.room(batch.bytes().len())?.wait(None)?; // or .await?, or .enqueue(&queue, 1)
    /// };
    /// assert_eq!(append.info.first_offset, 0);
    /// # manager.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn room(&self, bytes: usize) -> Result<Room, PartitionError> {
        // Whoever has the log has one that is not closed, or is about to tell who waits.
        let is_closed = self.try_lock().is_some_and(|state| state.is_none());
        if is_closed { Err(PartitionError::Closed) } else { Ok(Room(self.committer.room(bytes)?)) }
    }
}
