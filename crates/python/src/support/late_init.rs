//! Engine objects that arrive after their Python object was created.
//!
//! Subclasses in Python have constructors of any signature. So `__new__` accepts any arguments and leaves the engine
//! object out, and `__init__`, or `_adopt` when unpickling, sets it. It is set once and never removed: a reference to
//! the engine object is valid for the lifetime of the Python object.

use std::sync::OnceLock;

use procession_engine::Opened;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::support::errors::raise;

/// An engine object that is set once, after its Python object was created.
#[derive(Debug)]
pub struct LateInit<T>(OnceLock<T>);

impl<T: Opened> LateInit<T> {
    /// Creates it unset.
    pub const fn empty() -> LateInit<T> {
        LateInit(OnceLock::new())
    }

    /// Returns the engine object.
    ///
    /// Raises `RuntimeError` if `__init__` was never called, or in a forked process that does not hold the object.
    #[inline]
    pub fn get(&self) -> PyResult<&T> {
        match self.0.get() {
            Some(object) => match object.check() {
                Ok(()) => Ok(object),
                Err(error) => Err(raise(error)),
            },
            None => Err(uninitialised()),
        }
    }

    /// Sets the engine object. Raises `RuntimeError` if it was set before.
    pub fn init(&self, object: T) -> PyResult<()> {
        self.0
            .set(object)
            .map_err(|_| PyRuntimeError::new_err("this object was initialised already"))
    }
}

/// The positional arguments of a `__new__` that leaves them to `__init__`.
pub type Positional<'a, 'py> = &'a Bound<'py, PyTuple>;
/// The keyword arguments of such a `__new__`.
pub type Keyword<'a, 'py> = &'a Bound<'py, PyDict>;

#[cold]
fn uninitialised() -> PyErr {
    PyRuntimeError::new_err("this object is not initialised: call super().__init__() first")
}
