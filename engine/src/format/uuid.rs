//! Ids of topics and directories: 16 bytes, in text 22 characters of URL-safe Base64 or 32 hexadecimal digits.

use super::error::FormatError;
use std::fmt;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of an id in text.
const TEXT_LEN: usize = 22;

/// A topic's or directory's id.
///
/// ```
/// use duramen::format::uuid::Uuid;
/// let id: Uuid = "ABEiM0RVZneImaq7zN3u_w".parse()?;
/// assert_eq!(id.hex(), "00112233445566778899aabbccddeeff");
/// assert_eq!(id.to_string(), "ABEiM0RVZneImaq7zN3u_w");
/// # Ok::<(), duramen::format::FormatError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// "No id".
    pub const ZERO: Self = Self([0; 16]);

    /// From its bytes, the most significant first.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, the most significant first.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether it means "no id".
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// As 32 lower-case digits, the form of directory names.
    #[must_use]
    pub fn hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        // 128 bits are 21 groups of six and two bits, which stand at the top of the last group.
        for group in 0..TEXT_LEN {
            let shift = u32::try_from(group.saturating_mul(6)).unwrap_or_default();
            let bits = value.wrapping_shl(shift) >> 122;
            let index = usize::try_from(bits).unwrap_or_default();
            let letter = ALPHABET.get(index).copied().unwrap_or_default();
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Uuid {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let why = "an id has 22 characters of URL-safe Base64";
        let wrong = FormatError::Text { what: "id", line: 1, why };
        if text.len() != TEXT_LEN {
            return Err(wrong);
        }
        let mut value = 0_u128;
        for (group, letter) in text.bytes().enumerate() {
            let index = ALPHABET.iter().position(|known| *known == letter).ok_or_else(|| wrong.clone())?;
            let bits = u128::try_from(index).unwrap_or_default() << 122;
            value |= bits.wrapping_shr(u32::try_from(group.saturating_mul(6)).unwrap_or_default());
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_is_all_a() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert!("AAAAAAAAAAAAAAAAAAAAAA".parse::<Uuid>().unwrap().is_zero());
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA+"] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 16]) {
            let id = Uuid::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<Uuid>().unwrap(), id);
        }
    }
}
