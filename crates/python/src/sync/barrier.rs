//! `Barrier`: a point that a fixed number of threads, of any processes, pass together.

use procession_engine::sync::{self, BarrierError, WaitOutcome};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking;
use crate::support::errors::{BROKEN_BARRIER, raise};
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};

/// A barrier. Its action is an argument of `wait`.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Barrier(LateInit<sync::Barrier>);

fn broken(py: Python<'_>) -> PyErr {
    BROKEN_BARRIER.with(py, ())
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Barrier {
        Barrier(LateInit::empty())
    }

    fn __init__(&self, parties: i64) -> PyResult<()> {
        let parties = u32::try_from(parties)
            .ok()
            .filter(|parties| *parties > 0)
            .ok_or_else(|| PyValueError::new_err(format!("parties must be >= 1, not {parties}")))?;
        self.0.init(sync::Barrier::new(parties).map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Waits for the other parties and returns the index of arrival, from 0.
    ///
    /// The last party to arrive calls `action` and then opens the barrier. The barrier breaks if the action raises, the
    /// timeout passes, or the exception of a signal handler ends the wait. Raises `BrokenBarrierError` if it broke.
    #[pyo3(signature = (timeout=None, action=None))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        action: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u32> {
        let barrier = self.0.get()?;
        let deadline = blocking::deadline(true, timeout)?;
        let mut place = barrier.enter().map_err(|_| broken(py))?;
        let arrival = loop {
            match blocking::wait(py, deadline, |slice| barrier.pass(&mut place, slice)) {
                // The barrier may have opened in the meantime. Then this party has passed.
                Ok(Err(BarrierError::TimedOut)) => barrier.give_up(&place),
                Ok(arrival) => break arrival.map_err(|_| broken(py))?,
                Err(error) => {
                    barrier.give_up(&place);
                    return Err(error);
                }
            }
        };
        match arrival {
            WaitOutcome::Passed { index } => Ok(index),
            WaitOutcome::Last(guard) => {
                // If the action raises, the guard is dropped unopened, which breaks the barrier.
                if let Some(action) = action {
                    action.call0()?;
                }
                guard.open().map_err(|_| broken(py))
            }
        }
    }

    /// Breaks the barrier: present and future waiters get `BrokenBarrierError`.
    fn abort(&self) -> PyResult<()> {
        self.0.get()?.abort();
        Ok(())
    }

    /// Repairs and empties the barrier. Present waiters get `BrokenBarrierError`.
    fn reset(&self) -> PyResult<()> {
        self.0.get()?.reset();
        Ok(())
    }

    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.0.get()?.parties())
    }

    #[getter]
    fn n_waiting(&self) -> PyResult<u32> {
        Ok(self.0.get()?.waiting())
    }

    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.0.get()?.is_broken())
    }
}
