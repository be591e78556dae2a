//! Why a message can't be read.

use procession_wire::{Damaged, Reader};
use pyo3::exceptions::{PyTypeError, PyUnicodeDecodeError, PyValueError};
use pyo3::prelude::*;

use crate::support::errors::UNPICKLING;

/// Why a message can't be read. Boxed, so that what comes out of the hot path fits into registers.
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

/// Tells an error that only a damaged message leads to from one that may come at any time.
#[cold]
pub(super) fn blame(
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

/// What a message that cannot have been written by this package is told with.
pub(super) fn damaged(what: &'static str) -> PyErr {
    unpickling_error(format!("damaged message: {what}"))
}

#[cold]
fn unpickling_error(message: String) -> PyErr {
    // Whoever reads a message is attached.
    Python::try_attach(|py| UNPICKLING.with(py, message.clone()))
        .unwrap_or_else(|| PyValueError::new_err(message))
}
