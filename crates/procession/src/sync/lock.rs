//! Locks between processes.

use std::marker::PhantomData;
use std::time::Duration;

use procession_engine::{self as engine, Deadline, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, LockError, within};
use crate::sync::guard_owner::GuardOwner;
use crate::transfer::shared::Shared;

/// Mutual exclusion between processes and threads.
///
/// The lock is not recursive: locking it twice in one thread waits for ever. Clones refer to the same lock.
///
/// When a process dies while holding the lock, the next call to lock it returns [`LockError::OwnerDied`], once,
/// and the lock is free again. Check what the lock guards before continuing.
///
/// # Examples
/// ```
/// use procession::{Lock, Process};
///
/// fn work(lock: Lock) {
///     let _turn = lock.lock().unwrap();
///     println!("one at a time");
/// }
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let lock = Lock::new()?;
///     let guard = lock.lock()?;
///     let process = Process::spawn(work, lock.clone())?;
///     drop(guard);
///     process.join()?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock {
    inner: Shared<sync::Lock>,
}

impl Lock {
    /// Creates a lock that no process holds.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new() -> Result<Lock, Error> {
        Ok(Lock {
            inner: Shared::new(sync::Lock::new()?),
        })
    }

    /// Waits for the lock and returns a guard that holds it.
    ///
    /// # Errors
    /// Returns [`LockError::OwnerDied`] when a process died while holding it.
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.lock_until(Deadline::NEVER)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// The same as for [`lock`](Lock::lock), and [`LockError::TimedOut`] when it is not free.
    ///
    /// # Examples
    /// ```
    /// use procession::{Lock, LockError};
    ///
    /// # fn main() -> procession::Result<()> {
    /// let lock = Lock::new()?;
    /// let guard = lock.try_lock()?;
    /// assert!(matches!(lock.try_lock(), Err(LockError::TimedOut)));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.lock_until(Deadline::NOW)
    }

    /// Like [`lock`](Lock::lock), but waits for at most `timeout`.
    ///
    /// # Errors
    /// The same as for [`lock`](Lock::lock), and [`LockError::TimedOut`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError> {
        self.lock_until(within(timeout))
    }

    pub(crate) fn engine(&self) -> &sync::Lock {
        &self.inner
    }

    /// Returns whether any process holds the lock.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let lock = procession::Lock::new()?;
    /// let guard = lock.lock()?;
    /// assert!(lock.is_held());
    /// drop(guard);
    /// assert!(!lock.is_held());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_held(&self) -> bool {
        self.inner.is_held()
    }

    pub(crate) fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, LockError> {
        retry_on_signal(|| self.inner.acquire(deadline))?;
        Ok(LockGuard {
            lock: self,
            owner: GuardOwner::current(),
            _thread: PhantomData,
        })
    }
}

/// Retries an acquisition that a signal interrupted.
pub(crate) fn retry_on_signal(
    mut acquire: impl FnMut() -> Result<(), engine::error::LockError>,
) -> Result<(), LockError> {
    loop {
        return match acquire() {
            Ok(()) => Ok(()),
            Err(engine::error::LockError::Interrupted) => continue,
            Err(engine::error::LockError::TimedOut) => Err(LockError::TimedOut),
            Err(engine::error::LockError::OwnerDied) => Err(LockError::OwnerDied),
        };
    }
}

/// Holds a [`Lock`], and releases it on drop.
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock at once"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    owner: GuardOwner,
    /// A guard stays in the thread that locked.
    _thread: PhantomData<*const ()>,
}

impl<'a> LockGuard<'a> {
    pub(crate) fn lock(&self) -> &'a Lock {
        self.lock
    }

    pub(crate) fn owner(&self) -> GuardOwner {
        self.owner
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // Another process (in Python) may have released the lock.
        if self.owner.is_current() && self.lock.inner.is_mine() {
            let _ = self.lock.inner.release();
        }
    }
}
