//! How `Lock` and `RLock` are acquired.
//!
//! If a holder dies, the next acquirer gets `OwnerDied`, once. A holder that exits in order leaves its lock held, as in
//! the standard library. `with lock:` runs native `__enter__` and `__exit__` methods, without a Python frame.

use procession_engine::error::LockError;
use procession_engine::{Deadline, ProcId, process, sync};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::support::blocking;
use crate::support::errors::{owner_died, released_too_often};

/// What `acquire` does if the holder of the lock died.
#[derive(Debug, Clone, Copy)]
pub enum OnOwnerDied {
    /// Frees the lock and raises `OwnerDied`.
    Raise,
    /// Takes the lock, so that the caller can repair the data it protects.
    Hold,
}

impl OnOwnerDied {
    /// Parses the argument `on_owner_died`; None means "raise".
    pub fn parse(word: Option<&str>) -> PyResult<OnOwnerDied> {
        match word {
            None | Some("raise") => Ok(OnOwnerDied::Raise),
            Some("hold") => Ok(OnOwnerDied::Hold),
            Some(other) => Err(PyValueError::new_err(format!(
                "on_owner_died must be 'raise' or 'hold', not {other:?}"
            ))),
        }
    }
}

/// An engine lock that has one holder.
pub trait LockLike: Sync {
    /// Acquires it if it is free.
    fn try_acquire(&self) -> bool;
    /// Returns whether `acquire` would have to wait.
    fn would_wait(&self) -> bool;
    /// Waits for it and acquires it; `died` says what happens if its holder died.
    fn acquire(&self, deadline: Deadline, died: OnOwnerDied) -> Result<(), LockError>;
    /// Releases it. Returns false if it was not held.
    fn release(&self) -> bool;
}

impl LockLike for sync::Lock {
    #[inline]
    fn try_acquire(&self) -> bool {
        sync::Lock::try_acquire(self)
    }

    #[inline]
    fn would_wait(&self) -> bool {
        sync::Lock::would_wait(self)
    }

    fn acquire(&self, deadline: Deadline, died: OnOwnerDied) -> Result<(), LockError> {
        match died {
            OnOwnerDied::Raise => sync::Lock::acquire(self, deadline),
            OnOwnerDied::Hold => self.acquire_for_repair(deadline).map(drop),
        }
    }

    #[inline]
    fn release(&self) -> bool {
        self.release().is_ok()
    }
}

impl LockLike for sync::RLock {
    #[inline]
    fn try_acquire(&self) -> bool {
        sync::RLock::try_acquire(self)
    }

    #[inline]
    fn would_wait(&self) -> bool {
        sync::RLock::would_wait(self)
    }

    fn acquire(&self, deadline: Deadline, died: OnOwnerDied) -> Result<(), LockError> {
        match died {
            OnOwnerDied::Raise => sync::RLock::acquire(self, deadline),
            OnOwnerDied::Hold => self.acquire_for_repair(deadline).map(drop),
        }
    }

    #[inline]
    fn release(&self) -> bool {
        self.release().is_ok()
    }
}

/// Acquires a lock. Returns false if the deadline passed first.
#[inline]
pub fn acquire(
    py: Python<'_>,
    lock: &impl LockLike,
    deadline: Deadline,
    died: OnOwnerDied,
) -> PyResult<bool> {
    if lock.try_acquire() {
        return Ok(true);
    }
    match blocking::wait(py, deadline, |slice| lock.acquire(slice, died))? {
        Ok(()) => Ok(true),
        Err(LockError::OwnerDied) => Err(owner_died(py)),
        Err(_) => Ok(false),
    }
}

/// Calls `access` while holding a lock.
#[inline]
pub fn under<T>(py: Python<'_>, lock: &impl LockLike, access: impl FnOnce() -> T) -> PyResult<T> {
    acquire(py, lock, Deadline::NEVER, OnOwnerDied::Raise)?;
    let done = access();
    match lock.release() {
        true => Ok(done),
        false => Err(released_too_often()),
    }
}

/// Returns whether the holder of a lock is a thread of this process.
pub fn is_this_process(holder: Option<ProcId>) -> bool {
    holder.is_some_and(|holder| holder == process::me())
}
