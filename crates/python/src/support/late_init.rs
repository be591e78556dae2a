//! The place inside a Python object where its engine object lives.
//!
//! Python classes are subclassed with constructors of any shape, so `__new__` makes an empty slot
//! from whatever it is given and `__init__` (or `_adopt`, when unpickling) fills it. A slot is
//! filled once and never emptied: a reference to the engine object lives as long as the Python one.

use std::sync::OnceLock;

use procession_engine::Opened;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::support::errors::raise;

/// An engine object that arrives after the Python object around it was made.
#[derive(Debug)]
pub struct LateInit<T>(OnceLock<T>);

impl<T: Opened> LateInit<T> {
    /// A slot that waits for [`LateInit::init`].
    pub const fn empty() -> LateInit<T> {
        LateInit(OnceLock::new())
    }

    /// The engine object; `RuntimeError` when `__init__` was never called, or in a forked process that does not
    /// hold it.
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

    /// Puts the engine object in; `RuntimeError` when there is one already.
    pub fn init(&self, object: T) -> PyResult<()> {
        self.0
            .set(object)
            .map_err(|_| PyRuntimeError::new_err("this object was initialised already"))
    }
}

/// The arguments of a `__new__` that leaves them all to `__init__`.
pub type Positional<'a, 'py> = &'a Bound<'py, PyTuple>;
/// The keyword half of [`Positional`].
pub type Keyword<'a, 'py> = &'a Bound<'py, PyDict>;

#[cold]
fn uninitialised() -> PyErr {
    PyRuntimeError::new_err("this object is not initialised: call super().__init__() first")
}
