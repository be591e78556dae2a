//! A cursor over the bytes of a message that never leaves them, and what to say when it would.

use std::fmt;

use crate::varint;

/// These bytes are no message. Boxed, so that what comes out of the hot path fits into registers.
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

/// The bytes that are left.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the beginning of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    /// How many bytes were read.
    #[inline]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The same message, from another byte of it on.
    ///
    /// # Panics
    /// When the message is shorter.
    pub fn at(&self, position: usize) -> Reader<'a> {
        assert!(position <= self.bytes.len(), "a place behind the message");
        Reader { position, ..*self }
    }

    /// How many bytes are still to come.
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The byte that comes next.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// When none is left.
    #[inline]
    pub fn byte(&mut self) -> Read<u8> {
        let byte = self.peek().ok_or_else(|| self.damaged("cut off"))?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let rest = &self.bytes[self.position..];
        let array = *rest.first_chunk().ok_or_else(|| self.damaged("cut off"))?;
        self.position += N;
        Ok(array)
    }

    /// Reads a length, a count or an offset.
    ///
    /// # Errors
    /// When none is there.
    #[inline]
    pub fn number(&mut self) -> Read<usize> {
        let rest = &self.bytes[self.position..];
        let (number, taken) = varint::read(rest).ok_or_else(|| self.damaged("bad length"))?;
        self.position += taken;
        Ok(number)
    }

    /// Reads a length and as many bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn blob(&mut self) -> Read<&'a [u8]> {
        let length = self.number()?;
        let rest = &self.bytes[self.position..];
        let blob = rest.get(..length).ok_or_else(|| self.damaged("cut off"))?;
        self.position += length;
        Ok(blob)
    }

    /// The error that says what is wrong here.
    #[cold]
    pub fn damaged(&self, what: &'static str) -> Damaged {
        Damaged(Box::new((what, self.position)))
    }
}
