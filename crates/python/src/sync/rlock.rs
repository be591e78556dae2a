//! `RLock`: a lock that its holder may acquire again.

use procession_engine::{Deadline, sync};
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking::{self, Truth};
use crate::support::errors::raise;
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};
use crate::sync::locking::{OnOwnerDied, acquire, is_this_process};

/// A lock that its holder may acquire again, and only its holder may release.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct RLock(LateInit<sync::RLock>);

impl RLock {
    /// The engine's lock.
    #[inline]
    pub fn engine(&self) -> PyResult<&sync::RLock> {
        self.0.get()
    }
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> RLock {
        RLock(LateInit::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.init(sync::RLock::new().map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Acquires the lock once more. Returns False if the timeout passed first.
    ///
    /// Raises `OwnerDied` if the holder died, unless `on_owner_died` is "hold".
    #[pyo3(
        signature = (block=Truth(true), timeout=None, *, on_owner_died=None),
        text_signature = "($self, block=True, timeout=None, *, on_owner_died=None)"
    )]
    fn acquire(
        &self,
        py: Python<'_>,
        block: Truth,
        timeout: Option<f64>,
        on_owner_died: Option<&str>,
    ) -> PyResult<bool> {
        let died = OnOwnerDied::parse(on_owner_died)?;
        let deadline = blocking::deadline(block.0, timeout)?;
        acquire(py, self.0.get()?, deadline, died)
    }

    /// Undoes one `acquire` of the calling thread. Raises `AssertionError` if it does not hold the lock.
    fn release(&self) -> PyResult<()> {
        self.0.get()?.release().map_err(|_| {
            PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
        })
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        acquire(py, self.0.get()?, Deadline::NEVER, OnOwnerDied::Raise)
    }

    fn __exit__(
        &self,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Returns whether a thread holds the lock.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_held())
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_mine())
    }

    fn _is_zero(&self) -> PyResult<bool> {
        self.locked()
    }

    fn _get_value(&self) -> PyResult<u32> {
        Ok(u32::from(!self.locked()?))
    }

    /// Returns how often the calling thread acquired the lock; 1 if another thread of this process holds it, else 0.
    fn _count(&self) -> PyResult<u32> {
        let lock = self.0.get()?;
        let mine = lock.count();
        Ok(if mine == 0 {
            u32::from(is_this_process(lock.holder()))
        } else {
            mine
        })
    }
}
