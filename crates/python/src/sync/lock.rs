//! `Lock`: held by one thread at a time among all processes; any thread may release it.

use procession_engine::{Deadline, sync};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking::{self, Truth};
use crate::support::errors::{raise, released_too_often};
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};
use crate::sync::locking::{OnOwnerDied, acquire, is_this_process};

/// A lock that any thread of any process may release.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Lock(LateInit<sync::Lock>);

impl Lock {
    /// The engine's lock.
    #[inline]
    pub fn engine(&self) -> PyResult<&sync::Lock> {
        self.0.get()
    }
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Lock {
        Lock(LateInit::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.init(sync::Lock::new().map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Acquires the lock. Returns False if the timeout passed first.
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

    /// Releases the lock, whichever thread holds it. Raises `ValueError` if none does.
    fn release(&self) -> PyResult<()> {
        self.0.get()?.release().map_err(|_| released_too_often())
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

    /// Returns 1 if a thread of this process holds the lock, else 0.
    fn _count(&self) -> PyResult<u32> {
        Ok(u32::from(is_this_process(self.0.get()?.holder())))
    }
}
