//! `Semaphore` and `BoundedSemaphore`.
//!
//! A semaphore has no owner: the units of a process that died stay taken, and any process may release units.

use std::sync::OnceLock;

use procession_engine::{Deadline, sync};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking::{self, Truth};
use crate::support::errors::{raise, released_too_often};
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};

/// The largest value, the same as for POSIX semaphores.
pub const MAX_VALUE: u32 = i32::MAX as u32;

const EINVAL: i32 = 22;

/// A counter. `acquire` takes one unit, and waits while there is none.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Semaphore {
    engine: LateInit<sync::Semaphore>,
    max: OnceLock<u32>,
}

impl Semaphore {
    /// The engine's semaphore.
    #[inline]
    pub fn engine(&self) -> PyResult<&sync::Semaphore> {
        self.engine.get()
    }

    fn start(&self, value: i64, bounded: bool) -> PyResult<()> {
        let value = u32::try_from(value)
            .ok()
            .filter(|value| *value <= MAX_VALUE)
            .ok_or_else(|| {
                PyOSError::new_err((
                    EINVAL,
                    format!(
                        "the initial value of a semaphore must be 0 to {MAX_VALUE}, not {value}"
                    ),
                ))
            })?;
        let max = if bounded { value } else { MAX_VALUE };
        self.engine
            .init(sync::Semaphore::new(value, Some(max)).map_err(raise)?)?;
        let _first = self.max.set(max);
        Ok(())
    }

    #[inline]
    fn take(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let semaphore = self.engine.get()?;
        if semaphore.try_acquire() {
            return Ok(true);
        }
        Ok(blocking::wait(py, deadline, |slice| semaphore.acquire(slice))?.is_ok())
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Semaphore {
        Semaphore {
            engine: LateInit::empty(),
            max: OnceLock::new(),
        }
    }

    #[pyo3(signature = (value=1, *, bounded=false))]
    fn __init__(&self, value: i64, bounded: bool) -> PyResult<()> {
        self.start(value, bounded)
    }

    fn _adopt(&self, handle: &[u8], max: u32) -> PyResult<()> {
        self.engine.adopt(handle)?;
        let _first = self.max.set(max);
        Ok(())
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.engine.handle(py)
    }

    /// The value that `release` may not exceed.
    #[getter]
    fn maxvalue(&self) -> PyResult<u32> {
        self.engine.get()?;
        Ok(self.max.get().copied().unwrap_or(MAX_VALUE))
    }

    /// Takes a unit. Returns False if the timeout passed first.
    #[pyo3(
        signature = (block=Truth(true), timeout=None),
        text_signature = "($self, block=True, timeout=None)"
    )]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        self.take(py, blocking::deadline(block.0, timeout)?)
    }

    /// Releases a unit. Raises `ValueError` beyond `maxvalue`.
    fn release(&self) -> PyResult<()> {
        self.engine
            .get()?
            .release(1)
            .map_err(|_| released_too_often())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, Deadline::NEVER)
    }

    fn __exit__(
        &self,
        _type: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Returns how many units are available.
    fn get_value(&self) -> PyResult<u32> {
        Ok(self.engine.get()?.value())
    }

    /// Returns whether the next `acquire` would wait.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.get_value()? == 0)
    }

    fn _get_value(&self) -> PyResult<u32> {
        self.get_value()
    }

    fn _is_zero(&self) -> PyResult<bool> {
        self.locked()
    }

    fn _is_mine(&self) -> bool {
        false
    }

    fn _count(&self) -> u32 {
        0
    }
}
