//! Reading a request by hand, where `kafka-protocol` would make too much room or does not know the version yet.
//!
//! Keeps: room is made for what a request holds, and for nothing that it says it holds.

use super::{
    Malformed,
    header::{skip_tagged, unsigned},
};
use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::StrBytes;

/// Bytes of an id.
const ID_BYTES: usize = 16;

/// What is left of a request.
pub(super) struct Reader {
    bytes: Bytes,
    is_flexible: bool,
    /// Elements of arrays that may still come.
    elements_left: usize,
}

impl Reader {
    /// At the front of a body; whether it has compact lengths and tagged fields.
    pub(super) fn new(bytes: Bytes, is_flexible: bool) -> Self {
        Self { bytes, is_flexible, elements_left: usize::MAX }
    }

    /// With arrays of so many elements at most, all of them together.
    pub(super) fn with_max_elements(self, elements_left: usize) -> Self {
        Self { elements_left, ..self }
    }

    /// An array, each element read by the function.
    pub(super) fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_array(element)?.ok_or_else(|| Malformed("an array is missing".to_owned()))
    }

    /// An array that may be null.
    pub(super) fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.length(Self::i32)? else { return Ok(None) };
        let left = self.elements_left.checked_sub(count).filter(|_| count <= self.bytes.len());
        self.elements_left = left.ok_or_else(|| Malformed(format!("an array of {count} elements")))?;
        // Collected behind a result, a vector grows with what was read.
        (0..count).map(|_| element(self)).collect::<Result<_, _>>().map(Some)
    }

    /// Bytes of a length in front, in the older versions of 32 bits; `None` is null.
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        self.length(Self::i32)?.map(|len| self.take(len)).transpose()
    }

    /// A text that may be null.
    pub(super) fn nullable_text(&mut self) -> Result<Option<StrBytes>, Malformed> {
        let Some(len) = self.length(Self::i16)? else { return Ok(None) };
        let text = StrBytes::from_utf8(self.take(len)?);
        text.map(Some).map_err(|error| Malformed(format!("a text that is none: {error}")))
    }

    /// A text.
    pub(super) fn text(&mut self) -> Result<StrBytes, Malformed> {
        self.nullable_text()?.ok_or_else(|| Malformed("a text is missing".to_owned()))
    }

    /// An id, most significant byte first.
    pub(super) fn id(&mut self) -> Result<[u8; ID_BYTES], Malformed> {
        Ok(self.take(ID_BYTES)?.first_chunk().copied().unwrap_or_default())
    }

    /// What stands behind the last field of a structure: tagged fields, none of which means anything yet.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        if self.is_flexible { skip_tagged(&mut self.bytes) } else { Ok(()) }
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    pub(super) fn i8(&mut self) -> Result<i8, Malformed> {
        self.bytes.try_get_i8().map_err(ends_early)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.bytes.try_get_i16().map_err(ends_early)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.bytes.try_get_i32().map_err(ends_early)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.bytes.try_get_i64().map_err(ends_early)
    }

    /// A length, in the older versions of the width that `plain` reads; `None` is null.
    fn length<N: Into<i64>>(
        &mut self,
        plain: impl Fn(&mut Self) -> Result<N, Malformed>,
    ) -> Result<Option<usize>, Malformed> {
        let len = if self.is_flexible { i64::from(unsigned(&mut self.bytes)?) - 1 } else { plain(self)?.into() };
        match len {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| Malformed(format!("a length of {len}"))),
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        let available = self.bytes.len();
        let error = || ends_early(TryGetError { requested: len, available });
        if available < len { Err(error()) } else { Ok(self.bytes.split_to(len)) }
    }
}

fn ends_early(error: TryGetError) -> Malformed {
    Malformed(format!("the request ends early: {error}"))
}
