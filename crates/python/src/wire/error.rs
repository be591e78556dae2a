//! Errors of decoding.

use procession_wire::{Damaged, Reader};
use pyo3::exceptions::{PyTypeError, PyUnicodeDecodeError, PyValueError};
use pyo3::prelude::*;

use crate::support::errors::UNPICKLING;

/// Why a message cannot be decoded. Boxed, so that the result of the hot path fits into registers.
#[derive(Debug)]
pub(super) struct DecodeError(Box<Cause>);

#[derive(Debug)]
enum Cause {
    Damaged(Damaged),
    Python(PyErr),
}

pub(super) type Decoded<T> = Result<T, DecodeError>;

impl From<PyErr> for DecodeError {
    fn from(error: PyErr) -> Self {
        DecodeError(Box::new(Cause::Python(error)))
    }
}

impl From<Damaged> for DecodeError {
    #[cold]
    fn from(damaged: Damaged) -> Self {
        DecodeError(Box::new(Cause::Damaged(damaged)))
    }
}

impl From<DecodeError> for PyErr {
    fn from(error: DecodeError) -> Self {
        match *error.0 {
            Cause::Python(error) => error,
            Cause::Damaged(damaged) => unpickling_error(damaged.to_string()),
        }
    }
}

/// Converts an error of building a value: to `Damaged` if only a damaged message can cause it.
///
/// Other errors, such as `MemoryError`, can occur at any time and stay as they are.
#[cold]
pub(super) fn build_error(
    reader: &Reader<'_>,
    py: Python<'_>,
    error: PyErr,
    what: &'static str,
) -> DecodeError {
    let is_message =
        error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyUnicodeDecodeError>(py);
    if is_message {
        reader.damaged(what).into()
    } else {
        error.into()
    }
}

/// Creates the `UnpicklingError` for a message that this package cannot have written.
pub(super) fn damaged(what: &'static str) -> PyErr {
    unpickling_error(format!("damaged message: {what}"))
}

#[cold]
fn unpickling_error(message: String) -> PyErr {
    // The reader of a message is attached.
    Python::try_attach(|py| UNPICKLING.with(py, message.clone()))
        .unwrap_or_else(|| PyValueError::new_err(message))
}
