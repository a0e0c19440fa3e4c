//! A response on its way to the socket: bytes, and between them ranges of files that are sent from where they lie.
//!
//! Keeps: what stands in front, the size and the correlation id, fits to what follows.

use super::Malformed;
use bytes::{BufMut, Bytes, BytesMut};
use duramen::FileSlice;
use kafka_protocol::protocol::{Encodable, HeaderVersion};

/// Bytes of the size in front.
const SIZE_BYTES: usize = 4;
/// Records up to this many bytes are copied into the bytes round them: one system call to send them then does for all, and
/// a consumer at the tail gets its answer in one packet.
const COPIED_BYTES: u64 = 16 << 10;

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Everything that is not sent from a file.
    pub(crate) bytes: Bytes,
    /// What is sent from files, and how many of the bytes stand in front of each.
    pub(crate) slices: Vec<(usize, FileSlice)>,
}

impl Reply {
    /// A response without records.
    ///
    /// # Errors
    /// [`Malformed`] when a field is set that the version does not have.
    pub(crate) fn encode<T: Encodable + HeaderVersion>(
        correlation_id: i32,
        version: i16,
        response: &T,
    ) -> Result<Self, Malformed> {
        let mut builder = ReplyBuilder::new(correlation_id, T::header_version(version) >= 1);
        response.encode(builder.bytes(), version).map_err(|error| Malformed(format!("a response: {error}")))?;
        builder.finish()
    }
}

/// A response in the making.
#[derive(Debug)]
pub(crate) struct ReplyBuilder {
    bytes: BytesMut,
    slices: Vec<(usize, FileSlice)>,
    slice_bytes: u64,
}

impl ReplyBuilder {
    /// With its header: the correlation id, and no tagged field where the header may have some.
    pub(crate) fn new(correlation_id: i32, is_flexible: bool) -> Self {
        let mut bytes = BytesMut::new();
        bytes.put_bytes(0, SIZE_BYTES);
        bytes.put_i32(correlation_id);
        if is_flexible {
            bytes.put_u8(0);
        }
        Self { bytes, slices: Vec::new(), slice_bytes: 0 }
    }

    /// Where the next bytes go.
    pub(crate) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Records come next.
    ///
    /// # Errors
    /// [`Malformed`] when few records cannot be read from their file.
    pub(crate) fn put_slice(&mut self, slice: FileSlice) -> Result<(), Malformed> {
        if slice.len() > COPIED_BYTES {
            self.slice_bytes += slice.len();
            self.slices.push((self.bytes.len(), slice));
            return Ok(());
        }
        let (at, len) = (self.bytes.len(), usize::try_from(slice.len()).unwrap_or(0));
        self.bytes.put_bytes(0, len);
        let into = self.bytes.get_mut(at..).unwrap_or_default();
        slice.read_at(into, 0).map(drop).map_err(|error| Malformed(format!("records cannot be read: {error}")))
    }

    /// The response, its size in front.
    ///
    /// # Errors
    /// [`Malformed`] when it is larger than a response can be.
    pub(crate) fn finish(mut self) -> Result<Reply, Malformed> {
        let bytes = u64::try_from(self.bytes.len().saturating_sub(SIZE_BYTES)).unwrap_or(u64::MAX);
        let size = i32::try_from(bytes.saturating_add(self.slice_bytes));
        let size = size.map_err(|_| Malformed("a response of more than 2 GiB".to_owned()))?;
        if let Some(prefix) = self.bytes.first_chunk_mut::<SIZE_BYTES>() {
            *prefix = size.to_be_bytes();
        }
        Ok(Reply { bytes: self.bytes.freeze(), slices: self.slices })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kafka_protocol::messages::{ApiVersionsResponse, HeartbeatResponse};

    #[test]
    fn size_and_header_stand_in_front() {
        let plain = Reply::encode(7, 0, &HeartbeatResponse::default().with_error_code(25)).unwrap();
        assert_eq!(plain.bytes, &[0, 0, 0, 6, 0, 0, 0, 7, 0, 25][..]);
        let flexible = Reply::encode(7, 4, &HeartbeatResponse::default()).unwrap();
        assert_eq!(flexible.bytes, &[0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0][..]);
    }

    #[test]
    fn api_versions_never_has_a_flexible_header() {
        let reply = Reply::encode(7, 4, &ApiVersionsResponse::default()).unwrap();
        assert_eq!(reply.bytes[4..10], [0, 0, 0, 7, 0, 0]);
    }

    #[test]
    fn response_that_its_version_cannot_carry_is_an_error() {
        assert!(Reply::encode(7, 99, &HeartbeatResponse::default()).is_err());
    }
}
