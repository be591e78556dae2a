//! Recursive locks between processes.

use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::{Deadline, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, LockError, within};
use crate::sync::guard_owner::GuardOwner;
use crate::sync::lock::retry_on_signal;
use crate::transfer::shared::Shared;

/// A [`Lock`](crate::Lock) that its holding thread may lock again.
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
    /// Creates a lock that no process holds.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<RLock, Error> {
        Ok(RLock {
            inner: Shared::new(sync::RLock::new()?),
        })
    }

    /// Waits for the lock and returns a guard that holds it once more.
    ///
    /// # Errors
    /// Returns [`LockError::OwnerDied`] when a process died while holding it.
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER)
    }

    /// Takes the lock unless another thread holds it.
    ///
    /// # Errors
    /// The same as for [`lock`](RLock::lock), and [`LockError::TimedOut`] when another thread holds it.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let lock = procession::RLock::new()?;
    /// let first = lock.lock()?;
    /// assert!(lock.try_lock().is_ok()); // the same thread
    /// # drop(first);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Like [`lock`](RLock::lock), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`lock`](RLock::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError> {
        self.lock_until(within(timeout))
    }

    /// Returns how many times this thread holds it.
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

/// Holds an [`RLock`], and releases it once on drop.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock at once"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    owner: GuardOwner,
    /// A guard stays in the thread that locked.
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
