//! A recursive lock between processes.

use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::{Deadline, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, LockError, within};
use crate::sync::guard_owner::GuardOwner;
use crate::sync::lock::retry_on_signal;
use crate::transfer::shared::Shared;

/// A [`Lock`](crate::Lock) that the thread holding it may lock again.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let lock = procession::RLock::new()?;
/// let once = lock.lock()?;
/// let twice = lock.lock()?;
/// assert_eq!(lock.count(), 2);
/// # drop((once, twice));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RLock {
    inner: Shared<sync::RLock>,
}

impl RLock {
    /// A new lock, held by nobody.
    ///
    /// # Errors
    /// When there is no shared memory left.
    pub fn new() -> Result<RLock, Error> {
        Ok(RLock {
            inner: Shared::new(sync::RLock::new()?),
        })
    }

    /// Waits for the lock and holds it, once more, for as long as the guard lives.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] when a process died holding it.
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER)
    }

    /// Holds the lock if nobody else does.
    ///
    /// # Errors
    /// As for [`lock`](RLock::lock); and [`LockError::TimedOut`] when somebody else holds it.
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError> {
        self.lock_until(Deadline::NOW)
    }

    /// As [`lock`](RLock::lock), but waits no longer than `timeout`.
    ///
    /// # Errors
    /// As for [`lock`](RLock::lock); and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError> {
        self.lock_until(within(timeout))
    }

    /// How many times this thread holds it.
    pub fn count(&self) -> u32 {
        self.inner.count()
    }

    fn lock_until(&self, deadline: Deadline) -> Result<RLockGuard<'_>, LockError> {
        retry_on_signal(|| self.inner.acquire(deadline))?;
        Ok(RLockGuard {
            lock: self,
            owner: GuardOwner::current(),
            _thread: PhantomData,
        })
    }
}

/// An [`RLock`], held; given back when it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back at once when its guard is dropped"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    owner: GuardOwner,
    /// Belongs to the thread that locked.
    _thread: PhantomData<*const ()>,
}

impl RLockGuard<'_> {
    pub(crate) fn owner(&self) -> GuardOwner {
        self.owner
    }
}

impl Drop for RLockGuard<'_> {
    fn drop(&mut self) {
        if self.owner.is_current() {
            let _ = self.lock.inner.release();
        }
    }
}
