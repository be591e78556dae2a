//! How `Lock` and `RLock` are acquired.
//!
//! If a holder dies, the next acquirer gets `OwnerDied`, once. A holder that exits in order leaves its lock held, as in
//! the standard library. `with lock:` runs native `__enter__` and `__exit__` methods, without a Python frame.

use procession_engine::error::{LockError, Result};
use procession_engine::{Deadline, ProcId, process, sync};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;

use crate::support::blocking;
use crate::support::errors::{owner_died, raise, released_too_often};
use crate::support::late_init::{LateInit, SharedObject};

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
pub trait LockLike: SharedObject + Sync {
    /// Creates one that nobody holds.
    fn create() -> Result<Self>;
    /// Acquires it if it is free.
    fn try_acquire(&self) -> bool;
    /// Returns whether `acquire` would have to wait.
    fn would_wait(&self) -> bool;
    /// Waits for it and acquires it; `died` says what happens if its holder died.
    fn acquire(&self, deadline: Deadline, died: OnOwnerDied) -> Result<(), LockError>;
    /// Releases it. Returns false if it was not held.
    fn release(&self) -> bool;
    /// Returns whether a thread holds it.
    fn is_held(&self) -> bool;
    /// Returns whether the calling thread holds it.
    fn is_mine(&self) -> bool;
    /// The process of its holder.
    fn holder(&self) -> Option<ProcId>;
    /// Returns how often the calling thread acquired it, if it counts that.
    fn own_count(&self) -> u32;
    /// What `release` raises if it was not held.
    fn not_held() -> PyErr;
}

macro_rules! lock_like {
    ($($lock:ident { own_count: $own_count:expr, not_held: $not_held:expr })+) => {$(
        impl LockLike for sync::$lock {
            fn create() -> Result<sync::$lock> {
                sync::$lock::new()
            }

            #[inline]
            fn try_acquire(&self) -> bool {
                sync::$lock::try_acquire(self)
            }

            #[inline]
            fn would_wait(&self) -> bool {
                sync::$lock::would_wait(self)
            }

            fn acquire(&self, deadline: Deadline, died: OnOwnerDied) -> Result<(), LockError> {
                match died {
                    OnOwnerDied::Raise => sync::$lock::acquire(self, deadline),
                    OnOwnerDied::Hold => self.acquire_for_repair(deadline).map(drop),
                }
            }

            #[inline]
            fn release(&self) -> bool {
                sync::$lock::release(self).is_ok()
            }

            fn is_held(&self) -> bool {
                sync::$lock::is_held(self)
            }

            fn is_mine(&self) -> bool {
                sync::$lock::is_mine(self)
            }

            fn holder(&self) -> Option<ProcId> {
                sync::$lock::holder(self)
            }

            fn own_count(&self) -> u32 {
                let count: fn(&sync::$lock) -> u32 = $own_count;
                count(self)
            }

            #[cold]
            fn not_held() -> PyErr {
                $not_held
            }
        }
    )+};
}

lock_like! {
    Lock {
        own_count: |_| 0,
        not_held: released_too_often()
    }
    RLock {
        own_count: sync::RLock::count,
        not_held: PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
    }
}

/// Creates a lock for a Python object that has none yet.
pub fn initialise<L: LockLike>(place: &LateInit<L>) -> PyResult<()> {
    place.init(L::create().map_err(raise)?)
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

/// Releases a lock. Fails if it was not held.
#[inline]
pub fn release<L: LockLike>(lock: &L) -> PyResult<()> {
    match lock.release() {
        true => Ok(()),
        false => Err(L::not_held()),
    }
}

/// Returns how often the calling thread acquired a lock, as far as the lock counts that; else 1 if any thread of this
/// process holds it.
pub fn times_held(lock: &impl LockLike) -> u32 {
    match lock.own_count() {
        0 => u32::from(lock.holder() == Some(process::me())),
        count => count,
    }
}
