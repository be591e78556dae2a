//! The name of an object, as it travels between processes.

use crate::error::{Error, Result};

/// The name of one object in one arena: 32 bytes that may be sent anywhere.
///
/// A handle keeps nothing alive. The sender makes the receiver a holder before it releases its own hold
/// ([`crate::process::Reservation::hold`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    arena: [u64; 2],
    block: u32,
    generation: u32,
    kind: u32,
}

const MARK: u32 = u32::from_le_bytes(*b"prcH");

impl Handle {
    pub(crate) fn new(arena: [u64; 2], block: u32, generation: u32, kind: u32) -> Handle {
        Handle {
            arena,
            block,
            generation,
            kind,
        }
    }

    pub(crate) fn arena(&self) -> [u64; 2] {
        self.arena
    }

    pub(crate) fn block(&self) -> u32 {
        self.block
    }

    /// The extra bits that the object's type stored beside the kind ([`Handle::with_note`]).
    pub(crate) fn note(&self) -> u32 {
        self.kind >> 8
    }

    /// The same handle with 24 extra bits, such as which end of a pipe it is.
    pub(crate) fn with_note(self, note: u32) -> Handle {
        Handle {
            kind: self.kind & 0xff | note << 8,
            ..self
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// The handle as bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.arena[0].to_le_bytes());
        bytes[8..16].copy_from_slice(&self.arena[1].to_le_bytes());
        bytes[16..20].copy_from_slice(&self.block.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.kind.to_le_bytes());
        bytes[28..].copy_from_slice(&MARK.to_le_bytes());
        bytes
    }

    /// Decodes a handle.
    ///
    /// # Errors
    /// [`Error::BadHandle`] when the bytes did not come from [`Handle::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Handle> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| Error::BadHandle)?;
        let (words, _) = bytes.as_chunks::<4>();
        let word = |index: usize| u32::from_le_bytes(words[index]);
        let long = |index: usize| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
        if word(7) != MARK {
            return Err(Error::BadHandle);
        }
        Ok(Handle {
            arena: [long(0), long(2)],
            block: word(4),
            generation: word(5),
            kind: word(6),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_its_bytes_and_other_bytes_are_refused() {
        let handle = Handle::new([1 << 40, 2], 3 << 20, 4, 5);
        assert_eq!(Handle::from_bytes(&handle.to_bytes()).unwrap(), handle);
        assert!(Handle::from_bytes(&[0; 32]).is_err());
        assert!(Handle::from_bytes(b"short").is_err());
    }
}
