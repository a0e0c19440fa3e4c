//! The commit journal: what was acknowledged as durable before it reached its segment.
//!
//! A journal file begins with two anchors, of which the one with the greater number says where replay begins. Behind them
//! lie blocks, in a ring: each has the number after that of the block before it, and follows it or, where it did not fit,
//! lies at the ring's begin. A block counts only with the journal's id, the expected number and a right checksum, so what
//! an earlier round left in the file is never taken for new. A block holds frames, each with whole record batches for one
//! place in one segment, or the word that what earlier frames said of a partition is void.

use super::{bytes::Reader, error::FormatError, uuid::Uuid};
use crate::types::{Offset, TopicPartition};

/// The only version.
pub const VERSION: u32 = 1;
/// Bytes from one anchor to the next, and from the second to the first block: what a disk writes at once.
pub const PAGE_SIZE: usize = 4096;
/// Bytes of an anchor.
pub const ANCHOR_SIZE: usize = 64;
/// Where the first block may lie.
pub const BLOCKS_AT: u64 = 8192;
/// Bytes of a block before its first frame.
pub const BLOCK_HEADER_SIZE: usize = 40;
/// Bytes of a frame before its topic.
pub const FRAME_HEADER_SIZE: usize = 24;

const ANCHOR_MAGIC: [u8; 8] = *b"DuramenJ";
const BLOCK_MAGIC: [u8; 4] = *b"DJBL";
/// Both checksums cover what follows them.
const ANCHOR_CRC_FROM: usize = 16;
const BLOCK_CRC_FROM: usize = 8;
const KIND_BATCHES: u8 = 0;
const KIND_FORGET: u8 = 1;

/// Where replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The journal's own id; a new one each time a journal is begun.
    pub id: Uuid,
    /// Number of this anchor; the greater one holds.
    pub number: u64,
    /// Number of the first block that is needed.
    pub sequence: u64,
    /// Where that block lies, in bytes.
    pub position: u64,
    /// Where the ring ends, in bytes, exclusive.
    pub end: u64,
}

impl Anchor {
    /// The anchor's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ANCHOR_SIZE] {
        let mut body = Vec::with_capacity(ANCHOR_SIZE - ANCHOR_CRC_FROM);
        body.extend_from_slice(&self.id.bytes());
        for number in [self.number, self.sequence, self.position, self.end] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        let mut bytes = [0; ANCHOR_SIZE];
        let head = ANCHOR_MAGIC.into_iter().chain(VERSION.to_be_bytes()).chain(crc32c::crc32c(&body).to_be_bytes());
        bytes.iter_mut().zip(head.chain(body)).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads an anchor.
    ///
    /// # Errors
    /// [`FormatError::UnsupportedVersion`] for another version; [`FormatError::Truncated`], [`FormatError::Invalid`] or
    /// [`FormatError::Checksum`] where there is no whole anchor.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new("journal anchor", bytes);
        if reader.take(ANCHOR_MAGIC.len())? != ANCHOR_MAGIC {
            return Err(invalid("journal anchor", 0, "it does not begin with an anchor's first bytes"));
        }
        let version = reader.u32()?;
        let stored = reader.u32()?;
        let body = reader.rest().get(..ANCHOR_SIZE - ANCHOR_CRC_FROM);
        let computed = crc32c::crc32c(body.unwrap_or_default());
        if stored != computed {
            return Err(FormatError::Checksum { what: "journal anchor", stored, computed });
        }
        if version != VERSION {
            return Err(FormatError::UnsupportedVersion { what: "journal", version: version.into() });
        }
        let id = id(&mut reader)?;
        let (number, sequence) = (u64(&mut reader)?, u64(&mut reader)?);
        let (position, end) = (u64(&mut reader)?, u64(&mut reader)?);
        let anchor = Self { id, number, sequence, position, end };
        let page = u64::try_from(PAGE_SIZE).unwrap_or(u64::MAX);
        if position < BLOCKS_AT || position > end || !position.is_multiple_of(page) || !end.is_multiple_of(page) {
            let position = i64::try_from(position).unwrap_or(i64::MAX);
            return Err(invalid("position in a journal anchor", position, "no block can begin there"));
        }
        Ok(anchor)
    }
}

/// The front of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// The journal's id.
    pub id: Uuid,
    /// Number of the block: one more than that of the block before.
    pub sequence: u64,
    /// Bytes of the block with this header; what fills the last page does not count.
    pub len: u32,
    /// Number of frames.
    pub frames: u32,
}

impl BlockHeader {
    /// The header's bytes for a block whose frames are `frames`: everything behind the header.
    #[must_use]
    pub fn encode(&self, frames: &[u8]) -> [u8; BLOCK_HEADER_SIZE] {
        let mut bytes = [0; BLOCK_HEADER_SIZE];
        let body = self
            .id
            .bytes()
            .into_iter()
            .chain(self.sequence.to_be_bytes())
            .chain(self.len.to_be_bytes())
            .chain(self.frames.to_be_bytes());
        bytes.iter_mut().skip(BLOCK_CRC_FROM).zip(body).for_each(|(to, from)| *to = from);
        let crc = crc32c::crc32c_append(crc32c::crc32c(bytes.get(BLOCK_CRC_FROM..).unwrap_or_default()), frames);
        let head = BLOCK_MAGIC.into_iter().chain(crc.to_be_bytes());
        bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads the front of a block, without a look at its checksum, to learn how long it says that it is.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] or [`FormatError::Invalid`] where no block begins.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new("journal block", bytes);
        if reader.take(BLOCK_MAGIC.len())? != BLOCK_MAGIC {
            return Err(invalid("journal block", 0, "it does not begin with a block's first bytes"));
        }
        reader.u32()?;
        let header =
            Self { id: id(&mut reader)?, sequence: u64(&mut reader)?, len: reader.u32()?, frames: reader.u32()? };
        if usize::try_from(header.len).is_ok_and(|len| len < BLOCK_HEADER_SIZE) {
            return Err(invalid("length of a journal block", header.len.into(), "it is shorter than its header"));
        }
        Ok(header)
    }
}

/// A whole block.
#[derive(Debug, Clone)]
pub struct Block<'a> {
    header: BlockHeader,
    frames: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a block whose bytes, at least, `bytes` are, and checks its checksum.
    ///
    /// # Errors
    /// [`FormatError::Checksum`]; otherwise as [`BlockHeader::decode`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let header = BlockHeader::decode(bytes)?;
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let mut reader = Reader::new("journal block", bytes);
        let block = reader.take(len)?;
        let mut fields = Reader::new("journal block", block.get(BLOCK_MAGIC.len()..).unwrap_or_default());
        let stored = fields.u32()?;
        let computed = crc32c::crc32c(fields.rest());
        if stored != computed {
            return Err(FormatError::Checksum { what: "journal block", stored, computed });
        }
        Ok(Self { header, frames: block.get(BLOCK_HEADER_SIZE..).unwrap_or_default() })
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Its frames, in the order in which they were appended.
    pub fn frames(&self) -> impl Iterator<Item = Result<Frame<'a>, FormatError>> + use<'a> {
        let mut reader = Reader::new("journal frame", self.frames);
        (0..self.header.frames).map(move |_| Frame::read(&mut reader))
    }
}

/// What a journal says of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Whole record batches, back to back.
    Batches {
        /// Whose they are.
        partition: TopicPartition,
        /// Base offset of their segment.
        segment_base_offset: Offset,
        /// Where they lie in the segment's file, in bytes.
        position: u32,
        /// The batches.
        bytes: &'a [u8],
    },
    /// Everything that earlier frames said of the partition is in its segments, or is to be gone.
    Forget {
        /// The partition.
        partition: TopicPartition,
    },
}

impl<'a> Frame<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, FormatError> {
        let kind = reader.u8()?;
        let topic_len = reader.u8()?;
        reader.i16()?;
        let number = reader.i32()?;
        let segment_base_offset = reader.i64()?;
        let position = reader.u32()?;
        let len = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        let topic = std::str::from_utf8(reader.take(topic_len.into())?).unwrap_or_default();
        let partition = TopicPartition::new(topic, number)
            .map_err(|_| invalid("partition in a journal frame", number.into(), "its name is not one of a topic"))?;
        let bytes = reader.take(len)?;
        match kind {
            KIND_BATCHES => Ok(Self::Batches { partition, segment_base_offset, position, bytes }),
            KIND_FORGET => Ok(Self::Forget { partition }),
            _ => Err(invalid("kind of a journal frame", kind.into(), "there are kinds 0 and 1")),
        }
    }
}

/// The front of a frame; the topic's bytes and then the batches follow it.
#[must_use]
pub fn batches_header(
    partition: &TopicPartition,
    segment_base_offset: Offset,
    position: u32,
    len: u32,
) -> [u8; FRAME_HEADER_SIZE] {
    frame_header(KIND_BATCHES, partition, segment_base_offset, position, len)
}

/// The front of a frame that voids those before it; the topic's bytes follow it.
#[must_use]
pub fn forget_header(partition: &TopicPartition) -> [u8; FRAME_HEADER_SIZE] {
    frame_header(KIND_FORGET, partition, 0, 0, 0)
}

fn frame_header(
    kind: u8,
    partition: &TopicPartition,
    base_offset: Offset,
    position: u32,
    len: u32,
) -> [u8; FRAME_HEADER_SIZE] {
    let topic_len = u8::try_from(partition.topic().len()).unwrap_or(u8::MAX);
    let [p0, p1, p2, p3] = partition.partition().to_be_bytes();
    let [b0, b1, b2, b3, b4, b5, b6, b7] = base_offset.to_be_bytes();
    let ([a0, a1, a2, a3], [l0, l1, l2, l3]) = (position.to_be_bytes(), len.to_be_bytes());
    // Spelled out: a chain of iterators costs as much as the copy of a small batch.
    [kind, topic_len, 0, 0, p0, p1, p2, p3, b0, b1, b2, b3, b4, b5, b6, b7, a0, a1, a2, a3, l0, l1, l2, l3]
}

fn id(reader: &mut Reader<'_>) -> Result<Uuid, FormatError> {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(reader.take(16)?).for_each(|(to, from)| *to = *from);
    Ok(Uuid::from_bytes(bytes))
}

fn u64(reader: &mut Reader<'_>) -> Result<u64, FormatError> {
    reader.i64().map(i64::cast_unsigned)
}

fn invalid(what: &'static str, value: i64, why: &'static str) -> FormatError {
    FormatError::Invalid { what, value, why }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn anchor() -> Anchor {
        Anchor { id: Uuid::from_bytes([7; 16]), number: 3, sequence: 9, position: 12_288, end: 1 << 20 }
    }

    fn block(frames: &[(&TopicPartition, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (partition, bytes) in frames {
            let len = u32::try_from(bytes.len()).unwrap();
            let header =
                if bytes.is_empty() { forget_header(partition) } else { batches_header(partition, 5, 77, len) };
            body.extend_from_slice(&header);
            body.extend_from_slice(partition.topic().as_bytes());
            body.extend_from_slice(bytes);
        }
        let len = u32::try_from(BLOCK_HEADER_SIZE + body.len()).unwrap();
        let frames = u32::try_from(frames.len()).unwrap();
        let header = BlockHeader { id: Uuid::from_bytes([7; 16]), sequence: 4, len, frames };
        let mut bytes = header.encode(&body).to_vec();
        bytes.append(&mut body);
        bytes
    }

    #[test]
    fn anchor_decodes_to_itself_and_no_bit_of_it_can_be_changed() {
        let bytes = anchor().encode();
        assert_eq!(Anchor::decode(&bytes).unwrap(), anchor());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Anchor::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!(Anchor::decode(&bytes[..ANCHOR_SIZE - 1]).is_err());
        assert!(Anchor::decode(&[0; PAGE_SIZE]).is_err());
    }

    #[test]
    fn anchor_that_points_out_of_the_ring_is_refused() {
        for (position, end) in [(4096, 1 << 20), (8192, 4096), (8193, 1 << 20), (8192, 8193), (u64::MAX, u64::MAX)] {
            let bytes = Anchor { position, end, ..anchor() }.encode();
            assert!(matches!(Anchor::decode(&bytes), Err(FormatError::Invalid { .. })), "{position} {end}");
        }
    }

    #[test]
    fn block_decodes_to_its_frames_and_no_bit_of_it_can_be_changed() {
        let orders = TopicPartition::new("orders", 3).unwrap();
        let long = TopicPartition::new(&"t".repeat(249), i32::MAX).unwrap();
        let bytes = block(&[(&orders, b"batches"), (&long, b""), (&long, b"x")]);
        let decoded = Block::decode(&bytes).unwrap();
        assert_eq!(decoded.header().sequence, 4);
        let frames: Vec<_> = decoded.frames().collect::<Result<_, _>>().unwrap();
        let batches = |partition: &TopicPartition, bytes| Frame::Batches {
            partition: partition.clone(),
            segment_base_offset: 5,
            position: 77,
            bytes,
        };
        let expected =
            [batches(&orders, b"batches".as_slice()), Frame::Forget { partition: long.clone() }, batches(&long, b"x")];
        assert_eq!(frames, expected);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn block_with_a_right_checksum_and_nonsense_inside_is_an_error() {
        let body = [9; 60];
        let len = u32::try_from(BLOCK_HEADER_SIZE + body.len()).unwrap();
        let header = BlockHeader { id: Uuid::from_bytes([7; 16]), sequence: 4, len, frames: u32::MAX };
        let bytes = [header.encode(&body).as_slice(), &body].concat();
        let block = Block::decode(&bytes).unwrap();
        assert!(block.frames().next().unwrap().is_err());
        let more = BlockHeader { len: u32::MAX, ..header };
        assert!(Block::decode(&[more.encode(&body).as_slice(), &body].concat()).is_err());
        assert!(BlockHeader::decode(&BlockHeader { len: 39, ..header }.encode(&body)).is_err());
    }
}
