//! The waiters of a condition variable.
//!
//! The lock of a condition can be any Python object with `acquire` and `release`, so the engine has only the queue of
//! waiters. A waiter enrols before it releases the lock; a notification sent in between is kept for it.

use procession_engine::error::LockError;
use procession_engine::sync::Turns;
use procession_engine::{Deadline, sync};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::support::blocking;
use crate::support::errors::{is_owner_died, owner_died, raise, released_too_often};
use crate::support::late_init::LateInit;
use crate::support::late_init::{Keyword, Positional};
use crate::sync::lock::{Lock, RLock};
use crate::sync::locking::{self, LockLike, OnOwnerDied};

impl Waiters {
    fn sleep_under(
        &self,
        py: Python<'_>,
        lock: &(impl LockLike + Turns),
        depth: u32,
        deadline: Deadline,
    ) -> PyResult<bool> {
        let condition = self.0.get()?;
        let ticket = condition.enroll_under(lock).map_err(raise)?;
        for _ in 0..depth {
            if !lock.release() {
                return Err(released_too_often());
            }
        }
        let (mut notified, mut taken) = (false, false);
        let waited = blocking::wait(py, deadline, |slice| {
            if !notified {
                condition.sleep(&ticket, slice)?;
                notified = true;
            }
            lock.acquire(slice, OnOwnerDied::Raise)?;
            taken = true;
            Ok::<_, LockError>(())
        });
        let was_moved = ticket.was_moved();
        notified = ticket.leave();
        let mut pending = match waited {
            Ok(Err(LockError::OwnerDied)) => Some(owner_died(py)),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let acquire = || locking::acquire(py, lock, Deadline::NEVER, OnOwnerDied::Raise).map(drop);
        if taken || reacquire(py, &mut pending, acquire) {
            for _ in 1..depth {
                lock.try_acquire();
            }
        }
        if was_moved {
            lock.pass_on();
        }
        conclude(condition, notified, pending)
    }
}

/// Acquires the lock again, however the wait ended, and keeps an exception pending until then.
///
/// A second exception ends the attempt, and the result is false: otherwise nothing could end a program while its lock is
/// unavailable. `OwnerDied` does not count, since each dead holder brings the lock closer.
fn reacquire(
    py: Python<'_>,
    pending: &mut Option<PyErr>,
    mut acquire: impl FnMut() -> PyResult<()>,
) -> bool {
    while let Err(error) = acquire() {
        let Some(first) = pending.take() else {
            *pending = Some(error);
            continue;
        };
        if is_owner_died(py, &error) {
            *pending = Some(first);
            continue;
        }
        let is_second = !is_owner_died(py, &first);
        if error.context(py).is_none() && !error.value(py).is(first.value(py)) {
            error.set_context(py, Some(first));
        }
        *pending = Some(error);
        if is_second {
            return false;
        }
    }
    true
}

/// Ends a wait: raises the pending exception, or returns whether the waiter was notified.
///
/// If a notified waiter raises, its notification is passed on to another one.
fn conclude(condition: &sync::Condition, notified: bool, pending: Option<PyErr>) -> PyResult<bool> {
    match pending {
        None => Ok(notified),
        Some(error) => {
            if notified {
                condition.notify(1);
            }
            Err(error)
        }
    }
}

/// Threads, of any process, that wait to be notified.
#[pyclass(frozen, subclass, module = "procession._native")]
#[derive(Debug)]
pub struct Waiters(LateInit<sync::Condition>);

#[pymethods]
impl Waiters {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: Positional<'_, '_>, _kwargs: Option<Keyword<'_, '_>>) -> Waiters {
        Waiters(LateInit::empty())
    }

    fn __init__(&self) -> PyResult<()> {
        self.0.init(sync::Condition::new().map_err(raise)?)
    }

    fn _adopt(&self, handle: &[u8]) -> PyResult<()> {
        self.0.adopt(handle)
    }

    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.0.handle(py)
    }

    /// Sleeps until notified. Returns False if the timeout passed first.
    ///
    /// Calls `release` before and `acquire` after the wait, `depth` times each. If `depth` is None it calls each once, and
    /// `acquire` gets the result of `release`. The caller holds the lock afterwards, even if this raises; only a second
    /// exception leaves the lock released.
    #[pyo3(signature = (release, acquire, depth, timeout=None))]
    fn wait(
        &self,
        py: Python<'_>,
        release: &Bound<'_, PyAny>,
        acquire: &Bound<'_, PyAny>,
        depth: Option<u32>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let deadline = blocking::deadline(true, timeout)?;
        let condition = self.0.get()?;
        let ticket = condition.enroll().map_err(raise)?;
        let (mut released, mut state) = (0, py.None().into_bound(py));
        let mut release_all = || {
            while released < depth.unwrap_or(1) {
                state = release.call0()?;
                released += 1;
            }
            Ok(())
        };
        let sleep = |slice| condition.sleep(&ticket, slice);
        let mut pending = release_all()
            .and_then(|()| blocking::wait(py, deadline, sleep))
            .err();
        let notified = ticket.leave();
        reacquire(py, &mut pending, || {
            while released > 0 {
                match depth {
                    Some(_) => acquire.call0()?,
                    None => acquire.call1((&state,))?,
                };
                released -= 1;
            }
            Ok(())
        });
        conclude(condition, notified, pending)
    }

    /// Does what `wait` does, for a lock of this module that the caller holds.
    ///
    /// The thread acquires the lock again before it attaches to the interpreter. So threads that are notified together
    /// follow one another, each when its predecessor releases the lock.
    #[pyo3(signature = (lock, timeout=None))]
    fn wait_under(
        &self,
        py: Python<'_>,
        lock: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let deadline = blocking::deadline(true, timeout)?;
        match lock.cast::<RLock>() {
            Ok(lock) => {
                let lock = lock.get().engine()?;
                self.sleep_under(py, lock, lock.count().max(1), deadline)
            }
            Err(_) => self.sleep_under(py, lock.cast::<Lock>()?.get().engine()?, 1, deadline),
        }
    }

    /// Wakes up to `n` waiters, in the order of their arrival, and returns how many.
    fn notify(&self, n: usize) -> PyResult<usize> {
        Ok(self.0.get()?.notify(n))
    }

    /// Returns how many threads wait.
    fn count(&self) -> PyResult<usize> {
        Ok(self.0.get()?.waiters())
    }
}
