//! A cursor over the bytes of a message, with bounds checks.

use std::fmt;

use crate::varint;

/// The error of a malformed message. Boxed, so that results of the hot path fit into registers.
#[derive(Debug)]
pub struct Damaged(Box<(&'static str, usize)>);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, offset) = *self.0;
        write!(f, "damaged message: {what} at byte {offset}")
    }
}

impl std::error::Error for Damaged {}

type Read<T> = Result<T, Damaged>;

/// The remaining bytes of a message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Creates a cursor at the beginning of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    /// Returns the number of bytes read.
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Returns a cursor at another offset of the same message.
    ///
    /// # Panics
    /// Panics when the message is shorter.
    pub fn at(&self, position: usize) -> Reader<'a> {
        assert!(
            position <= self.bytes.len(),
            "the position must be inside the message"
        );
        Reader { position, ..*self }
    }

    /// Returns the number of bytes left.
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Returns the next byte without reading it.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// Returns an error when none is left.
    #[inline]
    pub fn byte(&mut self) -> Read<u8> {
        let byte = self.peek().ok_or_else(|| self.damaged("cut off"))?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// Returns an error when fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let rest = &self.bytes[self.position..];
        let array = *rest.first_chunk().ok_or_else(|| self.damaged("cut off"))?;
        self.position += N;
        Ok(array)
    }

    /// Reads a length, count or offset.
    ///
    /// # Errors
    /// Returns an error when there is none.
    #[inline]
    pub fn number(&mut self) -> Read<usize> {
        let rest = &self.bytes[self.position..];
        let (number, taken) = varint::read(rest).ok_or_else(|| self.damaged("bad length"))?;
        self.position += taken;
        Ok(number)
    }

    /// Reads a length and that many bytes.
    ///
    /// # Errors
    /// Returns an error when fewer are left.
    #[inline]
    pub fn blob(&mut self) -> Read<&'a [u8]> {
        let length = self.number()?;
        let rest = &self.bytes[self.position..];
        let blob = rest.get(..length).ok_or_else(|| self.damaged("cut off"))?;
        self.position += length;
        Ok(blob)
    }

    /// Returns an error for this position.
    #[cold]
    pub fn damaged(&self, what: &'static str) -> Damaged {
        Damaged(Box::new((what, self.position)))
    }
}
