//! Writes in flight in a ring of their own.
//!
//! Owns every write that the kernel knows of, by slot; the slot's number is what the kernel gives back. Keeps: a slot is
//! emptied only when its completion was seen, so the file and the buffer outlive what the kernel does with them; should
//! waiting ever fail, the process is aborted.

#![allow(unsafe_code)]

use super::{
    EndedWrite, Queue, QueueWaker, QueuedWrite, Wait,
    posix::{continue_from, run_one},
};
use io_uring::{IoUring, opcode, types::Fd};
use nix::{errno::Errno, libc};
use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    process,
    sync::Arc,
};

/// The completion that says that the waker was used.
const WOKEN: u64 = u64::MAX;
/// The most that one ring operation moves.
const MAX_OPERATION_BYTES: usize = 1 << 30;

/// A queue in a ring.
pub(super) struct RingQueue {
    ring: IoUring,
    slots: Vec<Option<QueuedWrite>>,
    free: Vec<usize>,
    /// Ended without the ring.
    settled: Vec<EndedWrite>,
    waker: Arc<QueueWaker>,
    /// Whether the ring watches the waker.
    is_watching: bool,
}

impl fmt::Debug for RingQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingQueue").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl RingQueue {
    /// A ring of its own for `depth` writes.
    pub(super) fn new(depth: u32) -> io::Result<Self> {
        // One entry more, for the waker.
        let ring = IoUring::builder().setup_clamp().build(depth.saturating_add(1).next_power_of_two())?;
        let waker = QueueWaker::new()?;
        let depth = usize::try_from(depth).unwrap_or(1);
        let slots = (0..depth).map(|_| None).collect();
        Ok(Self { ring, slots, free: (0..depth).rev().collect(), settled: Vec::new(), waker, is_watching: false })
    }

    fn watch(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.waker.as_fd().as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: a poll touches no memory; the descriptor lives as long as the waker, which this queue holds until the
        // ring is gone.
        self.is_watching = unsafe { self.ring.submission().push(&entry.user_data(WOKEN)) }.is_ok();
    }

    /// Tells the kernel what is queued, and waits for at least `wanted` completions.
    fn enter(&mut self, wanted: usize) {
        loop {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) => return,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => {}
                    // Short of memory or of room for completions: both come back as writes end.
                    Some(Errno::EAGAIN | Errno::EBUSY) => {
                        if !self.ring.completion().is_empty() {
                            return;
                        }
                        std::thread::yield_now();
                    }
                    _ => process::abort(), // who owns the buffers is no longer known
                },
            }
        }
    }

    fn collect(&mut self, ended: &mut Vec<EndedWrite>) {
        ended.append(&mut self.settled);
        for completion in self.ring.completion() {
            if completion.user_data() == WOKEN {
                self.is_watching = false;
                self.waker.reset();
                continue;
            }
            let slot = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            let Some(write) = self.slots.get_mut(slot).and_then(Option::take) else {
                process::abort(); // no write of ours: who owns which buffer is no longer known
            };
            self.free.push(slot);
            let result = settle(&write, completion.result());
            ended.push(EndedWrite { write, result });
        }
    }
}

impl Queue for RingQueue {
    fn submit(&mut self, write: QueuedWrite) {
        let bytes = write.bytes();
        let (Ok(len), Ok(_)) = (u32::try_from(bytes.len()), libc::off_t::try_from(write.at)) else {
            return self.settle_alone(write);
        };
        if bytes.len() > MAX_OPERATION_BYTES {
            return self.settle_alone(write);
        }
        let flags = if write.durable { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(Fd(write.file.as_fd().as_raw_fd()), bytes.as_ptr(), len)
            .offset(write.at)
            .rw_flags(flags)
            .build();
        let Some(slot) = self.free.pop() else {
            return self.settle_alone(write);
        };
        let entry = entry.user_data(u64::try_from(slot).unwrap_or(WOKEN));
        // SAFETY: file and buffer are owned by the slot, which is emptied only when the completion was seen; what was
        // filled of a buffer does not change.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.free.push(slot);
            return self.settle_alone(write);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(write);
        }
    }

    fn reap(&mut self, wait: Wait, ended: &mut Vec<EndedWrite>) {
        let must_wait = wait == Wait::UntilWoken && self.settled.is_empty() && self.ring.completion().is_empty();
        if must_wait && !self.is_watching {
            self.watch();
        }
        self.enter(usize::from(must_wait));
        self.waker.end();
        self.collect(ended);
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.settled.len()
    }

    fn waker(&self) -> Arc<QueueWaker> {
        Arc::clone(&self.waker)
    }
}

impl RingQueue {
    fn settle_alone(&mut self, write: QueuedWrite) {
        let result = {
            let mut op = write.as_op();
            run_one(&mut op);
            op.take_result().map(drop)
        };
        self.settled.push(EndedWrite { write, result });
    }
}

impl Drop for RingQueue {
    fn drop(&mut self) {
        let mut ended = Vec::new();
        while self.free.len() < self.slots.len() {
            self.enter(1);
            self.collect(&mut ended);
        }
    }
}

/// What the ring answered, or what becomes of the write when it is continued by plain calls.
fn settle(write: &QueuedWrite, result: i32) -> io::Result<()> {
    let moved = match usize::try_from(result) {
        Ok(moved) if moved == write.bytes().len() => return Ok(()),
        Ok(moved) => moved,
        Err(_) => match Errno::from_raw(result.saturating_neg()) {
            // The bytes may be written twice. A write that was to be durable has lost nothing yet: it begins anew.
            Errno::EINTR | Errno::EAGAIN | Errno::ECANCELED => 0,
            errno => return Err(errno.into()),
        },
    };
    let mut op = write.as_op();
    continue_from(&mut op, moved);
    op.take_result().map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::{Access, BufferPool, Posix, Storage};
    use std::path::Path;

    fn write(dir: &Path, bytes: &[u8], durable: bool) -> QueuedWrite {
        let file = Arc::new(Posix::open(dir).unwrap().open(Path::new("f"), Access::Create).unwrap());
        let mut writer = BufferPool::new(1 << 20).take(bytes.len()).unwrap();
        assert!(writer.append(bytes));
        QueuedWrite { file, at: 0, buffer: writer.share(), range: 0..bytes.len(), durable, tag: 0 }
    }

    #[test]
    fn settle_short_write_writes_the_rest() {
        for durable in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let write = write(dir.path(), b"abcde", durable);
            settle(&write, 2).unwrap();
            assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"\0\0cde");
            settle(&write, -(Errno::EAGAIN as i32)).unwrap();
            assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"abcde");
            assert_eq!(settle(&write, -(Errno::EIO as i32)).unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        }
    }

    #[test]
    fn waker_ends_a_wait_without_a_write() {
        let mut queue = RingQueue::new(4).unwrap();
        let waker = queue.waker();
        for _ in 0..100 {
            waker.prepare();
            std::thread::scope(|scope| {
                scope.spawn(|| waker.wake());
                queue.reap(Wait::UntilWoken, &mut Vec::new());
            });
        }
    }

    #[test]
    fn more_writes_than_slots_all_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = RingQueue::new(2).unwrap();
        let first = write(dir.path(), b"abc", true);
        for tag in 0..10 {
            queue.submit(QueuedWrite { at: tag * 3, tag, ..first.clone() });
        }
        assert_eq!(queue.in_flight(), 10);
        let mut ended = Vec::new();
        while queue.in_flight() > 0 {
            queue.reap(Wait::UntilWoken, &mut ended);
        }
        let mut tags: Vec<u64> = ended.iter().map(|ended| ended.write.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, (0..10).collect::<Vec<_>>());
        assert!(ended.iter().all(|ended| ended.result.is_ok()));
        assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"abc".repeat(10));
    }
}
