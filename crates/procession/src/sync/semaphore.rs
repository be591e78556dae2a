//! Semaphores between processes.

use std::time::Duration;

use procession_engine::{Deadline, error::WaitError, sync};
use serde::{Deserialize, Serialize};

use crate::error::{Error, TooMany, within};
use crate::sync::guard_owner::GuardOwner;
use crate::transfer::shared::Shared;

/// A number of permits. Acquiring one waits while there is none.
///
/// Permits have no owner: those held by a process that dies are not released. Clones refer to the same
/// semaphore.
///
/// # Examples
/// ```
/// # fn main() -> procession::Result<()> {
/// let permits = procession::Semaphore::new(2)?;
/// let one = permits.acquire();
/// let two = permits.acquire();
/// assert!(permits.try_acquire().is_none());
/// drop(one);
/// assert!(permits.try_acquire().is_some());
/// # drop(two);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Semaphore {
    inner: Shared<sync::Semaphore>,
}

impl Semaphore {
    /// Creates a semaphore with `permits` permits. More may be added later.
    ///
    /// # Errors
    /// Returns an error when there is no shared memory left.
    pub fn new(permits: u32) -> Result<Semaphore, Error> {
        Ok(Semaphore {
            inner: Shared::new(sync::Semaphore::new(permits, None)?),
        })
    }

    /// Creates a semaphore with `permits` permits, which never has more.
    ///
    /// # Errors
    /// The same as for [`Semaphore::new`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::Semaphore::bounded(1)?;
    /// assert!(permits.release(1).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn bounded(permits: u32) -> Result<Semaphore, Error> {
        Ok(Semaphore {
            inner: Shared::new(sync::Semaphore::new(permits, Some(permits))?),
        })
    }

    /// Waits for a permit and returns a guard that holds it.
    pub fn acquire(&self) -> Permit<'_> {
        loop {
            if let Some(permit) = self.acquire_until(Deadline::NEVER) {
                return permit;
            }
        }
    }

    /// Takes a permit if there is one.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.acquire_until(Deadline::NOW)
    }

    /// Waits for a permit for at most `timeout`. Returns `None` when the time is up.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::Semaphore::new(0)?;
    /// assert!(permits.acquire_timeout(Duration::from_millis(10)).is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<Permit<'_>> {
        self.acquire_until(within(timeout))
    }

    /// Adds `permits` permits. Any process may do so.
    ///
    /// # Errors
    /// Returns an error when a bounded semaphore would exceed its bound; then nothing is added.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::Semaphore::new(0)?;
    /// permits.release(2)?;
    /// assert_eq!(permits.available(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn release(&self, permits: u32) -> Result<(), TooMany> {
        self.inner.release(permits).map_err(|_| TooMany)
    }

    /// Returns the number of available permits.
    pub fn available(&self) -> u32 {
        self.inner.value()
    }

    fn acquire_until(&self, deadline: Deadline) -> Option<Permit<'_>> {
        loop {
            match self.inner.acquire(deadline) {
                Ok(()) => {
                    return Some(Permit {
                        semaphore: self,
                        owner: GuardOwner::current(),
                    });
                }
                Err(WaitError::TimedOut) => return None,
                Err(WaitError::Interrupted) => {}
            }
        }
    }
}

/// Holds a permit of a [`Semaphore`], and releases it on drop.
#[derive(Debug)]
#[must_use = "dropping the permit releases it at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    owner: GuardOwner,
}

impl Permit<'_> {
    /// Drops the guard without releasing the permit. [`Semaphore::release`] can add it back in any process.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::Semaphore::new(1)?;
    /// permits.acquire().forget();
    /// assert_eq!(permits.available(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.owner.is_current() {
            // This fails only if another process released a permit it did not hold.
            let _ = self.semaphore.release(1);
        }
    }
}
