//! Random ids of clusters, directories, topics and incarnations.

use super::MetadataError;
use duramen::format::uuid::Uuid;
use std::{fs::File, io::Read};

/// An id that nobody has (`Uuid.randomUuid`): of a random UUID's form, and in text without a dash in front, which tools would
/// take for an option.
///
/// # Errors
/// [`MetadataError::Random`] when the system has no random numbers.
pub(super) fn random() -> Result<Uuid, MetadataError> {
    let mut source = File::open("/dev/urandom").map_err(MetadataError::Random)?;
    loop {
        let mut bytes = [0; 16];
        source.read_exact(&mut bytes).map_err(MetadataError::Random)?;
        let id = of_random_form(bytes);
        if !id.to_string().starts_with('-') {
            return Ok(id);
        }
    }
}

/// Sets the bits that tell a random UUID, so that it is none of those with a meaning, such as 0 and 1.
fn of_random_form(mut bytes: [u8; 16]) -> Uuid {
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn random_ids_differ_and_have_the_form() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        for id in [one, other, of_random_form([0; 16]), of_random_form([0xff; 16])] {
            let hex = id.hex();
            assert_eq!(hex.as_bytes()[12], b'4', "{hex}");
            assert!(matches!(hex.as_bytes()[16], b'8' | b'9' | b'a' | b'b'), "{hex}");
        }
    }
}
