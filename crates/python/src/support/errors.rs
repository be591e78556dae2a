//! Engine errors as the exceptions that Python programs already catch.
//!
//! A failure raises the standard library's type where there is one, with a message that says what to do. `OwnerDied` is
//! defined by the package and imported on first use, so that the native module can be imported alone.

use procession_engine::error::{Error, LockError};
use pyo3::PyErrArguments;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// An exception class of a Python module, imported when it is first raised.
///
/// If the import fails, as it can while the interpreter shuts down, the import error is raised. PyO3's own macro panics.
pub struct Imported {
    class: PyOnceLock<Py<PyType>>,
    module: &'static str,
    name: &'static str,
}

pub static EMPTY: Imported = Imported::new("queue", "Empty");
pub static FULL: Imported = Imported::new("queue", "Full");
pub static BROKEN_BARRIER: Imported = Imported::new("threading", "BrokenBarrierError");
pub static UNPICKLING: Imported = Imported::new("pickle", "UnpicklingError");
static OWNER_DIED: Imported = Imported::new("procession._core.errors", "OwnerDied");

impl Imported {
    const fn new(module: &'static str, name: &'static str) -> Imported {
        Imported {
            class: PyOnceLock::new(),
            module,
            name,
        }
    }

    /// Creates the exception with these arguments.
    pub fn with<A>(&self, py: Python<'_>, arguments: A) -> PyErr
    where
        A: PyErrArguments + Send + Sync + 'static,
    {
        match self.class.import(py, self.module, self.name) {
            Ok(class) => PyErr::from_type(class.clone(), arguments),
            Err(error) => error,
        }
    }

    /// Returns whether `error` is this exception.
    pub fn is(&self, py: Python<'_>, error: &PyErr) -> bool {
        let class = self.class.import(py, self.module, self.name);
        class.is_ok_and(|class| error.is_instance(py, class))
    }
}

/// Converts an error of creating, opening or growing an object.
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

/// Creates `OwnerDied`, for a lock whose holder died.
pub fn owner_died(py: Python<'_>) -> PyErr {
    OWNER_DIED.with(py, LockError::OwnerDied.to_string())
}

/// Returns whether `error` is `OwnerDied`.
pub fn is_owner_died(py: Python<'_>, error: &PyErr) -> bool {
    OWNER_DIED.is(py, error)
}

/// Creates the `ValueError` of the standard library's locks and semaphores.
pub fn released_too_often() -> PyErr {
    PyValueError::new_err("semaphore or lock released too many times")
}
