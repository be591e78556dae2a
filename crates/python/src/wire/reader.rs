//! A cursor over the bytes of a message that never leaves them, and what to say when it would.

use std::fmt;

use pyo3::exceptions::{PyTypeError, PyUnicodeDecodeError};
use pyo3::prelude::*;

use super::varint;

pyo3::import_exception!(pickle, UnpicklingError);

/// Why a message can't be read. Boxed, so that what comes out of the hot path fits into registers.
#[derive(Debug)]
pub(super) struct Fault(Box<Cause>);

#[derive(Debug)]
enum Cause {
    Damaged { what: &'static str, offset: usize },
    Python(PyErr),
}

pub(super) type Read<T> = Result<T, Fault>;

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Fault(Box::new(Cause::Python(error)))
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        match *fault.0 {
            Cause::Python(error) => error,
            damaged @ Cause::Damaged { .. } => UnpicklingError::new_err(damaged.to_string()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Damaged { what, offset } => {
                write!(f, "damaged message: {what} at byte {offset}")
            }
            Cause::Python(error) => error.fmt(f),
        }
    }
}

/// The bytes that are left.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0 }
    }

    #[inline]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    #[inline]
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Read<u8> {
        let byte = self.peek().ok_or_else(|| self.damaged("cut off"))?;
        self.position += 1;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let rest = &self.bytes[self.position..];
        let array = *rest.first_chunk().ok_or_else(|| self.damaged("cut off"))?;
        self.position += N;
        Ok(array)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Read<usize> {
        let rest = &self.bytes[self.position..];
        let (number, taken) = varint::read(rest).ok_or_else(|| self.damaged("bad length"))?;
        self.position += taken;
        Ok(number)
    }

    /// A length and as many bytes.
    #[inline]
    pub(super) fn blob(&mut self) -> Read<&'a [u8]> {
        let length = self.number()?;
        let rest = &self.bytes[self.position..];
        let blob = rest.get(..length).ok_or_else(|| self.damaged("cut off"))?;
        self.position += length;
        Ok(blob)
    }

    #[cold]
    pub(super) fn damaged(&self, what: &'static str) -> Fault {
        Fault(Box::new(Cause::Damaged {
            what,
            offset: self.position,
        }))
    }

    /// Tells an error that only a damaged message leads to from one that may come at any time.
    #[cold]
    pub(super) fn blame(&self, py: Python<'_>, error: PyErr, what: &'static str) -> Fault {
        let is_message = error.is_instance_of::<PyTypeError>(py)
            || error.is_instance_of::<PyUnicodeDecodeError>(py);
        if is_message {
            self.damaged(what)
        } else {
            error.into()
        }
    }
}

/// What a message that cannot have been written by this package is told with.
pub(super) fn damaged(what: &'static str) -> PyErr {
    UnpicklingError::new_err(format!("damaged message: {what}"))
}
