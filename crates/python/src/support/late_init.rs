//! Engine objects that arrive after their Python object was created.
//!
//! Subclasses in Python have constructors of any signature. So `__new__` accepts any arguments and leaves the engine
//! object out, and `__init__`, or `_adopt` when unpickling, sets it. It is set once and never removed: a reference to
//! the engine object is valid for the lifetime of the Python object.

use std::sync::OnceLock;

use procession_engine::error::Result;
use procession_engine::value::SharedBytes;
use procession_engine::{Handle, Opened, channel, sync};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

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

/// An object of the engine that other processes open by its handle.
pub trait SharedObject: Opened + Sized {
    /// Opens the object that `handle` names.
    fn open(handle: &Handle) -> Result<Self>;
    /// Returns the handle.
    fn handle(&self) -> Handle;
}

macro_rules! shared_objects {
    ($($class:ty),* $(,)?) => {$(
        impl SharedObject for $class {
            fn open(handle: &Handle) -> Result<$class> {
                <$class>::open(handle)
            }

            fn handle(&self) -> Handle {
                <$class>::handle(self)
            }
        }
    )*};
}

shared_objects! {
    channel::Queue,
    sync::Barrier,
    sync::Condition,
    sync::Event,
    sync::Lock,
    sync::RLock,
    sync::Semaphore,
    SharedBytes,
}

impl<T: SharedObject> LateInit<T> {
    /// Opens the object that a handle names, and sets it.
    pub fn adopt(&self, handle: &[u8]) -> PyResult<()> {
        let handle = Handle::from_bytes(handle).map_err(raise)?;
        self.init(T::open(&handle).map_err(raise)?)
    }

    /// Returns the handle of the object as bytes.
    pub fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.get()?.handle().to_bytes()))
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
