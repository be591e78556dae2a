//! The waiters of a condition variable.
//!
//! The lock of a condition may be any lock-like Python object, so only the queue of waiters lives
//! in the engine. A waiter enrols while it holds the lock and releases it after that: a
//! notification sent in between is kept for it.

use procession_engine::{Handle, sync};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{Keyword, Positional};
use crate::errors::raise;
use crate::patience;
use crate::slot::Slot;

/// Threads of any process that wait to be notified.
#[pyclass(frozen, subclass, module = "procession._engine")]
#[derive(Debug)]
pub struct Waiters(Slot<sync::Condition>);

#[pymethods]
impl Waiters {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Waiters {
        Waiters(Slot::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.fill(sync::Condition::new().map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        let handle = Handle::from_bytes(handle).map_err(raise)?;
        self.0.fill(sync::Condition::open(&handle).map_err(raise)?)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.get()?.handle().to_bytes()))
    }

    /// Sleeps until notified; False when the timeout passed first.
    ///
    /// `let_go` releases the lock and returns what takes it back; that is called however the sleep
    /// ends, so the caller holds the lock afterwards, also when this raises.
    #[pyo3(signature = (let_go, timeout=None))]
    fn wait(
        &self,
        py: Python<'_>,
        let_go: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let deadline = patience::deadline(true, timeout)?;
        let condition = self.0.get()?;
        let ticket = condition.enroll().map_err(raise)?;
        let take_back = let_go.call0()?;
        let outcome = patience::wait(py, deadline, |slice| condition.sleep(&ticket, slice));
        drop(ticket);
        take_back.call0()?;
        Ok(outcome?.is_ok())
    }

    /// Wakes up to `n` waiters, the longest waiting first, and says how many.
    fn notify(&self, n: usize) -> PyResult<usize> {
        Ok(self.0.get()?.notify(n))
    }

    /// How many wait.
    fn count(&self) -> PyResult<usize> {
        Ok(self.0.get()?.waiters())
    }
}
