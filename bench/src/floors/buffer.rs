//! Buffers that direct I/O takes: at a multiple of 4 KiB in memory, used again and again.

/// Direct I/O moves whole multiples of this, from memory and to places at multiples of it. No disk here asks for more.
pub(crate) const ALIGNMENT: usize = 4096;

/// Memory of a fixed size that begins at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Never grown, so that it stays where it is.
    memory: Box<[u8]>,
    begin: usize,
    len: usize,
}

impl Buffer {
    /// So many bytes of zeros, touched once, so that the kernel has given the pages.
    pub(crate) fn new(len: usize) -> Self {
        let mut memory = vec![0; len + ALIGNMENT].into_boxed_slice();
        for page in memory.chunks_mut(ALIGNMENT) {
            page.fill(1);
        }
        let begin = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, begin, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.get(self.begin..self.begin + self.len).unwrap_or_default()
    }

    /// Copies bytes to a place; what does not fit is left out, which callers prevent.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let target = self.memory.get_mut(self.begin + at..self.begin + at + bytes.len());
        debug_assert!(at + bytes.len() <= self.len && target.is_some(), "a buffer is filled within its length");
        if let Some(target) = target {
            target.copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_begins_at_a_multiple_of_4_kib() {
        for len in [4096, 65_536, 262_144] {
            let buffer = Buffer::new(len);
            assert_eq!(buffer.bytes().as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(buffer.bytes().len(), len);
        }
    }

    #[test]
    fn put_reaches_the_last_byte() {
        let mut buffer = Buffer::new(4096);
        buffer.put(4093, b"end");
        assert_eq!(buffer.bytes().get(4093..), Some(&b"end"[..]));
    }
}
