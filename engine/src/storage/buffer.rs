//! Memory that fills from its front while others read what is there already.
//!
//! Owns the one piece of shared memory in which bytes gather before they reach a file: page aligned, so that the kernel
//! takes it for direct I/O, and recycled, since the first touch of a page costs more than copying it full. Knows nothing
//! of what the bytes are. Keeps: what was appended never changes while anybody holds the buffer; whoever reads sees only
//! what was appended before; all buffers of a [`BufferPool`] together hold no more than its limit.

#![allow(unsafe_code)]

use std::{
    alloc::{self, Layout},
    fmt,
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

/// Addresses, positions and lengths of direct I/O are multiples of this many bytes.
pub const DIRECT_BYTES: usize = 4096;

/// Page aligned memory of a fixed size, zeroed when it is new.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to this value alone, as a `Box<[u8]>` would.
unsafe impl Send for Memory {}
// SAFETY: shared access goes through `Buffer`, which says what may be read and who may write.
unsafe impl Sync for Memory {}

impl Memory {
    /// `None` where the allocator has no more.
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(DIRECT_BYTES), DIRECT_BYTES).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed nowhere else.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Bytes appended by one [`BufferWriter`] and read by any number of threads.
pub struct Buffer {
    /// `None` only while dropping.
    memory: Option<Memory>,
    capacity: usize,
    /// Bytes that may be read; raised by the writer after it copied them.
    len: AtomicUsize,
    pool: Weak<BufferPool>,
}

impl Buffer {
    /// What was appended so far.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        let len = self.len.load(Ordering::Acquire);
        // SAFETY: the first `len` bytes are initialised (all are, from the start), and the writer only touches what lies
        // behind them as long as this borrow can exist.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), len) }
    }

    /// Bytes that fit in all; a multiple of [`DIRECT_BYTES`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn start(&self) -> NonNull<u8> {
        self.memory.as_ref().map_or(NonNull::dangling(), |memory| memory.start)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (Some(pool), Some(memory)) = (self.pool.upgrade(), self.memory.take()) {
            pool.give_back(memory);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("capacity", &self.capacity).finish()
    }
}

/// Where in memory the bytes of a [`Buffer`] end: addresses, to be fetched ahead. Zeros name nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BufferEnd {
    pub(crate) buffer: usize,
    pub(crate) bytes: usize,
}

/// The one who fills a [`Buffer`].
///
/// ```
/// use duramen::storage::BufferPool;
/// let pool = BufferPool::new(1 << 20);
/// let mut writer = pool.take(4096).ok_or("no memory left")?;
/// assert!(writer.append(b"heart"));
/// let reader = writer.share();
/// assert!(writer.append(b"wood"));
/// assert_eq!(reader.filled(), b"heartwood");
/// assert!(!writer.append(&[0; 4096]), "it does not fit");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BufferWriter(Arc<Buffer>);

impl BufferWriter {
    /// Adds bytes, if all of them fit.
    #[must_use]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let len = self.0.len.load(Ordering::Relaxed);
        if bytes.len() > self.0.capacity - len {
            return false;
        }
        // SAFETY: the target lies inside the memory and behind what readers may see; there is one writer of a buffer, and
        // it is borrowed for writing.
        unsafe {
            let target = self.0.start().as_ptr().add(len);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
        self.0.len.store(len + bytes.len(), Ordering::Release);
        true
    }

    /// Where the next bytes go.
    pub(crate) fn end(&self) -> BufferEnd {
        BufferEnd { buffer: std::ptr::from_ref(&*self.0).addr(), bytes: self.0.start().as_ptr().addr() + self.len() }
    }

    /// A handle for reading.
    #[must_use]
    pub fn share(&self) -> Arc<Buffer> {
        Arc::clone(&self.0)
    }

    /// Bytes appended so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.0.capacity - self.len()
    }

    /// What was appended, to be changed; `None` once it was shared.
    pub fn filled_mut(&mut self) -> Option<&mut [u8]> {
        let buffer = Arc::get_mut(&mut self.0)?;
        let (start, len) = (buffer.start(), *buffer.len.get_mut());
        // SAFETY: nobody else has a handle of this buffer, as `get_mut` says; the bytes are initialised.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }
}

/// Recycled memory for [`Buffer`]s, bounded in bytes.
#[derive(Debug)]
pub struct BufferPool {
    limit: usize,
    /// Guards the counts and the spare memory; held for a few instructions, and while the allocator works.
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    /// Bytes of buffers that somebody holds.
    in_use: usize,
    spare: Vec<Memory>,
    spare_bytes: usize,
    /// Who wants to hear, once, of memory that comes back.
    waker: Option<Waker>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("bytes", &self.layout.size()).finish()
    }
}

impl BufferPool {
    /// A pool whose buffers together hold at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::new(PoolState::default()) })
    }

    /// An empty buffer for at least `bytes`, rounded up to a multiple of [`DIRECT_BYTES`]; `None` where it would exceed
    /// the pool's limit or the machine's memory.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<BufferWriter> {
        let capacity = bytes.max(1).checked_next_multiple_of(DIRECT_BYTES)?;
        let memory = self.reserve(capacity)?;
        let pool = Arc::downgrade(self);
        Some(BufferWriter(Arc::new(Buffer { memory: Some(memory), capacity, len: AtomicUsize::new(0), pool })))
    }

    fn reserve(&self, capacity: usize) -> Option<Memory> {
        let mut state = self.state();
        if state.in_use.saturating_add(capacity) > self.limit {
            return None;
        }
        let memory = match state.spare.iter().rposition(|memory| memory.layout.size() == capacity) {
            Some(index) => {
                state.spare_bytes -= capacity;
                state.spare.swap_remove(index)
            }
            None => {
                // Spare memory of other sizes makes room.
                while state.in_use + state.spare_bytes + capacity > self.limit {
                    let freed = state.spare.pop()?;
                    state.spare_bytes -= freed.layout.size();
                }
                Memory::new(capacity)?
            }
        };
        state.in_use += capacity;
        Some(memory)
    }

    fn give_back(&self, memory: Memory) {
        let mut state = self.state();
        let bytes = memory.layout.size();
        state.in_use = state.in_use.saturating_sub(bytes);
        state.spare_bytes += bytes;
        state.spare.push(memory);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes `waker` once, in place of an earlier one, when a buffer comes back next: on the thread of its last holder, under
    /// whatever locks that has.
    pub(crate) fn wake_when_returned(&self, waker: &Waker) {
        let earlier = self.state().waker.replace(waker.clone());
        drop(earlier);
    }

    /// Gives spare memory back to the machine.
    pub fn trim(&self) {
        let spare = {
            let mut state = self.state();
            state.spare_bytes = 0;
            std::mem::take(&mut state.spare)
        };
        drop(spare);
    }

    /// Bytes of buffers that somebody holds.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.state().in_use
    }

    /// The most bytes that its buffers hold together.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buffer_dropped_by_its_last_holder_is_recycled() {
        let pool = BufferPool::new(2 * DIRECT_BYTES);
        let mut first = pool.take(1).unwrap();
        assert!(first.append(&[7; 100]));
        let (reader, address) = (first.share(), first.0.start());
        let second = pool.take(DIRECT_BYTES).unwrap();
        assert!(pool.take(1).is_none(), "the limit is reached");
        drop(first);
        assert!(pool.take(1).is_none(), "a reader still has it");
        assert_eq!(reader.filled(), [7; 100]);
        drop(reader);
        let again = pool.take(1).unwrap();
        assert_eq!((again.0.start(), again.len()), (address, 0));
        drop((second, again));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn spare_memory_of_another_size_makes_room() {
        let pool = BufferPool::new(4 * DIRECT_BYTES);
        drop([pool.take(1).unwrap(), pool.take(1).unwrap()]);
        assert!(pool.take(4 * DIRECT_BYTES).is_some());
        pool.trim();
        assert!(pool.take(4 * DIRECT_BYTES + 1).is_none());
    }

    #[test]
    fn filled_bytes_change_only_until_they_are_shared() {
        let pool = BufferPool::new(DIRECT_BYTES);
        let mut writer = pool.take(10).unwrap();
        assert!(writer.append(b"abc"));
        writer.filled_mut().unwrap()[0] = b'x';
        let reader = writer.share();
        assert!(writer.filled_mut().is_none());
        assert_eq!(reader.filled(), b"xbc");
        assert_eq!(writer.room(), DIRECT_BYTES - 3);
    }

    #[test]
    fn readers_beside_the_writer_see_whole_appends() {
        let pool = BufferPool::new(DIRECT_BYTES);
        let mut writer = pool.take(DIRECT_BYTES).unwrap();
        let reader = writer.share();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while reader.filled().len() < 4000 {
                    let filled = reader.filled();
                    assert!(filled.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at / 8 % 256));
                }
            });
            for word in 0..500 {
                assert!(writer.append(&[u8::try_from(word % 256).unwrap(); 8]));
            }
        });
    }
}
