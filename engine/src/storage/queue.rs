//! Writes in flight: given away at once, answered later, in any order.
//!
//! Owns the rule for memory that the kernel holds: a write owns its file and its buffer from submission until it is
//! answered, so nothing can be freed or changed under the kernel, and a queue that is dropped waits for all of them.
//! Knows nothing of what is written.

use super::{Buffer, File, Op, Storage};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use std::{
    fmt, io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A write on its way to the disk.
#[derive(Debug, Clone)]
pub struct QueuedWrite {
    /// The file.
    pub file: Arc<File>,
    /// Position in the file, in bytes.
    pub at: u64,
    /// Where the bytes are.
    pub buffer: Arc<Buffer>,
    /// Which of the buffer's filled bytes.
    pub range: Range<usize>,
    /// Whether the bytes have to survive power loss when the write is answered; otherwise only after a sync.
    pub durable: bool,
    /// The caller's own number for it.
    pub tag: u64,
}

impl QueuedWrite {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.filled().get(self.range.clone()).unwrap_or_default()
    }

    /// The same as an operation of [`Storage::run`].
    pub(super) fn as_op(&self) -> Op<'_> {
        if self.durable {
            Op::write_durable(&self.file, self.at, self.bytes())
        } else {
            Op::write(&self.file, self.at, self.bytes())
        }
    }
}

/// A write that ended.
#[derive(Debug)]
pub struct EndedWrite {
    /// What it was.
    pub write: QueuedWrite,
    /// `Ok` once all of its bytes are written, and durable if that was asked for.
    pub result: io::Result<()>,
}

/// Whether to wait for something to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Take what is there.
    No,
    /// Wait until a write ended or the [`QueueWaker`] was used.
    UntilWoken,
}

/// Writes in flight, for one thread.
pub trait Queue: Send + fmt::Debug {
    /// Gives a write away. It may begin at once, or with the next [`Queue::reap`].
    fn submit(&mut self, write: QueuedWrite);

    /// Adds the writes that ended to `ended`, in any order.
    fn reap(&mut self, wait: Wait, ended: &mut Vec<EndedWrite>);

    /// Writes that were submitted and not yet reaped.
    fn in_flight(&self) -> usize;

    /// Wakes the thread that waits in [`Queue::reap`].
    fn waker(&self) -> Arc<QueueWaker>;
}

/// Wakes a thread that waits in [`Queue::reap`], from any other thread.
///
/// The waiting thread says [`QueueWaker::prepare`], looks once more whether there is something to do, and only then waits.
/// Whoever makes work puts it where that look finds it, and then wakes.
#[derive(Debug)]
pub struct QueueWaker {
    event: EventFd,
    /// Whether the thread is about to wait or waits.
    is_waiting: AtomicBool,
}

impl QueueWaker {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Arc::new(Self { event, is_waiting: AtomicBool::new(false) }))
    }

    /// Announces a wait.
    pub fn prepare(&self) {
        self.is_waiting.store(true, Ordering::SeqCst);
    }

    /// Ends a wait, now or to come. Costs one atomic exchange if nobody waits.
    pub fn wake(&self) {
        if self.is_waiting.swap(false, Ordering::SeqCst) {
            // It fails only when the count would overflow: then the thread is awake anyway.
            let _ = self.event.write(1);
        }
    }

    /// Announces that there is no wait any more.
    pub(super) fn end(&self) {
        self.is_waiting.store(false, Ordering::SeqCst);
    }

    /// Takes the signal back, after it was seen.
    pub(super) fn reset(&self) {
        // Nothing to read is no error here.
        let _ = self.event.read();
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A queue for a storage: of its own kind where it has one, else one that writes at submission.
///
/// # Errors
/// What the kernel says when it has no descriptor left.
///
/// # Example
/// ```
/// use std::{path::Path, sync::Arc};
/// use duramen::storage::{Access, BufferPool, EndedWrite, QueuedWrite, Wait, open_best, queue};
///
/// # let dir = tempfile::tempdir()?;
/// let (disk, _) = open_best(dir.path())?;
/// let file = Arc::new(disk.open(Path::new("a"), Access::Create)?);
/// let mut writer = BufferPool::new(1 << 20).take(4096).ok_or("no memory")?;
/// assert!(writer.append(b"bytes"));
/// let mut queue = queue(&disk, 8)?;
/// queue.submit(QueuedWrite { file, at: 0, buffer: writer.share(), range: 0..5, durable: true, tag: 7 });
/// let mut ended: Vec<EndedWrite> = Vec::new();
/// while ended.is_empty() {
///     queue.reap(Wait::UntilWoken, &mut ended);
/// }
/// assert!(ended[0].result.is_ok() && ended[0].write.tag == 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn queue(storage: &Arc<dyn Storage>, depth: u32) -> io::Result<Box<dyn Queue>> {
    match storage.ring_queue(depth) {
        Some(queue) => Ok(queue),
        None => {
            Ok(Box::new(InlineQueue { storage: Arc::clone(storage), ended: Vec::new(), waker: QueueWaker::new()? }))
        }
    }
}

/// Writes at submission, on the submitting thread.
#[derive(Debug)]
struct InlineQueue {
    storage: Arc<dyn Storage>,
    ended: Vec<EndedWrite>,
    waker: Arc<QueueWaker>,
}

impl Queue for InlineQueue {
    fn submit(&mut self, write: QueuedWrite) {
        let result = {
            let mut ops = [write.as_op()];
            self.storage.run(&mut ops);
            let [mut op] = ops;
            op.take_result().map(drop)
        };
        self.ended.push(EndedWrite { write, result });
    }

    fn reap(&mut self, wait: Wait, ended: &mut Vec<EndedWrite>) {
        if self.ended.is_empty() && wait == Wait::UntilWoken {
            // An interruption looks like a wake-up, after which the caller looks again in any case.
            let _ = poll(&mut [PollFd::new(self.waker.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            self.waker.reset();
        }
        self.waker.end();
        ended.append(&mut self.ended);
    }

    fn in_flight(&self) -> usize {
        self.ended.len()
    }

    fn waker(&self) -> Arc<QueueWaker> {
        Arc::clone(&self.waker)
    }
}
