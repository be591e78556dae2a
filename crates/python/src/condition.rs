//! The waiters of a condition variable.
//!
//! The lock of a condition may be any lock-like Python object, so only the queue of waiters lives
//! in the engine. A waiter enrols while it holds the lock and releases it after that: a
//! notification sent in between is kept for it.

use procession_engine::error::LockError;
use procession_engine::sync::Turns;
use procession_engine::{Deadline, Handle, sync};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::args::{Keyword, Positional};
use crate::errors::{owner_died, raise, released_too_often};
use crate::exclusive::{self, Exclusive, OnOwnerDied};
use crate::lock::Lock;
use crate::patience;
use crate::rlock::RLock;
use crate::slot::Slot;

impl Waiters {
    fn sleep_under(
        &self,
        py: Python<'_>,
        lock: &(impl Exclusive + Turns),
        depth: u32,
        deadline: Deadline,
    ) -> PyResult<bool> {
        let condition = self.0.get()?;
        let ticket = condition.enroll_under(lock).map_err(raise)?;
        for _ in 0..depth {
            if !lock.give_back() {
                return Err(released_too_often());
            }
        }
        let (mut notified, mut taken) = (false, false);
        let waited = patience::wait(py, deadline, |slice| {
            if !notified {
                condition.sleep(&ticket, slice)?;
                notified = true;
            }
            lock.acquire(slice, OnOwnerDied::Raise)?;
            taken = true;
            Ok::<_, LockError>(())
        });
        let was_moved = ticket.was_moved();
        drop(ticket);
        // However that ended, the caller goes on with the lock: an exception is held back until it has it.
        let mut held_back = match waited {
            Ok(Err(LockError::OwnerDied)) => Some(owner_died(py)),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        while !taken {
            match exclusive::take(py, lock, Deadline::NEVER, OnOwnerDied::Raise) {
                Ok(is_mine) => taken = is_mine,
                Err(error) => held_back = Some(error),
            }
        }
        for _ in 1..depth {
            lock.try_acquire();
        }
        if was_moved {
            lock.pass_on();
        }
        held_back.map_or(Ok(notified), Err)
    }
}

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

    /// As `wait`, under a lock of this module, which the caller holds.
    ///
    /// The thread takes it back before it goes on to the interpreter: threads that are notified together
    /// come one after the other, as each releases the lock.
    #[pyo3(signature = (lock, timeout=None))]
    fn wait_under(
        &self,
        py: Python<'_>,
        lock: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let deadline = patience::deadline(true, timeout)?;
        match lock.cast::<RLock>() {
            Ok(lock) => {
                let lock = lock.get().engine()?;
                self.sleep_under(py, lock, lock.count().max(1), deadline)
            }
            Err(_) => self.sleep_under(py, lock.cast::<Lock>()?.get().engine()?, 1, deadline),
        }
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
