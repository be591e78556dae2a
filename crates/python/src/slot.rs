//! The place inside a Python object where its engine object lives.
//!
//! Python classes are subclassed with constructors of any shape, so `__new__` makes an empty slot
//! from whatever it is given and `__init__` (or `_adopt`, when unpickling) fills it. A slot is
//! filled once and never emptied: a reference to the engine object lives as long as the Python one.

use std::sync::OnceLock;

use procession_engine::Opened;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::raise;

/// An engine object that arrives after the Python object around it was made.
#[derive(Debug)]
pub struct Slot<T>(OnceLock<T>);

impl<T: Opened> Slot<T> {
    /// A slot that waits for [`Slot::fill`].
    pub const fn empty() -> Slot<T> {
        Slot(OnceLock::new())
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
    pub fn fill(&self, object: T) -> PyResult<()> {
        self.0
            .set(object)
            .map_err(|_| PyRuntimeError::new_err("this object was initialised already"))
    }
}

#[cold]
fn uninitialised() -> PyErr {
    PyRuntimeError::new_err("this object is not initialised: call super().__init__() first")
}
