//! `Event`: a flag that threads of several processes wait for.

use procession_engine::{Deadline, sync};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking;
use crate::support::errors::raise;
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};

/// A flag that starts unset.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Event(LateInit<sync::Event>);

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Event {
        Event(LateInit::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.init(sync::Event::new().map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Sets the flag and wakes all waiters.
    fn set(&self) -> PyResult<()> {
        self.0.get()?.set();
        Ok(())
    }

    /// Clears the flag.
    fn clear(&self) -> PyResult<()> {
        self.0.get()?.clear();
        Ok(())
    }

    fn is_set(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_set())
    }

    /// Waits until the flag is set. Returns False if the timeout passed first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.0.get()?;
        let since = event.now();
        if event.is_set() {
            return Ok(true);
        }
        let deadline = blocking::deadline(true, timeout)?;
        if deadline == Deadline::NOW {
            return Ok(false);
        }
        // Since `since`: between two slices a handler or another thread may set the flag and clear it again.
        Ok(blocking::wait(py, deadline, |slice| event.wait_since(since, slice))?.is_ok())
    }
}
