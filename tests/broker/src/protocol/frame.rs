//! Cutting what a connection received into requests: four bytes of size, then as many bytes.
//!
//! Knows nothing of sockets: somebody fills the buffer. Keeps: room is made for a frame only as its bytes come, so that a
//! size alone costs nothing; a connection between two requests holds no buffer.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

/// Bytes of the size in front of a frame.
const SIZE_BYTES: usize = 4;
/// Largest request that carries no records. Kafka lets each be as large as `socket.request.max.bytes`, and makes objects of
/// several times that size of it; no client comes near this one.
const PLAIN_REQUEST_BYTES: usize = 8 << 20;
/// Room for a request whose size is not known yet: most fit.
const FIRST_READ_BYTES: usize = 4 << 10;
/// Room that is made for a frame ahead of its bytes, at most, or as much as came already.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// A size that no frame may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Below 0.
    #[error("a request of {0} bytes")]
    Negative(i32),
    /// Above the limit.
    #[error("a request of {size} bytes, of which {limit} are allowed")]
    TooLarge {
        /// Bytes announced.
        size: usize,
        /// Bytes allowed, inclusive.
        limit: usize,
    },
}

/// The requests of one connection, in order.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    limit: usize,
}

impl Frames {
    /// Nothing yet; no frame may exceed `limit` bytes (`socket.request.max.bytes`).
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// The next whole request; `None` until more bytes came.
    ///
    /// # Errors
    /// [`FrameError`]: nothing that follows can be understood any more.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = self.size()? else { return Ok(None) };
        if self.buffer.len() < SIZE_BYTES + size {
            return Ok(None);
        }
        self.buffer.advance(SIZE_BYTES);
        let frame = self.buffer.split_to(size).freeze();
        self.rest();
        Ok(Some(frame))
    }

    /// Where the next bytes go, with room for at least one.
    ///
    /// # Errors
    /// [`FrameError`] as [`Frames::next`].
    pub(crate) fn spare(&mut self) -> Result<&mut BytesMut, FrameError> {
        let missing = match self.size()? {
            Some(size) => (SIZE_BYTES + size).saturating_sub(self.buffer.len()),
            None => FIRST_READ_BYTES,
        };
        let ahead = READ_AHEAD_BYTES.max(self.buffer.len());
        self.buffer.reserve(missing.clamp(1, ahead));
        Ok(&mut self.buffer)
    }

    /// Bytes of the request that is coming in, once they are known.
    ///
    /// # Errors
    /// [`FrameError`] as [`Frames::next`].
    pub(crate) fn size(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*prefix);
        let size = usize::try_from(announced).map_err(|_| FrameError::Negative(announced))?;
        let limit = match self.buffer.get(SIZE_BYTES..).and_then(<[u8]>::first_chunk::<2>) {
            Some(key) if i16::from_be_bytes(*key) != ApiKey::Produce as i16 => self.limit.min(PLAIN_REQUEST_BYTES),
            _ => self.limit,
        };
        if size > limit { Err(FrameError::TooLarge { size, limit }) } else { Ok(Some(size)) }
    }

    /// Lets go of the buffer if it holds nothing: the peer is waited for.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether a request has begun to come in.
    pub(crate) fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::BufMut;

    fn fed(limit: usize, bytes: &[u8]) -> Frames {
        let mut frames = Frames::new(limit);
        frames.spare().unwrap().put_slice(bytes);
        frames
    }

    #[test]
    fn frames_come_whole_and_in_order_however_the_bytes_are_cut() {
        let stream = [&[0, 0, 0, 3, 0, 0, 7][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 0, 1]].concat();
        for cut in 1..=stream.len() {
            let mut frames = Frames::new(100);
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                frames.spare().unwrap().put_slice(piece);
                while let Some(frame) = frames.next().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            assert_eq!(got, [vec![0, 0, 7], vec![], vec![0, 1]], "in pieces of {cut}");
            assert!(!frames.is_within_frame());
            assert_eq!(frames.buffer.capacity(), 0, "a connection at rest holds a buffer");
        }
    }

    #[test]
    fn impossible_sizes_are_refused_before_their_bytes_come() {
        assert_eq!(fed(100, &(-1_i32).to_be_bytes()).next(), Err(FrameError::Negative(-1)));
        let too_large = FrameError::TooLarge { size: 101, limit: 100 };
        assert_eq!(fed(100, &101_i32.to_be_bytes()).next(), Err(too_large));
        assert_eq!(fed(100, &100_i32.to_be_bytes()).next(), Ok(None));
        assert!(fed(100, &101_i32.to_be_bytes()).spare().is_err());
    }

    #[test]
    fn only_produce_may_be_larger_than_a_plain_request() {
        let begin = |key: i16| [&(20_i32 << 20).to_be_bytes()[..], &key.to_be_bytes()].concat();
        assert_eq!(fed(100 << 20, &begin(0)).next(), Ok(None));
        let too_large = FrameError::TooLarge { size: 20 << 20, limit: PLAIN_REQUEST_BYTES };
        assert_eq!(fed(100 << 20, &begin(1)).next(), Err(too_large));
    }

    #[test]
    fn announced_size_alone_makes_little_room() {
        let mut frames = fed(100 << 20, &[&(90_i32 << 20).to_be_bytes()[..], &[0, 0]].concat());
        assert!(frames.spare().unwrap().capacity() <= 2 * READ_AHEAD_BYTES);
    }
}
