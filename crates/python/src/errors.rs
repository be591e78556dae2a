//! Engine errors as the exceptions Python programs already catch.
//!
//! Where the standard library has a type for a failure it is raised, with a message that says what
//! to do. `OwnerDied` is the package's own and is looked up when first needed, so that importing
//! the native module alone works.

use procession_engine::error::{Error, LockError};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

pyo3::import_exception!(queue, Empty);
pyo3::import_exception!(queue, Full);
pyo3::import_exception!(threading, BrokenBarrierError);

/// What making, opening or growing something failed with.
pub fn raise(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::OutOfMemory { .. } => PyMemoryError::new_err(message),
        Error::MissingCall { errno, .. } => PyOSError::new_err((errno, message)),
        Error::Os { source, .. } => match source.raw_os_error() {
            Some(errno) => PyOSError::new_err((errno, message)),
            None => PyOSError::new_err(message),
        },
        Error::BadHandle
        | Error::ForeignHandle
        | Error::StaleHandle
        | Error::WrongKind { .. }
        | Error::Invalid(_) => PyValueError::new_err(message),
        _ => PyRuntimeError::new_err(message),
    }
}

/// `OwnerDied` of the package, for a lock whose holder was killed.
pub fn owner_died(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match TYPE.import(py, "procession._core.errors", "OwnerDied") {
        Ok(class) => PyErr::from_type(class.clone(), LockError::OwnerDied.to_string()),
        Err(error) => error,
    }
}

/// `ValueError` of the standard library's locks and semaphores.
pub fn released_too_often() -> PyErr {
    PyValueError::new_err("semaphore or lock released too many times")
}
